"""Rigid registration of a visit to the baseline, with a quality that really blocks.

``register`` finds how the head of one volume lies in another (6 degrees of freedom,
Mattes mutual information, coarse to fine from several starts, SimpleITK) and judges the
answer by how well fine structure agrees afterwards: another person's head, a head
upside down or no common field of view is refused with a reason, never linked.
Positions in LPS mm; arrays have axes (slice, row, column). Pure and deterministic to
the last bit; about 3 s of one core and 150 MB; calls may run side by side.
Figures: ``docs/follow-up.md``. A change here that changes answers needs another
``linking.REGISTRATION_METHOD``, which has all visits registered anew.
"""

# SimpleITK states types of its arguments, not of its functions.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import highdicom as hd
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from errors import MetiaError
from unetr.head import find_head

FloatArray = NDArray[np.floating[Any]]

QUALITY_LIMIT = 0.42
"""Agreement of fine structure below which no link is made by itself."""
OVERLAP_LIMIT = 0.7
"""Part of the smaller head that has to lie in both fields of view."""
LARGEST_ROTATION_DEG = 45.0
"""More is a mistake in a header, or a match by chance, not a way to lie down."""

_BINS = 32
_SEED = 121
_HEAD_RADIUS_MM = 70.0
"""A rotation by an angle moves the head's surface by about so much times it."""
_UPPER_HEAD_MM = 120.0
"""The head ends so far below its top: how much neck was imaged does not matter."""
_WINDOW_MM = 7.0
_SKULL_DEPTH_MM = 15.0
_LEAST_BRAIN_MM3 = 100_000.0
"""Less common brain than this proves nothing."""
_OUTSIDE = -1e9
"""Stands for "not in the image"; no pixel value comes near."""


@dataclass(frozen=True)
class Registration:
    """How a visit's head lies in the baseline's coordinates.

    Attributes
    ----------
    matrix : ndarray, shape (4, 4)
        Visit LPS mm to baseline LPS mm.
    quality : float
        Median local correlation of fine structure inside both skulls, 0 to 1.
    overlap : float
        Part of the smaller head that both images show.
    accepted : bool
        Whether lesions may be linked by it without a person.
    reason : str
        ``ok``, or why not: ``no-overlap``, ``poor-agreement``, ``implausible-motion``.
    """

    matrix: FloatArray
    quality: float
    overlap: float
    accepted: bool
    reason: str


@dataclass(frozen=True)
class _Level:
    """One step from coarse to fine."""

    voxel_mm: float
    sampled: float
    step_mm: float
    smallest_step_mm: float
    iterations: int


_COARSE = _Level(8.0, 1.0, 8.0, 0.5, 60)
_LEVELS = (
    _Level(4.0, 1.0, 2.0, 0.05, 60),
    _Level(2.0, 0.2, 0.5, 0.003, 60),
)


@dataclass(frozen=True)
class _Scan:
    """One head as the registration sees it.

    Attributes
    ----------
    image : sitk.Image
        float32 on the finest grid used.
    mask : sitk.Image
        uint8 on a grid of about 4 mm: the head, holes filled.
    centre_mm : ndarray, shape (3,)
        Of the upper part of the head, LPS.
    """

    image: sitk.Image
    mask: sitk.Image
    centre_mm: FloatArray


def register(
    fixed: hd.Volume,
    moving: hd.Volume,
    *,
    progress: Callable[[float], None] = lambda done: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Registration:
    """Find the rigid motion that takes `moving` onto `fixed`, and judge it.

    Parameters
    ----------
    fixed, moving : highdicom.Volume
        float32, axes (slice, row, column), LPS affine, one value a voxel.
    progress : Callable
        Gets the fraction done.
    cancelled : Callable
        Asked at every step of the optimiser.

    Returns
    -------
    Registration
        Also where the images do not fit: then ``accepted`` is false.

    Raises
    ------
    MetiaError
        ``job-cancelled``; ``volume-bad-pixels`` where an image shows nothing.
    """
    progress(0.0)
    target, source = _scan(fixed), _scan(moving)
    progress(0.2)
    motion = _best_start(target, source, cancelled)
    progress(0.4)
    for number, level in enumerate(_LEVELS):
        _optimise(target, source, motion, level, cancelled)
        progress(0.4 + 0.5 * (number + 1) / len(_LEVELS))
    registration = judge(fixed, moving, _matrix(motion), target=target, source=source)
    progress(1.0)
    return registration


def judge(
    fixed: hd.Volume,
    moving: hd.Volume,
    matrix: FloatArray,
    *,
    target: _Scan | None = None,
    source: _Scan | None = None,
) -> Registration:
    """Say how well `matrix` (visit LPS to baseline LPS) lays `moving` onto `fixed`."""
    target, source = target or _scan(fixed), source or _scan(moving)
    motion = _transform(np.linalg.inv(matrix), target.centre_mm)
    overlap = _overlap(target, source, motion)
    quality = _agreement(target, source, motion)
    reason = "ok"
    if _rotation_deg(matrix) > LARGEST_ROTATION_DEG:
        reason = "implausible-motion"
    elif overlap < OVERLAP_LIMIT:
        reason = "no-overlap"
    elif quality < QUALITY_LIMIT:
        reason = "poor-agreement"
    return Registration(matrix, quality, overlap, reason == "ok", reason)


def _scan(volume: hd.Volume) -> _Scan:
    array = np.asarray(volume.array, np.float32)
    spacing_mm = np.asarray(volume.spacing, float)
    head = find_head(array, volume.spacing)
    step = np.asarray(head.step)
    affine = np.asarray(volume.affine, float).copy()
    affine[:3, 3] += affine[:3, :3] @ ((step - 1) / 2)
    affine[:3, :3] *= step
    points = np.argwhere(head.mask) @ affine[:3, :3].T + affine[:3, 3]
    upper = points[points[:, 2] > points[:, 2].max() - _UPPER_HEAD_MM]
    finest = _LEVELS[-1].voxel_mm
    return _Scan(
        image=_shrink(_image(array, volume.affine), finest, spacing_mm),
        mask=_image(head.mask.astype(np.uint8), affine),
        centre_mm=upper.mean(axis=0),
    )


def _image(array: NDArray[Any], affine: FloatArray) -> sitk.Image:
    """Give SimpleITK an array with axes (slice, row, column) and an LPS affine."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing([float(mm) for mm in spacing[::-1]])
    image.SetDirection((affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    image.SetOrigin([float(mm) for mm in affine[:3, 3]])
    return image


def _shrink(
    image: sitk.Image, voxel_mm: float, spacing_mm: Sequence[float] | FloatArray
) -> sitk.Image:
    """Average blocks of voxels, so that none is much smaller than `voxel_mm`."""
    factors = [max(1, round(voxel_mm / float(mm))) for mm in spacing_mm]
    shrunk: sitk.Image = sitk.BinShrink(image, factors[::-1])
    return shrunk


def _level_image(image: sitk.Image, voxel_mm: float) -> sitk.Image:
    return _shrink(image, voxel_mm, image.GetSpacing()[::-1])


def _transform(matrix: FloatArray, centre_mm: FloatArray) -> sitk.Euler3DTransform:
    """Make the transform that takes baseline points to visit points."""
    motion = sitk.Euler3DTransform()
    motion.SetCenter(centre_mm.tolist())
    motion.SetMatrix(matrix[:3, :3].ravel().tolist(), 1e-4)
    shift = matrix[:3, :3] @ centre_mm + matrix[:3, 3] - centre_mm
    motion.SetTranslation(shift.tolist())
    return motion


def _matrix(motion: sitk.Euler3DTransform) -> FloatArray:
    """Give visit LPS to baseline LPS, exactly rigid."""
    rotation = np.array(motion.GetMatrix()).reshape(3, 3)
    centre, shift = np.array(motion.GetCenter()), np.array(motion.GetTranslation())
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.T
    matrix[:3, 3] = -rotation.T @ (centre + shift - rotation @ centre)
    return matrix


def _starts(target: _Scan, source: _Scan) -> Iterator[sitk.Euler3DTransform]:
    """Give motions to start from: lying as the scanner says, and head on head."""
    shifts = (np.zeros(3), source.centre_mm - target.centre_mm)
    turns = [(0.0, 0.0, 0.0)]
    for axis, angle_deg in product(np.eye(3), (-20.0, 20.0)):
        x, y, z = (float(angle) for angle in np.deg2rad(angle_deg) * axis)
        turns.append((x, y, z))
    for shift, turn in product(shifts, turns):
        motion = sitk.Euler3DTransform()
        motion.SetCenter(target.centre_mm.tolist())
        motion.SetRotation(*turn)
        motion.SetTranslation(shift.tolist())
        yield motion


def _best_start(
    target: _Scan, source: _Scan, cancelled: Callable[[], bool]
) -> sitk.Euler3DTransform:
    """Follow every start on the coarsest grid; take where the best one ends."""
    ends: list[tuple[float, int, sitk.Euler3DTransform]] = []
    for motion in _starts(target, source):
        value = _optimise(target, source, motion, _COARSE, cancelled)
        ends.append((value, len(ends), motion))
    return min(ends)[2]


def _optimise(
    target: _Scan,
    source: _Scan,
    motion: sitk.Euler3DTransform,
    level: _Level,
    cancelled: Callable[[], bool],
) -> float:
    """Improve `motion` in place on one level; gives the metric (lower is better)."""
    fixed = _level_image(target.image, level.voxel_mm)
    method = sitk.ImageRegistrationMethod()
    # Several would add up in another order each time, and hardly save time.
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricFixedMask(
        sitk.Resample(
            sitk.BinaryDilate(target.mask, [2, 2, 2]),
            fixed,
            sitk.Transform(),
            sitk.sitkNearestNeighbor,
            0,
        )
    )
    if level.sampled < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(level.sampled, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    # One unit of rotation weighs as far as it moves the head's surface. SimpleITK's
    # own estimate weighs by the corners of the image and stops 0.5 mm too early.
    method.SetOptimizerScales([_HEAD_RADIUS_MM**2] * 3 + [1.0] * 3)
    method.SetOptimizerAsRegularStepGradientDescent(
        level.step_mm,
        level.smallest_step_mm,
        level.iterations,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetInitialTransform(motion, inPlace=True)

    def stop_if_cancelled() -> None:
        if cancelled():
            method.StopRegistration()

    method.AddCommand(sitk.sitkIterationEvent, stop_if_cancelled)
    try:
        method.Execute(fixed, _level_image(source.image, level.voxel_mm))
    except RuntimeError:
        # Too few points in both images: as bad as an answer can be.
        return float("inf")
    if cancelled():
        raise MetiaError("job-cancelled", "The job was cancelled on request.")
    return float(method.GetMetricValue())


def _overlap(target: _Scan, source: _Scan, motion: sitk.Euler3DTransform) -> float:
    """Give the part of the smaller head that is seen in both images."""
    moved = sitk.Resample(
        source.mask, target.mask, motion, sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8
    )
    both = _voxels(target.mask) & _voxels(moved)
    common_mm3 = both.sum() * np.prod(target.mask.GetSpacing())
    smaller_mm3 = min(
        _voxels(scan.mask).sum() * np.prod(scan.mask.GetSpacing())
        for scan in (target, source)
    )
    return float(min(1.0, common_mm3 / smaller_mm3))


def _voxels(image: sitk.Image) -> NDArray[Any]:
    """Copy the voxels of an image, axes (slice, row, column)."""
    # Not a view: that of a passing image would outlive its memory.
    voxels: NDArray[Any] = sitk.GetArrayFromImage(image)
    return voxels


def _agreement(target: _Scan, source: _Scan, motion: sitk.Euler3DTransform) -> float:
    """Give the median local correlation inside both skulls, from 0.

    Windows are small, so that what counts are sulci, ventricles and vessels, which
    differ from person to person, not the outline of a head or the receive field. The
    scalp and skull are left out: they lie on each other in any two heads.
    """
    grid = target.image
    fixed = _voxels(grid).astype(np.float64)
    moved = sitk.Resample(source.image, grid, motion, sitk.sitkLinear, _OUTSIDE)
    moving = _voxels(moved).astype(np.float64)
    seen = ndimage.binary_erosion(moving > _OUTSIDE / 2)
    depth = sitk.SignedMaurerDistanceMap(
        target.mask, insideIsPositive=True, squaredDistance=False, useImageSpacing=True
    )
    depth = sitk.Resample(depth, grid, sitk.Transform(), sitk.sitkLinear, -1.0)
    inside = seen & (_voxels(depth) > _SKULL_DEPTH_MM)
    if inside.sum() * np.prod(grid.GetSpacing()) < _LEAST_BRAIN_MM3:
        return 0.0
    moving[~seen] = 0.0
    spacing = grid.GetSpacing()[::-1]
    window = [max(3, round(_WINDOW_MM / mm) | 1) for mm in spacing]
    covariance, of_fixed, of_moving = _moments(fixed, moving, window)
    valid = inside & (of_fixed > 0) & (of_moving > 0)
    correlation = covariance[valid] / np.sqrt(of_fixed[valid] * of_moving[valid])
    return float(max(0.0, np.median(correlation))) if valid.any() else 0.0


def _moments(
    one: FloatArray, other: FloatArray, window: list[int]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Give the covariance and the two variances in a window around each voxel."""

    def mean(values: FloatArray) -> FloatArray:
        averaged: FloatArray = ndimage.uniform_filter(values, window)
        return averaged

    mean_one, mean_other = mean(one), mean(other)
    return (
        mean(one * other) - mean_one * mean_other,
        mean(one * one) - mean_one**2,
        mean(other * other) - mean_other**2,
    )


def _rotation_deg(matrix: FloatArray) -> float:
    cosine = (np.trace(matrix[:3, :3]) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
