"""From tissue to an image as a scanner writes it: blur, slices, noise, shading.

Everything is applied on the 1 mm grid, and thick slices come back to it by linear
interpolation, as ``unetr.preprocessing`` brings any image there. Volumes are (slice,
row, column); the target stays where it is. Pure.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unetr.training.fields import Draw, dilate, gaussian, interpolate_axis
from unetr.training.parameters import AcquisitionParameters


def acquire(
    draw: Draw, image: Tensor, inside: Tensor, parameters: AcquisitionParameters
) -> Tensor:
    """Make an image of a head drawn from labels.

    Parameters
    ----------
    image : Tensor, (slice, row, column), at least 0
    inside : Tensor of bool
        The inside of the skull.
    """
    image = image.clamp(min=0)
    if draw.chance(parameters.stripped_share):
        grown = draw.whole(0, 2)
        image = image * (dilate(inside, grown) if grown else inside)
    shading = draw.uniform(*parameters.bias) * draw.smooth(
        image.shape, draw.uniform(35, 70)
    )
    image = image * torch.exp(shading)
    blur = draw.uniform(*parameters.blur_mm)
    if draw.chance(parameters.thick_share):
        image = _thick(draw, image, blur, parameters)
    else:
        image = rician(draw, gaussian(image, blur), parameters)
    return _spoil(draw, image, inside, parameters)


def acquire_again(
    draw: Draw, image: Tensor, parameters: AcquisitionParameters
) -> Tensor:
    """Vary a real image a little: it has been acquired once."""
    image = image.clamp(min=0)
    length = draw.uniform(35, 70)
    amount = 0.7 * draw.uniform(*parameters.bias)
    image = image * torch.exp(amount * draw.smooth(image.shape, length))
    if draw.chance(0.5):
        image = gaussian(image, draw.uniform(0.2, 0.6))
    if draw.chance(0.5):
        image = rician(draw, image, parameters)
    if draw.chance(parameters.gamma_share):
        image = _bend(draw, image)
    return image


def percentile(image: Tensor, percent: float) -> float:
    """Give a percentile of a sample of the voxels."""
    flat = image.reshape(-1)
    flat = flat[:: max(1, flat.numel() // 500_000)]
    rank = max(1, min(flat.numel(), round(percent / 100 * flat.numel())))
    return float(flat.kthvalue(rank).values)


def rician(draw: Draw, image: Tensor, parameters: AcquisitionParameters) -> Tensor:
    """Add the noise of a magnitude image."""
    sigma = percentile(image, 90) * draw.uniform(*parameters.noise)
    real = image + sigma * draw.white(image.shape)
    return torch.hypot(real, sigma * draw.white(image.shape))


def _thick(
    draw: Draw, image: Tensor, blur: float, parameters: AcquisitionParameters
) -> Tensor:
    axis = 0 if draw.chance(0.75) else draw.whole(1, 2)
    thickness = draw.uniform(*parameters.thickness_mm)
    distance = thickness
    if draw.chance(parameters.gap_share):
        distance = thickness * draw.uniform(1.05, 1.4)
    count = image.shape[axis]
    slices = max(4, int(count / distance))
    first = (count - (slices - 1) * distance) / 2 - 0.5
    sigmas = [blur] * 3
    # The standard deviation of a box profile; real slice profiles are rounder.
    sigmas[axis] = thickness * draw.uniform(0.29, 0.42)
    places = first + distance * torch.arange(slices, device=image.device)
    few = interpolate_axis(gaussian(image, sigmas), places, axis)
    few = rician(draw, few, parameters)
    back = (torch.arange(count, device=image.device) - first) / distance
    return interpolate_axis(few, back, axis)


def _bend(draw: Draw, image: Tensor) -> Tensor:
    """Bend the grey scale as display-oriented software does."""
    top = percentile(image, 99.9) + 1e-6
    return top * (image / top) ** draw.uniform(0.75, 1.3)


def _spoil(
    draw: Draw, image: Tensor, inside: Tensor, parameters: AcquisitionParameters
) -> Tensor:
    if draw.chance(parameters.ghost_share):
        shift, axis = draw.whole(15, 60), draw.whole(0, 2)
        image = image + draw.uniform(0.01, 0.06) * image.roll(shift, dims=axis)
    if draw.chance(parameters.gamma_share):
        image = _bend(draw, image)
    if draw.chance(parameters.clip_share):
        limit = percentile(image[inside], draw.uniform(99, 99.9))
        image = image.clamp(max=limit)
    return image
