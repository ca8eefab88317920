"""The four tables of the former follow-up page: patients, studies, series, lesions.

Made of the results that count, without lesions that a reader rejected, and of what the
former system had measured itself. A patient goes by the PatientID, or by the key of the
row where that is missing or not unique. Functions take a ``Session`` and only read.
Diameters in mm, volumes in cm3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from db.engine import Session
from db.historical import HistoricalMeasurement, list_historical
from db.outlines import Outline, followed_patients, outlines_of_results
from db.patients import PatientRecord
from db.results import Result
from db.visits import (
    Visit,
    iterate_followed,
    iterate_visits,
    load_visit,
    load_visits,
)
from segmentation.followup.course_rows import live_lesions
from segmentation.legacy.regions import find_shown
from segmentation.legacy.shapes import (
    colour_text,
    date_text,
    lesion_number,
    patient_number,
)

Row = dict[str, Any]


@dataclass(frozen=True)
class _Study:
    """A study that the page lists."""

    uid: str
    patient_key: str
    date: str | None


def list_patients(session: Session) -> list[Row]:
    """List all patients with a result or a measurement of the former system."""
    patients = followed_patients(session)
    shown = _shown_ids(patients)
    return [
        {
            "id": patient_number(shown[one.id]),
            "name": one.name,
            "date": date_text(one.birth_date),
            "sexe": one.sex,
        }
        for one in patients
    ]


def list_studies(session: Session, patient_id: str | None) -> list[Row]:
    """List the studies of a patient, by date; of all patients where none is named."""
    shown = _shown_ids(followed_patients(session))
    if patient_id is None:
        studies = _unique(_all_studies(session))
        return [
            {
                "id_study": one.uid,
                "id": patient_number(shown[one.patient_key]),
                "date": date_text(one.date),
            }
            for one in studies
            if one.patient_key in shown
        ]
    keys = [key for key, one in shown.items() if one == patient_id]
    return [
        {"id_study": one.uid, "date": date_text(one.date)}
        for key in keys
        for one in _unique(_studies_of(session, key))
    ]


def list_series(session: Session, study_uid: str | None) -> list[Row]:
    """List the series of outlines of a study, or of all."""
    shown: dict[str, tuple[str, str | None]]
    if study_uid is None:
        shown = {
            one.result_id: (one.study_uid, one.segmentation_series_uid)
            for one in iterate_followed(session)
            if one.result_id
        }
    else:
        shown = {
            one.id: (one.study_uid, one.segmentation_series_uid)
            for one in _results(session, study_uid)
        }
    outlines = outlines_of_results(session, shown)
    found = [
        (series_uid, uid)
        for result_id, (uid, segmentation) in shown.items()
        if (series_uid := _series_of(segmentation, outlines.get(result_id, ())))
    ]
    former = list_historical(session, study_uid=study_uid)
    found += dict.fromkeys((one.series_uid, one.study_uid) for one in former)
    return [
        {"series_instance_uid": series_uid, "study_instance_uid": uid}
        for series_uid, uid in found
    ]


def list_lesions(session: Session, series_uid: str | None) -> list[Row]:
    """List the lesions of a series of outlines, or of all series."""
    if series_uid is None:
        results = _results(session, None)
        former = list_historical(session)
    else:
        shown = find_shown(session, series_uid)
        results = [shown.newest] if shown and shown.newest.state != "rejected" else []
        former = list_historical(session, series_uid=series_uid)
    outlines = outlines_of_results(session, (one.id for one in results))
    rows = [
        row for one in results for row in _lesions_of(one, outlines.get(one.id, ()))
    ]
    rows += map(_former_lesion, former)
    if series_uid is not None:
        for row in rows:
            del row["series_instance_uid"]
    return rows


def _shown_ids(patients: Iterable[PatientRecord]) -> dict[str, str]:
    """Give the id by which each patient is shown and asked for, by key."""
    patients = list(patients)
    counts = Counter(one.patient_id for one in patients)
    return {
        one.id: one.patient_id
        if one.patient_id is not None and counts[one.patient_id] == 1
        else one.id
        for one in patients
    }


def _studies_of(session: Session, patient_key: str) -> Iterator[_Study]:
    for visit in load_visits(session, patient_key):
        yield _Study(visit.study_uid, patient_key, visit.study_date)
    for former in list_historical(session, patient_key=patient_key):
        yield _Study(former.study_uid, former.patient_key, former.study_date)


def _all_studies(session: Session) -> Iterator[_Study]:
    for one in iterate_followed(session):
        yield _Study(one.study_uid, one.patient_key, one.study_date)
    for former in list_historical(session):
        yield _Study(former.study_uid, former.patient_key, former.study_date)


def _unique(studies: Iterable[_Study]) -> list[_Study]:
    """Keep the first of each study: what the images say comes before."""
    found: dict[str, _Study] = {}
    for one in studies:
        found.setdefault(one.uid, one)
    return sorted(found.values(), key=lambda one: (one.date or "9", one.uid))


def _results(session: Session, study_uid: str | None) -> list[Result]:
    """Give the results that count: of a study, or of all."""
    visits: Iterable[Visit | None]
    if study_uid is None:
        visits = (visit for _, visit in iterate_visits(session))
    else:
        visits = [load_visit(session, study_uid)]
    return [visit.result for visit in visits if visit and visit.result]


def _series_of(
    segmentation_series_uid: str | None, outlines: tuple[Outline, ...]
) -> str | None:
    """Name the series a result is shown as: its RTSTRUCT, else its segmentation."""
    return outlines[0].series_uid if outlines else segmentation_series_uid


def _lesions_of(result: Result, outlines: tuple[Outline, ...]) -> Iterator[Row]:
    drawn = {one.finding_uid: one for one in outlines}
    series_uid = _series_of(result.segmentation_series_uid, outlines)
    for finding_uid, lesion in live_lesions(result).items():
        outline = drawn.get(finding_uid)
        yield {
            "id": lesion_number(lesion.id),
            "roiNumber": outline.roi_number if outline else lesion.segment_number,
            "series_instance_uid": series_uid,
            "nom_metastase": lesion.name,
            "volume": lesion.volume_ml,
            "diametre": lesion.longest_diameter_mm,
            "slice_debut": outline.first_slice if outline else None,
            "slice_fin": outline.last_slice if outline else None,
            "color": colour_text(lesion.colour),
        }


def _former_lesion(former: HistoricalMeasurement) -> Row:
    return {
        "id": former.id,
        "roiNumber": former.roi_number,
        "series_instance_uid": former.series_uid,
        "nom_metastase": former.name,
        "volume": former.volume_ml,
        "diametre": former.diameter_mm,
        "slice_debut": former.first_slice,
        "slice_fin": former.last_slice,
        "color": colour_text(former.colour),
    }
