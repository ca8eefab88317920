"""Patients: finding them, keeping writers of one apart, telling who is long untouched.

A patient is known here by the key of its row, never by an identifier of the archive.
Whoever writes anything about a patient touches or locks its row first of all, which
keeps writers of one patient in a line and from waiting for each other in a ring.
Removing one is ``db.erasure``. Functions take a ``Session``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, func, literal, or_, select, update
from sqlalchemy.orm import Session

from db.encoding import fold
from db.engine import database_time
from db.models import PatientRow, ResultRow, SeriesRow, StudyRow
from errors import MetiaError


@dataclass(frozen=True)
class PatientRecord:
    """One patient.

    Attributes
    ----------
    id : str
        Key of the row; what addresses of the API name.
    patient_id, issuer, name, birth_date, sex : str or None
        As the archive says; `birth_date` is DICOM's DA text.
    """

    id: str
    patient_id: str | None
    issuer: str | None
    name: str | None
    birth_date: str | None
    sex: str | None


@dataclass(frozen=True)
class PatientSummary(PatientRecord):
    """A patient as a list shows one.

    Attributes
    ----------
    visit_count : int
        Studies with a result.
    first_visit, last_visit : str or None
        DICOM's DA texts.
    touched_at : datetime
        When anything about the patient was last written.
    """

    visit_count: int
    first_visit: str | None
    last_visit: str | None
    touched_at: datetime


def get_patient(session: Session, patient_key: str) -> PatientRecord:
    """Read one patient; ``not-found`` where there is none."""
    row = session.get(PatientRow, patient_key)
    if row is None:
        raise MetiaError("not-found", "There is no patient of this id.")
    return to_patient(row)


def key_of_study(session: Session, study_uid: str) -> str:
    """Give the key of the patient of a study; ``not-found`` where it is not known."""
    key = session.scalar(
        select(StudyRow.patient_key).where(StudyRow.study_uid == study_uid)
    )
    if key is None:
        raise MetiaError("not-found", "Nothing was found in this study yet.")
    return key


def lock_patient(session: Session, patient_key: str) -> None:
    """Keep other writers of this patient waiting until the transaction ends.

    On SQLite a writing transaction is alone anyway.

    Raises
    ------
    MetiaError
        ``not-found``.
    """
    query = select(PatientRow.id).where(PatientRow.id == patient_key)
    # Not against those who only refer to the row by a foreign key.
    if session.scalar(query.with_for_update(key_share=True)) is None:
        raise MetiaError("not-found", "There is no patient of this id.")


def touch(session: Session, patient_key: str) -> None:
    """Note that something about the patient was written; retention counts from it."""
    _touch(session, select(literal(patient_key)))


def touch_series(session: Session, series_uid: str) -> None:
    """As `touch`, for the patient of a series."""
    _touch(
        session,
        select(StudyRow.patient_key)
        .join(SeriesRow, SeriesRow.study_uid == StudyRow.study_uid)
        .where(SeriesRow.series_uid == series_uid),
    )


def _touch(session: Session, key: Select[str]) -> None:
    session.execute(
        update(PatientRow)
        .where(PatientRow.id == key.scalar_subquery())
        .values(touched_at=database_time(session))
        .execution_options(synchronize_session=False)
    )


def find_patients(
    session: Session,
    *,
    search: str = "",
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[tuple[PatientSummary, ...], str | None]:
    """List patients with visits, by name.

    Parameters
    ----------
    session : Session
    search : str
        Words that name or id must contain, all of them; case, accents and the ``^`` of
        DICOM names do not count.
    limit : int
        Most patients to give.
    cursor : str, optional
        Of the page before.

    Returns
    -------
    tuple
        The patients, and the cursor of the page after (None at the end). The cursor
        is the key of a patient and tells nothing of them.

    Raises
    ------
    MetiaError
        ``invalid-input`` for a cursor of no patient.
    """
    query = select(PatientRow).where(_HAS_VISIT)
    for word in fold(search).split():
        query = query.where(PatientRow.search_key.contains(word, autoescape=True))
    if cursor is not None:
        last = session.get(PatientRow, cursor)
        if last is None:
            raise MetiaError("invalid-input", "The cursor is not one of this list.")
        query = query.where(
            or_(
                PatientRow.search_key > last.search_key,
                (PatientRow.search_key == last.search_key) & (PatientRow.id > last.id),
            )
        )
    query = query.order_by(PatientRow.search_key, PatientRow.id).limit(limit + 1)
    rows = session.scalars(query).all()
    page = _summarise(session, rows[:limit])
    return page, page[-1].id if page and len(rows) > limit else None


def untouched_patients(session: Session, *, days: float) -> tuple[PatientSummary, ...]:
    """List the patients about whom nothing was written for so many days."""
    before = database_time(session) - timedelta(days=days)
    rows = session.scalars(
        select(PatientRow)
        .where(PatientRow.touched_at < before)
        .order_by(PatientRow.touched_at, PatientRow.id)
    )
    return _summarise(session, rows.all())


def is_untouched(session: Session, patient_key: str, *, days: float) -> bool:
    """Tell whether nothing was written about a patient for so many days.

    Raises
    ------
    MetiaError
        ``not-found``.
    """
    lock_patient(session, patient_key)
    touched_at = session.scalar(
        select(PatientRow.touched_at).where(PatientRow.id == patient_key)
    )
    before = database_time(session) - timedelta(days=days)
    return touched_at is not None and touched_at < before


_HAS_RESULT = (
    select(ResultRow.id)
    .join(SeriesRow, SeriesRow.series_uid == ResultRow.series_uid)
    .where(SeriesRow.study_uid == StudyRow.study_uid)
    .exists()
)
_HAS_VISIT = (
    select(StudyRow.study_uid)
    .where(StudyRow.patient_key == PatientRow.id, _HAS_RESULT)
    .exists()
)
_MOST_KEYS = 500
"""Asked for at once; SQLite takes some thousands of parameters."""


def _summarise(
    session: Session, rows: Sequence[PatientRow]
) -> tuple[PatientSummary, ...]:
    """Count the visits of these patients only, in one query for many of them."""
    visits: dict[str, tuple[int, str | None, str | None]] = {}
    for start in range(0, len(rows), _MOST_KEYS):
        query = (
            select(
                StudyRow.patient_key,
                func.count(),
                func.min(StudyRow.study_date),
                func.max(StudyRow.study_date),
            )
            .where(
                StudyRow.patient_key.in_(
                    [row.id for row in rows[start : start + _MOST_KEYS]]
                ),
                _HAS_RESULT,
            )
            .group_by(StudyRow.patient_key)
        )
        for key, count, first, last in session.execute(query):
            visits[key] = (count, first, last)
    return tuple(_summary(row, *visits.get(row.id, (0, None, None))) for row in rows)


def _summary(
    row: PatientRow, visits: int, first: str | None, last: str | None
) -> PatientSummary:
    return PatientSummary(
        **vars(to_patient(row)),
        visit_count=visits,
        first_visit=first,
        last_visit=last,
        touched_at=row.touched_at,
    )


def to_patient(row: PatientRow) -> PatientRecord:
    """Copy a row into what leaves this package."""
    return PatientRecord(
        row.id, row.patient_id, row.issuer or None, row.name, row.birth_date, row.sex
    )
