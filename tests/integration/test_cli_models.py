"""``metia models``: import, look, verify, promote, roll back, self-test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from db.audit import entries
from db.engine import make_engine, reading
from errors import MetiaError
from segmentation.cli.chosen_model import chosen_model
from segmentation.cli.evaluation import _model as _evaluated
from segmentation.cli.models import _advice
from settings import get_settings
from tests.ball_head import make_ball_head
from tests.command_line import command_line
from tests.foreign_checkpoints import original_checkpoint, plain_network


@pytest.fixture
def metia(tmp_path, monkeypatch, capsys):
    """Run the command line on a database and models of its own."""
    monkeypatch.setenv("METIA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("METIA_DATABASE_URL", raising=False)
    monkeypatch.delenv("METIA_MODEL_DIRS", raising=False)
    (tmp_path / "data").mkdir()
    get_settings.cache_clear()

    run = command_line(capsys)
    assert run("db", "upgrade").returncode == 0
    yield run
    get_settings.cache_clear()


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / "checkpoint_epoch1599.cpkt"
    original_checkpoint(path, plain_network())
    return path


def _default(metia) -> str:
    rows = json.loads(metia("models", "list", "--json").stdout)["models"]
    (default,) = [row["name"] for row in rows if row["is_default"]]
    return default


def test_a_checkpoint_is_imported_promoted_and_rolled_back(metia, checkpoint) -> None:
    before = _default(metia)
    assert metia("models", "rollback").returncode == 2  # nothing to go back to
    done = metia("model", "import", checkpoint, "--name", "theirs")
    assert done.returncode == 0, done.stderr
    assert "170 tensors used, 4 dropped, 24 absent" in done.stdout
    shown = json.loads(metia("models", "show", "theirs").stdout)
    assert shown["preprocessing"]["profile"] == "metia-legacy"
    assert shown["network"]["proj_type"] == "perceptron"
    assert metia("models", "promote", before).returncode == 0
    assert _default(metia) == before
    assert metia("models", "promote", "theirs").returncode == 0
    assert _default(metia) == "theirs"
    done = metia("models", "rollback")
    assert done.returncode == 0, done.stderr
    assert before in done.stdout
    assert _default(metia) == before
    engine = make_engine(get_settings().database_url)
    with reading(engine) as session:
        noted = [entry.action for entry in reversed(entries(session))]
    assert noted == [
        *("model-import", "model-promote", "model-promote", "model-rollback")
    ]
    engine.dispose()


def test_rolling_back_goes_down_to_what_is_used_unpromoted(metia, monkeypatch) -> None:
    before = "unetr-brain-metastases"
    monkeypatch.setenv("METIA_DEFAULT_MODEL", before)
    get_settings.cache_clear()
    promoted = ("phantom-threshold", "unetr-seeded", "phantom-threshold")
    for name in promoted:
        assert metia("models", "promote", name).returncode == 0
    for name in ("unetr-seeded", "phantom-threshold", before):
        done = metia("models", "rollback")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{name} ")
        assert _default(metia) == name
    done = metia("models", "rollback")
    assert done.returncode == 2
    assert "No model is promoted" in done.stderr


def test_a_name_that_any_folder_holds_is_taken(metia, checkpoint, tmp_path) -> None:
    done = metia("models", "import", checkpoint, "--name", "unetr-seeded")
    assert done.returncode == 2
    assert "output-exists" in done.stderr
    assert list((tmp_path / "data").glob("models/*")) == []


def test_without_a_database_the_configured_model_is_taken(
    metia, checkpoint, tmp_path, monkeypatch
) -> None:
    for name in ("metia.sqlite", "metia.sqlite-wal", "metia.sqlite-shm"):
        (tmp_path / "data" / name).unlink(missing_ok=True)
    monkeypatch.setenv("METIA_DEFAULT_MODEL", "unetr-seeded")
    get_settings.cache_clear()
    assert _default(metia) == "unetr-seeded"
    assert chosen_model().identity.name == "unetr-seeded"
    assert metia("models", "import", checkpoint, "--name", "theirs").returncode == 0
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["models"]


def test_segment_and_evaluate_take_the_promoted_model(
    metia, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("METIA_DEFAULT_MODEL", "unetr-seeded")
    get_settings.cache_clear()
    assert metia("models", "promote", "phantom-threshold").returncode == 0
    assert chosen_model().identity.name == "phantom-threshold"
    assert chosen_model("unetr-seeded").identity.name == "unetr-seeded"
    image = tmp_path / "i.nii.gz"
    head = make_ball_head(noise=5)
    nib.save(nib.Nifti1Image(np.asarray(head.array), head.affine), image)
    done = metia("segment", image, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"]["name"] == "phantom-threshold"
    assert _evaluated("", None).identity.name == "phantom-threshold"


def test_a_database_that_cannot_be_asked_is_told(metia, checkpoint, tmp_path) -> None:
    (tmp_path / "data" / "metia.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(MetiaError, match="database-unusable"):
        chosen_model()
    done = metia("models", "import", checkpoint, "--name", "theirs")
    assert "database-unusable" in done.stderr
    assert not (tmp_path / "data" / "models").exists()


def test_what_the_file_says_of_its_preprocessing_is_used_and_told(
    metia, tmp_path
) -> None:
    path = tmp_path / "their.ckpt"
    stated = {"voxel_space": [1, 1, 1], "a_min": 0, "a_max": 255}
    stated |= {"b_min": -1, "b_max": 1}
    original_checkpoint(path, plain_network(), datamodule_hyper_parameters=stated)
    done = metia("models", "import", path, "--name", "theirs")
    assert done.returncode == 0, done.stderr
    told = "spacing_voxels 1, 1, 1; window_intensity 0, 255; scaled_to -1, 1"
    assert told in done.stdout
    said = ("--spacing", 1, 1, 2.5, "--window", -200, 300, "--scaled-to", 0, 1)
    done = metia("models", "import", path, "--name", "other", *said)
    assert done.returncode == 0, done.stderr
    assert "taken from the file: nothing" in done.stdout
    for name, spacing, window, scaled_to in (
        ("theirs", [1, 1, 1], [0, 255], [-1, 1]),
        ("other", [1, 1, 2.5], [-200, 300], [0, 1]),
    ):
        shown = json.loads(metia("models", "show", name).stdout)["preprocessing"]
        assert shown["spacing_voxels"] == spacing
        assert shown["window_intensity"] == window
        assert shown["scaled_to"] == scaled_to
    card = (tmp_path / "data/models/theirs/MODEL_CARD.md").read_text()
    assert told in card


def test_a_changed_model_is_found_and_not_promoted(metia, checkpoint, tmp_path) -> None:
    assert metia("models", "import", checkpoint, "--name", "theirs").returncode == 0
    weights = tmp_path / "data" / "models" / "theirs" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for command in (("verify",), ("verify", "theirs"), ("promote", "theirs")):
        done = metia("models", *command)
        assert done.returncode == 5, command
        assert "model-integrity" in done.stderr
    assert metia("models", "verify", "phantom-threshold").returncode == 0


def test_a_promoted_model_that_was_replaced_is_not_used(
    metia, checkpoint, tmp_path
) -> None:
    assert metia("models", "import", checkpoint, "--name", "theirs").returncode == 0
    assert metia("models", "promote", "theirs").returncode == 0
    shutil.rmtree(tmp_path / "data" / "models" / "theirs")
    other = tmp_path / "other.ckpt"
    original_checkpoint(other, plain_network(seed=2))
    assert metia("models", "import", other, "--name", "theirs").returncode == 0
    done = metia("models", "list")
    assert "model-integrity" in done.stderr
    assert "promoted" in done.stderr


def test_what_is_no_checkpoint_leaves_nothing(metia, tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    done = metia("models", "import", tmp_path / "notes.txt", "--name", "theirs")
    assert done.returncode == 5
    assert "checkpoint-refused" in done.stderr
    assert list((tmp_path / "data").glob("models/*")) == []


def test_bad_names_and_orders_are_refused(metia, checkpoint) -> None:
    for options in (
        ("--name", "../theirs"),
        ("--name", "Their Model"),
        ("--name", "theirs", "--axis-order", "row,row,slice"),
        ("--name", "theirs", "--threshold", "2"),
        ("--name", "theirs", "--spacing", "1", "0", "1"),
        ("--name", "theirs", "--window", "300", "-200"),
        ("--name", "theirs", "--scaled-to", "1", "1"),
    ):
        done = metia("models", "import", checkpoint, *options)
        assert done.returncode == 5, options
        assert "model-invalid" in done.stderr
    for option in ("--window", "--scaled-to"):
        options = ("--name", "theirs", "--profile", "head-mr", option, "0", "1")
        done = metia("models", "import", checkpoint, *options)
        assert done.returncode == 2
        assert "metia-legacy only" in done.stderr


def test_the_advice_of_a_self_test_can_be_followed(metia, checkpoint) -> None:
    assert metia("models", "import", checkpoint, "--name", "theirs").returncode == 0
    advice = _advice(chosen_model("theirs"), ("column", "-row", "slice"), clear=True)
    options = advice.partition(": ")[2].replace("OTHER", "theirs-2").split()
    done = metia("models", "import", checkpoint, *options)
    assert done.returncode == 0, done.stderr
    shown = json.loads(metia("models", "show", "theirs-2").stdout)
    assert shown["preprocessing"]["axis_order"] == ["column", "-row", "slice"]


def test_the_self_test_reads_nifti_and_gives_no_advice_without_reason(
    metia, checkpoint, tmp_path
) -> None:
    assert metia("models", "import", checkpoint, "--name", "theirs").returncode == 0
    random = np.random.default_rng(1)
    axes = np.ogrid[-1:1:60j, -1:1:60j, -1:1:40j]
    head = (sum(axis**2 for axis in axes) < 0.7) * random.uniform(80, 120, (60, 60, 40))
    mask = (sum(axis**2 for axis in axes) < 0.05).astype(np.uint8)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(head.astype(np.float32), affine), tmp_path / "i.nii.gz")
    nib.save(nib.Nifti1Image(mask, affine), tmp_path / "m.nii.gz")
    done = metia(
        *("models", "self-test", "theirs", tmp_path / "i.nii.gz"),
        *(tmp_path / "m.nii.gz", "--json", "--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["orders"]) == 16
    assert answer["clear"] is False


def test_a_model_is_tuned_and_the_measurement_is_shown(metia, monkeypatch) -> None:
    from segmentation.models import tuning

    monkeypatch.setattr(tuning, "_heads", lambda: [make_ball_head(noise=5)])
    before = metia("models", "tune", "unetr-seeded", "--check")
    assert "not measured here" in before.stdout
    done = metia("models", "tune", "unetr-seeded")
    assert done.returncode == 0, done.stderr
    assert "torch fp32" in done.stdout
    assert "is used here" in done.stdout
    shown = metia("models", "tune", "unetr-seeded", "--check", "--json")
    found = json.loads(shown.stdout)
    assert found["holds"] is True
    assert f"{found['tuning']['chosen']['engine']} " in done.stdout
    monkeypatch.setenv("METIA_THREADS", "7")
    get_settings.cache_clear()
    other = metia("models", "tune", "unetr-seeded", "--check")
    assert "Measure again" in other.stdout
    refused = metia("models", "tune", "phantom-threshold")
    assert refused.returncode != 0
    assert "no network" in refused.stderr
