"""The model routes: what an administrator may do, and what a checkpoint can't."""

from __future__ import annotations

from pathlib import Path

import pytest

from db import audit
from db.engine import reading
from tests.foreign_checkpoints import original_checkpoint, plain_network
from tests.security.application import Application

BINARY = "application/octet-stream"


@pytest.fixture
def checkpoint(tmp_path: Path) -> bytes:
    path = tmp_path / "their.cpkt"
    original_checkpoint(path, plain_network())
    return path.read_bytes()


def _send(application: Application, content: bytes, **options):
    return application.browser("admin").post(
        "/api/v1/models",
        query_string={"name": "theirs", **options},
        data=content,
        content_type=BINARY,
    )


def test_an_administrator_imports_promotes_and_goes_back(
    application: Application, checkpoint: bytes
) -> None:
    application.settings.default_model = "unetr-seeded"
    answer = _send(application, checkpoint, axis_order="-column,row,-slice")
    assert answer.status_code == 201, answer.json
    assert answer.json["name"] == "theirs"
    assert list(Path(application.settings.data_dir).glob("metia-checkpoint-*")) == []
    viewer, admin = application.browser("viewer"), application.browser("admin")
    shown = viewer.get("/api/v1/models/theirs").json
    assert shown["preprocessing"]["axis_order"] == ["-column", "row", "-slice"]
    assert shown["sha256"] == answer.json["sha256"]
    verify = application.browser("reviewer").post("/api/v1/models/theirs/verify")
    assert verify.status_code == 200
    assert admin.post("/api/v1/model-rollback").status_code == 409
    for name in ("phantom-threshold", "theirs"):
        assert admin.post(f"/api/v1/models/{name}/promote").status_code == 200
        models = viewer.get("/api/v1/models").json["models"]
        assert [one["name"] for one in models if one["is_default"]] == [name]
    for name in ("phantom-threshold", "unetr-seeded"):
        model = admin.post("/api/v1/model-rollback").json
        assert (model["name"], model["is_default"]) == (name, True)
        assert viewer.get(f"/api/v1/models/{name}").json["is_default"]
    assert admin.post("/api/v1/model-rollback").status_code == 409
    with reading(application.engine) as session:
        noted = [entry.action for entry in audit.entries(session)]
    assert noted.count("model-promote") == 2
    assert noted.count("model-rollback") == 2
    assert noted.count("model-import") == 1


def test_all_that_a_file_does_not_say_may_be_said(
    application: Application, checkpoint: bytes
) -> None:
    answer = _send(
        application,
        checkpoint,
        spacing=[1, 1.5, 2.5],
        window=[-20, 255],
        scaled_to=[-1, 1],
        heads=6,
        overlap=0.25,
        threshold=0.4,
        minimum_volume_mm3=12,
    )
    assert answer.status_code == 201, answer.json
    shown = application.browser("viewer").get("/api/v1/models/theirs").json
    assert shown["preprocessing"]["spacing_voxels"] == [1, 1.5, 2.5]
    assert shown["preprocessing"]["window_intensity"] == [-20, 255]
    assert shown["preprocessing"]["scaled_to"] == [-1, 1]
    assert shown["network"]["num_heads"] == 6
    said = {name: shown["inference"][name] for name in ("overlap", "threshold")}
    assert said == {"overlap": 0.25, "threshold": 0.4}
    assert shown["inference"]["minimum_volume_mm3"] == 12


def test_a_name_that_any_folder_holds_is_taken(
    application: Application, checkpoint: bytes
) -> None:
    assert _send(application, checkpoint).status_code == 201
    for name in ("theirs", "unetr-brain-metastases"):
        answer = _send(application, checkpoint, name=name)
        assert (answer.status_code, answer.json["code"]) == (409, "conflict")
        assert name in answer.json["detail"]
    with reading(application.engine) as session:
        assert len(audit.entries(session)) == 1
    kept = [path.name for path in (application.settings.data_dir / "models").iterdir()]
    assert kept == ["theirs"]


def test_what_is_no_checkpoint_is_refused_in_words(application: Application) -> None:
    answer = _send(application, b"no checkpoint at all")
    assert (answer.status_code, answer.json["code"]) == (422, "checkpoint-refused")
    assert "no file of torch" in answer.json["detail"]
    answer = application.browser("admin").post(
        "/api/v1/models", query_string={"name": "theirs"}, json={}
    )
    assert answer.status_code == 415
    for wrong in (
        {"name": "../theirs"},
        {"axis_order": "row,row"},
        {"version": "1;2"},
        {"profile": "other"},
        {"spacing": [1, 1]},
        {"window": ["low", "high"]},
        {"window": [1, 2, 3]},
        {"scaled_to": ["nan", 1]},
        {"heads": 0},
        {"overlap": 1},
        {"threshold": 0},
        {"minimum_volume_mm3": -1},
    ):
        assert _send(application, b"x", **wrong).status_code == 422


def test_a_changed_model_is_told_on_request_and_not_promoted(
    application: Application, checkpoint: bytes
) -> None:
    assert _send(application, checkpoint).status_code == 201
    weights = application.settings.data_dir / "models/theirs/weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    admin = application.browser("admin")
    for action in ("verify", "promote"):
        answer = admin.post(f"/api/v1/models/theirs/{action}")
        assert (answer.status_code, answer.json["code"]) == (500, "model-integrity")
