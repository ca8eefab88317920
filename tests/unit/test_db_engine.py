"""Opening databases: what is refused, what survives a full disk, a lock, a fork."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, text

from db import schema
from db.encoding import canonical_hash, canonical_json, clean_text
from db.engine import Engine, make_engine, reading, transaction
from db.users import create_user, list_users
from errors import MetiaError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "metia.sqlite"


@pytest.fixture
def engine(path: Path) -> Engine:
    engine = make_engine(f"sqlite:///{path}", busy_timeout_s=0.3)
    schema.upgrade(engine)
    return engine


def add_user(engine: Engine, name: str, display_name: str = "x") -> None:
    with transaction(engine) as session:
        create_user(
            session,
            name=name,
            display_name=display_name,
            role="viewer",
            password_hash=None,
        )


def add_many_users(engine: Engine) -> None:
    with transaction(engine) as session:
        for number in range(1000):
            create_user(
                session,
                name=f"user-{number}",
                display_name="x" * 500,
                role="viewer",
                password_hash=None,
            )


def count_users(engine: Engine) -> int:
    with reading(engine) as session:
        return len(list_users(session))


def test_pragmas(engine: Engine) -> None:
    with transaction(engine) as session:

        def pragma(name: str) -> object:
            return session.scalar(text(f"PRAGMA {name}"))

        assert pragma("journal_mode") == "wal"
        assert pragma("foreign_keys") == 1
        assert pragma("synchronous") == 1
        assert pragma("busy_timeout") == 300
        assert pragma("recursive_triggers") == 1


def test_file_and_folder_are_private(engine: Engine, path: Path) -> None:
    add_user(engine, "ann")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file.name


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory&uri=true",
        "mysql://user:secret@host/name",
        "postgresql+psycopg2://user:secret@host/name",
    ],
)
def test_unfit_urls_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(MetiaError, match="configuration-invalid") as caught:
        make_engine(url)
    assert "secret" not in str(caught.value)


def test_absent_server_is_a_coded_error() -> None:
    engine = make_engine("postgresql://user:secret@127.0.0.1:9/name", busy_timeout_s=1)
    with pytest.raises(MetiaError, match="database-unusable") as caught:
        schema.require_current(engine)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("damage", ["no database", "hole", "folder"])
def test_damaged_file_is_refused(engine: Engine, path: Path, damage: str) -> None:
    for number in range(300):
        add_user(engine, f"user-{number}", "x" * 300)
    with engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    engine.dispose()
    if damage == "no database":
        path.write_bytes(b"not a database at all" * 100)
    if damage == "hole":
        content = bytearray(path.read_bytes())
        middle = len(content) // 2 // 4096 * 4096
        content[middle : middle + 3 * 4096] = os.urandom(3 * 4096)
        path.write_bytes(content)
    if damage == "folder":
        for file in path.parent.iterdir():
            file.unlink()
        path.mkdir()
    with pytest.raises(MetiaError, match="database-unusable"):
        make_engine(f"sqlite:///{path}")


def test_full_disk_leaves_no_half_rows_and_heals(engine: Engine) -> None:
    add_user(engine, "before")

    def limit_pages(pages: int) -> None:
        with transaction(engine) as session:
            session.execute(text(f"PRAGMA max_page_count = {pages}"))

    with reading(engine) as session:
        pages = session.scalar(text("PRAGMA page_count"))
    limit_pages(pages)
    with pytest.raises(MetiaError, match="disk-full"):
        add_many_users(engine)
    assert count_users(engine) == 1
    limit_pages(1_000_000)
    add_user(engine, "after")
    assert count_users(engine) == 2


def test_locked_database_waits_then_says_so(engine: Engine, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(MetiaError, match="database-unusable") as caught:
        add_user(engine, "ann")
    assert "locked" in caught.value.detail
    assert 0.25 < time.monotonic() - began < 5
    assert count_users(engine) == 0  # reading does not wait
    other.execute("ROLLBACK")
    other.close()
    add_user(engine, "ann")


def test_writers_wait_for_each_other(engine: Engine, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.1, lambda: other.execute("COMMIT"))
    timer.start()
    add_user(engine, "ann")
    timer.join()
    other.close()
    assert count_users(engine) == 1


def test_writing_transaction_takes_the_lock_before_it_reads(engine: Engine) -> None:
    with transaction(engine) as session:
        list_users(session)
        with pytest.raises(MetiaError, match="locked"):
            add_user(engine, "bob")


def test_exception_rolls_back(engine: Engine) -> None:
    def break_half_way() -> None:
        with transaction(engine) as session:
            create_user(
                session, name="ann", display_name="A", role="viewer", password_hash=None
            )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_half_way()
    assert count_users(engine) == 0


def test_forked_child_opens_connections_of_its_own(engine: Engine) -> None:
    opened: list[int] = []
    event.listen(engine, "connect", lambda *_: opened.append(os.getpid()))
    add_user(engine, "parent")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            add_user(engine, "child")
            code = 0 if opened[-1:] == [os.getpid()] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    add_user(engine, "parent-again")
    assert count_users(engine) == 3


# -- encoding ------------------------------------------------------------------


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text()))
def test_equal_values_have_equal_hashes(value: dict[str, object]) -> None:
    reversed_value = dict(reversed(value.items()))
    assert canonical_hash({"a": value}) == canonical_hash({"a": reversed_value})


def test_no_number_is_not_json() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"a": float("nan")})


@given(st.text(st.characters(codec=None)))
def test_cleaned_text_can_be_stored_anywhere(value: str) -> None:
    cleaned = clean_text(value, 64)
    if cleaned is not None:
        cleaned.encode("utf-8")
        assert "\0" not in cleaned
        assert 0 < len(cleaned) <= 64
    assert clean_text(cleaned, 64) == cleaned


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("  ", None),
        (" A^B ", "A^B"),
        ("日本 ", "日本"),
        (63 * "a" + " b", 63 * "a"),
    ],
)
def test_clean_text(value: str | None, expected: str | None) -> None:
    assert clean_text(value, 64) == expected
