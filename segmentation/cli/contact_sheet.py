"""A picture of every lesion, for a quick look: contour, axes, scale and figures.

Each tile is a small neighbourhood of one lesion in the plane it was measured in, the
patient's left on the right, as radiologists hang it. No patient data and no face:
nothing but the crop is drawn, never larger than ``LARGEST_MM``. Every sheet says that
it is for research use. Pure; lengths in mm, points LPS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import map_coordinates
from skimage.measure import find_contours

from segmentation.diameters import axial_axis, is_nearly_axial
from segmentation.lesions import Lesion
from segmentation.models.predictor import Prediction
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

    def sample(self, array: NDArray[Any], affine: Points) -> NDArray[np.float32]:
        """Interpolate an image on the square, shape (TILE, TILE)."""
        steps = ((np.arange(TILE) + 0.5) / TILE - 0.5) * self.size_mm
        points = (
            self.centre_mm
            + steps[:, None, None] * self.down
            + steps[None, :, None] * self.right
        )
        inverse = np.linalg.inv(affine)
        indices = np.moveaxis(points @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
        # Only the neighbourhood is handed over: interpolation copies what it gets.
        low = np.maximum(np.floor(indices.min(axis=(1, 2))).astype(int) - 2, 0)
        high = np.ceil(indices.max(axis=(1, 2))).astype(int) + 3
        box = tuple(slice(a, max(a + 1, b)) for a, b in zip(low, high, strict=True))
        part = np.asarray(array[box], np.float32)
        if part.size == 0:
            return np.zeros((TILE, TILE), np.float32)
        shifted = indices - low[:, None, None]
        sampled: NDArray[np.float32] = map_coordinates(
            part, shifted, order=1, mode="constant", cval=0.0
        )
        return sampled

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
    crops = [plane.sample(volume.array, volume.affine) for plane in planes]
    window = _window(crops)
    for index, (lesion, plane, crop) in enumerate(
        zip(lesions, planes, crops, strict=True)
    ):
        row, column = divmod(index, columns)
        left = MARGIN + column * (TILE + MARGIN)
        top = HEADER + row * (TILE + CAPTION + MARGIN)
        tile = _draw_crop(crop, window)
        colour = analysis.identity.colours[lesion.number - 1]
        _draw_lesion(tile, lesion, plane, analysis.prediction, threshold, colour)
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


def _draw_lesion(
    tile: Image.Image,
    lesion: Lesion,
    plane: _Plane,
    prediction: Prediction,
    threshold: float,
    colour: tuple[int, int, int],
) -> None:
    draw = ImageDraw.Draw(tile)
    probability = prediction.probability
    field = plane.sample(probability.array, probability.affine)
    contours: Any = find_contours
    for contour in contours(field, threshold):
        _draw_line(draw, [(x, y) for y, x in contour], colour)
    for ends, ink in ((lesion.long_axis_mm, _LONG), (lesion.short_axis_mm, _SHORT)):
        _draw_line(draw, [plane.pixel(end) for end in ends], ink)
    _draw_scale(draw, plane.size_mm)
    small = ImageFont.load_default(13)
    draw.text((TILE / 2, 4), "A", fill=_INK, font=small, anchor="ma")
    draw.text((6, TILE / 2), "R", fill=_INK, font=small, anchor="lm")
    draw.text((TILE - 6, TILE / 2), "L", fill=_INK, font=small, anchor="rm")


def _draw_line(
    draw: ImageDraw.ImageDraw,
    points: list[tuple[float, float]],
    ink: tuple[int, int, int],
) -> None:
    """Draw a line with a dark edge, so that it shows on bright lesions too."""
    draw.line(points, fill=_PAPER, width=4, joint="curve")
    draw.line(points, fill=ink, width=2, joint="curve")


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
    more = f"probability {lesion.probability:.2f}, {lesion.slice_count} slices"
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
