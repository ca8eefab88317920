"""Foreign checkpoints: read without running them, audited, refused with a reason."""

from __future__ import annotations

import collections
import io
import math
import os
import pickle
import shutil
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from errors import MetiaError
from segmentation.models import importing
from segmentation.models.importing import ImportRequest, import_checkpoint
from segmentation.models.registry import ModelFolder
from tests.foreign_checkpoints import (
    original_checkpoint,
    original_tensors,
    plain_network,
)
from unetr.checkpoint import audit
from unetr.network import build_network
from unetr.sandbox import read_foreign

LEGACY = ImportRequest("theirs", "1.0.0", "metia-legacy")


def _refusal(path: Path) -> str:
    with pytest.raises(MetiaError) as caught:
        read_foreign(path)
    assert caught.value.code == "checkpoint-refused"
    return caught.value.detail


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(read_foreign(path).weights)


def test_the_originals_lightning_file_becomes_a_model(tmp_path: Path) -> None:
    network = plain_network()
    original_checkpoint(tmp_path / "their.cpkt", network)
    report = import_checkpoint(tmp_path / "their.cpkt", tmp_path / "models", LEGACY)
    assert (report.used, len(report.dropped), len(report.missing)) == (170, 4, 24)
    assert report.facts["epoch"] == 1599
    folder = ModelFolder.open(report.folder)
    folder.verify()
    assert folder.manifest.network is not None
    assert folder.manifest.network.num_heads == 12
    assert folder.manifest.preprocessing is not None
    assert folder.manifest.preprocessing.profile == "metia-legacy"
    again = build_network(folder.manifest.network)
    weights = safetensors.torch.load(folder.read("weights.safetensors"))
    again.load_state_dict(weights, strict=False)
    image = torch.rand(1, 1, 96, 96, 96)
    with torch.no_grad():
        assert torch.equal(again(image), network(image))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {
            "model_state_dict": {f"module.{n}": t for n, t in state.items()}
        },
        lambda state: {
            "state_dict": {f"net._orig_mod.{n}": t for n, t in state.items()}
        },
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_bare_and_wrapped_state_dicts_are_read(tmp_path: Path, wrap, zipped) -> None:
    network = plain_network()
    path = tmp_path / "weights.pth"
    torch.save(
        wrap(original_tensors(network)), path, _use_new_zipfile_serialization=zipped
    )
    found = audit(_tensors(path), {}, legacy=True)
    state = network.state_dict()
    assert len(found.tensors) == 170
    assert all(torch.equal(state[name], found.tensors[name]) for name in found.tensors)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_formats_and_layouts_keep_their_values(tmp_path, kind) -> None:
    network = plain_network()
    tensors = {
        name: tensor.to(kind) for name, tensor in original_tensors(network).items()
    }
    name = "vit.blocks.0.mlp.linear1.weight"
    tensors[name] = tensors[name].T.contiguous().T  # strides of a transposed matrix
    torch.save(tensors, tmp_path / "w.pt")
    read = _tensors(tmp_path / "w.pt")
    assert all(torch.equal(read[n], tensors[n].float()) for n in tensors)


def test_the_abdominal_file_is_recognised_and_may_start_a_training(tmp_path) -> None:
    torch.save(original_tensors(plain_network(out_channels=14)), tmp_path / "btcv.pth")
    with pytest.raises(MetiaError, match="abdominal organs") as caught:
        import_checkpoint(tmp_path / "btcv.pth", tmp_path / "models", LEGACY)
    assert caught.value.code == "checkpoint-refused"
    assert not (tmp_path / "models" / "theirs").exists()
    assert audit(_tensors(tmp_path / "btcv.pth"), {}, classes=(14,)).arguments


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"proj_type": "conv"}, "proj_type is conv"),
        ({"qkv_bias": True}, "qkv_bias is True"),
        ({"conv_block": False}, "conv_block is False"),
        ({"res_block": False}, "res_block is False"),
        ({"img_size": (64, 64, 64)}, "img_size is (64, 64, 64)"),
    ],
)
def test_a_wrong_flag_is_named(arguments, named) -> None:
    tensors = plain_network(**arguments).state_dict()
    tensors = {name: t for name, t in tensors.items() if "cross_attn" not in name}
    with pytest.raises(MetiaError) as caught:
        audit(tensors, {}, legacy=True)
    assert named in caught.value.detail
    # As a model of its own kind it is welcome.
    assert audit(tensors, {}).arguments


def test_missing_foreign_and_broken_tensors_are_named() -> None:
    whole = original_tensors(plain_network())
    for change, named in (
        ({"decoder2.conv_block.conv1.conv.weight": None}, "is missing"),
        ({"head.weight": torch.zeros(1)}, "head.weight is not part of the network"),
        ({"vit.norm.bias": torch.full((24,), torch.nan)}, "no usable numbers"),
        ({"vit.blocks.3.norm1.weight": torch.ones(7)}, "(7,), not (24,)"),
        ({"encoder1.layer.norm1.weight": torch.ones(4)}, "norm_name"),
    ):
        tensors = {n: t for n, t in {**whole, **change}.items() if t is not None}
        with pytest.raises(MetiaError) as caught:
            audit(tensors, {}, legacy=True)
        assert named in caught.value.detail


def test_what_a_training_leaves_beside_the_network_is_passed_over(tmp_path) -> None:
    """Counters of schedulers, bytes, numpy's numbers and infinity, in both formats."""
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3, 5])
    sections = {
        "lr_schedulers": [scheduler.state_dict()],
        "callbacks": {"queue": collections.deque([1, 2], 4), "d": _default_dict()},
        "hyper_parameters": {
            "num_heads": 12,
            "gradient_clip": math.inf,
            "momentum": math.nan,
            "learning_rate": np.float64(0.1),
            "key": b"some bytes",
            "nothing": b"",
            "buffer": bytearray(b"x"),
            "kinds": [int, str, bytes, range(3)],
            "steps": (1, 2.5),
            "bounds": [0, math.inf],
            "sizes": list(range(17)),
            "absent": None,
        },
    }
    network = plain_network()
    for zipped in (True, False):
        path = tmp_path / "their.ckpt"
        original_checkpoint(path, network, zipped=zipped, **sections)
        foreign = read_foreign(path)
        assert len(safetensors.torch.load(foreign.weights)) == 174
        kept = foreign.facts["hyper_parameters"]
        assert kept == {"num_heads": 12, "steps": [1, 2.5]}
        assert sorted(foreign.facts["unread"]) == sorted(
            sections["hyper_parameters"].keys() - {*kept, "absent"}
        )


def _default_dict() -> dict[str, int]:
    return collections.defaultdict(int, {"a": 1})


@pytest.mark.parametrize(
    "stated",
    [
        {"a_min": 300, "a_max": -200},
        {"a_min": 0},
        {"a_min": np.float64(0), "a_max": np.float64(255)},
        {"voxel_space": [1, 1]},
        {"voxel_space": [1, 0, 1]},
        {"voxel_space": 1},
    ],
)
def test_nonsense_in_the_place_of_preprocessing_is_refused(tmp_path, stated) -> None:
    path = tmp_path / "their.ckpt"
    original_checkpoint(path, plain_network(), datamodule_hyper_parameters=stated)
    with pytest.raises(MetiaError, match="What the file states as") as caught:
        import_checkpoint(path, tmp_path / "models", LEGACY)
    assert caught.value.code == "checkpoint-refused"
    said = replace(LEGACY, spacing=(1.5, 1.5, 2.0), window=(-200.0, 300.0))
    report = import_checkpoint(path, tmp_path / "models", said)
    assert report.stated == {}


class _Evil:
    def __init__(self, function, *arguments) -> None:
        self._call = (function, arguments)

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize(
    "evil",
    [
        lambda mark: _Evil(os.system, f"touch {mark}"),
        lambda mark: _Evil(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: _Evil(exec, f"open({str(mark)!r}, 'w')"),
        lambda mark: _Evil(getattr, "text", "upper"),
        lambda mark: _Evil(shutil.copy, __file__, mark),
        lambda mark: _Evil(pickle.loads, b"."),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_pickles_are_refused_and_run_nothing(tmp_path, evil, zipped) -> None:
    mark = tmp_path / "it-ran"
    path = tmp_path / "evil.ckpt"
    torch.save(
        {"state_dict": original_tensors(plain_network()), "x": evil(mark)},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    assert "names" in _refusal(path) or "attribute" in _refusal(path)
    assert not mark.exists()


def test_bombs_and_wrong_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.ckpt"
    path.write_bytes(b"")
    assert "empty" in _refusal(path)
    path.write_bytes(os.urandom(5000))
    _refusal(path)
    path.write_bytes(b"\x80\x02}q\x00.")  # a pickle, not torch's
    _refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        archive.writestr("a/data/0", bytes(50_000_000))
    assert "compressed" in _refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "x")
    assert "not one of torch's" in _refusal(path)
    assert "no UNETR" in _save_and_refuse(path, {"state_dict": {"w": torch.ones(3)}})
    nested = b"\x80\x02" + b"]" * 10_000_000 + b"a" * 9_999_999 + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", nested)
    _refusal(path)


def _save_and_refuse(path: Path, content: object) -> str:
    torch.save(content, path)
    return _refusal(path)


def test_a_tensor_cannot_grow_out_of_a_small_storage(tmp_path: Path) -> None:
    tensors = original_tensors(plain_network())
    tensors["vit.norm.weight"] = torch.ones(1).expand(2**40)
    assert "larger than its storage" in _save_and_refuse(tmp_path / "w.pt", tensors)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    torch.save(original_tensors(plain_network()), whole)
    (tmp_path / "cut.ckpt").write_bytes(whole.getvalue()[:-5000])
    assert "its archive is broken" in _refusal(tmp_path / "cut.ckpt")


def test_an_old_file_cut_between_its_storages_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.ckpt"
    tensors = {"a": torch.zeros(3), "out.conv.conv.weight": torch.zeros(2)}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for missing in (8, 12, 16, 8 + 8 + 4):  # in a storage, before and in a count
        path.write_bytes(whole[:-missing])
        assert "ends early" in _refusal(path), missing


@pytest.mark.parametrize("part", ["data.pkl", "byteorder", "data/0"])
def test_a_damaged_part_of_an_archive_is_refused(tmp_path: Path, part) -> None:
    path = tmp_path / "damaged.ckpt"
    torch.save({"out.conv.conv.weight": torch.zeros(2)}, path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        (info,) = [one for one in archive.infolist() if one.filename.endswith(part)]
    # A member's numbers follow its name and what torch fills up with.
    lengths = struct.unpack_from("<HH", content, info.header_offset + 26)
    content[info.header_offset + 30 + sum(lengths)] ^= 1
    path.write_bytes(content)
    assert "archive is missing or broken" in _refusal(path)


def test_the_reader_can_neither_connect_nor_start_programs(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = (
        "import socket, os, subprocess, sys\n"
        "from unetr.sandbox import confine\n"
        "confine(memory_bytes=2**32, cpu_s=20)\n"
        "def denied(act):\n"
        "    try:\n"
        "        act()\n"
        "    except PermissionError:\n"
        "        return True\n"
        "    return False\n"
        "print([denied(lambda: socket.socket()), denied(os.fork),\n"
        "       denied(lambda: os.execv('/bin/true', ['true'])),\n"
        "       denied(lambda: os.unlink('nothing'))])\n"
        "try:\n"
        "    bytearray(2**33)\n"
        "except MemoryError:\n"
        "    print('bounded')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.stdout.split("\n")[:2] == ["[True, True, True, True]", "bounded"]


def test_an_existing_model_is_not_overwritten(tmp_path: Path) -> None:
    original_checkpoint(tmp_path / "their.ckpt", plain_network())
    (tmp_path / "models" / "theirs").mkdir(parents=True)
    with pytest.raises(MetiaError) as caught:
        import_checkpoint(tmp_path / "their.ckpt", tmp_path / "models", LEGACY)
    assert caught.value.code == "output-exists"


def test_of_two_imports_of_one_name_the_slower_is_told(tmp_path, monkeypatch) -> None:
    original_checkpoint(tmp_path / "their.ckpt", plain_network())
    quicker = tmp_path / "models" / "theirs"

    def meanwhile(_: Path) -> str:
        quicker.mkdir(parents=True)
        (quicker / "manifest.json").write_text("{}")
        return "0" * 64

    monkeypatch.setattr(importing, "_file_sha256", meanwhile)
    with pytest.raises(MetiaError) as caught:
        import_checkpoint(tmp_path / "their.ckpt", tmp_path / "models", LEGACY)
    assert caught.value.code == "output-exists"
    assert [path.name for path in quicker.iterdir()] == ["manifest.json"]
    assert [path.name for path in quicker.parent.iterdir()] == ["theirs"]


def test_the_full_size_network_gives_the_same_bits(tmp_path: Path) -> None:
    """All 92.8 million numbers of the original's shapes, through file and import."""
    full = {
        "feature_size": 16,
        "hidden_size": 768,
        "mlp_dim": 3072,
        "num_heads": 12,
    }
    network = plain_network(**full)
    original_checkpoint(tmp_path / "their.cpkt", network)
    report = import_checkpoint(tmp_path / "their.cpkt", tmp_path / "models", LEGACY)
    assert (report.used, len(report.dropped), len(report.missing)) == (170, 4, 24)
    folder = ModelFolder.open(report.folder)
    state = network.state_dict()
    weights = safetensors.torch.load(folder.read("weights.safetensors"))
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())
    count = sum(int(np.prod(tensor.shape)) for tensor in weights.values())
    assert count == 92_783_842
    again = build_network(folder.manifest.network)
    again.load_state_dict(weights, strict=False)
    image = torch.rand(1, 1, 96, 96, 96)
    with torch.no_grad():
        assert torch.equal(again(image), network(image))
