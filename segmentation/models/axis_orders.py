"""Which order of axes an imported checkpoint was trained with: tried, not guessed.

The replaced system fed its network three different orders over the years, and its
checkpoints do not say which. Given one case with a known contour, ``try_axis_orders``
predicts in all 16 orders of the profile ``metia-legacy`` and compares. Loads torch; one
call at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from errors import MetiaError
from segmentation.models.manifest import WEIGHTS_NAME
from segmentation.models.registry import ModelFolder
from unetr.configuration import AxisName, LegacyProfile
from unetr.engines.selection import Wish

if TYPE_CHECKING:
    from unetr.inference import UnetrInference

CLEAR_DICE = 0.4
CLEAR_LEAD = 0.1
"""The best order is believed from this Dice and this lead over the second."""

ORDERS: tuple[tuple[AxisName, AxisName, AxisName], ...] = tuple(
    (first, second, third)  # type: ignore[misc]
    for one, other in (("row", "column"), ("column", "row"))
    for first, second, third in itertools.product(
        (one, f"-{one}"), (other, f"-{other}"), ("slice", "-slice")
    )
)
"""In-plane exchange and all directions."""


@dataclass(frozen=True)
class OrderScore:
    """How well one order fits: Dice against the known contour."""

    order: tuple[str, str, str]
    dice: float


def try_axis_orders(
    folder: ModelFolder,
    image: hd.Volume,
    truth: NDArray[np.bool_],
    *,
    device: str,
    threads: int,
    progress: Callable[[int], None],
) -> tuple[OrderScore, ...]:
    """Predict in every order, best first.

    Parameters
    ----------
    image : highdicom.Volume
        float32, (slice, row, column).
    truth : ndarray of bool
        The known contour, filled, on the grid of `image`.
    progress : callable
        Gets how many orders are done.

    Raises
    ------
    MetiaError
        ``invalid-input`` where the model has no such profile, or the contour is empty.
    """
    from unetr.inference import load_inference

    manifest = folder.manifest
    profile = manifest.preprocessing
    if not isinstance(profile, LegacyProfile) or manifest.network is None:
        raise MetiaError(
            "invalid-input", "Only models of the profile metia-legacy are tested so."
        )
    if not truth.any():
        raise MetiaError("invalid-input", "The contour is empty.")
    inference = load_inference(
        manifest.network,
        profile,
        manifest.inference,
        folder.read(WEIGHTS_NAME),
        wish=Wish(device, threads),
    )
    scores = []
    for done, order in enumerate(ORDERS):
        progress(done)
        candidate = profile.model_copy(update={"axis_order": order})
        found = _predict(inference.with_profile(candidate), image)
        inside = found >= manifest.inference.threshold
        both = 2 * np.count_nonzero(inside & truth)
        size = np.count_nonzero(inside) + np.count_nonzero(truth)
        scores.append(OrderScore(order, float(both / size)))
    return tuple(sorted(scores, key=lambda score: -score.dice))


def _predict(inference: UnetrInference, image: hd.Volume) -> NDArray[np.float32]:
    try:
        answer = inference.predict(
            image, progress=lambda _: None, cancelled=lambda: False
        )
    except MetiaError as error:
        if error.code != "prediction-implausible":
            raise
        # In a wrong order a network may mark half the head: that order does not fit.
        return np.zeros(image.spatial_shape, np.float32)
    return np.asarray(answer.probability.array, np.float32)


def is_clear(scores: tuple[OrderScore, ...]) -> bool:
    """Tell whether the best order may be believed."""
    return (
        scores[0].dice >= CLEAR_DICE and scores[0].dice - scores[1].dice >= CLEAR_LEAD
    )
