"""Positions of slices to one regular grid, or a coded refusal.

Slices are ordered by their distance along the normal of the image plane, never by
instance number. Every tolerance is a constant here and is stated in
``docs/conformance.md``. Pure numpy; lengths in mm, LPS; axes (slice, row, column).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import MetiaError
from orthanc.frames import Frame

FloatArray = NDArray[np.float64]

MINIMUM_SLICES = 3
"""With two slices every distance looks regular; three show a gap."""
POSITION_TOLERANCE_MM = 0.1
"""A slice may lie this far off its place in the regular grid, along the normal ..."""
POSITION_TOLERANCE_FRACTION = 0.1
"""... and at most this fraction of the distance between slices."""
DRIFT_TOLERANCE_MM = 0.25
"""A slice may be shifted this far within its plane against the first one (tilt)."""
ORIENTATION_TOLERANCE = 5e-4
"""Direction cosines of one series may differ this much (0.03 degrees)."""
COSINE_TOLERANCE = 1e-3
"""Directions may be this far from unit length and from right angles (rounding)."""
SPACING_TOLERANCE_FRACTION = 1e-3
"""Pixel spacings of one series may differ by this fraction."""
PIXEL_SPACING_LIMITS_MM = (0.1, 10.0)
SLICE_DISTANCE_LIMITS_MM = (0.1, 15.0)
EXTENT_LIMIT_MM = 600.0
"""Longer than any head coil's field of view."""


@dataclass(frozen=True)
class Grid:
    """A regular grid and the frames that lie on it.

    Attributes
    ----------
    order : tuple of int
        Indices of the frames given, one per index of axis 0.
    position_mm : ndarray of shape (3,)
        Centre of voxel (0, 0, 0), LPS.
    direction : ndarray of shape (3, 3)
        Columns are unit vectors along increasing slice, row and column index.
    spacing_mm : tuple of 3 float
        Distance between slices, rows and columns.
    jitter_mm : float
        Largest distance of a slice off its place along the normal.
    drift_mm : float
        Largest shift of a slice within its plane.
    tilt_deg : float
        Angle that the drift over the whole stack amounts to.
    """

    order: tuple[int, ...]
    position_mm: FloatArray
    direction: FloatArray
    spacing_mm: tuple[float, float, float]
    jitter_mm: float
    drift_mm: float
    tilt_deg: float


def check_uniform(frames: Sequence[Frame]) -> FloatArray:
    """Refuse frames that differ in size, orientation or pixel spacing.

    Returns
    -------
    ndarray of shape (3, 3)
        Direction matrix of the common grid, right-handed and orthonormal.
    """
    _refuse_odd([(frame.rows, frame.columns) for frame in frames], 0.0, "size")
    _refuse_odd(
        [frame.orientation for frame in frames], ORIENTATION_TOLERANCE, "orientation"
    )
    spacings = [frame.spacing_mm for frame in frames]
    low, high = PIXEL_SPACING_LIMITS_MM
    if not all(low <= value <= high for pair in spacings for value in pair):
        raise MetiaError(
            "volume-absurd-geometry",
            f"The pixel spacing is not between {low:g} and {high:g} mm.",
        )
    _refuse_odd(spacings, SPACING_TOLERANCE_FRACTION * min(spacings[0]),
                "pixel spacing")  # fmt: skip
    return _direction(frames[0].orientation)


def _refuse_odd(values: Sequence[Sequence[float]], tolerance: float, what: str) -> None:
    """Refuse where not all `values` equal the commonest within `tolerance`."""
    array = np.asarray(values, dtype=np.float64)
    spread = np.ptp(array, axis=0)
    if np.all(spread <= tolerance):
        return
    commonest = Counter(map(tuple, np.round(array, 3).tolist())).most_common(1)[0][0]
    odd = np.any(np.abs(array - commonest) > max(tolerance, 1e-3), axis=1)
    raise MetiaError(
        "volume-mixed-geometry",
        f"{max(1, int(odd.sum()))} of {len(array)} images differ in {what}.",
    )


def _direction(orientation: Sequence[float]) -> FloatArray:
    along_row = np.array(orientation[:3])
    down_column = np.array(orientation[3:])
    lengths = np.linalg.norm([along_row, down_column], axis=1)
    if np.any(np.abs(lengths - 1.0) > COSINE_TOLERANCE) or (
        abs(float(along_row @ down_column)) > COSINE_TOLERANCE
    ):
        raise MetiaError(
            "volume-absurd-geometry",
            "The directions of rows and columns are not perpendicular unit vectors.",
        )
    along_row = along_row / lengths[0]
    down_column = down_column - (down_column @ along_row) * along_row
    down_column = down_column / np.linalg.norm(down_column)
    return np.stack(
        [np.cross(down_column, along_row), down_column, along_row], axis=1
    )  # the normal makes (slice, row, column) right-handed, as in highdicom


def same_place(frames: Sequence[Frame], normal: FloatArray) -> list[list[int]]:
    """Group the indices of frames that lie at the same distance, in order along it."""
    distances = np.array([frame.position_mm for frame in frames]) @ normal
    groups: list[list[int]] = []
    for index in np.argsort(distances, kind="stable").tolist():
        near = groups and distances[index] - distances[groups[-1][0]] < 1e-3
        if near:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def fit_grid(frames: Sequence[Frame], order: Sequence[int]) -> Grid:
    """Fit the regular grid through frames of one size, orientation and spacing.

    Parameters
    ----------
    frames : sequence of Frame
    order : sequence of int
        Indices into `frames` in ascending distance, one per place.

    Raises
    ------
    MetiaError
        ``volume-single-slice``, ``volume-missing-slice``, ``volume-mixed-geometry``,
        ``volume-sheared`` or ``volume-absurd-geometry``.
    """
    if len(order) < MINIMUM_SLICES:
        raise MetiaError(
            "volume-single-slice",
            f"{len(order)} slices; at least {MINIMUM_SLICES} are needed.",
        )
    direction = _direction(frames[0].orientation)
    normal = direction[:, 0]
    positions = np.array([frames[index].position_mm for index in order])
    distances = (positions - positions[0]) @ normal
    spacing = float(distances[-1]) / (len(order) - 1)
    tolerance = min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_FRACTION * spacing)
    regular = np.arange(len(order)) * spacing
    jitter = float(np.abs(distances - regular).max())
    if jitter > tolerance:
        _refuse_gaps(distances, tolerance)
    drift_vectors = positions - positions[0] - distances[:, None] * normal
    drift = float(np.linalg.norm(drift_vectors, axis=1).max())
    tilt = float(np.degrees(np.arctan2(drift, distances[-1])))
    if drift > DRIFT_TOLERANCE_MM:
        raise MetiaError(
            "volume-sheared",
            f"The slices are shifted by up to {drift:.2f} mm within their plane "
            f"(tilt about {tilt:.1f} degrees; at most {DRIFT_TOLERANCE_MM:g} mm).",
        )
    row_mm, column_mm = frames[0].spacing_mm
    grid = Grid(
        order=tuple(order),
        position_mm=positions[0],
        direction=direction,
        spacing_mm=(spacing, row_mm, column_mm),
        jitter_mm=jitter,
        drift_mm=drift,
        tilt_deg=tilt,
    )
    _refuse_absurd(grid, (len(order), frames[0].rows, frames[0].columns))
    return grid


def _refuse_gaps(distances: FloatArray, tolerance: float) -> None:
    """Say whether slices are missing or unevenly spaced, and refuse."""
    gaps = np.diff(distances)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    steps = np.round(gaps / usual)
    missing = int((steps - 1).sum())
    even = np.all(
        np.abs(gaps - steps * usual) <= np.maximum(2 * tolerance, 0.1 * usual)
    )
    if missing > 0 and even:
        wide = np.flatnonzero(steps > 1)
        places = ", ".join(f"{distances[index] + usual:.1f} mm" for index in wide[:3])
        raise MetiaError(
            "volume-missing-slice",
            f"{missing} {'slice is' if missing == 1 else 'slices are'} missing "
            f"of {len(distances) + missing}: at {places}"
            f"{' and more' if len(wide) > 3 else ''} from the first slice.",
            {"missing": missing},
        )
    raise MetiaError(
        "volume-mixed-geometry",
        f"The slices are unevenly spaced: between {gaps.min():.2f} and "
        f"{gaps.max():.2f} mm apart.",
    )


def _refuse_absurd(grid: Grid, shape: Sequence[int]) -> None:
    low, high = SLICE_DISTANCE_LIMITS_MM
    if not low <= grid.spacing_mm[0] <= high:
        raise MetiaError(
            "volume-absurd-geometry",
            f"The distance between slices is {grid.spacing_mm[0]:.3g} mm; "
            f"between {low:g} and {high:g} mm is possible.",
        )
    extents = [size * step for size, step in zip(shape, grid.spacing_mm, strict=True)]
    if max(extents) > EXTENT_LIMIT_MM:
        raise MetiaError(
            "volume-absurd-geometry",
            f"The images cover {max(extents):.0f} mm; "
            f"a head MR covers at most {EXTENT_LIMIT_MM:g} mm.",
        )


def regular_positions(grid: Grid, count: int) -> FloatArray:
    """Return the places of the slices in the regular grid, shape (`count`, 3), LPS."""
    steps = np.arange(count)[:, None] * grid.spacing_mm[0]
    positions: Any = grid.position_mm + steps * grid.direction[:, 0]
    return np.asarray(positions, dtype=np.float64)
