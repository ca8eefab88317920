"""Opens the database and gives transactions; the only place that knows dialects apart.

``transaction`` is for writing and ``reading`` for reading: on SQLite the first takes
the write lock at once (BEGIN IMMEDIATE, so that read-modify-write never loses an update
and never dies of a late upgrade), the second never waits for a writer (WAL snapshot)
and cannot write. PostgreSQL by URL runs the same code. An engine may be shared between
threads; a child process that inherits one opens connections of its own. Every failure
of the database leaves here as a ``MetiaError`` without any value of a row.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, exc, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session

from db import encoding
from errors import MetiaError

__all__ = [
    "Engine",
    "Session",
    "database_time",
    "is_postgresql",
    "make_engine",
    "reading",
    "transaction",
]

READ_ONLY = "metia_read_only"
MIGRATING = "metia_migrating"
_BUSY_TIMEOUT_S = 10.0


def make_engine(url: str, *, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> Engine:
    """Open the database at `url`.

    Parameters
    ----------
    url : str
        ``sqlite:///path`` (a local disk, never a network share) or
        ``postgresql+psycopg://user:password@host/name``. A missing SQLite file is
        made, readable by its owner only.
    busy_timeout_s : float
        How long a statement waits for another's lock.

    Returns
    -------
    Engine
        For PostgreSQL nothing has been connected yet.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` for a URL of another kind; ``database-unusable`` for
        a SQLite file that cannot be opened or fails its integrity check.
    """
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        raise MetiaError(
            "configuration-invalid", "METIA_DATABASE_URL is not a database URL."
        ) from None
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        return _make_sqlite(parsed, busy_timeout_s)
    if parsed.drivername in {"postgresql", "postgresql+psycopg"}:
        return _make_postgresql(parsed, busy_timeout_s)
    raise MetiaError(
        "configuration-invalid",
        "METIA_DATABASE_URL must begin with sqlite:/// or postgresql+psycopg://.",
    )


def is_postgresql(bind: Engine | Connection | Session) -> bool:
    """Tell PostgreSQL from SQLite."""
    engine = bind.get_bind() if isinstance(bind, Session) else bind
    return engine.dialect.name == "postgresql"


def database_time(session: Session) -> datetime:
    """Give the present time that all processes of this database share (UTC).

    PostgreSQL's own clock, so that hosts whose clocks differ agree on leases; SQLite
    lives on one host, whose clock it is.
    """
    if is_postgresql(session):
        now = session.scalar(select(func.clock_timestamp()))
        if not isinstance(now, datetime):
            raise TypeError("clock_timestamp() gave no time")
        return now.astimezone(UTC)
    return datetime.now(UTC)


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Give a session that may write; commits at the end, rolls back on any exception.

    Raises
    ------
    MetiaError
        ``disk-full``, ``conflict`` (a constraint), ``invalid-input`` (a value the
        database cannot hold) or ``database-unusable``.
    """
    with (
        translated(),
        Session(engine, expire_on_commit=False) as session,
        session.begin(),
    ):
        yield session


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Give a session that sees one moment of the database and cannot write.

    Raises
    ------
    MetiaError
        As `transaction`.
    """
    options: dict[str, Any] = {READ_ONLY: True}
    if is_postgresql(engine):
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    bind = engine.execution_options(**options)
    with (
        translated(),
        Session(bind, expire_on_commit=False) as session,
        session.begin(),
    ):
        yield session


def _make_sqlite(url: URL, busy_timeout_s: float) -> Engine:
    if not url.database or url.database.startswith((":memory:", "file:")):
        raise MetiaError(
            "configuration-invalid",
            "METIA_DATABASE_URL must name a file: several processes share it.",
        )
    _make_private_file(Path(url.database))
    engine = create_engine(
        url,
        hide_parameters=True,
        json_serializer=encoding.canonical_json,
        connect_args={"timeout": busy_timeout_s},
        pool_timeout=busy_timeout_s,
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    _forbid_inherited_connections(engine)
    with translated():
        _quick_check(engine)
    return engine


def _make_private_file(path: Path) -> None:
    """Make the file and its folder, for its owner only: it holds names of patients."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise MetiaError(
            "database-unusable",
            f"The database file cannot be opened ({error.strerror}).",
        ) from error


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # None: the driver starts no transactions of its own, `_begin_sqlite` does.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        # REPLACE would otherwise delete rows behind the back of the audit's triggers.
        "recursive_triggers=ON",
        "trusted_schema=OFF",
        # What is erased must not be readable in the file any more.
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get(MIGRATING):
        # Tables are rebuilt by dropping them; must be set outside a transaction.
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        # ... while triggers of other tables speak of them.
        connection.exec_driver_sql("PRAGMA legacy_alter_table=ON")
    read_only = bool(options.get(READ_ONLY))
    connection.exec_driver_sql(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _quick_check(engine: Engine) -> None:
    try:
        with engine.connect() as connection:
            verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    finally:
        # Whoever forks after this (gunicorn) must not inherit an open SQLite handle.
        engine.dispose()
    if verdict != "ok":
        raise MetiaError(
            "database-unusable",
            "The database file is damaged (it fails SQLite's quick_check); "
            "restore it from a backup.",
        )


def _make_postgresql(url: URL, busy_timeout_s: float) -> Engine:
    milliseconds = round(busy_timeout_s * 1000)
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            hide_parameters=True,
            json_serializer=encoding.canonical_json,
            pool_pre_ping=True,
            pool_timeout=busy_timeout_s,
            connect_args={
                "connect_timeout": max(2, round(busy_timeout_s / 2)),
                "application_name": "metia",
                "options": f"-c lock_timeout={milliseconds} -c timezone=UTC",
            },
        )
    except ModuleNotFoundError as error:
        raise MetiaError(
            "configuration-invalid",
            f"PostgreSQL needs the package {error.name}, which is not installed.",
        ) from error
    _forbid_inherited_connections(engine)
    return engine


def _forbid_inherited_connections(engine: Engine) -> None:
    """Keep a forked child from using its parent's connections (SQLAlchemy's recipe)."""

    def remember(_connection: object, record: Any) -> None:
        record.info["pid"] = os.getpid()

    def compare(_connection: object, record: Any, proxy: Any) -> None:
        if record.info["pid"] != os.getpid():
            record.dbapi_connection = proxy.dbapi_connection = None
            raise exc.DisconnectionError("The connection belongs to another process.")

    event.listen(engine, "connect", remember)
    event.listen(engine, "checkout", compare)


_SQLITE_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
_SQLITE_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_PG_FULL = {"53100"}
_PG_LOCKED = {"55P03", "40001", "40P01"}


@contextmanager
def translated() -> Iterator[None]:
    """Turn exceptions of the database into ``MetiaError``; for modules of ``db``."""
    # `from None` throughout: the originals quote values of rows, which may be a
    # patient's; what is safe of them is in the detail.
    try:
        yield
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        raise _translate(error) from None


def _translate(error: Exception) -> MetiaError:
    original = getattr(error, "orig", None) or error
    number = getattr(original, "sqlite_errorcode", None)
    state = getattr(original, "sqlstate", None)
    if number in _SQLITE_FULL or state in _PG_FULL:
        return MetiaError("disk-full", "The database has no space left to write to.")
    if isinstance(error, exc.IntegrityError):
        return MetiaError("conflict", f"The database refuses this: {_rule(original)}.")
    if isinstance(error, exc.DataError):
        return MetiaError("invalid-input", "A value does not fit into the database.")
    if isinstance(error, exc.TimeoutError):
        return MetiaError("database-unusable", "All database connections are in use.")
    if (number is not None and number & 0xFF in _SQLITE_LOCKED) or state in _PG_LOCKED:
        return MetiaError(
            "database-unusable", "The database stayed locked for too long."
        )
    name = getattr(original, "sqlite_errorname", None) or state
    kind = type(original).__name__ + (f" {name}" if name else "")
    return MetiaError("database-unusable", f"The database failed ({kind}).")


def _rule(original: object) -> str:
    """Name the violated constraint; SQLite's text holds names only, never values."""
    diagnostics = getattr(original, "diag", None)
    if diagnostics is not None:
        return str(diagnostics.constraint_name or diagnostics.column_name or "a rule")
    return str(original)
