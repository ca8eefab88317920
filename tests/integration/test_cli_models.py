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
    done = metia("models", "import", checkpoint, "--name", "theirs")
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
        noted = [entry for entry in entries(session) if entry.action == "model-promote"]
    assert len(noted) == 3
    engine.dispose()


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
    ):
        done = metia("models", "import", checkpoint, *options)
        assert done.returncode == 5, options
        assert "model-invalid" in done.stderr


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
