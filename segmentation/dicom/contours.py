"""Outlines of a mask on the planes of a grid, and the mask inside outlines.

``outline`` and ``fill`` are inverse: filling what was outlined gives the same mask,
voxel for voxel, with holes and with several parts on a slice. Outlines run half-way
between voxel centres (marching squares at 0.5). A part with holes is one polygon: a
channel without width joins each hole to the outer outline ("keyhole", the only way to
draw a hole that DICOM PS3.3 C.8.8.6.3 knows for CLOSED_PLANAR). Pure; called by
``segmentation.dicom.rtstruct`` and ``segmentation.dicom.imports``. All coordinates are
array indices (row, column), pixel centres at whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours, grid_points_in_poly

Points = NDArray[np.float64]
"""Corners of a polygon, n x 2 (row, column); the last joins the first."""
Mask = NDArray[np.bool_]

_SNAP_DECIMALS = 3
"""Corners are snapped to a thousandth of a pixel, so that an outline drawn through
pixel centres runs through them exactly, whatever the rounding of its millimetres."""
_FLAT = 1e-9


def outline(mask: Mask) -> list[Points]:
    """Draw a mask as polygons, one a part, holes joined by a channel.

    Parameters
    ----------
    mask : numpy.ndarray
        bool, axes (row, column).

    Returns
    -------
    list of numpy.ndarray
        One polygon a part (pixels that share an edge), in order of the first pixel;
        corners lie half-way between pixel centres, and beyond the border of the mask
        by half a pixel at most.
    """
    # A frame of background closes outlines that would run along the border.
    field = np.pad(mask, 1).astype(np.float64)
    loops = find_contours(field, 0.5)  # type: ignore[no-untyped-call]
    closed = [_without_flat_corners(loop[:-1] - 1.0) for loop in loops]
    outer = [loop for loop in closed if _signed_area(loop) < 0]
    holes = [loop for loop in closed if _signed_area(loop) > 0]
    parts: list[tuple[Points, list[Points]]] = [(loop, []) for loop in outer]
    for hole in holes:
        # The innermost part around the hole: a part may lie in another one's hole.
        around = [part for part in parts if _encloses(part[0], hole)]
        min(around, key=lambda part: abs(_signed_area(part[0])))[1].append(hole)
    return [_keyhole(loop, inside) for loop, inside in parts]


def fill(
    polygons: Sequence[Points], shape: tuple[int, int], *, exclusive: bool = False
) -> Mask:
    """Mark the pixels inside the polygons of one structure on one slice.

    A pixel belongs to a polygon whose inside or border holds its centre. A polygon that
    lies wholly within what is already filled is a hole; any other adds to it. So are
    holes read whether they are drawn by a channel or as polygons of their own.

    Parameters
    ----------
    polygons : Sequence of numpy.ndarray
        Corners, n x 2 (row, column), in any order and direction.
    shape : tuple of int
        Rows and columns of the slice.
    exclusive : bool
        Combine by exclusive or (CLOSEDPLANAR_XOR), whatever lies within what.

    Returns
    -------
    numpy.ndarray
        bool, axes (row, column).
    """
    snapped = [np.round(points, _SNAP_DECIMALS) for points in polygons]
    snapped.sort(key=lambda points: -abs(_signed_area(points)))
    filled = np.zeros(shape, dtype=bool)
    seen: list[Points] = []
    for points in snapped:
        if any(np.array_equal(points, other) for other in seen):
            continue  # the same outline twice is no hole of itself
        seen.append(points)
        box, inside, with_border = _inside(points, shape)
        if not with_border.any():
            continue
        if exclusive:
            filled[box] ^= inside
        elif filled[box][with_border].all():
            filled[box] &= ~inside
        else:
            filled[box] |= with_border
    return filled


def _inside(
    points: Points, shape: tuple[int, int]
) -> tuple[tuple[slice, slice], Mask, Mask]:
    """Return a box, and in it the pixels within a polygon and those on its border too.

    Of an outline drawn through pixel centres (OpenCV), the pixels on it belong to it;
    of a hole drawn so, they do not.
    """
    low = np.clip(np.floor(points.min(axis=0)).astype(int), 0, shape)
    high = np.clip(np.ceil(points.max(axis=0)).astype(int) + 1, 0, shape)
    size = np.maximum(high - low, 0)
    box = (slice(low[0], low[0] + size[0]), slice(low[1], low[1] + size[1]))
    if not size.all() or len(points) < 3:
        nothing = np.zeros(size, dtype=bool)
        return box, nothing, nothing
    # 0 outside, 1 inside, 2 on a corner, 3 on an edge
    kinds = grid_points_in_poly(  # type: ignore[no-untyped-call]
        tuple(size), points - low, binarize=False
    )
    return box, kinds == 1, kinds > 0


def _signed_area(points: Points) -> float:
    """Return the area by the shoelace formula; its sign is the direction of turning."""
    rows, columns = (points - points[0]).T if len(points) else np.zeros((2, 0))
    return (
        float(np.dot(rows, np.roll(columns, -1)) - np.dot(columns, np.roll(rows, -1)))
        / 2.0
    )


def _without_flat_corners(points: Points) -> Points:
    """Leave out corners on a straight line between their neighbours."""
    before = points - np.roll(points, 1, axis=0)
    after = np.roll(points, -1, axis=0) - points
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return points[np.abs(turn) > _FLAT]


def _encloses(outer: Points, hole: Points) -> bool:
    # Level lines never touch each other, so any one corner tells.
    inside = grid_points_in_poly(  # type: ignore[no-untyped-call]
        (1, 1), outer - hole[0]
    )
    return bool(inside[0, 0])


def _keyhole(outer: Points, holes: Sequence[Points]) -> Points:
    """Join holes to their outer outline, the nearest first."""
    joined, left = outer, list(holes)
    while left:
        bridges = [_nearest_corners(joined, hole) for hole in left]
        k = int(np.argmin([distance for distance, _, _ in bridges]))
        _, i, j = bridges[k]
        hole = np.roll(left.pop(k), -j, axis=0)
        joined = np.concatenate(
            [joined[: i + 1], hole, hole[:1], joined[i : i + 1], joined[i + 1 :]]
        )
    return joined


def _nearest_corners(one: Points, other: Points) -> tuple[float, int, int]:
    """Return the least distance between corners, and which these are."""
    difference: NDArray[Any] = one[:, np.newaxis] - other
    squares = np.einsum("ijk,ijk->ij", difference, difference)
    i, j = np.unravel_index(int(squares.argmin()), squares.shape)
    return float(squares[i, j]), int(i), int(j)
