"""``metia dataset``: what readers drew becomes cases that training takes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from errors import MetiaError
from segmentation.cli.case_files import KEY_NAME, judged_cases, write_case
from segmentation.cli.main import main
from tests.fake_archive import FakeArchive
from tests.outlined_lesions import ball, loaded, outlined
from tests.reader_edits import make_desk
from tests.security.application import Application, make_empty_database
from tests.seg_sources import grid
from unetr.training.cases import check_cases, find_cases, lock_split

GEOMETRY = grid((24, 40, 36))


def _read(folder: Path) -> tuple[list[str], list[np.ndarray], np.ndarray]:
    cases, faults = find_cases(folder)
    assert faults == []
    masks = [np.asarray(nib.load(case.mask).dataobj) for case in cases]
    affine = nib.load(cases[0].image).affine
    return [case.name for case in cases], masks, affine


def _save(dataset: Dataset, path: Path) -> None:
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def outlined_series(tmp_path: Path) -> Path:
    """A folder with one series, two outlines of it, and a file that is none."""
    folder = tmp_path / "dicom"
    folder.mkdir()
    source = loaded(GEOMETRY)
    for number, image in enumerate(source.source_images):
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 0
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.PixelData = bytes(range(240)) * (image.Rows * image.Columns // 120)
        _save(image, folder / f"{number}.dcm")
    for number, diameter_mm in enumerate((12, 8)):
        drawn = outlined(source, ball(GEOMETRY, diameter_mm))
        _save(drawn, folder / f"drawn{number}")
    (folder / "notes.txt").write_text("no DICOM")
    return folder


def test_outlines_on_dicom_images_become_cases(
    outlined_series: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "cases"
    assert main(["dataset", "from-dicom", str(outlined_series), f"--out={out}"]) == 0
    shown = capsys.readouterr()
    assert "2 cases added" in shown.out
    names, masks, affine = _read(out)
    # Two readers of one patient: one patient, two cases.
    assert len({name.split("__")[0] for name in names}) == 1
    # And training takes them.
    faults = check_cases(out)
    assert not [fault for fault in faults if fault.serious]
    assert any("the same as that of" in fault.text for fault in faults)
    assert sorted(int(mask.sum()) for mask in masks) == sorted(
        int(ball(GEOMETRY, diameter).sum()) for diameter in (12, 8)
    )
    # RAS on disk: the centre of the mask is the centre of the ball, mirrored twice.
    centre = affine @ [*np.argwhere(masks[0]).mean(axis=0), 1]
    middle = (np.array(GEOMETRY.spatial_shape) - 1) / 2
    expected = GEOMETRY.map_indices_to_reference(middle[np.newaxis])[0]
    np.testing.assert_allclose(centre[:3] * [-1, -1, 1], expected, atol=0.6)
    again = main(["dataset", "from-dicom", str(outlined_series), f"--out={out}"])
    assert again == 3
    assert "output-exists" in capsys.readouterr().err


def test_an_outline_without_its_images_is_told(
    outlined_series: Path, tmp_path: Path, capsys
) -> None:
    for path in outlined_series.glob("*.dcm"):
        path.unlink()
    out = tmp_path / "cases"
    assert main(["dataset", "from-dicom", str(outlined_series), f"--out={out}"]) == 3
    assert "series-not-found" in capsys.readouterr().err


def test_only_what_readers_judged_becomes_a_case(tmp_path: Path) -> None:
    empty = make_empty_database(tmp_path / "empty")
    (tmp_path / "app").mkdir()
    desk = make_desk(Application(tmp_path / "app", empty), FakeArchive())
    engine, archive = desk.application.engine, desk.archive
    states = ("accepted", "edited", "signed")
    assert list(judged_cases(engine, archive, states)) == []
    labels = desk.labels.copy()
    labels[2:5, 4:9, 5:11] = 3
    new = {"number": 3, "lesion_id": None, "name": "New"}
    assert desk.save(labels, [*desk.kept(), new]).status_code == 201
    (case,) = judged_cases(engine, archive, states)
    np.testing.assert_array_equal(case.inside, labels > 0)
    name = write_case(tmp_path / "cases", case)
    names, masks, _ = _read(tmp_path / "cases")
    assert names == [name]
    np.testing.assert_array_equal(masks[0] > 0, labels > 0)
    for secret in (case.patient, case.visit):
        assert secret not in name


def test_what_is_judged_anew_takes_the_place_of_what_was(tmp_path: Path) -> None:
    empty = make_empty_database(tmp_path / "empty")
    (tmp_path / "app").mkdir()
    desk = make_desk(Application(tmp_path / "app", empty), FakeArchive())
    out = tmp_path / "cases"

    def judge(labels: np.ndarray) -> None:
        answer = desk.save(labels, desk.kept())
        assert answer.status_code == 201, answer.json
        desk.result = answer.json

    def collect() -> str:
        (case,) = judged_cases(desk.application.engine, desk.archive, ("edited",))
        return write_case(out, case)

    labels = desk.labels.copy()
    labels[2:5, 4:9, 5:11] = 2
    judge(labels)
    name = collect()
    (out / "other").mkdir()
    for kind in ("image", "mask"):
        (out / "other" / f"{kind}.nii").write_text(f"another {kind}")
    split = lock_split(out, find_cases(out)[0])
    with pytest.raises(MetiaError) as caught:
        collect()
    assert caught.value.code == "output-exists"
    labels[2:5, 4:9, 5:13] = 2
    judge(labels)
    assert collect() == name
    cases, faults = find_cases(out)
    assert [case.name for case in cases] == sorted([name, "other"])
    assert faults == []
    mask = nib.load(out / name / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj) > 0, labels > 0)
    assert (out / "other" / "mask.nii").read_text() == "another mask"
    assert sorted(path.name for path in out.iterdir() if path.name[0] == ".") == [
        KEY_NAME
    ]
    # The split goes on to fit, and nobody changes sides.
    again = lock_split(out, cases)
    assert [(one.name, one.part) for one in again.cases] == [
        (one.name, one.part) for one in split.cases
    ]
    assert again != split
