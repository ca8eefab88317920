"""The tables as one workbook: a sheet a table, and a first one that explains them.

Texts are stored as texts, so that nothing in them is run, and marked as quoted, so that
they stay texts when somebody edits them; numbers are numbers. The same course gives the
same cells. openpyxl is used here and nowhere else. Pure.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from openpyxl import Workbook
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter

from segmentation.exports.cells import Cell, clean, looks_like_formula
from segmentation.exports.columns import COLUMNS, TABLE_NAMES, TableName
from segmentation.exports.content import CourseContent
from segmentation.exports.csv_files import read_me
from segmentation.exports.tables import Row, make_tables

_WIDEST = 60
_HEAD = PatternFill("solid", fgColor="DDE6EE")
# The format asks for times; these tell nothing of when somebody was examined.
_TIME = datetime(2000, 1, 1)

Sheet = Any
"""openpyxl has no types; this is where they are given up."""


def workbook(course: CourseContent) -> bytes:
    """Write the workbook of a course.

    Returns
    -------
    bytes
        XLSX with the sheets README, TU, TR and RS.
    """
    book: Any = Workbook()
    book.properties.creator = "MetIA"
    book.properties.created = _TIME
    sheet = book.active
    sheet.title = "README"
    _write_readme(sheet, read_me(course))
    for name, rows in make_tables(course).items():
        _write_table(book.create_sheet(name.upper()), name, rows)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def _write_readme(sheet: Sheet, lines: Sequence[str]) -> None:
    sheet.column_dimensions["A"].width = 110
    titles = tuple(f"{name.upper()}  " for name in TABLE_NAMES)
    for number, line in enumerate(lines, 1):
        _put(sheet, number, 1, line)
        cell = sheet.cell(number, 1)
        cell.alignment = Alignment(wrap_text=True, vertical="top")
        cell.font = Font(bold=number == 1 or line.startswith(titles))


def _write_table(sheet: Sheet, name: TableName, rows: Sequence[Row]) -> None:
    for index, column in enumerate(COLUMNS[name], 1):
        _put(sheet, 1, index, column)
        sheet.cell(1, index).font = Font(bold=True)
        sheet.cell(1, index).fill = _HEAD
        for number, row in enumerate(rows, 2):
            _put(sheet, number, index, row[column])
        longest = max((len(str(row[column] or "")) for row in rows), default=0)
        width = min(max(longest, len(column)) + 2, _WIDEST)
        sheet.column_dimensions[get_column_letter(index)].width = width
    sheet.freeze_panes = "A2"
    sheet.auto_filter.ref = sheet.dimensions


def _put(sheet: Sheet, row: int, column: int, value: Cell) -> None:
    cell = sheet.cell(row, column)
    cell.value = clean(value)
    if isinstance(value, str):
        cell.data_type = "s"  # openpyxl takes what begins with "=" for a formula
        cell.quotePrefix = looks_like_formula(value)
