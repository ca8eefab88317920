"""A picture of every lesion, for a quick look: contour, axes, scale and figures.

Each tile is a small neighbourhood of one lesion in the plane it was measured in, the
patient's left on the right, as radiologists hang it. No patient data and no face:
nothing but the crop is drawn, never larger than ``LARGEST_MM``. Every sheet says that
it is for research use. Pure; lengths in mm, points LPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import map_coordinates
from skimage.measure import find_contours

from segmentation.diameters import axial_axis, is_nearly_axial
from segmentation.lesions import Lesion
from segmentation.pipeline import Analysis
from settings import RESEARCH_NOTICE

TILE = 340
"""Width and height of a crop, pixels."""
CAPTION = 64
MARGIN = 12
HEADER = 74
COLUMNS = 4
MOST_TILES = 60
SMALLEST_MM = 36.0
LARGEST_MM = 90.0

_INK = (235, 235, 235)
_FAINT = (150, 150, 150)
_PAPER = (18, 20, 24)
_LONG = (255, 220, 80)
_SHORT = (110, 200, 255)

Points = NDArray[np.float64]
Line = list[tuple[float, float]]


@dataclass(frozen=True)
class _Cut:
    """Where a plane runs through a grid.

    Attributes
    ----------
    box : tuple of slice
        The voxels needed; interpolation copies what it gets, so it gets no more.
    indices : ndarray, shape (3, TILE, TILE)
        Into the box.
    outside : ndarray of bool, shape (TILE, TILE)
        Where the plane has left the image.
    """

    box: tuple[slice, ...]
    indices: Points
    outside: NDArray[np.bool_]

    def sample(self, part: NDArray[Any]) -> NDArray[np.float32]:
        """Interpolate the voxels of the box, shape (TILE, TILE)."""
        sampled: NDArray[np.float32] = map_coordinates(
            np.asarray(part, np.float32), self.indices, order=1, mode="nearest"
        )
        sampled[self.outside] = 0
        return sampled


@dataclass(frozen=True)
class _Plane:
    """A square cut through the patient.

    Attributes
    ----------
    centre_mm : ndarray, shape (3,)
    right, down : ndarray, shape (3,)
        Unit vectors of the picture: towards the patient's left, and to the back.
    size_mm : float
        Edge of the square.
    """

    centre_mm: Points
    right: Points
    down: Points
    size_mm: float

    def cut(self, volume: hd.Volume) -> _Cut:
        """Find the voxels that the square runs through."""
        steps = ((np.arange(TILE) + 0.5) / TILE - 0.5) * self.size_mm
        points = (
            self.centre_mm
            + steps[:, None, None] * self.down
            + steps[None, :, None] * self.right
        )
        inverse = np.linalg.inv(volume.affine)
        indices = np.moveaxis(points @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
        last = np.array(volume.shape)[:, None, None] - 1
        # Voxels have a body: the image ends half a voxel beyond the last centres.
        outside = np.any((indices < -0.5) | (indices > last + 0.5), axis=0)
        indices = np.clip(indices, 0, last)
        low = np.floor(indices.min(axis=(1, 2))).astype(int)
        high = np.ceil(indices.max(axis=(1, 2))).astype(int) + 1
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return _Cut(box, indices - low[:, None, None], outside)

    def pixel(self, point_mm: tuple[float, float, float]) -> tuple[float, float]:
        """Give the place (x, y) in the tile of a point of the patient."""
        offset = np.asarray(point_mm) - self.centre_mm
        scale = TILE / self.size_mm
        return (
            float(offset @ self.right * scale + TILE / 2),
            float(offset @ self.down * scale + TILE / 2),
        )


def contact_sheet(analysis: Analysis, threshold: float) -> Image.Image:
    """Draw the lesions of a run, largest first.

    Parameters
    ----------
    threshold : float
        Of the probability, where the contour runs.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    lesions = analysis.lesion_map.lesions[:MOST_TILES]
    if not lesions:
        raise ValueError("no lesion, so there is nothing to draw")
    columns = min(COLUMNS, max(2, len(lesions)))
    rows = -(-len(lesions) // columns)
    width = columns * (TILE + MARGIN) + MARGIN
    height = HEADER + rows * (TILE + CAPTION + MARGIN)
    sheet = Image.new("RGB", (width, height), _PAPER)
    _draw_header(ImageDraw.Draw(sheet), analysis, len(lesions))
    planes = [_plane(lesion, analysis) for lesion in lesions]
    volume = analysis.source.volume
    cuts = [plane.cut(volume) for plane in planes]
    crops = [cut.sample(volume.array[cut.box]) for cut in cuts]
    window = _window(crops)
    for index, (lesion, plane, cut, crop) in enumerate(
        zip(lesions, planes, cuts, crops, strict=True)
    ):
        row, column = divmod(index, columns)
        left = MARGIN + column * (TILE + MARGIN)
        top = HEADER + row * (TILE + CAPTION + MARGIN)
        tile = _draw_crop(crop, window)
        colour = analysis.identity.colours[lesion.number - 1]
        others, own = _contours(analysis, cut, lesion.number, threshold)
        _draw_lines(tile, others, _FAINT)
        _draw_lines(tile, own, colour)
        _draw_axes(tile, lesion, plane)
        sheet.paste(tile, (left, top))
        _draw_caption(ImageDraw.Draw(sheet), left, top + TILE, lesion, colour)
    return sheet


def _plane(lesion: Lesion, analysis: Analysis) -> _Plane:
    """Cut where the lesion was measured: a plane of the grid, or a true axial one."""
    affine = analysis.source.volume.affine
    axis, tilt_deg = axial_axis(affine)
    right, down = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    if is_nearly_axial(tilt_deg):
        directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        first, second = (directions[:, other] for other in range(3) if other != axis)
        if abs(first[0]) < abs(second[0]):
            first, second = second, first
        right, down = first * np.sign(first[0]), second * np.sign(second[1])
    centre = np.mean(lesion.long_axis_mm, axis=0)
    size = min(max(2.2 * lesion.longest_diameter_mm, SMALLEST_MM), LARGEST_MM)
    return _Plane(centre, right, down, size)


def _window(crops: list[NDArray[np.float32]]) -> tuple[float, float]:
    """Choose one window for all tiles, so that they can be compared."""
    values = np.concatenate([crop.ravel() for crop in crops])
    low, high = np.percentile(values, (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _draw_crop(crop: NDArray[np.float32], window: tuple[float, float]) -> Image.Image:
    low, high = window
    grey = np.clip((crop - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _contours(
    analysis: Analysis, cut: _Cut, number: int, threshold: float
) -> tuple[list[Line], list[Line]]:
    """Give the outlines in a tile of the other lesions, and of this one."""
    probability = analysis.prediction.probability.array[cut.box]
    labels = analysis.lesion_map.labels.array[cut.box]
    below = probability < threshold
    find: Any = find_contours
    lines: list[list[Line]] = []
    for wanted in ((labels != 0) & (labels != number), labels == number):
        field = cut.sample(np.where(wanted | below, probability, 0))
        lines.append([[(x, y) for y, x in line] for line in find(field, threshold)])
    return lines[0], lines[1]


def _draw_lines(
    tile: Image.Image, lines: Sequence[Line], ink: tuple[int, int, int]
) -> None:
    draw = ImageDraw.Draw(tile)
    for line in lines:
        # A dark edge, so that the line shows on bright lesions too.
        draw.line(line, fill=_PAPER, width=4, joint="curve")
        draw.line(line, fill=ink, width=2, joint="curve")


def _draw_axes(tile: Image.Image, lesion: Lesion, plane: _Plane) -> None:
    """Draw the two diameters, the scale and the sides."""
    for ends, ink in ((lesion.long_axis_mm, _LONG), (lesion.short_axis_mm, _SHORT)):
        _draw_lines(tile, [[plane.pixel(end) for end in ends]], ink)
    draw = ImageDraw.Draw(tile)
    _draw_scale(draw, plane.size_mm)
    small = ImageFont.load_default(13)
    draw.text((TILE / 2, 4), "A", fill=_INK, font=small, anchor="ma")
    draw.text((6, TILE / 2), "R", fill=_INK, font=small, anchor="lm")
    draw.text((TILE - 6, TILE / 2), "L", fill=_INK, font=small, anchor="rm")


def _draw_scale(draw: ImageDraw.ImageDraw, size_mm: float) -> None:
    """Draw a bar of 10 mm."""
    length = 10 * TILE / size_mm
    right, y = TILE - 12, TILE - 14
    draw.line([(right - length, y), (right, y)], fill=_INK, width=3)
    for x in (right - length, right):
        draw.line([(x, y - 4), (x, y + 4)], fill=_INK, width=2)
    font = ImageFont.load_default(13)
    draw.text((right - length / 2, y - 6), "10 mm", fill=_INK, font=font, anchor="mb")


def _draw_caption(
    draw: ImageDraw.ImageDraw,
    left: int,
    top: int,
    lesion: Lesion,
    colour: tuple[int, int, int],
) -> None:
    draw.rectangle([left, top + 10, left + 12, top + 22], fill=colour)
    draw.text(
        (left + 20, top + 6),
        f"Lesion {lesion.number}",
        fill=_INK,
        font=ImageFont.load_default(16),
    )
    size = (
        f"{lesion.longest_diameter_mm:.1f} x {lesion.perpendicular_diameter_mm:.1f} mm"
    )
    draw.text(
        (left + TILE, top + 6),
        f"{size}   {lesion.volume_ml:.2f} ml",
        fill=_INK,
        font=ImageFont.load_default(16),
        anchor="ra",
    )
    slices = "1 slice" if lesion.slice_count == 1 else f"{lesion.slice_count} slices"
    more = f"probability {lesion.probability:.2f}, {slices}"
    if lesion.warnings:
        more += ", " + ", ".join(lesion.warnings)
    draw.text((left + 20, top + 30), more, fill=_FAINT, font=ImageFont.load_default(13))


def _draw_header(draw: ImageDraw.ImageDraw, analysis: Analysis, shown: int) -> None:
    count = len(analysis.lesion_map.lesions)
    model = analysis.model
    title = f"{count} {'lesion' if count == 1 else 'lesions'} proposed, unverified"
    if shown < count:
        title += f" (the {shown} largest are shown)"
    draw.text((MARGIN, 10), title, fill=_INK, font=ImageFont.load_default(20))
    kind = "Demonstration model" if model.demonstration else "Model"
    draw.text(
        (MARGIN, 42),
        f"{RESEARCH_NOTICE}   {kind} {model.name} {model.version}.",
        fill=_LONG,
        font=ImageFont.load_default(14),
    )
