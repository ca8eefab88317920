"""Installed models: found, chosen, verified, and loaded only as safetensors."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from errors import MetiaError
from segmentation.models.registry import ModelFolder, ModelRegistry, load_predictor

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "unetr" / "weights"
BUNDLED = "unetr-brain-metastases"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder of the demonstration models, which may be damaged."""
    trained = shutil.ignore_patterns(BUNDLED)
    return Path(shutil.copytree(WEIGHTS, tmp_path / "models", ignore=trained))


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _code(folder: ModelFolder) -> str:
    with pytest.raises(MetiaError) as caught:
        load_predictor(folder, device="cpu", threads=1)
    return caught.value.code


def test_the_demonstration_threshold_is_the_default_until_a_real_model_exists(
    installed: Path,
) -> None:
    registry = ModelRegistry([installed])
    assert [model.manifest.name for model in registry.models()] == [
        "phantom-threshold",
        "unetr-seeded",
    ]
    assert registry.faults() == []
    assert registry.default().manifest.name == "phantom-threshold"
    assert registry.default("unetr-seeded").manifest.name == "unetr-seeded"
    shutil.copytree(installed / "unetr-seeded", installed / "zz-real")
    _edit(installed / "zz-real", name="zz-real", demonstration=False)
    assert registry.default().manifest.name == "zz-real"


def test_the_trained_model_is_the_default_and_whole() -> None:
    folder = ModelRegistry([WEIGHTS]).default()
    assert folder.manifest.name == BUNDLED
    assert not folder.manifest.demonstration
    for name in folder.manifest.files:
        assert folder.read(name)
    weights = folder.path / "weights.safetensors"
    assert weights.stat().st_size <= 30e6
    figures = {metric.name for metric in folder.manifest.metrics}
    assert {"sensitivity 5-10 mm", "false positives a scan"} <= figures


def test_unknown_names_and_no_models_at_all(tmp_path: Path) -> None:
    for registry in (ModelRegistry([WEIGHTS]), ModelRegistry([tmp_path / "none"])):
        for name in ("nothing", "../unetr-seeded", ""):
            with pytest.raises(MetiaError) as caught:
                registry.get(name)
            assert caught.value.code == "model-unknown"
    with pytest.raises(MetiaError) as caught:
        ModelRegistry([tmp_path]).default()
    assert caught.value.code == "model-unknown"


def test_a_damaged_folder_is_reported_and_hides_no_other(installed: Path) -> None:
    (installed / "broken").mkdir()
    (installed / "broken" / "manifest.json").write_text("{}")
    (installed / "empty").mkdir()
    shutil.copytree(installed / "unetr-seeded", installed / "misnamed")
    os.symlink(installed / "unetr-seeded", installed / "linked")
    (installed.parent / "file").write_text("no folder")
    registry = ModelRegistry([installed.parent / "file", installed])
    assert len(registry.models()) == 2
    assert {fault.folder_name for fault in registry.faults()} == {
        "broken",
        "empty",
        "file",
        "linked",
        "misnamed",
    }
    with pytest.raises(MetiaError) as caught:
        registry.get("broken")
    assert caught.value.code == "model-invalid"


def test_of_two_models_of_one_name_the_first_folder_counts(
    installed: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    shutil.copytree(installed / "unetr-seeded", second / "unetr-seeded")
    _edit(second / "unetr-seeded", version="2.0.0")
    registry = ModelRegistry([installed, second])
    assert registry.get("unetr-seeded").identity.version == "1.0.0"
    assert [fault.folder_name for fault in registry.faults()] == ["unetr-seeded"]


def test_weights_changed_on_disk_are_refused(installed: Path) -> None:
    folder = ModelRegistry([installed]).get("unetr-seeded")
    path = installed / "unetr-seeded" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert _code(folder) == "model-integrity"
    path.unlink()
    assert _code(folder) == "model-integrity"


def test_a_manifest_changed_after_it_was_read_is_refused(installed: Path) -> None:
    folder = ModelRegistry([installed]).get("phantom-threshold")
    _edit(installed / "phantom-threshold", description="Finds everything.")
    assert _code(folder) == "model-integrity"
    (installed / "phantom-threshold" / "manifest.json").write_text("not json")
    assert _code(folder) == "model-integrity"


def test_links_and_devices_are_not_followed(installed: Path, tmp_path: Path) -> None:
    path = installed / "unetr-seeded" / "weights.safetensors"
    outside = tmp_path / "outside.safetensors"
    path.rename(outside)
    path.symlink_to(outside)
    folder = ModelRegistry([installed]).get("unetr-seeded")
    assert _code(folder) == "model-integrity"
    path.unlink()
    os.mkfifo(path)
    assert _code(folder) == "model-invalid"


def test_only_listed_files_are_read(installed: Path) -> None:
    folder = ModelRegistry([installed]).get("unetr-seeded")
    for name in ("manifest.json", "../phantom-threshold/manifest.json", "other.md"):
        with pytest.raises(MetiaError) as caught:
            folder.read(name)
        assert caught.value.code == "model-integrity"


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def _install_weights(folder: Path, content: bytes) -> None:
    (folder / "weights.safetensors").write_bytes(content)
    _edit(folder, files={"weights.safetensors": hashlib.sha256(content).hexdigest()})


def test_a_pickle_is_refused_and_does_not_run(installed: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    _install_weights(installed / "unetr-seeded", pickle.dumps(_Trap(trap)))
    assert _code(ModelRegistry([installed]).get("unetr-seeded")) == "model-invalid"
    assert not trap.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 64, b"\xff" * 64, (10**9).to_bytes(8, "little") + b"{}"],
    ids=["empty", "zeros", "ones", "lying length"],
)
def test_garbage_for_weights_is_refused(installed: Path, content: bytes) -> None:
    _install_weights(installed / "unetr-seeded", content)
    assert _code(ModelRegistry([installed]).get("unetr-seeded")) == "model-invalid"


def test_listing_and_the_threshold_model_load_no_torch() -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from segmentation.models.registry import ModelRegistry, load_predictor\n"
        "registry = ModelRegistry([Path('unetr/weights')])\n"
        "assert len(registry.models()) >= 2\n"
        "load_predictor(registry.get('phantom-threshold'), device='cpu', threads=1)\n"
        "found = {'torch', 'monai', 'safetensors'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=120)
