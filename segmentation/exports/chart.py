"""The curves of a report: the sum of the targets and each lesion over time, as vectors.

Points lie at the days of the study; a visit without a date has no place and is left
out. What was not measured leaves a gap, never a line through it. Colours are those of
the lesions, darkened where they would vanish on paper. Pure: values in, a drawing out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reportlab.graphics.shapes import Circle, Drawing, Line, PolyLine, String
from reportlab.lib.colors import Color, HexColor

from segmentation.exports.typeface import BOLD, REGULAR

INK, FAINT, GRID = HexColor(0x222A33), HexColor(0x6B7680), HexColor(0xD9DEE3)
RESPONSE, PROGRESSION = HexColor(0x1B7F4D), HexColor(0xB3261E)
_SMALL = 6.5
_LEFT, _BOTTOM, _TOP, _RIGHT = 24.0, 22.0, 14.0, 26.0
_BRIGHTEST = 0.55
_TICKS = 4


@dataclass(frozen=True)
class Point:
    """A value at a day; `open_mark` for one that is not whole (a gap in a sum)."""

    day: int
    value: float
    open_mark: bool = False


@dataclass(frozen=True)
class Curve:
    """Points in order of time; a None is a gap."""

    label: str
    colour: tuple[int, int, int]
    points: tuple[Point | None, ...]


@dataclass(frozen=True)
class Level:
    """A horizontal line with its name."""

    label: str
    value: float
    is_progression: bool


def chart(
    title: str,
    axis_title: str,
    curves: Sequence[Curve],
    *,
    levels: Sequence[Level] = (),
    marked_day: int | None = None,
    size: tuple[float, float] = (255.0, 140.0),
) -> Drawing:
    """Draw curves over days.

    Parameters
    ----------
    marked_day : int, optional
        Of the visit that the page is about; a faint upright line.
    size : tuple of float
        Width and height in points.
    """
    plot = _Plot(curves, levels, size)
    plot.draw_frame(title, axis_title)
    if marked_day is not None:
        plot.draw_mark(marked_day)
    for level in levels:
        plot.draw_level(level)
    for curve in curves:
        plot.draw_curve(curve)
    plot.draw_labels(curves)
    return plot.drawing


def on_paper(colour: tuple[int, int, int]) -> Color:
    """Darken a colour until it shows on white."""
    red, green, blue = (channel / 255 for channel in colour)
    brightness = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    factor = min(1.0, _BRIGHTEST / brightness) if brightness else 1.0
    return Color(red * factor, green * factor, blue * factor)


class _Plot:
    def __init__(
        self,
        curves: Sequence[Curve],
        levels: Sequence[Level],
        size: tuple[float, float],
    ) -> None:
        self.width, self.height = size
        self.drawing = Drawing(self.width, self.height)
        points = [point for curve in curves for point in curve.points if point]
        self._days = sorted({point.day for point in points})
        values = [point.value for point in points] + [level.value for level in levels]
        self._step = _nice_step(max(values, default=0.0))
        self._most = self._step * max(
            math.ceil(max(values, default=0.0) / self._step), 1
        )
        first, last = (self._days[0], self._days[-1]) if self._days else (1, 1)
        # A single day stands at the right, where the names are.
        self._first, self._last = (first, last) if last > first else (first - 1, first)

    def x(self, day: float) -> float:
        """Give the place of a day, points from the left."""
        share = (day - self._first) / (self._last - self._first)
        return _LEFT + 4 + share * (self.width - _LEFT - _RIGHT - 8)

    def y(self, value: float) -> float:
        """Give the place of a value, points from the bottom."""
        room = self.height - _BOTTOM - _TOP - 4
        return _BOTTOM + value / self._most * room

    def draw_frame(self, title: str, axis_title: str) -> None:
        """Draw title, grid, numbers and axis."""
        self._text(0, self.height - 8, title, font=BOLD, size=7.5)
        right = self.width - _RIGHT
        for number in range(round(self._most / self._step) + 1):
            value = number * self._step
            y = self.y(value)
            self._line(_LEFT, y, right, y, GRID, 0.5)
            self._text(_LEFT - 3, y - 2.2, f"{value:g}", anchor="end")
        last_x = -math.inf
        for day in self._days:
            x = self.x(day)
            self._line(x, _BOTTOM, x, _BOTTOM - 2, FAINT, 0.5)
            if x - last_x >= 18:
                self._text(x, _BOTTOM - 9, str(day), anchor="middle")
                last_x = x
        self._text((_LEFT + right) / 2, 2, axis_title, anchor="middle")

    def draw_mark(self, day: int) -> None:
        """Mark the day of the page."""
        if self._first <= day <= self._last:
            x = self.x(day)
            self._line(x, _BOTTOM, x, self.height - _TOP, HexColor(0xC8D4E0), 3)

    def draw_level(self, level: Level) -> None:
        """Draw a limit and its name."""
        colour = PROGRESSION if level.is_progression else RESPONSE
        y, right = self.y(level.value), self.width - _RIGHT
        self._line(_LEFT, y, right, y, colour, 0.8, dash=[3, 2])
        # Below the line of response, above that of progression: they may lie close.
        offset = 2.0 if level.is_progression else -7.0
        self._text(_LEFT + 3, y + offset, level.label, colour=colour)

    def draw_curve(self, curve: Curve) -> None:
        """Draw the pieces of a curve between its gaps, and its points."""
        colour = on_paper(curve.colour)
        piece: list[float] = []
        for point in (*curve.points, None):
            if point is not None:
                piece += [self.x(point.day), self.y(point.value)]
                continue
            if len(piece) > 2:
                self.drawing.add(
                    PolyLine(piece, strokeColor=colour, strokeWidth=1.1, fillColor=None)
                )
            piece = []
        for point in curve.points:
            if point is not None:
                self.drawing.add(
                    Circle(
                        self.x(point.day),
                        self.y(point.value),
                        2.0,
                        strokeColor=colour,
                        strokeWidth=0.9,
                        fillColor=HexColor(0xFFFFFF) if point.open_mark else colour,
                    )
                )

    def draw_labels(self, curves: Sequence[Curve]) -> None:
        """Name the curves: at the right those that last, else beside the last point."""
        ends = []
        for curve in curves:
            points = [point for point in curve.points if point is not None]
            if not points or not curve.label:
                continue
            x, y = self.x(points[-1].day), self.y(points[-1].value)
            if points[-1].day == self._days[-1]:
                ends.append((y, x, curve))
            else:  # a line to the right would look as if it had been measured there
                colour = on_paper(curve.colour)
                self._text(x + 4, y + 2, curve.label, colour=colour)
        ends.sort(key=lambda end: end[0])
        places = _apart([y for y, _, _ in ends], 6.2, _BOTTOM, self.height - _TOP)
        for place, (y, x, curve) in zip(places, ends, strict=True):
            colour = on_paper(curve.colour)
            left = self.width - _RIGHT + 5
            self._line(x + 2.5, y, left - 1, place, colour, 0.3)
            self._text(left, place - 2.2, curve.label, colour=colour)

    def _text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: str = "start",
        font: str = REGULAR,
        size: float = _SMALL,
        colour: Color = FAINT,
    ) -> None:
        self.drawing.add(
            String(
                x,
                y,
                text,
                fontName=font,
                fontSize=size,
                fillColor=INK if font == BOLD else colour,
                textAnchor=anchor,
            )
        )

    def _line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        colour: Any,
        width: float,
        dash: list[int] | None = None,
    ) -> None:
        self.drawing.add(
            Line(
                x1,
                y1,
                x2,
                y2,
                strokeColor=colour,
                strokeWidth=width,
                strokeDashArray=dash,
            )
        )


def _nice_step(most: float) -> float:
    """Choose a step of 1, 2 or 5 times a power of ten that gives about four lines."""
    raw = max(most, 1e-6) / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * step for step in (1, 2, 5, 10) if raw <= power * step * 1.0001)


def _apart(
    wanted: Sequence[float], distance: float, low: float, high: float
) -> list[float]:
    """Move sorted places apart, within limits where there is room."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + distance) if places else max(place, low))
    over = places[-1] - high if places else 0.0
    if over > 0:
        places = [place - over for place in places]
    return places
