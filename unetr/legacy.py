"""The preprocessing of the system that MetIA replaces, deterministic and invertible.

Checkpoints trained with it expect voxels where millimetres were meant, the maximum
scaled to 255 and a CT window on it. The numbers follow from that system's published
transforms (MONAI's Orientation, Spacing, ScaleIntensityRange and CropForeground on an
identity affine); a test holds them to MONAI. The way back is explicit: the logit is
interpolated linearly onto the source's grid, and what was cut off holds no lesion.
Volumes are highdicom's, axes (slice, row, column); pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from errors import MetiaError
from unetr.configuration import LegacyProfile
from unetr.head import Head, find_head
from unetr.preprocessing import (
    HOST,
    Arithmetic,
    FloatArray,
    Padding,
    linear_weights,
)

_AXES = {"slice": 0, "row": 1, "column": 2}
_ORIENTATION = "HPL"
_BRIGHTEST = 255.0


@dataclass(frozen=True)
class _Span:
    """What is kept of an axis of the network's grid of `length` voxels."""

    start: int
    stop: int
    length: int

    def nearest(self, where: NDArray[np.float64]) -> slice:
        """Tell which of rising places, in voxels of the axis, lie in what is kept."""
        first, last = np.searchsorted(where, (self.start - 0.5, self.stop - 0.5))
        return slice(
            int(first) if self.start else 0,
            int(last) if self.stop < self.length else len(where),
        )


@dataclass(frozen=True)
class PreparedLegacy:
    """An image as the old network saw it, and the way back.

    Attributes
    ----------
    volume : array (or tensor of the device), float32
        Axes in the profile's order, steps in voxels, cut to what shows, padded to the
        window.
    head : Head
        On the grid of `canonical`.
    """

    volume: Any
    head: Head
    image: hd.Volume
    canonical: hd.Volume
    profile: LegacyProfile
    shape: tuple[int, ...]
    box: tuple[_Span, ...]
    padding: Padding
    arithmetic: Arithmetic = HOST

    def restore(self, logits: Any) -> hd.Volume:
        """Bring logits back to the source as probabilities, float32 in [0, 1]."""
        inner = tuple(
            slice(before, length - after)
            for (before, after), length in zip(self.padding, logits.shape, strict=True)
        )
        kept, back = [], []
        for count, step, span, seen in zip(
            self.shape,
            self.profile.spacing_voxels,
            self.box,
            logits[inner].shape,
            strict=True,
        ):
            where = np.arange(count) / step
            kept.append(span.nearest(where))
            back.append(linear_weights(where[kept[-1]] - span.start, seen))
        probability = np.zeros(self.shape, np.float32)
        probability[tuple(kept)] = self.arithmetic.probabilities(logits[inner], back)
        turned = _from_network(probability, self.profile)
        placed = self.canonical.with_array(np.ascontiguousarray(turned))
        same = placed.match_geometry(self.image)
        return self.image.with_array(np.ascontiguousarray(same.array))


def prepare_legacy(
    image: hd.Volume,
    profile: LegacyProfile,
    minimum_shape: tuple[int, int, int],
    arithmetic: Arithmetic = HOST,
) -> PreparedLegacy:
    """Bring an image onto the old network's grid.

    Parameters
    ----------
    image : highdicom.Volume
        float32, any orientation; its voxel size is ignored, as it was.
    minimum_shape : tuple of int
        Of the network's grid; what is missing is padded with 0 on both sides.

    Raises
    ------
    MetiaError
        ``volume-bad-pixels`` where nothing is brighter than 0, or than the window.
    """
    canonical = image.to_patient_orientation(_ORIENTATION)
    array = np.ascontiguousarray(canonical.array, dtype=np.float32)
    brightest = float(array.max())
    if not brightest > 0:
        raise MetiaError("volume-bad-pixels", "The image shows nothing.")
    head = find_head(array, canonical.spacing)
    turned = _to_network(
        array / np.float32(brightest) * np.float32(_BRIGHTEST), profile
    )
    forth = [
        linear_weights(np.arange(_steps(count, step)) * np.float64(step), count)
        for count, step in zip(turned.shape, profile.spacing_voxels, strict=True)
    ]
    volume = _windowed(arithmetic.resample(turned, forth), profile)
    box = _shown(volume)
    volume = volume[tuple(slice(span.start, span.stop) for span in box)]
    padding = tuple(
        (max(0, least - length) // 2, (max(0, least - length) + 1) // 2)
        for least, length in zip(minimum_shape, volume.shape, strict=True)
    )
    return PreparedLegacy(
        volume=arithmetic.pad(volume, padding, 0.0),
        head=head,
        image=image,
        canonical=canonical,
        profile=profile,
        shape=tuple(turned.shape),
        box=box,
        padding=padding,
        arithmetic=arithmetic,
    )


def _windowed(volume: Any, profile: LegacyProfile) -> Any:
    low, high = profile.window_intensity
    darkest, brightest = profile.scaled_to
    share = (volume - low) / (high - low)
    return (share * (brightest - darkest) + darkest).clip(darkest, brightest)


def _shown(volume: Any) -> tuple[_Span, ...]:
    """Find the box of what is above 0, as MONAI's CropForeground does."""
    shown = volume > 0
    spans = []
    for axis in range(3):
        planes = shown
        for other in {2, 1, 0} - {axis}:
            planes = planes.any(other, keepdims=True)
        (seen,) = np.nonzero(planes.ravel().tolist())
        if not seen.size:
            raise MetiaError(
                "volume-bad-pixels",
                "The image shows nothing within the profile's window.",
            )
        spans.append(_Span(int(seen[0]), int(seen[-1]) + 1, volume.shape[axis]))
    return tuple(spans)


def _steps(count: int, step: float) -> int:
    """Voxels along an axis, as MONAI rounds them (halves to the even number)."""
    return max(1, round((count - 1) / step + 1))


def _to_network(volume: FloatArray, profile: LegacyProfile) -> FloatArray:
    axes, backwards = _order(profile)
    return np.ascontiguousarray(np.flip(volume.transpose(axes), backwards))


def _from_network(volume: FloatArray, profile: LegacyProfile) -> FloatArray:
    axes, backwards = _order(profile)
    inverse = [axes.index(axis) for axis in range(3)]
    return np.flip(volume, backwards).transpose(inverse)


def _order(profile: LegacyProfile) -> tuple[list[int], tuple[int, ...]]:
    axes = [_AXES[name.removeprefix("-")] for name in profile.axis_order]
    backwards = tuple(
        place for place, name in enumerate(profile.axis_order) if name.startswith("-")
    )
    return axes, backwards
