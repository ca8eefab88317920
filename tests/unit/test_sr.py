"""The measurement report: what it says, and the shape that viewers need."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    SegmentationStorage,
)

from orthanc.dicomweb import encode_part10
from orthanc.volume import LoadedSeries
from segmentation.dicom.sr import (
    ReportAlgorithm,
    ReportedAssessment,
    ReportedVisit,
    build_report,
)
from segmentation.followup.results import Category
from segmentation.lesions import LesionMap
from tests.outlined_lesions import loaded, reported
from tests.seg_sources import SAGITTAL, grid, lesions_on, oblique

ALGORITHM = ReportAlgorithm("unetr-brainmets", "0.1.0", "ab" * 32)
SIGNED = ReportedAssessment(
    criteria="RANO-BM",
    rules_version="1.0",
    category="PR",
    signed_by="Eve Maria Expert",
    signed_at=datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC),
    comment="as discussed",
)
VISIT = ReportedVisit(
    number=2,
    sum_of_diameters_mm=32.0,
    change_from_baseline_percent=-31.9,
    change_from_nadir_percent=0.0,
    assessment=replace(SIGNED, signed_by=None, signed_at=None, comment=""),
)


def segmentation_of(source: LoadedSeries) -> Dataset:
    seg = Dataset()
    seg.SOPClassUID = SegmentationStorage
    seg.SOPInstanceUID, seg.SeriesInstanceUID = "2.25.77", "2.25.78"
    seg.StudyInstanceUID = source.source_images[0].StudyInstanceUID
    return seg


def build(source: LoadedSeries, found: LesionMap, visit: ReportedVisit) -> Dataset:
    made = build_report(
        source, segmentation_of(source), reported(source, found), visit, ALGORITHM
    )
    return pydicom.dcmread(BytesIO(encode_part10(made)))


@pytest.fixture(scope="module")
def found() -> LesionMap:
    return lesions_on(grid((12, 40, 48), (1.5, 0.9, 0.9), oblique(6)))


@pytest.fixture(scope="module")
def source(found: LesionMap) -> LoadedSeries:
    return loaded(found.labels.get_geometry())


@pytest.fixture(scope="module")
def report(source: LoadedSeries, found: LesionMap) -> Dataset:
    return build(source, found, VISIT)


def items(dataset: Dataset, meaning: str) -> list[Dataset]:
    """Give the items of a name anywhere in the tree."""
    return [
        item
        for item in walk(dataset)
        if "ConceptNameCodeSequence" in item
        and item.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]


def walk(dataset: Dataset) -> Iterator[Dataset]:
    for item in dataset.get("ContentSequence", []):
        yield item
        yield from walk(item)


def code_of(item: Dataset) -> tuple[str, str]:
    concept = item.ConceptCodeSequence[0]
    return concept.CodeValue, concept.CodingSchemeDesignator


def number_of(item: Dataset) -> tuple[float, str]:
    (value,) = item.MeasuredValueSequence
    unit = value.MeasurementUnitsCodeSequence[0].CodeValue
    return float(value.NumericValue), unit


def groups_of(report: Dataset) -> list[Dataset]:
    return items(report, "Measurement Group")


# -- the lesions ----------------------------------------------------------------------


def test_one_group_a_lesion_with_axes_volume_and_segment_in_it(
    report: Dataset, found: LesionMap
) -> None:
    groups = groups_of(report)
    assert len(groups) == len(found.lesions)
    for group, lesion in zip(groups, found.lesions, strict=True):
        (long,), (short,) = items(group, "Long Axis"), items(group, "Short Axis")
        (volume,) = items(group, "Volume")
        (segment,) = items(group, "Referenced Segment")
        assert long.ConceptNameCodeSequence[0].CodeValue == "103339001"
        assert short.ConceptNameCodeSequence[0].CodeValue == "103340004"
        assert number_of(long) == (
            pytest.approx(lesion.longest_diameter_mm, abs=0.006),
            "mm",
        )
        expected = pytest.approx(lesion.perpendicular_diameter_mm, abs=0.006)
        assert number_of(short) == (expected, "mm")
        assert number_of(volume) == (
            pytest.approx(lesion.volume_ml * 1000, abs=0.006),
            "mm3",
        )
        assert code_of(volume.ContentSequence[0]) == ("126030", "DCM")
        reference = segment.ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == "2.25.77"
        assert reference.ReferencedSegmentNumber == lesion.number
        (finding,), (site,) = items(group, "Finding"), items(group, "Finding Site")
        assert code_of(finding) == ("14799000", "SCT")
        assert code_of(site) == ("12738006", "SCT")
        (tracking,) = items(group, "Tracking Unique Identifier")
        assert tracking.UID.split(".") == ["2", "25", str(lesion.number)]


def test_is_what_stock_ohif_draws(report: Dataset) -> None:
    """Read in OHIF 3.13.2: title, identifier, first number, spelling, label."""
    assert report.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    for number, group in enumerate(groups_of(report), 1):
        (identifier,) = items(group, "Tracking Identifier")
        text = identifier.TextValue
        assert text == f"Cornerstone3DTools@^0.1.0:Bidirectional:M{number}"
        numbers = [one for one in group.ContentSequence if one.ValueType == "NUM"]
        assert numbers[0].ConceptNameCodeSequence[0].CodeMeaning == "Long Axis"
        assert numbers[1].ConceptNameCodeSequence[0].CodeMeaning == "Short Axis"
        for axis in numbers[:2]:
            (coordinates,) = axis.ContentSequence
            assert coordinates.ValueType == "SCOORD"
            (image,) = coordinates.ContentSequence
            assert image.RelationshipType == "SELECTED FROM"
        (label,) = items(group, "Comment")
        assert label.TextValue == f"M{number}"


def test_axes_lie_where_they_were_measured(
    report: Dataset, found: LesionMap, source: LoadedSeries
) -> None:
    assert report.SOPClassUID == ComprehensiveSRStorage
    where = {one.sop_instance_uid: k for k, one in enumerate(source.slices)}
    geometry = found.labels.get_geometry()
    for group, lesion in zip(groups_of(report), found.lesions, strict=True):
        for name, axis_mm in (
            ("Long Axis", lesion.long_axis_mm),
            ("Short Axis", lesion.short_axis_mm),
        ):
            (coordinates,) = items(group, name)[0].ContentSequence
            assert coordinates.GraphicType == "POLYLINE"
            image = coordinates.ContentSequence[0].ReferencedSOPSequence[0]
            index = where[image.ReferencedSOPInstanceUID]
            points = np.reshape(coordinates.GraphicData, (2, 2))
            # The centre of the first pixel is at 0.5 \ 0.5.
            indices = [(index, row - 0.5, column - 0.5) for column, row in points]
            drawn_mm = geometry.map_indices_to_reference(np.array(indices))
            np.testing.assert_allclose(drawn_mm, axis_mm, atol=0.01)


def test_axes_across_the_images_are_given_in_space() -> None:
    """A sagittal series, measured in the axial plane: on an image, a shadow."""
    geometry = grid((24, 40, 32), (1.0, 1.0, 1.0), SAGITTAL)
    found = lesions_on(geometry)
    report = build(loaded(geometry), found, VISIT)
    assert report.SOPClassUID == Comprehensive3DSRStorage
    for group, lesion in zip(groups_of(report), found.lesions, strict=True):
        (coordinates,) = items(group, "Long Axis")[0].ContentSequence
        assert coordinates.ValueType == "SCOORD3D"
        frame = coordinates.ReferencedFrameOfReferenceUID
        assert frame == geometry.frame_of_reference_uid
        points = np.reshape(coordinates.GraphicData, (2, 3))
        np.testing.assert_allclose(points, lesion.long_axis_mm, atol=0.01)
        length = np.linalg.norm(points[1] - points[0])
        expected = pytest.approx(length, abs=0.02)
        assert number_of(items(group, "Long Axis")[0])[0] == expected


def test_frames_of_an_enhanced_image_are_named() -> None:
    geometry = grid((9, 40, 48), axes=oblique(10))
    source = loaded(geometry, enhanced=True)
    found = lesions_on(geometry)
    report = build(source, found, VISIT)
    for group, lesion in zip(groups_of(report), found.lesions, strict=True):
        (coordinates,) = items(group, "Long Axis")[0].ContentSequence
        image = coordinates.ContentSequence[0].ReferencedSOPSequence[0]
        assert image.ReferencedFrameNumber == lesion.slice_index + 1


def test_role_time_point_and_algorithm(report: Dataset) -> None:
    first, second, *_ = groups_of(report)
    (role,) = items(first, "Baseline Category")
    assert code_of(role) == ("112074", "DCM")
    assert not items(second, "Baseline Category")
    (point,) = items(first, "Time Point")
    assert point.TextValue == "Visit 2"
    assert not items(first, "Time Point Type")
    (name,) = items(first, "Algorithm Name")
    (parameters,) = items(first, "Algorithm Parameters")
    assert name.TextValue == "unetr-brainmets"
    assert parameters.TextValue == f"sha256={'ab' * 32}"


def test_what_a_reader_drew_names_no_algorithm(
    source: LoadedSeries, found: LesionMap
) -> None:
    first, *others = reported(source, found)
    lesions = [replace(first, drawn=True), *others]
    made = build_report(source, segmentation_of(source), lesions, VISIT, ALGORITHM)
    named = [bool(items(group, "Algorithm Name")) for group in groups_of(made)]
    assert named == [False, True, True, True]


def test_a_baseline_and_a_reader_without_model(
    source: LoadedSeries, found: LesionMap
) -> None:
    visit = ReportedVisit(number=1, is_baseline=True, author="Bob Reader")
    made = build_report(
        source, segmentation_of(source), reported(source, found), visit, None
    )
    (kind, *_) = items(made, "Time Point Type")
    assert kind.ConceptCodeSequence[0].CodeMeaning == "Baseline"
    assert not items(made, "Algorithm Name")
    (person,) = items(made, "Person Observer Name")
    assert person.PersonName == "Reader^Bob"
    assert made.VerificationFlag == "UNVERIFIED"  # drawing is not vouching


# -- the visit ------------------------------------------------------------------------


def test_says_sum_changes_and_what_the_criteria_propose(report: Dataset) -> None:
    total = pytest.approx(
        sum(number_of(items(one, "Volume")[0])[0] for one in groups_of(report)), abs=0.1
    )
    wanted: dict[str, Any] = {
        "Sum of longest diameters": (32.0, "mm"),
        "Sum of lesion volumes": (total, "mm3"),
        "Change from baseline": (-31.9, "%"),
        "Change from nadir": (0.0, "%"),
    }
    (derived,) = items(report, "Derived Imaging Measurements")
    names = [one.ConceptNameCodeSequence[0] for one in derived.ContentSequence]
    assert [name.CodeMeaning for name in names] == list(wanted)
    assert {name.CodingSchemeDesignator for name in names} == {"99METIA"}
    for item, value in zip(derived.ContentSequence, wanted.values(), strict=True):
        assert number_of(item) == value
    (evaluations,) = items(report, "Qualitative Evaluations")
    method, version, response, status, notice = evaluations.ContentSequence
    assert code_of(method) == ("C114879", "NCIt")
    assert version.TextValue == "RANO-BM, 1.0"
    assert code_of(response) == ("C18058", "NCIt")
    assert code_of(status) == ("proposed", "99METIA")
    assert "Research use only" in notice.TextValue
    (scheme,) = report.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99METIA"


@pytest.mark.parametrize("category", list(Category))
def test_every_category_has_a_code(
    source: LoadedSeries, found: LesionMap, category: Category
) -> None:
    assessment = replace(SIGNED, category=str(category), signed_by=None)
    report = build(source, found, replace(VISIT, assessment=assessment))
    (response,) = items(report, "Current Response")
    assert len(code_of(response)[0]) <= 16


def test_recist_is_named_as_such(source: LoadedSeries, found: LesionMap) -> None:
    assessment = replace(SIGNED, criteria="RECIST 1.1")
    report = build(source, found, replace(VISIT, assessment=assessment))
    (method,) = items(report, "Response Evaluation Method")
    assert code_of(method) == ("126081", "DCM")


def test_is_unverified_until_a_named_reader_signs(
    report: Dataset, source: LoadedSeries, found: LesionMap
) -> None:
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert report.CompletionFlag == "COMPLETE"
    assert "VerifyingObserverSequence" not in report
    signed = build(source, found, replace(VISIT, assessment=SIGNED))
    assert signed.VerificationFlag == "VERIFIED"
    assert signed.PreliminaryFlag == "FINAL"
    (observer,) = signed.VerifyingObserverSequence
    assert observer.VerifyingObserverName == "Expert^Eve Maria"
    assert observer.VerificationDateTime == "20250304050607+0000"
    assert observer.VerifyingOrganization
    (status,) = items(signed, "Status of the assessment")
    assert code_of(status) == ("signed", "99METIA")
    assert "as discussed" in [one.TextValue for one in items(signed, "Comment")]


def test_no_lesion_is_said_without_a_group(source: LoadedSeries) -> None:
    """A group without coordinates would blank OHIF."""
    made = build_report(source, None, [], ReportedVisit(), ALGORITHM)
    report = pydicom.dcmread(BytesIO(encode_part10(made)))
    assert not items(report, "Imaging Measurements")
    (total,) = items(report, "Sum of lesion volumes")
    assert number_of(total) == (0.0, "mm3")


# -- the object -----------------------------------------------------------------------


def test_keeps_patient_and_study_and_names_the_evidence(
    report: Dataset, source: LoadedSeries
) -> None:
    first = source.source_images[0]
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate"):
        assert report[keyword].value == first[keyword].value
    assert report.SpecificCharacterSet == "ISO_IR 192"
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    named = {
        instance.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert named == {one.SOPInstanceUID for one in source.source_images} | {"2.25.77"}


def test_highdicom_reads_it_back(report: Dataset, found: LesionMap) -> None:
    read = hd.sr.ComprehensiveSR.from_dataset(report)
    groups = read.content.get_image_measurement_groups(tracking_uid=hd.UID("2.25.2"))
    (long, *_) = groups[0].get_measurements()
    expected = pytest.approx(found.lesions[1].longest_diameter_mm, abs=0.006)
    assert long.value == expected


def test_the_same_content_has_the_same_uids(
    source: LoadedSeries, found: LesionMap
) -> None:
    again = [build(source, found, VISIT) for _ in range(2)]
    for one, other in zip(again[0].iterall(), again[1].iterall(), strict=True):
        if one.VR not in ("DA", "TM", "DT", "SQ"):
            assert one.value == other.value, one.keyword
    lesions = reported(source, found)
    seg = segmentation_of(source)

    def uid(lesions: list, visit: ReportedVisit = VISIT) -> str:
        made = build_report(source, seg, lesions, visit, ALGORITHM)
        return str(made.SOPInstanceUID)

    plain = uid(lesions)
    grown = [replace(lesions[0], longest_diameter_mm=99.0), *lesions[1:]]
    uids = {
        plain,
        uid(lesions[:-1]),
        uid(grown),
        uid(lesions, replace(VISIT, number=3)),
        uid(lesions, replace(VISIT, assessment=SIGNED)),
    }
    assert plain == again[0].SOPInstanceUID
    assert len(uids) == 5


def test_no_warning_names_the_patient(source: LoadedSeries, found: LesionMap) -> None:
    source.source_images[0].PatientName = "Onlyfamily"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build(source, found, VISIT).PatientName == "Onlyfamily"


def test_refuses_lesions_that_cannot_be_told_apart_or_placed(
    source: LoadedSeries, found: LesionMap
) -> None:
    first, second, *_ = reported(source, found)
    same = replace(second, tracking_uid=first.tracking_uid)
    with pytest.raises(ValueError, match="same tracking UID"):
        build_report(source, None, [first, same], VISIT, ALGORITHM)
    lost = replace(first, sop_instance_uid="1.2.3")
    with pytest.raises(ValueError, match="not of the series"):
        build_report(source, None, [lost], VISIT, ALGORITHM)
