"""Synthetic metastases: how many, how large, where, and what they look like.

``paint_lesions`` changes an image in place and gives the soft target (share of each
voxel that is lesion, 0 to 1) and the list of what was painted. Diameters in mm,
positions in voxel indices (slice, row, column) on a 1 mm grid, levels relative to the
brightness of white matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from unetr.training.enhancement import pick_voxels
from unetr.training.fields import Draw, Place
from unetr.training.parameters import LesionParameters

LEAST_VOLUME_MM3 = 3.0
"""What is smaller after cutting at the skull is not painted."""
GAP_MM = 2.0
"""Room kept between two lesions, so that they stay two."""
FADE_MM = 5
"""Over which oedema ends at last, however wide it was drawn."""


@dataclass(frozen=True)
class PaintedLesion:
    """One metastasis.

    Attributes
    ----------
    centre : Place
    diameter_mm : float
        Mean diameter before deformation.
    kind : str
        ``solid``, ``ring``, ``patchy`` or ``haemorrhagic``.
    """

    centre: Place
    diameter_mm: float
    kind: str


@dataclass(frozen=True)
class Canvas:
    """What lesions are painted on.

    Attributes
    ----------
    image : Tensor, (slice, row, column)
    target : Tensor
        Same shape; gets the share of lesion.
    inside : Tensor of bool
        Lesions end at its border (the skull).
    brain : Tensor of bool
        Where oedema shows.
    pools : sequence of (float, Tensor of bool)
        Shares of the lesions, and the voxels their centres are drawn from.
    reference : float
    """

    image: Tensor
    target: Tensor
    inside: Tensor
    brain: Tensor
    pools: Sequence[tuple[float, Tensor]]
    reference: float


def draw_count(draw: Draw, parameters: LesionParameters) -> int:
    """Draw the number of lesions of one head."""
    if draw.chance(parameters.none_share):
        return 0
    count = int(draw.numbers.geometric(parameters.count_decay))
    return min(count, parameters.maximum_count)


def draw_diameter(draw: Draw, parameters: LesionParameters) -> float:
    """Draw a mean diameter in mm: log-normal, skewed to small."""
    middle = math.log(parameters.median_diameter_mm)
    value = math.exp(draw.numbers.normal(middle, parameters.diameter_spread))
    return float(np.clip(value, *parameters.diameter_mm))


def paint_lesions(
    draw: Draw, canvas: Canvas, parameters: LesionParameters, count: int
) -> list[PaintedLesion]:
    """Paint up to `count` lesions; one that falls onto another is left out."""
    painted: list[PaintedLesion] = []
    shares = np.array([share for share, _ in canvas.pools])
    chosen = draw.numbers.choice(len(shares), count, p=shares / shares.sum())
    for pool in range(len(shares)):
        wanted = int((chosen == pool).sum())
        for voxel in pick_voxels(draw, canvas.pools[pool][1], wanted):
            diameter = draw_diameter(draw, parameters)
            centre = voxel + draw.numbers.uniform(-0.5, 0.5, 3)
            if _collides(centre, diameter, painted):
                continue
            lesion = _paint_one(draw, canvas, parameters, centre, diameter)
            if lesion is not None:
                painted.append(lesion)
    return painted


def _collides(
    centre: np.ndarray[tuple[int], np.dtype[np.float64]],
    diameter_mm: float,
    painted: Sequence[PaintedLesion],
) -> bool:
    return any(
        np.linalg.norm(centre - np.array(other.centre))
        < (diameter_mm + other.diameter_mm) * 0.6 + GAP_MM
        for other in painted
    )


def _paint_one(
    draw: Draw,
    canvas: Canvas,
    parameters: LesionParameters,
    centre: np.ndarray[tuple[int], np.dtype[np.float64]],
    diameter: float,
) -> PaintedLesion | None:
    radius = diameter / 2
    oedema = draw.chance(parameters.oedema_share) and diameter > 5
    reach = math.ceil(radius * (2.4 if oedema else 2.2) + 4)
    middle = np.round(centre).astype(int)
    box = tuple(
        slice(max(0, int(place) - reach), min(size, int(place) + reach + 1))
        for place, size in zip(middle, canvas.image.shape, strict=True)
    )
    distance = _distance(draw, canvas.image[box], box, centre, radius)
    softness = draw.uniform(0.5, 1.1)
    share = (0.5 - distance / (2 * softness)).clamp(0, 1) * canvas.inside[box]
    share = _largest_body(share)
    if float(share.sum()) < LEAST_VOLUME_MM3:
        return None
    faint = draw.chance(parameters.faint_share)
    level = draw.uniform(*(parameters.faint_level if faint else parameters.level))
    value, kind = _inside(draw, parameters, distance, level, diameter)
    image = canvas.image[box]
    if oedema:
        width = draw.uniform(2, 10)
        halo = torch.exp(-(distance.clamp(min=0) ** 2) / (2 * width**2))
        halo = halo * canvas.brain[box]
        halo = halo * (1 + 0.6 * draw.smooth(halo.shape, 4.0)).clamp(0, 1)
        halo = halo * _fade(image, box, middle, reach)
        image.mul_(1 - draw.uniform(0.08, 0.3) * halo)
    image.mul_(1 - share).add_(value * canvas.reference * share)
    target = canvas.target[box]
    torch.maximum(target, share, out=target)
    place = (float(centre[0]), float(centre[1]), float(centre[2]))
    return PaintedLesion(place, diameter, kind)


def _fade(
    part: Tensor,
    box: Sequence[slice],
    middle: np.ndarray[tuple[int], np.dtype[np.int64]],
    reach: int,
) -> Tensor:
    """Give 1 around the middle of a box, falling to 0 within the ball that it holds.

    Wide oedema would end at the faces of the box otherwise, as it does in no head.
    """
    squared = torch.zeros_like(part)
    for axis in range(3):
        line = torch.arange(box[axis].start, box[axis].stop, device=part.device)
        line = (line - int(middle[axis])) ** 2
        squared += line.view([-1 if axis == other else 1 for other in range(3)])
    ramp = ((reach + 1 - squared.sqrt()) / FADE_MM).clamp(0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _distance(
    draw: Draw,
    part: Tensor,
    box: Sequence[slice],
    centre: np.ndarray[tuple[int], np.dtype[np.float64]],
    radius: float,
) -> Tensor:
    """Give about the distance outside the deformed surface, in mm."""
    squared = torch.zeros_like(part)
    for axis in range(3):
        stretch = radius * math.exp(draw.numbers.normal(0, 0.12))
        line = torch.arange(box[axis].start, box[axis].stop, device=part.device)
        line = ((line - float(centre[axis])) / stretch) ** 2
        squared += line.view([-1 if axis == other else 1 for other in range(3)])
    scaled = squared.sqrt()
    uneven = draw.uniform(0, 0.28 if radius > 3 else 0.12)
    bumps = draw.smooth(part.shape, max(radius * 0.7, 2.0))
    return (scaled * torch.exp(uneven * bumps.clamp(-2, 2)) - 1) * radius


def _largest_body(share: Tensor) -> Tensor:
    """Leave out islets: a skull or a bump may cut a lesion into bodies."""
    bodies, count = ndimage.label((share > 0).cpu().numpy(), np.ones((3, 3, 3)))
    if count < 2:
        return share
    amounts = np.bincount(bodies.ravel(), share.cpu().numpy().ravel())
    amounts[0] = 0
    return share * torch.from_numpy(bodies == amounts.argmax()).to(share.device)


def _inside(
    draw: Draw,
    parameters: LesionParameters,
    distance: Tensor,
    level: float,
    diameter: float,
) -> tuple[Tensor, str]:
    """Give the brightness within a lesion, relative to white matter."""
    shape = distance.shape
    value = level * (1 + draw.uniform(0, 0.16) * draw.smooth(shape, 2.5))
    kind = draw.uniform(0, 1)
    if diameter > 7 and kind < parameters.ring_share:
        wall = draw.uniform(1.0, max(1.3, diameter * 0.27))
        # The wall of a necrotic lesion is of uneven thickness.
        wall_there = wall * (1 + 0.35 * draw.smooth(shape, max(3.0, diameter * 0.3)))
        core = (0.5 - (distance + wall_there.clamp(min=0.8)) / 1.2).clamp(0, 1)
        return value * (1 - core) + draw.uniform(0.25, 1.0) * core, "ring"
    patchy_ends = parameters.ring_share + parameters.patchy_share
    if diameter > 6 and parameters.ring_share <= kind < patchy_ends:
        return _mottled(draw, value, diameter, draw.uniform(0.5, 1.2)), "patchy"
    if diameter > 6 and 0 <= kind - patchy_ends < parameters.haemorrhagic_share:
        # Methaemoglobin is bright without contrast agent, fresh and old blood dark.
        bright = torch.full_like(value, draw.uniform(1.6, 3.0))
        blood = _mottled(draw, bright, diameter, draw.uniform(0.2, 0.5))
        return _mottled(draw, value, diameter, blood), "haemorrhagic"
    return value, "solid"


def _mottled(
    draw: Draw, value: Tensor, diameter: float, other: Tensor | float
) -> Tensor:
    """Replace patches of a lesion by another brightness."""
    length = max(diameter * 0.25, 2.0)
    patches = torch.sigmoid(4 * draw.smooth(value.shape, length))
    return value * (1 - patches) + other * patches
