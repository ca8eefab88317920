"""Structured reports of the measurements of one visit (TID 1500).

``build_report`` promises a report that dciodvfy finds no error in, that dcmqi reads and
that stock OHIF draws: axes on the images they were measured on (SCOORD, Comprehensive
SR) or, where they cross the images, in space (SCOORD3D, Comprehensive 3D SR). The title
is 126000, the only one OHIF reads. UNVERIFIED and PRELIMINARY unless a named reader
signed the assessment it holds. Every UID derives from the content: the same content
makes the same report but for dates and times. Pure and safe between threads; called by
``segmentation.exports`` and tests. Lengths mm, points LPS.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dicom

from orthanc.volume import LoadedSeries
from segmentation.dicom import codes
from segmentation.dicom.source_planes import WHOSE_AND_WHEN, patient_and_study
from segmentation.dicom.sr_content import (
    ReportAlgorithm,
    ReportedAssessment,
    ReportedLesion,
    ReportedVisit,
    derived_measurements,
    evaluations,
    imaging_measurements,
    needs_3d,
)
from segmentation.dicom.uids import derive_uid
from settings import VERSION

__all__ = [
    "ReportAlgorithm",
    "ReportedAssessment",
    "ReportedLesion",
    "ReportedVisit",
    "build_report",
]

MANUFACTURER = "MetIA"
_SERIES_NUMBERS_FROM = 9400
_IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
_LONG = 64

# At INFO highdicom logs the UIDs of what it reads: patient data, in a log.
logging.getLogger("highdicom").setLevel(logging.WARNING)


def build_report(
    source: LoadedSeries,
    segmentation: Dataset | None,
    lesions: Sequence[ReportedLesion],
    visit: ReportedVisit,
    algorithm: ReportAlgorithm | None,
) -> Dataset:
    """Build the report of one visit.

    Parameters
    ----------
    source : LoadedSeries
        The series that was measured; pixels are not needed.
    segmentation : pydicom.Dataset or None
        The SEG whose segments are the lesions; None where there is no lesion.
    lesions : Sequence of ReportedLesion
        Without those a reader rejected. May be empty: the report then says so.
    visit : ReportedVisit
        Its place in the course, the sum of diameters and the assessment, as far as
        known.
    algorithm : ReportAlgorithm or None
        What made the outlines; None where a reader did, from the start.

    Returns
    -------
    pydicom.dataset.Dataset
        With file meta information.

    Raises
    ------
    ValueError
        If two lesions share a tracking UID, or one lies on an image that is none of
        `source`.
    """
    _check(lesions, source)
    digest = _digest(source, segmentation, lesions, visit, algorithm)
    evidence = [_stand_in(image) for image in source.source_images]
    if segmentation is not None:
        evidence.append(_stand_in(segmentation))
    groups = imaging_measurements(lesions, visit, algorithm, source, segmentation)
    kind = hd.sr.Comprehensive3DSR if needs_3d(groups) else hd.sr.ComprehensiveSR
    first = source.source_images[0]
    now = datetime.now().astimezone()
    signer = _signer(visit)
    report = kind(
        evidence=evidence,
        content=_content(groups, lesions, visit)[0],
        series_instance_uid=derive_uid("sr-series", digest),
        series_number=_SERIES_NUMBERS_FROM + _number(first),
        sop_instance_uid=derive_uid("sr-instance", digest),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=signer is not None,
        is_verified=signer is not None,
        verifying_observer_name=signer,
        verifying_organization=_organization(first) if signer else None,
        specific_character_set="ISO_IR 192",
        manufacturer_model_name="MetIA",
        software_versions=VERSION,
        series_description="MetIA measurements, research use only",
        content_date=now.date(),
        content_time=now.time(),
        series_date=now.date(),
        series_time=now.time(),
    )
    report.copy_patient_and_study_information(patient_and_study(first))
    _say_when_verified(report, visit)
    report.CodingSchemeIdentificationSequence = [_own_scheme()]
    return report


def _check(lesions: Sequence[ReportedLesion], source: LoadedSeries) -> None:
    uids = [lesion.tracking_uid for lesion in lesions]
    if len(set(uids)) != len(uids):
        raise ValueError("two lesions of a visit have the same tracking UID")
    images = {(one.sop_instance_uid, one.frame_number) for one in source.slices}
    if any((one.sop_instance_uid, one.frame_number) not in images for one in lesions):
        raise ValueError("a lesion lies on an image that is not of the series")


def _digest(
    source: LoadedSeries,
    segmentation: Dataset | None,
    lesions: Sequence[ReportedLesion],
    visit: ReportedVisit,
    algorithm: ReportAlgorithm | None,
) -> str:
    """Return a text that changes with everything the report says."""
    return json.dumps(
        [
            str(source.source_images[0].SeriesInstanceUID),
            [slice_.sop_instance_uid for slice_ in source.slices],
            str(segmentation.SOPInstanceUID) if segmentation is not None else None,
            [asdict(lesion) for lesion in lesions],
            asdict(visit),
            asdict(algorithm) if algorithm else None,
            VERSION,
        ],
        sort_keys=True,
        default=str,
    )


def _stand_in(image: Dataset) -> Dataset:
    """Make a header of `image` that holds no patient data.

    highdicom warns with the patient's name in the text.
    """
    header = Dataset()
    for keyword in WHOSE_AND_WHEN:
        setattr(header, keyword, "")
    for keyword in _IDENTITY:
        header.add(image[keyword])
    return header


def _content(
    groups: list[hd.sr.MeasurementsAndQualitativeEvaluations],
    lesions: Sequence[ReportedLesion],
    visit: ReportedVisit,
) -> hd.sr.MeasurementReport:
    report = hd.sr.MeasurementReport(
        observation_context=_observers(visit),
        procedure_reported=dicom.LN.MRIUnspecifiedBodyRegion,
        imaging_measurements=groups or [_nothing()],
        title=dicom.DCM.ImagingMeasurementReport,
    )
    items = report[0].ContentSequence
    if not groups:
        # A group without lesion would blank OHIF; the other containers say enough.
        del items[-1]
    items.append(derived_measurements(lesions, visit))
    items.append(evaluations(visit))
    return report


def _nothing() -> hd.sr.MeasurementsAndQualitativeEvaluations:
    """Make the empty group that highdicom insists on; it is taken out again."""
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        hd.sr.TrackingIdentifier(derive_uid("no-lesion"), "no lesion")
    )


def _observers(visit: ReportedVisit) -> hd.sr.ObservationContext:
    device = hd.sr.ObserverContext(
        dicom.DCM.Device,
        hd.sr.DeviceObserverIdentifyingAttributes(
            uid=derive_uid("device", VERSION),
            name="MetIA",
            manufacturer_name=MANUFACTURER,
            model_name=f"MetIA {VERSION}",
        ),
    )
    name = _signer(visit) or _person_name(visit.author)
    if name is None:
        return hd.sr.ObservationContext(observer_device_context=device)
    person = hd.sr.ObserverContext(
        dicom.DCM.Person, hd.sr.PersonObserverIdentifyingAttributes(name)
    )
    return hd.sr.ObservationContext(
        observer_person_context=person, observer_device_context=device
    )


def _signer(visit: ReportedVisit) -> str | None:
    assessment = visit.assessment
    return _person_name(assessment.signed_by) if assessment else None


def _person_name(name: str | None) -> str | None:
    """Write a name as a DICOM person name (PS3.5 6.2.1): last word, caret, the rest."""
    plain = "".join(" " if char in "\\=^" else char for char in name or "")
    words = plain.split()
    if not words:
        return None
    return f"{words[-1]}^{' '.join(words[:-1])}"[:_LONG]


def _organization(image: Dataset) -> str:
    """Name whoever stands behind the signer: Type 1, so never empty."""
    return str(image.get("InstitutionName") or "")[:_LONG].strip() or "Not stated"


def _say_when_verified(report: Dataset, visit: ReportedVisit) -> None:
    """Give the moment of the signature; highdicom would say now."""
    assessment = visit.assessment
    if assessment is None or assessment.signed_at is None:
        return
    if report.VerificationFlag == "VERIFIED":
        moment = assessment.signed_at.strftime("%Y%m%d%H%M%S%z")
        report.VerifyingObserverSequence[0].VerificationDateTime = moment


def _own_scheme() -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = codes.OWN_SCHEME
    item.CodingSchemeName = "MetIA codes of what no standard scheme has a code for"
    item.CodingSchemeResponsibleOrganization = "MetIA"
    return item


def _number(image: Dataset) -> int:
    return max(min(int(image.get("SeriesNumber") or 0), 1_000_000), 0)
