"""The commands around training, from packing heads to a report."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from errors import MetiaError
from segmentation.cli.evaluation import evaluate_case
from segmentation.cli.evaluation_cases import EvaluationCase
from segmentation.cli.main import main
from segmentation.models import registry
from segmentation.models.predictor import Prediction
from segmentation.models.registry import ModelFolder, load_predictor
from segmentation.models.threshold import ThresholdPredictor
from settings import get_settings
from tests.ball_head import make_ball_head
from tests.tiny_heads import make_data, make_pack, tiny_configuration
from unetr.training.cases import find_cases, lock_split
from unetr.training.evaluation import summarise
from unetr.training.heads import read_split

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "unetr" / "weights" / "phantom-threshold"


def write_ball_case(
    folder: Path, name: str, lesion_mm: float, *, marked: bool = True
) -> None:
    head = make_ball_head(balls=(((12.0, -8.0, 5.0), lesion_mm),))
    mask = ((head.array > 800) & marked).astype(np.uint8)
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
    said = capsys.readouterr().err
    assert "input-unreadable" in said
    assert all(f"{head.source} is missing." in said for head in read_split().heads[:2])


def test_check_names_faults_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = tmp_path / "cases"
    write_ball_case(cases, "a", 8.0)
    path = tiny_configuration(tmp_path, tmp_path / "pack", data={"cases": str(cases)})
    assert main(["train", str(path), "--check"]) == 6
    assert "no case for train. Patients for testing: 0, o" in capsys.readouterr().err
    write_ball_case(cases, "b", 6.0)
    assert main(["train", str(path), "--check"]) == 0
    assert "1 to train on, 1 to validate with" in capsys.readouterr().out
    assert not (cases / "split.json").exists()
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


def evaluated(cases: Path, out: Path, *options: str) -> dict[str, Any]:
    """Evaluate own cases with the demonstration model; it must succeed."""
    command = ["evaluate", "--model-folder", str(MODEL), "--cases", str(cases)]
    assert main([*command, "--out", str(out), *options]) == 0
    document: dict[str, Any] = json.loads((out / "evaluation.json").read_text("utf-8"))
    return document


def test_a_case_without_lesions_is_evaluated(tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    write_ball_case(cases, "a", 8.0, marked=False)
    alone = evaluated(cases, tmp_path / "alone")
    assert alone["lesions"] == 0
    assert alone["figures"]["sensitivity"]["value"] is None
    assert alone["froc"][0]["sensitivity"] is None
    write_ball_case(cases, "b", 5.0)
    document = evaluated(cases, tmp_path / "out")
    assert document["cases"] == 2
    assert document["lesions"] == 1
    assert document["facts"]["data"].endswith("all (there is no split.json)")
    assert document["figures"]["false positives a scan 10-20 mm"]["value"] == 0.5
    table = (tmp_path / "out" / "false_positives.csv").read_text("utf-8")
    (row,) = table.splitlines()[1:]
    name, diameter_mm, volume_ml = row.split(",")
    assert name == "a"
    assert float(diameter_mm) == pytest.approx(16, abs=1)
    assert float(volume_ml) == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=0.1)


@pytest.mark.parametrize("affine", [np.eye(4), np.diag([-1.0, -1.0, 1.5, 1.0])])
def test_faulty_cases_are_refused_by_name_before_anything_is_predicted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    affine: np.ndarray,
) -> None:
    cases = tmp_path / "cases"
    write_ball_case(cases, "a", 8.0)
    write_ball_case(cases, "b", 5.0)
    path = cases / "b" / "mask.nii.gz"
    moved = nib.Nifti1Image(np.asarray(nib.load(path).dataobj), affine)
    nib.save(moved, path)
    monkeypatch.delattr(ThresholdPredictor, "predict")
    command = ["evaluate", "--model-folder", str(MODEL), "--cases", str(cases)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 6
    assert "b: image and mask lie in different places" in capsys.readouterr().err


def test_a_case_that_fails_is_named_and_the_others_are_reported(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, lesion_mm in (("a", 8.0), ("b", 5.0), ("c", 6.0)):
        write_ball_case(tmp_path / "cases", name, lesion_mm)
    predict = ThresholdPredictor.predict
    calls = iter("abc")

    def failing(*arguments: Any, **others: Any) -> Prediction:
        if next(calls) == "b":
            raise MetiaError("volume-bad-pixels", "No head is found.")
        return predict(*arguments, **others)

    monkeypatch.setattr(ThresholdPredictor, "predict", failing)
    command = ["evaluate", "--model-folder", str(MODEL)]
    command += ["--cases", str(tmp_path / "cases"), "--out", str(tmp_path / "out")]
    assert main(command) == 3
    assert "Not evaluated: b: No head is found." in capsys.readouterr().err
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8"))
    assert document["cases"] == 2
    assert document["facts"]["not evaluated"] == "b: No head is found."
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "b: No head is found." in page


def test_an_answer_of_lesion_everywhere_counts_as_finding_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ball_case(tmp_path / "cases", "a", 8.0)
    predict = ThresholdPredictor.predict

    def everywhere(*arguments: Any, **others: Any) -> Prediction:
        answer = predict(*arguments, **others)
        ones = np.ones_like(answer.probability.array)
        return replace(answer, probability=answer.probability.with_array(ones))

    monkeypatch.setattr(ThresholdPredictor, "predict", everywhere)
    document = evaluated(tmp_path / "cases", tmp_path / "out")
    assert document["facts"]["refused answers"] == "1"
    assert document["figures"]["sensitivity"]["value"] == 0.0
    assert document["froc"][0]["sensitivity"] == 0.0
    rows = (tmp_path / "out" / "cases.csv").read_text("utf-8").splitlines()
    assert rows[1].startswith("a,1,0,0,1,")


def test_only_the_part_asked_for_is_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = tmp_path / "cases"
    for name, lesion_mm in (("a", 8.0), ("b", 5.0), ("c", 6.0)):
        write_ball_case(cases, name, lesion_mm)
    split = lock_split(cases, find_cases(cases)[0])
    (tested,) = (case.name for case in split.cases if case.part == "test")
    document = evaluated(cases, tmp_path / "test")
    assert document["facts"]["data"] == "1 cases with truth in cases, part test"
    rows = (tmp_path / "test" / "cases.csv").read_text("utf-8").splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [tested]
    assert evaluated(cases, tmp_path / "all", "--part", "all")["cases"] == 3
    write_ball_case(cases / "later", "a", 7.0)
    shutil.move(cases / "later" / "a" / "image.nii.gz", cases / "a" / "image.nii.gz")
    shutil.rmtree(cases / "later")
    command = ["evaluate", "--model-folder", str(MODEL), "--cases", str(cases)]
    assert main([*command, "--out", str(tmp_path / "changed")]) == 6
    assert "split.json no longer fits: a" in capsys.readouterr().err


def test_truth_and_what_was_found_are_measured_alike() -> None:
    """A probability that is the very truth must have no bias of the diameter."""
    radii_mm = (2.5, 4.0, 5.5, 7.0, 9.0)
    places = [(-22.0, -20.0), (22.0, -20.0), (-22.0, 20.0), (22.0, 20.0), (0.0, 0.0)]
    balls = tuple(
        ((x, y, 3.0), radius) for (x, y), radius in zip(places, radii_mm, strict=True)
    )
    shares = make_ball_head(
        spacing_mm=(1.0, 1.0, 1.0), balls=balls, brightness=(0.0, 1.0)
    )
    truth = shares.with_array((shares.array >= 0.5).astype(np.float32))
    predictor = load_predictor(ModelFolder.open(MODEL))
    predictor.predict = lambda *_, **__: SimpleNamespace(probability=shares)
    record, _ = evaluate_case(predictor, EvaluationCase("a", shares, truth), 0.5, 0.0)
    agreement = summarise([record]).agreement["diameter_mm"]
    assert agreement["count"] == len(balls)
    assert abs(agreement["bias"]) < 0.15
    # The service's own figure is that of the ball, not of its voxels.
    reported = sorted(one.reported_diameter_mm or 0 for one in record.lesions)
    assert reported == pytest.approx([2 * radius for radius in radii_mm], abs=0.3)


@pytest.mark.parametrize(
    ("option", "device"), [((), "cuda"), (("--device", "cpu"), "cpu")]
)
def test_the_device_is_that_of_the_settings_unless_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: tuple[str, ...],
    device: str,
) -> None:
    write_ball_case(tmp_path / "cases", "a", 8.0)
    settings = get_settings().model_copy(update={"device": "cuda"})
    monkeypatch.setattr("settings.get_settings", lambda: settings)
    asked = []
    load = registry.load_predictor

    def watched(*arguments: Any, **others: Any) -> Any:
        asked.append(others["device"])
        return load(*arguments, **others)

    monkeypatch.setattr(registry, "load_predictor", watched)
    evaluated(tmp_path / "cases", tmp_path / "out", *option)
    assert asked == [device]


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
