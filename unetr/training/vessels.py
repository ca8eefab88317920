"""Wandering vessels: all walk at once, then all are painted at once.

Positions are voxel indices (slice, row, column) on a 1 mm grid; radii in mm. Pure but
for the image that is painted on in place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetr.training.fields import Draw

MAXIMUM_REFUSALS = 6
"""A vessel ends when it has met walls this often; else it would curl up into a ball."""

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Strokes:
    """Where to paint what: one row a point.

    Attributes
    ----------
    points : ndarray, (n, 3)
    radii, levels : ndarray, (n,)
    """

    points: Points
    radii: NDArray[np.float64]
    levels: NDArray[np.float64]


def walk(
    draw: Draw,
    allowed: NDArray[np.bool_],
    starts: Points,
    *,
    steps: tuple[int, int],
    radius_mm: tuple[float, float],
    level: tuple[float, float],
    wander: float,
) -> Strokes:
    """Let vessels wander from `starts` within the voxels that are allowed."""
    numbers, count = draw.numbers, len(starts)
    lengths = numbers.integers(steps[0], steps[1] + 1, count)
    radii = numbers.uniform(*radius_mm, count)
    levels = numbers.uniform(*level, count)
    place = starts.astype(np.float64)
    heading = _unit(numbers.standard_normal((count, 3)))
    limit = np.array(allowed.shape) - 3
    refusals = np.zeros(count, int)
    rows: list[Points] = []
    owners: list[NDArray[np.intp]] = []
    for step in range(steps[1]):
        alive = np.flatnonzero((step < lengths) & (refusals < MAXIMUM_REFUSALS))
        if not len(alive):
            break
        turned = heading[alive] + wander * numbers.standard_normal((len(alive), 3))
        turned = _unit(turned)
        ahead = place[alive] + turned
        voxel = np.round(ahead).astype(int)
        within = ((voxel >= 2) & (voxel <= limit)).all(axis=1)
        clipped = np.clip(voxel, 0, np.array(allowed.shape) - 1)
        free = within & allowed[tuple(clipped.T)]
        back = _unit(-turned + 0.5 * numbers.standard_normal(turned.shape))
        heading[alive] = np.where(free[:, None], turned, back)
        place[alive[free]] = ahead[free]
        refusals[alive] += ~free
        rows.append(ahead[free])
        owners.append(alive[free])
    if not rows:
        return Strokes(np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    owner = np.concatenate(owners)
    return Strokes(np.concatenate(rows), radii[owner], levels[owner])


def _unit(vectors: Points) -> Points:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9))


def paint(image: Tensor, strokes: Strokes) -> None:
    """Brighten the image where the strokes are, by how much of a voxel they fill."""
    if not len(strokes.points):
        return
    device = image.device
    points = torch.from_numpy(strokes.points).float().to(device)
    radii = torch.from_numpy(strokes.radii).float().to(device)[:, None, None, None]
    levels = torch.from_numpy(strokes.levels).float().to(device)[:, None, None, None]
    reach = int(np.ceil(strokes.radii.max() + 0.5))
    offsets = torch.arange(-reach, reach + 1, device=device)
    squared = torch.zeros(1, device=device)
    flat = torch.zeros(1, dtype=torch.long, device=device)
    within = torch.ones(1, dtype=torch.bool, device=device)
    stride = image.numel()
    for axis, size in enumerate(image.shape):
        stride //= size
        places = points[:, axis].round().long()[:, None] + offsets
        shape = [len(points), *(-1 if axis == other else 1 for other in range(3))]
        squared = squared + ((places - points[:, axis, None]) ** 2).view(shape)
        flat = flat + (places * stride).view(shape)
        within = within & ((places >= 0) & (places < size)).view(shape)
    # A vessel thinner than a voxel cannot fill one.
    filled = (radii - squared.sqrt() + 0.5).clamp(0, 1) * (2 * radii).clamp(max=1)
    used = within & (filled > 0)
    value = levels.expand(used.shape)[used]
    flat, filled = flat[used], filled[used]
    pixels = image.view(-1)
    share = torch.zeros_like(pixels).scatter_reduce_(0, flat, filled, "amax")
    bright = torch.zeros_like(pixels).scatter_reduce_(0, flat, value, "amax")
    touched = torch.nonzero(share)[:, 0]
    old, part, new = pixels[touched], share[touched], bright[touched]
    pixels[touched] = torch.maximum(old, old * (1 - part) + new * part)
