"""The content of our measurement reports: what they are told, and its TID 1500 tree.

The dataclasses are all a report can say; they know no database.
``imaging_measurements`` makes one TID 1501 group a lesion: its axes with their
coordinates, its volume and its segment in that same group, because the viewer OHIF goes
blank at a group without coordinates. What is said of the visit as a whole has no place
on an image, so it stands where TID 1500 puts such things: ``derived_measurements`` (row
10) and ``evaluations`` (row 12), which OHIF passes over. Pure; called by
``segmentation.dicom.sr`` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dicom
from pydicom.sr.coding import Code

from orthanc.volume import LoadedSeries
from segmentation.dicom import codes
from settings import RESEARCH_NOTICE

Point = tuple[float, float, float]
Axis = tuple[Point, Point]
Array = NDArray[np.floating[Any]]

OHIF_BIDIRECTIONAL = "Cornerstone3DTools@^0.1.0:Bidirectional"
"""How a tracking identifier must begin for OHIF to draw the group as its own tool."""
_CONTAINS = hd.sr.RelationshipTypeValues.CONTAINS
_MODIFIES = hd.sr.RelationshipTypeValues.HAS_CONCEPT_MOD
_PERCENT = Code("%", "UCUM", "percent")
_IN_PLANE_SLICES = 0.1
"""An axis this near to its image, in slice distances, is drawn on the image."""


@dataclass(frozen=True)
class ReportedLesion:
    """One lesion of a visit.

    Attributes
    ----------
    label : str
        What people call it at every visit (``M1``), else its name.
    tracking_uid : str
        Of its track, the same at every visit; where it is in none, its own.
    long_axis_mm, short_axis_mm : tuple
        End points, LPS.
    sop_instance_uid, frame_number
        The image that the long axis lies on, or nearest to its middle.
    segment_number : int
        In the SEG.
    role : str or None
        As chosen at baseline; None where nobody said.
    drawn : bool
        By a reader from the start, so that no algorithm is named.
    """

    label: str
    tracking_uid: str
    segment_number: int
    longest_diameter_mm: float
    perpendicular_diameter_mm: float
    volume_ml: float
    long_axis_mm: Axis
    short_axis_mm: Axis
    sop_instance_uid: str
    frame_number: int | None
    role: Literal["target", "non_target"] | None = None
    diameter_3d_mm: float | None = None
    drawn: bool = False


@dataclass(frozen=True)
class ReportedAssessment:
    """What the criteria say of the visit; proposed, unless somebody signed.

    Attributes
    ----------
    criteria : str
        A key of ``codes.CRITERIA``.
    rules_version : str
        Of the rule set, in words.
    category : str
        A key of ``codes.RESPONSES``.
    comment : str
        The signer's.
    """

    criteria: str
    rules_version: str
    category: str
    signed_by: str | None = None
    signed_at: datetime | None = None
    comment: str = ""


@dataclass(frozen=True)
class ReportedVisit:
    """The visit within its course.

    Attributes
    ----------
    number : int or None
        From 1, in order of time; None where the course is not known.
    sum_of_diameters_mm : float or None
        Of the target lesions.
    author : str or None
        The reader who drew or corrected the outlines.
    """

    number: int | None = None
    is_baseline: bool = False
    sum_of_diameters_mm: float | None = None
    change_from_baseline_percent: float | None = None
    change_from_nadir_percent: float | None = None
    assessment: ReportedAssessment | None = None
    author: str | None = None


@dataclass(frozen=True)
class ReportAlgorithm:
    """The model that made the outlines."""

    name: str
    version: str
    sha256: str


def imaging_measurements(
    lesions: Sequence[ReportedLesion],
    visit: ReportedVisit,
    algorithm: ReportAlgorithm | None,
    source: LoadedSeries,
    segmentation: Dataset | None,
) -> list[hd.sr.MeasurementsAndQualitativeEvaluations]:
    """Make the measurement group (TID 1501) of every lesion."""
    images = {
        (one.sop_instance_uid, one.frame_number): index
        for index, one in enumerate(source.slices)
    }
    flat = all(_lies_on_image(lesion, source, images) for lesion in lesions)
    return [
        _group(lesion, visit, algorithm, _Drawing(source, images, flat), segmentation)
        for lesion in lesions
    ]


def needs_3d(
    groups: Sequence[hd.sr.MeasurementsAndQualitativeEvaluations],
) -> bool:
    """Tell whether a group has coordinates in space, as only a 3-D report may."""
    return any(
        axis.ValueType == "SCOORD3D"
        for group in groups
        for measurement in group.get_measurements()
        for axis in measurement.referenced_coordinates
    )


def _lies_on_image(
    lesion: ReportedLesion,
    source: LoadedSeries,
    images: dict[tuple[str, int | None], int],
) -> bool:
    index = images[lesion.sop_instance_uid, lesion.frame_number]
    ends = np.array([*lesion.long_axis_mm, *lesion.short_axis_mm])
    where = source.volume.map_reference_to_indices(ends)
    return bool(np.abs(where[:, 0] - index).max() <= _IN_PLANE_SLICES)


@dataclass(frozen=True)
class _Drawing:
    """How axes become coordinates.

    Attributes
    ----------
    flat : bool
        Whether every axis lies on an image. Where one does not (a sagittal series,
        measured in the axial plane), a line on the image would be a shadow of it and
        of another length, so all are given in space.
    """

    source: LoadedSeries
    images: dict[tuple[str, int | None], int]
    flat: bool

    def image_of(self, lesion: ReportedLesion) -> tuple[str, str, list[int] | None]:
        copies = self.source.source_images
        index = self.images[lesion.sop_instance_uid, lesion.frame_number]
        header = copies[index if len(copies) > 1 else 0]
        frames = None if lesion.frame_number is None else [lesion.frame_number]
        return str(header.SOPClassUID), lesion.sop_instance_uid, frames

    def coordinates(
        self, lesion: ReportedLesion, axis_mm: Axis
    ) -> hd.sr.CoordinatesForMeasurement | hd.sr.CoordinatesForMeasurement3D:
        ends = np.array(axis_mm)
        if not self.flat:
            return hd.sr.CoordinatesForMeasurement3D(
                hd.sr.GraphicTypeValues3D.POLYLINE,
                ends,
                str(self.source.volume.frame_of_reference_uid),
            )
        where = self.source.volume.map_reference_to_indices(ends)
        # (column, row); the centre of the first pixel is at 0.5 (PS3.3 C.18.6.1.1).
        points = where[:, [2, 1]] + 0.5
        matrix = np.array(self.source.volume.spatial_shape)[[2, 1]]
        return hd.sr.CoordinatesForMeasurement(
            hd.sr.GraphicTypeValues.POLYLINE,
            np.clip(points, 0.0, matrix),
            hd.sr.SourceImageForRegion(*self.image_of(lesion)),
        )


def _group(
    lesion: ReportedLesion,
    visit: ReportedVisit,
    algorithm: ReportAlgorithm | None,
    drawing: _Drawing,
    segmentation: Dataset | None,
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    roles = {"target": codes.TARGET, "non_target": codes.NON_TARGET}
    evaluations = []
    if lesion.role is not None:
        role = roles[lesion.role]
        evaluations = [hd.sr.QualitativeEvaluation(codes.BASELINE_CATEGORY, role)]
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            lesion.tracking_uid, f"{OHIF_BIDIRECTIONAL}:{lesion.label}"
        ),
        time_point_context=_time_point(visit),
        finding_category=codes.ABNORMAL_STRUCTURE,
        finding_type=codes.METASTASIS,
        finding_sites=[hd.sr.FindingSite(codes.BRAIN)],
        algorithm_id=None if lesion.drawn or not algorithm else _algorithm(algorithm),
        measurements=_measurements(lesion, drawing),
        qualitative_evaluations=evaluations,
        source_images=[hd.sr.SourceImageForMeasurementGroup(*drawing.image_of(lesion))],
    )
    items = group[0].ContentSequence
    # The label that OHIF shows.
    items.append(hd.sr.TextContentItem(dicom.DCM.Comment, lesion.label, _CONTAINS))
    if segmentation is not None:
        # TID 1501 is extensible; this row is TID 1411's.
        items.append(
            hd.sr.ImageContentItem(
                codes.REFERENCED_SEGMENT,
                segmentation.SOPClassUID,
                segmentation.SOPInstanceUID,
                referenced_segment_numbers=lesion.segment_number,
                relationship_type=_CONTAINS,
            )
        )
    return group


def _algorithm(algorithm: ReportAlgorithm) -> hd.sr.AlgorithmIdentification:
    return hd.sr.AlgorithmIdentification(
        algorithm.name,
        algorithm.version,
        [f"sha256={algorithm.sha256}"],
        codes.ARTIFICIAL_INTELLIGENCE,
    )


def _time_point(visit: ReportedVisit) -> hd.sr.TimePointContext | None:
    # No order as a number: OHIF takes the first number of a group for its axis.
    if visit.number is None:
        return None
    kind = codes.BASELINE if visit.is_baseline else None
    return hd.sr.TimePointContext(f"Visit {visit.number}", kind)


def _measurements(lesion: ReportedLesion, drawing: _Drawing) -> list[hd.sr.Measurement]:
    """Measure the axes first, then what needs no coordinates of its own."""
    mm, mm3 = dicom.UCUM.Millimeter, dicom.UCUM.CubicMillimeter
    axes = (
        (codes.LONG_AXIS, lesion.longest_diameter_mm, lesion.long_axis_mm),
        (codes.SHORT_AXIS, lesion.perpendicular_diameter_mm, lesion.short_axis_mm),
    )
    found = [
        hd.sr.Measurement(
            name,
            round(length_mm, 2),
            mm,
            referenced_coordinates=[drawing.coordinates(lesion, axis_mm)],
        )
        for name, length_mm, axis_mm in axes
    ]
    volume_mm3 = round(lesion.volume_ml * 1000.0, 2)
    method = codes.SEGMENTED_VOXELS
    found.append(hd.sr.Measurement(codes.VOLUME, volume_mm3, mm3, method=method))
    if lesion.diameter_3d_mm is not None:
        length_mm = round(lesion.diameter_3d_mm, 2)
        found.append(hd.sr.Measurement(codes.DIAMETER_3D, length_mm, mm))
    return found


def derived_measurements(
    lesions: Sequence[ReportedLesion], visit: ReportedVisit
) -> hd.sr.ContainerContentItem:
    """Make the container of what is computed from all lesions together."""
    mm, mm3 = dicom.UCUM.Millimeter, dicom.UCUM.CubicMillimeter
    volume_mm3 = round(sum(lesion.volume_ml for lesion in lesions) * 1000.0, 2)
    values: list[tuple[Code, float | None, Code]] = [
        (codes.SUM_OF_DIAMETERS, visit.sum_of_diameters_mm, mm),
        (codes.SUM_OF_VOLUMES, volume_mm3, mm3),
        (codes.CHANGE_FROM_BASELINE, visit.change_from_baseline_percent, _PERCENT),
        (codes.CHANGE_FROM_NADIR, visit.change_from_nadir_percent, _PERCENT),
    ]
    container = hd.sr.ContainerContentItem(
        dicom.DCM.DerivedImagingMeasurements, relationship_type=_CONTAINS
    )
    items = [
        hd.sr.NumContentItem(name, round(value, 2), unit, relationship_type=_CONTAINS)
        for name, value, unit in values
        if value is not None
    ]
    container.ContentSequence = hd.sr.ContentSequence(items)
    return container


def evaluations(visit: ReportedVisit) -> hd.sr.ContainerContentItem:
    """Make the container of what the criteria say, and of what the report is for."""
    items: list[hd.sr.ContentItem] = []
    if visit.assessment is not None:
        items += _assessment(visit.assessment)
    items.append(_text(dicom.DCM.Comment, RESEARCH_NOTICE))
    container = hd.sr.ContainerContentItem(
        codes.QUALITATIVE_EVALUATIONS, relationship_type=_CONTAINS
    )
    container.ContentSequence = hd.sr.ContentSequence(items)
    return container


def _assessment(found: ReportedAssessment) -> list[hd.sr.ContentItem]:
    status = codes.PROPOSED if found.signed_by is None else codes.SIGNED
    version = f"{found.criteria}, {found.rules_version}"
    items: list[hd.sr.ContentItem] = [
        _code(codes.RESPONSE_METHOD, codes.CRITERIA[found.criteria]),
        _text(codes.RULES_VERSION, version),
        _code(codes.CURRENT_RESPONSE, codes.RESPONSES[found.category]),
        _code(codes.ASSESSMENT_STATUS, status),
    ]
    if found.comment:
        items.append(_text(dicom.DCM.Comment, found.comment))
    return items


def _code(name: Code, value: Code) -> hd.sr.CodeContentItem:
    return hd.sr.CodeContentItem(name, value, _CONTAINS)


def _text(name: Code, value: str) -> hd.sr.TextContentItem:
    return hd.sr.TextContentItem(name, value, _CONTAINS)
