"""A whole run: it learns, survives kill -9, and its model is one the service loads."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from errors import MetiaError
from segmentation.models.registry import ModelFolder, load_predictor
from tests.ball_head import make_ball_head
from tests.tiny_heads import (
    TINY_NETWORK,
    TINY_PYRAMID,
    make_pack,
    tiny_configuration,
)
from unetr.training.configuration import read_configuration
from unetr.training.export import export_model
from unetr.training.run import read_checkpoint, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    from unetr.training.module import trainable_network

    start = read_configuration(tiny_configuration(tmp_path, pack))
    torch.manual_seed(5)
    old = trainable_network(start.network.model_copy(update={"out_channels": 14}))
    torch.save(old.state_dict(), tmp_path / "abdomen.pt")
    for steps, moved in ((3, False), (6, True)):
        folder = tmp_path / f"steps-{steps}"
        folder.mkdir()
        path = tiny_configuration(
            folder,
            pack,
            optimiser={"steps": steps, "batch": 1, "warmup_steps": 0, "ema_decay": 0.0},
            start={"weights": str(tmp_path / "abdomen.pt"), "frozen_steps": 3},
            validation={"every_steps": 6, "heads": 1, "patches_per_head": 1},
            checkpoint_every_steps=1,
        )
        last = train(read_configuration(path), progress=False)
        state = read_checkpoint(last)["state_dict"]
        name = "vit.blocks.0.mlp.linear1.weight"
        same = torch.equal(state[f"network.{name}"], old.state_dict()[name])
        assert same is not moved
        name = "decoder2.conv_block.conv1.conv.weight"
        assert not torch.equal(state[f"network.{name}"], old.state_dict()[name])
        assert state["network.out.conv.conv.weight"].shape[0] == 2


def test_two_processes_train_one_network(pack: Path, tmp_path: Path) -> None:
    two = {
        "accelerator": "cpu",
        "precision": "fp32",
        "workers": 0,
        "threads": 1,
        "devices": 2,
    }
    path = tiny_configuration(tmp_path, pack, hardware=two)
    command = [sys.executable, "-m", "segmentation.cli", "train", str(path), "--quiet"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The last checkpoint is") == 1
    assert "MEMBER: 2/2" in done.stderr
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["global_step"] == 8
    steps = [int(row["step"]) for row in metrics(tmp_path / "run") if row["train/loss"]]
    assert steps == list(range(8))


FIRST_TWO_BATCHES = """
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
"""


def test_workers_draw_different_patches(pack: Path, tmp_path: Path) -> None:
    path = tiny_configuration(
        tmp_path,
        pack,
        hardware={"accelerator": "cpu", "precision": "fp32", "workers": 2},
    )
    script = tmp_path / "first_two_batches.py"
    script.write_text(FIRST_TWO_BATCHES, "utf-8")
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
    assert done.stdout == "(2, 1, 32, 32, 32) False\n"
