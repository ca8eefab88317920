"""Prediction with a UNETR: prepare, slide, restore; deterministic, bounded, stoppable.

``UnetrInference`` holds one loaded network for the life of the process and answers one
call at a time (it sets the process's torch threads and determinism). The input is a
``highdicom.Volume`` with axes (slice, row, column) in LPS; the answer lies on exactly
its grid. Memory that runs out is met with smaller batches, then with sums on the CPU;
what was done is part of the answer's parameters, and the region is never smaller.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import highdicom as hd
import numpy as np
import torch
from torch import Tensor

from errors import MetiaError
from unetr.configuration import (
    InferenceParameters,
    LegacyProfile,
    NetworkArguments,
    Profile,
)
from unetr.hardware import (
    choose_device,
    choose_precision,
    describe_device,
    is_out_of_memory,
    set_threads,
)
from unetr.head import Head
from unetr.legacy import prepare_legacy
from unetr.network import load_for_inference, read_safetensors
from unetr.preprocessing import prepare
from unetr.windows import Network, Plan, plans, run_windows

PREPARED_SHARE = 0.04
"""Part of the progress that preparation takes; the same again for the way back."""


@dataclass(frozen=True)
class Answer:
    """Probabilities and what produced them.

    Attributes
    ----------
    probability : highdicom.Volume
        float32 in [0, 1] on the grid of the input.
    device : str
    parameters : dict
        All that determined the answer besides the weights; plain JSON values.
    timings_s : dict
    """

    probability: hd.Volume
    device: str
    parameters: dict[str, object]
    timings_s: dict[str, float]


class PreparedImage(Protocol):
    """An image on the network's grid, and the way back."""

    @property
    def volume(self) -> Tensor:
        """What the network sees, (slice, row, column) of its own grid."""

    @property
    def head(self) -> Head:
        """Where the head lies."""

    def restore(self, logits: Tensor) -> hd.Volume:
        """Bring logits like `volume` back to the source as probabilities."""


class UnetrInference:
    """A loaded network with its way of preparing images.

    Parameters
    ----------
    network : callable
        Windows (batch, 1, slice, row, column) to logits of the same shape.
    precision : torch.dtype
        Number format of the network's input.
    threads : int
        CPU threads; 0 means all cores.
    """

    def __init__(
        self,
        network: Network,
        profile: Profile,
        inference: InferenceParameters,
        *,
        device: torch.device,
        precision: torch.dtype,
        threads: int = 0,
    ) -> None:
        if inference.window is None:
            raise MetiaError("model-invalid", "The model states no window.")
        self._network = network
        self._profile = profile
        self._inference = inference
        self._window = inference.window
        self._device = device
        self.device = describe_device(device)
        self._precision = precision
        self._threads = set_threads(threads)
        self.plans: tuple[Plan, ...] = plans(device)

    def with_profile(self, profile: Profile) -> UnetrInference:
        """Give the same loaded network with another way of preparing images."""
        other = copy.copy(self)
        other._profile = profile
        return other

    def predict(
        self,
        image: hd.Volume,
        *,
        progress: Callable[[float], None],
        cancelled: Callable[[], bool],
    ) -> Answer:
        """Predict the probability of lesion for every voxel.

        Raises
        ------
        MetiaError
            ``job-cancelled``, ``out-of-memory``, ``prediction-implausible``,
            ``volume-bad-pixels``.
        """
        steps = _Steps(progress, cancelled)
        with _deterministic(self._threads), _memory_errors():
            steps.reach(0.0)
            prepared = self._prepare(image)
            steps.reach(PREPARED_SHARE)
            steps.end("preprocess")
            logits, plan, retries = self._run(prepared.volume, steps)
            steps.end("network")
            probability = prepared.restore(logits)
        self._refuse_implausible(probability, prepared)
        steps.end("postprocess")
        steps.reach(1.0)
        return Answer(
            probability=probability,
            device=self.device,
            parameters=self._parameters(plan, retries),
            timings_s=steps.timings_s,
        )

    def _prepare(self, image: hd.Volume) -> PreparedImage:
        if isinstance(self._profile, LegacyProfile):
            return prepare_legacy(image, self._profile, self._window)
        return prepare(image, self._profile, self._window)

    def _run(self, volume: Tensor, steps: _Steps) -> tuple[Tensor, Plan, int]:
        for retries, plan in enumerate(self.plans):
            try:
                logits = run_windows(
                    self._network,
                    volume,
                    window=self._window,
                    overlap=self._inference.overlap,
                    plan=plan,
                    device=self._device,
                    precision=self._precision,
                    on_window=steps.window,
                )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            else:
                return logits, plan, retries
            # Outside the handler: the traceback there keeps the tensors alive.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        raise MetiaError(
            "out-of-memory", "The network does not fit into memory, even one window."
        )

    def _refuse_implausible(
        self, probability: hd.Volume, prepared: PreparedImage
    ) -> None:
        marked = np.count_nonzero(probability.array >= self._inference.threshold)
        fraction = marked * probability.voxel_volume / prepared.head.volume_mm3
        if fraction > self._inference.maximum_head_fraction:
            raise MetiaError(
                "prediction-implausible",
                f"The model marked {fraction:.0%} of the head as lesion.",
                {"head_fraction": round(fraction, 3)},
            )

    def _parameters(self, plan: Plan, retries: int) -> dict[str, object]:
        return {
            **self._profile.model_dump(
                mode="json",
                include={"profile", "spacing_mm", "spacing_voxels", "axis_order"},
            ),
            "window": list(self._window),
            "overlap": self._inference.overlap,
            "blending": "gaussian",
            "execution": {
                "engine": "torch",
                "device": self._device.type,
                "precision": str(self._precision).removeprefix("torch."),
                "threads": self._threads,
                "batch": plan.batch,
                "stitched_on": plan.stitch_on,
                "out_of_memory_retries": retries,
            },
        }


class _Steps:
    """Progress that never falls back, cancellation, and time by step."""

    def __init__(
        self, progress: Callable[[float], None], cancelled: Callable[[], bool]
    ) -> None:
        self._progress = progress
        self._cancelled = cancelled
        self._reached = 0.0
        self._since = time.perf_counter()
        self.timings_s: dict[str, float] = {}

    def reach(self, fraction: float) -> None:
        if self._cancelled():
            raise MetiaError("job-cancelled", "The job was cancelled on request.")
        self._reached = max(self._reached, fraction)
        self._progress(self._reached)

    def window(self, fraction: float) -> None:
        self.reach(PREPARED_SHARE + (1 - 2 * PREPARED_SHARE) * fraction)

    def end(self, step: str) -> None:
        now = time.perf_counter()
        self.timings_s[step] = round(now - self._since, 4)
        self._since = now


@contextmanager
def _deterministic(threads: int) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MetiaError(
            "out-of-memory", "There is not enough memory for this series."
        ) from error


def load_inference(
    network: NetworkArguments,
    profile: Profile,
    inference: InferenceParameters,
    weights: bytes,
    *,
    device: str,
    threads: int,
) -> UnetrInference:
    """Build the network from the content of its safetensors file.

    Raises
    ------
    MetiaError
        ``model-invalid`` where the weights do not fit, ``configuration-invalid`` where
        the device does not exist.
    """
    chosen = choose_device(device)
    precision = choose_precision(chosen)
    module = load_for_inference(network, read_safetensors(weights), chosen, precision)
    return UnetrInference(
        module,
        profile,
        inference,
        device=chosen,
        precision=precision,
        threads=threads,
    )
