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
from pydantic import ValidationError
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
    hyper-parameters; where nothing states it, it is MONAI's 12.

    Raises
    ------
    MetiaError
        ``checkpoint-refused`` where the tensors are no UNETR's, or an argument is off,
        which is named.
    """
    output = _shape(tensors, "out.conv.conv.weight", 5)
    hidden = _shape(tensors, "vit.norm.weight", 1)[0]
    patches = _shape(tensors, "vit.patch_embedding.position_embeddings", 3)[1]
    channels = _shape(tensors, "encoder1.layer.conv1.conv.weight", 5)[1]
    if channels != 1:
        raise _refused(f"in_channels is {channels}; a model here sees one image.")
    edge = round(patches ** (1 / 3))
    img_size = (edge * PATCH_SIZE_VOXELS,) * 3
    if edge**3 != patches:
        raise _refused(f"img_size is no cube: its window has {patches} patches.")
    _refuse_other_window(img_size, facts)
    layers = sum(
        bool(re.match(r"vit\.blocks\.\d+\.norm1\.weight$", n)) for n in tensors
    )
    if layers != _LAYERS:
        raise _refused(f"its transformer has {layers} layers; a UNETR has {_LAYERS}.")
    if any(re.search(r"\.norm[123]\.(weight|running_mean)$", name)
           for name in tensors if not name.startswith("vit.")):  # fmt: skip
        raise _refused("norm_name is not instance: its norms have weights.")
    found = {
        "out_channels": output[0],
        "img_size": img_size,
        "feature_size": output[1],
        "hidden_size": hidden,
        "mlp_dim": _shape(tensors, "vit.blocks.0.mlp.linear1.weight", 2)[0],
        "num_heads": _heads(facts),
        "proj_type": "conv" if f"{_EMBEDDING}.weight" in tensors else "perceptron",
        "conv_block": "encoder2.blocks.0.conv.weight" not in tensors,
        "res_block": "decoder5.conv_block.conv3.conv.weight" in tensors,
        "qkv_bias": "vit.blocks.0.attn.qkv.bias" in tensors,
    }
    try:
        return NetworkArguments.model_validate({"architecture": "monai-unetr", **found})
    except ValidationError as error:
        raise _refused(_faults(error, found)) from error


def _faults(error: ValidationError, found: Mapping[str, object]) -> str:
    """Name the arguments that are off; the one rule of two of them has no place."""
    faults = {
        fault["loc"][0]: f"{fault['loc'][0]} is {found[str(fault['loc'][0])]} "
        f"({fault['msg'][0].lower()}{fault['msg'][1:]})"
        for fault in error.errors(include_input=False, include_url=False)
        if fault["loc"]
    }
    if faults:
        return f"{'; '.join(faults.values())}."
    return (
        f"num_heads is {found['num_heads']}, and hidden_size {found['hidden_size']} is "
        "no multiple of it: say --heads."
    )


def _refuse_other_window(window: Sequence[int], facts: Mapping[str, Any]) -> None:
    """Refuse what states another window: not every cubic number of patches is one."""
    for name in ("img_size", "img_shape"):
        stated = facts.get("hyper_parameters", {}).get(name)
        edges = [stated] if isinstance(stated, (int, float)) else stated
        if isinstance(edges, (list, tuple)) and edges:
            full = list(edges) * (3 if len(edges) == 1 else 1)
            if full != list(window):
                raise _refused(
                    f"img_size is {tuple(window)} if it is a cube, and the file states "
                    f"{name} {stated}; only cubes are read here."
                )


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
        ``hyper_parameters`` with plain values, where the file had them; ``unread``:
        names of what it states otherwise.
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
    stated = facts.get("hyper_parameters", {}).get("num_heads")
    if isinstance(stated, (int, float)) and not isinstance(stated, bool):
        if float(stated).is_integer():
            return int(stated)
    elif stated is None and "num_heads" not in facts.get("unread", ()):
        return 12
    raise _refused(
        "what the file states as num_heads is not a whole number among its "
        "hyper_parameters; say it with --heads."
    )


def _shape(tensors: Mapping[str, Tensor], name: str, dimensions: int) -> list[int]:
    if name not in tensors or tensors[name].dim() != dimensions:
        raise _refused(f"it holds no UNETR ({name} is missing or of another shape).")
    return list(tensors[name].shape)


def _refused(why: str) -> MetiaError:
    return MetiaError("checkpoint-refused", f"The checkpoint does not fit: {why}")
