"""Weights to start from: any UNETR of the same shape, whatever its output was.

``start_from`` fills a network with tensors from a safetensors file or a checkpoint of
torch or Lightning; nothing of the file is executed. A different
number of classes leaves the output layer fresh; a different window has its position
embeddings interpolated. Everything else must fit, or is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from errors import MetiaError
from unetr.checkpoint import is_unused
from unetr.network import read_safetensors
from unetr.sandbox import read_foreign

POSITIONS = "vit.patch_embedding.position_embeddings"
OUTPUT = re.compile(r"^out\.conv\.conv\.(weight|bias)$")
EXTRAS = (re.compile(r"^pyramid\d\."), re.compile(r"^(?!vit\.).*\.norm\d\."))
"""What a plain UNETR with instance norms has nothing of."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a UNETR under MONAI's own names.

    Parameters
    ----------
    path : Path
        A safetensors file, or a checkpoint of torch or Lightning (which is read in a
        confined process, see ``unetr.sandbox``).

    Raises
    ------
    MetiaError
        ``model-invalid`` or ``checkpoint-refused``, saying why.
    """
    if path.suffix != ".safetensors":
        return read_safetensors(read_foreign(path).weights)
    try:
        return read_safetensors(path.read_bytes())
    except OSError as error:
        raise MetiaError(
            "model-invalid", f"{path.name} cannot be read: {error.strerror}."
        ) from error


def start_from(network: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Fill a network; give the names of what stays fresh.

    Raises
    ------
    MetiaError
        ``model-invalid``, naming what does not fit.
    """
    own = network.state_dict()
    usable: dict[str, Tensor] = {}
    misfits: list[str] = []
    for name, tensor in tensors.items():
        if is_unused(name) and name not in own:
            continue
        if name not in own:
            misfits.append(f"{name} is unknown")
        elif tensor.shape == own[name].shape:
            usable[name] = tensor.float()
        elif name == POSITIONS and tensor.shape[2] == own[name].shape[2]:
            usable[name] = _resize_positions(tensor.float(), own[name].shape[1])
        elif not OUTPUT.match(name):
            shapes = f"{tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
            misfits.append(f"{name} is {shapes}")
    fresh = sorted(own.keys() - usable.keys())
    free = [OUTPUT, *(one for one in EXTRAS if not any(map(one.match, tensors)))]
    misfits += [
        f"{name} is missing"
        for name in fresh
        if not any(one.match(name) for one in free)
        and not name.endswith("num_batches_tracked")
    ]
    if misfits:
        shown = "; ".join(misfits[:6]) + (" ..." if len(misfits) > 6 else "")
        raise MetiaError("model-invalid", f"The weights do not fit: {shown}.")
    network.load_state_dict(usable, strict=False)
    return fresh


def _resize_positions(positions: Tensor, count: int) -> Tensor:
    """Interpolate position embeddings between two cubes of patches."""
    old, new = round(positions.shape[1] ** (1 / 3)), round(count ** (1 / 3))
    if old**3 != positions.shape[1] or new**3 != count:
        raise MetiaError("model-invalid", "Only cubic windows can be changed.")
    cube = positions[0].T.reshape(1, -1, old, old, old)
    cube = functional.interpolate(
        cube, size=(new,) * 3, mode="trilinear", align_corners=True
    )
    return cube.reshape(positions.shape[2], count).T[None].contiguous()
