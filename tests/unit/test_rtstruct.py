"""The structure set: what it says, what it draws, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, ImplicitVRLittleEndian, RTStructureSetStorage

from orthanc.dicomweb import encode_part10
from segmentation.dicom.rtstruct import build_rtstruct
from tests.outlined_lesions import ball, loaded, outlined, structures
from tests.seg_sources import SAGITTAL, grid, lesions_on, oblique

GRIDS = {
    "axial": (grid((12, 40, 48)), False),
    "oblique": (grid((12, 40, 48), (6.5, 0.6875, 0.7), oblique(12)), False),
    "sagittal": (grid((24, 40, 32), (1.0, 1.1, 0.9), SAGITTAL), False),
    "enhanced": (grid((9, 40, 48), axes=oblique(10)), True),
}


def read_again(dataset: Dataset) -> Dataset:
    return pydicom.dcmread(BytesIO(encode_part10(dataset)))


@pytest.fixture(scope="module", params=GRIDS)
def case(request: pytest.FixtureRequest) -> tuple[hd.VolumeGeometry, np.ndarray, bool]:
    geometry, enhanced = GRIDS[request.param]
    return geometry, lesions_on(geometry).labels.array, enhanced


def test_one_gtv_a_lesion_not_approved(case) -> None:
    geometry, labels, enhanced = case
    source = loaded(geometry, enhanced=enhanced)
    made = read_again(outlined(source, labels))
    assert made.SOPClassUID == RTStructureSetStorage
    assert made.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert made.ApprovalStatus == "UNAPPROVED"
    assert "Research use only" in made.StructureSetDescription
    assert "keyhole" in made.StructureSetDescription
    assert [one.ROINumber for one in made.StructureSetROISequence] == [1, 2, 3, 4]
    for roi, drawn, seen in zip(
        made.StructureSetROISequence,
        made.ROIContourSequence,
        made.RTROIObservationsSequence,
        strict=True,
    ):
        assert roi.ROINumber == drawn.ReferencedROINumber == seen.ReferencedROINumber
        assert roi.ROIName == f"M{roi.ROINumber}"
        assert f"2.25.{roi.ROINumber}" in roi.ROIDescription
        assert roi.ROIGenerationAlgorithm == "AUTOMATIC"
        assert roi.ReferencedFrameOfReferenceUID == geometry.frame_of_reference_uid
        voxels = (labels == roi.ROINumber).sum()
        expected_ml = voxels * source.volume.voxel_volume / 1000
        assert float(roi.ROIVolume) == pytest.approx(expected_ml, rel=1e-5)
        assert seen.RTROIInterpretedType == "GTV"
        assert seen.RTROIIdentificationCodeSequence[0].CodeValue == "14799000"
        assert drawn.ROIDisplayColor == [230, 159, 0]


def test_contours_lie_on_the_images_they_name(case) -> None:
    geometry, labels, enhanced = case
    source = loaded(geometry, enhanced=enhanced)
    made = read_again(outlined(source, labels))
    where = {
        (one.sop_instance_uid, one.frame_number): k
        for k, one in enumerate(source.slices)
    }
    for item in made.ROIContourSequence:
        drawn = set()
        for contour in item.ContourSequence:
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            (image,) = contour.ContourImageSequence
            number = image.get("ReferencedFrameNumber")
            index = where[image.ReferencedSOPInstanceUID, number]
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints >= 3
            slices = geometry.map_reference_to_indices(points)[:, 0]
            np.testing.assert_allclose(slices, index, atol=1e-3)
            drawn.add(index)
        mask = labels == item.ReferencedROINumber
        assert drawn == set(np.flatnonzero(mask.any(axis=(1, 2))))


def test_names_every_image_of_the_series(case) -> None:
    geometry, labels, enhanced = case
    source = loaded(geometry, enhanced=enhanced)
    made = outlined(source, labels)
    (frame,) = made.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    assert frame.FrameOfReferenceUID == geometry.frame_of_reference_uid
    assert study.ReferencedSOPInstanceUID == made.StudyInstanceUID
    assert series.SeriesInstanceUID == source.source_images[0].SeriesInstanceUID
    named = [one.ReferencedSOPInstanceUID for one in series.ContourImageSequence]
    assert named == [one.SOPInstanceUID for one in source.source_images]


@pytest.mark.filterwarnings("ignore:Invalid value for VR AS")
def test_keeps_patient_and_study_in_utf_8() -> None:
    geometry, _ = GRIDS["axial"]
    source = loaded(geometry)
    first = source.source_images[0]
    first.PatientName = "Ώμεγα^Γιώργος=山田^太郎"
    first.PatientAge = "very old"  # malformed: would make the object invalid
    made = read_again(outlined(source, ball(geometry, 12.0)))
    assert made.SpecificCharacterSet == "ISO_IR 192"
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate"):
        assert made[keyword].value == first[keyword].value
    assert "PatientAge" not in made
    assert made.SeriesInstanceUID != first.SeriesInstanceUID


def test_uids_follow_from_the_content() -> None:
    geometry, _ = GRIDS["axial"]
    source = loaded(geometry)
    labels = ball(geometry, 12.0)
    made, again = outlined(source, labels), outlined(source, labels)
    assert UID(made.SOPInstanceUID).is_valid
    assert made.SOPInstanceUID == again.SOPInstanceUID
    assert made.SeriesInstanceUID == again.SeriesInstanceUID
    different = [outlined(source, ball(geometry, 13.0))]
    (plain,) = structures(labels)
    for change in ({"name": "M9"}, {"algorithm_type": "MANUAL"}, {"tracking_uid": "1"}):
        changed = [replace(plain, **change)]
        different.append(build_rtstruct(source, labels, changed, origin="a test"))
    different.append(build_rtstruct(source, labels, [plain], origin="another"))
    uids = {made.SOPInstanceUID, *(one.SOPInstanceUID for one in different)}
    assert len(uids) == 6


def test_numbers_that_are_no_structure_are_left_out() -> None:
    geometry, _ = GRIDS["axial"]
    labels = lesions_on(geometry).labels.array
    two = structures(labels)[1:3]
    made = build_rtstruct(loaded(geometry), labels, two, origin="a test")
    numbers = [one.ReferencedROINumber for one in made.ROIContourSequence]
    assert numbers == [2, 3]


def test_odd_names_fit() -> None:
    geometry, _ = GRIDS["axial"]
    labels = ball(geometry, 12.0)
    odd = replace(structures(labels)[0], name="back\\slash\n" + "n" * 200)
    made = read_again(build_rtstruct(loaded(geometry), labels, [odd], origin="o" * 99))
    (roi,) = made.StructureSetROISequence
    assert roi.ROIName.startswith("back/slash n")
    assert len(roi.ROIName) <= 64
    assert len(made.RTROIObservationsSequence[0].ROIObservationLabel) <= 16


def test_refuses_what_it_cannot_draw() -> None:
    geometry, _ = GRIDS["axial"]
    source, labels = loaded(geometry), ball(geometry, 12.0)
    (one,) = structures(labels)
    for wrong, given in (
        ("nothing to outline", []),
        ("voxels of its own", [one, replace(one, number=2)]),
        ("voxels of its own", [one, one]),
    ):
        with pytest.raises(ValueError, match=wrong):
            build_rtstruct(source, labels, given, origin="a test")
    with pytest.raises(ValueError, match="not on the grid"):
        build_rtstruct(source, labels[1:], [one], origin="a test")


def shoelace_ml(made: Dataset, spacing_mm: float) -> float:
    """Sum area times slice distance, as planning systems do."""
    area = 0.0
    for contour in made.ROIContourSequence[0].ContourSequence:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        cross = np.cross(points - points[0], np.roll(points, -1, axis=0) - points[0])
        area += float(np.linalg.norm(cross.sum(axis=0))) / 2
    return area * spacing_mm / 1000


@pytest.mark.parametrize(
    ("diameter_mm", "allowed"),
    [(3, 0.15), (5, 0.07), (10, 0.015), (20, 0.005), (30, 0.003)],
)
def test_the_volume_within_the_outlines_is_that_of_the_voxels(
    diameter_mm: float, allowed: float
) -> None:
    """Polygons cut the corners of voxels: measured at 1 mm, over sub-voxel places."""
    side = diameter_mm + 8
    geometry = grid((side, side, side), (1.0, 1.0, 1.0))
    source = loaded(geometry)
    places = np.random.default_rng(1).uniform(-0.5, 0.5, (6, 3))
    errors = []
    for place in places:
        labels = ball(geometry, diameter_mm, place)
        voxels_ml = labels.sum() / 1000
        errors.append(shoelace_ml(outlined(source, labels), 1.0) / voxels_ml - 1)
    assert -allowed < np.mean(errors) < 0
