"""What a foreign UNETR is: its arguments read from its tensors, and an audit of them.

``identify`` looks at names and shapes only and says which arguments of MONAI's UNETR
made them; ``audit`` compares every tensor with the network those arguments build: what
is used, what older releases created and no forward pass reads, what is allowed to be
missing. Anything else is an error that names the argument that is off. Tensors are
those of ``unetr.sandbox.read_foreign``. Pure; loads torch and monai.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from errors import MetiaError
from unetr.configuration import PATCH_SIZE_VOXELS, NetworkArguments
from unetr.network import CROSS_ATTENTION, build_network

ABDOMINAL_CLASSES = 14
DROPPED = frozenset(
    {
        "vit.patch_embedding.cls_token",
        "encoder2.blocks.0.1.conv3.conv.weight",
        "encoder2.blocks.1.1.conv3.conv.weight",
        "encoder3.blocks.0.1.conv3.conv.weight",
    }
)
"""Created by MONAI before 1.0 and used by no forward pass."""
LEGACY_ARGUMENTS = {
    "img_size": (96, 96, 96),
    "proj_type": "perceptron",
    "conv_block": True,
    "res_block": True,
    "qkv_bias": False,
}
"""What the replaced system's network was built with."""
_LAYERS = 12
_EMBEDDING = "vit.patch_embedding.patch_embeddings"


def is_unused(name: str) -> bool:
    """Tell whether some release of MONAI creates a tensor that no UNETR reads."""
    return name in DROPPED or CROSS_ATTENTION.match(name) is not None


@dataclass(frozen=True)
class Audit:
    """A checkpoint that fits.

    Attributes
    ----------
    tensors : dict
        The used ones, under MONAI's names.
    dropped, missing : tuple of str
        Left out because nothing reads them; absent for the same reason.
    """

    arguments: NetworkArguments
    tensors: dict[str, Tensor]
    dropped: tuple[str, ...]
    missing: tuple[str, ...]


def identify(
    tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> NetworkArguments:
    """Read the arguments of the network from names and shapes.

    Only the number of attention heads leaves no trace in them: it comes from the
    hyper-parameters, else it is MONAI's 12.

    Raises
    ------
    MetiaError
        ``checkpoint-refused`` where the tensors are no UNETR's.
    """
    output = _shape(tensors, "out.conv.conv.weight", 5)
    hidden = _shape(tensors, "vit.norm.weight", 1)[0]
    patches = _shape(tensors, "vit.patch_embedding.position_embeddings", 3)[1]
    edge = round(patches ** (1 / 3))
    if edge**3 != patches:
        raise _refused("its window is no cube.")
    layers = sum(
        bool(re.match(r"vit\.blocks\.\d+\.norm1\.weight$", n)) for n in tensors
    )
    if layers != _LAYERS:
        raise _refused(f"its transformer has {layers} layers; a UNETR has {_LAYERS}.")
    if any(re.search(r"\.norm[123]\.(weight|running_mean)$", name)
           for name in tensors if not name.startswith("vit.")):  # fmt: skip
        raise _refused("norm_name is not instance: its norms have weights.")
    try:
        return NetworkArguments(
            architecture="monai-unetr",
            out_channels=output[0],
            img_size=(edge * PATCH_SIZE_VOXELS,) * 3,
            feature_size=output[1],
            hidden_size=hidden,
            mlp_dim=_shape(tensors, "vit.blocks.0.mlp.linear1.weight", 2)[0],
            num_heads=_heads(facts),
            proj_type="conv" if f"{_EMBEDDING}.weight" in tensors else "perceptron",
            conv_block="encoder2.blocks.0.conv.weight" not in tensors,
            res_block="decoder5.conv_block.conv3.conv.weight" in tensors,
            qkv_bias="vit.blocks.0.attn.qkv.bias" in tensors,
        )
    except ValueError as error:
        raise _refused("its sizes are outside what a UNETR here may have.") from error


def audit(
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    *,
    legacy: bool = False,
    classes: Sequence[int] = (1, 2),
) -> Audit:
    """Check every tensor of a foreign network.

    Parameters
    ----------
    facts : mapping
        ``hyper_parameters`` with plain values, where the file had them.
    legacy : bool
        Hold it to the replaced system's network (its arguments, and no tensors that
        MONAI's later releases create).
    classes : sequence of int
        Numbers of output channels that are welcome.

    Raises
    ------
    MetiaError
        ``checkpoint-refused``, naming what does not fit.
    """
    arguments = identify(tensors, facts)
    _refuse_classes(arguments.out_channels, classes)
    if legacy:
        _refuse_other_arguments(arguments)
    with torch.device("meta"):
        expected = build_network(arguments).state_dict()
    used, dropped, faults = {}, [], []
    for name, tensor in tensors.items():
        if name in expected:
            if tensor.shape != expected[name].shape:
                shapes = f"{tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
                faults.append(f"{name} is {shapes}")
            elif not bool(torch.isfinite(tensor).all()):
                faults.append(f"{name} holds no usable numbers")
            used[name] = tensor
        elif name in DROPPED if legacy else is_unused(name):
            dropped.append(name)
        else:
            faults.append(f"{name} is not part of the network")
    missing = sorted(expected.keys() - used.keys())
    faults += [f"{n} is missing" for n in missing if not CROSS_ATTENTION.match(n)]
    if faults:
        shown = "; ".join(faults[:6]) + (" ..." if len(faults) > 6 else "")
        raise _refused(f"{len(faults)} tensors do not fit: {shown}.")
    return Audit(arguments, used, tuple(sorted(dropped)), tuple(missing))


def _refuse_classes(count: int, welcome: Sequence[int]) -> None:
    if count in welcome:
        return
    if count == ABDOMINAL_CLASSES:
        raise _refused(
            "it has 14 classes: this is the public UNETR of abdominal organs (BTCV), "
            "which knows no metastases. It can start a training (start.weights)."
        )
    raise _refused(f"it has {count} classes; a metastasis model has one or two.")


def _refuse_other_arguments(arguments: NetworkArguments) -> None:
    off = [
        f"{name} is {getattr(arguments, name)}, the original's is {value}"
        for name, value in LEGACY_ARGUMENTS.items()
        if getattr(arguments, name) != value
    ]
    if off:
        raise _refused(f"it is not the original network: {'; '.join(off)}.")


def _heads(facts: Mapping[str, Any]) -> int:
    values = facts.get("hyper_parameters")
    heads = values.get("num_heads") if isinstance(values, Mapping) else None
    return heads if isinstance(heads, int) and not isinstance(heads, bool) else 12


def _shape(tensors: Mapping[str, Tensor], name: str, dimensions: int) -> list[int]:
    if name not in tensors or tensors[name].dim() != dimensions:
        raise _refused(f"it holds no UNETR ({name} is missing or of another shape).")
    return list(tensors[name].shape)


def _refused(why: str) -> MetiaError:
    return MetiaError("checkpoint-refused", f"The checkpoint does not fit: {why}")
