"""What the contract suites stand on: both kinds of database, and of archive."""

from pathlib import Path

import pytest

from orthanc.archive import Archive
from tests.contract.database_fixtures import (
    database_kind,
    database_url,
    empty_database_url,
    engine,
    postgresql,
    settings,
    sqlite_template,
)
from tests.fake_archive import FakeArchive
from tests.security.application import make_empty_database

__all__ = [
    "database_kind",
    "database_url",
    "empty_database_url",
    "engine",
    "postgresql",
    "settings",
    "sqlite_template",
]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a database file to copy for each application."""
    return make_empty_database(tmp_path_factory.mktemp("empty"))


@pytest.fixture(params=["fake", "orthanc"])
def either_archive(request: pytest.FixtureRequest) -> Archive:
    """Give an archive in memory, then a real Orthanc."""
    if request.param == "fake":
        return FakeArchive()
    archive: Archive = request.getfixturevalue("orthanc").archive(retries=1)
    return archive
