"""Opens the service's database for a command, and closes it after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from db.engine import Engine, make_engine
from db.schema import require_current
from errors import MetiaError
from settings import get_settings


@contextmanager
def database() -> Iterator[Engine]:
    """Give the engine of the configured database, at the schema of this code.

    Raises
    ------
    MetiaError
        ``database-unusable`` where it cannot be opened or is of another schema.
    """
    _require_file()
    engine = make_engine(get_settings().database_url)
    try:
        require_current(engine)
        yield engine
    finally:
        engine.dispose()


def database_if_any() -> AbstractContextManager[Engine | None]:
    """Open it as ``database``; None where its SQLite file is not there."""
    file = _sqlite_file()
    return database() if file is None or file.is_file() else nullcontext()


def _sqlite_file() -> Path | None:
    """Give the file of the database; None where a server keeps it."""
    url = get_settings().database_url
    if not url.startswith("sqlite:///"):
        return None
    return Path(url.removeprefix("sqlite:///").partition("?")[0])


def _require_file() -> None:
    """Refuse a SQLite file that is not there: opening it would make an empty one."""
    path = _sqlite_file()
    if path is not None and not path.is_file():
        raise MetiaError(
            "database-unusable",
            f"There is no database at {path}. Start MetIA once, or set METIA_DATA_DIR "
            "to the folder given to `./metia up --data-dir`.",
        )
