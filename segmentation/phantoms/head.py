"""A synthetic head with known lesions, sampled on any grid.

``make_head`` draws it, ``sample_head`` is the short way with sensible lesions. The
truth is analytic (``LesionTruth``); ``occupancy`` is the fraction of each voxel that is
lesion. Same arguments, same voxels. Pure; safe from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from segmentation.phantoms.anatomy import (
    CONTRASTS,
    Canvas,
    Folds,
    cerebellum_distance,
    cerebrum_distance,
    draw_head,
)
from segmentation.phantoms.geometry import FloatArray, Grid, Plane, Pose, Vector
from segmentation.phantoms.lesions import (
    LesionSpec,
    LesionTruth,
    occupancy,
    oedema,
    truth,
)

_SLAB_VOXELS = 400_000


@dataclass(frozen=True)
class Head:
    """A sampled head and what is true of it.

    Attributes
    ----------
    volume : highdicom.Volume
        float32, axes (slice, row, column), LPS affine. Whole numbers from 0.
    lesions : tuple of LesionTruth
        In the order of the specifications.
    occupancy : ndarray, float32
        Fraction of each voxel that is lesion (core included).
    labels : ndarray, uint16
        Number of the lesion that fills at least half of the voxel, else 0.
    """

    volume: hd.Volume
    lesions: tuple[LesionTruth, ...]
    occupancy: NDArray[np.float32]
    labels: NDArray[np.uint16]
    grid: Grid
    contrast: str
    seed: int


def make_head(
    grid: Grid,
    lesions: Sequence[LesionSpec] = (),
    *,
    pose: Pose | None = None,
    contrast: str = "T1-post",
    seed: int = 0,
    noise: float = 9.0,
    bias: float = 0.08,
    noise_seed: int | None = None,
) -> Head:
    """Draw a head.

    Parameters
    ----------
    contrast : {'T1-post', 'T1-pre', 'T2'}
    seed : int
        Of the folds, the textures and the noise.
    noise : float
        Standard deviation of the noise of each of the two receiver channels (Rician).
    bias : float
        Amplitude of the smooth receive field (0.08: about +-8 %).
    noise_seed : int, optional
        Of the noise and the receive field alone, so that one head can be imaged again.
    """
    pose = pose or Pose()
    folds = Folds.from_seed(seed)
    to_head = np.linalg.inv(pose.affine) @ grid.affine
    image = _draw_anatomy(grid, to_head, folds, contrast)
    total = np.zeros(grid.shape, np.float32)
    labels = np.zeros(grid.shape, np.uint16)
    for number, spec in enumerate(lesions, 1):
        _draw_oedema(image, spec, pose, grid, contrast)
        drawn = occupancy(spec, pose, grid)
        if drawn is not None:
            box, fraction = drawn
            _blend(image[box], fraction, CONTRASTS[contrast]["lesion"])
            total[box] = np.minimum(total[box] + fraction, 1)
            labels[box][fraction >= 0.5] = number
        if spec.kind == "ring":
            core = occupancy(spec, pose, grid, spec.core_fraction)
            if core is not None:
                _blend(image[core[0]], core[1], CONTRASTS[contrast]["core"])
    random = np.random.default_rng([seed if noise_seed is None else noise_seed, 2])
    _receive(image, to_head, random, noise, bias)
    return Head(
        volume=hd.Volume(image, grid.affine, coordinate_system="PATIENT"),
        lesions=tuple(truth(n, spec, pose) for n, spec in enumerate(lesions, 1)),
        occupancy=total,
        labels=labels,
        grid=grid,
        contrast=contrast,
        seed=seed,
    )


def sample_head(
    shape: tuple[int, int, int] = (160, 256, 256),
    spacing_mm: Vector | None = None,
    *,
    plane: Plane = "axial",
    rotation_deg: Vector = (0.0, 0.0, 0.0),
    lesions: Sequence[LesionSpec] | int = 4,
    pose: Pose | None = None,
    contrast: str = "T1-post",
    seed: int = 0,
    noise: float = 9.0,
) -> Head:
    """Draw a head on a grid that holds all of it.

    Parameters
    ----------
    spacing_mm : tuple of float, optional
        By default such that `shape` covers a whole head.
    lesions : sequence of LesionSpec, or int
        A number draws that many by `seed`, each at least three voxels wide.
    """
    if spacing_mm is None:
        grid = Grid.covering_head(shape, plane, rotation_deg)
    else:
        grid = Grid(shape, spacing_mm, plane, rotation_deg)
    if isinstance(lesions, int):
        smallest = max(4.0, 3 * max(grid.spacing_mm))
        lesions = random_lesions(seed, lesions, (smallest, max(24.0, smallest)))
    return make_head(
        grid, lesions, pose=pose, contrast=contrast, seed=seed, noise=noise
    )


def random_lesions(
    seed: int, count: int, diameters_mm: tuple[float, float] = (4.0, 25.0)
) -> tuple[LesionSpec, ...]:
    """Draw lesions that lie in the brain and do not touch each other.

    Diameters are spread evenly on a logarithmic scale; those from 9 mm are rings, and
    all are a little longer in one direction.
    """
    random = np.random.default_rng([seed, 3])
    low, high = diameters_mm
    steps = (np.arange(count) + random.uniform(0, 1, count)) / max(count, 1)
    chosen: list[LesionSpec] = []
    for diameter in low * (high / low) ** steps[::-1]:
        stretch = random.uniform(0.88, 1.12, 3)
        radii = diameter / 2 * stretch / np.cbrt(stretch.prod())
        angles = random.uniform(-40, 40, 3)
        for _ in range(2000):
            centre = random.uniform((-62, -80, -66), (62, 80, 60))
            if _fits(centre, float(radii.max()), chosen):
                break
        else:
            raise ValueError(f"{count} lesions of up to {high} mm do not fit in a head")
        chosen.append(
            LesionSpec(
                _vector(centre),
                _vector(radii),
                _vector(angles),
                kind="ring" if diameter >= 9 else "solid",
                oedema_mm=float(diameter) / 2 if diameter >= 8 else 0.0,
            )
        )
    return tuple(chosen)


def _vector(values: NDArray[np.floating]) -> Vector:
    x, y, z = (round(float(value), 3) for value in values)
    return x, y, z


def _fits(centre: FloatArray, radius: float, others: Sequence[LesionSpec]) -> bool:
    x, y, z = np.asarray(centre, np.float32)[:, None]
    depth = max(cerebrum_distance(x, y, z)[0], cerebellum_distance(x, y, z)[0])
    # Not on the midline either, where the falx and the sinuses are.
    if depth < radius + 3 or abs(centre[0]) < radius + 4:
        return False
    return all(
        np.linalg.norm(centre - other.centre_mm) > radius + max(other.radii_mm) + 6
        for other in others
    )


def _draw_anatomy(
    grid: Grid, to_head: FloatArray, folds: Folds, contrast: str
) -> NDArray[np.float32]:
    """Paint in slabs (memory); thick slices are the mean of thinner ones."""
    slices, rows, columns = grid.shape
    in_plane = max(grid.spacing_mm[1], grid.spacing_mm[2])
    parts = max(1, min(8, round(grid.spacing_mm[0] / max(in_plane, 1.5))))
    fine = to_head.copy()
    fine[:3, 0] = to_head[:3, 0] / parts
    fine[:3, 3] = to_head[:3, 3] - to_head[:3, 0] * (parts - 1) / (2 * parts)
    image = np.empty(grid.shape, np.float32)
    step = max(1, _SLAB_VOXELS // (rows * columns * parts))
    edge_mm = max(0.8, float(np.mean(grid.spacing_mm[1:])))
    for first in range(0, slices, step):
        count = min(step, slices - first)
        slab = fine.copy()
        slab[:3, 3] += fine[:3, 0] * first * parts
        canvas = Canvas(slab, (count * parts, rows, columns), edge_mm)
        draw_head(canvas, folds, contrast)
        split = canvas.image.reshape(count, parts, rows, columns)
        image[first : first + count] = split.mean(axis=1)
    return image


def _blend(part: NDArray[np.float32], cover: NDArray[np.float32], value: float) -> None:
    part += cover * (np.float32(value) - part)


def _draw_oedema(
    image: NDArray[np.float32], spec: LesionSpec, pose: Pose, grid: Grid, contrast: str
) -> None:
    drawn = oedema(spec, pose, grid)
    if drawn is None:
        return
    tissue = CONTRASTS[contrast]
    part = image[drawn[0]]
    brain = (part > 0.8 * tissue["grey"]) & (part < 1.08 * tissue["white"])
    if contrast == "T2":
        brain = (part > 0.8 * tissue["white"]) & (part < 1.08 * tissue["grey"])
    _blend(part, np.minimum(1, 1.6 * drawn[1]) * brain, tissue["oedema"])


def _receive(
    image: NDArray[np.float32],
    to_head: FloatArray,
    random: np.random.Generator,
    noise: float,
    bias: float,
) -> None:
    """Apply the receive field and Rician noise in place; round to whole numbers."""
    slope = random.uniform(-1, 1, 3)
    slope *= (
        bias / np.abs(slope).sum() / 100
    )  # at most `bias` at 100 mm from the middle
    rows = np.arange(image.shape[1], dtype=np.float32)[:, None]
    columns = np.arange(image.shape[2], dtype=np.float32)[None, :]
    gradient = (slope @ to_head[:3, :3]).astype(np.float32)
    start = np.float32(1 + slope @ to_head[:3, 3])
    for index, part in enumerate(image):
        part *= start + gradient[0] * index + gradient[1] * rows + gradient[2] * columns
        if noise > 0:
            real = random.standard_normal(part.shape, dtype=np.float32)
            imaginary = random.standard_normal(part.shape, dtype=np.float32)
            np.hypot(part + noise * real, noise * imaginary, out=part)
        np.rint(part, out=part)
        np.clip(part, 0, 4095, out=part)
