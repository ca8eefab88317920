"""Longest and perpendicular diameter of one lesion in the patient's axial plane.

Pure functions, called by ``segmentation.lesions``; safe between threads. Coordinates
are LPS millimetres; arrays may have their axes in any order: the result does not hang
on how the grid is stored.

The contour is the level set of the probability (linear between voxel centres), not the
edge of the binarised mask: that is what keeps the bias on digitised spheres under
0.15 mm. The longest axis is the largest distance between two contour points of one
axial slice (maximum Feret diameter): like a reader's calliper it may cross a hole or a
concavity. The perpendicular axis is the largest distance between two contour points of
the same slice within 5 degrees of a right angle to the longest (at exactly 90 degrees
the answer jumps with the digitisation). Holes never count: no hole reaches further
than the contour around it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform
from skimage.measure import find_contours

NATIVE_TILT_DEG = 15.0
"""Planes of the grid tilted less than this against the patient's axial plane are
measured as they are (it costs at most 3.5 %); otherwise axial planes are resampled."""
PERPENDICULAR_TOLERANCE_DEG = 5.0
_TIE_MM = 1e-4
"""Lengths closer than this count as equal, so that rounding decides nothing."""
_CONTOUR_POINTS = 256
_HULL_WORTHWHILE = 48
"""From so many points on, a convex hull first is faster than all pairs."""

Array = NDArray[np.floating[Any]]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Axis:
    """A line between two points of a contour.

    Attributes
    ----------
    ends_mm : tuple
        The two end points, LPS millimetres, in ascending order.
    length_mm : float
        Their distance.
    """

    ends_mm: tuple[Point, Point]
    length_mm: float


def axial_axis(affine: Array) -> tuple[int, float]:
    """Find the planes of a grid that are nearest to the patient's axial plane.

    Parameters
    ----------
    affine : numpy.ndarray
        4 x 4, from indices to LPS millimetres.

    Returns
    -------
    axis : int
        Array axis that counts these planes.
    tilt_deg : float
        Their angle to the patient's axial plane.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    axis = int(np.argmax(np.abs(directions[2])))
    sine = float(np.hypot(*directions[:2, axis]))
    return axis, float(np.degrees(np.arcsin(min(sine, 1.0))))


def measure_axes(field: Array, affine: Array, level: float) -> tuple[Axis, Axis]:
    """Measure the lesion whose level set lies inside `field`.

    Parameters
    ----------
    field : numpy.ndarray
        float32, 3-D: probability in a box around one lesion, with a margin of at least
        one voxel below `level`; what belongs to other lesions is 0.
    affine : numpy.ndarray
        4 x 4, from indices of `field` to LPS millimetres.
    level : float
        Probability at which the contour runs; some voxel of `field` is above it.

    Returns
    -------
    longest, perpendicular : Axis
        In the axial slice where the lesion is longest.
    """
    axis, tilt_deg = axial_axis(affine)
    if tilt_deg > NATIVE_TILT_DEG + 1e-6:
        field, affine = _resample_axial(field, affine)
    else:
        order = [axis, *(other for other in range(3) if other != axis)]
        field, affine = field.transpose(order), affine[:, [*order, 3]]
    index, longest = _longest(field, affine, level)
    points_mm = _dense_contour(field[index], index, affine, level)
    return longest, _perpendicular(points_mm, longest)


def _resample_axial(field: Array, affine: Array) -> tuple[Array, Array]:
    """Interpolate `field` linearly on axes (slice, row, column) of the patient.

    The step is the finest voxel spacing, within 0.5 to 1 mm; the new voxels lie at
    multiples of it in LPS, so that the storage order of the source has no influence.
    """
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    step_mm = float(np.clip(spacing_mm.min(), 0.5, 1.0))
    corners = np.indices((2, 2, 2)).reshape(3, 8)
    corners = corners * (np.array(field.shape)[:, np.newaxis] - 1)
    corners_mm = affine[:3, :3] @ corners + affine[:3, 3:]
    first = np.floor(corners_mm.min(axis=1) / step_mm)
    last = np.ceil(corners_mm.max(axis=1) / step_mm)
    axial = np.zeros((4, 4))
    axial[[2, 1, 0], [0, 1, 2]] = step_mm
    axial[:, 3] = [*(first * step_mm), 1.0]
    shape = tuple((last - first + 1).astype(int)[::-1])
    to_source = np.linalg.inv(affine) @ axial
    where = to_source[:3, :3] @ np.indices(shape).reshape(3, -1) + to_source[:3, 3:]
    values = map_coordinates(field, where, order=1, mode="constant", cval=0.0)
    return values.reshape(shape), axial


def _longest(field: Array, affine: Array, level: float) -> tuple[int, Axis]:
    """Find the slice (axis 0) with the largest distance between contour points."""
    indices = _crossings(field, level)
    points_mm = _to_mm(indices, affine)
    of_slice = indices[:, 0].astype(int)
    groups = {int(k): points_mm[of_slice == k] for k in np.unique(of_slice)}
    # The diagonal of its box bounds what a slice can hold: most need no closer look.
    bound_mm = {
        k: float(np.linalg.norm(np.ptp(indices[of_slice == k] @ _in_plane(affine), 0)))
        for k in groups
    }
    found: list[tuple[int, Axis]] = []
    best_mm = 0.0
    for k in sorted(groups, key=lambda k: -bound_mm[k]):
        if bound_mm[k] < best_mm - _TIE_MM:
            break
        axis = _farthest(groups[k], _in_plane(affine), indices[of_slice == k])
        best_mm = max(best_mm, axis.length_mm)
        found.append((k, axis))
    equal = [one for one in found if one[1].length_mm >= best_mm - _TIE_MM]
    return min(equal, key=lambda one: _order(one[1].ends_mm))


def _crossings(field: Array, level: float) -> Array:
    """Return where the contours of all slices cross the grid, as indices (n x 3)."""
    inside = field > level
    found = []
    for axis in (1, 2):
        low, high = _neighbours(field, axis)
        low_inside, high_inside = _neighbours(inside, axis)
        where = np.nonzero(low_inside != high_inside)
        before, after = low[where].astype(float), high[where].astype(float)
        points = np.stack(where, axis=1).astype(float)
        points[:, axis] += (level - before) / (after - before)
        found.append(points)
    return np.concatenate(found)


def _neighbours(values: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return `values` without its last and without its first layer along `axis`."""
    count = values.shape[axis]
    return (
        np.take(values, range(count - 1), axis),
        np.take(values, range(1, count), axis),
    )


def _in_plane(affine: Array) -> Array:
    """Return the matrix (3 x 2) from indices to millimetres within a slice."""
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    return np.array([[0.0, 0.0], [spacing_mm[1], 0.0], [0.0, spacing_mm[2]]])


def _to_mm(indices: Array, affine: Array) -> Array:
    return indices @ affine[:3, :3].T + affine[:3, 3]


def _farthest(points_mm: Array, in_plane: Array, indices: Array) -> Axis:
    """Return the two points that are farthest apart."""
    if len(points_mm) > _HULL_WORTHWHILE:
        # "QJ" lets collinear points pass too; the hull only chooses candidates.
        points_mm = points_mm[ConvexHull(indices @ in_plane, "QJ").vertices]
    distances = squareform(pdist(points_mm))
    ties = np.argwhere(np.triu(distances) >= distances.max() - _TIE_MM)
    return _first_axis(points_mm[a] for a in ties)


def _dense_contour(plane: Array, index: int, affine: Array, level: float) -> Array:
    """Return points (n x 3, LPS mm) close together on all contours of one slice."""
    starts, steps = [], []
    for contour in find_contours(plane, level):
        starts.append(contour[:-1])
        steps.append(np.diff(contour, axis=0))
    start, step = np.concatenate(starts), np.concatenate(steps)
    lengths_mm = np.linalg.norm(step @ affine[:3, 1:3].T, axis=1)
    pieces = np.maximum(np.ceil(lengths_mm / lengths_mm.sum() * _CONTOUR_POINTS), 1)
    pieces = pieces.astype(int)
    fraction = np.concatenate([np.arange(n) / n for n in pieces])[:, np.newaxis]
    points = np.repeat(start, pieces, 0) + fraction * np.repeat(step, pieces, 0)
    return _to_mm(np.insert(points, 0, index, axis=1), affine)


def _perpendicular(points_mm: Array, longest: Axis) -> Axis:
    """Return the longest line between points nearly at right angles to `longest`."""
    direction = np.subtract(*longest.ends_mm) / longest.length_mm
    along = points_mm @ direction
    distances = squareform(pdist(points_mm))
    limit = np.sin(np.radians(PERPENDICULAR_TOLERANCE_DEG))
    skew = np.abs(along[:, np.newaxis] - along) > limit * distances + 1e-9
    distances[skew] = 0.0
    ties = np.argwhere(np.triu(distances) >= distances.max() - _TIE_MM)
    return _first_axis(points_mm[a] for a in ties)


def _first_axis(pairs: Iterable[Array]) -> Axis:
    """Make an axis of the pair that comes first in LPS, whatever the storage order."""
    candidates = [
        (tuple(sorted(tuple(map(float, end)) for end in pair))) for pair in pairs
    ]
    ends = min(candidates, key=_order)  # type: ignore[arg-type]
    return Axis(ends, float(np.linalg.norm(np.subtract(*ends))))  # type: ignore[arg-type]


def _order(ends: tuple[Point, Point]) -> tuple[float, ...]:
    return tuple(round(value, 3) for end in ends for value in end)
