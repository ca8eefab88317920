"""Losses for small lesions, on one logit a voxel against a soft target.

All take (batch, 1, slice, row, column) logits and targets of 0 to 1 and give a scalar.
Overlap terms are computed for each patch on its own and count little where a patch
holds no lesion, so that empty patches teach through the voxel-wise term. Computed in
float32 whatever the network's precision. Pure.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from unetr.training.parameters import LossParameters

SMOOTH = 1.0
NEIGHBOURHOOD = 15
"""Edge in voxels of the cube over which a lesion's size is measured."""


def lesion_loss(logits: Tensor, target: Tensor, parameters: LossParameters) -> Tensor:
    """Compute the loss of a batch."""
    logits, target = logits.float(), target.float()
    probability = torch.sigmoid(logits)
    overlap = _overlap_loss(probability, target, parameters)
    voxels = _voxel_loss(logits, probability, target, parameters)
    return overlap + parameters.voxel_weight * voxels


def _voxel_loss(
    logits: Tensor, probability: Tensor, target: Tensor, parameters: LossParameters
) -> Tensor:
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if parameters.kind == "dice-focal":
        # How far off, for soft targets too.
        loss = loss * (probability - target).abs() ** parameters.focal_power
    weight = 1 + (parameters.lesion_weight - 1) * (target > 0.1)
    if parameters.balance_voxels > 0:
        marked = torch.maximum(probability.detach(), target)
        weight = weight * _size_balance(marked, parameters)
    return (loss * weight).mean()


def _size_balance(marked: Tensor, parameters: LossParameters) -> Tensor:
    """Give the factor of each voxel, from how much is marked around it."""
    nearby = marked
    for axis in range(3):
        edge = [NEIGHBOURHOOD if axis == other else 1 for other in range(3)]
        middle = [size // 2 for size in edge]
        nearby = functional.avg_pool3d(nearby, edge, stride=1, padding=middle)
    volume = nearby * NEIGHBOURHOOD**3
    factor = parameters.balance_voxels / volume.clamp(min=1)
    return factor.clamp(1, parameters.balance_limit)


def _overlap_loss(
    probability: Tensor, target: Tensor, parameters: LossParameters
) -> Tensor:
    filled = (target.sum((1, 2, 3, 4)) > 0).float()
    weight = parameters.empty_weight + (1 - parameters.empty_weight) * filled
    return (overlap_errors(probability, target, parameters) * weight).mean()


def overlap_errors(
    probability: Tensor, target: Tensor, parameters: LossParameters
) -> Tensor:
    """Give 0 (all alike) to 1 (no overlap) for each patch, (batch,)."""
    axes = (1, 2, 3, 4)
    if parameters.kind == "tversky":
        both = (probability * target).sum(axes)
        missed = ((1 - probability) * target).sum(axes)
        added = (probability * (1 - target)).sum(axes)
        weighted = parameters.miss_weight * missed + (1 - parameters.miss_weight) * (
            added
        )
        score = (both + SMOOTH) / (both + weighted + SMOOTH)
    else:
        both = (probability * target).sum(axes)
        size = (probability**2).sum(axes) + (target**2).sum(axes)
        score = (2 * both + SMOOTH) / (size + SMOOTH)
    return 1 - score


def soft_dice(probability: Tensor, target: Tensor) -> Tensor:
    """Dice at 0.5 of each patch, (batch,); 1 where both are empty."""
    found, truth = probability >= 0.5, target >= 0.5
    axes = (1, 2, 3, 4)
    both = (found & truth).sum(axes)
    size = found.sum(axes) + truth.sum(axes)
    return torch.where(size > 0, 2 * both / size.clamp(min=1), 1.0)
