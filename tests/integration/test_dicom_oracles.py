"""SR and RTSTRUCT judged by others: dciodvfy, dsrdump, and the readers of dcmqi."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from orthanc.dicomweb import encode_part10
from orthanc.volume import LoadedSeries, SliceReference, load_series
from segmentation.dicom.imports import read_import, referenced_series
from segmentation.dicom.seg import build_segmentation, identify
from segmentation.dicom.sr import (
    ReportAlgorithm,
    ReportedAssessment,
    ReportedVisit,
    build_report,
)
from segmentation.lesions import LesionMap
from tests.integration.test_seg_oracles import tool
from tests.outlined_lesions import loaded, outlined, reported
from tests.seg_sources import MODEL, PARAMETERS, SAGITTAL, grid, lesions_on, oblique

OWN_SCHEME = "Unrecognized defined term <99METIA> for value 1 of attribute"
"""dciodvfy knows no private coding scheme; its item says what it is."""
OF_THE_SOURCE = ("Retired Person Name form", "needed to build DICOMDIR")
"""What real images lack, and so everything made of them."""
ALGORITHM = ReportAlgorithm(MODEL.name, MODEL.version, MODEL.sha256)
SIGNED = ReportedVisit(
    number=3,
    sum_of_diameters_mm=32.1,
    change_from_baseline_percent=-31.9,
    change_from_nadir_percent=4.0,
    assessment=ReportedAssessment(
        "RANO-BM", "1.0", "PR", "Eve Expert", datetime(2025, 3, 4, tzinfo=UTC), "yes"
    ),
)
BASELINE = ReportedVisit(number=1, is_baseline=True, author="Bob Reader")

GRIDS = {
    "axial": (grid((12, 64, 64)), False),
    "oblique": (grid((12, 64, 72), (6.5, 0.6875, 0.7), oblique(12)), False),
    "tilted": (grid((24, 64, 64), (1.0, 1.0, 1.0), oblique(25)), False),
    "sagittal": (grid((24, 64, 64), (1.0, 1.0, 1.0), SAGITTAL), False),
    "enhanced": (grid((12, 64, 64), axes=oblique(10)), True),
}


@dataclass
class Case:
    """A series with lesions, and their SEG."""

    source: LoadedSeries
    found: LesionMap
    segmentation: Dataset

    def report(self, visit: ReportedVisit) -> Dataset:
        lesions = reported(self.source, self.found)
        return build_report(self.source, self.segmentation, lesions, visit, ALGORITHM)

    def outlines(self) -> Dataset:
        return outlined(self.source, self.found.labels.array)


def make_case(source: LoadedSeries, found: LesionMap) -> Case:
    identity = identify("1.2.3", MODEL, PARAMETERS, len(found.lesions))
    segmentation = build_segmentation(
        source.source_images, found, MODEL, identity, PARAMETERS
    )
    return Case(source, found, segmentation)


@pytest.fixture(scope="module", params=GRIDS)
def case(request: pytest.FixtureRequest) -> Case:
    geometry, enhanced = GRIDS[request.param]
    return make_case(loaded(geometry, enhanced=enhanced), lesions_on(geometry))


def write(folder: Path, dataset: Dataset) -> Path:
    path = folder / f"{dataset.Modality}.dcm"
    path.write_bytes(encode_part10(dataset))
    return path


def complaints(path: Path, known: tuple[str, ...] = ()) -> list[str]:
    run = subprocess.run(
        [tool("dciodvfy"), str(path)], capture_output=True, text=True, check=False
    )
    lines = (run.stderr + run.stdout).splitlines()
    iods = ("RTStructureSet", "ComprehensiveSR", "Comprehensive3DSR")
    assert any(line in iods for line in lines), "dciodvfy did not know the IOD"
    return [
        line
        for line in lines
        if line.startswith(("Error", "Warning"))
        and not any(text in line for text in known)
    ]


VISITS: dict[str, Callable[[Case], Dataset]] = {
    "signed": lambda case: case.report(SIGNED),
    "baseline": lambda case: case.report(BASELINE),
    "alone": lambda case: case.report(ReportedVisit()),
    "no-lesion": lambda case: build_report(
        case.source, None, [], ReportedVisit(), ALGORITHM
    ),
}


@pytest.mark.parametrize("visit", VISITS)
def test_dciodvfy_finds_nothing_in_the_report(
    case: Case, visit: str, tmp_path: Path
) -> None:
    path = write(tmp_path, VISITS[visit](case))
    assert complaints(path, (OWN_SCHEME,)) == []


def test_dciodvfy_finds_nothing_in_the_structure_set(
    case: Case, tmp_path: Path
) -> None:
    assert complaints(write(tmp_path, case.outlines())) == []


def test_dciodvfy_would_have_complained(case: Case, tmp_path: Path) -> None:
    outlines, report = case.outlines(), case.report(SIGNED)
    del outlines.RTROIObservationsSequence[0].RTROIInterpretedType
    del report.VerifyingObserverSequence
    for broken in (outlines, report):
        path = write(tmp_path, broken)
        assert any(line.startswith("Error") for line in complaints(path))


def test_dsrdump_reads_the_report(case: Case, tmp_path: Path) -> None:
    path = write(tmp_path, case.report(SIGNED))
    run = subprocess.run(
        [tool("dsrdump"), "+Pl", "+Pc", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    problems = [line for line in run.stderr.splitlines() if line.startswith("E:")]
    assert problems == []
    assert "VERIFIED" in run.stdout
    assert run.stdout.count('"Measurement Group")') == len(case.found.lesions)
    assert '"Sum of longest diameters")="32.1"' in run.stdout


def test_dcmqi_reads_the_measurements(case: Case, tmp_path: Path) -> None:
    path, output = write(tmp_path, case.report(SIGNED)), tmp_path / "read.json"
    subprocess.run(
        [
            *(tool("tid1500reader"), "--inputDICOM", str(path)),
            *("--outputMetadata", str(output)),
        ],
        check=True,
        capture_output=True,
    )
    groups = json.loads(output.read_text("utf-8"))["Measurements"]
    assert len(groups) == len(case.found.lesions)
    for group, lesion in zip(groups, case.found.lesions, strict=True):
        assert group["TrackingUniqueIdentifier"].split(".")[-1] == str(lesion.number)
        assert group["ReferencedSegment"] == lesion.number
        assert group["Finding"]["CodeValue"] == "14799000"
        assert group["FindingSite"]["CodeValue"] == "12738006"
        read = {
            item["quantity"]["CodeValue"]: float(item["value"])
            for item in group["measurementItems"]
        }
        near = {
            "103339001": lesion.longest_diameter_mm,
            "103340004": lesion.perpendicular_diameter_mm,
            "118565006": lesion.volume_ml * 1000,
            "L0JK": lesion.diameter_3d_mm,
        }
        assert read == pytest.approx(near, abs=0.006)


REAL = [
    "dicom_tcia_btp_mri_brain",
    "dicom_xa30_pair/classic_5001",
    "dicom_xa30_pair/enhanced",
    "dicom_dicom2nifti/philips_enhanced/anatomical/001",
    "dicom_dicom2nifti/siemens_multiframe/anatomical/001",
    "dicom_dicom2nifti/ge/anatomical/001",
]


@pytest.mark.parametrize("name", REAL)
def test_real_series(shared_data: Path, name: str, tmp_path: Path) -> None:
    folder = shared_data / name
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in ("", ".dcm"))
    source = load_series([pydicom.dcmread(p) for p in files], require_head_t1=False)
    geometry = source.volume.get_geometry()
    found = lesions_on(geometry, 3 if geometry.spatial_shape[0] > 4 else 1)
    case = make_case(source, found)
    outlines = write(tmp_path, case.outlines())
    report = write(tmp_path, case.report(SIGNED))
    assert complaints(outlines, OF_THE_SOURCE) == []
    assert complaints(report, (*OF_THE_SOURCE, OWN_SCHEME)) == []
    for path in (outlines, report):
        stored = pydicom.dcmread(path)
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID"):
            same = stored.get(keyword, "") == source.source_images[0].get(keyword, "")
            assert same, keyword  # without the values: they are a patient's
    read = read_import(pydicom.dcmread(outlines), source)
    np.testing.assert_array_equal(read.labels.array, found.labels.array)


# -- objects that others wrote --------------------------------------------------------


def of_ct(files: list[Path]) -> LoadedSeries:
    """Load axial CT, which the product refuses: only its geometry counts here."""
    images = sorted(
        map(pydicom.dcmread, files), key=lambda one: float(one.ImagePositionPatient[2])
    )
    first, second = images[0], images[1]
    step = float(second.ImagePositionPatient[2]) - float(first.ImagePositionPatient[2])
    row_mm, column_mm = map(float, first.PixelSpacing)
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, column_mm], [0, row_mm, 0], [step, 0, 0]]
    affine[:3, 3] = [float(value) for value in first.ImagePositionPatient]
    volume = hd.Volume(
        np.zeros((len(images), first.Rows, first.Columns), np.float32),
        affine,
        "PATIENT",
        frame_of_reference_uid=first.FrameOfReferenceUID,
    )
    slices = tuple(SliceReference(one.SOPInstanceUID, None) for one in images)
    return LoadedSeries(volume, slices, tuple(images), (), {})


def test_an_rtstruct_of_another_maker(shared_data: Path) -> None:
    folder = shared_data / "rt_rtutils"
    source = of_ct([folder / "ct_1.dcm", folder / "ct_2.dcm"])
    structure_set = pydicom.dcmread(folder / "rt.dcm")
    own = str(source.source_images[0].SeriesInstanceUID)
    assert referenced_series(structure_set) == (own,)
    read = read_import(structure_set, source)
    assert read.names == ("ROI-1",)
    # A square with a square hole in it, both on the first slice, by their areas.
    areas = []
    for contour in structure_set.ROIContourSequence[0].ContourSequence:
        x, y, _ = np.array(contour.ContourData, float).reshape(-1, 3).T
        areas.append(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
    outer, hole = areas
    pixels = (outer - hole) / float(np.prod(source.volume.pixel_spacing))
    counts = (read.labels.array > 0).sum(axis=(1, 2))
    assert counts[0] == pytest.approx(pixels, rel=0.03)
    assert counts[1] == 0


def test_a_seg_of_another_maker(shared_data: Path) -> None:
    sample = get_testdata_file("dicomdirtests/77654033/CT2/17106")
    assert sample is not None
    # The first of the four lies 20 cm below the others.
    source = of_ct(sorted(Path(sample).parent.iterdir())[1:])
    folder = shared_data / "seg_highdicom"
    for name in ("binary", "binary_fractional", "true_fractional"):
        path = folder / f"seg_image_ct_{name}.dcm"
        read = read_import(pydicom.dcmread(path), source)
        expected = hd.seg.segread(path).get_volume(
            combine_segments=False, rescale_fractional=True
        )
        voxels = int((read.labels.array > 0).sum())
        assert voxels == int((expected.array >= 0.5).any(axis=-1).sum()) > 0
