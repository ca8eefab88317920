"""Great vessels of the neck and the spinal cord, below a drawn head.

Bright tubes and a rod in dark fluid: cut across, and more so where a scan ends, they
look like balls. Painted onto an ``Anatomy`` in place; heights are slices from below,
lengths mm, which are voxels too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from unetr.training.anatomy import Anatomy
from unetr.training.fields import Draw, Place, centre_of, gaussian
from unetr.training.vessels import Points, Strokes, paint

LEAST_MM = 12
"""A head with less below its cerebellum shows no neck."""
GREAT_VESSELS = (
    ((22.0, 36.0), (-18.0, 4.0), (2.0, 7.0)),
    ((18.0, 30.0), (-28.0, -8.0), (1.8, 3.5)),
    ((8.0, 16.0), (-10.0, 2.0), (1.0, 2.0)),
)
"""Jugular vein, carotid, vertebral artery: how far beside and behind the spinal canal,
and radius."""


def paint_neck(draw: Draw, anatomy: Anatomy, blood: float) -> list[Place]:
    """Paint the neck, and tell one place in a vessel.

    Parameters
    ----------
    blood : float
        Intensity of the brightest vessel.
    """
    slices = torch.nonzero(anatomy.cerebellum.any(dim=2).any(dim=1))[:, 0]
    if not len(slices) or int(slices[0]) < LEAST_MM:
        return []
    top = int(slices[0])
    # Beside the cerebellum's lowest part, what is neither grey nor white is the stem.
    stem = anatomy.brain & ~anatomy.grey & ~anatomy.white
    stem[:top], stem[top + LEAST_MM :] = False, False
    if not bool(stem.any()):
        return []
    _, row, column = centre_of(stem)
    heights = np.arange(top + LEAST_MM, dtype=float)
    rows = row + (top - heights) * draw.uniform(-0.2, 0.3)
    columns = column + (top - heights) * draw.uniform(-0.1, 0.1)
    canal = np.stack([heights, rows, columns], axis=1)
    before = anatomy.image[: len(heights)]
    image = before.clone()
    _paint_cord(draw, image[:top], canal[:top], anatomy.reference)
    skull = anatomy.intracranial[: len(heights)]
    flesh = (gaussian(before, 3.0) > 0.1 * anatomy.reference) & ~skull
    vessels = _within(_great_vessels(draw, canal, blood), flesh.cpu().numpy())
    paint(image, vessels)
    before.copy_(torch.where(skull, before, image))
    if not len(vessels.points):
        return []
    z, y, x = vessels.points[draw.whole(0, len(vessels.points) - 1)].tolist()
    return [(z, y, x)]


def _paint_cord(draw: Draw, image: Tensor, canal: Points, reference: float) -> None:
    middle = torch.from_numpy(canal).float().to(image.device)[:, :, None, None]
    rows = torch.arange(image.shape[1], device=image.device)[:, None] - middle[:, 1]
    columns = torch.arange(image.shape[2], device=image.device) - middle[:, 2]
    away = (rows**2 / draw.uniform(0.6, 1) + columns**2).sqrt()
    fluid, cord = draw.uniform(0.1, 0.5), draw.uniform(0.75, 1.1)
    for radius, level in ((draw.uniform(8, 11), fluid), (draw.uniform(5, 7), cord)):
        share = (radius - away + 0.5).clamp(0, 1)
        image.mul_(1 - share).add_(level * reference * share)


def _great_vessels(draw: Draw, canal: Points, blood: float) -> Strokes:
    """Lead one of each kind down either side, winding and of uneven width."""
    heights = canal[:, 0]
    points, radii, levels = [], [], []
    for beside, behind, radius in GREAT_VESSELS:
        for side in (-1, 1):
            bend = draw.uniform(2, 5) * np.sin(heights / draw.uniform(8, 20))
            rows = canal[:, 1] + draw.uniform(*behind) + bend
            columns = canal[:, 2] + side * draw.uniform(*beside)
            columns = columns + draw.uniform(-1, 1) * bend
            waist = 1 + 0.2 * np.sin(heights / draw.uniform(3, 8))
            points.append(np.stack([heights, rows, columns], axis=1))
            radii.append(draw.uniform(*radius) * waist)
            levels.append(np.full(len(heights), blood * draw.uniform(0.6, 1.0)))
    return Strokes(*(np.concatenate(parts) for parts in (points, radii, levels)))


def _within(strokes: Strokes, allowed: np.ndarray[Any, np.dtype[np.bool_]]) -> Strokes:
    voxels = np.round(strokes.points).astype(int)
    kept = ((voxels >= 0) & (voxels < allowed.shape)).all(axis=1)
    kept[kept] = allowed[tuple(voxels[kept].T)]
    return Strokes(strokes.points[kept], strokes.radii[kept], strokes.levels[kept])
