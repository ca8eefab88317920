"""What enhances without being a metastasis: the look-alikes of a real scan.

Venous sinuses, dura, choroid plexus, pituitary gland, vessels and the neck's contents
are painted onto an ``Anatomy`` in place, before the lesions. Levels are relative to
white matter. Volumes are (slice, row, column) = (head, posterior, left), 1 mm voxels;
the pictures are plausible, not anatomical. Places are voxel indices.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unetr.training.anatomy import Anatomy
from unetr.training.fields import Draw, Place, centre_of, dilate, erode, gaussian
from unetr.training.neck import paint_neck
from unetr.training.parameters import EnhancementParameters
from unetr.training.vessels import Points, paint, walk

SELLA_MM = 24
"""Half the edge of the box around the optic chiasm that the gland is painted in."""
GLAND_BELOW_MM = 9
"""The gland's centre below the chiasm's."""
NECK_BRANCH = 1
"""Draws of the neck are its own, so that brains are the same with and without it."""


def enhance(
    draw: Draw, anatomy: Anatomy, parameters: EnhancementParameters
) -> tuple[Place, ...]:
    """Paint all of it, and tell places of what only its surroundings tell apart."""
    blood = anatomy.reference * draw.uniform(*parameters.vessel_level)
    middle = centre_of(anatomy.intracranial)
    places: list[Place] = []
    if draw.chance(parameters.sinus_share):
        _paint_sinuses(draw, anatomy, blood, middle)
    if draw.chance(parameters.dura_share):
        _paint_dura(draw, anatomy)
    if draw.chance(parameters.plexus_share):
        places += _paint_plexus(draw, anatomy, middle)
    if draw.chance(parameters.pituitary_share):
        places += _paint_pituitary(draw, anatomy)
    _paint_vessels(draw, anatomy, parameters, blood)
    apart = draw.branch(NECK_BRANCH)
    if apart.chance(parameters.neck_share):
        places += paint_neck(apart, anatomy, blood)
    return tuple(places)


def _mix(image: Tensor, share: Tensor, level: float | Tensor) -> None:
    """Blend towards a level, never darkening."""
    torch.maximum(image, image * (1 - share) + level * share, out=image)


def _index(image: Tensor, axis: int) -> Tensor:
    shape = [-1 if other == axis else 1 for other in range(3)]
    return torch.arange(image.shape[axis], device=image.device).view(shape)


def _paint_sinuses(draw: Draw, anatomy: Anatomy, blood: float, middle: Place) -> None:
    image = anatomy.image
    rind = anatomy.intracranial & ~erode(anatomy.intracranial, 2)
    height, depth, across = (_index(image, axis) for axis in range(3))
    # The superior sagittal sinus runs in the middle, over the top and down the back.
    midline = (across - middle[2]).abs() < draw.uniform(1.5, 4.0)
    behind = depth > middle[1] + draw.uniform(10, 25)
    upper = height > middle[0]
    share = gaussian((dilate(rind) & midline & (upper | behind)).float(), 0.9)
    _mix(image, share, blood)
    if bool(anatomy.cerebellum.any()) and draw.chance(0.9):
        # The transverse sinuses run along the upper edge of the cerebellum.
        profile = anatomy.cerebellum.sum(dim=(1, 2)).cumsum(0).double()
        level = draw.uniform(0.7, 0.92) * float(profile[-1])
        plane = int((profile < level).sum())
        ring = rind & ((height - plane).abs() <= draw.whole(2, 4))
        ring = ring & (depth > middle[1] + draw.uniform(10, 25))
        sides = draw.whole(0, 4)
        if sides == 1:
            ring = ring & (across > middle[2])
        elif sides == 2:
            ring = ring & (across < middle[2])
        _mix(image, gaussian(ring.float(), 1.0), blood * draw.uniform(0.75, 1.0))


def _paint_dura(draw: Draw, anatomy: Anatomy) -> None:
    image = anatomy.image
    rind = anatomy.intracranial & ~erode(anatomy.intracranial)
    share = gaussian(rind.float(), 0.6) * 0.7
    share = share * (0.6 + 0.5 * draw.smooth(image.shape, 12.0)).clamp(0, 1)
    _mix(image, share, anatomy.reference * draw.uniform(1.0, 1.9))


def _paint_plexus(draw: Draw, anatomy: Anatomy, middle: Place) -> list[Place]:
    image = anatomy.image
    place = anatomy.ventricles & (_index(image, 1) > middle[1] - 5)
    clumps = (draw.smooth(image.shape, 2.5) - draw.uniform(0.4, 1.3)).clamp(0, 0.5) * 2
    share = gaussian(place.float() * clumps, 0.4)
    texture = 1 + 0.1 * draw.white(image.shape)
    _mix(image, share, anatomy.reference * draw.uniform(1.0, 2.1) * texture)
    return [(z, y, x) for z, y, x in pick_voxels(draw, share > 0.5, 2).tolist()]


def _paint_pituitary(draw: Draw, anatomy: Anatomy) -> list[Place]:
    if not bool(anatomy.chiasm.any()):
        return []
    middle = centre_of(anatomy.chiasm)
    box = tuple(
        slice(max(0, round(place) - SELLA_MM), round(place) + SELLA_MM)
        for place in middle
    )
    image = anatomy.image[box]
    height, depth, across = (
        _index(image, axis) + box[axis].start - middle[axis] for axis in range(3)
    )
    level = anatomy.reference * draw.uniform(1.2, 2.1)
    gland = (
        ((height + GLAND_BELOW_MM) / draw.uniform(2.5, 5)) ** 2
        + ((depth + 1) / draw.uniform(3, 6)) ** 2
        + (across / draw.uniform(4, 7)) ** 2
    )
    _mix(image, (1.6 - gland).clamp(0, 1), level)
    stalk = (depth**2 + across**2).sqrt()
    _mix(image, (1.6 - stalk).clamp(0, 1) * ((height > -8) & (height < 0)), level)
    if draw.chance(0.7):
        # The cavernous sinuses beside the gland.
        for side in (-1, 1):
            pool = (
                ((height + GLAND_BELOW_MM) / 5) ** 2
                + ((depth - 2) / 9) ** 2
                + ((across - side * draw.uniform(10, 14)) / 4) ** 2
            )
            _mix(image, (1.4 - pool).clamp(0, 1), level * draw.uniform(0.8, 1.05))
    return [(middle[0] - GLAND_BELOW_MM, middle[1], middle[2])]


def _paint_vessels(
    draw: Draw, anatomy: Anatomy, parameters: EnhancementParameters, blood: float
) -> None:
    sulci = anatomy.fluid | (dilate(anatomy.fluid) & anatomy.intracranial)
    rind = anatomy.fluid | (anatomy.grey & ~erode(anatomy.grey))
    groups = (
        (parameters.surface_vessels, rind, sulci, (15, 90), 0.35, (0.7, 1.05)),
        (
            parameters.deep_vessels,
            anatomy.white,
            anatomy.intracranial,
            (10, 40),
            0.2,
            (0.6, 0.95),
        ),
    )
    radii = (parameters.surface_radius_mm, parameters.deep_radius_mm)
    for (count, origin, allowed, steps, wander, level), radius in zip(
        groups, radii, strict=True
    ):
        starts = pick_voxels(draw, origin, draw.whole(*count))
        strokes = walk(
            draw,
            allowed.cpu().numpy(),
            starts,
            steps=steps,
            radius_mm=radius,
            level=(level[0] * blood, level[1] * blood),
            wander=wander,
        )
        paint(anatomy.image, strokes)


def pick_voxels(draw: Draw, mask: Tensor, count: int) -> Points:
    """Pick voxels of a mask at random, with repetition; none where it is empty."""
    flat = torch.nonzero(mask.reshape(-1))[:, 0]
    if len(flat) == 0 or count == 0:
        return np.zeros((0, 3))
    chosen = torch.from_numpy(draw.numbers.integers(0, len(flat), count))
    picked = flat[chosen.to(flat.device)].cpu().numpy()
    return np.stack(np.unravel_index(picked, tuple(mask.shape)), axis=1).astype(float)
