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
than the contour around it. The 3-D diameter is the largest distance between two points
of the surface, in any direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist, squareform
from skimage.measure import find_contours

NATIVE_TILT_DEG = 15.0
"""Planes of the grid tilted less than this against the patient's axial plane are
measured as they are (it costs at most 3.5 %); otherwise axial planes are resampled."""
PERPENDICULAR_TOLERANCE_DEG = 5.0
_RESAMPLED_VOXELS = 60_000
_NO_WIDTH_MM = 1e-3
_TIE_MM = 1e-4
"""Lengths closer than this count as equal, so that rounding decides nothing."""
_CONTOUR_POINTS = 128
"""So many points on a contour make a chord exact to 0.02 % of its length."""
_MOST_POINTS = 2000
"""Of a contour with more points (noise) only every n-th is used."""

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
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing_mm
    # Of two that are equally axial the coarser, so that the storage order has no say.
    keys = np.round([abs(directions[2]), spacing_mm, abs(directions[0])], 6).T.tolist()
    axis = max(range(3), key=keys.__getitem__)
    sine = float(np.hypot(*directions[:2, axis]))
    return axis, float(np.degrees(np.arcsin(min(sine, 1.0))))


def is_nearly_axial(tilt_deg: float) -> bool:
    """Tell whether planes of this tilt are measured as they are."""
    return tilt_deg <= NATIVE_TILT_DEG + 1e-6


def measure_axes(field: Array, affine: Array, level: float) -> tuple[Axis, Axis]:
    """Measure the lesion whose level set lies inside `field`.

    Parameters
    ----------
    field : numpy.ndarray
        float32, 3-D: probability in a box around one lesion, with a margin of two
        voxels below `level`; what belongs to other lesions is 0.
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
    order = [axis, *(other for other in range(3) if other != axis)]
    planes, of_planes = field.transpose(order), affine[:, [*order, 3]]
    if not is_nearly_axial(tilt_deg):
        resampled, of_resampled = _resample_axial(field, affine)
        # What is thinner than the samples lie apart may fall between them.
        if resampled.max() > level:
            planes, of_planes = resampled, of_resampled
    index, longest = _longest(planes, of_planes, level)
    if longest.length_mm < _NO_WIDTH_MM:
        return longest, longest
    points_mm = _dense_contour(planes[index], index, of_planes, level)
    perpendicular = _perpendicular(points_mm, longest)
    # Of two equals the shorter by rounding may have been taken as the longest.
    if perpendicular.length_mm > longest.length_mm:
        longest, perpendicular = perpendicular, longest
    return longest, perpendicular


def _resample_axial(field: Array, affine: Array) -> tuple[Array, Array]:
    """Interpolate `field` linearly on axes (slice, row, column) of the patient.

    The step gives a small lesion many samples and is at most 1 mm; the new voxels lie
    at multiples of it in LPS, so that the storage order of the source has no influence.
    """
    corners = np.indices((2, 2, 2)).reshape(3, 8)
    corners = corners * (np.array(field.shape)[:, np.newaxis] - 1)
    corners_mm = affine[:3, :3] @ corners + affine[:3, 3:]
    low_mm, high_mm = corners_mm.min(axis=1), corners_mm.max(axis=1)
    finest_mm = np.linalg.norm(affine[:3, :3], axis=0).min()
    wanted_mm = np.cbrt(np.prod(high_mm - low_mm) / _RESAMPLED_VOXELS)
    step_mm = float(np.clip(wanted_mm.round(2), min(finest_mm / 4, 1.0), 1.0))
    first, last = np.floor(low_mm / step_mm), np.ceil(high_mm / step_mm)
    axial = np.zeros((4, 4))
    axial[[2, 1, 0], [0, 1, 2]] = step_mm
    axial[:, 3] = [*(first * step_mm), 1.0]
    shape = tuple((last - first + 1).astype(int)[::-1])
    to_source = np.linalg.inv(affine) @ axial
    where = to_source[:3, :3] @ np.indices(shape).reshape(3, -1) + to_source[:3, 3:]
    values = map_coordinates(field, where, order=1, mode="grid-constant", cval=0.0)
    return values.reshape(shape), axial


def measure_extent(field: Array, affine: Array, level: float) -> Axis:
    """Measure the 3-D diameter of the lesion whose level set lies inside `field`.

    Parameters are those of ``measure_axes``.

    Returns
    -------
    Axis
        Largest distance between two points at which the surface crosses a line of the
        grid; at most 0.06 % short for surfaces of very many points.
    """
    points_mm = _to_mm(_crossings(field, level, (0, 1, 2)), affine)
    try:
        # The two ends are corners of the convex hull.
        points_mm = points_mm[ConvexHull(points_mm).vertices]
    except QhullError:  # flat, or a point: there is no body to go round
        points_mm = np.unique(points_mm, axis=0)
    if len(points_mm) > _MOST_POINTS:
        reach = _DIRECTIONS @ points_mm.T
        ends = np.concatenate([reach.argmin(axis=1), reach.argmax(axis=1)])
        points_mm = points_mm[np.unique(ends)]
    return _farthest(points_mm)


def _half_sphere(count: int) -> Array:
    """Return unit vectors (n x 3), evenly spread over half a sphere."""
    height = (np.arange(count) + 0.5) / count
    turn = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(count)
    width = np.sqrt(1.0 - height**2)
    return np.stack([np.cos(turn) * width, np.sin(turn) * width, height], axis=1)


_DIRECTIONS = _half_sphere(2000)
"""No direction is further than 2 degrees from one of these."""


def _longest(field: Array, affine: Array, level: float) -> tuple[int, Axis]:
    """Find the slice (axis 0) with the largest distance between contour points."""
    indices = _crossings(field, level, (1, 2))
    indices = indices[np.argsort(indices[:, 0], kind="stable")]
    slices, starts = np.unique(indices[:, 0], return_index=True)
    groups = np.split(_to_mm(indices, affine), starts[1:])
    # Twice the radius of a circle around them bounds the distance of any two points:
    # most slices need no closer look.
    bounds_mm = [2.0 * _from_middle(group).max() for group in groups]
    found: list[tuple[int, Axis]] = []
    best_mm = 0.0
    for k in np.argsort(bounds_mm)[::-1]:
        if bounds_mm[k] < best_mm - _TIE_MM:
            break
        axis = _farthest(groups[k])
        best_mm = max(best_mm, axis.length_mm)
        found.append((int(slices[k]), axis))
    equal = [one for one in found if one[1].length_mm >= best_mm - _TIE_MM]
    return min(equal, key=lambda one: _order(one[1].ends_mm))


def _crossings(field: Array, level: float, axes: tuple[int, ...]) -> Array:
    """Return where the level set crosses the grid lines along `axes` (n x 3 indices).

    Along axes 1 and 2 these are the points of the contours of all slices.
    """
    inside = field > level
    found = []
    for axis in axes:
        before, after = [slice(None)] * 3, [slice(None)] * 3
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        low_side, high_side = tuple(before), tuple(after)
        where = np.nonzero(inside[low_side] != inside[high_side])
        low, high = field[low_side][where], field[high_side][where]
        points = np.stack(where, axis=1).astype(float)
        points[:, axis] += (level - low.astype(float)) / (high.astype(float) - low)
        found.append(points)
    return np.concatenate(found)


def _to_mm(indices: Array, affine: Array) -> Array:
    return indices @ affine[:3, :3].T + affine[:3, 3]


def _from_middle(points_mm: Array) -> Array:
    """Return the distance of each point from the middle of the points' box."""
    middle = (points_mm.min(axis=0) + points_mm.max(axis=0)) / 2.0
    return _norms(points_mm - middle)


def _norms(vectors: Array) -> Array:
    lengths: Array = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return lengths


def _farthest(points_mm: Array) -> Axis:
    """Return the two points that are farthest apart."""
    radii = _from_middle(points_mm)
    reached_mm = _norms(points_mm - points_mm[np.argmax(radii)]).max()
    # A point nearer to the middle than this is less than `reached_mm` from all others.
    near_edge = radii >= reached_mm - radii.max() - _TIE_MM
    points_mm = points_mm[near_edge]
    distances = squareform(pdist(points_mm))
    return _first_axis(points_mm, distances)


def _dense_contour(plane: Array, index: int, affine: Array, level: float) -> Array:
    """Return points (n x 3, LPS mm) close together on all contours of one slice."""
    contours = find_contours(plane, level)  # type: ignore[no-untyped-call]
    start = np.concatenate([contour[:-1] for contour in contours])
    step = np.concatenate([np.diff(contour, axis=0) for contour in contours])
    lengths_mm = _norms(step @ affine[:3, 1:3].T)
    pieces = np.ceil(lengths_mm / lengths_mm.sum() * _CONTOUR_POINTS).astype(int)
    pieces = np.maximum(pieces, 1)
    fraction = np.concatenate([np.arange(n) / n for n in pieces])[:, np.newaxis]
    points = np.repeat(start, pieces, 0) + fraction * np.repeat(step, pieces, 0)
    points = points[:: len(points) // _MOST_POINTS + 1]
    return _to_mm(np.insert(points, 0, index, axis=1), affine)


def _perpendicular(points_mm: Array, longest: Axis) -> Axis:
    """Return the longest line between points nearly at right angles to `longest`."""
    direction = np.subtract(*longest.ends_mm) / longest.length_mm
    along = points_mm @ direction
    distances = squareform(pdist(points_mm))
    limit = np.sin(np.radians(PERPENDICULAR_TOLERANCE_DEG))
    skew = np.abs(along[:, np.newaxis] - along) > limit * distances
    distances[skew] = 0.0
    return _first_axis(points_mm, distances)


def _first_axis(points_mm: Array, distances: Array) -> Axis:
    """Return the longest pair; among equals the first in LPS, however it is stored."""
    ties = np.argwhere(np.triu(distances) >= distances.max() - _TIE_MM)
    pairs = [tuple(sorted(map(_point, points_mm[pair]))) for pair in ties]
    first, second = min(pairs, key=_order)
    return Axis((first, second), float(np.linalg.norm(np.subtract(first, second))))


def _point(values: Array) -> Point:
    x, y, z = map(float, values)
    return x, y, z


def _order(ends: tuple[Point, ...]) -> tuple[float, ...]:
    return tuple(round(value, 3) for end in ends for value in end)
