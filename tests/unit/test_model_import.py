"""Foreign checkpoints: read without running them, audited, refused with a reason."""

from __future__ import annotations

import argparse
import collections
import decimal
import fractions
import io
import itertools
import json
import math
import os
import pickle
import re
import shutil
import struct
import uuid
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from monai.networks.nets.unetr import UNETR

from errors import MetiaError
from segmentation.models import importing
from segmentation.models.importing import ImportRequest, import_checkpoint
from segmentation.models.registry import ModelFolder
from tests.foreign_checkpoints import (
    SMALL,
    original_checkpoint,
    original_tensors,
    plain_network,
)
from unetr import sandbox
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


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"hidden_size": 32, "num_heads": 4}, "num_heads is 12, and hidden_size 32"),
        ({"feature_size": 128}, "feature_size is 128"),
        ({"img_size": (16, 16, 16)}, "img_size is (16, 16, 16)"),
        ({"img_size": (96, 96, 64)}, "img_size is no cube"),
        ({"in_channels": 2}, "in_channels is 2"),
        ({"out_channels": 65, "mlp_dim": 9000}, "out_channels is 65"),
        ({"out_channels": 65, "mlp_dim": 9000}, "mlp_dim is 9000"),
    ],
)
def test_an_argument_that_no_network_here_may_have_is_named(arguments, named) -> None:
    given = {**SMALL, "in_channels": 1, "out_channels": 2, **arguments}
    with torch.device("meta"):
        tensors = UNETR(proj_type="perceptron", **given).state_dict()
    with pytest.raises(MetiaError) as caught:
        audit(tensors, {}, legacy=True)
    assert caught.value.code == "checkpoint-refused"
    assert named in caught.value.detail


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
    """Counters of schedulers, bytes, numpy's and infinity, in both formats."""
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
        assert kept == {"num_heads": 12, "learning_rate": 0.1, "steps": [1, 2.5]}
        assert sorted(foreign.facts["unread"]) == sorted(
            sections["hyper_parameters"].keys() - {*kept, "absent"}
        )


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_and_values_of_any_kind_may_lie_beside_the_network(
    tmp_path, zipped
) -> None:
    network = plain_network()
    beside = [
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(3, dtype=torch.uint16),
        torch.zeros(5).to(torch.float8_e4m3fn),
        torch.zeros(1).expand(5),
        torch.zeros(0),
        argparse.Namespace(half=torch.zeros(7, dtype=torch.float16)),
        *(..., NotImplemented, object(), re.compile("a"), itertools.count(3)),
        *(decimal.Decimal("1.2"), fractions.Fraction(1, 2), uuid.UUID(int=5)),
    ]
    original_checkpoint(
        tmp_path / "their.ckpt",
        network,
        zipped=zipped,
        callbacks={"beside": beside},
        hyper_parameters={f"n{place}": value for place, value in enumerate(beside)},
    )
    tensors = _tensors(tmp_path / "their.ckpt")
    expected = network.state_dict()
    assert len(tensors) == 174
    assert all(torch.equal(tensors[n], expected[n]) for n in tensors.keys() & expected)


def test_tensors_may_share_one_storage(tmp_path: Path) -> None:
    """As an exponential moving average that is kept flat: 40 MB, not once a tensor."""
    network = plain_network(feature_size=8, hidden_size=240, mlp_dim=960)
    tensors = original_tensors(network)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors.values()])
    parts = flat.split([tensor.numel() for tensor in tensors.values()])
    shared = {
        name: part.view(tensor.shape)
        for part, (name, tensor) in zip(parts, tensors.items(), strict=True)
    }
    for zipped in (True, False):
        path = tmp_path / "flat.pt"
        torch.save(shared, path, _use_new_zipfile_serialization=zipped)
        assert path.stat().st_size > 30e6
        read = _tensors(path)
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_a_single_number_keeps_its_shape(tmp_path: Path) -> None:
    counter = "encoder1.layer.norm1.num_batches_tracked"
    tensors = {"out.conv.conv.weight": torch.ones(1), counter: torch.tensor(7)}
    torch.save(tensors, tmp_path / "last.ckpt")
    read = _tensors(tmp_path / "last.ckpt")
    assert read[counter].shape == ()
    assert read[counter] == 7


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (lambda one, _: {"model": {"state_dict": one}}, 1),
        (lambda one, _: {"ema_state_dict": one, "epoch": 3}, 1),
        (lambda one, _: {"generator": one, "copy": dict(one)}, 1),
        (lambda one, other: {"ema": other, "network": one}, 1),
        (lambda one, other: {"ema": other, "model": {"state_dict": one}}, 1),
        (lambda one, other: {"a": {"b": {"c": other}}, "net": one}, 1),
        (lambda one, other: {"student": one, "teacher": {"best": other}}, 2),
        (lambda one, _: {"a": {"b": {"c": one}}}, 0),
    ],
)
def test_the_network_is_found_below_other_names(tmp_path, content, count) -> None:
    one = {"out.conv.conv.weight": torch.ones(2)}
    other = {"out.conv.conv.weight": torch.zeros(2)}
    path = tmp_path / "w.pt"
    torch.save(content(one, other), path)
    if count == 1:
        assert torch.equal(_tensors(path)["out.conv.conv.weight"], torch.ones(2))
    elif count == 2:
        assert "several networks (student, teacher.best)" in _refusal(path)
    else:
        assert "holds no UNETR" in _refusal(path)


def _default_dict() -> dict[str, int]:
    return collections.defaultdict(int, {"a": 1})


@pytest.mark.parametrize(
    "stated",
    [
        {"a_min": 300, "a_max": -200},
        {"a_min": 0},
        {"a_min": np.zeros(1), "a_max": np.full(1, 255)},
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


@pytest.mark.parametrize(
    "heads", [6, 6.0, np.int64(6), np.float64(6), np.int32(6), np.uint8(6)]
)
def test_whole_heads_of_any_kind_are_read(tmp_path, heads) -> None:
    path = tmp_path / "their.ckpt"
    original_checkpoint(
        path, plain_network(num_heads=6), hyper_parameters={"num_heads": heads}
    )
    report = import_checkpoint(path, tmp_path / "models", LEGACY)
    network = ModelFolder.open(report.folder).manifest.network
    assert network is not None
    assert network.num_heads == 6


@pytest.mark.parametrize(
    "sections",
    [
        {"hyper_parameters": {"num_heads": "6"}},
        {"hyper_parameters": {"num_heads": 6.5}},
        {"hyper_parameters": {"num_heads": True}},
        {"hyper_parameters": {"num_heads": [6]}},
        {"hyper_parameters": {"num_heads": np.full(1, 6)}},
        {"hyper_parameters": {"model": {"num_heads": 6}}},
        {"hyper_parameters": {"args": argparse.Namespace(num_heads=6)}},
        {"hyper_parameters": argparse.Namespace(num_heads=6)},
        {"hyper_parameters": {}, "hparams": {"num_heads": 6}},
    ],
)
def test_heads_that_cannot_be_read_must_be_said(tmp_path, sections) -> None:
    path = tmp_path / "their.ckpt"
    original_checkpoint(path, plain_network(num_heads=6), **sections)
    with pytest.raises(MetiaError, match=r"not a whole number.*with --heads"):
        import_checkpoint(path, tmp_path / "models", LEGACY)
    report = import_checkpoint(path, tmp_path / "models", replace(LEGACY, heads=6))
    network = ModelFolder.open(report.folder).manifest.network
    assert network is not None
    assert network.num_heads == 6


@pytest.mark.parametrize("stated", [64, [64], [64, 96, 144], (96, 96, 96.5)])
@pytest.mark.parametrize("name", ["img_size", "img_shape"])
def test_a_window_that_is_no_cube_is_refused_where_the_file_says_so(
    tmp_path, name, stated
) -> None:
    """64 x 96 x 144 voxels have as many patches as 96 x 96 x 96."""
    path = tmp_path / "their.ckpt"
    original_checkpoint(path, plain_network(), hyper_parameters={name: stated})
    for request in (LEGACY, replace(LEGACY, heads=12)):
        with pytest.raises(MetiaError, match="img_size is") as caught:
            import_checkpoint(path, tmp_path / "models", request)
        assert caught.value.code == "checkpoint-refused"
    for place, value in enumerate((96, [96], (96, 96, 96), "a text", None)):
        original_checkpoint(path, plain_network(), hyper_parameters={name: value})
        request = replace(LEGACY, name=f"theirs-{place}")
        assert import_checkpoint(path, tmp_path / "models", request).used == 170


@pytest.mark.parametrize("profile", ["metia-legacy", "head-mr"])
def test_the_manifest_states_every_parameter(tmp_path, profile) -> None:
    """Else a default that changes would change a model under its old hash."""
    path = tmp_path / "their.ckpt"
    original_checkpoint(path, plain_network())
    request = replace(LEGACY, profile=profile)
    report = import_checkpoint(path, tmp_path / "models", request)
    stated = json.loads((report.folder / "manifest.json").read_text())
    full = ModelFolder.open(report.folder).manifest.model_dump(mode="json")
    assert stated == full
    if profile == "metia-legacy":
        assert stated["preprocessing"] == {
            "profile": "metia-legacy",
            "axis_order": ["-row", "column", "slice"],
            "spacing_voxels": [1.5, 1.5, 2.0],
            "window_intensity": [-200.0, 300.0],
            "scaled_to": [0.0, 1.0],
        }
    else:
        assert stated["preprocessing"]["intensity"]["rule"] == "percentiles"


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


class _Storage:
    """Pickled as torch refers to a storage."""


class _Tensor:
    """Pickled as torch does a tensor, then changed (BUILD) as a crafted file would."""

    def __init__(self, offset, shape, stride, change=None) -> None:
        self.described = (_Storage(), offset, shape, stride, False, None)
        self.change = change

    def __reduce__(self):
        return (torch._utils._rebuild_tensor_v2, self.described, self.change)


def _craft(path: Path, tensor: _Tensor, *, count: object = 4) -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            known = isinstance(value, _Storage)
            return ("storage", torch.FloatStorage, "0", "cpu", count) if known else None

    described = io.BytesIO()
    Pickler(described, 2).dump({"out.conv.conv.weight": tensor})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", described.getvalue())
        archive.writestr("a/data/0", np.arange(4, dtype="<f4").tobytes())


@pytest.mark.parametrize(
    "change",
    [
        {"stride": (2000,)},
        {"shape": (2000,)},
        {"offset": 2000},
        {"storage": None},
        (None, {"stride": (2000,)}),
    ],
)
def test_a_tensor_cannot_be_changed_once_described(tmp_path, change) -> None:
    path = tmp_path / "w.ckpt"
    _craft(path, _Tensor(0, (4,), (1,)))
    assert _tensors(path)["out.conv.conv.weight"].tolist() == [0, 1, 2, 3]
    _craft(path, _Tensor(0, (4,), (1,), change))
    assert "pickle is broken" in _refusal(path)


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (_Tensor(0, (4,), (2000,)), "beyond its storage"),
        (_Tensor(2000, (1,), (1,)), "beyond its storage"),
        (_Tensor(1, (4,), (1,)), "beyond its storage"),
        (_Tensor(4, (), ()), "beyond its storage"),
        (_Tensor(0, (2**40,), (0,)), "larger than its storage"),
        (_Tensor(0, (5,), (0,)), "larger than its storage"),
        (_Tensor(0, (2**62, 2**62), (0, 0)), "larger than its storage"),
        (_Tensor(0, (0, 2**62, 2**62), (1, 1, 1)), "is empty"),
        (_Tensor(-1, (1,), (1,)), "impossible shape"),
        (_Tensor(0, (-1,), (1,)), "impossible shape"),
        (_Tensor(3, (2,), (-1,)), "impossible shape"),
        (_Tensor(0, (2,), (1, 1)), "impossible shape"),
        (_Tensor(0, (2.0,), (1,)), "impossible shape"),
        (_Tensor("0", (1,), (1,)), "impossible shape"),
        (_Tensor(0, (True,), (True,)), "impossible shape"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, tensor, why) -> None:
    _craft(tmp_path / "w.ckpt", tensor)
    assert why in _refusal(tmp_path / "w.ckpt")


@pytest.mark.parametrize(
    ("count", "why"),
    [
        (5, "another size"),
        (2**50, "another size"),
        (-1, "not described as torch does"),
        (True, "not described as torch does"),
    ],
)
def test_a_storage_of_another_size_is_refused(tmp_path, count, why) -> None:
    _craft(tmp_path / "w.ckpt", _Tensor(0, (4,), (1,)), count=count)
    assert why in _refusal(tmp_path / "w.ckpt")


def test_an_axis_of_one_may_have_any_step(tmp_path: Path) -> None:
    _craft(tmp_path / "w.ckpt", _Tensor(2, (1, 2), (2**80, 1)))
    assert _tensors(tmp_path / "w.ckpt")["out.conv.conv.weight"].tolist() == [[2, 3]]


@pytest.mark.parametrize("kind", [torch.complex64, torch.uint16, torch.float8_e5m2])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_network_of_other_numbers_is_refused(tmp_path, kind, zipped) -> None:
    tensors = {"out.conv.conv.weight": torch.ones(4).to(kind)}
    path = tmp_path / "w.ckpt"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    assert "numbers of an unknown kind" in _refusal(path)


def test_a_pipe_and_a_reader_that_does_not_end_are_refused(
    tmp_path, monkeypatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in _refusal(tmp_path / "pipe")
    assert "no regular file" in _refusal(tmp_path)
    torch.save({}, tmp_path / "w.pt")
    monkeypatch.setattr(sandbox, "_LONGEST_S", 0.001)
    assert "longer than" in _refusal(tmp_path / "w.pt")


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
