"""The visits of a patient: studies with results, each with its current one.

Of a visit one result counts: the one a reader selected, else the newest that a reader
made or touched, else the newest of a model; superseded versions and rejected results
never do. ``load_visits`` reads a whole patient in a handful of queries, whatever the
number of visits. Functions take a ``Session``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.engine import database_time
from db.models import ResultRow, SeriesRow, StudyRow, VisitReadingRow
from db.patients import key_of_study, touch
from db.results import Result, get_results
from errors import MetiaError


@dataclass(frozen=True)
class VisitReadingRecord:
    """What a reader says of a visit; words are those of ``segmentation.followup.case``.

    Attributes
    ----------
    steroid_change : str or None
        None: to be derived from the doses.
    steroid_dose_tenths_mg : int or None
        Dexamethasone equivalent a day.
    non_target : str or None
        None: to be derived from the lesions.
    """

    steroid_use: str = "not_recorded"
    steroid_change: str | None = None
    steroid_dose_tenths_mg: int | None = None
    clinical: str = "not_recorded"
    non_target: str | None = None
    technique_changed: bool = False
    extracranial_response: str = "not_recorded"
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class VisitReading(VisitReadingRecord):
    """A recorded reading.

    Attributes
    ----------
    selected_result_id : str or None
        The result a reader chose for this visit.
    revision : int
        0 where nothing was recorded yet.
    """

    study_uid: str
    selected_result_id: str | None = None
    revision: int = 0
    author: str | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True)
class Visit:
    """One visit.

    Attributes
    ----------
    study_date, study_time : str or None
        DICOM's DA and TM texts.
    result : Result or None
        The current one; None where every result is rejected.
    result_count : int
        Of all versions and models.
    reading : VisitReading
        The default one (revision 0) where nothing was recorded.
    """

    study_uid: str
    study_date: str | None
    study_time: str | None
    description: str | None
    result: Result | None
    result_count: int
    reading: VisitReading


@dataclass(frozen=True)
class Candidate:
    """As much of a result as choosing the current one needs."""

    id: str
    study_uid: str
    predecessor_id: str | None
    origin: str
    state: str
    created_at: datetime


def load_visits(session: Session, patient_key: str) -> tuple[Visit, ...]:
    """Read all visits of a patient, by date and time; undated ones last."""
    studies = session.scalars(
        select(StudyRow).where(StudyRow.patient_key == patient_key)
    ).all()
    return _visits(session, studies)


def load_visit(session: Session, study_uid: str) -> Visit | None:
    """Read one visit; None where the study has no result."""
    study = session.get(StudyRow, study_uid)
    found = _visits(session, [study]) if study is not None else ()
    return found[0] if found else None


@dataclass(frozen=True)
class Followed:
    """A visit as a list of everybody's shows it.

    Attributes
    ----------
    study_date : str or None
        DICOM's DA text.
    result_id, segmentation_series_uid : str or None
        Of the current result.
    """

    patient_key: str
    study_uid: str
    study_date: str | None
    result_id: str | None
    segmentation_series_uid: str | None


def iterate_followed(session: Session) -> Iterator[Followed]:
    """List everybody's visits, without reading any lesion."""
    query = select(StudyRow).order_by(StudyRow.patient_key, StudyRow.study_uid)
    for studies in session.scalars(query).partitions(_STUDIES_AT_ONCE):
        _, _, chosen = _chosen(session, [study.study_uid for study in studies])
        columns = select(ResultRow.id, ResultRow.segmentation_series_uid).where(
            ResultRow.id.in_([key for key in chosen.values() if key])
        )
        stored = {key: series_uid for key, series_uid in session.execute(columns)}
        for study in studies:
            if study.study_uid in chosen:
                result_id = chosen[study.study_uid]
                yield Followed(
                    study.patient_key,
                    study.study_uid,
                    study.study_date,
                    result_id,
                    stored.get(result_id or ""),
                )


def iterate_visits(session: Session) -> Iterator[tuple[str, Visit]]:
    """Read everybody's visits, many at once; each with the key of its patient."""
    query = select(StudyRow).order_by(StudyRow.patient_key, StudyRow.study_uid)
    for studies in session.scalars(query).partitions(_STUDIES_AT_ONCE):
        keys = {study.study_uid: study.patient_key for study in studies}
        for visit in _visits(session, studies):
            yield keys[visit.study_uid], visit


_STUDIES_AT_ONCE = 500


def current_result_id(
    candidates: Iterable[Candidate], selected_id: str | None = None
) -> str | None:
    """Choose the result that counts among those of one visit.

    A selected version that was edited since stands for its newest version.

    Parameters
    ----------
    candidates : iterable of Candidate
    selected_id : str, optional
        What a reader selected.

    Returns
    -------
    str or None
        None where all are rejected.
    """
    known = {one.id: one for one in candidates}
    successor = {
        one.predecessor_id: one.id for one in known.values() if one.predecessor_id
    }
    if selected_id in known:
        while selected_id in successor:
            selected_id = successor[selected_id]
        if selected_id is not None and known[selected_id].state != "rejected":
            return selected_id
    heads = [
        one
        for one in known.values()
        if one.id not in successor and one.state != "rejected"
    ]
    if not heads:
        return None
    return max(heads, key=lambda one: (_is_readers(one), one.created_at, one.id)).id


def _is_readers(one: Candidate) -> bool:
    return one.origin != "model" or one.state in {"accepted", "edited", "signed"}


def get_reading(session: Session, study_uid: str) -> VisitReading:
    """Read what was recorded of a visit, or the default (revision 0)."""
    row = session.get(VisitReadingRow, study_uid)
    return VisitReading(study_uid=study_uid) if row is None else _reading(row)


def save_reading(
    session: Session,
    study_uid: str,
    record: VisitReadingRecord,
    *,
    expected_revision: int,
    by: str,
) -> VisitReading:
    """Record what a reader says of a visit; what was selected stays.

    Parameters
    ----------
    session : Session
    study_uid : str
    record : VisitReadingRecord
    expected_revision : int
        The one the reader saw; 0 where nothing was recorded.
    by : str
        Name of the user.

    Raises
    ------
    MetiaError
        ``not-found`` where the study is not known; ``edit-conflict`` with
        ``current_revision``; ``conflict`` where a value breaks a rule.
    """
    row = _hold_reading(session, study_uid, expected_revision, by)
    for item in fields(record):
        setattr(row, item.name, getattr(record, item.name))
    session.flush()
    return _reading(row)


def select_result(
    session: Session,
    study_uid: str,
    result_id: str | None,
    *,
    expected_revision: int,
    by: str,
) -> VisitReading:
    """Choose the result that counts at a visit; None leaves it to the rule.

    Raises
    ------
    MetiaError
        As `save_reading`; ``invalid-input`` for a result of another visit.
    """
    if result_id is not None and result_id not in {
        one.id for one in _candidates(session, [study_uid])
    }:
        raise MetiaError("invalid-input", "The result is not one of this visit.")
    row = _hold_reading(session, study_uid, expected_revision, by)
    row.selected_result_id = result_id
    session.flush()
    return _reading(row)


def _chosen(
    session: Session, study_uids: Sequence[str]
) -> tuple[dict[str, list[Candidate]], dict[str, VisitReading], dict[str, str | None]]:
    """Give candidates, reading and current result of studies that have a result."""
    by_study: dict[str, list[Candidate]] = {}
    for one in _candidates(session, study_uids):
        by_study.setdefault(one.study_uid, []).append(one)
    readings = {
        row.study_uid: _reading(row)
        for row in session.scalars(
            select(VisitReadingRow).where(VisitReadingRow.study_uid.in_(study_uids))
        )
    }
    chosen = {
        uid: current_result_id(
            found, readings[uid].selected_result_id if uid in readings else None
        )
        for uid, found in by_study.items()
    }
    return by_study, readings, chosen


def _visits(session: Session, studies: Sequence[StudyRow]) -> tuple[Visit, ...]:
    uids = [study.study_uid for study in studies]
    by_study, readings, chosen = _chosen(session, uids)
    results = get_results(session, (key for key in chosen.values() if key))
    visits = [
        Visit(
            study_uid=study.study_uid,
            study_date=study.study_date,
            study_time=study.study_time,
            description=study.description,
            result=results.get(chosen[study.study_uid] or ""),
            result_count=len(by_study[study.study_uid]),
            reading=readings.get(
                study.study_uid, VisitReading(study_uid=study.study_uid)
            ),
        )
        for study in studies
        if study.study_uid in by_study
    ]
    return tuple(sorted(visits, key=_order))


def _order(visit: Visit) -> tuple[bool, str, str, str]:
    date = visit.study_date or ""
    return not date, date, visit.study_time or "", visit.study_uid


def _candidates(session: Session, study_uids: Sequence[str]) -> list[Candidate]:
    query = (
        select(
            ResultRow.id,
            SeriesRow.study_uid,
            ResultRow.predecessor_id,
            ResultRow.origin,
            ResultRow.state,
            ResultRow.created_at,
        )
        .join(SeriesRow, SeriesRow.series_uid == ResultRow.series_uid)
        .where(SeriesRow.study_uid.in_(study_uids))
    )
    return [
        Candidate(key, study_uid, predecessor_id, origin, state, created_at)
        for key, study_uid, predecessor_id, origin, state, created_at in (
            session.execute(query)
        )
    ]


def _hold_reading(
    session: Session, study_uid: str, expected_revision: int, by: str
) -> VisitReadingRow:
    """Give the row to be written, its revision raised; nobody else can meanwhile."""
    touch(session, key_of_study(session, study_uid))
    row = session.get(VisitReadingRow, study_uid, populate_existing=True)
    current = row.revision if row is not None else 0
    if current != expected_revision:
        raise MetiaError(
            "edit-conflict",
            "The visit's reading was changed meanwhile.",
            {"current_revision": current},
        )
    now = database_time(session)
    if row is None:
        row = VisitReadingRow(study_uid=study_uid)
        for item in fields(VisitReadingRecord):
            setattr(row, item.name, item.default)
        session.add(row)
    row.revision = current + 1
    row.author = by
    row.updated_at = now
    return row


def _reading(row: VisitReadingRow) -> VisitReading:
    return VisitReading(
        **{item.name: getattr(row, item.name) for item in fields(VisitReading)}
    )
