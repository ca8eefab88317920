"""Draws the figures of the benchmarks as small SVG files.

``draw_all`` draws what it finds among the results of ``benchmarks.run``: where the time
of a press goes, how cost grows, what many workers give. Horizontal bars, one a row,
each of one or several parts. Writes files, keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reportlab.graphics import renderSVG
from reportlab.graphics.shapes import Drawing, Rect, String
from reportlab.lib.colors import HexColor

Results = Mapping[str, Mapping[str, Any]]
Bars = Mapping[str, Mapping[str, float]]
"""Length of each part, by the name of the part, by the name of the row."""

_COLOURS = [
    HexColor(number)
    for number in (
        0x4E79A7, 0xF28E2B, 0x59A14F, 0xE15759, 0x76B7B2, 0xEDC948, 0xB07AA1, 0x9C755F
    )
]  # fmt: skip
_INK = HexColor(0x222A33)
_WIDTH, _LABELS, _ROW, _BAR, _TEXT = 640.0, 190.0, 22.0, 14.0, 9.0
_ROOM = 70.0
"""Right of the longest bar, for its figure."""


def draw_all(results: Results, folder: Path) -> None:
    """Draw every picture whose figures are there."""
    for name, (title, bars_of) in _PICTURES.items():
        if name in results:
            drawing = draw(title, bars_of(results[name]["figures"]))
            renderSVG.drawToFile(drawing, str(folder / f"{name}.svg"))


def draw(title: str, bars: Bars) -> Drawing:
    """Draw rows of bars under a title, with a legend where they have several parts."""
    parts = list(dict.fromkeys(part for row in bars.values() for part in row))
    several = len(parts) > 1
    height = _ROW * (len(bars) + 1 + several)
    drawing = Drawing(_WIDTH, height)
    longest = max((sum(row.values()) for row in bars.values()), default=0.0) or 1.0
    scale = (_WIDTH - _LABELS - _ROOM) / longest
    y = height - _ROW
    _write(drawing, 4, y + 6, title, size=_TEXT + 2)
    for name, row in bars.items():
        y -= _ROW
        _write(drawing, _LABELS - 6, y + 4, name, anchor="end")
        x = _LABELS
        for part, length in row.items():
            colour = _COLOURS[parts.index(part) % len(_COLOURS)]
            drawing.add(
                Rect(x, y, length * scale, _BAR, fillColor=colour, strokeWidth=0)
            )
            x += length * scale
        _write(drawing, x + 4, y + 4, f"{sum(row.values()):.3g}")
    if several:
        _legend(drawing, parts)
    return drawing


def _legend(drawing: Drawing, parts: Sequence[str]) -> None:
    x = 10.0
    for number, part in enumerate(parts):
        colour = _COLOURS[number % len(_COLOURS)]
        drawing.add(Rect(x, 5, 9, 9, fillColor=colour, strokeWidth=0))
        _write(drawing, x + 12, 6, part)
        x += 24 + 5.2 * len(part)


def _write(
    drawing: Drawing,
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: float = _TEXT,
) -> None:
    drawing.add(
        String(
            x,
            y,
            text,
            fontName="Helvetica",
            fontSize=size,
            fillColor=_INK,
            textAnchor=anchor,
        )
    )


def _press(figures: Mapping[str, Any]) -> Bars:
    bars: Bars = figures["median seconds a step"]
    return bars


def _overhead(figures: Mapping[str, Any]) -> Bars:
    summed = ("total", "segmentation + store")
    return {
        name: {step: row["median"] for step, row in steps.items() if step not in summed}
        for name, steps in figures.items()
        if name.endswith("lesions")
    }


def _throughput(figures: Mapping[str, Any]) -> Bars:
    return {
        name: {"studies an hour": row["studies an hour"]}
        for name, row in figures["workers"].items()
    }


def _growth(figures: Mapping[str, Any]) -> Bars:
    return {
        f"{name} {what}": {step: float(row[step]) for step in row if step != "total"}
        for what in ("slices", "lesions")
        for name, row in figures[what].items()
    }


_PICTURES: dict[str, tuple[str, Callable[[Mapping[str, Any]], Bars]]] = {
    "end_to_end": ("One press, seconds a step (median)", _press),
    "overhead": ("Beyond the network, seconds a step (median)", _overhead),
    "throughput": ("Studies an hour by workers", _throughput),
    "growth": ("Processor seconds beyond the network", _growth),
}
