"""Prediction end to end: repeatable, stoppable, bounded, honest about failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
import torch

from errors import MetiaError
from segmentation.models.predictor import Predictor
from segmentation.models.registry import ModelRegistry, load_predictor
from tests.ball_head import make_ball_head
from tests.loaded_networks import loaded_network
from unetr.configuration import (
    InferenceParameters,
    LegacyProfile,
    PreprocessingProfile,
)
from unetr.engines.engine import FloatArray, HostNetwork
from unetr.engines.resident import TorchResident
from unetr.inference import Answer, UnetrInference
from unetr.windows import Plan

ROOT = Path(__file__).resolve().parents[2]
PROFILE = PreprocessingProfile(profile="head-mr", spacing_mm=(2.0, 2.0, 2.0))
PARAMETERS = InferenceParameters(window=(32, 32, 32), minimum_volume_mm3=10.0)


def _bright(windows: FloatArray) -> FloatArray:
    return 20 * (windows - 2)


def _inference(
    network: HostNetwork,
    parameters: InferenceParameters = PARAMETERS,
    profile: PreprocessingProfile = PROFILE,
) -> UnetrInference:
    return UnetrInference(loaded_network(network), profile, parameters)


def _predict(inference: UnetrInference | Predictor, image: hd.Volume) -> Answer:
    return inference.predict(image, progress=lambda _: None, cancelled=lambda: False)


@pytest.fixture(scope="module")
def image() -> hd.Volume:
    return make_ball_head(noise=5)


@pytest.fixture(scope="module")
def seeded() -> Predictor:
    registry = ModelRegistry([ROOT / "unetr" / "weights"])
    return load_predictor(registry.get("unetr-seeded"), device="cpu", threads=1)


def test_the_seeded_model_says_no_lesion_and_repeats_itself(
    seeded: Predictor, image: hd.Volume
) -> None:
    before = image.array.copy()
    first, second = (_predict(seeded, image) for _ in range(2))
    assert first.probability.array.tobytes() == second.probability.array.tobytes()
    assert np.array_equal(image.array, before)
    assert first.probability.geometry_equal(image, tol=None)
    assert first.probability.array.dtype == np.float32
    assert 0 < first.probability.array.max() < seeded.threshold
    assert set(first.timings_s) == {"preprocess", "network", "postprocess"}
    assert first.device == "cpu"
    assert first.parameters == second.parameters
    assert first.parameters["execution"]["precision"] in {"fp32", "bf16"}


def test_loading_leaves_the_process_random_state_alone_and_times_itself(
    seeded: Predictor, image: hd.Volume
) -> None:
    state = torch.random.get_rng_state()
    _predict(seeded, image)
    assert torch.equal(state, torch.random.get_rng_state())
    assert seeded.load_s > 0


def test_progress_rises_to_one_with_a_step_a_window(image: hd.Volume) -> None:
    calls: list[int] = []
    reported: list[float] = []

    def network(windows: FloatArray) -> FloatArray:
        calls.append(len(windows))
        return _bright(windows)

    _inference(network).predict(
        image, progress=reported.append, cancelled=lambda: False
    )
    assert len(calls) >= 8
    assert reported == sorted(reported)
    assert len(set(reported)) > len(calls)
    assert reported[-1] == 1.0


@pytest.mark.parametrize("after", [0, 1, 5])
def test_cancel_stops_before_the_next_window(image: hd.Volume, after: int) -> None:
    calls: list[int] = []

    def network(windows: FloatArray) -> FloatArray:
        calls.append(1)
        return _bright(windows)

    with pytest.raises(MetiaError) as caught:
        _inference(network).predict(
            image, progress=lambda _: None, cancelled=lambda: len(calls) >= after
        )
    assert caught.value.code == "job-cancelled"
    assert len(calls) == after


class _Forgetful:
    """A network that runs out of memory the first times, or above a batch size."""

    def __init__(self, failures: int, error: type[Exception]) -> None:
        self.failures = failures
        self.error = error

    def __call__(self, windows: FloatArray) -> FloatArray:
        if self.failures:
            self.failures -= 1
            raise self.error("DefaultCPUAllocator: not enough memory")
        return _bright(windows)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_memory_that_runs_out_gives_the_same_answer_by_a_smaller_plan(
    image: hd.Volume, error: type[Exception]
) -> None:
    expected = _predict(_inference(_bright), image)
    inference = _inference(_Forgetful(2, error))
    inference.plans = (Plan(8, "cpu"), Plan(2, "cpu"), Plan(1, "cpu"))
    reported: list[float] = []
    answer = inference.predict(image, progress=reported.append, cancelled=lambda: False)
    np.testing.assert_allclose(
        answer.probability.array, expected.probability.array, atol=1e-5
    )
    execution = answer.parameters["execution"]
    assert isinstance(execution, dict)
    assert execution["out_of_memory_retries"] == 2
    assert execution["batch"] == 1
    assert reported == sorted(reported)


def test_memory_that_never_suffices_is_a_coded_failure(image: hd.Volume) -> None:
    inference = _inference(_Forgetful(10**6, torch.OutOfMemoryError))
    with pytest.raises(MetiaError) as caught:
        _predict(inference, image)
    assert caught.value.code == "out-of-memory"


def test_other_faults_of_the_network_are_not_taken_for_memory(image: hd.Volume) -> None:
    inference = _inference(_Forgetful(10**6, ValueError))
    with pytest.raises(ValueError, match="memory"):
        _predict(inference, image)


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), 30.0])
def test_nonsense_is_not_passed_on(image: hd.Volume, answer: float) -> None:
    with pytest.raises(MetiaError) as caught:
        _predict(_inference(lambda windows: np.full_like(windows, answer)), image)
    assert caught.value.code == "prediction-implausible"


def test_no_lesion_anywhere_is_an_answer(image: hd.Volume) -> None:
    answer = _predict(_inference(lambda windows: np.full_like(windows, -9)), image)
    assert answer.probability.array.max() < 0.001


def test_outside_the_head_box_the_probability_is_zero() -> None:
    head = make_ball_head(spacing_mm=(3.0, 2.0, 2.0), head_radius_mm=40)
    large = head.pad(((20, 30), (25, 40), (35, 20)), constant_value=0.0)
    answer = _predict(_inference(lambda windows: np.full_like(windows, -2)), large)
    array = answer.probability.array
    assert array[0, 0, 0] == array[-1, -1, -1] == 0
    middle = tuple(n // 2 for n in array.shape)
    assert array[middle] == pytest.approx(1 / (1 + np.exp(2)), rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((3, 20, 20), (6.0, 1.0, 1.0)),
        ((2, 512, 16), (8.0, 0.4, 5.0)),
        ((5, 5, 5), (1.0, 1.0, 1.0)),
        ((1, 64, 64), (5.0, 1.0, 1.0)),
        ((40, 7, 9), (0.4, 10.0, 10.0)),
    ],
)
def test_tiny_and_odd_volumes_work(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> None:
    array = np.random.default_rng(0).normal(20, 5, shape).astype(np.float32)
    inner = tuple(slice(n // 4, n - n // 4) for n in shape)
    array[inner] += 300
    affine = np.diag([*spacing_mm, 1.0])
    odd = hd.Volume(array, affine, coordinate_system="PATIENT")
    answer = _predict(_inference(lambda windows: np.full_like(windows, -3)), odd)
    assert answer.probability.array.shape == shape
    assert np.isfinite(answer.probability.array).all()
    assert answer.probability.array.max() > 0.04


@pytest.mark.parametrize("fill", [0.0, 500.0, np.nan, np.inf, -np.inf])
def test_an_image_of_nothing_is_refused(image: hd.Volume, fill: float) -> None:
    array = image.array.copy()
    if np.isfinite(fill):
        array[:] = fill
    else:
        array[7, 8, 9] = fill
    with pytest.raises(MetiaError) as caught:
        _predict(_inference(_bright), image.with_array(array))
    assert caught.value.code == "volume-bad-pixels"


def test_a_device_that_is_not_there_is_a_matter_of_settings() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device, so its absence cannot be shown")
    registry = ModelRegistry([ROOT / "unetr" / "weights"])
    with pytest.raises(MetiaError) as caught:
        load_predictor(registry.get("unetr-seeded"), device="cuda", threads=1)
    assert caught.value.code == "configuration-invalid"


def test_an_answer_may_not_depend_on_scale_and_offset_of_the_signal(
    image: hd.Volume,
) -> None:
    expected = _predict(_inference(_bright), image).probability.array
    other = image.with_array((image.array * 3.7 + 40).astype(np.float32))
    found = _predict(_inference(_bright), other).probability.array
    assert ((found >= 0.5) != (expected >= 0.5)).sum() <= 2


CPU = torch.device("cpu")


class _Device(TorchResident):
    """A device whose memory runs out the first times; the CPU stands in for it."""

    def __init__(self, failures: int) -> None:
        super().__init__(lambda windows: 20 * (windows - 2), CPU)
        self.failures = failures
        self.batches: list[int] = []
        self.released = 0

    def run(self, volume: torch.Tensor, **options: Any) -> torch.Tensor:
        self.batches.append(options["batch"])
        if self.failures:
            self.failures -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().run(volume, **options)

    def release(self) -> None:
        self.released += 1


@pytest.mark.parametrize(
    ("failures", "batches", "stitched_on"),
    [(0, [8], "cuda"), (1, [8, 1], "cuda"), (2, [8, 1], "cpu")],
)
@pytest.mark.parametrize("grid_mm", [2.0, 3.0])
def test_a_device_gives_the_answer_of_main_memory(
    image: hd.Volume,
    failures: int,
    batches: list[int],
    stitched_on: str,
    grid_mm: float,
) -> None:
    profile = PROFILE.model_copy(update={"spacing_mm": (grid_mm, 2.0, grid_mm)})
    expected = _predict(_inference(_bright, profile=profile), image)
    device = _Device(failures)
    loaded = loaded_network(_bright, "cuda:0", device)
    answer = _predict(UnetrInference(loaded, profile, PARAMETERS), image)
    np.testing.assert_allclose(
        answer.probability.array, expected.probability.array, atol=1e-5
    )
    assert device.batches == batches
    assert device.released == failures
    execution = answer.parameters["execution"]
    assert isinstance(execution, dict)
    assert execution["stitched_on"] == stitched_on
    assert execution["out_of_memory_retries"] == failures
    assert execution["device"] == "cuda"


def test_a_device_is_asked_to_stop_between_batches(image: hd.Volume) -> None:
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 4

    loaded = loaded_network(_bright, "cuda:0", _Device(0))
    with pytest.raises(MetiaError) as caught:
        UnetrInference(loaded, PROFILE, PARAMETERS).predict(
            image, progress=lambda _: None, cancelled=cancelled
        )
    assert caught.value.code == "job-cancelled"


def test_the_old_profile_runs_on_a_device_too(image: hd.Volume) -> None:
    profile = LegacyProfile(profile="metia-legacy")
    given = [
        _predict(UnetrInference(loaded, profile, PARAMETERS), image)
        for loaded in (
            loaded_network(lambda windows: 9 * (windows - 0.8)),
            loaded_network(
                lambda windows: 9 * (windows - 0.8),
                "cuda:0",
                TorchResident(lambda windows: 9 * (windows - 0.8), CPU),
            ),
        )
    ]
    answers = [answer.probability.array for answer in given]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)
    assert answers[0].max() > 0.1
    stated = profile.model_dump(mode="json")
    assert stated.items() <= given[0].parameters.items()
