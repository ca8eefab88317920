"""The sliding window: where windows lie, how they are blended, sums added in place.

With ``gaussian`` blending windows are spread evenly, where MONAI pushes the last one
back; for the same windows the result is the same. With ``constant`` blending the grid
is MONAI's too, for networks whose answers shall stay what they were there. This is the
way through main memory; a device that keeps the volume has its own
(``unetr.engines.resident``) on the same grid and weights. Volumes are (slice, row,
column) arrays; windows go through the network as (batch, 1, slice, row, column).
Deterministic; no torch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from errors import MetiaError
from unetr.configuration import Blending

FloatArray = NDArray[np.float32]
Network = Callable[[FloatArray], FloatArray]

_SIGMA_SHARE = 0.125
"""Width of the Gaussian as a part of the window, as MONAI's ``gaussian`` mode."""
_LEAST_WEIGHT = 1e-3


@dataclass(frozen=True)
class Plan:
    """How the windows are worked off.

    Attributes
    ----------
    batch : int
        Windows a pass.
    stitch_on : str
        What holds the volume and the sums: ``cpu`` (main memory), or ``cuda``.
    """

    batch: int
    stitch_on: str


def plans(device: str) -> tuple[Plan, ...]:
    """List the plans to try in turn, each needing less memory of the device."""
    kind = device.partition(":")[0]
    if kind == "cpu":
        return (Plan(1, "cpu"),)
    return (Plan(8, kind), Plan(1, kind), Plan(1, "cpu"))


def window_starts(
    length: int, window: int, overlap: float, blending: Blending = "gaussian"
) -> list[int]:
    """Lay windows over an axis of at least the window's length."""
    interval = max(1, int(window * (1 - overlap)))
    count = math.ceil((length - window) / interval) + 1
    if count == 1:
        return [0]
    if blending == "constant":
        return [min(i * interval, length - window) for i in range(count)]
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def window_places(
    shape: Sequence[int],
    window: Sequence[int],
    overlap: float,
    blending: Blending = "gaussian",
) -> list[tuple[slice, ...]]:
    """List where the windows lie in a volume."""
    corners = itertools.product(
        *(
            window_starts(length, size, overlap, blending)
            for length, size in zip(shape, window, strict=True)
        )
    )
    return [
        tuple(
            slice(start, start + size)
            for start, size in zip(corner, window, strict=True)
        )
        for corner in corners
    ]


@lru_cache(maxsize=4)
def window_weight(
    window: tuple[int, ...], blending: Blending = "gaussian"
) -> FloatArray:
    """Weigh a window's voxels alike, or by a Gaussian around its middle; read-only."""
    weight = np.ones((1, 1, 1) if blending == "gaussian" else window, np.float64)
    for axis, size in enumerate(window if blending == "gaussian" else ()):
        distance = np.arange(size) - (size - 1) / 2
        bell = np.exp(-0.5 * (distance / (_SIGMA_SHARE * size)) ** 2)
        weight = weight * np.expand_dims(bell, [a for a in range(3) if a != axis])
    result = np.maximum(weight, _LEAST_WEIGHT).astype(np.float32)
    result.flags.writeable = False
    return result


def run_windows(
    network: Network,
    volume: FloatArray,
    *,
    window: Sequence[int],
    overlap: float,
    batch: int,
    on_window: Callable[[float], None],
    blending: Blending = "gaussian",
) -> FloatArray:
    """Run the network over a whole volume.

    Parameters
    ----------
    network : callable
        Maps (batch, 1, *window) to logits of the same shape.
    volume : ndarray, (slice, row, column), float32
        At least as large as the window along each axis.
    on_window : callable
        Called before each window with the fraction done; may raise to stop.

    Returns
    -------
    ndarray, (slice, row, column), float32
        Logits.

    Raises
    ------
    MetiaError
        ``prediction-implausible`` where the network answers with NaN or infinity.
    """
    weight = window_weight(tuple(window), blending)
    total = np.zeros_like(volume)
    weights = np.zeros_like(volume)
    weighted = np.empty_like(weight)
    places = window_places(volume.shape, window, overlap, blending)
    for first in range(0, len(places), batch):
        group = places[first : first + batch]
        for offset in range(len(group)):
            on_window((first + offset) / len(places))
        windows = np.stack([volume[place] for place in group])[:, None]
        for place, answer in zip(group, network(windows)[:, 0], strict=True):
            np.multiply(answer, weight, out=weighted)
            total[place] += weighted
            weights[place] += weight
    on_window(1.0)
    refuse_no_numbers(bool(np.isfinite(total).all()))
    total /= weights
    return total


def refuse_no_numbers(finite: bool) -> None:
    """Raise where a network answered with something that is no number.

    One look at the sums is enough: NaN and infinity stay what they are in a sum.
    """
    if not finite:
        raise MetiaError(
            "prediction-implausible", "The network answered with no numbers."
        )
