"""The network: MONAI's state dict, made fast without changing what it computes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import safetensors.numpy
import torch

from errors import MetiaError
from unetr.configuration import NetworkArguments
from unetr.network import EXACT, build_network, load_for_inference, read_safetensors
from unetr.seeded import ARGUMENTS, NO_LESION_BIAS, manifest, seeded_weights

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")

PYRAMID = ARGUMENTS.model_copy(
    update={"architecture": "pyramid-unetr", "norm_name": "batch"}
)

NORMS = re.compile(r"^(?!vit\.).*\.norm\d\.")

ORIGINAL_SHAPES = {
    "vit.patch_embedding.position_embeddings": (1, 216, 768),
    "vit.patch_embedding.patch_embeddings.1.weight": (768, 4096),
    "vit.patch_embedding.patch_embeddings.1.bias": (768,),
    "vit.blocks.11.mlp.linear1.weight": (3072, 768),
    "vit.blocks.11.mlp.linear2.weight": (768, 3072),
    "vit.blocks.0.attn.qkv.weight": (2304, 768),
    "vit.blocks.0.attn.out_proj.bias": (768,),
    "vit.norm.weight": (768,),
    "encoder1.layer.conv1.conv.weight": (16, 1, 3, 3, 3),
    "encoder1.layer.conv3.conv.weight": (16, 1, 1, 1, 1),
    "encoder2.transp_conv_init.conv.weight": (768, 32, 2, 2, 2),
    "encoder2.blocks.1.1.conv2.conv.weight": (32, 32, 3, 3, 3),
    "encoder3.blocks.0.0.conv.weight": (64, 64, 2, 2, 2),
    "encoder4.transp_conv_init.conv.weight": (768, 128, 2, 2, 2),
    "decoder5.transp_conv.conv.weight": (768, 128, 2, 2, 2),
    "decoder5.conv_block.conv1.conv.weight": (128, 256, 3, 3, 3),
    "decoder2.conv_block.conv3.conv.weight": (16, 32, 1, 1, 1),
    "out.conv.conv.weight": (2, 16, 1, 1, 1),
    "out.conv.conv.bias": (2,),
}


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(w).float() for name, w in seeded_weights().items()}


@pytest.mark.parametrize(("classes", "values"), [(2, 92_802_274), (14, 92_802_478)])
def test_the_full_network_has_the_published_keys_and_shapes(
    classes: int, values: int
) -> None:
    arguments = NetworkArguments(
        architecture="monai-unetr", img_size=(96, 96, 96), out_channels=classes
    )
    with torch.device("meta"):
        state = build_network(arguments).state_dict()
    assert len(state) == 194
    assert sum(tensor.numel() for tensor in state.values()) == values
    unused = [name for name in state if "cross_attn" in name]
    assert len(unused) == 24
    for name, shape in ORIGINAL_SHAPES.items():
        if not name.startswith("out."):
            assert tuple(state[name].shape) == shape, name
    assert state["out.conv.conv.weight"].shape == (classes, 16, 1, 1, 1)


def test_the_fast_network_computes_monais_difference_of_channels(
    weights: dict[str, torch.Tensor],
) -> None:
    plain = build_network(ARGUMENTS)
    plain.load_state_dict(weights, strict=True)
    fast = load_for_inference(ARGUMENTS, weights, CPU, torch.float32)
    windows = torch.randn(2, 1, 48, 48, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        both = plain(windows)
        one = fast(windows)
    assert one.shape == windows.shape
    torch.testing.assert_close(one, both[:, 1:] - both[:, :1], atol=2e-3, rtol=0)
    assert float((both[:, 1:] - both[:, :1]).std()) > 0.05


def test_bfloat16_stays_close(weights: dict[str, torch.Tensor]) -> None:
    windows = torch.randn(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(2))
    exact = load_for_inference(ARGUMENTS, weights, CPU, torch.float32)
    quick = load_for_inference(ARGUMENTS, weights, CPU, torch.bfloat16)
    with torch.inference_mode():
        difference = exact(windows) - quick(windows)
    assert quick(windows).dtype == torch.float32
    assert float(difference.abs().mean()) < 0.05
    for name, parameter in quick.named_parameters():
        plain = name.replace(".module.", ".")
        expected = torch.float32 if EXACT["instance"].match(plain) else torch.bfloat16
        assert parameter.dtype == expected, name


@pytest.fixture(scope="module")
def pyramid() -> torch.nn.Module:
    """A pyramid with batch norms that have seen something."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build_network(PYRAMID).train()
        with torch.no_grad():
            for _ in range(3):
                network(0.4 + 1.3 * torch.randn(2, 1, 48, 48, 48))
    return network.eval()


def without_counters(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    state = network.state_dict()
    return {name: w for name, w in state.items() if w.is_floating_point()}


def test_batch_norms_are_folded_into_their_convolutions(
    pyramid: torch.nn.Module,
) -> None:
    fast = load_for_inference(PYRAMID, without_counters(pyramid), CPU, torch.float32)
    assert not any(isinstance(m, torch.nn.BatchNorm3d) for m in fast.modules())
    windows = torch.randn(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        both, one = pyramid(windows), fast(windows)
    assert float(one.std()) > 0.01
    torch.testing.assert_close(one, both[:, 1:] - both[:, :1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("norms", ["instance", "batch"])
def test_pyramid_in_bfloat16_stays_close(
    pyramid: torch.nn.Module, norms: Literal["instance", "batch"]
) -> None:
    arguments = PYRAMID.model_copy(update={"norm_name": norms})
    state = without_counters(pyramid)
    if norms == "instance":
        state = {name: w for name, w in state.items() if not NORMS.search(name)}
    exact = load_for_inference(arguments, state, CPU, torch.float32)
    quick = load_for_inference(arguments, state, CPU, torch.bfloat16)
    windows = torch.randn(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        answer, difference = quick(windows), exact(windows) - quick(windows)
    assert answer.dtype == torch.float32
    assert float(difference.abs().mean()) < 0.03 * float(answer.std())
    for name, parameter in quick.named_parameters():
        plain = name.replace(".module.", ".")
        whole = EXACT[norms].match(plain)
        expected = torch.float32 if whole else torch.bfloat16
        assert parameter.dtype == expected, name


def test_without_its_blocks_the_pyramid_is_monais_network() -> None:
    arguments = PYRAMID.model_copy(update={"norm_name": "instance"})
    plain = build_network(ARGUMENTS)
    network = build_network(arguments)
    missing, unexpected = network.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {name.partition(".")[0] for name in missing} == {
        "pyramid2",
        "pyramid3",
        "pyramid4",
    }
    windows = torch.randn(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        assert not torch.allclose(network(windows), plain(windows), atol=1e-3)
        for level in (2, 3, 4):
            network.add_module(f"pyramid{level}", Nothing())
        torch.testing.assert_close(network(windows), plain(windows))


class Nothing(torch.nn.Module):
    """Half the size, twice the channels, all zero."""

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        half = tensor[:, :, ::2, ::2, ::2]
        return torch.zeros_like(torch.cat([half, half], dim=1))


def test_weights_without_the_unused_parameters_load_too(
    weights: dict[str, torch.Tensor],
) -> None:
    older = {name: w for name, w in weights.items() if "cross_attn" not in name}
    newer = {**weights, "vit.blocks.3.cross_attn.qkv.weight": torch.zeros(3)}
    for state in (older, newer):
        load_for_inference(ARGUMENTS, state, CPU, torch.float32)


def _without(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key != name}


def test_weights_that_do_not_fit_are_refused(weights: dict[str, torch.Tensor]) -> None:
    name = "decoder2.conv_block.conv1.conv.weight"
    wrong = [
        _without(weights, name),
        {**weights, "surprise": torch.zeros(1)},
        {**weights, name: torch.zeros(1)},
        {**weights, name: weights[name] * float("nan")},
        {**weights, name: weights[name].to(torch.int8)},
        {},
    ]
    for state in wrong:
        with pytest.raises(MetiaError) as caught:
            load_for_inference(ARGUMENTS, state, CPU, torch.float32)
        assert caught.value.code == "model-invalid"


def test_a_network_of_many_classes_is_no_metastasis_model() -> None:
    arguments = ARGUMENTS.model_copy(update={"out_channels": 14})
    state = build_network(arguments).state_dict()
    with pytest.raises(MetiaError) as caught:
        load_for_inference(arguments, state, CPU, torch.float32)
    assert caught.value.code == "model-invalid"


def test_the_committed_weights_are_those_the_script_makes() -> None:
    folder = ROOT / "unetr" / "weights" / "unetr-seeded"
    content = (folder / "weights.safetensors").read_bytes()
    assert content == safetensors.numpy.save(seeded_weights())
    assert len(content) < 2_000_000
    committed = read_safetensors(content)
    assert committed["out.conv.conv.bias"].tolist() == [
        NO_LESION_BIAS / 2,
        -NO_LESION_BIAS / 2,
    ]
    import hashlib
    import json

    expected = manifest(hashlib.sha256(content).hexdigest())
    assert json.loads((folder / "manifest.json").read_text()) == json.loads(
        json.dumps(expected)
    )
    assert all(np.isfinite(w.float().numpy()).all() for w in committed.values())
