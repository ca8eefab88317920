"""Patches made beforehand: the same numbers, the bad ones more often."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from errors import MetiaError
from segmentation.cli.main import main
from segmentation.cli.training import synthetic
from tests.drawn_cases import write_case
from tests.tiny_heads import make_pack, tiny_configuration
from unetr.training.configuration import read_configuration
from unetr.training.fields import Draw
from unetr.training.parameters import PatchParameters
from unetr.training.run import train
from unetr.training.sources import HeadSource
from unetr.training.stored import HardFirst, StoredPatches, stack_numbered

CPU = torch.device("cpu")
AS_IT_IS = PatchParameters(gain=(1.0, 1.0), offset=(0.0, 0.0))


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("heads"))


def store(configuration: Path, out: Path, *options: str) -> Path:
    arguments = ["patches", str(configuration), "--out", str(out), *options]
    done = CliRunner().invoke(synthetic, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return out


def test_the_command_writes_patches_that_training_reads(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tiny_configuration(tmp_path, pack)
    files = [
        store(plain, tmp_path / f"{seed}.safetensors", "--heads", "2", "--seed", seed)
        for seed in ("1", "2")
    ]
    first, second = (safetensors.torch.load_file(file) for file in files)
    size = read_configuration(plain).network.img_size
    assert first["images"].shape == first["targets"].shape == (16, *size)
    assert not torch.equal(first["images"], second["images"])
    assert float(first["targets"].max()) > 200
    again = store(plain, tmp_path / "again.safetensors", "--heads", "2")
    assert again.read_bytes() == files[0].read_bytes()

    names = [str(file) for file in files]
    (tmp_path / "stored").mkdir()
    stored = tiny_configuration(
        tmp_path / "stored", pack, data={"heads": str(pack), "patches": names}
    )
    told: list[int] = []

    def remember(
        sampler: HardFirst, numbers: torch.Tensor, errors: torch.Tensor
    ) -> None:
        assert errors.shape == numbers.shape
        assert 0 <= float(errors.min()) <= float(errors.max()) <= 1
        told.extend(numbers.tolist())

    monkeypatch.setattr(HardFirst, "remember", remember)
    last = train(read_configuration(stored), progress=False)
    assert last.exists()
    assert len(told) == 8 * 2, "every patch of every step"
    assert set(told) <= set(range(32))


def test_patches_come_back_with_their_numbers(tmp_path: Path) -> None:
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None] * 51
    images = images.expand(5, 4, 4, 4).contiguous()
    for name, part in (("a", images[:2]), ("b", images[2:])):
        tensors = {"images": part.contiguous(), "targets": part.clone()}
        safetensors.torch.save_file(tensors, tmp_path / name)
    files = [tmp_path / "a", tmp_path / "b"]
    patches = StoredPatches(files, (4, 4, 4), Draw((1,), CPU), AS_IT_IS)
    assert len(patches) == 5
    batch, targets, numbers = stack_numbered([patches[at] for at in (4, 0, 2, 1, 3)])
    assert numbers.tolist() == [4, 0, 2, 1, 3]
    assert batch[:, 0, 0, 0, 0].tolist() == numbers.tolist()
    assert targets[:, 0, 0, 0, 0].tolist() == pytest.approx(numbers / 5)


def test_other_files_are_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_text("no patches")
    with pytest.raises(MetiaError, match=r"wrong\.safetensors holds no patches"):
        StoredPatches([wrong], (4, 4, 4), Draw((1,), CPU), AS_IT_IS)
    values = torch.zeros((2, 8, 8, 8), dtype=torch.uint8)
    safetensors.torch.save_file({"images": values, "targets": values.clone()}, wrong)
    with pytest.raises(MetiaError, match="other patches than of 4 x 4 x 4"):
        StoredPatches([wrong], (4, 4, 4), Draw((1,), CPU), AS_IT_IS)


@pytest.mark.parametrize(
    ("hard_share", "least", "most"), [(0.0, 0.8, 1.2), (1.0, 3, 9)]
)
def test_what_is_segmented_badly_comes_more_often(
    hard_share: float, least: float, most: float
) -> None:
    sampler = HardFirst(1000, hard_share, (1,))
    bad = torch.arange(0, 1000, 10)
    sampler.remember(torch.arange(1000), torch.full((1000,), 0.1))
    sampler.remember(bad, torch.full((100,), 1.0))
    met = np.bincount(list(itertools.islice(sampler, 5000)), minlength=1000)
    rest = np.setdiff1d(np.arange(1000), bad.numpy())
    assert least < met[bad.numpy()].mean() / met[rest].mean() < most
    assert (met[rest] > 0).mean() > 0.8, "nothing is forgotten"


def test_a_block_holds_no_patch_twice() -> None:
    block = list(itertools.islice(HardFirst(40, 0.5, (2,)), 10))
    assert len(set(block)) == 10


def test_patches_of_another_fold_or_split_are_refused(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for patient in range(4):
        write_case(tmp_path / "cases", f"p{patient}", patient)

    def configured(fold: int, file: str, **other: object) -> Path:
        data = {"cases": "cases", "folds": 3, "fold": fold, "patches": [file], **other}
        return tiny_configuration(tmp_path, pack, data=data)

    own = "own.safetensors"
    store(configured(0, own), tmp_path / own, "--heads", "1")
    plain = tiny_configuration(tmp_path, pack)
    store(plain, tmp_path / "synthetic.safetensors", "--heads", "1")

    def accepted(path: Path) -> bool:
        """Ask training and its check, which must agree; neither trains."""
        told = main(["train", str(path), "--check"])
        try:
            HeadSource(read_configuration(path), "validation", CPU)
        except MetiaError:
            assert told == 6
            return False
        assert told == 0
        return True

    assert accepted(configured(0, own))
    assert not accepted(configured(1, own))
    assert (
        "own.safetensors holds patches of cases of another" in capsys.readouterr().err
    )
    assert not accepted(configured(0, own, folds=2))
    assert accepted(configured(1, "synthetic.safetensors"))
    write_case(tmp_path / "cases", "p4", 4)
    (tmp_path / "cases" / "split.json").unlink()
    assert not accepted(configured(0, own))
