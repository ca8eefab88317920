"""Own cases: found, checked, split by patient, prepared, and sampled by lesion."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from errors import MetiaError
from orthanc import geometry
from tests.drawn_cases import write_case
from tests.tiny_heads import tiny_configuration, tiny_labels
from unetr.head import Head
from unetr.training import cases as cases_module
from unetr.training.cases import (
    SPLIT_NAME,
    CaseFiles,
    cases_for,
    check_cases,
    find_cases,
    load_case,
    lock_again,
    lock_split,
    origin_of,
    plan_split,
)
from unetr.training.configuration import read_configuration
from unetr.training.fields import Draw
from unetr.training.parameters import PatchParameters
from unetr.training.patches import cut_patches
from unetr.training.sources import PROFILE, VALIDATION_STREAM, HeadSource

SOFT = np.zeros((64, 64, 64), np.float32)
SOFT[30:34, 30:34, 30:34] = 0.3


def test_good_cases_have_no_faults(tmp_path: Path) -> None:
    write_case(tmp_path, "a__1", 1)
    write_case(tmp_path, "a__2", 2)
    assert check_cases(tmp_path) == []


def test_two_outlines_of_one_image_are_told_but_no_fault(tmp_path: Path) -> None:
    write_case(tmp_path, "a__1", 1)
    write_case(tmp_path, "a__2", 1)
    (fault,) = check_cases(tmp_path)
    assert (fault.case, fault.serious) == ("a__2", False)
    assert "the same as that of a__1" in fault.text


def test_every_fault_of_every_case_is_named(tmp_path: Path) -> None:
    moved = np.diag([1.0, 1.0, 1.0, 1.0])
    moved[0, 3] = 5
    write_case(tmp_path, "moved", 1, mask_affine=moved)
    write_case(tmp_path, "no-mask", 2, mask=None)
    write_case(tmp_path, "shape", 3, mask=np.zeros((5, 5, 5), np.uint8))
    write_case(tmp_path, "nan", 4, image=np.full((64, 64, 64), np.nan, np.float32))
    write_case(tmp_path, "soft", 5, mask=SOFT)
    write_case(tmp_path, "empty", 6, mask=np.zeros((64, 64, 64), np.uint8))
    write_case(tmp_path, "blank", 7, image=np.zeros((64, 64, 64), np.float32))
    huge = np.diag([40.0, 1.0, 1.0, 1.0])
    write_case(tmp_path, "huge", 8, affine=huge, mask_affine=huge)
    write_case(tmp_path, "twin-1", 9)
    write_case(tmp_path, "twin-2", 9)
    sheared = np.eye(4)
    sheared[0, 1] = 0.01
    write_case(tmp_path, "sheared", 10, affine=sheared, mask_affine=sheared)
    write_case(tmp_path, "sides", 11, code=0)
    labels = tiny_labels()
    brain = (labels > 0) & (labels < 500)
    scanned = np.random.default_rng(1).normal(300, 40, labels.shape)
    standardised = np.where(brain, (scanned - 300) / 40, 0).astype(np.float32)
    write_case(tmp_path, "standardised", 14, image=standardised)
    thin = np.where(labels > 0, 300.0, 2.0).astype(np.float32)[:, :, 30:32]
    write_case(tmp_path, "thin", 15, image=thin, mask=np.zeros(thin.shape, np.uint8))
    colours = np.zeros((64, 64, 64), [(name, "u1") for name in "RGB"])
    write_case(tmp_path, "colours", 12, image=colours)
    for name in ("torn", "bits", "datatype", "size"):
        write_case(tmp_path, name, 13)
    image = tmp_path / "bits" / "image.nii.gz"
    whole = image.read_bytes()
    for kind in ("image", "mask"):
        (tmp_path / "torn" / f"{kind}.nii.gz").write_bytes(b"torn")
    # A deflate stream whose first block is of a kind that there is not.
    image.write_bytes(whole[:20] + b"\xff" * 200 + whole[220:])
    header = bytearray(gzip.decompress(whole))
    header[70:72] = (999).to_bytes(2, "little")
    (tmp_path / "datatype" / "image.nii.gz").write_bytes(gzip.compress(header))
    header[70:72] = (64).to_bytes(2, "little")
    header[42:48] = np.full(3, 32000, "<i2").tobytes()
    (tmp_path / "size" / "image.nii.gz").write_bytes(gzip.compress(header))
    faults = check_cases(tmp_path)
    texts = {(fault.case, fault.serious): fault.text for fault in faults}
    for case, word in (
        ("moved", "different places"),
        ("no-mask", "0 files mask"),
        ("shape", "differ in shape"),
        ("nan", "no numbers"),
        ("soft", "whole numbers"),
        ("blank", "no head"),
        ("huge", "cannot be those of a head"),
        ("twin-2", "the same as that of twin-1"),
        ("torn", "cannot be read"),
        ("bits", "image cannot be read"),
        ("datatype", "image cannot be read"),
        ("size", "image cannot be read"),
        ("colours", "image cannot be read"),
        ("sheared", "not perpendicular"),
        ("standardised", "below 0: it seems standardised"),
        ("thin", "has 2 slices"),
    ):
        assert word in texts[case, True], case
    assert "mask is empty" in texts["empty", False]
    assert "left and right" in texts["sides", False]


def test_one_image_in_two_patients_is_found_however_it_is_packed(
    tmp_path: Path,
) -> None:
    for name in ("a", "b", "c"):
        write_case(tmp_path, name, 1)
    packed = tmp_path / "b" / "image.nii.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    again: Any = nib.load(tmp_path / "c" / "image.nii.gz")
    whole = np.asarray(again.dataobj).astype(np.int16)
    write_case(tmp_path, "d", image=whole, affine=again.affine + 1e-5)
    told = [(fault.case, fault.serious) for fault in check_cases(tmp_path)]
    assert told == [("b", True), ("c", True), ("d", True)]


def test_what_nobody_thought_of_is_told_of_its_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_head(*_: object) -> Head:
        raise ValueError("zero-size array")

    for name in ("a", "b"):
        write_case(tmp_path, name, ord(name))
    monkeypatch.setattr(cases_module, "find_head", find_head)
    assert [(fault.case, fault.serious) for fault in check_cases(tmp_path)] == [
        ("a", True),
        ("b", True),
    ]


def test_the_service_takes_what_can_be_trained_on() -> None:
    assert cases_module.MINIMUM_SLICES == geometry.MINIMUM_SLICES


def test_patients_stay_together_and_test_patients_stay_out(tmp_path: Path) -> None:
    for patient in range(12):
        for visit in (1, 2):
            folder = tmp_path / f"p{patient}__{visit}"
            folder.mkdir()
            for kind in ("image", "mask"):
                (folder / f"{kind}.nii").write_bytes(f"{patient} {visit}".encode())
    cases, _ = find_cases(tmp_path)
    split = lock_split(tmp_path, cases)
    parts: dict[str, set[str]] = {}
    for case in split.cases:
        parts.setdefault(case.name.split("__")[0], set()).add(case.part)
    assert all(len(found) == 1 for found in parts.values())
    assert lock_split(tmp_path, cases) == split
    tested = {case.name for case in split.cases if case.part == "test"}
    assert len(tested) == 4
    validated: list[str] = []
    for fold in range(5):
        folded = {
            part: {c.name for c in cases_for(cases, split, part, folds=5, fold=fold)}
            for part in ("train", "validation")
        }
        assert not folded["train"] & folded["validation"]
        assert not (folded["train"] | folded["validation"]) & tested
        validated += folded["validation"]
    assert sorted(validated) == sorted({case.name for case in cases} - tested)
    with pytest.raises(MetiaError, match="evaluate"):
        cases_for(cases, split, "test", folds=1, fold=0)
    (tmp_path / "p0__1" / "image.nii").write_bytes(b"changed")
    with pytest.raises(MetiaError, match="no longer fits: p0__1"):
        lock_split(tmp_path, cases)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"p0__2": "test", "p0__1": "train"}, "one patient into two parts: p0"),
        (None, "names cases twice: p0__1"),
    ],
)
def test_a_split_that_contradicts_itself_is_refused(
    tmp_path: Path, change: dict[str, str] | None, words: str
) -> None:
    cases = bare_cases(tmp_path, 3)
    lock_split(tmp_path, cases)
    path = tmp_path / SPLIT_NAME
    document = json.loads(path.read_text("utf-8"))
    for case in document["cases"]:
        case["part"] = (change or {}).get(case["name"], case["part"])
    if change is None:
        document["cases"].append(document["cases"][0] | {"part": "test"})
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(MetiaError, match=words) as caught:
        plan_split(tmp_path, cases)
    assert caught.value.code == "configuration-invalid"


def bare_cases(folder: Path, patients: int) -> list[CaseFiles]:
    """Make cases of two visits each that hold no images."""
    for patient, visit in itertools.product(range(patients), (1, 2)):
        case = folder / f"p{patient}__{visit}"
        case.mkdir(parents=True)
        for kind in ("image", "mask"):
            (case / f"{kind}.nii").write_text(f"{kind} {patient} {visit}")
    return find_cases(folder)[0]


def test_a_repainted_mask_no_longer_fits_the_split(tmp_path: Path) -> None:
    cases = bare_cases(tmp_path, 3)
    split = lock_split(tmp_path, cases)
    tested = next(case.name for case in split.cases if case.part == "test")
    (tmp_path / tested / "mask.nii").write_text("repainted")
    with pytest.raises(MetiaError, match=f"no longer fits: {tested} changed"):
        lock_split(tmp_path, cases)
    # What replaced it with leave is locked in its turn, and stays what it was for.
    lock_again(tmp_path, tested)
    again = lock_split(tmp_path, cases)
    assert [(one.name, one.part) for one in again.cases] == [
        (one.name, one.part) for one in split.cases
    ]
    # A file from before masks were locked.
    path = tmp_path / SPLIT_NAME
    old = json.loads(path.read_text("utf-8"))
    for case in old["cases"]:
        del case["mask_sha256"]
    path.write_text(json.dumps(old), "utf-8")
    (tmp_path / tested / "mask.nii").write_text("repainted again")
    assert len(lock_split(tmp_path, cases).cases) == 6


@pytest.mark.parametrize(
    ("patients", "folds", "fold", "missing"),
    [
        (1, 1, 0, "train"),
        (1, 2, 0, "train"),
        (1, 2, 1, "validation"),
        (5, 5, 4, "validation"),
        (2, 1, 0, None),
        (5, 4, 3, None),
    ],
)
def test_too_few_patients_are_told(
    tmp_path: Path, patients: int, folds: int, fold: int, missing: str | None
) -> None:
    cases = bare_cases(tmp_path, patients)
    split = plan_split(tmp_path, cases)
    assert not (tmp_path / SPLIT_NAME).exists()
    for part in ("train", "validation"):
        if missing is None:
            assert cases_for(cases, split, part, folds=folds, fold=fold)
            continue
        with pytest.raises(MetiaError, match=rf"no case for {missing}\.") as caught:
            cases_for(cases, split, part, folds=folds, fold=fold)
        assert caught.value.code == "configuration-invalid"
        assert f"folds: {folds}, fold: {fold}" in caught.value.detail


def test_an_origin_tells_splits_and_folds_apart(tmp_path: Path) -> None:
    split = plan_split(tmp_path, bare_cases(tmp_path, 4))
    moved = split.cases[0].model_copy(update={"mask_sha256": "0" * 64})
    other = split.model_copy(update={"cases": (moved, *split.cases[1:])})
    told = [
        origin_of(one, folds=folds, fold=fold)
        for one, folds, fold in (
            (split, 3, 0),
            (split, 3, 1),
            (split, 4, 0),
            (other, 3, 0),
        )
    ]
    assert len(set(told)) == len(told)
    assert origin_of(plan_split(tmp_path, find_cases(tmp_path)[0]), folds=3, fold=0)


def test_a_case_is_prepared_with_its_mask(tmp_path: Path) -> None:
    affine = np.array([[0, -2.0, 0, 7], [1.0, 0, 0, 9], [0, 0, 1.0, 3], [0, 0, 0, 1]])
    labels = tiny_labels()
    image = np.where(labels > 0, 300.0, 2.0).astype(np.float32)[:, ::2]
    mask = np.zeros(image.shape, np.uint8)
    mask[28:36, 14:18, 40:48] = 1
    image[mask > 0] = 900
    write_case(tmp_path, "a", image=image, mask=mask, affine=affine, mask_affine=affine)
    cases, _ = find_cases(tmp_path)
    head = load_case(cases[0], PROFILE, (64, 64, 64))
    assert head.image.shape == head.target.shape
    assert min(head.image.shape) >= 64
    assert float(head.target.sum()) == pytest.approx(512, rel=0.02)
    assert float(head.image[head.target > 0.9].min()) > 2
    assert float(head.image[head.target < 0.01].max()) < 2.2


def test_lesions_of_a_case_are_met_equally_often_and_its_scalp_never(
    tmp_path: Path,
) -> None:
    labels = tiny_labels()
    image = np.where(labels > 0, 300.0, 2.0).astype(np.float32)
    image[labels == 516] = 900  # fat
    mask = np.zeros(image.shape, np.uint8)
    mask[28:40, 20:32, 34:46] = 1
    mask[31, 45, 41] = 1  # a single voxel
    image[mask > 0] = 700
    write_case(tmp_path, "a", image=image, mask=mask)
    head = load_case(find_cases(tmp_path)[0][0], PROFILE, (64, 64, 64))
    large, small = sorted(head.lesions, key=lambda one: -one.diameter_mm)
    assert large.diameter_mm == pytest.approx((6 / np.pi * 12**3) ** (1 / 3))
    assert small.diameter_mm == pytest.approx((6 / np.pi) ** (1 / 3))
    assert head.target[tuple(round(at) for at in small.centre)] == 1

    def patches(share: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
        settings = PatchParameters(
            per_head=100, lesion_share=share, bright_share=1 - share, jitter=0.0
        )
        draw = Draw((1,), torch.device("cpu"))
        return cut_patches(draw, head, (8, 8, 8), settings)

    met = Counter(float(target.sum()) for _, target in patches(1.0))
    assert 30 < met[1.0] < 70
    assert met[512.0] == 100 - met[1.0]
    assert max(float(part[4, 4, 4]) for part, _ in patches(0.0)) < 2.5
    assert not bool(head.inside[head.image > 2.8].any())


def test_a_case_without_a_lesion_has_none(tmp_path: Path) -> None:
    write_case(tmp_path, "a", mask=np.zeros((64, 64, 64), np.uint8))
    head = load_case(find_cases(tmp_path)[0][0], PROFILE, (64, 64, 64))
    assert head.lesions == ()
    draw = Draw((1,), torch.device("cpu"))
    assert cut_patches(draw, head, (8, 8, 8), PatchParameters())


def test_a_slab_has_an_inside_too(tmp_path: Path) -> None:
    labels = tiny_labels()[:, :, 24:40]
    image = np.where(labels > 0, 300.0, 2.0).astype(np.float32)
    write_case(tmp_path, "a", image=image, mask=np.zeros(image.shape, np.uint8))
    head = load_case(find_cases(tmp_path)[0][0], PROFILE, (32, 32, 32))
    assert head.inside.any()
    assert float(head.image[head.inside].median()) == pytest.approx(1, abs=0.1)


def test_every_case_to_validate_with_is_met_equally_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_cases(tmp_path / "cases", 12)
    path = tiny_configuration(tmp_path, tmp_path, data={"cases": "cases", "folds": 3})
    monkeypatch.setattr(HeadSource, "_case", lambda _, case: case)
    cpu = torch.device("cpu")
    source = HeadSource(read_configuration(path), "validation", cpu)
    met: Counter[str] = Counter()
    for number in range(24):
        index = VALIDATION_STREAM + number
        case: Any = source.make(Draw((1, index), cpu), index)
        met[case.name] += 1
    assert len(met) == 8
    assert set(met.values()) == {3}
