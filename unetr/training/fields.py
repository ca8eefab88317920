"""Random draws and the few operations on volumes that the generator is made of.

A ``Draw`` is seeded once and gives every random number of one head: single numbers from
numpy's PCG64, whole volumes from torch on the device that computes. One seed gives one
head on one kind of device; CPU and CUDA draw different noise. Volumes are (slice, row,
column) float32 tensors on a 1 mm grid, lengths in voxels. Not shared between threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Shape = tuple[int, int, int]
Place = tuple[float, float, float]
"""(slice, row, column) in voxels."""


class Draw:
    """All random numbers of one head.

    Parameters
    ----------
    seed : sequence of int
    device : torch.device
        Where volumes are drawn.
    """

    def __init__(self, seed: Sequence[int], device: torch.device) -> None:
        self._seed = tuple(seed)
        self.numbers = np.random.default_rng(self._seed)
        self.device = device
        self._volumes = torch.Generator(device)
        self._volumes.manual_seed(int(self.numbers.integers(2**62)))

    def branch(self, number: int) -> Draw:
        """Give draws of their own, that take none from these."""
        return Draw((*self._seed, number), self.device)

    def uniform(self, low: float, high: float) -> float:
        """Draw one number."""
        return float(self.numbers.uniform(low, high))

    def whole(self, low: float, high: float) -> int:
        """Draw a whole number; both ends can occur."""
        return int(self.numbers.integers(round(low), round(high) + 1))

    def chance(self, share: float) -> bool:
        """Be true with a probability."""
        return bool(self.numbers.random() < share)

    def white(self, shape: Sequence[int]) -> Tensor:
        """Draw independent normal numbers."""
        return torch.randn(tuple(shape), generator=self._volumes, device=self.device)

    def smooth(self, shape: Sequence[int], length: float) -> Tensor:
        """Draw normal noise of about unit variance with a correlation length."""
        step = max(length / 1.2, 1.0)
        coarse = [max(4, math.ceil(size / step) + 1) for size in shape]
        noise = gaussian(self.white(coarse), 1.2)
        noise = noise / noise.std().clamp(min=1e-6)
        if step == 1.0:
            return noise[tuple(slice(size) for size in shape)]
        return stretch(noise[None], shape)[0]


def stretch(fields: Tensor, shape: Sequence[int]) -> Tensor:
    """Interpolate coarse fields (field, slice, row, column) to a shape."""
    stretched: Tensor = functional.interpolate(
        fields[None], size=tuple(shape), mode="trilinear", align_corners=True
    )[0]
    return stretched


def interpolate_axis(volume: Tensor, positions: Tensor, axis: int) -> Tensor:
    """Interpolate linearly at fractional indices along one axis; ends are repeated."""
    positions = positions.clamp(0, volume.shape[axis] - 1)
    low = positions.floor().long().clamp(max=max(0, volume.shape[axis] - 2))
    high = (low + 1).clamp(max=volume.shape[axis] - 1)
    weight = (positions - low).float()
    weight = weight.view([-1 if index == axis else 1 for index in range(3)])
    return torch.lerp(
        volume.index_select(axis, low), volume.index_select(axis, high), weight
    )


def gaussian(volume: Tensor, sigma: float | Sequence[float]) -> Tensor:
    """Blur with a Gaussian, of one or three standard deviations."""
    sigmas = [sigma] * 3 if isinstance(sigma, int | float) else list(sigma)
    for axis, width in enumerate(sigmas):
        if width <= 0.1:
            continue
        radius = min(math.ceil(3 * width), volume.shape[axis] - 1)
        offsets = torch.arange(-radius, radius + 1, device=volume.device)
        kernel = torch.exp(-0.5 * (offsets / width) ** 2)
        volume = _convolve(volume, kernel / kernel.sum(), axis)
    return volume


def _convolve(volume: Tensor, kernel: Tensor, axis: int) -> Tensor:
    radius = len(kernel) // 2
    padding = [0] * 6
    padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
    padded = functional.pad(volume[None, None], padding, mode="replicate")[0, 0]
    size = volume.shape[axis]
    result = torch.zeros_like(volume)
    for offset, weight in enumerate(kernel.tolist()):
        result.add_(padded.narrow(axis, offset, size), alpha=weight)
    return result


def dilate(mask: Tensor, radius: int = 1) -> Tensor:
    """Grow a mask by a box."""
    grown = mask.to(torch.uint8)
    for axis in range(3):
        whole = grown.clone()
        for shift in range(1, min(radius, grown.shape[axis] - 1) + 1):
            rest = grown.shape[axis] - shift
            whole.narrow(axis, shift, rest).bitwise_or_(grown.narrow(axis, 0, rest))
            whole.narrow(axis, 0, rest).bitwise_or_(grown.narrow(axis, shift, rest))
        grown = whole
    return grown.bool()


def erode(mask: Tensor, radius: int = 1) -> Tensor:
    """Shrink a mask by a box; the border of the volume does not eat into it."""
    return ~dilate(~mask, radius)


def centre_of(mask: Tensor) -> Place:
    """Give the mean index of a mask along each axis."""
    result = []
    for axis in range(3):
        profile = mask.sum(dim=[index for index in range(3) if index != axis]).double()
        index = torch.arange(len(profile), device=mask.device).double()
        result.append(float((profile * index).sum() / profile.sum().clamp(min=1)))
    return result[0], result[1], result[2]


def bounding_box(mask: Tensor, margin: int) -> tuple[slice, slice, slice]:
    """Give the bounds of a mask, grown by a margin within the volume."""
    parts = []
    for axis in range(3):
        flat = mask.movedim(axis, 0).reshape(mask.shape[axis], -1)
        where = torch.nonzero(flat.any(dim=1))[:, 0]
        if len(where) == 0:
            parts.append(slice(0, mask.shape[axis]))
            continue
        low, high = int(where[0]) - margin, int(where[-1]) + margin + 1
        parts.append(slice(max(0, low), min(mask.shape[axis], high)))
    return parts[0], parts[1], parts[2]
