"""The commands around training, from packing heads to a report."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from segmentation.cli.evaluation import EvaluationCase, evaluate_case
from segmentation.cli.main import main
from segmentation.models.predictor import Prediction
from segmentation.models.registry import ModelFolder, load_predictor
from segmentation.models.threshold import ThresholdPredictor
from tests.ball_head import make_ball_head
from tests.tiny_heads import make_data, make_pack, tiny_configuration

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "unetr" / "weights" / "phantom-threshold"


def write_ball_case(folder: Path, name: str, lesion_mm: float) -> None:
    head = make_ball_head(balls=(((12.0, -8.0, 5.0), lesion_mm),))
    mask = (head.array > 800).astype(np.uint8)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ head.affine
    (folder / name).mkdir(parents=True)
    for kind, array in (("image", head.array), ("mask", mask)):
        nib.save(nib.Nifti1Image(array, affine), folder / name / f"{kind}.nii.gz")


def test_heads_are_packed_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = make_data(tmp_path / "data")
    (tmp_path / "split.json").write_text(split.model_dump_json(), "utf-8")
    pack = ["synthetic", "pack", "--data", str(tmp_path / "data")]
    pack += ["--out", str(tmp_path / "pack"), "--split", str(tmp_path / "split.json")]
    assert main(pack) == 0
    assert "Packed 4 heads" in capsys.readouterr().out
    assert main(pack) == 2
    sheet = ["synthetic", "sheet", "--data", str(tmp_path / "pack"), "--count", "1"]
    assert main([*sheet, "--out", str(tmp_path / "sheet.png")]) == 0
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (1120, 224)


def test_the_committed_split_does_not_fit_other_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.joinpath("data").mkdir()
    pack = ["synthetic", "pack", "--data", str(tmp_path / "data")]
    assert main([*pack, "--out", str(tmp_path / "pack")]) == 3
    assert "labels-01" not in capsys.readouterr().out


def test_check_names_faults_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = tmp_path / "cases"
    write_ball_case(cases, "a", 8.0)
    path = tiny_configuration(tmp_path, tmp_path / "pack", data={"cases": str(cases)})
    assert main(["train", str(path), "--check"]) == 0
    (cases / "a" / "mask.nii.gz").write_bytes(b"torn")
    assert main(["train", str(path), "--check"]) == 6
    assert "a: its mask cannot be read" in capsys.readouterr().out
    assert main(["train", str(path), "-q"]) == 6


def test_own_cases_are_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = tmp_path / "cases"
    write_ball_case(cases, "a", 8.0)
    write_ball_case(cases, "b", 5.0)
    command = ["evaluate", "--model-folder", str(MODEL), "--cases", str(cases)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8"))
    figures = document["figures"]
    assert figures["sensitivity"]["value"] == 1.0
    assert figures["false positives a scan"]["value"] == 0.0
    assert figures["lesion-wise Dice (BraTS-METS)"]["value"] > 0.8
    assert abs(document["agreement"]["diameter_mm"]["bias"]) < 1.5
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Evaluation of phantom-threshold" in page
    rows = (tmp_path / "out" / "lesions.csv").read_text("utf-8").splitlines()
    assert len(rows) == 3
    assert "sensitivity" in capsys.readouterr().out
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert main([*command, "--mirrored", "--out", str(tmp_path / "mirrored")]) == 0
    text = (tmp_path / "mirrored" / "evaluation.json").read_text("utf-8")
    found = json.loads(text)["figures"]
    dice = "lesion-wise Dice (BraTS-METS)"
    assert abs(found[dice]["value"] - figures[dice]["value"]) < 0.02


def test_what_touches_once_dilated_is_one_lesion_and_a_speck_is_none(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "cases"
    write_ball_case(folder, "a", 8.0)
    mask = nib.load(folder / "a" / "mask.nii.gz")
    values = np.asarray(mask.dataobj).copy()
    cut = int(np.argmax(values.any(axis=(1, 2)))) + 4
    values[cut] = 0  # the reader left out a slice
    values[0, 0, 0] = 1  # and clicked somewhere
    nib.save(nib.Nifti1Image(values, mask.affine), folder / "a" / "mask.nii.gz")
    command = ["evaluate", "--model-folder", str(MODEL), "--cases", str(folder)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    rows = (tmp_path / "out" / "lesions.csv").read_text("utf-8").splitlines()
    assert len(rows) == 2
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8"))
    assert document["figures"]["sensitivity"]["value"] == 1.0
    assert document["froc"][0]["sensitivity"] == 1.0


def test_a_tumour_of_the_real_head_is_passed_over() -> None:
    head = make_ball_head(balls=(((12.0, -8.0, 5.0), 8.0),))
    truth = head.with_array((head.array > 800).astype(np.float32))
    case = EvaluationCase("a", head, truth)
    predictor = load_predictor(ModelFolder.open(MODEL))
    asked, _ = evaluate_case(predictor, case, 0.5, 0.0)
    assert [lesion.found for lesion in asked.lesions] == [True]
    known = replace(case, passed_over=case.truth)
    record, _ = evaluate_case(predictor, known, 0.5, 0.0)
    assert not record.lesions
    assert not record.false_positive_diameters_mm
    assert set(record.froc) == {(0, 0)}


def test_what_is_nowhere_certain_can_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ball_case(tmp_path / "cases", "a", 8.0)
    predict = ThresholdPredictor.predict

    def unsure(*arguments: Any, **others: Any) -> Prediction:
        answer = predict(*arguments, **others)
        values = 0.8 * np.asarray(answer.probability.array)
        return replace(answer, probability=answer.probability.with_array(values))

    monkeypatch.setattr(ThresholdPredictor, "predict", unsure)
    command = ["evaluate", "--model-folder", str(MODEL)]
    command += ["--cases", str(tmp_path / "cases")]
    found = []
    for peak in ("0", "0.7", "0.9"):
        out = tmp_path / peak
        assert main([*command, "--peak", peak, "--out", str(out)]) == 0
        document = json.loads((out / "evaluation.json").read_text("utf-8"))
        assert document["facts"]["least peak"] == peak
        found.append(document["figures"]["sensitivity"]["value"])
    assert found == [1.0, 1.0, 0.0]


def test_synthetic_heads_of_the_test_part_are_evaluated(tmp_path: Path) -> None:
    pack = make_pack(tmp_path, parts=("test",))
    command = ["evaluate", "--model-folder", str(MODEL), "--heads", str(pack)]
    command += ["--count", "2", "--out"]
    assert main([*command, str(tmp_path / "one")]) == 0
    assert main([*command, str(tmp_path / "two")]) == 0
    one, two = (
        json.loads((tmp_path / name / "evaluation.json").read_text("utf-8"))
        for name in ("one", "two")
    )
    assert one == two
    assert one["cases"] == 2
    shutil.rmtree(tmp_path / "one")
    # Validation heads are not in this pack.
    assert main([*command, str(tmp_path / "one"), "--part", "validation"]) == 6
