"""The UNETR network: MONAI's own, with its published state dict, made fast.

``build_network`` is MONAI's network unchanged (training uses it too), or that with a
convolutional pyramid beside the transformer (``PyramidUNETR``).
``load_for_inference`` fills one from a state dict and changes how, not what, it
computes: instance norms run as group norms with one group a channel (no copies into
another memory layout), batch norms become part of their convolutions, weights lie
channels-last, and the two output channels are folded into their difference, the one
logit that a threshold needs. In half precision the image enters and the logit leaves in
float32 (``EXACT``). Tensors are (batch, channel, slice, row, column). Not safe to share
between threads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch
from monai.networks.blocks.unetr_block import UnetrBasicBlock
from monai.networks.nets.unetr import UNETR
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from errors import MetiaError
from unetr.configuration import NetworkArguments

CROSS_ATTENTION = re.compile(r"vit\.blocks\.\d+\.(norm_)?cross_attn\.")
"""Parameters some MONAI versions create and no UNETR uses."""
EXACT = {
    "instance": re.compile(
        r"encoder1\.|decoder2\.(?!transp_conv|conv_block\.conv[12])|out\."
    ),
    "batch": re.compile(r"out\."),
}
"""Parts that stay float32 in half precision, by the network's kind of norms.

Instance norms at full resolution are where most of the error arises: with them in
bfloat16 one voxel in 270 of a mask changed, without one in 1000, at half again the
time. Batch norms are part of their convolutions.
"""
CASTS = {
    "instance": {
        "vit": False,
        "decoder2.transp_conv": False,
        "decoder2.conv_block.conv1": True,
        "decoder2.conv_block.conv2": True,
    },
    "batch": {"vit": False, "encoder1": False, "decoder2": True},
}
"""Parts in half precision that are given float32, or (True) have to answer with it."""


class Cast(nn.Module):
    """A module that computes in its own number format, whatever it is given.

    Parameters
    ----------
    widen : bool
        Whether its answer goes on in float32.
    """

    def __init__(self, module: nn.Module, precision: torch.dtype, widen: bool) -> None:
        super().__init__()
        self.module = module.to(precision)
        self.precision = precision
        self.widen = widen

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Convert the input, then compute."""
        answer: Tensor = self.module(*(one.to(self.precision) for one in tensors))
        return answer.float() if self.widen else answer


class ChannelNorm(nn.Module):
    """``InstanceNorm3d`` without parameters, as a group norm of one channel a group."""

    def __init__(self, channels: int, epsilon: float) -> None:
        super().__init__()
        self.channels = channels
        self.epsilon = epsilon

    def forward(self, tensor: Tensor) -> Tensor:
        """Normalise each channel of each sample."""
        return functional.group_norm(tensor, self.channels, eps=self.epsilon)


class PyramidUNETR(UNETR):
    """MONAI's UNETR with a convolutional way down beside the transformer.

    What the transformer's tokens say of the half, quarter and eighth of the resolution
    is added to what strided residual blocks make of the first encoder's answer. Without
    the blocks ``pyramid2`` to ``pyramid4`` it is MONAI's network, and MONAI's state
    dict fits all the rest.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        width = arguments["feature_size"]
        for level in (2, 3, 4):
            block = UnetrBasicBlock(
                spatial_dims=3,
                in_channels=width * 2 ** (level - 2),
                out_channels=width * 2 ** (level - 1),
                kernel_size=3,
                stride=2,
                norm_name=arguments["norm_name"],
                res_block=True,
            )
            self.add_module(f"pyramid{level}", block)

    def forward(self, x_in: Tensor) -> Tensor:
        """Map (batch, channel, slice, row, column) images to classes."""
        last, hidden = self.vit(x_in)
        down = self.encoder1(x_in)
        skips = [down]
        for level, tokens in zip((2, 3, 4), hidden[3:10:3], strict=True):
            down = self.get_submodule(f"pyramid{level}")(down)
            said = self.get_submodule(f"encoder{level}")(self._as_volume(tokens))
            skips.append(said + down)
        up = self._as_volume(last)
        for level in (5, 4, 3, 2):
            up = self.get_submodule(f"decoder{level}")(up, skips[level - 2])
        answer: Tensor = self.out(up)
        return answer

    def _as_volume(self, tokens: Tensor) -> Tensor:
        volume: Tensor = self.proj_feat(tokens)  # type: ignore[no-untyped-call]
        return volume


def build_network(arguments: NetworkArguments) -> nn.Module:
    """Build MONAI's UNETR with fresh random weights, in evaluation mode."""
    kind = UNETR if arguments.architecture == "monai-unetr" else PyramidUNETR
    network: nn.Module = kind(**arguments.model_dump(exclude={"architecture"}))
    return network.eval()


def read_safetensors(content: bytes) -> dict[str, Tensor]:
    """Parse the content of a safetensors file.

    Raises
    ------
    MetiaError
        ``model-invalid`` where it is none: nothing else, pickles least of all, is read.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise MetiaError("model-invalid", "The weights are no safetensors file.") from (
            error
        )
    return tensors


def load_for_inference(
    arguments: NetworkArguments,
    tensors: Mapping[str, Tensor],
    device: torch.device,
    precision: torch.dtype,
    *,
    channel_norms: bool = True,
) -> nn.Module:
    """Make a network that maps windows to one logit a voxel.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        MONAI's state dict (any MONAI from 1.0 on), any floating type.
    channel_norms : bool
        Whether to run instance norms as group norms.

    Returns
    -------
    Module
        (batch, 1, slice, row, column), float32 -> the same: logit of lesion against
        none.

    Raises
    ------
    MetiaError
        ``model-invalid`` where names, shapes or values do not fit.
    """
    with torch.device("meta"):
        network = build_network(arguments)
    for block in network.get_submodule("vit.blocks").children():
        block.norm_cross_attn = nn.Identity()
    used = {
        name: _checked(name, tensor)
        for name, tensor in tensors.items()
        if not CROSS_ATTENTION.match(name)
    }
    try:
        network.load_state_dict(used, strict=True, assign=True)
    except RuntimeError as error:
        raise MetiaError(
            "model-invalid", f"The weights do not fit the network: {str(error)[:600]}"
        ) from error
    _fold_output(network)
    _fold_batch_norms(network)
    if channel_norms:
        replace_norms(network)
    network.requires_grad_(False)
    network = network.to(device=device)
    if precision != torch.float32:
        _lower(network, precision, arguments.norm_name)
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload,no-any-return]


def _checked(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
        raise MetiaError(
            "model-invalid", f"The weights of {name} are not usable numbers."
        )
    return tensor.float()


def _lower(network: nn.Module, precision: torch.dtype, norms: str) -> None:
    """Compute in `precision`, except for the parts that are ``EXACT``."""
    casts = dict(CASTS[norms])
    for name, part in network.named_children():
        within = any(cast.startswith(name) for cast in casts)
        if not within and not EXACT[norms].match(f"{name}."):
            part.to(precision)
    if norms == "instance" and isinstance(network, PyramidUNETR):
        casts["pyramid2"] = False  # it is given what the first encoder says
    for name, widen in casts.items():
        parent, _, leaf = name.rpartition(".")
        module = Cast(network.get_submodule(name), precision, widen)
        network.get_submodule(parent).add_module(leaf, module)


def _fold_output(network: nn.Module) -> None:
    """Replace two output channels by their difference."""
    head = network.get_submodule("out.conv")
    pair = head.get_submodule("conv")
    assert isinstance(pair, nn.Conv3d) and pair.bias is not None  # noqa: S101, PT018
    if pair.out_channels == 1:
        return
    if pair.out_channels != 2:
        raise MetiaError("model-invalid", "The network has more than two classes.")
    single = nn.Conv3d(pair.in_channels, 1, kernel_size=1)
    single.weight = nn.Parameter(pair.weight[1:] - pair.weight[:1])
    single.bias = nn.Parameter(pair.bias[1:] - pair.bias[:1])
    head.add_module("conv", single)


def _fold_batch_norms(network: nn.Module) -> None:
    """Let every convolution do what the batch norm behind it does."""
    for block in list(network.modules()):
        for name, norm in list(block.named_children()):
            if isinstance(norm, nn.BatchNorm3d):
                behind = block.get_submodule(name.replace("norm", "conv"))
                conv = behind.get_submodule("conv")
                assert isinstance(conv, nn.Conv3d)  # noqa: S101
                behind.add_module("conv", fuse_conv_bn_eval(conv, norm))
                block.add_module(name, nn.Identity())


def replace_norms(module: nn.Module) -> None:
    """Make every instance norm a group norm of one channel a group, in place.

    The same arithmetic without weights, so state dicts are unchanged; many times faster
    on CPU in channels-last order.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.InstanceNorm3d):
            module.add_module(name, ChannelNorm(child.num_features, child.eps))
        else:
            replace_norms(child)
