"""Whole volumes on a device of torch: resampled, slid over and stitched there.

One upload of the head's box, one download of its probabilities; between them nothing
waits for the device but the question whether to stop. The grid and the weights are
those of ``unetr.windows``, and for the same windows so is the result. Sums are float32.
Volumes are (slice, row, column) tensors. One volume at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unetr.configuration import Blending
from unetr.preprocessing import HOST, FloatArray, Matrices, Padding, multiply_axes
from unetr.windows import refuse_no_numbers, window_places, window_weight


class DeviceArithmetic:
    """``unetr.preprocessing.Arithmetic`` with tensors of one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def resample(self, volume: FloatArray, matrices: Matrices) -> Tensor:
        """Upload an array and multiply its axes."""
        uploaded = torch.from_numpy(np.ascontiguousarray(volume)).to(self._device)
        resampled: Tensor = multiply_axes(uploaded, self._upload(matrices))
        return resampled.contiguous()

    def pad(self, volume: Tensor, padding: Padding, value: float) -> Tensor:
        """Surround a volume by `value`."""
        flat = [count for pair in reversed(padding) for count in pair]
        return functional.pad(volume, flat, value=value)

    def probabilities(
        self, logits: Tensor | FloatArray, matrices: Matrices
    ) -> FloatArray:
        """Resample logits and download their sigmoid; arrays stay in main memory."""
        if isinstance(logits, np.ndarray):
            return HOST.probabilities(logits, matrices)
        resampled: Tensor = multiply_axes(logits, self._upload(matrices))
        answer: FloatArray = torch.sigmoid(resampled).cpu().numpy()
        return answer

    def _upload(self, matrices: Matrices) -> list[Tensor | None]:
        return [
            None if matrix is None else torch.from_numpy(matrix).to(self._device)
            for matrix in matrices
        ]


class TorchResident:
    """``unetr.engines.engine.Resident`` for a device of torch.

    Parameters
    ----------
    network : callable
        Windows (batch, 1, slice, row, column) to logits, float32, on `device`.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        device: torch.device,
    ) -> None:
        self._network = network
        self._device = device
        self._weight = lru_cache(maxsize=4)(self._upload_weight)
        self.arithmetic = DeviceArithmetic(device)

    def _upload_weight(self, window: tuple[int, ...], blending: Blending) -> Tensor:
        weight = window_weight(window, blending)
        return torch.from_numpy(weight.copy()).to(self._device)

    def run(
        self,
        volume: Tensor,
        *,
        window: Sequence[int],
        overlap: float,
        batch: int,
        on_window: Callable[[float], None],
        blending: Blending = "gaussian",
    ) -> Tensor:
        """Slide over a volume of the device; see ``unetr.windows.run_windows``."""
        weight = self._weight(tuple(window), blending)
        total = torch.zeros_like(volume)
        weights = torch.zeros_like(volume)
        places = window_places(volume.shape, window, overlap, blending)
        for first in range(0, len(places), batch):
            group = places[first : first + batch]
            for offset in range(len(group)):
                on_window((first + offset) / len(places))
            windows = torch.stack([volume[place] for place in group])[:, None]
            answers = self._network(
                windows.contiguous(memory_format=torch.channels_last_3d)
            )
            for place, answer in zip(group, answers[:, 0], strict=True):
                total[place].addcmul_(answer, weight)
                weights[place].add_(weight)
        # The only question to the device, which therefore never waited before.
        refuse_no_numbers(bool(torch.isfinite(total).all()))
        on_window(1.0)
        return total.div_(weights)

    def to_host(self, volume: Tensor) -> FloatArray:
        """Download a volume."""
        answer: FloatArray = volume.cpu().numpy()
        return answer

    def release(self) -> None:
        """Give cached memory of the device back."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
