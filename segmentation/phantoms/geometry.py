"""Where a phantom's voxels lie: sampling grids and the pose of the head.

Pure and immutable. A ``Grid`` maps (slice, row, column) indices to patient LPS mm, as
DICOM does; a ``Pose`` maps the head's own coordinates (origin in the middle of the
brain, x left, y posterior, z superior, mm) to patient LPS mm. Safe from any thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]
Plane = Literal["axial", "sagittal", "coronal"]
FloatArray = NDArray[np.float64]

# Directions of increasing column, row and slice index in LPS, the last the cross
# product of the others: axial slices go up, sagittal to the right, coronal backwards.
_PLANES: dict[str, tuple[Vector, Vector, Vector]] = {
    "axial": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "sagittal": ((0, 1, 0), (0, 0, -1), (-1, 0, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
}


def rotation_matrix(angles_deg: Vector) -> FloatArray:
    """Give the rotation about x, then y, then z by `angles_deg`, shape (3, 3)."""
    ax, ay, az = np.deg2rad(np.asarray(angles_deg, float))
    cx, sx, cy, sy = np.cos(ax), np.sin(ax), np.cos(ay), np.sin(ay)
    cz, sz = np.cos(az), np.sin(az)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    matrix: FloatArray = about_z @ about_y @ about_x
    return matrix


@dataclass(frozen=True)
class Pose:
    """How the head lies in the scanner.

    Attributes
    ----------
    rotation_deg : tuple of float
        About the patient's x, then y, then z axis.
    shift_mm : tuple of float
        Where the middle of the brain lies, LPS.
    """

    rotation_deg: Vector = (0.0, 0.0, 0.0)
    shift_mm: Vector = (0.0, 0.0, 0.0)

    @property
    def affine(self) -> FloatArray:
        """Head mm to patient LPS mm, shape (4, 4)."""
        matrix = np.eye(4)
        matrix[:3, :3] = rotation_matrix(self.rotation_deg)
        matrix[:3, 3] = self.shift_mm
        return matrix


@dataclass(frozen=True)
class Grid:
    """A regular sampling of space.

    Attributes
    ----------
    shape : tuple of int
        (slices, rows, columns).
    spacing_mm : tuple of float
        Between slices, between rows, between columns.
    plane : {'axial', 'sagittal', 'coronal'}
        Of the slices, before `rotation_deg` tilts them.
    rotation_deg : tuple of float
        Obliquity: the grid is turned about the patient's x, then y, then z axis.
    centre_mm : tuple of float
        LPS position of the middle of the grid. The default suits a whole head.
    """

    shape: tuple[int, int, int]
    spacing_mm: Vector = (1.2, 0.9375, 0.9375)
    plane: Plane = "axial"
    rotation_deg: Vector = (0.0, 0.0, 0.0)
    centre_mm: Vector = (0.0, 0.0, -10.0)

    @property
    def affine(self) -> FloatArray:
        """(slice, row, column) index to patient LPS mm, shape (4, 4)."""
        column, row, normal = (np.asarray(v, float) for v in _PLANES[self.plane])
        directions = rotation_matrix(self.rotation_deg) @ np.stack(
            [normal, row, column], axis=1
        )
        matrix = np.eye(4)
        matrix[:3, :3] = directions * np.asarray(self.spacing_mm, float)
        middle = (np.asarray(self.shape, float) - 1) / 2
        matrix[:3, 3] = np.asarray(self.centre_mm, float) - matrix[:3, :3] @ middle
        return matrix

    @classmethod
    def covering_head(
        cls,
        shape: tuple[int, int, int],
        plane: Plane = "axial",
        rotation_deg: Vector = (0.0, 0.0, 0.0),
    ) -> Grid:
        """Spread `shape` over a whole head (190 mm left-right or up-down, 240 mm)."""
        extent = (190.0, 240.0, 240.0)
        spacing = tuple(mm / count for mm, count in zip(extent, shape, strict=True))
        return cls(shape, (spacing[0], spacing[1], spacing[2]), plane, rotation_deg)


def index_box(
    to_index: NDArray[np.floating[Any]],
    centre_mm: Vector | FloatArray,
    reach_mm: float,
    shape: tuple[int, ...],
) -> tuple[slice, slice, slice] | None:
    """Give the smallest block of indices that holds a ball, or None if it misses.

    Parameters
    ----------
    to_index : ndarray, shape (4, 4)
        Maps the coordinates of `centre_mm` to (slice, row, column) indices.
    """
    middle = to_index[:3, :3] @ np.asarray(centre_mm, float) + to_index[:3, 3]
    half = reach_mm * np.linalg.norm(to_index[:3, :3], axis=1)
    low = np.maximum(np.floor(middle - half).astype(int), 0)
    high = np.minimum(np.ceil(middle + half).astype(int) + 1, shape)
    if np.any(low >= high):
        return None
    first, second, third = (
        slice(int(a), int(b)) for a, b in zip(low, high, strict=True)
    )
    return first, second, third


def coordinates(
    affine: FloatArray, box: tuple[slice, slice, slice]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Give x, y and z in mm of every voxel of `box` (float32, the box's shape each)."""
    i, j, k = np.ogrid[box]
    x, y, z = (
        (
            np.float32(row[0]) * i.astype(np.float32)
            + np.float32(row[1]) * j.astype(np.float32)
            + np.float32(row[2]) * k.astype(np.float32)
            + np.float32(row[3])
        )
        for row in affine[:3]
    )
    return x, y, z
