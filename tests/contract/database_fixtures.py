"""Both databases for tests: a SQLite file, and a PostgreSQL cluster of the test's own.

The cluster lies in a folder of its own under the system's temporary folder, listens on
a Unix socket in it only, trusts its user, and goes away with the session. PostgreSQL
refuses to run as root, so root starts it as the user ``postgres``.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from db import schema
from db.engine import Engine, make_engine
from db.models import Base
from settings import Settings

TEMPLATE = "metia_template"


def find_postgresql() -> Path | None:
    """Folder of the newest installed server's programs, None where there is none."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(installed, key=lambda p: int(p.parts[-3]), default=None)
    return newest.parent if newest else None


def reason_without_postgresql() -> str | None:
    if find_postgresql() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "PostgreSQL cannot run as root and there is no user postgres"
    return None


class PostgresqlCluster:
    """A private server; every database is a fresh copy of one at the newest schema."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="metia-pg-"))
        self._made = 0
        self._free: list[str] = []

    def start(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")
        self._run("initdb", "-D", self._data, "-A", "trust", "-U", "metia", "-N",
                  "-E", "UTF8", "--locale=C.UTF-8")  # fmt: skip
        options = (
            f"-c listen_addresses='' -c unix_socket_directories='{self._folder}' "
            "-c fsync=off -c max_connections=60 -c shared_buffers=16MB"
        )
        log = self._folder / "log"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", log, "-o", options, "start")
        self._sql(f"CREATE DATABASE {TEMPLATE}")
        engine = make_engine(self._url(TEMPLATE))
        schema.upgrade(engine)
        engine.dispose()

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    def borrow_database(self) -> str:
        """Give the URL of a database at the newest schema, without any row."""
        return self._free.pop() if self._free else self.new_database()

    def give_back(self, url: str) -> None:
        """Empty a borrowed database for the next; making a new one takes longer."""
        engine = make_engine(url)
        if schema.current(engine) == schema.head():
            tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
            with engine.begin() as connection:
                # Switches the audit's triggers off, which refuse this.
                connection.execute(text("SET LOCAL session_replication_role = replica"))
                connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
            self._free.append(url)
        engine.dispose()

    def new_database(self, *, empty: bool = False) -> str:
        """Make a database at the newest schema (or empty) and give its URL."""
        self._made += 1
        name = f"test_{self._made}"
        self._sql(f"CREATE DATABASE {name} TEMPLATE "
                  f"{'template0' if empty else TEMPLATE}")  # fmt: skip
        return self._url(name)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://metia@/{name}?host={self._folder}"

    def _sql(self, statement: str) -> None:
        self._run("psql", "-h", self._folder, "-U", "metia", "-d", "postgres",
                  "-q", "-c", statement)  # fmt: skip

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        # Not captured by pipe: the server inherits it and would keep it open.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command, cwd="/", stdout=output, stderr=output, check=False
            )
            output.seek(0)
            assert done.returncode == 0, output.read().decode(errors="replace")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlCluster]:
    """A PostgreSQL server; the test is skipped where none is installed."""
    reason = reason_without_postgresql()
    programs = find_postgresql()
    if reason or programs is None:
        pytest.skip(reason or "no PostgreSQL")
    cluster = PostgresqlCluster(programs)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_database_url(
    database_kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> str:
    """URL of a database without any table."""
    if database_kind == "sqlite":
        return f"sqlite:///{tmp_path / 'metia.sqlite'}"
    cluster: PostgresqlCluster = request.getfixturevalue("postgresql")
    return cluster.new_database(empty=True)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file at the newest schema, to be copied: migrating takes longer."""
    path = tmp_path_factory.mktemp("sqlite") / TEMPLATE
    engine = make_engine(f"sqlite:///{path}")
    schema.upgrade(engine)
    engine.dispose()  # the last to close a file brings it up to date
    return path


@pytest.fixture
def database_url(
    database_kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[str]:
    """URL of a database at the newest schema."""
    if database_kind == "sqlite":
        path = tmp_path / "metia.sqlite"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    cluster: PostgresqlCluster = request.getfixturevalue("postgresql")
    url = cluster.borrow_database()
    yield url
    cluster.give_back(url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Each database in turn, at the newest schema and empty."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(data_dir=tmp_path, database_url=database_url)
