"""Signed assessments: what a reader put a name to, with everything it was made from.

They are added and never changed (the database refuses it); a later one of the same
visit and rule set supersedes the one before, in a line. The hash of the inputs tells
whether one still fits the data. Functions take a ``Session``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from db.engine import database_time
from db.models import AssessmentRow
from db.patients import key_of_study, lock_patient, touch
from errors import MetiaError


@dataclass(frozen=True)
class AssessmentSummary:
    """A signed assessment without the documents.

    Attributes
    ----------
    proposed_category, category : str
        What the rules proposed, and what the reader signed.
    inputs_sha256 : str
        Over everything it was made from, hexadecimal.
    supersedes_id : str or None
        The one it replaces.
    """

    id: str
    patient_key: str
    study_uid: str
    rule_set: str
    rules_version: str
    proposed_category: str
    category: str
    comment: str
    inputs_sha256: str
    supersedes_id: str | None
    signed_by: str
    signed_at: datetime


@dataclass(frozen=True)
class Assessment(AssessmentSummary):
    """A signed assessment.

    Attributes
    ----------
    case_json, document_json : dict
        The case as the rules got it, and their whole answer.
    """

    case_json: dict[str, Any]
    document_json: dict[str, Any]


@dataclass(frozen=True)
class AssessmentRecord:
    """An assessment, as it is given to be signed; see `Assessment`."""

    study_uid: str
    rule_set: str
    rules_version: str
    proposed_category: str
    category: str
    comment: str
    case_json: Mapping[str, Any]
    document_json: Mapping[str, Any]
    inputs_sha256: str


def sign_assessment(
    session: Session, record: AssessmentRecord, *, by: str
) -> Assessment:
    """Add a signed assessment; it supersedes the present one of visit and rule set.

    Raises
    ------
    MetiaError
        ``not-found`` where the study is not known; ``conflict`` where a value breaks a
        rule.
    """
    patient_key = key_of_study(session, record.study_uid)
    lock_patient(session, patient_key)
    present = latest_assessment(session, record.study_uid, record.rule_set)
    row = AssessmentRow(
        id=uuid.uuid4().hex,
        patient_key=patient_key,
        supersedes_id=present.id if present else None,
        signed_by=by,
        signed_at=database_time(session),
        **{item.name: getattr(record, item.name) for item in fields(record)},
    )
    row.case_json = dict(record.case_json)
    row.document_json = dict(record.document_json)
    session.add(row)
    session.flush()
    touch(session, patient_key)
    return _assessment(row)


def latest_assessment(
    session: Session, study_uid: str, rule_set: str
) -> AssessmentSummary | None:
    """Give the assessment of a visit that no other supersedes."""
    chain = [
        one for one in list_assessments(session, study_uid) if one.rule_set == rule_set
    ]
    superseded = {one.supersedes_id for one in chain}
    return next((one for one in chain if one.id not in superseded), None)


def list_assessments(session: Session, study_uid: str) -> tuple[AssessmentSummary, ...]:
    """List all assessments of a visit, newest first."""
    return _list(session, AssessmentRow.study_uid == study_uid)


def latest_of_patient(
    session: Session, patient_key: str
) -> dict[tuple[str, str], AssessmentSummary]:
    """Give the present assessments of a patient, by study and rule set."""
    found = _list(session, AssessmentRow.patient_key == patient_key)
    superseded = {one.supersedes_id for one in found}
    return {
        (one.study_uid, one.rule_set): one for one in found if one.id not in superseded
    }


def get_assessment(session: Session, assessment_id: str) -> Assessment:
    """Read one assessment with its documents; ``not-found`` where there is none."""
    row = session.get(AssessmentRow, assessment_id)
    if row is None:
        raise MetiaError("not-found", "There is no assessment of this id.")
    return _assessment(row)


def _list(
    session: Session, condition: ColumnElement[bool]
) -> tuple[AssessmentSummary, ...]:
    columns = [getattr(AssessmentRow, item.name) for item in fields(AssessmentSummary)]
    query = (
        select(*columns)
        .where(condition)
        .order_by(AssessmentRow.signed_at.desc(), AssessmentRow.id)
    )
    return tuple(AssessmentSummary(*row) for row in session.execute(query))


def _assessment(row: AssessmentRow) -> Assessment:
    return Assessment(
        **{item.name: getattr(row, item.name) for item in fields(Assessment)}
    )
