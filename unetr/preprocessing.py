"""From an image to the network's grid and back, exactly invertible in space.

Profile ``head-mr``: the axes nearest to head, posterior, left (highdicom permutes and
flips, nothing here does), the head's box with a margin, linear resampling along the
image's own axes (an oblique image stays oblique), intensities scaled by those of the
head. Shrinking an axis averages over the wider voxel; the way back interpolates. Grids
are (slice, row, column), lengths in mm. Training uses ``prepare`` too, so that it and
inference cannot differ. The arithmetic is numpy's, or that of the device which an
engine brings (``Arithmetic``); no torch is imported here. Pure; deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from errors import MetiaError
from unetr.configuration import IntensityNormalisation, PreprocessingProfile
from unetr.head import Box, Head, find_head

_SAME_SPACING = 1e-3
_SAMPLE_LIMIT = 1_000_000

FloatArray = NDArray[np.float32]
Matrices = Sequence[FloatArray | None]
"""What each axis is multiplied by, (new, old); None leaves it as it is."""
Padding = tuple[tuple[int, int], ...]


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

    def to_network(self) -> FloatArray:
        """Give the matrix (network, source) that resamples towards the network."""
        positions = self._positions(self.network_count, self.network_mm)
        where = positions / self.source_mm + (self.source_count - 1) / 2
        return linear_weights(
            where, self.source_count, self.network_mm / self.source_mm
        )

    def to_source(self) -> FloatArray:
        """Give the matrix (source, network) that interpolates back."""
        positions = self._positions(self.source_count, self.source_mm)
        where = positions / self.network_mm + (self.network_count - 1) / 2
        return linear_weights(where, self.network_count)

    @staticmethod
    def _positions(count: int, size_mm: float) -> NDArray[np.float64]:
        centred = np.arange(count, dtype=np.float64) - (count - 1) / 2
        return centred * np.float64(size_mm)


def linear_weights(
    where: NDArray[np.float64], count: int, ratio: float = 1.0
) -> FloatArray:
    """Weigh `count` samples for voxels at `where` that are `ratio` times as wide.

    Linear interpolation, averaged over the width by which the new voxel exceeds the old
    (their variances differ by (ratio^2 - 1) / 12). Both leave straight lines straight.
    Each row sums to 1.
    """
    distance = np.clip(where, 0, count - 1)[:, None] - np.arange(count)
    width = math.sqrt(max(0.0, ratio**2 - 1))
    if width < _SAME_SPACING:
        weights = np.clip(1 - np.abs(distance), 0, None)
    else:
        weights = _hat_area(distance + width / 2) - _hat_area(distance - width / 2)
    normalised: FloatArray = (weights / weights.sum(axis=1, keepdims=True)).astype(
        np.float32
    )
    return normalised


def _hat_area(end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area up to `end` below the hat of linear interpolation (one sample each way)."""
    end = np.clip(end, -1, 1)
    return np.where(end < 0, (1 + end) ** 2 / 2, 1 - (1 - end) ** 2 / 2)


def multiply_axes(volume: Any, matrices: Sequence[Any]) -> Any:
    """Multiply each axis by its matrix; arrays of numpy or tensors of torch alike.

    Axes that shrink come first and those that grow last, so that least is computed.
    """
    given = [(axis, one) for axis, one in enumerate(matrices) if one is not None]
    for axis, matrix in sorted(
        given, key=lambda item: item[1].shape[0] / item[1].shape[1]
    ):
        if axis == 0:
            _, height, width = volume.shape
            flat = matrix @ volume.reshape(-1, height * width)
            volume = flat.reshape(-1, height, width)
        elif axis == 1:
            volume = matrix @ volume
        else:
            volume = volume @ matrix.T
    return volume


class Arithmetic(Protocol):
    """Where volumes lie and are computed on; a volume made here is used here only."""

    def resample(self, volume: FloatArray, matrices: Matrices) -> Any:
        """Multiply each axis of an array by its matrix; gives a volume."""

    def pad(self, volume: Any, padding: Padding, value: float) -> Any:
        """Surround a volume by `value`."""

    def probabilities(self, logits: Any, matrices: Matrices) -> FloatArray:
        """Resample logits, and give their sigmoid as an array."""


class HostArithmetic:
    """Volumes are arrays of numpy in main memory."""

    def resample(self, volume: FloatArray, matrices: Matrices) -> FloatArray:
        """See ``Arithmetic``."""
        return np.ascontiguousarray(multiply_axes(volume, matrices))

    def pad(self, volume: FloatArray, padding: Padding, value: float) -> FloatArray:
        """See ``Arithmetic``."""
        if not any(map(any, padding)):
            return volume
        return np.pad(volume, padding, constant_values=value)

    def probabilities(self, logits: FloatArray, matrices: Matrices) -> FloatArray:
        """See ``Arithmetic``."""
        if all(matrix is None for matrix in matrices):
            exponent = np.negative(logits)
        else:
            exponent = multiply_axes(-logits, matrices)
        # Of a logit below -87 the exponential is infinity, and the answer 0 is right.
        with np.errstate(over="ignore"):
            np.exp(exponent, out=exponent)
        exponent += 1
        result: FloatArray = np.reciprocal(exponent, out=exponent)
        return result


HOST = HostArithmetic()


@dataclass(frozen=True)
class Prepared:
    """An image on the network's grid, and the way back.

    Attributes
    ----------
    volume : array (or tensor of the device), (slice, row, column), float32
        Scaled intensities of the head's box, padded to the least shape.
    head : Head
        On the grid of `canonical`.
    image, canonical : highdicom.Volume
        The source as given, and with its axes turned.
    """

    volume: Any
    head: Head
    image: hd.Volume
    canonical: hd.Volume
    box: Box
    axes: tuple[Axis, Axis, Axis]
    padding: Padding
    arithmetic: Arithmetic = HOST

    def restore(self, logits: Any) -> hd.Volume:
        """Bring logits on the network's grid back to the source as probabilities.

        Parameters
        ----------
        logits : array or tensor
            Same shape as `volume`, and where it is.

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
        probability = self.arithmetic.probabilities(logits[inner], back)
        whole = np.zeros(self.canonical.spatial_shape, np.float32)
        whole[self.box] = probability
        turned = self.canonical.with_array(whole).match_geometry(self.image)
        return self.image.with_array(np.ascontiguousarray(turned.array))


def prepare(
    image: hd.Volume,
    profile: PreprocessingProfile,
    minimum_shape: Sequence[int] = (1, 1, 1),
    arithmetic: Arithmetic = HOST,
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
    head = find_head(canonical.array, canonical.spacing, up=(0, 1))
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
    volume = arithmetic.resample(scaled, forth)
    padding = tuple(
        (missing // 2, missing - missing // 2)
        for missing in (
            max(0, least - length)
            for least, length in zip(minimum_shape, volume.shape, strict=True)
        )
    )
    volume = arithmetic.pad(volume, padding, darkest)
    return Prepared(volume, head, image, canonical, box, axes, padding, arithmetic)


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
) -> tuple[FloatArray, float]:
    """Scale `part` in place by the rule; also give the darkest value of the result."""
    low, high = _anchors(part, head, rule)
    part -= np.float32(low)
    part /= np.float32(high - low)
    np.clip(part, *rule.clip, out=part)
    return part, float(part.min())


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
