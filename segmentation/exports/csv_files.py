"""The tables as CSV files, and the text that explains them.

UTF-8 without a byte order mark, comma, CRLF; texts in quotes and free of formulas,
numbers as numbers. The same course gives the same bytes. Pure.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence

from segmentation.exports.cells import csv_cell
from segmentation.exports.columns import COLUMNS, TABLE_NAMES, TITLES, TableName
from segmentation.exports.content import CourseContent
from segmentation.exports.tables import Row, make_tables
from settings import VERSION

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def csv_text(name: TableName, rows: Sequence[Row]) -> str:
    """Write one table as CSV: comma, CRLF, texts in quotes, numbers without.

    Texts are quoted throughout, so that a semicolon, which separates cells in other
    settings of a spreadsheet, starts none.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow(COLUMNS[name])
    for row in rows:
        writer.writerow(
            "" if row[column] is None else csv_cell(row[column])
            for column in COLUMNS[name]
        )
    return buffer.getvalue()


def read_me(course: CourseContent) -> list[str]:
    """Explain the tables: lines of text, for a sheet or a file beside them."""
    subject = course.subject
    lines = [
        course.notice,
        f"MetIA {VERSION}; criteria {course.rule_set} {course.rules_version}; "
        f"{len(course.visits)} visits, {len(course.tracks)} lesions.",
        "With identifiers: patient ID, dates and study UIDs are in these tables."
        if subject.identified
        else "Pseudonymous: no patient ID, no dates, no UIDs of the archive.",
        "Lengths in mm, volumes in mL. Categories are proposals unless signed.",
    ]
    for name in TABLE_NAMES:
        lines += ["", f"{name.upper()}  {TITLES[name]}"]
        lines += [f"{column}: {text}" for column, text in COLUMNS[name].items()]
    return lines


def csv_archive(course: CourseContent) -> bytes:
    """Put the tables into one ZIP, one CSV a table, and a text that explains them."""
    tables = make_tables(course)
    files = {"README.txt": "\r\n".join([*read_me(course), ""])}
    for name in TABLE_NAMES:
        files[f"{name}.csv"] = csv_text(name, tables[name])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for file_name, text in files.items():
            entry = zipfile.ZipInfo(file_name, date_time=_ZIP_TIME)
            entry.external_attr = 0o644 << 16
            made.writestr(entry, text.encode("utf-8"), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
