"""Cells that a spreadsheet shows and never runs.

A text that a program could take for a formula gets an apostrophe in front (CSV) or is
stored as a quoted text (XLSX); numbers stay numbers. Control characters, which break
rows, become spaces. Pure.
"""

from __future__ import annotations

import re

Cell = str | int | float | None

_STARTS = "=+-@\uff1d\uff0b\uff0d\uff20"
"""How formulas begin, in full width too, as programs set to Japanese take them."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\ud800-\udfff]")
_LONGEST = 32_000
"""Characters; a cell of XLSX holds 32,767."""


def clean(cell: Cell) -> Cell:
    """Make a cell fit one row: texts without control characters, and not too long."""
    if not isinstance(cell, str):
        return cell
    return _CONTROL.sub(" ", cell)[:_LONGEST]


def looks_like_formula(text: str) -> bool:
    """Tell whether a spreadsheet might run a text.

    Space in front is looked through, since programs trim it; a tab or line end in
    front is taken for the attempt to hide what follows.
    """
    visible = _CONTROL.sub(" ", text).lstrip()
    return visible.startswith(tuple(_STARTS)) or text.startswith(("\t", "\r", "\n"))


def csv_cell(cell: Cell) -> Cell:
    """Make a cell of a CSV file; what looks like a formula begins with ``'``."""
    if isinstance(cell, str) and looks_like_formula(cell):
        return clean("'" + cell)
    return clean(cell)
