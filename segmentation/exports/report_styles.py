"""How a report looks: colours, fonts and paragraph styles. Constants; points."""

from __future__ import annotations

from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.styles import ParagraphStyle

from segmentation.exports.typeface import BOLD, REGULAR

WIDTH = 523.0
INK, FAINT, RULE = HexColor(0x222A33), HexColor(0x5C6770), HexColor(0xC5CCD3)
HEAD = HexColor(0xE9EEF3)

BODY = ParagraphStyle(
    "body",
    fontName=REGULAR,
    bulletFontName=REGULAR,
    fontSize=8,
    leading=10.5,
    textColor=INK,
)
CELL = ParagraphStyle("cell", parent=BODY, fontSize=7.2, leading=9)
NUMBER = ParagraphStyle("number", parent=CELL, alignment=TA_RIGHT)
SMALL = ParagraphStyle("small", parent=BODY, fontSize=6.6, leading=8.4, textColor=FAINT)
TITLE = ParagraphStyle(
    "title", parent=BODY, fontName=BOLD, fontSize=9, leading=12, spaceBefore=5
)
FONT = ("FONTNAME", (0, 0), (-1, -1), REGULAR)  # else one that is not embedded
CATEGORY = ParagraphStyle(
    "category", parent=BODY, fontName=BOLD, fontSize=13, leading=16
)
BULLET = ParagraphStyle("bullet", parent=BODY, leftIndent=9, bulletIndent=0)
