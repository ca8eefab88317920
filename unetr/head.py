"""Where the head lies in an MR volume, and how bright its inside is.

Shared by every model: the box bounds the work of the network, the mask carries the
intensity statistics, the volume judges plausibility. Works on a coarse grid of about
4 mm, so it is fast and blind to noise. Axes are those of the array that was given
(usually slice, row, column); lengths in millimetres. Pure numpy and scipy, no torch;
deterministic and safe to call from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from errors import MetiaError

COARSE_MM = 4.0
FAT_PERCENTILE = 65.0
"""Of what is brighter than the mean, the rest counts no brighter than this."""
DARKEST = 0.01
"""Part of that brightness below which everything is equally dark."""
DEEP_MM = 16.0
"""From this far below the skin (scalp and skull) a voxel counts as inside the skull."""
BRAIN_MM = 130.0
"""Height of the brain below the top of the head; neck and jaw lie lower."""
FLUID = 0.6
"""Part of the median inside the skull below which a voxel is fluid or bone."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Head:
    """The head in one volume.

    Attributes
    ----------
    box : tuple of slice
        Bounds in voxels of the full grid, without margin.
    mask : ndarray of bool
        The head on the coarse grid, holes filled.
    step : tuple of int
        Voxels of the full grid a coarse voxel spans, an axis.
    air_threshold : float
        Intensities above it are tissue.
    brain_median : float
        Median intensity inside the skull, fluid and bone left out.
    volume_mm3 : float
    """

    box: Box
    mask: NDArray[np.bool_]
    step: tuple[int, int, int]
    air_threshold: float
    brain_median: float
    volume_mm3: float


def find_head(
    array: NDArray[np.float32],
    spacing_mm: Sequence[float],
    *,
    up: tuple[int, int] | None = None,
) -> Head:
    """Find the largest connected bright object.

    Parameters
    ----------
    array : ndarray, 3-D, float32
    spacing_mm : sequence of float
        Voxel size along the axes of `array`.
    up : tuple of int, optional
        The axis along the body and whether it runs to the head (1) or away (-1): the
        brain's median then leaves the neck out.

    Raises
    ------
    MetiaError
        ``volume-bad-pixels`` where values are not finite, nothing stands out or what
        does is not above 0.
    """
    step = _coarse_step(spacing_mm)
    # Whole numbers would overflow in sums of blocks.
    coarse = _block_means(np.asarray(array, np.float32), step)
    if not np.isfinite(coarse).all():
        raise MetiaError(
            "volume-bad-pixels", "The image holds values that are no numbers."
        )
    bright = _brightness(coarse)
    threshold = _air_threshold(coarse, bright)
    mask = _largest_component(coarse > threshold)
    box = _bounds(mask, step, array.shape)
    mask = ndimage.binary_fill_holes(mask)
    coarse_mm = [size * count for size, count in zip(spacing_mm, step, strict=True)]
    return Head(
        box=box,
        mask=mask,
        step=step,
        air_threshold=threshold,
        brain_median=_brain_median(coarse, bright, coarse_mm, up),
        volume_mm3=float(mask.sum() * np.prod(coarse_mm)),
    )


def _coarse_step(spacing_mm: Sequence[float]) -> tuple[int, int, int]:
    first, second, third = (max(1, round(COARSE_MM / size)) for size in spacing_mm)
    return first, second, third


def _block_means(
    array: NDArray[np.float32], step: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Average blocks of `step` voxels; the last block of an axis may be smaller.

    By products of matrices, the last axis first: one pass over the whole, which is what
    this takes its time for.
    """
    slices, rows, columns = (
        _averaging(length, size) for length, size in zip(array.shape, step, strict=True)
    )
    # Infinity becomes no number here, which is refused like it.
    with np.errstate(invalid="ignore"):
        narrow = array @ columns.T
        low = rows @ narrow
        coarse = slices @ low.reshape(len(array), -1)
    return coarse.reshape(len(slices), *low.shape[1:]).astype(np.float64)


def _averaging(length: int, size: int) -> NDArray[np.float32]:
    """Give the matrix (blocks, voxels) that averages blocks along an axis."""
    block = np.arange(length) // size
    matrix = (block == np.arange(block[-1] + 1)[:, None]).astype(np.float32)
    averaging: NDArray[np.float32] = matrix / matrix.sum(axis=1, keepdims=True)
    return averaging


def _brightness(coarse: NDArray[np.float64]) -> float:
    """Give how bright tissue is: fat and contrast agent, however bright, do not count.

    Raises
    ------
    MetiaError
        ``volume-bad-pixels`` where all is equally bright, or tissue is not above 0.
    """
    if coarse.max() <= coarse.min():
        raise MetiaError("volume-bad-pixels", "The image shows nothing: it is uniform.")
    bright = float(np.percentile(coarse[coarse > coarse.mean()], FAT_PERCENTILE))
    if bright <= 0:
        raise MetiaError(
            "volume-bad-pixels", "The image's values are below 0 where it is bright."
        )
    return bright


def _air_threshold(coarse: NDArray[np.float64], bright: float) -> float:
    """Part air from tissue."""
    clipped = np.minimum(coarse, bright).ravel()
    return float(threshold_otsu(clipped))  # type: ignore[no-untyped-call]


def _largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    if count == 0:
        raise MetiaError("volume-bad-pixels", "The image shows no object.")
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: NDArray[np.bool_] = labels == sizes.argmax()
    return largest


def _bounds(
    mask: NDArray[np.bool_], step: tuple[int, int, int], shape: Sequence[int]
) -> Box:
    (first, second, third) = (
        slice(found.start * size, min(found.stop * size, length))
        for found, size, length in zip(
            ndimage.find_objects(mask.astype(np.uint8))[0], step, shape, strict=True
        )
    )
    return first, second, third


def _brain_median(
    coarse: NDArray[np.float64],
    bright: float,
    coarse_mm: Sequence[float],
    up: tuple[int, int] | None,
) -> float:
    mask = ndimage.binary_fill_holes(_largest_component(_tissue(coarse, bright)))
    # The volume's faces are no skin: a slab cut out of a head is deep to its edges.
    padded = np.pad(mask, 1, mode="edge")
    depth = ndimage.distance_transform_edt(padded, sampling=coarse_mm)[1:-1, 1:-1, 1:-1]
    deep = mask & (depth >= min(DEEP_MM, 0.5 * float(depth.max())))
    if up is not None:
        axis, direction = up
        height = np.argwhere(deep)[:, axis] * direction * coarse_mm[axis]
        values = coarse[deep][height > height.max() - BRAIN_MM]
    else:
        values = coarse[deep]
    return float(np.median(values[values >= FLUID * np.median(values)]))


def _tissue(coarse: NDArray[np.float64], bright: float) -> NDArray[np.bool_]:
    """Part air from tissue by logarithms.

    By brightness itself, bright fat may stand further from brain than brain from air:
    the head is then its scalp, which bounds it all the same, but has no inside.
    """
    logarithms = np.log(np.clip(coarse, DARKEST * bright, bright))
    threshold = threshold_otsu(logarithms.ravel())  # type: ignore[no-untyped-call]
    tissue: NDArray[np.bool_] = logarithms > threshold
    return tissue
