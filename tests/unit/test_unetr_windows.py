"""The sliding window against MONAI's, and its grid."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from errors import MetiaError
from unetr.configuration import Blending
from unetr.engines.engine import HostNetwork
from unetr.engines.resident import TorchResident
from unetr.windows import Plan, plans, run_windows, window_starts, window_weight

CPU = torch.device("cpu")


@given(
    window=st.integers(8, 64),
    extra=st.integers(0, 300),
    overlap=st.floats(0, 0.9),
)
@settings(max_examples=200, deadline=None)
def test_windows_cover_the_axis_evenly(window: int, extra: int, overlap: float) -> None:
    length = window + extra
    starts = window_starts(length, window, overlap)
    assert starts[0] == 0
    assert starts[-1] + window == length
    steps = [b - a for a, b in itertools.pairwise(starts)]
    if steps:
        assert min(steps) >= 1 or overlap > 0.8
        assert max(steps) - min(steps) <= 1
        assert max(steps) <= max(1, int(window * (1 - overlap))) + 1
        assert max(steps) <= window


def _network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Conv3d(1, 1, 5, padding=2).requires_grad_(False)


def _on_host(
    network: HostNetwork,
    volume: Tensor,
    batch: int,
    overlap: float = 0.5,
    blending: Blending = "gaussian",
) -> Tensor:
    result = run_windows(
        network,
        volume.numpy(),
        window=(32, 32, 32),
        overlap=overlap,
        batch=batch,
        blending=blending,
        on_window=lambda _: None,
    )
    return torch.from_numpy(result)


def _on_device(
    network: Callable[[Tensor], Tensor],
    volume: Tensor,
    batch: int,
    overlap: float = 0.5,
    blending: Blending = "gaussian",
) -> Tensor:
    return TorchResident(network, CPU).run(
        volume,
        window=(32, 32, 32),
        overlap=overlap,
        batch=batch,
        blending=blending,
        on_window=lambda _: None,
    )


@pytest.mark.parametrize("window", [(32, 32, 32), (64, 48, 96)])
def test_the_weights_are_monais(window: tuple[int, int, int]) -> None:
    expected = compute_importance_map(window, "gaussian")
    np.testing.assert_allclose(window_weight(window), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "overlap", "blending"),
    [
        ((64, 48, 80), 0.5, "gaussian"),
        ((32, 32, 32), 0.5, "gaussian"),
        ((64, 32, 96), 0.0, "gaussian"),
        ((56, 80, 32), 0.25, "gaussian"),
        # With constant blending the windows always agree.
        ((45, 33, 70), 0.5, "constant"),
        ((50, 41, 47), 0.6, "constant"),
        ((33, 32, 71), 0.0, "constant"),
    ],
)
@pytest.mark.parametrize("batch", [1, 4])
def test_where_the_windows_agree_the_result_is_monais(
    shape: tuple[int, int, int], overlap: float, blending: Blending, batch: int
) -> None:
    volume = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    network = _network()
    reference = sliding_window_inference(
        volume[None, None], (32, 32, 32), 1, network, overlap=overlap, mode=blending
    )[0, 0]
    with torch.inference_mode():
        on_device = _on_device(network, volume, batch, overlap, blending)
        on_host = _on_host(
            lambda windows: network(torch.from_numpy(windows)).numpy(),
            volume,
            batch,
            overlap,
            blending,
        )
    torch.testing.assert_close(on_host, reference, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(on_device, reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("run", [_on_host, _on_device])
def test_a_network_that_sees_each_voxel_alone_is_stitched_exactly(
    run: Callable[..., Tensor],
) -> None:
    volume = torch.randn((45, 33, 70), generator=torch.Generator().manual_seed(5))
    result = run(lambda windows: 3 * windows - 1, volume, 3)
    torch.testing.assert_close(result, 3 * volume - 1, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("run", [_on_host, _on_device])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_answer_that_is_no_number_is_refused(
    run: Callable[..., Tensor], bad: float
) -> None:
    calls: list[int] = []

    def network(windows: Any) -> Any:
        calls.append(1)
        answer = 1 * windows
        if len(calls) == 2:
            answer[0, 0, 3, 3, 3] = bad
        return answer

    with pytest.raises(MetiaError) as caught:
        run(network, torch.zeros(40, 40, 40), 1)
    assert caught.value.code == "prediction-implausible"


def test_a_gpu_gets_three_plans_of_falling_need() -> None:
    assert plans("cpu") == (Plan(1, "cpu"),)
    ladder = plans("cuda:0")
    assert [plan.stitch_on for plan in ladder] == ["cuda", "cuda", "cpu"]
    assert ladder[0].batch > ladder[1].batch == ladder[2].batch == 1
