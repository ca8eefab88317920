"""The adapter for models of the kind ``unetr``.

Turns a verified model folder into a ``Predictor``. Whether that loads torch depends on
the engine that is chosen (``unetr.engines``). One call at a time; load it in the
process that predicts and never fork that process afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import highdicom as hd

from errors import MetiaError
from segmentation.models.manifest import WEIGHTS_NAME, Manifest
from segmentation.models.predictor import ModelIdentity, Prediction
from unetr.engines.selection import Wish

if TYPE_CHECKING:
    from unetr.inference import UnetrInference


class UnetrPredictor:
    """A ``Predictor`` on top of a loaded UNETR.

    Attributes
    ----------
    load_s : float
        Seconds from the verified bytes to a network ready to predict, import of the
        engine included.
    """

    def __init__(
        self,
        identity: ModelIdentity,
        manifest: Manifest,
        inference: UnetrInference,
        load_s: float,
    ) -> None:
        self.identity = identity
        self.threshold = manifest.inference.threshold
        self.minimum_volume_mm3 = manifest.inference.minimum_volume_mm3
        self.minimum_peak = manifest.inference.minimum_peak
        self.load_s = load_s
        self.device = inference.device
        self._inference = inference

    def predict(
        self,
        image: hd.Volume,
        *,
        progress: Callable[[float], None],
        cancelled: Callable[[], bool],
    ) -> Prediction:
        """See ``Predictor.predict``."""
        answer = self._inference.predict(image, progress=progress, cancelled=cancelled)
        return Prediction(
            probability=answer.probability,
            device=answer.device,
            parameters=answer.parameters,
            timings_s=answer.timings_s,
        )


def load_unetr(
    identity: ModelIdentity,
    manifest: Manifest,
    read: Callable[[str], bytes],
    wish: Wish,
) -> UnetrPredictor:
    """Load a UNETR from the bytes that `read` has verified.

    Raises
    ------
    MetiaError
        ``model-integrity``, ``model-invalid``, ``configuration-invalid``.
    """
    if manifest.network is None or manifest.preprocessing is None:
        raise MetiaError("model-invalid", "The manifest states no network.")
    weights = read(WEIGHTS_NAME)
    started = time.perf_counter()
    from unetr.engines.tuning import measured_choice, tuning_path
    from unetr.inference import load_inference

    measured = None
    if wish.data_dir is not None:
        path = tuning_path(wish.data_dir, identity.sha256)
        measured = measured_choice(path, wish.place())
    inference = load_inference(
        manifest.network,
        manifest.preprocessing,
        manifest.inference,
        weights,
        wish=wish,
        measured=measured,
    )
    return UnetrPredictor(
        identity, manifest, inference, round(time.perf_counter() - started, 4)
    )
