"""Which network the benchmarks run: the one that MetIA comes with, or one of its shape.

``network_folder`` gives a model folder by path, or the first bundled UNETR that is no
demonstration, or, where there is none, writes one of the same shape with seeded random
weights: as costly, but it has learned nothing. Not for patients.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch

from segmentation.models.registry import ModelFolder, ModelRegistry
from settings import ROOT
from unetr.configuration import NetworkArguments
from unetr.network import build_network
from unetr.seeded import NO_LESION_BIAS, manifest

SHIPPED_SHAPE = NetworkArguments(
    architecture="monai-unetr",
    img_size=(64, 64, 64),
    feature_size=16,
    hidden_size=256,
    mlp_dim=1024,
    num_heads=8,
)
OVERLAP = 0.375
SPACING_MM = (1.0, 1.0, 1.0)
_SEED = 20250101


def network_folder(chosen: str, folder: Path) -> Path:
    """Give the folder of the network to measure; `folder` may be written to.

    Parameters
    ----------
    chosen : str
        A model's folder; empty for what MetIA comes with.
    """
    if chosen:
        return ModelFolder.open(Path(chosen).absolute()).path
    for model in ModelRegistry([ROOT / "unetr" / "weights"]).models():
        if model.manifest.kind == "unetr" and not model.identity.demonstration:
            return model.path
    return write_network(folder / "random-of-shipped-shape")


def chosen_by(folder: Path) -> dict[str, str]:
    """Give the settings that make `folder` the model of a system."""
    return {
        "METIA_MODEL_DIRS": str(folder.parent),
        "METIA_DEFAULT_MODEL": folder.name,
    }


def write_network(folder: Path, arguments: NetworkArguments = SHIPPED_SHAPE) -> Path:
    """Write a model folder with random weights that marks next to nothing."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        weights = build_network(arguments).state_dict()
    weights["out.conv.conv.bias"] = torch.tensor([NO_LESION_BIAS, -NO_LESION_BIAS]) / 2
    content = safetensors.torch.save(
        {name: tensor.half().contiguous() for name, tensor in weights.items()}
    )
    (folder / "weights.safetensors").write_bytes(content)
    described = manifest(hashlib.sha256(content).hexdigest()) | {
        "name": folder.name,
        "network": arguments.model_dump(mode="json"),
        "preprocessing": {"profile": "head-mr", "spacing_mm": list(SPACING_MM)},
        "inference": {
            "window": list(arguments.img_size),
            "overlap": OVERLAP,
            "threshold": 0.5,
            "minimum_volume_mm3": 8.0,
            "maximum_head_fraction": 0.25,
        },
    }
    (folder / "manifest.json").write_text(json.dumps(described), "utf-8")
    return folder
