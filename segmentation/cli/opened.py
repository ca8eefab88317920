"""Opens the service's database for a command, and closes it after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    url = get_settings().database_url
    _require_file(url)
    engine = make_engine(url)
    try:
        require_current(engine)
        yield engine
    finally:
        engine.dispose()


def _require_file(url: str) -> None:
    """Refuse a SQLite file that is not there: opening it would make an empty one."""
    path = url.removeprefix("sqlite:///").partition("?")[0]
    if url.startswith("sqlite:///") and not Path(path).is_file():
        raise MetiaError(
            "database-unusable",
            f"There is no database at {path}. Start MetIA once, or set METIA_DATA_DIR "
            "to the folder given to `./metia up --data-dir`.",
        )
