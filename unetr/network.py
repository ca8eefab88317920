"""The UNETR network: MONAI's own, with its published state dict, made fast.

``build_network`` is MONAI's network unchanged (training uses it too).
``load_for_inference`` fills one from a state dict and changes how, not what, it
computes: instance norms run as group norms with one group a channel (no copies into
another memory layout), weights lie channels-last, and the two output channels are
folded into their difference, the one logit that a threshold needs. In half precision
the image enters and the logit leaves in float32 (``EXACT``). Tensors are
(batch, channel, slice, row, column). Not safe to share between threads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import safetensors
import safetensors.torch
import torch
from monai.networks.nets.unetr import UNETR
from torch import Tensor, nn
from torch.nn import functional

from errors import MetiaError
from unetr.configuration import NetworkArguments

CROSS_ATTENTION = re.compile(r"vit\.blocks\.\d+\.(norm_)?cross_attn\.")
"""Parameters some MONAI versions create and no UNETR uses."""
EXACT = re.compile(r"encoder1\.|decoder2\.(?!transp_conv|conv_block\.conv[12])|out\.")
"""Parts that stay float32 in half precision: nearly all that works at full resolution.
There most of the error arises: with them in bfloat16 one voxel in 270 of a mask
changed, without one in 1000, at half again the time."""


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

    def forward(self, tensor: Tensor) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Convert the input, then compute."""
        answer: Tensor = self.module(tensor.to(self.precision))
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


def build_network(arguments: NetworkArguments) -> nn.Module:
    """Build MONAI's UNETR with fresh random weights, in evaluation mode."""
    network: nn.Module = UNETR(**arguments.model_dump(exclude={"architecture"}))
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
    if channel_norms:
        replace_norms(network)
    network.requires_grad_(False)
    network = network.to(device=device)
    if precision != torch.float32:
        _lower(network, precision)
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload,no-any-return]


def _checked(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
        raise MetiaError(
            "model-invalid", f"The weights of {name} are not usable numbers."
        )
    return tensor.float()


def _lower(network: nn.Module, precision: torch.dtype) -> None:
    """Compute in `precision`, except for the parts that are ``EXACT``."""
    for name in (
        "encoder2",
        "encoder3",
        "encoder4",
        "decoder5",
        "decoder4",
        "decoder3",
    ):
        network.get_submodule(name).to(precision)
    for name, widen in {
        "vit": False,
        "decoder2.transp_conv": False,
        "decoder2.conv_block.conv1": True,
        "decoder2.conv_block.conv2": True,
    }.items():
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
