"""Measure what computes a model fastest on this machine (``metia models tune``).

Gives ``unetr.engines.tuning`` its volumes: the middle of two synthetic heads, prepared
as the service prepares images. Masks are compared as the service makes them, stitched
from windows that overlap: single windows differ two or three times as much. Loads
torch; takes a minute on two cores. Called by the command line only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import highdicom as hd
import numpy as np

from errors import MetiaError
from segmentation.models.manifest import WEIGHTS_NAME
from segmentation.models.registry import ModelFolder
from segmentation.phantoms import draw_sample_visit
from settings import Settings
from unetr.configuration import LegacyProfile
from unetr.engines.engine import FloatArray, Source
from unetr.engines.selection import Wish, candidates, make_engine
from unetr.engines.tuning import (
    REFERENCE,
    Tuning,
    keep,
    measure,
    read_tuning,
    tuning_path,
)
from unetr.engines.tuning import circumstances as circumstances_of
from unetr.legacy import prepare_legacy
from unetr.preprocessing import prepare


def wish_of(settings: Settings) -> Wish:
    """Say what the settings want, leaving engine and precision to the measurement."""
    return Wish(
        device=settings.device,
        threads=settings.threads,
        data_dir=settings.data_dir,
        compiled=settings.compile_network,
    )


def tune(
    folder: ModelFolder,
    settings: Settings,
    progress: Callable[[str], None],
    heads: Callable[[], list[hd.Volume]] | None = None,
) -> Tuning:
    """Measure all that could compute a model here, and keep the result.

    Parameters
    ----------
    progress : callable
        Gets a word on what is done next.
    heads : callable, optional
        Gives the images to compare masks on; default: two synthetic heads.

    Raises
    ------
    MetiaError
        ``invalid-input`` where the model has no network; see ``load_predictor``.
    """
    manifest = folder.manifest
    if manifest.network is None:
        raise MetiaError("invalid-input", "This model has no network to measure.")
    folder.verify()
    wish = wish_of(settings)
    place = wish.place()
    source = Source(manifest.network, folder.read(WEIGHTS_NAME))
    progress("heads")
    volumes = [_middle(folder, head) for head in (heads or _heads)()]
    loaders = {
        choice: partial(
            make_engine(choice.engine).load, source, choice.precision, place
        )
        for choice in (*candidates(place, wish), REFERENCE)
    }
    tuning = measure(
        loaders,
        volumes,
        manifest.inference,
        place,
        progress=progress,
    )
    try:
        keep(tuning_path(settings.data_dir, folder.identity.sha256), tuning)
    except OSError as error:
        raise MetiaError(
            "configuration-invalid",
            f"METIA_DATA_DIR cannot be written to: {error.strerror}.",
        ) from error
    return tuning


def kept_tuning(folder: ModelFolder, settings: Settings) -> tuple[Tuning | None, bool]:
    """Give what was measured before, and whether it holds here and now."""
    tuning = read_tuning(tuning_path(settings.data_dir, folder.identity.sha256))
    if tuning is None:
        return None, False
    now = circumstances_of(wish_of(settings).place())
    return tuning, tuning.circumstances == now


def _heads() -> list[hd.Volume]:
    return [draw_sample_visit(visit).post_contrast.volume for visit in (1, 2)]


def _middle(folder: ModelFolder, head: hd.Volume) -> FloatArray:
    """Prepare a head, and cut out where three windows fit along each axis."""
    profile, inference = folder.manifest.preprocessing, folder.manifest.inference
    if profile is None or inference.window is None:
        raise MetiaError("model-invalid", "The manifest states no window.")
    if isinstance(profile, LegacyProfile):
        volume = prepare_legacy(head, profile, inference.window).volume
    else:
        volume = prepare(head, profile, inference.window).volume
    cut = []
    for length, window in zip(volume.shape, inference.window, strict=True):
        kept = min(length, int(window * (1 + 2 * (1 - inference.overlap))))
        first = (length - kept) // 2
        cut.append(slice(first, first + kept))
    return np.ascontiguousarray(volume[tuple(cut)])
