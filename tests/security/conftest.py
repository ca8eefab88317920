"""Fixtures of the tests that talk to the web application."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.security.application import Application, make_empty_database


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of an empty database at the current schema."""
    return make_empty_database(tmp_path_factory.mktemp("database"))


@pytest.fixture
def application(tmp_path: Path, empty_database: Path) -> Application:
    """Give an application of the test's own."""
    return Application(tmp_path, empty_database)
