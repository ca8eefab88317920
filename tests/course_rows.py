"""Courses of patients as rows in memory, for tests that need no database.

``patient(scan(...), scan(...))`` gives the rows of a patient whose lesions are named by
letters; all visits are registered and all links made, unless a test says otherwise.
Lengths in mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from db.patients import PatientRecord
from db.plans import Plan
from db.registrations import Registration
from db.results import Lesion, Result
from db.tracks import Member, PatientTracks, Track, TrackReading
from db.visits import Visit, VisitReading
from segmentation.followup.course_rows import CourseRows
from tests.contract.sample_rows import make_record
from tests.course_patients import IDENTITY, lesion_of

NOW = datetime(2024, 6, 1, tzinfo=UTC)
PATIENT = "a" * 32


def study(number: int) -> str:
    return f"1.2.{number}"


def finding(number: int, name: str) -> str:
    return f"2.25.{number}{ord(name[0])}{''.join(c for c in name[1:] if c.isdigit())}"


def scan(
    number: int,
    day: str | None = None,
    *,
    reading: Mapping[str, Any] | None = None,
    result: Mapping[str, Any] | None = None,
    time: str | None = None,
    rejected: bool = False,
    **lesions: float | Mapping[str, Any],
) -> Visit:
    """Make a visit: of month `number` of 2024, unless another day is given."""
    uid = study(number)
    made = []
    for place, (name, given) in enumerate(lesions.items(), start=1):
        values = dict(given) if isinstance(given, Mapping) else {"longest_mm": given}
        record = lesion_of(place, finding_uid=finding(number, name), **values)
        made.append(
            Lesion(**vars(record), id=f"{number:016}{place:016}", result_id=uid)
        )
    record = make_record(series_uid=f"{uid}.1", lesions=0)
    known = {
        name: value
        for name, value in vars(record).items()
        if name in Result.__dataclass_fields__
    }
    values = {
        "id": f"{number:032}",
        "study_uid": uid,
        "state": "unverified",
        "version": 1,
        "revision": 1,
        "created_at": NOW,
        "lesions": tuple(made),
        "spacing_mm": (1.0, 0.9, 0.9),
        "slice_thickness_mm": 1.0,
        "signed_by": None,
        "signed_at": None,
    }
    return Visit(
        study_uid=uid,
        study_date=day if day is not None else f"2024{number:02}01",
        study_time=time,
        description=None,
        result=None if rejected else Result(**(known | values | dict(result or {}))),
        result_count=1,
        reading=VisitReading(study_uid=uid, **(reading or {})),
    )


def patient(
    *visits: Visit,
    tracks: Mapping[str, Mapping[str, Any]] | None = None,
    unlinked: tuple[str, ...] = (),
    pending: tuple[tuple[int, str], ...] = (),
    unregistered: tuple[int, ...] = (),
    readings: Mapping[tuple[str, int], Mapping[str, Any]] | None = None,
    plan: Mapping[str, Any] | None = None,
) -> CourseRows:
    """Make the rows of a patient.

    Parameters
    ----------
    tracks : mapping
        What is special about lesions, by name.
    unlinked : tuple of str
        Lesions whose findings belong to no track.
    pending : tuple
        (visit, lesion) whose link waits for the reader.
    unregistered : tuple of int
        Visits that could not be aligned.
    readings : mapping
        By (lesion, visit): what a reader said.
    """
    names: dict[str, str] = {}
    members = []
    for visit in visits:
        number = int(visit.study_uid.rsplit(".", 1)[1])
        lesions = visit.result.lesions if visit.result else ()
        for lesion in lesions:
            name = _name_of(lesion, number)
            if name in unlinked:
                continue
            names.setdefault(name, _track_id(name))
            waits = (number, name) in pending
            members.append(
                Member(
                    visit.study_uid,
                    lesion.finding_uid,
                    _track_id(name),
                    "same",
                    "pending" if waits else "automatic",
                )
            )
    for name in tracks or {}:
        names.setdefault(name, _track_id(name))
    for name, _ in readings or {}:
        names.setdefault(name, _track_id(name))
    made = [_track(name, (tracks or {}).get(name, {})) for name in sorted(names)]
    ordered = tuple(sorted(visits, key=_order))
    first = next((visit.result for visit in ordered if visit.result), None)
    aligned = {
        visit.result.series_uid: _registration(visit.result, first, unregistered)
        for visit in ordered
        if visit.result and first and visit.result is not first
    }
    return CourseRows(
        patient=PatientRecord(PATIENT, "P1", None, "Test^Patient", "19600102", "F"),
        visits=ordered,
        tracks=PatientTracks(
            tuple(made),
            tuple(members),
            tuple(
                _reading(name, number, values)
                for (name, number), values in (readings or {}).items()
            ),
        ),
        registrations=aligned,
        plan=Plan(patient_key=PATIENT, **(plan or {})),
    )


def _name_of(lesion: Lesion, number: int) -> str:
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        for digit in ("", *"123456789"):
            if lesion.finding_uid == finding(number, letter + digit):
                return letter + digit
    raise AssertionError("a lesion is named by a letter, and a digit perhaps")


def _track_id(name: str) -> str:
    return name.encode().hex().rjust(32, "0")


def _track(name: str, special: Mapping[str, Any]) -> Track:
    values = dict(special)
    if "split_from" in values:
        values["split_from"] = _track_id(values["split_from"])
    track = Track(
        id=_track_id(name),
        tracking_uid=f"2.25.9{ord(name[0])}",
        label=name,
        patient_key=PATIENT,
        role=None,
        progressed_since_treatment=None,
        revision=1,
        created_at=NOW,
    )
    return replace(track, **values)


def _reading(name: str, number: int, values: Mapping[str, Any]) -> TrackReading:
    said = dict(values)
    if "into" in said:
        said["into_track_id"] = _track_id(said.pop("into"))
    return TrackReading(
        track_id=_track_id(name),
        study_uid=study(number),
        author="reader",
        updated_at=NOW,
        **said,
    )


def _registration(
    moving: Result, fixed: Result, unregistered: tuple[int, ...]
) -> Registration:
    refused = int(moving.study_uid.rsplit(".", 1)[1]) in unregistered
    return Registration(
        moving.series_uid,
        fixed.series_uid,
        None if refused else IDENTITY,
        0.1 if refused else 0.9,
        not refused,
        "low-agreement" if refused else "",
        "test-1",
        id="c" * 32,
        created_at=NOW,
    )


def _order(visit: Visit) -> tuple[bool, str, str, str]:
    day = visit.study_date or ""
    return not day, day, visit.study_time or "", visit.study_uid


def day(number: int) -> date:
    """The day of a visit that was given none."""
    return date(2024, number, 1)
