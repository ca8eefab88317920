"""The base of a synthetic head: warped labels, painted with drawn tissue contrasts.

``draw_anatomy`` takes a label map and gives the image of all tissues before contrast
agent, with the masks that enhancement and lesions are placed by. Intensities follow
SynthSeg's T1 priors (``tissues.json``), with spin-echo-like flat contrast and odd scalp
for variety. Volumes are (slice, row, column) = (head, posterior, left), 1 mm voxels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unetr.training.fields import (
    Draw,
    bounding_box,
    dilate,
    erode,
    gaussian,
    stretch,
)
from unetr.training.parameters import AnatomyParameters

LABEL_LIMIT = 600
PARTIAL_VOLUME_SIGMA = 0.45
"""Tissue borders of a label map are stairs; a voxel at a border holds both tissues."""

FAT_LEVEL = 60.0
"""Tissue under the skin that is brighter than this, in the priors' scale, is fat."""
OUTSIDE = "outside"


@dataclass
class Anatomy:
    """A head before contrast agent; tensors are (slice, row, column).

    Attributes
    ----------
    image : Tensor, float32
        Changed in place by what is painted onto it.
    brain, white, grey, cerebellum, ventricles, fluid, intracranial : Tensor of bool
        `fluid` is that outside the brain; `intracranial` is closed.
    chiasm : Tensor of bool
        The landmark the pituitary gland lies below.
    reference : float
        Median intensity of white matter.
    """

    image: Tensor
    brain: Tensor
    white: Tensor
    grey: Tensor
    cerebellum: Tensor
    ventricles: Tensor
    fluid: Tensor
    intracranial: Tensor
    chiasm: Tensor
    reference: float


@cache
def tissues() -> tuple[dict[str, Any], ...]:
    """Read the table of labels: group, class of shared contrast, priors."""
    table = json.loads(Path(__file__).with_name("tissues.json").read_text("utf-8"))
    return tuple(table["tissues"])


def _lookup(values: dict[int, float], device: torch.device) -> Tensor:
    table = torch.zeros(LABEL_LIMIT)
    for label, value in values.items():
        table[label] = value
    return table.to(device)


def draw_anatomy(draw: Draw, labels: Tensor, parameters: AnatomyParameters) -> Anatomy:
    """Draw one head.

    Parameters
    ----------
    labels : Tensor, (slice, row, column), integer
        On the device of `draw`.
    """
    warped = warp_labels(draw, labels, parameters).clamp(0, LABEL_LIMIT - 1)
    mean, deviation = _contrasts(draw, parameters)
    level = gaussian(mean[warped], PARTIAL_VOLUME_SIGMA)
    spread = gaussian(deviation[warped], PARTIAL_VOLUME_SIGMA)
    groups = _groups_of(warped)
    if draw.chance(parameters.fat_share):
        _brighten_fat(draw, level, groups, parameters)
    texture = draw.white(level.shape).mul_(0.6)
    texture += draw.smooth(level.shape, 2.5).mul_(0.8)
    texture += draw.smooth(level.shape, 5.0).mul_(1.2 * _any_of(groups, OUTSIDE))
    image = texture.mul_(spread).add_(level).clamp_(min=0)
    return _with_masks(image, groups)


def _brighten_fat(
    draw: Draw, level: Tensor, groups: Tensor, parameters: AnatomyParameters
) -> None:
    """Suppress the fat under the skin or, as in spin echo, make it by far brightest."""
    head = groups != _group_names().index("air")
    skin = head & ~erode(head, draw.whole(4, 9))
    fat = skin & _any_of(groups, OUTSIDE) & (level > FAT_LEVEL)
    gain = draw.uniform(*parameters.fat_gain)
    level.mul_(1 + (gain - 1) * gaussian(fat.float(), 0.6))


def _with_masks(image: Tensor, groups: Tensor) -> Anatomy:
    white = _any_of(groups, "white", "cerebellum-white")
    grey = _any_of(groups, "grey", "cerebellum-grey")
    ventricles = _any_of(groups, "ventricle")
    fluid = _any_of(groups, "fluid")
    chiasm = _any_of(groups, "chiasm")
    brain = white | grey | chiasm | _any_of(groups, "brainstem", "deep", "other-brain")
    inside = brain | ventricles | fluid
    return Anatomy(
        image=image,
        brain=brain,
        white=white,
        grey=grey,
        cerebellum=_any_of(groups, "cerebellum-white", "cerebellum-grey"),
        ventricles=ventricles,
        fluid=fluid,
        intracranial=inside | erode(dilate(inside, 2), 2),
        chiasm=chiasm,
        reference=float(image[white].median()) if bool(white.any()) else 1.0,
    )


@cache
def _group_names() -> tuple[str, ...]:
    return tuple(dict.fromkeys(row["group"] for row in tissues()))


def _groups_of(labels: Tensor) -> Tensor:
    """Give the number of each voxel's group of tissues, as uint8."""
    table = torch.full((LABEL_LIMIT,), _group_names().index("air"), dtype=torch.uint8)
    for row in tissues():
        table[row["label"]] = _group_names().index(row["group"])
    return table.to(labels.device)[labels]


def _any_of(groups: Tensor, *names: str) -> Tensor:
    result = torch.zeros_like(groups, dtype=torch.bool)
    for name in names:
        result |= groups == _group_names().index(name)
    return result


def warp_labels(draw: Draw, labels: Tensor, parameters: AnatomyParameters) -> Tensor:
    """Turn, scale, mirror and bend a label map; labels stay whole."""
    if draw.chance(0.5):
        labels = labels.flip(2)
    shape = labels.shape
    matrix = _rotation(
        [math.radians(draw.uniform(*parameters.rotation_degrees)) for _ in range(3)]
    ) @ np.diag([1 / draw.uniform(*parameters.scale) for _ in range(3)])
    # affine_grid counts (column, row, slice) from -1 to 1 between the outer voxels.
    half = (np.array(shape) - 1) / 2
    scaled = (matrix * half[None, :] / half[:, None])[::-1, ::-1]
    theta = torch.zeros(1, 3, 4)
    theta[0, :, :3] = torch.from_numpy(scaled.copy())
    grid = functional.affine_grid(
        theta.to(labels.device), [1, 1, *shape], align_corners=True
    )
    grid += _bending(draw, shape, parameters)
    sampled = functional.grid_sample(
        labels[None, None].float(),
        grid,
        mode="nearest",
        padding_mode="zeros",
        align_corners=True,
    )[0, 0]
    return sampled[bounding_box(sampled > 0, 5)].long()


def _bending(draw: Draw, shape: Sequence[int], parameters: AnatomyParameters) -> Tensor:
    """Draw displacements (1, slice, row, column, 3) in the units of grid_sample."""
    amplitude = draw.uniform(*parameters.warp_mm)
    length = parameters.warp_length_mm
    coarse = [max(4, math.ceil(1.2 * size / length) + 1) for size in shape]
    fields = torch.stack([draw.smooth(coarse, 1.2) for _ in shape])
    units = [2 * amplitude / (size - 1) for size in reversed(shape)]
    fields *= torch.tensor(units, device=fields.device).view(3, 1, 1, 1)
    return stretch(fields, shape).permute(1, 2, 3, 0)[None]


def _rotation(angles: list[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (index for index in range(3) if index != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        result = turn @ result
    return result


def _contrasts(draw: Draw, parameters: AnatomyParameters) -> tuple[Tensor, Tensor]:
    """Draw the mean and the texture of every label; classes share their contrast."""
    drawn: dict[int, tuple[float, float]] = {}
    means: dict[int, float] = {}
    deviations: dict[int, float] = {}
    odd = draw.chance(parameters.odd_scalp_share)
    for row in tissues():
        if row["kind"] not in drawn:
            (mean, mean_spread), (deviation, deviation_spread) = (
                row["mean"],
                row["deviation"],
            )
            shift = parameters.contrast_spread * draw.numbers.normal()
            wide = abs(deviation + 0.7 * draw.numbers.normal() * deviation_spread)
            value = mean + shift * mean_spread
            if odd and row["group"] == OUTSIDE:
                value = draw.uniform(10, 260)
            drawn[row["kind"]] = (max(0.0, value), parameters.texture * wide)
        means[row["label"]], deviations[row["label"]] = drawn[row["kind"]]
    if draw.chance(parameters.flat_share):
        _flatten(means, draw.uniform(*parameters.flatness))
    if not draw.chance(0.2):
        means[0] = draw.uniform(0, 6)
    deviations[0] = min(deviations[0], 3.0)
    return _lookup(means, draw.device), _lookup(deviations, draw.device)


def _flatten(means: dict[int, float], amount: float) -> None:
    """Bring all of the brain towards its mean, as spin-echo T1 does."""
    groups = {"air", OUTSIDE, "ventricle", "fluid"}
    labels = [row["label"] for row in tissues() if row["group"] not in groups]
    middle = float(np.mean([means[label] for label in labels]))
    for label in labels:
        means[label] += amount * (middle - means[label])
