"""The plan of a patient's follow-up, and what happened to the patient meanwhile.

The plan says by which rules and from which baseline responses are judged; one a
patient. Events (a treatment, an operation) are for the time line and are taken back one
by one. Dates are days without time zone. Functions take a ``Session``.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.engine import database_time
from db.models import CourseEventRow, CoursePlanRow, StudyRow, TrackRow
from db.patients import lock_patient, touch
from errors import MetiaError

DEFAULT_RULE_SET = "rano-bm"


@dataclass(frozen=True)
class PlanRecord:
    """A plan, as it is given to be recorded.

    Attributes
    ----------
    baseline_study_uid : str or None
        None: chosen by the rules.
    protocol : mapping
        Switches that differ from the rule set's defaults, by name.
    resets : tuple of mapping
        Visits from which the comparison starts anew: ``study_uid`` and ``reason``.
    """

    treatment_start: datetime.date | None = None
    immunotherapy_start: datetime.date | None = None
    baseline_study_uid: str | None = None
    rule_set: str = DEFAULT_RULE_SET
    protocol: Mapping[str, Any] = field(default_factory=dict)
    resets: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan(PlanRecord):
    """A recorded plan; revision 0 is the default one, where nothing was recorded."""

    patient_key: str
    revision: int = 0
    author: str | None = None
    updated_at: datetime.datetime | None = None


@dataclass(frozen=True)
class EventRecord:
    """Something that happened on a day, as it is given to be recorded.

    Attributes
    ----------
    kind : str
        Such as ``radiosurgery`` or ``systemic_therapy``.
    track_id : str or None
        The lesion it was done to; None: to the patient.
    """

    date: datetime.date
    kind: str
    text: str = ""
    track_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Event(EventRecord):
    """A recorded event."""

    id: str
    patient_key: str
    author: str
    created_at: datetime.datetime


def get_plan(session: Session, patient_key: str) -> Plan:
    """Read the plan of a patient, or the default one (revision 0)."""
    row = session.get(CoursePlanRow, patient_key)
    return Plan(patient_key=patient_key) if row is None else _plan(row)


def save_plan(
    session: Session,
    patient_key: str,
    record: PlanRecord,
    *,
    expected_revision: int,
    by: str,
) -> Plan:
    """Record the plan of a patient in place of the former.

    Raises
    ------
    MetiaError
        ``not-found``; ``edit-conflict`` with ``current_revision``; ``invalid-input``
        where the baseline or a reset is no study of this patient.
    """
    lock_patient(session, patient_key)
    row = session.get(CoursePlanRow, patient_key, populate_existing=True)
    current = row.revision if row is not None else 0
    if current != expected_revision:
        raise MetiaError(
            "edit-conflict",
            "The plan was changed meanwhile.",
            {"current_revision": current},
        )
    named = {reset["study_uid"] for reset in record.resets}
    if record.baseline_study_uid is not None:
        named.add(record.baseline_study_uid)
    _require_own_studies(session, patient_key, named)
    now = database_time(session)
    if row is None:
        row = CoursePlanRow(patient_key=patient_key)
        session.add(row)
    row.treatment_start = record.treatment_start
    row.immunotherapy_start = record.immunotherapy_start
    row.baseline_study_uid = record.baseline_study_uid
    row.rule_set = record.rule_set
    row.protocol = dict(record.protocol)
    row.resets = [dict(reset) for reset in record.resets]
    row.revision = current + 1
    row.author = by
    row.updated_at = now
    session.flush()
    touch(session, patient_key)
    return _plan(row)


def list_events(session: Session, patient_key: str) -> tuple[Event, ...]:
    """List the events of a patient, by date."""
    query = (
        select(CourseEventRow)
        .where(CourseEventRow.patient_key == patient_key)
        .order_by(CourseEventRow.date, CourseEventRow.created_at, CourseEventRow.id)
    )
    return tuple(_event(row) for row in session.scalars(query))


def add_event(
    session: Session, patient_key: str, record: EventRecord, *, by: str
) -> Event:
    """Record an event.

    Raises
    ------
    MetiaError
        ``not-found``; ``invalid-input`` for a lesion of another patient.
    """
    lock_patient(session, patient_key)
    if record.track_id is not None:
        track = session.get(TrackRow, record.track_id)
        if track is None or track.patient_key != patient_key:
            raise MetiaError("invalid-input", "The lesion is not one of this patient.")
    row = CourseEventRow(
        id=uuid.uuid4().hex,
        patient_key=patient_key,
        date=record.date,
        kind=record.kind,
        text=record.text,
        track_id=record.track_id,
        author=by,
        created_at=database_time(session),
    )
    session.add(row)
    session.flush()
    touch(session, patient_key)
    return _event(row)


def delete_event(session: Session, patient_key: str, event_id: str) -> Event:
    """Take an event back; gives what it was.

    Raises
    ------
    MetiaError
        ``not-found`` where the patient has no such event.
    """
    lock_patient(session, patient_key)
    row = session.get(CourseEventRow, event_id)
    if row is None or row.patient_key != patient_key:
        raise MetiaError("not-found", "The patient has no event of this id.")
    event = _event(row)
    session.delete(row)
    session.flush()
    touch(session, patient_key)
    return event


def _require_own_studies(
    session: Session, patient_key: str, study_uids: set[str]
) -> None:
    own = session.scalars(
        select(StudyRow.study_uid).where(
            StudyRow.patient_key == patient_key, StudyRow.study_uid.in_(study_uids)
        )
    )
    if study_uids - set(own):
        raise MetiaError("invalid-input", "A study is not one of this patient.")


def _plan(row: CoursePlanRow) -> Plan:
    values = {item.name: getattr(row, item.name) for item in fields(Plan)}
    return Plan(**(values | {"resets": tuple(row.resets)}))


def _event(row: CourseEventRow) -> Event:
    return Event(**{item.name: getattr(row, item.name) for item in fields(Event)})
