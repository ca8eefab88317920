"""Key images of a report: the slice of a lesion with its outline and its two axes.

A crop of the source image around the lesion as it is stored (the way a viewer shows
it), windowed by its own values, and lines in the crop's coordinates for the page to
draw. Only the crop leaves: no header of the image, no burned-in text of ours, and no
face. Pure: DICOM datasets in, arrays out. Lengths mm, points LPS; crop coordinates from
0 to 1, x to the right and y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy.ndimage import map_coordinates
from skimage.measure import find_contours

from errors import MetiaError
from orthanc.frames import Frame, read_frames
from orthanc.pixels import decode, read_formats
from segmentation.diameters import is_nearly_axial

Array = NDArray[Any]
Line = tuple[tuple[float, float], ...]
Axis = tuple[tuple[float, float, float], tuple[float, float, float]]

TILE = 300
"""Pixels of a crop's edge."""
SMALLEST_MM, LARGEST_MM = 40.0, 90.0
_DARKEST, _BRIGHTEST = 1.0, 99.7
_SAME_PLANE_MM = 0.6
_MOST_POINTS = 240


@dataclass(frozen=True)
class KeyImage:
    """A crop and what is drawn over it.

    Attributes
    ----------
    label : str
        Of the lesion.
    grey : ndarray of uint8, shape (TILE, TILE)
    outlines : tuple of Line
        Of this lesion; empty where the slice holds none of it.
    long_axis, short_axis : Line
        Two ends each.
    scale : float
        Length of 10 mm.
    sides : tuple of str
        Letters of the patient's directions at left, right, top and bottom.
    tilted : bool
        Whether the axes lie out of the slice and are drawn as projections.
    """

    label: str
    colour: tuple[int, int, int]
    grey: NDArray[np.uint8]
    outlines: tuple[Line, ...]
    long_axis: Line
    short_axis: Line
    scale: float
    sides: tuple[str, str, str, str]
    tilted: bool


@dataclass(frozen=True)
class Slice:
    """One image of the source, with its place."""

    pixels: Array
    frame: Frame

    @property
    def row(self) -> Array:
        """Direction of a row (towards higher columns), LPS."""
        return np.asarray(self.frame.orientation[:3], float)

    @property
    def column(self) -> Array:
        """Direction of a column (towards higher rows), LPS."""
        return np.asarray(self.frame.orientation[3:], float)

    @property
    def origin(self) -> Array:
        """Centre of the first pixel, LPS mm."""
        return np.asarray(self.frame.position_mm, float)


def read_slice(instance: Dataset, frame_number: int | None) -> Slice:
    """Read one image.

    Raises
    ------
    MetiaError
        The ``volume-*`` codes; ``not-found`` where there is no such frame.
    """
    formats = read_formats([instance])
    frames = read_frames([instance], formats)
    index = (frame_number or 1) - 1
    if not 0 <= index < len(frames):
        raise MetiaError("not-found", "The image has no such frame.")
    return Slice(decode(instance, formats[0])[index], frames[index])


class SegmentOutlines:
    """The voxels of a SEG, from which outlines on a slice are made.

    Parameters
    ----------
    segmentation : pydicom.Dataset
        BINARY or FRACTIONAL; decoded once.
    """

    def __init__(self, segmentation: Dataset) -> None:
        pixels = segmentation.pixel_array
        self._pixels = pixels.reshape(-1, *pixels.shape[-2:])
        self._full = float(segmentation.get("MaximumFractionalValue", 1))
        shared = segmentation.SharedFunctionalGroupsSequence[0]
        self._frames = [
            _seg_frame(frame, shared)
            for frame in segmentation.PerFrameFunctionalGroupsSequence
        ]

    def sample(self, segment: int, points_mm: Array, normal: Array) -> Array:
        """Give how much of a segment is at points of a plane, 0 to 1.

        Parameters
        ----------
        points_mm : ndarray, shape (..., 3)
        normal : ndarray, shape (3,)
            Of the plane.
        """
        found = np.zeros(points_mm.shape[:-1])
        here = points_mm.reshape(-1, 3)[0]
        for index, (number, origin, row, column, spacing) in enumerate(self._frames):
            if number != segment or abs((origin - here) @ normal) > _SAME_PLANE_MM:
                continue
            offset = points_mm - origin
            where = np.stack([offset @ column / spacing[0], offset @ row / spacing[1]])
            plane = np.asarray(self._pixels[index], float) / self._full
            found = np.maximum(found, map_coordinates(plane, where, order=1))
        return found


def _seg_frame(
    frame: Dataset, shared: Dataset
) -> tuple[int, Array, Array, Array, Array]:
    def macro(keyword: str) -> Dataset:
        item: Dataset = (frame if keyword in frame else shared)[keyword].value[0]
        return item

    cosines = np.asarray(
        macro("PlaneOrientationSequence").ImageOrientationPatient, float
    )
    identification = macro("SegmentIdentificationSequence")
    return (
        int(identification.ReferencedSegmentNumber),
        np.asarray(macro("PlanePositionSequence").ImagePositionPatient, float),
        cosines[:3],
        cosines[3:],
        np.asarray(macro("PixelMeasuresSequence").PixelSpacing, float),
    )


def key_image(
    label: str,
    colour: tuple[int, int, int],
    image: Slice,
    outlines: SegmentOutlines | None,
    segment: int,
    axes: tuple[Axis, Axis],
) -> KeyImage:
    """Make the key image of a lesion.

    Parameters
    ----------
    segment : int
        Number of the lesion's segment in the SEG.
    axes : tuple of Axis
        The longest diameter and the perpendicular one.
    """
    long_axis, short_axis = (np.asarray(axis, float) for axis in axes)
    length_mm = float(np.linalg.norm(long_axis[1] - long_axis[0]))
    size_mm = min(max(2.4 * length_mm, SMALLEST_MM), LARGEST_MM)
    normal = np.cross(image.row, image.column)
    centre = long_axis.mean(axis=0)
    centre = centre - ((centre - image.origin) @ normal) * normal
    steps = ((np.arange(TILE) + 0.5) / TILE - 0.5) * size_mm
    points = (
        centre + steps[:, None, None] * image.column + steps[None, :, None] * image.row
    )

    def project(ends: Array) -> Line:
        offset = ends - centre
        across, down = offset @ image.row, offset @ image.column
        return tuple(
            (float(x / size_mm + 0.5), float(y / size_mm + 0.5))
            for x, y in zip(across, down, strict=True)
        )

    return KeyImage(
        label=label,
        colour=colour,
        grey=_grey(image, points),
        outlines=_contours(outlines.sample(segment, points, normal))
        if outlines
        else (),
        long_axis=project(long_axis),
        short_axis=project(short_axis),
        scale=10.0 / size_mm,
        sides=(
            _letter(-image.row),
            _letter(image.row),
            _letter(-image.column),
            _letter(image.column),
        ),
        tilted=not is_nearly_axial(_tilt_deg(normal)),
    )


def _grey(image: Slice, points: Array) -> NDArray[np.uint8]:
    spacing = image.frame.spacing_mm
    offset = points - image.origin
    where = np.stack(
        [offset @ image.column / spacing[0], offset @ image.row / spacing[1]]
    )
    crop = map_coordinates(np.asarray(image.pixels, np.float32), where, order=1)
    last = np.asarray(image.pixels.shape)[:, None, None] - 0.5
    outside = ((where < -0.5) | (where > last)).any(axis=0)
    inside = crop[~outside]
    if inside.size == 0:
        return np.zeros(crop.shape, np.uint8)
    low, high = np.percentile(inside, (_DARKEST, _BRIGHTEST))
    scaled = (crop - low) / max(float(high - low), 1e-6) * 255
    scaled[outside] = 0
    grey: NDArray[np.uint8] = np.clip(scaled, 0, 255).astype(np.uint8)
    return grey


def _contours(field: Array) -> tuple[Line, ...]:
    """Give the outlines of what is more than half inside, in crop coordinates."""
    find: Any = find_contours
    lines = []
    for contour in find(np.pad(field, 1), 0.5):
        thinned = contour[:: max(1, len(contour) // _MOST_POINTS)]
        closed = np.vstack([thinned, contour[-1:]])
        lines.append(
            tuple((float((x - 0.5) / TILE), float((y - 0.5) / TILE)) for y, x in closed)
        )
    return tuple(lines)


def _letter(direction: Array) -> str:
    """Name the direction of the patient that comes nearest (LPS)."""
    axis = int(np.argmax(np.abs(direction)))
    return ("LR", "PA", "HF")[axis][int(direction[axis] < 0)]


def _tilt_deg(normal: Array) -> float:
    return float(np.degrees(np.arccos(min(1.0, abs(float(normal[2]))))))
