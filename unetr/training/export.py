"""From a checkpoint to a model folder that the service loads.

``export_model`` writes ``weights.safetensors`` (MONAI's names; fp16, but fp32 for what
batch norms counted, as a variance can exceed fp16), ``manifest.json`` and
``MODEL_CARD.md`` (a draft, or the one given): the averaged weights, the preprocessing
that the generator imitates, and the figures of an evaluation. The folder is written
whole or not at all.
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
from unetr.network import load_for_inference, read_safetensors
from unetr.seeded import manifest as example_manifest
from unetr.training.checkpoints import read_checkpoint
from unetr.training.configuration import TrainingConfiguration
from unetr.training.run import division_now, refuse_other_division
from unetr.training.sources import PROFILE

CARD_NAME = "MODEL_CARD.md"
WEIGHTS_NAME = "weights.safetensors"


def export_model(
    configuration: TrainingConfiguration,
    checkpoint: Path,
    folder: Path,
    *,
    evaluation: Path | None = None,
    card: Path | None = None,
) -> Path:
    """Write a model folder named like the model below `folder`.

    Parameters
    ----------
    evaluation : Path, optional
        ``evaluation.json`` of these very weights, for the manifest and the draft card.
    card : Path, optional
        Markdown to take instead of the draft.

    Raises
    ------
    MetiaError
        ``model-invalid`` where the checkpoint is none, is of another network or has
        numbers that fp16 cannot hold, ``output-exists``, ``configuration-invalid`` for
        an evaluation that is none or is of other weights, and for cases that are no
        longer those of their split, or divided otherwise than when it was trained.
    """
    target = folder / configuration.export.name
    if target.exists():
        raise MetiaError("output-exists", f"{target.name} exists in that folder.")
    content = read_checkpoint(checkpoint)
    refuse_other_division(checkpoint.parent, division_now(configuration))
    tensors = _stored(content["state_dict"])
    weights = safetensors.numpy.save(tensors)
    # As the service will load them.
    load_for_inference(
        configuration.network,
        read_safetensors(weights),
        torch.device("cpu"),
        torch.float32,
    )
    weights_sha256 = hashlib.sha256(weights).hexdigest()
    metrics = _metrics(evaluation, weights_sha256) if evaluation else []
    page = (
        card.read_text("utf-8")
        if card
        else _card(configuration, int(content["global_step"]), metrics)
    ).encode()
    files = {
        WEIGHTS_NAME: weights_sha256,
        CARD_NAME: hashlib.sha256(page).hexdigest(),
    }
    text = json.dumps(_manifest(configuration, files, metrics), indent=2) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as unfinished:
        made = Path(unfinished) / target.name
        made.mkdir()
        (made / WEIGHTS_NAME).write_bytes(weights)
        (made / CARD_NAME).write_bytes(page)
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


def _metrics(evaluation: Path, weights_sha256: str) -> list[dict[str, Any]]:
    """Give the figures of an evaluation as a manifest states them."""
    try:
        document = json.loads(evaluation.read_bytes())
        facts, figures = document["facts"], document["figures"]
        measured = facts["weights hash"]
        levels = f"threshold {facts['threshold']}, least peak {facts['least peak']}"
        dataset = f"{facts['data']}, {levels}"
        metrics = [
            {
                "name": name,
                "value": round(figure["value"], 4),
                "dataset": f"{dataset}, n = {figure['count']}",
                "interval": _interval(figure["interval"]),
            }
            for name, figure in figures.items()
            if figure["value"] is not None
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise MetiaError(
            "configuration-invalid", f"{evaluation.name} is no evaluation."
        ) from error
    if measured != weights_sha256:
        raise MetiaError(
            "configuration-invalid", f"{evaluation.name} is of other weights."
        )
    return metrics


def _interval(bounds: list[float] | None) -> list[float] | None:
    return None if bounds is None else [round(bound, 4) for bound in bounds]


def _case_count(configuration: TrainingConfiguration) -> int:
    """Count the cases that were trained on."""
    data = configuration.data
    if data.cases is None:
        return 0
    # Needs libraries that a machine for synthetic training may lack.
    from unetr.training.cases import cases_for, find_cases, plan_split

    folder = Path(data.cases)
    cases, _ = find_cases(folder)
    split = plan_split(folder, cases)
    return len(cases_for(cases, split, "train", folds=data.folds, fold=data.fold))


def _manifest(
    configuration: TrainingConfiguration,
    files: dict[str, str],
    metrics: list[dict[str, Any]],
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
            "minimum_peak": export.minimum_peak,
            "maximum_head_fraction": 0.25,
        },
        "files": files,
        "training_data": {
            "summary": export.training_summary,
            "case_count": _case_count(configuration),
            "synthetic": configuration.data.cases is None,
        },
        "metrics": metrics,
    }


def _range(bounds: list[float] | None) -> str:
    return "none" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"


def _card(
    configuration: TrainingConfiguration, step: int, metrics: list[dict[str, Any]]
) -> str:
    export = configuration.export
    settings = configuration.optimiser
    seed = configuration.seed
    window = "x".join(map(str, configuration.network.img_size))
    seen = step * settings.batch * settings.accumulate * configuration.hardware.devices
    table = "\n".join(
        f"| {one['name']} | {one['value']:.2f} | {_range(one['interval'])} "
        f"| {one['dataset']} |"
        for one in metrics
    )
    figures = (
        f"| figure | value | 95 % interval | measured on |\n|---|---|---|---|\n{table}"
        if table
        else "*To be filled in: `metia evaluate`, then `--export` with `--evaluation`.*"
    )
    return f"""# {export.name} {export.version}

**Draft. Fill in what is marked, and export again with it as `--card`.**
Research use only. Not a medical device. Not for clinical use.

{export.description}

## What it was trained on

{export.training_summary}

{step} optimiser steps, {seen} patches of {window} voxels of 1 mm; seed {seed}.

## How well it does

{figures}

## Where it fails

*To be filled in, with pictures.*

## Out of scope

Other tumours, images without contrast agent, other body parts, children, follow-up
after surgery. It was not measured on real metastases unless stated above.
"""
