"""Patches from heads: where they are cut, and how one is varied when used again.

Lesions of every size are met equally often, and what only its surroundings tell from
a lesion more often than its volume would have it. Patches are (slice, row, column)
float16 pairs of image and soft target, on the device of the head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from unetr.training.enhancement import pick_voxels
from unetr.training.fields import Draw
from unetr.training.parameters import PatchParameters
from unetr.training.synthetic import CLIP, SyntheticHead

BRIGHT = 1.5
"""From this many brain medians on, tissue counts as a possible look-alike."""
Patch = tuple[Tensor, Tensor]


def cut_patches(
    draw: Draw, head: SyntheticHead, size: Sequence[int], parameters: PatchParameters
) -> list[Patch]:
    """Cut ``per_head`` patches; a head smaller than one is padded with its darkest."""
    image, target, inside = _padded(head, size)
    bright = (image > BRIGHT) & (target < 0.1) & inside
    patches = []
    for _ in range(parameters.per_head):
        kind = draw.uniform(0, 1)
        centre: Sequence[float] | None = None
        if kind < parameters.lesion_share and head.lesions:
            centre = head.lesions[draw.whole(0, len(head.lesions) - 1)].centre
        elif kind < parameters.lesion_share:
            centre = _pick(draw, target > 0.4)
        elif kind < parameters.lesion_share + parameters.bright_share:
            known = head.look_alikes if draw.chance(0.5) else ()
            centre = (
                known[draw.whole(0, len(known) - 1)] if known else _pick(draw, bright)
            )
        if centre is None:
            centre = _pick(draw, inside)
        if centre is None:
            centre = [length / 2 for length in image.shape]
        box = _box_around(draw, centre, image.shape, size, parameters.jitter)
        patches.append((image[box].half(), target[box].half()))
    return patches


def _padded(head: SyntheticHead, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    flat = [
        count
        for length, edge in zip(
            reversed(head.image.shape), reversed(list(size)), strict=True
        )
        for count in (0, max(0, edge - length))
    ]
    if not any(flat):
        return head.image, head.target, head.inside
    image = functional.pad(head.image, flat, value=float(head.image.min()))
    return image, functional.pad(head.target, flat), functional.pad(head.inside, flat)


def _pick(draw: Draw, mask: Tensor) -> Sequence[float] | None:
    voxels = pick_voxels(draw, mask[::2, ::2, ::2], 1)
    return [2 * float(place) for place in voxels[0]] if len(voxels) else None


def _box_around(
    draw: Draw,
    centre: Sequence[float],
    shape: Sequence[int],
    size: Sequence[int],
    jitter: float,
) -> tuple[slice, slice, slice]:
    parts = []
    for place, length, edge in zip(centre, shape, size, strict=True):
        shifted = place - edge / 2 + edge * draw.uniform(-jitter, jitter)
        start = min(max(0, round(shifted)), length - edge)
        parts.append(slice(start, start + edge))
    return parts[0], parts[1], parts[2]


def vary(draw: Draw, patch: Patch, parameters: PatchParameters) -> Patch:
    """Mirror left and right, and change the brightness."""
    image, target = patch
    if draw.chance(0.5):
        image, target = image.flip(2), target.flip(2)
    gain, offset = draw.uniform(*parameters.gain), draw.uniform(*parameters.offset)
    image = (image.float() * gain + offset).clamp(*CLIP)
    return image, target.float()


def stack(patches: Sequence[Patch]) -> Patch:
    """Make a batch: (batch, 1, slice, row, column) images and targets."""
    images, targets = zip(*patches, strict=True)
    return torch.stack(images)[:, None], torch.stack(targets)[:, None]
