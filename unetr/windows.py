"""The sliding window: evenly spread windows, Gaussian weights, sums added in place.

The grid differs from MONAI's in that windows are spread evenly instead of the last one
being pushed back; for the same windows the result is the same. Volumes are (slice, row,
column) tensors; windows go through the network as (batch, 1, slice, row, column).
Deterministic; holds no state.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from monai.data.utils import compute_importance_map
from torch import Tensor

from errors import MetiaError

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """How the windows are worked off.

    Attributes
    ----------
    batch : int
        Windows a pass.
    stitch_on : str
        Device type that holds the volume and the sums: ``cpu``, or that of the network.
    """

    batch: int
    stitch_on: str


def plans(device: torch.device) -> tuple[Plan, ...]:
    """List the plans to try in turn, each needing less memory of the device."""
    if device.type == "cpu":
        return (Plan(1, "cpu"),)
    return (Plan(8, device.type), Plan(1, device.type), Plan(1, "cpu"))


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Spread windows evenly over an axis of at least the window's length."""
    interval = max(1, int(window * (1 - overlap)))
    count = math.ceil((length - window) / interval) + 1
    if count == 1:
        return [0]
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def run_windows(
    network: Network,
    volume: Tensor,
    *,
    window: Sequence[int],
    overlap: float,
    plan: Plan,
    device: torch.device,
    precision: torch.dtype,
    on_window: Callable[[float], None],
) -> Tensor:
    """Run the network over a whole volume.

    Parameters
    ----------
    network : callable
        Maps (batch, 1, *window) to logits of the same shape.
    volume : Tensor, (slice, row, column), float32
        At least as large as the window along each axis.
    on_window : callable
        Called before each window with the fraction done; may raise to stop.

    Returns
    -------
    Tensor, (slice, row, column), float32
        Logits, on the device that stitched.

    Raises
    ------
    MetiaError
        ``prediction-implausible`` where the network answers with NaN or infinity.
    """
    stitcher = device if plan.stitch_on == device.type else torch.device(plan.stitch_on)
    volume = volume.to(stitcher)
    weight = compute_importance_map(tuple(window), "gaussian", device=stitcher)
    total = torch.zeros_like(volume)
    weights = torch.zeros_like(volume)
    places = [
        tuple(
            slice(start, start + size)
            for start, size in zip(corner, window, strict=True)
        )
        for corner in itertools.product(
            *(
                window_starts(length, size, overlap)
                for length, size in zip(volume.shape, window, strict=True)
            )
        )
    ]
    for first in range(0, len(places), plan.batch):
        group = places[first : first + plan.batch]
        for offset in range(len(group)):
            on_window((first + offset) / len(places))
        batch = torch.stack([volume[place] for place in group])[:, None]
        batch = batch.to(device=device, dtype=precision)
        logits = network(batch.contiguous(memory_format=torch.channels_last_3d))
        logits = logits[:, 0].to(device=stitcher, dtype=torch.float32)
        if not bool(torch.isfinite(logits).all()):
            raise MetiaError(
                "prediction-implausible", "The network answered with no numbers."
            )
        for place, answer in zip(group, logits, strict=True):
            total[place].addcmul_(answer, weight)
            weights[place].add_(weight)
    on_window(1.0)
    return total.div_(weights)
