"""Prediction with a UNETR: prepare, slide, restore; deterministic, bounded, stoppable.

``UnetrInference`` holds one loaded network for the life of the process and answers one
call at a time. The input is a ``highdicom.Volume`` with axes (slice, row, column) in
LPS; the answer lies on exactly its grid. Memory that runs out is met with smaller
batches, then with sums in main memory; what was done is part of the answer's
parameters, and the region is never smaller. Which engine computes does not matter here.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import highdicom as hd
import numpy as np

from errors import MetiaError
from unetr.configuration import (
    InferenceParameters,
    LegacyProfile,
    NetworkArguments,
    Profile,
)
from unetr.engines.engine import Choice, Loaded, Source
from unetr.engines.selection import Wish, load
from unetr.hardware import is_out_of_memory
from unetr.head import Head
from unetr.legacy import prepare_legacy
from unetr.preprocessing import HOST, prepare
from unetr.windows import Plan, plans, run_windows

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
    def volume(self) -> Any:
        """What the network sees, (slice, row, column) of its own grid."""

    @property
    def head(self) -> Head:
        """Where the head lies."""

    def restore(self, logits: Any) -> hd.Volume:
        """Bring logits like `volume` back to the source as probabilities."""


class UnetrInference:
    """A loaded network with its way of preparing images."""

    def __init__(
        self, loaded: Loaded, profile: Profile, inference: InferenceParameters
    ) -> None:
        if inference.window is None:
            raise MetiaError("model-invalid", "The model states no window.")
        self._loaded = loaded
        self._profile = profile
        self._inference = inference
        self._window = inference.window
        self.device = loaded.device
        self.plans: tuple[Plan, ...] = plans(loaded.place.device)

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
        with self._loaded.session(), _memory_errors():
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
        resident = self._loaded.resident
        arithmetic = HOST if resident is None else resident.arithmetic
        if isinstance(self._profile, LegacyProfile):
            return prepare_legacy(image, self._profile, self._window, arithmetic)
        return prepare(image, self._profile, self._window, arithmetic)

    def _run(self, volume: Any, steps: _Steps) -> tuple[Any, Plan, int]:
        for retries, plan in enumerate(self.plans):
            try:
                logits = self._slide(volume, plan, steps)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            else:
                return logits, plan, retries
            # Outside the handler: the traceback there keeps the tensors alive.
            if self._loaded.resident is not None:
                self._loaded.resident.release()
        raise MetiaError(
            "out-of-memory", "The network does not fit into memory, even one window."
        )

    def _slide(self, volume: Any, plan: Plan, steps: _Steps) -> Any:
        resident = self._loaded.resident
        overlap, blending = self._inference.overlap, self._inference.blending
        if resident is not None and plan.stitch_on != "cpu":
            return resident.run(
                volume,
                window=self._window,
                overlap=overlap,
                blending=blending,
                batch=plan.batch,
                on_window=steps.window,
            )
        return run_windows(
            self._loaded.network,
            volume if resident is None else resident.to_host(volume),
            window=self._window,
            overlap=overlap,
            blending=blending,
            batch=plan.batch,
            on_window=steps.window,
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
                include={
                    *("profile", "spacing_mm", "spacing_voxels", "axis_order"),
                    *("window_intensity", "scaled_to"),
                },
            ),
            "window": list(self._window),
            "overlap": self._inference.overlap,
            "blending": self._inference.blending,
            "execution": {
                "engine": self._loaded.choice.engine,
                "device": self._loaded.place.device.partition(":")[0],
                "precision": self._loaded.choice.precision,
                "threads": self._loaded.place.threads,
                "versions": self._loaded.versions,
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
    wish: Wish,
    measured: Choice | None = None,
) -> UnetrInference:
    """Build the network from the content of its safetensors file.

    Parameters
    ----------
    wish : Wish
        What the settings say about how to compute.
    measured : Choice or None
        What was measured to be the fastest here, where that is known.

    Raises
    ------
    MetiaError
        ``model-invalid`` where the weights do not fit, ``configuration-invalid`` where
        device or engine do not exist.
    """
    loaded = load(Source(network, weights), wish, measured)
    return UnetrInference(loaded, profile, inference)
