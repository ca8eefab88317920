"""Tuning: the fastest that agrees, kept for this machine alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from errors import MetiaError
from segmentation.models.registry import ModelFolder, ModelRegistry, load_as_set
from segmentation.models.tuning import kept_tuning, tune
from settings import Settings
from tests.ball_head import make_ball_head
from unetr.configuration import InferenceParameters
from unetr.engines import tuning as engine_tuning
from unetr.engines.engine import Choice, FloatArray, Loaded, Place
from unetr.engines.tuning import (
    LARGEST_DIFFERENCE,
    REFERENCE,
    Tuning,
    circumstances,
    keep,
    measure,
    measured_choice,
    read_tuning,
    tuning_path,
)

ROOT = Path(__file__).resolve().parents[2]
PLACE = Place("cpu", threads=2)
FAST, FASTER = Choice("openvino", "fp32"), Choice("openvino", "bf16")


def _engine(
    choice: Choice, seconds: float, change: Callable[[FloatArray], FloatArray]
) -> Loaded:
    def network(windows: FloatArray) -> FloatArray:
        time.sleep(seconds)
        return change(windows).astype(np.float32)

    return Loaded(network, choice, PLACE, "cpu")


def _loaders(**engines: tuple[float, Callable[[FloatArray], FloatArray]]):
    choices = {"reference": REFERENCE, "fast": FAST, "faster": FASTER}
    return {
        choices[name]: partial(_engine, choices[name], *facts)
        for name, facts in engines.items()
    }


def _same(windows: FloatArray) -> FloatArray:
    return windows


@pytest.fixture
def volumes() -> list[FloatArray]:
    random = np.random.default_rng(0)
    return [random.normal(size=(40, 32, 40)).astype(np.float32) for _ in range(3)]


def _measure(loaders, volumes: list[FloatArray], threshold: float = 0.5) -> Tuning:
    inference = InferenceParameters(
        window=(32, 32, 32),
        overlap=0.375,
        threshold=threshold,
        minimum_volume_mm3=0.0,
    )
    return measure(loaders, volumes, inference, PLACE, timing_s=0.05)


def test_the_fastest_that_agrees_is_chosen(volumes: list[FloatArray]) -> None:
    engines = {"reference": (0.02, _same), "fast": (0.01, _same)}
    found = _measure(_loaders(**engines, faster=(0.002, _same)), volumes)
    assert found.chosen == FASTER
    assert [trial.dice for trial in found.trials] == [1.0, 1.0, 1.0]
    seconds = {trial.choice: trial.seconds for trial in found.trials}
    assert seconds[FASTER] < seconds[FAST] < seconds[REFERENCE]


@pytest.mark.parametrize(
    "change",
    [
        lambda windows: windows + 0.01,
        lambda windows: -windows,
        lambda windows: windows * np.nan,
        lambda windows: windows + np.where(windows > 0, np.inf, 0),
    ],
    ids=["shifted", "turned round", "no numbers", "infinite"],
)
def test_one_that_disagrees_is_out_however_fast(
    change: Callable[[FloatArray], FloatArray], volumes: list[FloatArray]
) -> None:
    engines = {"reference": (0.02, _same), "fast": (0.01, _same)}
    found = _measure(_loaders(**engines, faster=(0.0, change)), volumes)
    assert found.chosen == FAST
    (out,) = (trial for trial in found.trials if trial.choice == FASTER)
    assert out.refusal
    assert out.seconds is None


def test_one_that_cannot_be_loaded_is_out(volumes: list[FloatArray]) -> None:
    def fail() -> Loaded:
        raise MetiaError("model-invalid", "It refuses the network.")

    loaders = {**_loaders(reference=(0.0, _same)), FASTER: fail}
    found = _measure(loaders, volumes)
    assert found.chosen == REFERENCE
    assert found.trials[1].refusal == "It refuses the network."


@pytest.mark.parametrize(("shift", "accepted"), [(0.5, True), (1.5, False)])
def test_where_nothing_is_marked_logits_are_compared(
    shift: float, accepted: bool, volumes: list[FloatArray]
) -> None:
    engines = _loaders(
        reference=(0.01, _same),
        fast=(0.0, lambda windows: windows + shift * LARGEST_DIFFERENCE),
    )
    found = _measure(engines, volumes, threshold=1 - 1e-15)
    assert (found.chosen == FAST) is accepted
    assert found.trials[1].dice is None


def test_what_was_measured_counts_here_and_now_only(
    tmp_path: Path, volumes: list[FloatArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tuning_path(tmp_path, "0" * 64)
    assert measured_choice(path, PLACE) is None
    found = _measure(_loaders(reference=(0.01, _same), fast=(0.0, _same)), volumes)
    keep(path, found)
    assert read_tuning(path) == found
    assert measured_choice(path, PLACE) == FAST
    assert measured_choice(path, replace(PLACE, threads=1)) is None
    assert measured_choice(tuning_path(tmp_path, "1" * 64), PLACE) is None
    with monkeypatch.context() as other:
        other.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
        assert measured_choice(path, PLACE) is None
    with monkeypatch.context() as other:
        other.setattr(engine_tuning, "engine_names", lambda: ("torch",))
        assert measured_choice(path, PLACE) is None
    assert measured_choice(path, PLACE) == FAST
    assert [path] == list(path.parent.iterdir())


@pytest.mark.parametrize("key", ["cpu", "instructions", "cores", "device", "versions"])
def test_another_machine_is_another_matter(
    key: str, tmp_path: Path, volumes: list[FloatArray]
) -> None:
    path = tuning_path(tmp_path, "0" * 64)
    keep(path, _measure(_loaders(reference=(0.0, _same)), volumes))
    document = json.loads(path.read_text())
    assert document["circumstances"] == circumstances(PLACE)
    document["circumstances"][key] = "other"
    path.write_text(json.dumps(document))
    assert measured_choice(path, PLACE) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "{}",
        '{"format": 2}',
        '{"format": 1, "chosen": {"engine": "tpu", "precision": "fp32"}, "trials": [],'
        ' "circumstances": {}}',
        '{"format": 1, "chosen": 3, "trials": [], "circumstances": {}}',
    ],
)
def test_a_spoilt_measurement_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "spoilt.json").write_text(content)
    assert read_tuning(tmp_path / "spoilt.json") is None


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("data"), device="cpu", threads=2)


@pytest.fixture(scope="module")
def folder() -> ModelFolder:
    return ModelRegistry([ROOT / "unetr" / "weights"]).get("unetr-seeded")


def test_a_model_is_measured_and_loaded_as_measured(
    folder: ModelFolder, settings: Settings
) -> None:
    assert kept_tuning(folder, settings) == (None, False)
    steps: list[str] = []
    heads = [make_ball_head(noise=5), make_ball_head(noise=3)]
    found = tune(folder, settings, steps.append, lambda: heads)
    assert steps[:2] == ["heads", str(REFERENCE)]
    assert {trial.choice.engine for trial in found.trials} == {"torch", "openvino"}
    assert kept_tuning(folder, settings) == (found, True)
    # What the rule would not have chosen shows that the measurement was heeded.
    path = tuning_path(settings.data_dir, folder.identity.sha256)
    keep(path, replace(found, chosen=Choice("torch", "fp32")))
    answer = load_as_set(folder, settings).predict(
        heads[0], progress=lambda _: None, cancelled=lambda: False
    )
    execution = answer.parameters["execution"]
    assert isinstance(execution, dict)
    assert execution["engine"] == "torch"
    assert execution["precision"] == "fp32"
    assert execution["threads"] == 2
    assert set(execution["versions"]) == {"torch"}


def test_a_model_without_a_network_has_nothing_to_measure(settings: Settings) -> None:
    folder = ModelRegistry([ROOT / "unetr" / "weights"]).get("phantom-threshold")
    with pytest.raises(MetiaError) as caught:
        tune(folder, settings, lambda _: None, list)
    assert caught.value.code == "invalid-input"
