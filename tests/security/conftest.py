"""Fixtures of the tests that talk to the web application."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from segmentation.access import passwords
from segmentation.http.logs import make_formatter
from tests.security.application import Application, make_empty_database


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of an empty database at the current schema."""
    return make_empty_database(tmp_path_factory.mktemp("database"))


@pytest.fixture
def slow_hashing() -> None:
    """Leave the hashing of passwords as slow as it is."""


@pytest.fixture(autouse=True)
def quick_hashing(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hash passwords fast, except for a test that asks for `slow_hashing`."""
    if "slow_hashing" not in request.fixturenames:
        quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        monkeypatch.setattr(passwords, "_hasher", quick)
    passwords._hash_of_nobody.cache_clear()


@pytest.fixture
def application(tmp_path: Path, empty_database: Path) -> Application:
    """Give an application of the test's own."""
    return Application(tmp_path, empty_database)


@pytest.fixture
def log(application: Application) -> Iterator[io.StringIO]:
    """Give what the application logs from here on, as it is written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(make_formatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)
