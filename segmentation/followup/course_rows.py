"""Loads everything the course of a patient rests on, in a fixed number of queries.

The number does not grow with visits or lesions, so that a long course costs no more
round trips than a short one. Reads only; takes a ``Session`` and sees one moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from db.assessments import AssessmentSummary, latest_of_patient
from db.engine import Session
from db.links import Decision, list_decisions
from db.patients import PatientRecord, get_patient
from db.plans import Event, Plan, get_plan, list_events
from db.registrations import Registration, list_registrations
from db.results import Lesion, Result
from db.tracks import PatientTracks, load_tracks
from db.visits import Visit, load_visits


@dataclass(frozen=True)
class CourseRows:
    """What is recorded of a patient.

    Attributes
    ----------
    visits : tuple of Visit
        By date and time, those without a date last.
    decisions : tuple of Decision
        Those about links that are in force, oldest first.
    registrations : dict
        Into the series of the earliest visit, by moving series.
    signed : dict
        The standing signatures, by study and rule set.
    """

    patient: PatientRecord
    visits: tuple[Visit, ...]
    tracks: PatientTracks
    registrations: dict[str, Registration]
    plan: Plan
    decisions: tuple[Decision, ...] = ()
    events: tuple[Event, ...] = ()
    signed: Mapping[tuple[str, str], AssessmentSummary] = field(default_factory=dict)

    @property
    def reference(self) -> Visit | None:
        """The visit to which all others are aligned."""
        return reference_visit(self.visits)


def reference_visit(visits: tuple[Visit, ...]) -> Visit | None:
    """Give the earliest visit with a result; None where there is none."""
    return next((visit for visit in visits if visit.result is not None), None)


def live_lesions(result: Result | None) -> dict[str, Lesion]:
    """Give the lesions of a result that count, by finding UID."""
    if result is None:
        return {}
    return {
        lesion.finding_uid: lesion
        for lesion in result.lesions
        if lesion.review != "rejected"
    }


def load_course(session: Session, patient_key: str) -> CourseRows:
    """Read a patient's course.

    Raises
    ------
    MetiaError
        ``not-found`` where there is no such patient.
    """
    patient = get_patient(session, patient_key)
    visits = load_visits(session, patient_key)
    reference = reference_visit(visits)
    series = [visit.result.series_uid for visit in visits if visit.result is not None]
    fixed = reference.result if reference else None
    return CourseRows(
        patient=patient,
        visits=visits,
        tracks=load_tracks(session, patient_key),
        registrations=(
            list_registrations(session, fixed.series_uid, series) if fixed else {}
        ),
        plan=get_plan(session, patient_key),
        decisions=list_decisions(session, patient_key),
        events=list_events(session, patient_key),
        signed=latest_of_patient(session, patient_key),
    )
