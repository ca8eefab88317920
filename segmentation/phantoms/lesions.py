"""Lesions of a phantom: ellipsoids whose size is known exactly.

``LesionSpec`` says what to draw (in the head's coordinates), ``LesionTruth`` what then
is true in the patient (LPS mm): diameters and volume are analytic, never measured on
voxels. ``occupancy`` integrates a lesion over each voxel. Pure; safe from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segmentation.phantoms.geometry import (
    FloatArray,
    Grid,
    Pose,
    Vector,
    coordinates,
    index_box,
    rotation_matrix,
)

Kind = Literal["solid", "ring"]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class LesionSpec:
    """A lesion to draw.

    Attributes
    ----------
    centre_mm : tuple of float
        In the head's coordinates (x left, y posterior, z superior of the brain's
        middle).
    radii_mm : tuple of float
        Semi-axes of the ellipsoid along its own x, y, z.
    rotation_deg : tuple of float
        Turns the ellipsoid in the head.
    kind : {'solid', 'ring'}
        A ring has a necrotic core, which is part of the lesion.
    core_fraction : float
        Radius of the core over that of the lesion (rings only).
    oedema_mm : float
        How far dark oedema reaches beyond the lesion.
    """

    centre_mm: Vector
    radii_mm: Vector
    rotation_deg: Vector = (0.0, 0.0, 0.0)
    kind: Kind = "solid"
    core_fraction: float = 0.6
    oedema_mm: float = 0.0

    @classmethod
    def ball(
        cls, centre_mm: Vector, diameter_mm: float, kind: Kind = "solid"
    ) -> LesionSpec:
        """Make a sphere with oedema in proportion to its size."""
        radius = diameter_mm / 2
        oedema = radius if diameter_mm >= 8 else 0.0
        return cls(centre_mm, (radius,) * 3, kind=kind, oedema_mm=oedema)

    def scaled(self, factor: float) -> LesionSpec:
        """Make the same lesion `factor` times as large in every direction."""
        x, y, z = self.radii_mm
        return replace(
            self,
            radii_mm=(x * factor, y * factor, z * factor),
            oedema_mm=self.oedema_mm * factor,
        )


@dataclass(frozen=True)
class LesionTruth:
    """What is true of a drawn lesion, exactly.

    Attributes
    ----------
    number : int
        1..n in the order of the specifications; its value in ``Head.labels``.
    centre_mm : tuple of float
        Patient LPS.
    longest_diameter_mm, perpendicular_diameter_mm : float
        Axes of the largest section in the patient's axial plane.
    """

    number: int
    centre_mm: Vector
    radii_mm: Vector
    kind: Kind
    longest_diameter_mm: float
    perpendicular_diameter_mm: float
    volume_ml: float


def _shape_matrix(spec: LesionSpec, pose: Pose) -> FloatArray:
    """Give A with ``(p - c)^T A (p - c) = 1`` on the surface, patient LPS, (3, 3)."""
    turn = rotation_matrix(pose.rotation_deg) @ rotation_matrix(spec.rotation_deg)
    matrix: FloatArray = turn @ np.diag(1 / np.square(spec.radii_mm)) @ turn.T
    return matrix


def _centre(spec: LesionSpec, pose: Pose) -> FloatArray:
    centre: FloatArray = (pose.affine @ [*spec.centre_mm, 1.0])[:3]
    return centre


def truth(number: int, spec: LesionSpec, pose: Pose) -> LesionTruth:
    """Work out what is true of a lesion in the patient.

    The largest axial section of an ellipsoid passes through its centre; its semi-axes
    are ``1 / sqrt`` of the eigenvalues of the upper left 2 x 2 block of A.
    """
    axial = np.linalg.eigvalsh(_shape_matrix(spec, pose)[:2, :2])
    x, y, z = (float(value) for value in _centre(spec, pose))
    return LesionTruth(
        number=number,
        centre_mm=(x, y, z),
        radii_mm=spec.radii_mm,
        kind=spec.kind,
        longest_diameter_mm=float(2 / np.sqrt(axial[0])),
        perpendicular_diameter_mm=float(2 / np.sqrt(axial[1])),
        volume_ml=float(4 / 3 * np.pi * np.prod(spec.radii_mm) / 1000),
    )


def occupancy(
    spec: LesionSpec,
    pose: Pose,
    grid: Grid,
    scale: float = 1.0,
) -> tuple[Box, NDArray[np.float32]] | None:
    """Integrate a lesion over each voxel.

    Parameters
    ----------
    scale : float
        Of all radii (used for the core of a ring).

    Returns
    -------
    (box, fractions) or None
        Block of the grid, and the fraction (0 to 1) of each of its voxels that lies
        in the lesion; None if the lesion lies outside the grid.
    """
    centre, shape_matrix = _centre(spec, pose), _shape_matrix(spec, pose) / scale**2
    reach = max(spec.radii_mm) * scale + max(grid.spacing_mm)
    affine = grid.affine
    box = index_box(np.linalg.inv(affine), centre, reach, grid.shape)
    if box is None:
        return None
    # A tenth of the smallest radius makes the volume right to about 0.1 %.
    step_mm = min(0.25, min(spec.radii_mm) * scale / 10)
    counts = [min(max(int(np.ceil(mm / step_mm)), 2), 12) for mm in grid.spacing_mm]
    total = np.zeros(tuple(part.stop - part.start for part in box), np.float32)
    x, y, z = coordinates(affine, box)
    x, y, z = (axis - np.float32(c) for axis, c in zip((x, y, z), centre, strict=True))
    # Voxels whose whole body is inside or outside need no sub-samples.
    half_mm = float(np.linalg.norm(grid.spacing_mm)) / 2
    distance = np.sqrt(_quadratic(shape_matrix, x, y, z))
    margin = half_mm / (min(spec.radii_mm) * scale)
    total[distance <= 1 - margin] = 1
    edge = np.abs(distance - 1) < margin
    total[edge] = _subsampled(
        shape_matrix, np.stack([x[edge], y[edge], z[edge]]), affine, counts
    )
    return box, total


def oedema(
    spec: LesionSpec, pose: Pose, grid: Grid
) -> tuple[Box, NDArray[np.float32]] | None:
    """Give a block of the grid and the density of oedema there (0 to 1).

    It is 1 at the lesion's surface and falls to 0 at `oedema_mm` from it.
    """
    reach_mm = float(np.mean(spec.radii_mm)) + spec.oedema_mm
    stretch = reach_mm / float(np.mean(spec.radii_mm))
    centre = _centre(spec, pose)
    box = index_box(
        np.linalg.inv(grid.affine), centre, max(spec.radii_mm) * stretch, grid.shape
    )
    if box is None or stretch <= 1:
        return None
    x, y, z = coordinates(grid.affine, box)
    x, y, z = (axis - np.float32(c) for axis, c in zip((x, y, z), centre, strict=True))
    distance = np.sqrt(_quadratic(_shape_matrix(spec, pose), x, y, z))
    density = np.clip((stretch - distance) / (stretch - 1), 0, 1)
    return box, density.astype(np.float32)


def _subsampled(
    shape_matrix: FloatArray,
    points: NDArray[np.float32],
    affine: FloatArray,
    counts: Sequence[int],
) -> NDArray[np.float32]:
    """Give the fraction of sub-samples inside, for voxel centres `points` (3, n)."""
    inside = np.zeros(points.shape[1], np.float32)
    offsets = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    for a in offsets[0]:
        for b in offsets[1]:
            for c in offsets[2]:
                dx, dy, dz = (affine[:3, :3] @ [a, b, c]).astype(np.float32)
                inside += (
                    _quadratic(
                        shape_matrix, points[0] + dx, points[1] + dy, points[2] + dz
                    )
                    <= 1
                )
    return inside / np.float32(np.prod(counts))


def _quadratic(
    matrix: FloatArray,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
) -> NDArray[np.float32]:
    m = matrix.astype(np.float32)
    result: NDArray[np.float32] = (
        m[0, 0] * x * x
        + m[1, 1] * y * y
        + m[2, 2] * z * z
        + 2 * (m[0, 1] * x * y + m[0, 2] * x * z + m[1, 2] * y * z)
    )
    return result
