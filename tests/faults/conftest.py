"""Makes the databases of ``database_fixtures`` known to the fault tests."""

from tests.contract.database_fixtures import (
    database_kind,
    database_url,
    empty_database_url,
    engine,
    postgresql,
    settings,
    sqlite_template,
)

__all__ = [
    "database_kind",
    "database_url",
    "empty_database_url",
    "engine",
    "postgresql",
    "settings",
    "sqlite_template",
]
