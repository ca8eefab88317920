"""Our windows and engine against MONAI's ``sliding_window_inference``, in one run.

Same weights, same overlap, one volume whose grid of windows is the same for both, so
that the masks may be compared voxel by voxel. MONAI runs its network as it comes: torch
in float32, eager, with instance norms, one window a pass, Gaussian blending. Target: at
least 4 times faster at a Dice of at least 0.999.

    python -m benchmarks.sliding_window [--times ROUNDS] [--model FOLDER] [--json FILE]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference

from benchmarks.engines import plain_network
from benchmarks.heads import head
from benchmarks.machine import tell
from benchmarks.models import network_folder
from segmentation.models.manifest import WEIGHTS_NAME
from segmentation.models.registry import ModelFolder
from unetr.engines.engine import FloatArray, Loaded, Source
from unetr.engines.selection import Wish, load
from unetr.engines.tuning import judge
from unetr.preprocessing import prepare
from unetr.windows import plans, run_windows, window_places

OVERLAP = 0.5
STEPS = (3, 3, 3)
"""Windows along each axis; a volume of so many half windows and a half fits both."""
TARGET_TIMES = 4.0
TARGET_DICE = 0.999


def measure(rounds: int = 2, model: str = "") -> dict[str, Any]:
    """Time `rounds` rounds of both and compare their masks.

    Parameters
    ----------
    model : str
        A model's folder; empty: see ``benchmarks.models``.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = ModelFolder.open(network_folder(model, Path(scratch)))
        manifest = folder.manifest
        assert manifest.network is not None and manifest.inference.window  # noqa: PT018
        source = Source(manifest.network, folder.read(WEIGHTS_NAME))
        loaded = load(source, Wish(data_dir=Path(scratch)))
        torch.set_num_threads(loaded.place.threads)
        window = manifest.inference.window
        volume = _volume(folder, window)
        plain = plain_network(folder)
        theirs, ours = float("inf"), float("inf")
        for _ in range(rounds):
            began = time.perf_counter()
            expected = sliding_window_inference(
                torch.from_numpy(volume)[None, None],
                window,
                1,
                lambda batch: torch.from_numpy(plain(batch.numpy())),
                overlap=OVERLAP,
                mode="gaussian",
            )
            theirs = min(theirs, time.perf_counter() - began)
            began = time.perf_counter()
            found = _ours(loaded, volume, window)
            ours = min(ours, time.perf_counter() - began)
    logit = manifest.inference.threshold_logit
    trial = judge(loaded.choice, [expected[0, 0].numpy()], [found], logit)
    return {
        "model": manifest.name,
        "volume": list(volume.shape),
        "windows": len(window_places(volume.shape, window, OVERLAP)),
        "engine": str(loaded.choice),
        "monai_s": round(theirs, 3),
        "ours_s": round(ours, 3),
        "times_faster": round(theirs / ours, 2),
        "target_times_faster": TARGET_TIMES,
        "dice": None if trial.dice is None else round(trial.dice, 5),
        "target_dice": TARGET_DICE,
        "largest_logit_difference": round(trial.difference, 4),
    }


def _volume(folder: ModelFolder, window: tuple[int, int, int]) -> FloatArray:
    """Give the middle of a head, as large as both grids of windows fit exactly."""
    profile = folder.manifest.preprocessing
    assert profile is not None and profile.profile == "head-mr"  # noqa: PT018
    shape = [size // 2 * (steps + 1) for size, steps in zip(window, STEPS, strict=True)]
    whole: FloatArray = prepare(head().volume, profile, shape).volume
    middle = tuple(
        slice((length - size) // 2, (length - size) // 2 + size)
        for length, size in zip(whole.shape, shape, strict=True)
    )
    return np.ascontiguousarray(whole[middle])


def _ours(
    loaded: Loaded, volume: FloatArray, window: tuple[int, int, int]
) -> FloatArray:
    batch = plans(loaded.place.device)[0].batch
    with loaded.session():
        resident = loaded.resident
        if resident is None:
            return run_windows(
                loaded.network,
                volume,
                window=window,
                overlap=OVERLAP,
                batch=batch,
                on_window=lambda _: None,
            )
        answer = resident.run(
            resident.arithmetic.resample(volume, (None, None, None)),
            window=window,
            overlap=OVERLAP,
            batch=batch,
            on_window=lambda _: None,
        )
        return resident.to_host(answer)


if __name__ == "__main__":
    tell(
        "seconds for a volume by MONAI's sliding window and by ours, same windows",
        measure,
        times=2,
        options={"model": "folder of the model (default: the bundled one)"},
    )
