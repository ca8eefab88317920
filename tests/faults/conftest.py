"""The ways a job reaches a worker, each on a database; for the fault tests.

``backing`` names both: ``sqlite`` and ``postgresql`` are polled, ``postgresql+redis``
and ``postgresql+rabbitmq`` deliver through a real broker of the session's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from db.engine import Engine
from settings import Settings
from tests.broker_servers import BrokerServer, make_broker, reason_to_skip
from tests.contract.database_fixtures import (
    database_url,
    empty_database_url,
    engine,
    postgresql,
    settings,
    sqlite_template,
)
from tests.faults.stage import Stage

__all__ = [
    "database_url",
    "empty_database_url",
    "engine",
    "postgresql",
    "settings",
    "sqlite_template",
]

BACKINGS = ["sqlite", "postgresql", "postgresql+redis", "postgresql+rabbitmq"]


@pytest.fixture(params=BACKINGS)
def backing(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_kind(backing: str) -> str:
    return backing.partition("+")[0]


@pytest.fixture(scope="session")
def redis() -> Iterator[BrokerServer]:
    yield from _serve("redis")


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[BrokerServer]:
    yield from _serve("rabbitmq")


def _serve(kind: str) -> Iterator[BrokerServer]:
    if reason := reason_to_skip(kind):
        pytest.skip(reason)
    server = make_broker(kind)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def broker(backing: str, request: pytest.FixtureRequest) -> BrokerServer | None:
    """The broker of this backing; None where the database is polled."""
    _, _, kind = backing.partition("+")
    if not kind:
        return None
    server: BrokerServer = request.getfixturevalue(kind)
    return server


@pytest.fixture
def stage(
    engine: Engine, settings: Settings, tmp_path: Path, broker: BrokerServer | None
) -> Iterator[Stage]:
    stage = Stage(engine, settings, tmp_path, broker.url if broker else "")
    yield stage
    stage.stop()
