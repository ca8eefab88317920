"""What the pipeline knows of a model: an image goes in, probabilities come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import highdicom as hd


@dataclass(frozen=True)
class ModelIdentity:
    """What every result and object records of the model that made it.

    Attributes
    ----------
    sha256 : str
        Hash over the manifest and the weights, hexadecimal: two models of one hash give
        one answer.
    demonstration : bool
        The model is not meant to find metastases in patients (phantoms only).
    """

    name: str
    version: str
    sha256: str
    demonstration: bool


@dataclass(frozen=True)
class Prediction:
    """A model's answer.

    Attributes
    ----------
    probability : highdicom.Volume
        float32 in [0, 1] per voxel, on exactly the grid of the input image.
    device : str
        What it was computed on.
    parameters : dict
        What besides the model determined the answer (window, overlap, precision ...).
    timings_s : dict
        Seconds a step: at least ``preprocess``, ``network``, ``postprocess``.
    """

    probability: hd.Volume
    device: str
    parameters: dict[str, object] = field(default_factory=dict)
    timings_s: dict[str, float] = field(default_factory=dict)


class Predictor(Protocol):
    """A loaded model. One at a time a process; not safe to share between threads."""

    identity: ModelIdentity
    threshold: float
    """Probability from which a voxel counts as lesion."""
    minimum_volume_mm3: float
    """Components smaller than this are left out."""
    minimum_peak: float
    """Components without a voxel of this probability are left out."""
    device: str
    """What it computes on: ``cpu`` or ``cuda:N (name)``."""

    def predict(
        self,
        image: hd.Volume,
        *,
        progress: Callable[[float], None],
        cancelled: Callable[[], bool],
    ) -> Prediction:
        """Predict the probability of lesion for every voxel of `image`.

        Deterministic. `image` is float32 with axes (slice, row, column) and an LPS
        affine. `progress` gets the fraction done (0 to 1); `cancelled` is asked at
        least once a window, and raises ``MetiaError("job-cancelled")`` out of here
        once true.
        """
