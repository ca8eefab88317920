"""What readers decided about which lesion is which: rows undone, never changed.

A decision speaks of a finding (a lesion of a visit, over all its versions). Those in
force are an input of the recomputing of tracks. Functions take a ``Session``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.engine import database_time
from db.models import LinkDecisionRow, StudyRow, TrackRow
from db.patients import touch
from errors import MetiaError


@dataclass(frozen=True)
class DecisionRecord:
    """A reader's decision about a finding.

    Attributes
    ----------
    action : {'link', 'new', 'unlink', 'confirm'}
    track_id : str or None
        Required by ``link``.
    """

    study_uid: str
    finding_uid: str
    action: str
    track_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Decision(DecisionRecord):
    """A recorded decision; `undone_by` is set once it was taken back."""

    id: int
    patient_key: str
    by: str
    at: datetime
    undone_by: str | None
    undone_at: datetime | None


def list_decisions(
    session: Session, patient_key: str, *, with_undone: bool = False
) -> tuple[Decision, ...]:
    """List the decisions about a patient's findings, oldest first."""
    query = select(LinkDecisionRow).where(LinkDecisionRow.patient_key == patient_key)
    if not with_undone:
        query = query.where(LinkDecisionRow.undone_at.is_(None))
    rows = session.scalars(query.order_by(LinkDecisionRow.id))
    return tuple(map(_decision, rows))


def add_decision(
    session: Session, patient_key: str, record: DecisionRecord, *, by: str
) -> Decision:
    """Add a decision.

    Raises
    ------
    MetiaError
        ``invalid-input`` for a visit or track of another patient, or a link to none.
    """
    touch(session, patient_key)
    study = session.get(StudyRow, record.study_uid)
    if study is None or study.patient_key != patient_key:
        raise MetiaError("invalid-input", "The visit is not one of this patient.")
    if record.action == "link" and record.track_id is None:
        raise MetiaError("invalid-input", "A link needs the lesion to link to.")
    if record.track_id is not None:
        track = session.get(TrackRow, record.track_id)
        if track is None or track.patient_key != patient_key:
            raise MetiaError("invalid-input", "The lesion is not one of this patient.")
    row = LinkDecisionRow(
        patient_key=patient_key,
        by=by,
        at=database_time(session),
        **{item.name: getattr(record, item.name) for item in fields(record)},
    )
    session.add(row)
    session.flush()
    return _decision(row)


def undo_last_decision(session: Session, patient_key: str, *, by: str) -> Decision:
    """Take back the last decision in force; repeated, the one before it.

    Raises
    ------
    MetiaError
        ``conflict`` where none is in force.
    """
    touch(session, patient_key)
    now = database_time(session)
    row = session.scalar(
        select(LinkDecisionRow)
        .where(
            LinkDecisionRow.patient_key == patient_key,
            LinkDecisionRow.undone_at.is_(None),
        )
        .order_by(LinkDecisionRow.id.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise MetiaError("conflict", "There is no decision to undo.")
    row.undone_by = by
    row.undone_at = now
    session.flush()
    return _decision(row)


def _decision(row: LinkDecisionRow) -> Decision:
    return Decision(**{item.name: getattr(row, item.name) for item in fields(Decision)})
