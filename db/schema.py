"""Brings the database to the schema of this code, and refuses to run on another.

``upgrade`` may be called by several processes at once (API and worker starting
together): one migrates, the others wait and find it done. It happens in one
transaction; a SQLite file with data is copied beside itself first. The web and worker
processes call ``require_current`` at start.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from db.engine import MIGRATING, Engine, is_postgresql, translated
from errors import MetiaError

_SCRIPTS = Path(__file__).with_name("migrations")
_UPGRADE_LOCK = 0x4D65744A  # any number of our own, other than the job queue's


def head(scripts: Path = _SCRIPTS) -> str:
    """Name the schema revision that this code works with."""
    revision = ScriptDirectory.from_config(_config(scripts)).get_current_head()
    if revision is None:
        raise MetiaError("database-unusable", "This installation has no migrations.")
    return revision


def current(engine: Engine) -> str | None:
    """Name the revision of the database; None where it is empty.

    Raises
    ------
    MetiaError
        ``database-unusable`` where it cannot be read.
    """
    with translated(), engine.connect() as connection:
        return _revision(connection)


def require_current(engine: Engine) -> None:
    """Refuse a database of another schema than this code's.

    Raises
    ------
    MetiaError
        ``database-unusable``, saying whether to upgrade the database or the program.
    """
    found, needed = current(engine), head()
    if found != needed:
        is_older = found is None or found < needed
        raise MetiaError(
            "database-unusable",
            f"The database has schema {found or 'none'}, this program needs {needed}. "
            + ("Run `./metia db upgrade`." if is_older else "Upgrade the program."),
        )


def upgrade(engine: Engine, *, scripts: Path = _SCRIPTS) -> bool:
    """Bring the database to the newest schema; does nothing where it is there.

    Parameters
    ----------
    engine : Engine
        The database.
    scripts : Path
        Folder of the migrations.

    Returns
    -------
    bool
        Whether anything was done.

    Raises
    ------
    MetiaError
        ``database-unusable`` where the database is of a newer program, or a migration
        failed (the database is then as it was before).
    """
    options = {MIGRATING: True}
    with translated(), engine.connect().execution_options(**options) as connection:
        try:
            with connection.begin():
                return _upgrade_locked(connection, scripts)
        finally:
            # The next user must get a connection that enforces foreign keys.
            connection.invalidate()


def _upgrade_locked(connection: Connection, scripts: Path) -> bool:
    if is_postgresql(connection):
        lock = text("SELECT pg_advisory_xact_lock(:key)")
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(lock, {"key": _UPGRADE_LOCK})
    found = _revision(connection)
    if found == head(scripts):
        return False
    if found is not None and not is_postgresql(connection):
        _back_up(connection, found)
    config = _config(scripts)
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise MetiaError(
            "database-unusable",
            f"The database has schema {found}, which this program does not know; "
            "it was written by a newer one.",
        ) from error
    if not is_postgresql(connection):
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise MetiaError(
                "database-unusable", "A migration would break references; undone."
            )
    return True


def _back_up(connection: Connection, revision: str) -> None:
    """Copy the SQLite file; a second connection reads while ours holds the lock."""
    path = connection.engine.url.database
    if path is None:
        return
    source = sqlite3.connect(path)
    target = sqlite3.connect(f"{path}.before-upgrade-from-{revision}")
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()
    Path(f"{path}.before-upgrade-from-{revision}").chmod(0o600)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config(scripts: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    return config
