"""The fonts of reports, and which of them can print a text.

Names of patients come in every script. ``markup`` gives each character a font that has
it; ``printable`` tells which texts can be set whole. What none of our fonts can set (or
can set only wrongly, such as scripts whose letters join) is told to the caller, never
printed as boxes. The fonts lie beside this module and are embedded in what is written.
Registration happens once a process; safe between threads.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from xml.sax.saxutils import escape

from reportlab import rl_config
from reportlab.graphics import shapes
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

FONTS = Path(__file__).with_name("fonts")
REGULAR, BOLD, EAST_ASIAN = "MetIA", "MetIA-Bold", "MetIA-CJK"
_FILES = {
    REGULAR: "DejaVuSans.ttf",
    BOLD: "DejaVuSans-Bold.ttf",
    EAST_ASIAN: "MicroHei-CJK.ttf",
}
_NEEDS_SHAPING = (
    (0x0590, 0x08FF),  # Hebrew, Arabic, Syriac ...: from right to left, joined
    (0x0900, 0x0DFF),  # scripts of India
    (0x0E00, 0x109F),  # Thai, Lao, Tibetan, Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1800, 0x18AF),  # Mongolian
    (0xFB1D, 0xFDFF),
    (0xFE70, 0xFEFF),
    (0x10A00, 0x10FFF),
    (0x1E900, 0x1EFFF),
)
"""Where DejaVu has letters that one after the other make no word."""


@lru_cache(maxsize=1)
def register() -> None:
    """Make the fonts known to reportlab, and its own, unembedded ones unneeded."""
    rl_config.useA85 = 0  # binary streams: a quarter smaller, and much faster
    rl_config.shapeChecking = 0  # our shapes are typed; checking took half the time
    shapes.STATE_DEFAULTS["fontName"] = REGULAR
    for name, file in _FILES.items():
        pdfmetrics.registerFont(TTFont(name, str(FONTS / file)))
    pdfmetrics.registerFontFamily(
        REGULAR, normal=REGULAR, bold=BOLD, italic=REGULAR, boldItalic=BOLD
    )


def markup(text: str, *, replace: str = "\N{REPLACEMENT CHARACTER}") -> str:
    """Write a text as the markup of a paragraph, every run in a font that has it.

    Parameters
    ----------
    replace : str
        Stands for each character that no font has: a sign that something is missing.
    """
    register()
    parts: list[str] = []
    for character in unicodedata.normalize("NFC", " ".join(text.split())):
        font = _font_of(character)
        if font == EAST_ASIAN:
            parts.append(f'<font name="{EAST_ASIAN}">{escape(character)}</font>')
        else:
            parts.append(escape(character) if font else replace)
    joined = "".join(parts)
    return joined.replace(f'</font><font name="{EAST_ASIAN}">', "")


def printable(groups: Sequence[str]) -> tuple[list[str], bool]:
    """Keep the texts that can be printed whole; tell whether any was left out."""
    register()
    kept = [
        group
        for group in groups
        if all(_font_of(one) for one in unicodedata.normalize("NFC", group))
    ]
    return kept, len(kept) < len(groups)


def _font_of(character: str) -> str | None:
    code = ord(character)
    if any(low <= code <= high for low, high in _NEEDS_SHAPING):
        return None
    for name in (REGULAR, EAST_ASIAN):
        if code in pdfmetrics.getFont(name).face.charToGlyph:
            return name
    return None
