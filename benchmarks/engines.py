"""One window on every engine and precision there is, against MONAI's network as it is.

The measure of things is torch in float32, eager, with instance norms, in MONAI's memory
layout: what a straightforward service runs. All are timed in turn, so that other load
falls on all alike; ratios say more than seconds. Accuracy is judged on all windows of
one head.

    python -m benchmarks.engines [--times ROUNDS] [--model FOLDER] [--json FILE]

``ONEDNN_MAX_CPU_ISA=AVX2`` before it shows an ordinary PC.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.heads import head
from benchmarks.machine import tell
from benchmarks.models import network_folder
from segmentation.models.manifest import WEIGHTS_NAME
from segmentation.models.registry import ModelFolder
from unetr.engines.engine import Choice, Loaded, Place, Source
from unetr.engines.selection import Wish, candidates, make_engine
from unetr.engines.tuning import judge
from unetr.hardware import describe_machine
from unetr.network import build_network, read_safetensors
from unetr.preprocessing import prepare
from unetr.windows import window_places

PLAIN = "monai, torch fp32, eager, instance norm"
MOST_WINDOWS = 24
"""Of one head, for accuracy; every other or third where there are more."""

FloatArray = NDArray[np.float32]


def plain_network(folder: ModelFolder) -> Callable[[FloatArray], FloatArray]:
    """Give MONAI's network unchanged: windows to the difference of its two channels."""
    assert folder.manifest.network is not None
    network = build_network(folder.manifest.network)
    weights = read_safetensors(folder.read(WEIGHTS_NAME))
    # Parameters that no UNETR reads may be absent; the fresh ones stand in for them.
    network.load_state_dict(
        network.state_dict() | {name: w.float() for name, w in weights.items()}
    )

    def run(windows: FloatArray) -> FloatArray:
        with torch.inference_mode():
            both = network(torch.from_numpy(windows)).numpy()
        return np.asarray(both[:, 1:] - both[:, :1])

    return run


def measure(rounds: int = 5, model: str = "") -> dict[str, Any]:
    """Time `rounds` rounds over all engines of this machine.

    Parameters
    ----------
    model : str
        A model's folder; empty: see ``benchmarks.models``.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = ModelFolder.open(network_folder(model, Path(scratch)))
        wish = Wish(data_dir=Path(scratch))
        place = wish.place()
        torch.set_num_threads(place.threads)
        loaded = _load_all(folder, place, wish)
        windows = _windows(folder)
        plain = plain_network(folder)
        answers = {PLAIN: [plain(window) for window in windows]}
        for choice, network in loaded.items():
            with network.session():
                answers[str(choice)] = [network.network(window) for window in windows]
        seconds = _time(plain, loaded, windows[len(windows) // 2], rounds)
    manifest = folder.manifest
    logit = manifest.inference.threshold_logit
    rows = {}
    for choice in loaded:
        trial = judge(choice, answers[PLAIN], answers[str(choice)], logit)
        rows[str(choice)] = {
            "s_per_window": round(seconds[str(choice)], 4),
            "times_faster": round(seconds[PLAIN] / seconds[str(choice)], 2),
            "dice": None if trial.dice is None else round(trial.dice, 5),
            "largest_logit_difference": round(trial.difference, 4),
        }
    return {
        "model": manifest.name,
        "window": list(manifest.inference.window or ()),
        "device": place.device,
        "threads": place.threads,
        "instructions": list(describe_machine().instructions),
        "limit": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "windows_compared": len(windows),
        "engines": {
            PLAIN: {"s_per_window": round(seconds[PLAIN], 4), "times_faster": 1.0},
            **rows,
        },
    }


def _load_all(folder: ModelFolder, place: Place, wish: Wish) -> dict[Choice, Loaded]:
    assert folder.manifest.network is not None
    source = Source(folder.manifest.network, folder.read(WEIGHTS_NAME))
    return {
        choice: make_engine(choice.engine).load(source, choice.precision, place)
        for choice in candidates(place, wish)
    }


def _windows(folder: ModelFolder) -> list[FloatArray]:
    profile, window = folder.manifest.preprocessing, folder.manifest.inference.window
    assert profile is not None and profile.profile == "head-mr"  # noqa: PT018
    assert window is not None
    volume = prepare(head().volume, profile, window).volume
    places = window_places(volume.shape, window, overlap=0.0)
    step = -(-len(places) // MOST_WINDOWS)
    return [np.ascontiguousarray(volume[place])[None, None] for place in places[::step]]


def _time(
    plain: Callable[[FloatArray], FloatArray],
    loaded: dict[Choice, Loaded],
    window: FloatArray,
    rounds: int,
) -> dict[str, float]:
    least = dict.fromkeys((PLAIN, *map(str, loaded)), float("inf"))
    for _ in range(rounds):
        began = time.perf_counter()
        plain(window)
        least[PLAIN] = min(least[PLAIN], time.perf_counter() - began)
        for choice, network in loaded.items():
            with network.session():
                began = time.perf_counter()
                network.network(window)
                took = time.perf_counter() - began
            least[str(choice)] = min(least[str(choice)], took)
    return least


if __name__ == "__main__":
    tell(
        "seconds a window, and masks against float32, by engine and precision",
        measure,
        times=5,
        options={"model": "folder of the model (default: the bundled one)"},
    )
