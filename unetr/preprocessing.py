"""From an image to the network's grid and back, exactly invertible in space.

Profile ``head-mr``: the axes nearest to head, posterior, left (highdicom permutes and
flips, nothing here does), the head's box with a margin, linear resampling along the
image's own axes (an oblique image stays oblique), intensities scaled by those of the
head. Shrinking an axis averages over the wider voxel; the way back interpolates. Grids
are (slice, row, column), lengths in mm. Training uses ``prepare`` too, so that it and
inference cannot differ. Pure; deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from errors import MetiaError
from unetr.configuration import IntensityNormalisation, PreprocessingProfile
from unetr.head import Box, Head, find_head

_SAME_SPACING = 1e-3
_SAMPLE_LIMIT = 1_000_000


@dataclass(frozen=True)
class Axis:
    """One axis of the box on both grids; both cover one extent around one centre."""

    source_count: int
    source_mm: float
    network_mm: float

    @property
    def is_same(self) -> bool:
        """Whether both grids agree, so that nothing is interpolated."""
        return abs(self.source_mm / self.network_mm - 1) < _SAME_SPACING

    @property
    def network_count(self) -> int:
        """Voxels on the network's grid, enough to cover the source."""
        if self.is_same:
            return self.source_count
        return max(
            1, math.ceil(self.source_count * self.source_mm / self.network_mm - 1e-6)
        )

    def to_network(self) -> Tensor:
        """Give the matrix (network, source) that resamples towards the network."""
        positions = self._positions(self.network_count, self.network_mm)
        where = positions / self.source_mm + (self.source_count - 1) / 2
        return linear_weights(
            where, self.source_count, self.network_mm / self.source_mm
        )

    def to_source(self) -> Tensor:
        """Give the matrix (source, network) that interpolates back."""
        positions = self._positions(self.source_count, self.source_mm)
        where = positions / self.network_mm + (self.network_count - 1) / 2
        return linear_weights(where, self.network_count)

    @staticmethod
    def _positions(count: int, size_mm: float) -> Tensor:
        return (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * size_mm


def linear_weights(where: Tensor, count: int, ratio: float = 1.0) -> Tensor:
    """Weigh `count` samples for voxels at `where` that are `ratio` times as wide.

    Linear interpolation, averaged over the width by which the new voxel exceeds the old
    (their variances differ by (ratio^2 - 1) / 12). Both leave straight lines straight.
    Each row sums to 1.
    """
    distance = where.clamp(0, count - 1)[:, None] - torch.arange(count).double()
    width = math.sqrt(max(0.0, ratio**2 - 1))
    if width < _SAME_SPACING:
        weights = (1 - distance.abs()).clamp(min=0)
    else:
        weights = _hat_area(distance + width / 2) - _hat_area(distance - width / 2)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def _hat_area(end: Tensor) -> Tensor:
    """Area up to `end` below the hat of linear interpolation (one sample each way)."""
    end = end.clamp(-1, 1)
    return torch.where(end < 0, (1 + end) ** 2 / 2, 1 - (1 - end) ** 2 / 2)


def resample(volume: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Multiply each axis by its matrix (new, old); None leaves an axis as it is."""
    slices, rows, columns = (
        None if matrix is None else matrix.to(volume.device) for matrix in matrices
    )
    if slices is not None:
        _, height, width = volume.shape
        volume = (slices @ volume.reshape(-1, height * width)).view(-1, height, width)
    if rows is not None:
        volume = rows @ volume
    if columns is not None:
        volume = volume @ columns.T
    return volume.contiguous()


@dataclass(frozen=True)
class Prepared:
    """An image on the network's grid, and the way back.

    Attributes
    ----------
    volume : Tensor, (slice, row, column), float32
        Scaled intensities of the head's box, padded to the least shape.
    head : Head
        On the grid of `canonical`.
    image, canonical : highdicom.Volume
        The source as given, and with its axes turned.
    """

    volume: Tensor
    head: Head
    image: hd.Volume
    canonical: hd.Volume
    box: Box
    axes: tuple[Axis, Axis, Axis]
    padding: tuple[tuple[int, int], ...]

    def restore(self, logits: Tensor) -> hd.Volume:
        """Bring logits on the network's grid back to the source as probabilities.

        Parameters
        ----------
        logits : Tensor
            Same shape as `volume`.

        Returns
        -------
        highdicom.Volume
            float32 in [0, 1] on the grid of the source; 0 outside the box.
        """
        inner = tuple(
            slice(before, length - after)
            for (before, after), length in zip(self.padding, logits.shape, strict=True)
        )
        back = [None if axis.is_same else axis.to_source() for axis in self.axes]
        probability = torch.sigmoid(resample(logits[inner], back)).cpu().numpy()
        whole = np.zeros(self.canonical.spatial_shape, np.float32)
        whole[self.box] = probability
        turned = self.canonical.with_array(whole).match_geometry(self.image)
        return self.image.with_array(np.ascontiguousarray(turned.array))


def prepare(
    image: hd.Volume,
    profile: PreprocessingProfile,
    minimum_shape: Sequence[int] = (1, 1, 1),
) -> Prepared:
    """Bring an image onto the network's grid.

    Parameters
    ----------
    image : highdicom.Volume
        float32, any orientation and spacing.
    minimum_shape : sequence of int
        Voxels the result has at least: the box first grows within the image, then the
        rest is padded with the darkest value.

    Raises
    ------
    MetiaError
        ``volume-bad-pixels`` where the image shows nothing or holds no numbers.
    """
    canonical = image.to_patient_orientation(profile.orientation)
    head = find_head(canonical.array, canonical.spacing)
    box = _roomy_box(head.box, canonical, profile, minimum_shape)
    part = np.array(canonical.array[box], dtype=np.float32, order="C")
    scaled, darkest = _normalise(part, head, profile.intensity)
    first, second, third = (
        Axis(extent, float(size), target)
        for extent, size, target in zip(
            part.shape, canonical.spacing, profile.spacing_mm, strict=True
        )
    )
    axes = (first, second, third)
    forth = [None if axis.is_same else axis.to_network() for axis in axes]
    volume = resample(scaled, forth)
    padding = tuple(
        (missing // 2, missing - missing // 2)
        for missing in (
            max(0, least - length)
            for least, length in zip(minimum_shape, volume.shape, strict=True)
        )
    )
    flat = [count for pair in reversed(padding) for count in pair]
    volume = functional.pad(volume, flat, value=darkest)
    return Prepared(volume, head, image, canonical, box, axes, padding)


def _roomy_box(
    box: Box,
    canonical: hd.Volume,
    profile: PreprocessingProfile,
    minimum_shape: Sequence[int],
) -> Box:
    parts = []
    for axis, part in enumerate(box):
        size_mm = canonical.spacing[axis]
        length = canonical.spatial_shape[axis]
        margin = math.ceil(profile.margin_mm / size_mm)
        start, stop = max(0, part.start - margin), min(length, part.stop + margin)
        wanted = math.ceil(minimum_shape[axis] * profile.spacing_mm[axis] / size_mm)
        count = min(length, max(stop - start, wanted))
        start = min(max(0, start - (count - (stop - start)) // 2), length - count)
        parts.append(slice(start, start + count))
    return parts[0], parts[1], parts[2]


def _normalise(
    part: NDArray[np.float32], head: Head, rule: IntensityNormalisation
) -> tuple[Tensor, float]:
    """Scale by the rule; also give the darkest value of the result."""
    low, high = _anchors(part, head, rule)
    scaled = torch.from_numpy(part).sub(low).div_(high - low)
    scaled.clamp_(*rule.clip)
    return scaled, float(scaled.min())


def _anchors(
    part: NDArray[np.float32], head: Head, rule: IntensityNormalisation
) -> tuple[float, float]:
    """Give the intensities that become 0 and 1."""
    if rule.rule == "brain-median":
        if not head.brain_median > 0:
            raise MetiaError("volume-bad-pixels", "The image shows no contrast.")
        return 0.0, head.brain_median
    tissue = part[part > head.air_threshold]
    sample = tissue[:: max(1, tissue.size // _SAMPLE_LIMIT)]
    if sample.size == 0:
        raise MetiaError("volume-bad-pixels", "The image shows no tissue.")
    low, high = np.percentile(sample, (rule.lower_percentile, rule.upper_percentile))
    if not high > low:
        raise MetiaError("volume-bad-pixels", "The image shows no contrast.")
    return float(low), float(high)
