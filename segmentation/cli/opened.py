"""Opens the service's database for a command, and closes it after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from db.engine import Engine, make_engine
from db.schema import require_current
from settings import get_settings


@contextmanager
def database() -> Iterator[Engine]:
    """Give the engine of the configured database, at the schema of this code.

    Raises
    ------
    MetiaError
        ``database-unusable`` where it cannot be opened or is of another schema.
    """
    engine = make_engine(get_settings().database_url)
    try:
        require_current(engine)
        yield engine
    finally:
        engine.dispose()
