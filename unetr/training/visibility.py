"""Which painted lesions the finished image still shows.

Thick slices, noise and a faint level can leave of a small lesion what no reader would
mark, so it must be neither taught nor asked for as one. A lesion counts as seen by the
criterion of Rose (J Opt Soc Am 38:196, 1948): its contrast times the root of its volume
in voxels is at least five times the spread of what surrounds it within the skull, be
that noise or texture. What is darker than its surroundings does not enhance and counts
as unseen. Volumes are (slice, row, column), 1 mm. Pure.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

LEAST_DETECTABILITY = 5.0
"""Rose's: what reaches it is recognised reliably."""
SHELL_MM = 4
"""Width of what surrounds a lesion."""
WALL_MM = 2
"""Outermost part of a lesion; a necrotic core must not hide what enhances around it."""
LEAST_SPREAD = 0.02
"""Of the brain's median: a surrounding without any spread hides nothing."""
_ALL_NEIGHBOURS = np.ones((3, 3, 3), bool)

_Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
_Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def find_unseen(
    image: Tensor, target: Tensor, inside: Tensor, read: Tensor | None = None
) -> Tensor:
    """Mark the bodies of a target that its image does not show.

    Parameters
    ----------
    image : Tensor
        In units of the brain's median.
    target : Tensor
        Share of each voxel that is lesion, 0 to 1.
    inside : Tensor of bool
        The inside of the skull: the scalp's fat hides no lesion beside it.
    read : Tensor or None
        Lesions that people have marked; what touches them is seen.

    Returns
    -------
    Tensor of bool
    """
    values, share, brain = (it.cpu().numpy() for it in (image, target, inside))
    known = None if read is None else read.cpu().numpy() > 0
    bodies, _ = ndimage.label(share > 0, _ALL_NEIGHBOURS)
    unseen = np.zeros(share.shape, bool)
    for number, place in enumerate(ndimage.find_objects(bodies), start=1):
        box = tuple(slice(max(0, p.start - SHELL_MM), p.stop + SHELL_MM) for p in place)
        own = bodies[box] == number
        if known is not None and bool((known[box] & own).any()):
            continue
        index = _detectability(values[box], share[box], brain[box], own)
        if index < LEAST_DETECTABILITY:
            unseen[box] |= own
    return torch.from_numpy(unseen).to(target.device)


def _detectability(image: _Array, share: _Array, inside: _Mask, own: _Mask) -> float:
    """Compare the brighter part of the wall with the brighter part around it."""
    lesion = own & (share >= 0.5 * share[own].max())
    wall = lesion & ~ndimage.binary_erosion(lesion, iterations=WALL_MM)
    around = ndimage.binary_dilation(own, _ALL_NEIGHBOURS, iterations=SHELL_MM)
    around &= inside & (share == 0)
    if not around.any():
        return np.inf
    low, high = np.percentile(image[around], [25, 75])
    # The distance of the quartiles of a normal law is 1.35 standard deviations.
    spread = max((high - low) / 1.35, LEAST_SPREAD)
    contrast = np.percentile(image[wall], 75) - high
    return float(contrast / spread * np.sqrt(share[own].sum()))
