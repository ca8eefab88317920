"""The key images of a report's page: crops with outlines, axes, sides and a scale.

Crops are embedded as grey JPEG, lines are vectors. Lengths on paper in points. Pure.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image
from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.utils import ImageReader
from reportlab.platypus import Flowable, KeepTogether, Paragraph, Table

from segmentation.exports.chart import on_paper
from segmentation.exports.pictures import KeyImage
from segmentation.exports.pictures import Line as Outline
from segmentation.exports.report_styles import FONT, INK, SMALL, TITLE, WIDTH
from segmentation.exports.report_words import Words
from segmentation.exports.typeface import BOLD, REGULAR

TILES_A_ROW = 5
_TILE = 98.0
_GAP = (WIDTH - TILES_A_ROW * _TILE) / (TILES_A_ROW - 1)
_JPEG_QUALITY = 90
_LONG, _SHORT = HexColor(0xFFDC50), HexColor(0x6EC8FF)


def key_images(images: Sequence[KeyImage] | None, words: Words) -> Iterator[Flowable]:
    """Give the key images of a visit, five a row; None: they could not be read."""
    if images is None:
        yield Paragraph(words.no_images, SMALL)
        return
    if not images:
        return
    rows: list[list[Any]] = []
    for start in range(0, len(images), TILES_A_ROW):
        tiles = [_Tile(image) for image in images[start : start + TILES_A_ROW]]
        rows.append(tiles + [""] * (TILES_A_ROW - len(tiles)))
    table = Table(rows, colWidths=[_TILE + _GAP] * TILES_A_ROW, hAlign="LEFT")
    table.setStyle(
        [
            FONT,
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 0),
            ("TOPPADDING", (0, 0), (-1, -1), 1),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
        ]
    )
    legend = words.legend_axes
    if any(image.tilted for image in images):
        legend += f" {words.tilted}"
    yield KeepTogether(
        [Paragraph(words.key_images, TITLE), table, Paragraph(legend, SMALL)]
    )


class _Tile(Flowable):  # type: ignore[misc]  # reportlab has no types
    """A key image: the crop, its outline, axes, sides, scale and name."""

    def __init__(self, image: KeyImage) -> None:
        super().__init__()
        self.width, self.height = _TILE, _TILE + 10
        self._image = image

    def draw(self) -> None:
        image, canvas = self._image, self.canv
        canvas.drawImage(_jpeg(image), 0, 0, _TILE, _TILE)
        for outline in image.outlines:
            _stroke(canvas, outline, _colour(image.colour), 0.8)
        _stroke(canvas, image.long_axis, _LONG, 0.7)
        _stroke(canvas, image.short_axis, _SHORT, 0.7, dash=(1.6, 1.2))
        canvas.setStrokeColor(white)
        canvas.setLineWidth(1.2)
        canvas.setDash()
        canvas.line(_TILE - 5 - image.scale * _TILE, 5, _TILE - 5, 5)
        canvas.setFillColor(white)
        canvas.setFont(REGULAR, 5.5)
        canvas.drawRightString(_TILE - 5, 7, "10 mm")
        left, right, top, bottom = image.sides
        canvas.drawString(2, _TILE / 2 - 2, left)
        canvas.drawRightString(_TILE - 2, _TILE / 2 - 2, right)
        canvas.drawCentredString(_TILE / 2, _TILE - 7, top)
        canvas.drawCentredString(_TILE / 2, 2, bottom)
        canvas.setFillColor(on_paper(image.colour))
        canvas.rect(0, _TILE + 2.5, 5, 5, stroke=0, fill=1)
        canvas.setFillColor(INK)
        canvas.setFont(BOLD, 7)
        canvas.drawString(8, _TILE + 2.5, image.label)


def _jpeg(image: KeyImage) -> ImageReader:
    buffer = io.BytesIO()
    Image.fromarray(image.grey).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    buffer.seek(0)
    return ImageReader(buffer)


def _colour(colour: tuple[int, int, int]) -> Color:
    red, green, blue = (channel / 255 for channel in colour)
    return Color(red, green, blue)


def _stroke(
    canvas: Any,
    line: Outline,
    colour: Color,
    width: float,
    dash: tuple[float, ...] = (),
) -> None:
    path = canvas.beginPath()
    for index, (x, y) in enumerate(line):
        move = path.lineTo if index else path.moveTo
        move(x * _TILE, (1 - y) * _TILE)
    canvas.setStrokeColor(colour)
    canvas.setLineWidth(width)
    canvas.setDash(*([dash] if dash else []))
    canvas.drawPath(path)
