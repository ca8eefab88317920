"""Reads the SQLite file of the former system, whatever state it is in.

``read_old_database`` opens the file read-only, changes nothing, runs nothing that lies
in it, and either gives every row of the four tables as it stands or refuses the file
(``input-unreadable``): half a file is never taken for the whole. What the values mean,
and which are usable, is for ``segmentation.legacy.importing``. Errors hold names of
tables only. Safe between threads.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import MetiaError

LARGEST_FILE_BYTES = 200_000_000
MOST_ROWS = 500_000
_LONGEST_S = 120.0
_STEPS_BETWEEN_LOOKS = 50_000
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100

COLUMNS: dict[str, tuple[str, ...]] = {
    "patient": ("idPatient", "nom", "dateNaissance", "sexe"),
    "etude": ("StudyInstanceUID", "idPatient", "dateTraitement"),
    "series": ("SeriesInstanceUID", "StudyInstanceUID"),
    "metastase": (
        "roiNumber",
        "SeriesInstanceUID",
        "nom_metastase",
        "volume",
        "diametre",
        "slideDebut",
        "slideFin",
        "color",
    ),
}


@dataclass(frozen=True)
class OldRow:
    """One row.

    Attributes
    ----------
    row_id : int
        SQLite's own number of the row; of a patient, whose number is the PatientID, the
        place in the table, from 1.
    values : dict
        By column: int, float, str, bytes or None, whatever the column declares.
    """

    row_id: int
    values: dict[str, Any]


@dataclass(frozen=True)
class OldDatabase:
    """The rows of each table, in order of their numbers."""

    sha256: str
    rows: dict[str, tuple[OldRow, ...]]


def read_old_database(path: Path) -> OldDatabase:
    """Read the file.

    Raises
    ------
    MetiaError
        ``input-unreadable`` where it is no such file, is damaged, is still in use, or
        is larger than it can be.
    """
    sha256 = _check_file(path)
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            _disarm(connection)
            _require_sound(connection)
            rows = {table: _read_table(connection, table) for table in COLUMNS}
    except (sqlite3.Error, UnicodeError, OverflowError) as error:
        raise _unreadable("The file is damaged, or no SQLite database.") from error
    return OldDatabase(sha256, rows)


def _unreadable(detail: str) -> MetiaError:
    return MetiaError("input-unreadable", detail)


def _check_file(path: Path) -> str:
    """Refuse what is not a database file at rest; gives the hash of its content."""
    try:
        if not path.is_file():
            raise _unreadable("There is no such file.")
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise _unreadable(f"It has more than {LARGEST_FILE_BYTES} bytes.")
        for suffix in ("-wal", "-journal"):
            beside = path.with_name(path.name + suffix)
            if beside.exists() and beside.stat().st_size:
                raise _unreadable(
                    "Changes to it lie in a file beside it: stop the former system, "
                    "or open and close the file with it once."
                )
        with path.open("rb") as file:
            _check_length(file.read(_HEADER_BYTES), path.stat().st_size)
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(f"It cannot be read ({error.strerror}).") from error


def _check_length(header: bytes, size_bytes: int) -> None:
    """Refuse a file that was cut off; SQLite takes a last page in part for a whole one.

    The header gives the size of a page (1 stands for 65536) and their number.
    """
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise _unreadable("It is not a SQLite database.")
    page_bytes = int.from_bytes(header[16:18], "big")
    page_bytes = 65_536 if page_bytes == 1 else page_bytes
    pages = int.from_bytes(header[28:32], "big")
    if not page_bytes or size_bytes % page_bytes or size_bytes < pages * page_bytes:
        raise _unreadable("The file is cut off.")


def _disarm(connection: sqlite3.Connection) -> None:
    """Keep what lies in the file from running, and from taking for ever."""
    end = time.monotonic() + _LONGEST_S
    connection.set_progress_handler(
        lambda: time.monotonic() > end, _STEPS_BETWEEN_LOOKS
    )
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _require_sound(connection: sqlite3.Connection) -> None:
    """Refuse a damaged file, and one whose tables are not tables or not the ones."""
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _unreadable("The file is damaged.")
    for table, columns in COLUMNS.items():
        found = connection.execute(
            "SELECT type, sql FROM sqlite_master WHERE name = ? COLLATE NOCASE",
            (table,),
        ).fetchone()
        if found is None or found[0] != "table" or "VIRTUAL" in found[1].upper():
            raise _unreadable(f"It lacks the table {table} of the former system.")
        present = {
            row[1].lower() for row in connection.execute(f"PRAGMA table_info({table})")
        }
        if missing := [name for name in columns if name.lower() not in present]:
            raise _unreadable(f"Its table {table} lacks {', '.join(missing)}.")


def _read_table(connection: sqlite3.Connection, table: str) -> tuple[OldRow, ...]:
    columns = COLUMNS[table]
    names = ", ".join(f'"{name}"' for name in columns)
    # Only our own names stand in the statement.
    rows = connection.execute(
        f"SELECT _rowid_, {names} FROM {table} ORDER BY _rowid_ LIMIT ?",  # noqa: S608
        (MOST_ROWS + 1,),
    ).fetchall()
    if len(rows) > MOST_ROWS:
        raise _unreadable(f"Its table {table} has more than {MOST_ROWS} rows.")
    return tuple(
        OldRow(
            place if table == "patient" else row_id,
            dict(zip(columns, values, strict=True)),
        )
        for place, (row_id, *values) in enumerate(rows, 1)
    )
