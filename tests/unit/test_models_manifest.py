"""The manifest: what is read, what is refused, and what identifies a model."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from errors import MetiaError
from segmentation.models.manifest import (
    canonical_sha256,
    manifest_schema,
    read_manifest,
)

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "unetr" / "weights").glob("*/manifest.json"))
UNETR = json.loads((ROOT / "unetr/weights/unetr-seeded/manifest.json").read_text())


def _bytes(data: object) -> bytes:
    return json.dumps(data).encode()


def _changed(path: str, value: object) -> bytes:
    data = copy.deepcopy(UNETR)
    target = data
    *parents, last = path.split(".")
    for key in parents:
        target = target[int(key)] if isinstance(target, list) else target[key]
    target[last] = value
    return _bytes(data)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_every_shipped_manifest_is_valid_and_fits_the_schema(path: Path) -> None:
    raw = path.read_bytes()
    manifest = read_manifest(raw)
    assert manifest.name == path.parent.name
    schema = manifest_schema()
    jsonschema.Draft202012Validator(schema).validate(json.loads(raw))


def test_the_committed_schema_is_the_one_of_the_code() -> None:
    schema = manifest_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    committed = json.loads((ROOT / "docs" / "model-manifest.schema.json").read_text())
    assert committed == schema


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("surprise", 1),
        ("network.surprise", 1),
        ("name", "../evil"),
        ("name", "Has Spaces"),
        ("version", "newest"),
        ("kind", "pickle"),
        ("format", 2),
        ("demonstration", "true"),
        ("files", {"weights.pt": "0" * 64}),
        ("files", {"weights.safetensors": "0" * 63}),
        ("files", {"../weights.safetensors": "0" * 64}),
        ("files", {"sub/weights.safetensors": "0" * 64}),
        ("files", {".weights.safetensors": "0" * 64}),
        ("files", {"weights.safetensors\n": "0" * 64}),
        ("files", {"manifest.json": "0" * 64, "weights.safetensors": "0" * 64}),
        ("files", {}),
        ("network", None),
        ("preprocessing", None),
        ("network.img_size", [48, 48, 50]),
        ("network.img_size", [64, 48, 48]),
        ("network.num_heads", 5),
        ("network.out_channels", 14),
        ("network.feature_size", 4.0),
        ("preprocessing.profile", "metia-unknown"),
        ("preprocessing.spacing_mm", [1.0, 1.0]),
        ("preprocessing.spacing_mm", [0, 1.0, 1.0]),
        ("inference.threshold", 1.5),
        ("inference.overlap", 1.0),
        ("inference.minimum_volume_mm3", -1),
        ("task.labels", []),
        ("task.measurements", ["weight"]),
    ],
)
def test_what_does_not_fit_is_refused_by_name(path: str, value: object) -> None:
    with pytest.raises(MetiaError) as caught:
        read_manifest(_changed(path, value))
    assert caught.value.code == "model-invalid"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b'{"name": "a", "name": "b"}',
        b'{"format": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=range(8),
)
def test_bytes_that_are_no_json_object_are_refused(raw: bytes) -> None:
    with pytest.raises(MetiaError) as caught:
        read_manifest(raw)
    assert caught.value.code == "model-invalid"


def test_the_identity_ignores_layout_and_sees_every_value() -> None:
    plain = _bytes(UNETR)
    turned = json.dumps(dict(reversed(UNETR.items())), indent=7).encode()
    assert canonical_sha256(plain) == canonical_sha256(turned)
    for path, value in [
        ("files", {"weights.safetensors": "0" * 64}),
        ("inference.threshold", 0.4),
        ("demonstration", False),
    ]:
        assert canonical_sha256(_changed(path, value)) != canonical_sha256(plain)


def test_a_threshold_model_cannot_pose_as_a_clinical_one() -> None:
    path = ROOT / "unetr/weights/phantom-threshold/manifest.json"
    data = json.loads(path.read_text())
    data["demonstration"] = False
    with pytest.raises(MetiaError):
        read_manifest(_bytes(data))
