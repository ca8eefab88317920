"""Checkpoints as other programs leave them, made here with random weights.

``original_checkpoint`` has the layout of the replaced system's Lightning files: the
names and shapes of MONAI 0.7, the same storages listed twice, enums of a module that
exists nowhere else among the hyper-parameters.
"""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from unetr.configuration import NetworkArguments
from unetr.network import build_network

SMALL = {
    "feature_size": 4,
    "hidden_size": 24,
    "mlp_dim": 48,
    "num_heads": 12,
    "img_size": (96, 96, 96),
}


def plain_network(seed: int = 0, **arguments: Any) -> torch.nn.Module:
    """Build a plain UNETR of MONAI with random weights that say something."""
    torch.manual_seed(seed)
    return build_network(
        NetworkArguments(architecture="monai-unetr", **{**SMALL, **arguments})
    )


def original_tensors(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Give the state dict that MONAI 0.7 would have had for `network`."""
    tensors = {
        name: tensor.clone()
        for name, tensor in network.state_dict().items()
        if "cross_attn" not in name
    }
    hidden = tensors["vit.norm.weight"].shape[0]
    feature = tensors["out.conv.conv.weight"].shape[1]
    tensors["vit.patch_embedding.cls_token"] = torch.zeros(1, 1, hidden)
    for name, width in (
        ("encoder2.blocks.0", 2 * feature),
        ("encoder2.blocks.1", 2 * feature),
        ("encoder3.blocks.0", 4 * feature),
    ):
        tensors[f"{name}.1.conv3.conv.weight"] = torch.rand(width, width, 1, 1, 1)
    return tensors


@contextmanager
def _their_enum() -> Iterator[type[enum.Enum]]:
    """An enum whose module is importable only while the file is written."""
    kind = enum.Enum("Metrics", {"DICE": "dice"})
    kind.__module__ = "unetr.utilsUnetr.types"
    kind.__qualname__ = "Metrics"
    module = types.ModuleType("unetr.utilsUnetr.types")
    module.Metrics = kind  # type: ignore[attr-defined]
    names = ("unetr.utilsUnetr", "unetr.utilsUnetr.types")
    sys.modules.update(dict.fromkeys(names, module))
    try:
        yield kind
    finally:
        for name in names:
            del sys.modules[name]


def original_checkpoint(
    path: Path, network: torch.nn.Module, *, zipped: bool = True, **sections: Any
) -> None:
    """Write `network` as the replaced system's Lightning would have.

    `sections` are added at the top, or replace what is there.
    """
    tensors = original_tensors(network)
    state = {f"model.{name}": tensor for name, tensor in tensors.items()}
    parts = ("vit", "encoder1", "encoder2", "encoder3", "encoder4")
    parts += ("decoder5", "decoder4", "decoder3", "decoder2")
    for place, part in enumerate(parts):
        for name, tensor in tensors.items():
            if name.startswith(f"{part}."):
                rest = name.removeprefix(f"{part}.")
                state[f"backbone.{place}.{rest}"] = tensor
    with _their_enum() as kind:
        torch.save(
            {
                "epoch": 1599,
                "global_step": 10_000,
                "pytorch-lightning_version": "1.8.3",
                "state_dict": state,
                "loops": {},
                "hparams_name": "kwargs",
                "hyper_parameters": {
                    "out_channels": 14,
                    "new_out_channels": 2,
                    "num_heads": 12,
                    "metrics": [kind.DICE],
                    "pretrained_file_path": "a/path.pth",
                },
                "optimizer_states": [{"state": {0: {"exp_avg": torch.rand(8)}}}],
                **sections,
            },
            path,
            _use_new_zipfile_serialization=zipped,
        )
