"""Erasure of a patient or a study: every row goes but the audit's, which names nobody.

Jobs are kept, emptied of what points to the patient, so that counts of work stay true.
Signed assessments go too: their triggers let them while the patient is marked as being
erased. What the archive holds is not touched here. Functions take a writing
``Session``; all or nothing with its transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    CursorResult,
    Delete,
    Update,
    case,
    delete,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from db.engine import database_time
from db.models import (
    ERASED,
    AssessmentRow,
    Base,
    CourseEventRow,
    CoursePlanRow,
    HistoricalMeasurementRow,
    JobRow,
    LesionRow,
    LinkDecisionRow,
    OpenedStudyRow,
    OutlineRow,
    PatientRow,
    RegistrationRow,
    ResultRow,
    SeriesRow,
    StudyRow,
    TrackMemberRow,
    TrackReadingRow,
    TrackRow,
    VisitReadingRow,
)
from db.moves import leave_patient
from db.patients import lock_patient


@dataclass(frozen=True)
class StoredSegmentation:
    """A SEG that was written into the archive."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Erasure:
    """What was erased.

    Attributes
    ----------
    counts : dict
        Rows removed (of jobs: emptied), by table.
    study_uids : tuple of str
        The patient's studies; the archive still holds them.
    segmentations : tuple of StoredSegmentation
        The archive still holds these too.
    """

    counts: dict[str, int]
    study_uids: tuple[str, ...]
    segmentations: tuple[StoredSegmentation, ...]


def erase_patient(session: Session, patient_key: str) -> Erasure:
    """Remove everything about a patient but the audit, and empty the jobs.

    A job that is under way is cancelled; its worker can record nothing any more.

    Raises
    ------
    MetiaError
        ``not-found``.
    """
    lock_patient(session, patient_key)
    _mark_erasing(session, patient_key, True)
    study_uids = tuple(
        session.scalars(
            select(StudyRow.study_uid)
            .where(StudyRow.patient_key == patient_key)
            .order_by(StudyRow.study_uid)
        )
    )
    segmentations = _stored_segmentations(session, study_uids)
    counts = {"job": _run(session, _empty_jobs(session, study_uids))}
    for table, statement in _removals(patient_key, study_uids):
        counts[table.__tablename__] = _run(session, statement)
    session.expire_all()
    return Erasure(counts, study_uids, segmentations)


@dataclass(frozen=True)
class StudyErasure:
    """What the erasure of a study met.

    Attributes
    ----------
    known : bool
        Anything was recorded of it.
    patients_left : tuple of str
        Keys of the patients it was of, as far as they are still here.
    """

    known: bool
    patients_left: tuple[str, ...]


def erase_study(session: Session, study_uid: str) -> StudyErasure:
    """Remove everything about one study but the audit, and nothing about any other.

    What the former system measured in it goes too, and the patient with the last
    study. Signed assessments of the study go; those of other studies stay.
    """
    historical = HistoricalMeasurementRow.study_uid == study_uid
    keys = set(
        session.scalars(select(HistoricalMeasurementRow.patient_key).where(historical))
    )
    study = session.get(StudyRow, study_uid)
    if study is not None:
        keys.add(study.patient_key)
    for key in sorted(keys):
        lock_patient(session, key)
    _run(session, delete(HistoricalMeasurementRow).where(historical))
    if study is not None:
        _erase_known_study(session, study_uid, study.patient_key)
    session.expire_all()
    left = tuple(key for key in sorted(keys) if _is_followed(session, key))
    for key in keys.difference(left):
        erase_patient(session, key)
    return StudyErasure(bool(keys), left)


def _erase_known_study(session: Session, study_uid: str, patient_key: str) -> None:
    _mark_erasing(session, patient_key, True)
    leave_patient(session, study_uid, patient_key)
    _run(session, _empty_jobs(session, [study_uid]))
    _run(session, delete(AssessmentRow).where(AssessmentRow.study_uid == study_uid))
    for _, statement in _study_removals([study_uid]):
        _run(session, statement)
    _mark_erasing(session, patient_key, False)


def _mark_erasing(session: Session, patient_key: str, erasing: bool) -> None:
    _run(
        session,
        update(PatientRow).where(PatientRow.id == patient_key).values(erasing=erasing),
    )


def _is_followed(session: Session, patient_key: str) -> bool:
    """Tell whether anything is left that a patient's row stands for."""
    columns = (
        StudyRow.patient_key,
        HistoricalMeasurementRow.patient_key,
        AssessmentRow.patient_key,
    )
    return any(
        session.scalar(select(column).where(column == patient_key).limit(1))
        for column in columns
    )


def _run(session: Session, statement: Update | Delete) -> int:
    done = session.execute(statement.execution_options(synchronize_session=False))
    return done.rowcount if isinstance(done, CursorResult) else 0


def _stored_segmentations(
    session: Session, study_uids: Sequence[str]
) -> tuple[StoredSegmentation, ...]:
    query = (
        select(
            SeriesRow.study_uid,
            ResultRow.segmentation_series_uid,
            ResultRow.segmentation_sop_uid,
        )
        .join(SeriesRow, SeriesRow.series_uid == ResultRow.series_uid)
        .where(
            SeriesRow.study_uid.in_(study_uids),
            ResultRow.segmentation_sop_uid.is_not(None),
        )
        .distinct()
        .order_by(SeriesRow.study_uid, ResultRow.segmentation_series_uid)
    )
    return tuple(
        StoredSegmentation(study_uid, series_uid, sop_instance_uid)
        for study_uid, series_uid, sop_instance_uid in session.execute(query)
        if series_uid and sop_instance_uid
    )


def _empty_jobs(session: Session, study_uids: Sequence[str]) -> Update:
    """Take out of jobs what points to the patient, and end those under way."""
    active = JobRow.state.in_(("queued", "running"))
    now = database_time(session)
    return (
        update(JobRow)
        .where(JobRow.study_uid.in_(study_uids))
        .values(
            study_uid=ERASED,
            series_uid=null(),
            parameters={},
            # Unlike any that a request can have.
            dedupe_key=JobRow.id,
            result_id=null(),
            error_detail=null(),
            state=case((active, "cancelled"), else_=JobRow.state),
            cancel_requested=case((active, True), else_=JobRow.cancel_requested),
            lease_until=null(),
            error_code=case((active, "job-cancelled"), else_=JobRow.error_code),
            finished_at=case((active, now), else_=JobRow.finished_at),
        )
    )


def _removals(
    patient_key: str, study_uids: Sequence[str]
) -> list[tuple[type[Base], Delete]]:
    """List what to remove, in an order that leaves no reference open."""
    tracks = select(TrackRow.id).where(TrackRow.patient_key == patient_key)
    return [
        (
            AssessmentRow,
            delete(AssessmentRow).where(
                or_(
                    AssessmentRow.patient_key == patient_key,
                    AssessmentRow.study_uid.in_(study_uids),
                )
            ),
        ),
        *(
            (table, delete(table).where(table.patient_key == patient_key))
            for table in (
                CourseEventRow,
                CoursePlanRow,
                LinkDecisionRow,
                HistoricalMeasurementRow,
            )
        ),
        (
            TrackMemberRow,
            delete(TrackMemberRow).where(TrackMemberRow.track_id.in_(tracks)),
        ),
        (
            TrackReadingRow,
            delete(TrackReadingRow).where(TrackReadingRow.track_id.in_(tracks)),
        ),
        (TrackRow, delete(TrackRow).where(TrackRow.patient_key == patient_key)),
        *_study_removals(study_uids),
        (PatientRow, delete(PatientRow).where(PatientRow.id == patient_key)),
    ]


def _study_removals(study_uids: Sequence[str]) -> list[tuple[type[Base], Delete]]:
    """List what hangs on studies alone, in an order that leaves no reference open."""
    series = select(SeriesRow.series_uid).where(SeriesRow.study_uid.in_(study_uids))
    results = select(ResultRow.id).where(ResultRow.series_uid.in_(series))
    return [
        (
            RegistrationRow,
            delete(RegistrationRow).where(
                or_(
                    RegistrationRow.moving_series_uid.in_(series),
                    RegistrationRow.fixed_series_uid.in_(series),
                )
            ),
        ),
        (
            VisitReadingRow,
            delete(VisitReadingRow).where(VisitReadingRow.study_uid.in_(study_uids)),
        ),
        (OutlineRow, delete(OutlineRow).where(OutlineRow.result_id.in_(results))),
        (LesionRow, delete(LesionRow).where(LesionRow.result_id.in_(results))),
        (ResultRow, delete(ResultRow).where(ResultRow.series_uid.in_(series))),
        (SeriesRow, delete(SeriesRow).where(SeriesRow.study_uid.in_(study_uids))),
        (StudyRow, delete(StudyRow).where(StudyRow.study_uid.in_(study_uids))),
        (
            OpenedStudyRow,
            delete(OpenedStudyRow).where(OpenedStudyRow.study_uid.in_(study_uids)),
        ),
    ]
