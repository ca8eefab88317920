"""SEGs judged by others: dciodvfy, and the readers of highdicom and dcmqi."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset

from orthanc.volume import load_series
from segmentation.dicom import codes
from segmentation.dicom.seg import build_segmentation, identify, segments_as_labels
from segmentation.lesions import LesionMap
from tests.seg_sources import (
    MODEL,
    PARAMETERS,
    SAGITTAL,
    classic_series,
    enhanced_image,
    grid,
    lesions_on,
    oblique,
)

DATA = Path(__file__).parents[2].parent / "shared" / "data"
ALLOWED_WARNINGS: tuple[str, ...] = ()
"""Warnings of dciodvfy that are known and harmless; there are none."""

Source = Callable[[hd.VolumeGeometry], list[Dataset]]

CASES: dict[str, tuple[hd.VolumeGeometry, Source, int]] = {
    "binary-256": (grid((20, 256, 256)), classic_series, 5),
    "fractional-230x213": (grid((20, 230, 213)), classic_series, 5),
    "fractional-odd-bytes": (grid((7, 31, 33)), classic_series, 3),
    "oblique": (grid((12, 64, 72), (6.5, 0.6875, 0.7), oblique(12)), classic_series, 4),
    "sagittal": (grid((24, 64, 64), (1.0, 1.0, 1.0), SAGITTAL), classic_series, 4),
    "reversed": (
        grid((12, 64, 64), axes=oblique(5)),
        lambda geometry: classic_series(geometry)[::-1],
        4,
    ),
    "enhanced": (
        grid((12, 64, 64), axes=oblique(10)),
        lambda geometry: [enhanced_image(geometry)],
        4,
    ),
    "enhanced-230x213": (
        grid((9, 230, 213)),
        lambda geometry: [enhanced_image(geometry, list(range(8, -1, -1)))],
        3,
    ),
    "one-lesion": (grid((9, 64, 64)), classic_series, 1),
    "forty-lesions": (grid((130, 256, 256)), classic_series, 40),
}


def write(folder: Path, images: list[Dataset], found: LesionMap) -> Path:
    count = len(found.lesions)
    identity = identify(images[0].SeriesInstanceUID, MODEL, PARAMETERS, count)
    path = folder / "seg.dcm"
    build_segmentation(images, found, MODEL, identity, PARAMETERS).save_as(path)
    return path


@pytest.fixture(scope="module", params=CASES)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, LesionMap]:
    geometry, source, count = CASES[request.param]
    found = lesions_on(geometry, count)
    folder = tmp_path_factory.mktemp(request.param)
    return write(folder, source(geometry), found), found


def tool(name: str) -> str:
    """Find an external program, also beside the running Python."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
    if not found:
        pytest.skip(f"the program {name} is not installed")
    return found


def complaints(path: Path) -> tuple[list[str], list[str]]:
    """Return the errors and the warnings of dciodvfy."""
    run = subprocess.run(
        [tool("dciodvfy"), str(path)], capture_output=True, text=True, check=False
    )
    lines = (run.stderr + run.stdout).splitlines()
    assert any("Segmentation" in line for line in lines), (
        "dciodvfy did not know the IOD"
    )
    errors = [line for line in lines if line.startswith("Error")]
    warned = [line for line in lines if line.startswith("Warning")]
    return errors, [
        line for line in warned if not any(known in line for known in ALLOWED_WARNINGS)
    ]


def dcmqi_labels(
    path: Path, folder: Path, geometry: hd.VolumeGeometry
) -> tuple[np.ndarray, dict[str, object]]:
    """Convert with dcmqi's segimage2itkimage; lay the result on the grid by place."""
    subprocess.run(
        [
            tool("segimage2itkimage"),
            *("--inputDICOM", str(path)),
            *("--outputDirectory", str(folder)),
            *("--outputType", "nrrd"),
            *("--prefix", "out"),
        ],
        check=True,
        capture_output=True,
    )
    labels = np.zeros(geometry.spatial_shape, np.uint16)
    for file in folder.glob("out-*.nrrd"):
        number = int(file.stem.removeprefix("out-"))
        image = sitk.ReadImage(str(file))
        values = sitk.GetArrayFromImage(image)
        assert set(np.unique(values)) <= {0, number} or set(np.unique(values)) <= {0, 1}
        indices = np.argwhere(values)[:, ::-1]
        linear = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        points_mm = indices @ linear.T + image.GetOrigin()
        where = geometry.map_reference_to_indices(points_mm)
        assert np.abs(where - np.rint(where)).max() < 0.02
        labels[tuple(np.rint(where).astype(int).T)] = number
    (meta,) = folder.glob("out*.json")
    return labels, json.loads(meta.read_text("utf-8"))


def test_dciodvfy_has_no_complaint(case: tuple[Path, LesionMap]) -> None:
    assert complaints(case[0]) == ([], [])


def test_dciodvfy_would_have_complained(tmp_path: Path) -> None:
    geometry = grid((9, 64, 64))
    path = write(tmp_path, classic_series(geometry), lesions_on(geometry, 1))
    broken = pydicom.dcmread(path)
    del broken.SegmentSequence[0].SegmentAlgorithmName
    broken.save_as(path)
    assert complaints(path)[0]


def test_highdicom_reads_the_same_voxels(case: tuple[Path, LesionMap]) -> None:
    path, found = case
    volume = hd.seg.segread(path).get_volume(combine_segments=True, dtype=np.uint16)
    read = volume.match_geometry(found.labels, tol=1e-3)
    np.testing.assert_array_equal(read.array, found.labels.array)
    stored = pydicom.dcmread(path)
    np.testing.assert_array_equal(
        segments_as_labels(stored, found.labels), found.labels.array
    )


def test_dcmqi_reads_the_same_voxels_and_names(
    case: tuple[Path, LesionMap], tmp_path: Path
) -> None:
    path, found = case
    labels, meta = dcmqi_labels(path, tmp_path, found.labels.get_geometry())
    np.testing.assert_array_equal(labels, found.labels.array)
    segments = [one for group in meta["segmentAttributes"] for one in group]
    assert len(segments) == len(found.lesions)
    for segment in segments:
        number = int(segment["labelID"])
        kind = segment["SegmentedPropertyTypeCodeSequence"]
        assert kind["CodeValue"] == "14799000"
        assert segment["SegmentAlgorithmName"] == MODEL.name
        assert segment["TrackingIdentifier"] == f"Metastasis {number}"
        colour = segment["recommendedDisplayRGBValue"]
        assert np.abs(np.subtract(colour, codes.colour_of(number))).max() <= 3


@pytest.mark.parametrize(
    "name",
    [
        "dicom_tcia_btp_mri_brain",
        "dicom_xa30_pair/classic_5001",
        "dicom_xa30_pair/enhanced",
        "dicom_dicom2nifti/philips_enhanced/anatomical/001",
        "dicom_dicom2nifti/siemens_multiframe/anatomical/001",
        "dicom_dicom2nifti/ge/anatomical/001",
    ],
)
def test_real_series(name: str, tmp_path: Path) -> None:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"the real images of {name} are not on this machine")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in ("", ".dcm"))
    source = load_series([pydicom.dcmread(p) for p in files], require_head_t1=False)
    geometry = source.volume.get_geometry()
    found = lesions_on(geometry, 3 if geometry.spatial_shape[0] > 4 else 1)
    path = write(tmp_path, list(source.source_images), found)
    assert not complaints(path)[0]
    stored = pydicom.dcmread(path)
    np.testing.assert_array_equal(
        segments_as_labels(stored, source.volume), found.labels.array
    )
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID"):
        same = stored.get(keyword, "") == source.source_images[0].get(keyword, "")
        assert same, keyword  # without the values: they are a patient's
    named = {
        item.ReferencedSOPInstanceUID
        for item in stored.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert named == {one.sop_instance_uid for one in source.slices}
    for frame in stored.PerFrameFunctionalGroupsSequence:
        (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
        position = np.array([frame.PlanePositionSequence[0].ImagePositionPatient])
        index = geometry.map_reference_to_indices(position)[0, 0]
        slice_ = source.slices[round(index)]
        assert reference.ReferencedSOPInstanceUID == slice_.sop_instance_uid
        assert reference.get("ReferencedFrameNumber") == slice_.frame_number
    labels, _ = dcmqi_labels(path, tmp_path, geometry)
    np.testing.assert_array_equal(labels, found.labels.array)
