"""The lesion-wise metric of BraTS-METS, as its published code computes it.

Source: rachitsaluja/BraTS-2023-Metrics, ``metrics.py``, task METS. The true mask is
dilated by one voxel (18 neighbours) and its 26-connected components join what they
swallow; a predicted component (26-connected) belongs to every true lesion whose dilated
mask it touches. A missed lesion and every false positive, however small, count as Dice
0 and a Hausdorff distance of 374 mm; true lesions of at most 2 mm3 are skipped. Masks
are (slice, row, column), spacing in mm along the same axes. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics.utils import get_code_to_measure_table
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

WORST_DISTANCE_MM = 374.0
SMALLEST_MM3 = 2.0
_NEIGHBOURS_18 = ndimage.generate_binary_structure(3, 2)
_NEIGHBOURS_26 = ndimage.generate_binary_structure(3, 3)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class TrueLesion:
    """One lesion of the truth, and what was predicted for it.

    Attributes
    ----------
    number : int
        Value in ``LesionwiseResult.labels``.
    counted : bool
        Whether it is asked for: larger than ``SMALLEST_MM3`` and not passed over. To
        mark one that is not is neither right nor wrong.
    predicted : tuple of int
        Numbers of the predicted components that belong to it; none: it was missed.
    """

    number: int
    counted: bool
    volume_mm3: float
    predicted: tuple[int, ...]
    dice: float
    hd95_mm: float


@dataclass(frozen=True)
class LesionwiseResult:
    """One case.

    Attributes
    ----------
    lesions : tuple of TrueLesion
        All, those not counted too.
    false_positives : tuple of int
        Numbers of predicted components that belong to no lesion.
    labels, predicted_labels : ndarray of int
        Numbered components.
    dice, hd95_mm : float
        Means over counted lesions and false positives; 1 and 0 where there is nothing
        and nothing was predicted.
    """

    lesions: tuple[TrueLesion, ...]
    false_positives: tuple[int, ...]
    labels: NDArray[np.int32]
    predicted_labels: NDArray[np.int32]
    dice: float
    hd95_mm: float


def lesionwise(
    predicted: Mask,
    truth: Mask,
    spacing_mm: Sequence[float],
    passed_over: Mask | None = None,
) -> LesionwiseResult:
    """Compare one predicted mask with the truth.

    A lesion of the truth that has a voxel of `passed_over` is not counted; that is
    MetIA's, not in the published code.
    """
    labels = _true_labels(truth)
    unasked = () if passed_over is None else np.unique(labels[passed_over])
    found, _ = ndimage.label(predicted, _NEIGHBOURS_26)
    voxel_mm3 = float(np.prod(spacing_mm))
    lesions: list[TrueLesion] = []
    used: set[int] = set()
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        own = labels == number
        near = ndimage.binary_dilation(own[_grown(box)], _NEIGHBOURS_18)
        touching = np.unique(found[_grown(box)][near])
        components = tuple(int(item) for item in touching if item)
        used.update(components)
        volume_mm3 = float(own.sum()) * voxel_mm3
        mine = np.isin(found, components) if components else np.zeros_like(own)
        lesions.append(
            TrueLesion(
                number=number,
                counted=volume_mm3 > SMALLEST_MM3 and number not in unasked,
                volume_mm3=volume_mm3,
                predicted=components,
                dice=dice(mine, own) if components else 0.0,
                hd95_mm=(
                    hausdorff_95(mine, own, spacing_mm)
                    if components
                    else WORST_DISTANCE_MM
                ),
            )
        )
    wrong = tuple(sorted(set(range(1, int(found.max(initial=0)) + 1)) - used))
    counted = [lesion for lesion in lesions if lesion.counted]
    count = len(counted) + len(wrong)
    scores = sum(lesion.dice for lesion in counted)
    distances = sum(lesion.hd95_mm for lesion in counted)
    return LesionwiseResult(
        lesions=tuple(lesions),
        false_positives=wrong,
        labels=labels,
        predicted_labels=found.astype(np.int32),
        dice=scores / count if count else 1.0,
        hd95_mm=(
            (distances + WORST_DISTANCE_MM * len(wrong)) / count if count else 0.0
        ),
    )


def _true_labels(truth: Mask) -> NDArray[np.int32]:
    """Give each lesion a number; those that touch once dilated are one."""
    dilated = ndimage.binary_dilation(truth, _NEIGHBOURS_18)
    labels, _ = ndimage.label(dilated, _NEIGHBOURS_26)
    return np.where(truth, labels, 0).astype(np.int32)


def _grown(box: Sequence[slice]) -> tuple[slice, ...]:
    return tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)


def dice(first: Mask, second: Mask) -> float:
    """Overlap of two masks; 1 where both are empty."""
    size = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / size if size else 1.0


def hausdorff_95(first: Mask, second: Mask, spacing_mm: Sequence[float]) -> float:
    """Greater of the two 95th percentiles of distance between surfaces, in mm.

    Surfaces and the areas of their elements are those of DeepMind's surface-distance,
    which the BraTS code calls; 374 where one of the masks is empty.
    """
    both = first | second
    if not first.any() or not second.any():
        return WORST_DISTANCE_MM
    box = tuple(
        slice(part.start, part.stop)
        for part in ndimage.find_objects(both.astype(int))[0]
    )
    table, kernel = get_code_to_measure_table(tuple(spacing_mm))  # type: ignore[no-untyped-call]
    masks = torch.from_numpy(np.stack([first[box], second[box]])).float()[:, None]
    codes = functional.conv3d(functional.pad(masks, [1] * 6), kernel.float())
    numbers = codes[:, 0].round().long()
    areas = table[numbers].numpy()
    surfaces = ((numbers != 0) & (numbers != len(table) - 1)).numpy()
    distances = []
    for here, there in ((0, 1), (1, 0)):
        away = ndimage.distance_transform_edt(~surfaces[there], sampling=spacing_mm)
        distances.append(
            _weighted_percentile(
                away[surfaces[here]], areas[here][surfaces[here]], 0.95
            )
        )
    return max(distances)


def _weighted_percentile(
    values: NDArray[np.floating], weights: NDArray[np.floating], share: float
) -> float:
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order], dtype=np.float64)
    place = int(np.searchsorted(cumulated / cumulated[-1], share))
    return float(values[order][min(place, len(values) - 1)])
