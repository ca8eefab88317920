"""The sliding window against MONAI's, and its grid."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from errors import MetiaError
from unetr.windows import Plan, plans, run_windows, window_starts

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


def _run(
    network: nn.Module, volume: Tensor, plan: Plan, overlap: float = 0.5
) -> Tensor:
    return run_windows(
        network,
        volume,
        window=(32, 32, 32),
        overlap=overlap,
        plan=plan,
        device=CPU,
        precision=torch.float32,
        on_window=lambda _: None,
    )


@pytest.mark.parametrize(
    ("shape", "overlap"),
    [
        ((64, 48, 80), 0.5),
        ((32, 32, 32), 0.5),
        ((64, 32, 96), 0.0),
        ((56, 80, 32), 0.25),
    ],
)
@pytest.mark.parametrize("batch", [1, 4])
def test_where_the_windows_agree_the_result_is_monais(
    shape: tuple[int, int, int], overlap: float, batch: int
) -> None:
    volume = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    network = _network()
    reference = sliding_window_inference(
        volume[None, None], (32, 32, 32), 1, network, overlap=overlap, mode="gaussian"
    )[0, 0]
    result = _run(network, volume, Plan(batch, "cpu"), overlap)
    torch.testing.assert_close(result, reference, atol=1e-5, rtol=1e-5)


def test_a_network_that_sees_each_voxel_alone_is_stitched_exactly() -> None:
    volume = torch.randn((45, 33, 70), generator=torch.Generator().manual_seed(5))
    result = _run(lambda windows: 3 * windows - 1, volume, Plan(3, "cpu"))
    torch.testing.assert_close(result, 3 * volume - 1, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_answer_that_is_no_number_is_refused(bad: float) -> None:
    def network(windows: Tensor) -> Tensor:
        answer = windows.clone()
        answer[0, 0, 3, 3, 3] = bad
        return answer

    with pytest.raises(MetiaError) as caught:
        _run(network, torch.zeros(40, 40, 40), Plan(1, "cpu"))
    assert caught.value.code == "prediction-implausible"


def test_a_gpu_gets_three_plans_of_falling_need() -> None:
    assert plans(CPU) == (Plan(1, "cpu"),)
    ladder = plans(torch.device("cuda", 0))
    assert [plan.stitch_on for plan in ladder] == ["cuda", "cuda", "cpu"]
    assert ladder[0].batch > ladder[1].batch == ladder[2].batch == 1
