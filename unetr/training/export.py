"""From a checkpoint to a model folder that the service loads.

``export_model`` writes ``weights.safetensors`` (MONAI's names; fp16, but fp32 for what
batch norms counted, as a variance can exceed fp16), ``manifest.json`` and a draft of
``MODEL_CARD.md``: the averaged weights, and the preprocessing that the generator
imitates. The folder is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray

from errors import MetiaError
from unetr.seeded import manifest as example_manifest
from unetr.training.configuration import TrainingConfiguration
from unetr.training.data import PROFILE
from unetr.training.run import read_checkpoint

CARD_NAME = "MODEL_CARD.md"
WEIGHTS_NAME = "weights.safetensors"


def export_model(
    configuration: TrainingConfiguration, checkpoint: Path, folder: Path
) -> Path:
    """Write a model folder named like the model below `folder`.

    Raises
    ------
    MetiaError
        ``model-invalid`` where the checkpoint does not fit or fp16 cannot hold it,
        ``output-exists``.
    """
    target = folder / configuration.export.name
    if target.exists():
        raise MetiaError("output-exists", f"{target.name} exists in that folder.")
    content = read_checkpoint(checkpoint)
    tensors = _stored(content["state_dict"])
    weights = safetensors.numpy.save(tensors)
    card = _card(configuration, int(content["global_step"])).encode()
    files = {
        WEIGHTS_NAME: hashlib.sha256(weights).hexdigest(),
        CARD_NAME: hashlib.sha256(card).hexdigest(),
    }
    text = json.dumps(_manifest(configuration, files), indent=2) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as unfinished:
        made = Path(unfinished) / target.name
        made.mkdir()
        (made / WEIGHTS_NAME).write_bytes(weights)
        (made / CARD_NAME).write_bytes(card)
        (made / "manifest.json").write_text(text, "utf-8")
        made.rename(target)
    return target


def _stored(state: dict[str, torch.Tensor]) -> dict[str, NDArray[np.floating]]:
    tensors: dict[str, NDArray[np.floating]] = {}
    for name in sorted(state):
        if not name.startswith("network.") or not state[name].is_floating_point():
            continue
        values = state[name].float().contiguous().numpy()
        counted = name.endswith(("running_mean", "running_var"))
        with np.errstate(over="ignore"):
            kept = values if counted else values.astype(np.float16)
        if not np.isfinite(kept).all():
            raise MetiaError("model-invalid", f"{name} holds no usable numbers.")
        tensors[name.removeprefix("network.")] = kept
    if not tensors:
        raise MetiaError("model-invalid", "The checkpoint holds no network.")
    return tensors


def _manifest(
    configuration: TrainingConfiguration, files: dict[str, str]
) -> dict[str, Any]:
    export, network = configuration.export, configuration.network
    return {
        "format": 1,
        "name": export.name,
        "version": export.version,
        "kind": "unetr",
        "demonstration": export.demonstration,
        "description": export.description,
        "licence": export.licence,
        "task": example_manifest("")["task"],
        "preprocessing": PROFILE.model_dump(mode="json"),
        "network": network.model_dump(mode="json"),
        "inference": {
            "window": list(network.img_size),
            "overlap": export.overlap,
            "threshold": export.threshold,
            "minimum_volume_mm3": export.minimum_volume_mm3,
            "maximum_head_fraction": 0.25,
        },
        "files": files,
        "training_data": {
            "summary": export.training_summary,
            "case_count": 0,
            "synthetic": configuration.data.cases is None,
        },
        "metrics": [],
    }


def _card(configuration: TrainingConfiguration, step: int) -> str:
    export = configuration.export
    settings = configuration.optimiser
    seed = configuration.seed
    window = "x".join(map(str, configuration.network.img_size))
    seen = step * settings.batch * settings.accumulate * configuration.hardware.devices
    return f"""# {export.name} {export.version}

**Draft. Fill in what is marked, with figures from `metia evaluate`.**
Research use only. Not a medical device. Not for clinical use.

{export.description}

## What it was trained on

{export.training_summary}

{step} optimiser steps, {seen} patches of {window} voxels of 1 mm; seed {seed}.

## How well it does

*To be filled in: sensitivity by size, false positives a scan, Dice by size, each with
its confidence interval and the set it was measured on.*

## Where it fails

*To be filled in, with pictures.*

## Out of scope

Other tumours, images without contrast agent, other body parts, children, follow-up
after surgery. It was not measured on real metastases unless stated above.
"""
