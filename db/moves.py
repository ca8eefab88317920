"""What becomes of a patient's follow-up when a study turns out to be another's.

An archive corrects patient identities, and a study then changes its patient. Nothing
said of the lesions over time holds for it any more: its findings leave the former
patient's tracks, and tracks that began in it go, to be made again from what stays.
Signed assessments are kept under the patient they were signed for. For
``db.studies``, within its transaction.
"""

from __future__ import annotations

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from db.models import (
    AssessmentRow,
    CourseEventRow,
    CoursePlanRow,
    LesionRow,
    LinkDecisionRow,
    PatientRow,
    RegistrationRow,
    ResultRow,
    SeriesRow,
    StudyRow,
    TrackMemberRow,
    TrackReadingRow,
    TrackRow,
)
from db.patients import touch


def leave_patient(session: Session, study_uid: str, former_key: str) -> None:
    """Take a study out of the follow-up of the patient it no longer belongs to.

    Parameters
    ----------
    session : Session
    study_uid : str
        The study; its row names the new patient already.
    former_key : str
        The patient it leaves. Its row goes too where it had no PatientID (it stood
        for this study alone) and nothing is left of it.
    """
    touch(session, former_key)
    series = select(SeriesRow.series_uid).where(SeriesRow.study_uid == study_uid)
    findings = (
        select(LesionRow.finding_uid)
        .join(ResultRow, ResultRow.id == LesionRow.result_id)
        .where(ResultRow.series_uid.in_(series))
    )
    born = list(
        session.scalars(
            select(TrackRow.id).where(
                TrackRow.patient_key == former_key,
                TrackRow.tracking_uid.in_(findings),
            )
        )
    )
    _leave_plan(session, study_uid, former_key)
    for statement in (
        update(CourseEventRow)
        .where(CourseEventRow.track_id.in_(born))
        .values(track_id=None),
        delete(LinkDecisionRow).where(
            or_(
                LinkDecisionRow.study_uid == study_uid,
                LinkDecisionRow.track_id.in_(born),
            )
        ),
        delete(TrackReadingRow).where(
            or_(
                TrackReadingRow.study_uid == study_uid,
                TrackReadingRow.track_id.in_(born),
                TrackReadingRow.into_track_id.in_(born),
            )
        ),
        delete(TrackMemberRow).where(
            or_(
                TrackMemberRow.study_uid == study_uid,
                TrackMemberRow.track_id.in_(born),
            )
        ),
        update(TrackRow).where(TrackRow.split_from.in_(born)).values(split_from=None),
        delete(TrackRow).where(TrackRow.id.in_(born)),
        delete(RegistrationRow).where(
            or_(
                RegistrationRow.moving_series_uid.in_(series),
                RegistrationRow.fixed_series_uid.in_(series),
            )
        ),
    ):
        session.execute(statement.execution_options(synchronize_session=False))
    session.expire_all()
    _drop_nameless(session, former_key)


def _leave_plan(session: Session, study_uid: str, former_key: str) -> None:
    plan = session.get(CoursePlanRow, former_key)
    if plan is None:
        return
    kept = [reset for reset in plan.resets if reset["study_uid"] != study_uid]
    if plan.baseline_study_uid == study_uid or kept != plan.resets:
        plan.revision += 1
    if plan.baseline_study_uid == study_uid:
        plan.baseline_study_uid = None
    plan.resets = kept
    session.flush()


def _drop_nameless(session: Session, patient_key: str) -> None:
    """Drop the patient of a nameless study once the study has found its real one."""
    row = session.get(PatientRow, patient_key)
    if row is None or row.patient_id is not None:
        return
    for still in (StudyRow.patient_key, AssessmentRow.patient_key):
        if session.scalar(select(still).where(still == patient_key).limit(1)):
            return
    for table in (CourseEventRow, CoursePlanRow, TrackRow):
        session.execute(delete(table).where(table.patient_key == patient_key))
    session.delete(row)
    session.flush()
