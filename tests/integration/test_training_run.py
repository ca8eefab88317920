"""A whole run: it learns, survives kill -9, and its model is one the service loads."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from errors import MetiaError
from segmentation.models.registry import ModelFolder, load_predictor
from tests.ball_head import make_ball_head
from tests.drawn_cases import write_case
from tests.tiny_heads import (
    TINY_NETWORK,
    TINY_PYRAMID,
    damage,
    make_pack,
    tiny_configuration,
)
from unetr.training import cases
from unetr.training.checkpoints import read_checkpoint
from unetr.training.configuration import read_configuration
from unetr.training.export import export_model
from unetr.training.module import MetastasisModule, trainable_network
from unetr.training.run import train
from unetr.training.synthetic import SyntheticHead

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("heads"))


EASY = {
    "background_share": 0.0,
    "enhancement": {
        "contrast_share": 1.0,
        "surface_vessels": [0, 0],
        "deep_vessels": [0, 0],
        "sinus_share": 0.0,
        "dura_share": 0.0,
        "plexus_share": 0.0,
        "pituitary_share": 0.0,
        "neck_share": 0.0,
    },
    "lesions": {
        "none_share": 0.0,
        "median_diameter_mm": 12.0,
        "diameter_spread": 0.1,
        "faint_share": 0.0,
        "ring_share": 0.0,
        "patchy_share": 0.0,
        "level": [2.4, 2.6],
    },
    "acquisition": {"thick_share": 0.0, "slab_share": 0.0},
}
"""Large bright balls and nothing like them."""


def metrics(run: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for path in sorted(run.glob("log/*/metrics.csv")):
        with path.open(encoding="utf-8") as stream:
            rows += csv.DictReader(stream)
    return rows


@pytest.mark.parametrize(
    "network", [TINY_NETWORK, TINY_PYRAMID], ids=["plain", "pyramid"]
)
def test_training_learns_and_its_model_is_loaded(
    pack: Path, tmp_path: Path, network: dict[str, object]
) -> None:
    path = tiny_configuration(
        tmp_path,
        pack,
        network=network,
        optimiser={
            "steps": 20,
            "batch": 4,
            "warmup_steps": 5,
            "learning_rate": 0.004,
            "ema_decay": 0.8,
        },
        synthetic=EASY,
        loss={"kind": "dice-bce", "voxel_weight": 1.0},
        validation={"every_steps": 5, "heads": 2, "patches_per_head": 6},
        checkpoint_every_steps=1000,
    )
    configuration = read_configuration(path)
    configuration = configuration.model_copy(
        update={"export": configuration.export.model_copy(update={"threshold": 0.9})}
    )
    last = train(configuration, progress=False)
    dice = [
        float(row["validation/dice"])
        for row in metrics(tmp_path / "run")
        if row.get("validation/dice")
    ]
    assert len(dice) == 4
    assert max(dice[1:]) > dice[0] + 0.05
    assert read_checkpoint(last)["global_step"] == 20
    folder = export_model(configuration, last, tmp_path / "models")
    assert {file.name for file in folder.iterdir()} == {
        "weights.safetensors",
        "manifest.json",
        "MODEL_CARD.md",
    }
    predictor = load_predictor(ModelFolder.open(folder), device="cpu", threads=1)
    image = make_ball_head(spacing_mm=(2.0, 2.0, 2.0))
    answer = predictor.predict(image, progress=lambda _: None, cancelled=lambda: False)
    assert answer.probability.spatial_shape == image.spatial_shape
    assert answer.parameters["profile"] == "head-mr"
    with pytest.raises(MetiaError, match="exists"):
        export_model(configuration, last, tmp_path / "models")


def assert_same_weights(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]
) -> None:
    assert one.keys() == other.keys()
    for name, values in other.items():
        assert torch.equal(one[name], values), name


def test_the_best_checkpoint_holds_the_weights_that_were_validated(
    pack: Path, tmp_path: Path
) -> None:
    path = tiny_configuration(
        tmp_path,
        pack,
        optimiser={"steps": 4, "warmup_steps": 1, "ema_decay": 0.8},
        validation={"every_steps": 4, "heads": 1, "patches_per_head": 2},
    )
    configuration = read_configuration(path)
    # Validated once, after the last step, so that these are the same weights.
    averaged = read_checkpoint(train(configuration, progress=False))["state_dict"]
    best = read_checkpoint(tmp_path / "run" / "best.ckpt")
    assert best["global_step"] == 4
    assert_same_weights(best["state_dict"], averaged)
    name = "out.conv.conv.weight"
    raw = best["current_model_state"][f"network.{name}"]
    assert not torch.equal(raw, averaged[f"network.{name}"])
    folder = export_model(configuration, tmp_path / "run" / "best.ckpt", tmp_path)
    exported = load_file(folder / "weights.safetensors")[name]
    assert torch.equal(exported, averaged[f"network.{name}"].half())


def test_equal_runs_end_alike_whatever_a_pass_holds(pack: Path, tmp_path: Path) -> None:
    """Twice the same, and two passes of one patch for one of two."""
    hardware = {
        "accelerator": "cpu",
        "precision": "fp32",
        "workers": 0,
        "threads": 1,
        "deterministic": True,
    }
    ended = []
    for number, (batch, accumulate) in enumerate(((1, 2), (1, 2), (2, 1))):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = tiny_configuration(
            folder,
            pack,
            optimiser={
                "steps": 3,
                "warmup_steps": 0,
                "batch": batch,
                "accumulate": accumulate,
            },
            hardware=hardware,
            validation={"every_steps": 3, "heads": 1, "patches_per_head": 1},
        )
        last = read_checkpoint(train(read_configuration(path), progress=False))
        assert last["global_step"] == 3
        assert torch.are_deterministic_algorithms_enabled()
        ended.append(last["state_dict"])
    one, same, larger = ended
    for name, values in one.items():
        assert torch.equal(values, same[name]), name
        assert torch.allclose(values, larger[name], atol=1e-4), name


def test_a_fault_in_a_process_of_the_loader_is_told(tmp_path: Path) -> None:
    pack = make_pack(tmp_path)
    for name in ("labels-0", "labels-1", "real"):
        damage(pack / f"{name}.npz")
    hardware = {"accelerator": "cpu", "precision": "fp32", "workers": 1, "threads": 1}
    path = tiny_configuration(tmp_path, pack, hardware=hardware)
    command = [sys.executable, "-m", "segmentation.cli", "train", str(path), "--quiet"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "metia: input-unreadable: " in done.stderr
    assert ".npz was changed." in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupted_run_keeps_its_last_step(pack: Path, tmp_path: Path) -> None:
    path = tiny_configuration(
        tmp_path,
        pack,
        optimiser={"steps": 100_000, "batch": 1, "warmup_steps": 2},
        validation={"every_steps": 100_000, "heads": 1, "patches_per_head": 1},
        checkpoint_every_steps=20,
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "segmentation.cli", "train", str(path), "--quiet"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    last = tmp_path / "run" / "last.ckpt"
    end = time.monotonic() + 120
    while not last.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    before = last.stat().st_mtime_ns
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Stopping after this step" in said
    assert "metia: cancelled" in said
    assert last.stat().st_mtime_ns > before
    stopped = read_checkpoint(last)
    optimiser = stopped["optimizer_states"][0]["state"]
    assert {int(state["step"]) for state in optimiser.values()} == {
        stopped["global_step"]
    }
    train(read_configuration(path), resume=True, minutes=0.001, progress=False)
    assert read_checkpoint(last)["global_step"] == stopped["global_step"] + 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    pack: Path, tmp_path: Path
) -> None:
    path = tiny_configuration(
        tmp_path,
        pack,
        network=TINY_PYRAMID,
        optimiser={"steps": 400, "batch": 1, "warmup_steps": 2},
        validation={"every_steps": 400, "heads": 1, "patches_per_head": 2},
        checkpoint_every_steps=4,
    )
    command = [sys.executable, "-m", "segmentation.cli", "train", str(path), "--quiet"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    last = tmp_path / "run" / "last.ckpt"
    end = time.monotonic() + 90
    while not last.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None, "the run ended before it was killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = read_checkpoint(last)
    assert 4 <= killed["global_step"] < 400
    assert killed["global_step"] % 4 == 0

    configuration = read_configuration(path)
    with pytest.raises(MetiaError, match="add --resume"):
        train(configuration, progress=False)
    train(configuration, resume=True, minutes=0.05, progress=False)
    again = read_checkpoint(last)
    assert again["global_step"] > killed["global_step"]
    optimiser = again["optimizer_states"][0]["state"]
    assert {int(state["step"]) for state in optimiser.values()} == {
        again["global_step"]
    }
    assert again["lr_schedulers"][0]["last_epoch"] == again["global_step"]
    steps = [int(row["step"]) for row in metrics(tmp_path / "run") if row["step"]]
    assert max(steps) >= killed["global_step"]

    changed = configuration.model_copy(update={"seed": 99})
    with pytest.raises(MetiaError, match="another configuration"):
        train(changed, resume=True, progress=False)


def test_muon_goes_on_after_a_break(pack: Path, tmp_path: Path) -> None:
    optimiser = {"kind": "muon", "steps": 12, "batch": 2, "warmup_steps": 2}
    configuration = read_configuration(
        tiny_configuration(tmp_path, pack, optimiser=optimiser)
    )
    train(configuration, minutes=0.001, progress=False)
    last = tmp_path / "run" / "last.ckpt"
    assert read_checkpoint(last)["global_step"] < 12
    train(configuration, resume=True, progress=False)
    ended = read_checkpoint(last)
    assert ended["global_step"] == 12
    (optimiser_state,) = ended["optimizer_states"]
    kept = optimiser_state["state"].values()
    assert sum("momentum" in state for state in kept) > 10
    assert {int(state["step"]) for state in kept if "step" in state} == {12}


def test_frozen_layers_wait_and_then_learn(pack: Path, tmp_path: Path) -> None:
    start = read_configuration(tiny_configuration(tmp_path, pack))
    torch.manual_seed(5)
    old = trainable_network(start.network.model_copy(update={"out_channels": 14}))
    torch.save(old.state_dict(), tmp_path / "abdomen.pt")
    begins = {"weights": str(tmp_path / "abdomen.pt"), "unfreeze_steps": [1, 2, 3]}
    for steps, expected in ((3, [True, True, True, False]), (6, [True] * 4)):
        folder = tmp_path / f"steps-{steps}"
        folder.mkdir()
        path = tiny_configuration(
            folder,
            pack,
            optimiser={"steps": steps, "batch": 1, "warmup_steps": 0, "ema_decay": 0.0},
            start=begins,
            validation={"every_steps": 6, "heads": 1, "patches_per_head": 1},
            checkpoint_every_steps=1,
        )
        last = train(read_configuration(path), progress=False)
        state = read_checkpoint(last)["state_dict"]
        moved = [
            not torch.equal(state[f"network.{name}"], old.state_dict()[name])
            for name in (
                "decoder2.conv_block.conv1.conv.weight",
                "decoder4.conv_block.conv1.conv.weight",
                "encoder4.transp_conv_init.conv.weight",
                "vit.blocks.0.mlp.linear1.weight",
            )
        ]
        assert moved == expected
        assert state["network.out.conv.conv.weight"].shape[0] == 2


def test_what_never_learns_stays_as_it_was(pack: Path, tmp_path: Path) -> None:
    """Statistics of batch norms too, through validations and a resumption."""
    plain = read_configuration(tiny_configuration(tmp_path, pack, network=TINY_PYRAMID))
    torch.manual_seed(5)
    old = trainable_network(plain.network).state_dict()
    torch.save(old, tmp_path / "old.pt")
    path = tiny_configuration(
        tmp_path,
        pack,
        network=TINY_PYRAMID,
        optimiser={"steps": 4, "batch": 1, "warmup_steps": 0, "ema_decay": 0.8},
        start={"weights": str(tmp_path / "old.pt"), "unfreeze_steps": [3, 4]},
        validation={"every_steps": 1, "heads": 1, "patches_per_head": 1},
    )
    last = train(read_configuration(path), minutes=0.001, progress=False)
    assert moved_stages(old, last) == {"out", "decoder2"}
    train(read_configuration(path), resume=True, progress=False)
    assert moved_stages(old, last) == {
        "out",
        "decoder2",
        "decoder3",
        "decoder4",
        "decoder5",
    }


def moved_stages(old: dict[str, torch.Tensor], checkpoint: Path) -> set[str]:
    state = read_checkpoint(checkpoint)["state_dict"]
    return {
        name.split(".")[0]
        for name, values in old.items()
        if not torch.equal(values, state[f"network.{name}"])
    }


def validated_steps(run: Path) -> list[int]:
    return [int(row["step"]) for row in metrics(run) if row.get("validation/dice")]


@pytest.mark.parametrize("steps", [4, 5])
def test_a_validation_that_was_killed_is_made_up_for(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    class Killed(Exception):
        pass

    def kill(_: MetastasisModule) -> None:
        raise Killed

    path = tiny_configuration(
        tmp_path,
        pack,
        optimiser={"steps": steps, "batch": 1, "warmup_steps": 1, "ema_decay": 0.8},
        validation={"every_steps": 4, "heads": 1, "patches_per_head": 2},
    )
    configuration = read_configuration(path)
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(MetastasisModule, "on_validation_start", kill)
        with pytest.raises(Killed):
            train(configuration, progress=False)
    assert read_checkpoint(run / "last.ckpt")["global_step"] == 4
    assert not (run / "best.ckpt").exists()
    train(configuration, resume=True, progress=False)
    assert len(validated_steps(run)) == 1
    with monkeypatch.context() as patched:
        patched.setattr(MetastasisModule, "on_validation_start", kill)
        # Nothing is left to do.
        train(configuration, resume=True, progress=False)
    last, best = (read_checkpoint(run / f"{name}.ckpt") for name in ("last", "best"))
    assert last["global_step"] == best["global_step"] == steps
    assert_same_weights(best["state_dict"], last["state_dict"])
    assert best["optimizer_states"]


@pytest.mark.parametrize("moved", [False, True])
def test_a_worse_network_never_takes_the_place_of_the_best(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    scores = iter([0.9, 0.1, 0.2])

    def score(module: MetastasisModule) -> None:
        module._found.clear()
        module.log("validation/dice", torch.tensor(next(scores)))

    monkeypatch.setattr(MetastasisModule, "on_validation_epoch_end", score)
    path = tiny_configuration(
        tmp_path,
        pack,
        optimiser={"steps": 4, "batch": 1, "warmup_steps": 1},
        validation={"every_steps": 3, "heads": 1, "patches_per_head": 2},
    )
    configuration = read_configuration(path)
    # Validated after last.ckpt is written, which so knows nothing of it.
    train(configuration, minutes=0.001, progress=False)
    if moved:
        (tmp_path / "run").rename(tmp_path / "moved")
        configuration = configuration.model_copy(
            update={"output": str(tmp_path / "moved")}
        )
    output = Path(configuration.output)
    train(configuration, resume=True, progress=False)
    assert next(scores, None) is None
    assert read_checkpoint(output / "best.ckpt")["global_step"] == 1
    assert read_checkpoint(output / "last.ckpt")["global_step"] == 4


def test_two_processes_train_one_network(pack: Path, tmp_path: Path) -> None:
    two = {
        "accelerator": "cpu",
        "precision": "fp32",
        "workers": 0,
        "threads": 1,
        "devices": 2,
    }
    # Validated amid training and once more at its end.
    validation = {"every_steps": 5, "heads": 1, "patches_per_head": 2}
    path = tiny_configuration(tmp_path, pack, hardware=two, validation=validation)
    command = [sys.executable, "-m", "segmentation.cli", "train", str(path), "--quiet"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The last checkpoint is") == 1
    assert "MEMBER: 2/2" in done.stderr
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["global_step"] == 8
    assert read_checkpoint(tmp_path / "run" / "best.ckpt")["global_step"] in (5, 8)
    assert len(validated_steps(tmp_path / "run")) == 2
    steps = [int(row["step"]) for row in metrics(tmp_path / "run") if row["train/loss"]]
    assert steps == list(range(8))


BATCHES = """
import multiprocessing
import os
import signal
import sys
from pathlib import Path
import torch
from unetr.training.configuration import read_configuration
from unetr.training.data import PatchData

if __name__ == "__main__":
    loader = PatchData(read_configuration(Path(sys.argv[1]))).train_dataloader()
    batches = iter(loader)
    (first, _), (second, _) = next(batches), next(batches)
    print(tuple(first.shape), torch.equal(first, second))
    # At a terminal Ctrl-C comes to all processes; these have to outlast the step.
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGINT)
    print(len([next(batches) for _ in range(20)]))
"""


def test_workers_draw_different_patches_and_leave_the_end_to_training(
    pack: Path, tmp_path: Path
) -> None:
    path = tiny_configuration(
        tmp_path,
        pack,
        hardware={"accelerator": "cpu", "precision": "fp32", "workers": 2},
    )
    script = tmp_path / "batches.py"
    script.write_text(BATCHES, "utf-8")
    # Not in this process: the loader's signal handler would stay in it for good, and
    # raise in whatever test runs when one of the loader's processes ends badly.
    done = subprocess.run(
        [sys.executable, str(script), str(path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(2, 1, 32, 32, 32) False\n20\n"


def test_own_cases_alone_are_trained_on_and_validated_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = set()

    def load_case(case: cases.CaseFiles, *others: Any) -> SyntheticHead:
        loaded.add(case.name)
        return prepared(case, *others)

    prepared = cases.load_case
    monkeypatch.setattr(cases, "load_case", load_case)
    configuration = read_configuration(
        tiny_configuration(
            tmp_path,
            tmp_path,
            data={"cases": "cases"},
            optimiser={"steps": 6, "batch": 2, "warmup_steps": 1},
            patches={"per_head": 2, "reuse": 1, "pool": 8},
            validation={"every_steps": 6, "heads": 4, "patches_per_head": 2},
        )
    )
    for visit in (1, 2):
        write_case(tmp_path / "cases", f"p0__{visit}", visit)
    with pytest.raises(MetiaError, match="no case for train"):
        train(configuration, progress=False)
    for patient in (1, 2):
        write_case(tmp_path / "cases", f"p{patient}", 10 * patient)
    last = train(configuration, progress=False)
    assert read_checkpoint(last)["global_step"] == 6
    (dice,) = (
        row["validation/dice"]
        for row in metrics(tmp_path / "run")
        if row.get("validation/dice")
    )
    assert 0 <= float(dice) <= 1
    locked = json.loads((tmp_path / "cases" / "split.json").read_text("utf-8"))
    parts = {case["name"]: case["part"] for case in locked["cases"]}
    assert set(parts.values()) == {"train", "validation", "test"}
    assert {parts[name] for name in loaded} == {"train", "validation"}


def test_a_run_goes_on_only_with_the_cases_it_was_trained_on(tmp_path: Path) -> None:
    folder = tmp_path / "cases"
    for patient in range(5):
        write_case(folder, f"p{patient}", patient)
    path = tiny_configuration(
        tmp_path,
        tmp_path,
        data={"cases": "cases"},
        optimiser={"steps": 2, "batch": 1, "warmup_steps": 0},
        patches={"per_head": 2, "reuse": 1, "pool": 8},
        validation={"every_steps": 2, "heads": 1, "patches_per_head": 1},
    )
    configuration = read_configuration(path)
    last = train(configuration, minutes=0.001, progress=False)
    split = folder / "split.json"
    kept = split.read_bytes()
    document = json.loads(kept)
    exchanged = {"train": "test", "test": "train", "validation": "validation"}
    for case in document["cases"]:
        case["part"] = exchanged[case["part"]]
    split.write_text(json.dumps(document), "utf-8")
    with pytest.raises(MetiaError, match="trained on other cases"):
        train(configuration, resume=True, progress=False)
    with pytest.raises(MetiaError, match="trained on other cases"):
        export_model(configuration, last, tmp_path / "models")
    split.write_bytes(kept)
    # A mask that was corrected since is no other case.
    corrected: Any = nib.load(folder / "p1" / "mask.nii.gz")
    mask = np.asarray(corrected.dataobj).copy()
    mask[29, 31, 41] = 1
    path = folder / "p1" / "mask.nii.gz"
    nib.save(nib.Nifti1Image(mask, None, corrected.header), path)
    cases.lock_again(folder, "p1")
    train(configuration, resume=True, progress=False)
    export_model(configuration, last, tmp_path / "models")
    # One from before this was written down.
    mark = tmp_path / "run" / "configuration.sha256"
    mark.write_text(mark.read_text("utf-8").split()[0], "utf-8")
    train(configuration, resume=True, progress=False)
