"""Patients, studies and series as plain values from image headers.

A study without PatientID gets a patient row of its own, never shared; one whose
PatientID is corrected later moves to the other patient (``db.moves``). All texts are
optional and kept as they came (see ``db.encoding.clean_text``). Functions take a
``Session``; those that write may run at once for the same study.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from db.encoding import clean_text, search_key
from db.engine import database_time, is_postgresql
from db.models import Base, PatientRow, SeriesRow, StudyRow
from db.moves import leave_patient
from errors import MetiaError

_TEXT_LIMIT = 1024
"""Characters; five times what DICOM allows a name in three scripts."""


@dataclass(frozen=True)
class Patient:
    """What the archive says of a patient; `birth_date` is DICOM's DA text."""

    patient_id: str | None = None
    issuer: str | None = None
    name: str | None = None
    birth_date: str | None = None
    sex: str | None = None


@dataclass(frozen=True)
class Study:
    """What the archive says of a study; date and time are DICOM's DA and TM texts."""

    study_uid: str
    study_date: str | None = None
    study_time: str | None = None
    description: str | None = None
    accession_number: str | None = None


@dataclass(frozen=True)
class Series:
    """What the archive says of a series."""

    series_uid: str
    series_number: int | None = None
    modality: str | None = None
    description: str | None = None
    instance_count: int | None = None


def upsert_study(
    session: Session, patient: Patient, study: Study, series: Series
) -> set[str]:
    """Note a series with its study and patient, or bring what is known up to date.

    Returns
    -------
    set of str
        Keys of the patients whose follow-up this changes: the study's, and the one it
        was taken for before.

    Raises
    ------
    MetiaError
        ``conflict`` where the series is known as one of another study.
    """
    now = database_time(session)
    # Others may refer to the row meanwhile, but not move it.
    known = session.get(StudyRow, study.study_uid, with_for_update={"key_share": True})
    patient_key = _upsert_patient(session, patient, known, now)
    _insert_unless_known(
        session,
        StudyRow,
        study_uid=study.study_uid,
        patient_key=patient_key,
        created_at=now,
    )
    row = session.get_one(StudyRow, study.study_uid)
    former_key = row.patient_key
    row.patient_key = patient_key
    row.study_date = clean_text(study.study_date, _TEXT_LIMIT)
    row.study_time = clean_text(study.study_time, _TEXT_LIMIT)
    row.description = clean_text(study.description, _TEXT_LIMIT)
    row.accession_number = clean_text(study.accession_number, _TEXT_LIMIT)
    session.flush()
    if former_key != patient_key:
        leave_patient(session, study.study_uid, former_key)
    _upsert_series(session, study.study_uid, series, now)
    return {patient_key, former_key}


def patient_of_study(session: Session, study_uid: str) -> Patient | None:
    """Give the patient of a study, None where the study is not known here."""
    row = session.scalar(
        select(PatientRow)
        .join(StudyRow, StudyRow.patient_key == PatientRow.id)
        .where(StudyRow.study_uid == study_uid)
    )
    if row is None:
        return None
    return Patient(
        row.patient_id, row.issuer or None, row.name, row.birth_date, row.sex
    )


def _upsert_patient(
    session: Session, patient: Patient, study: StudyRow | None, now: datetime
) -> str:
    """Find or make the patient's row; gives its key."""
    patient_id = clean_text(patient.patient_id, _TEXT_LIMIT)
    issuer = clean_text(patient.issuer, _TEXT_LIMIT) or ""
    row: PatientRow | None = None
    if patient_id is not None:
        _insert_unless_known(
            session,
            PatientRow,
            id=uuid.uuid4().hex,
            patient_id=patient_id,
            issuer=issuer,
            created_at=now,
            touched_at=now,
        )
        row = session.scalar(
            select(PatientRow).where(
                PatientRow.patient_id == patient_id, PatientRow.issuer == issuer
            )
        )
    elif study is not None:
        row = session.get_one(PatientRow, study.patient_key)
    if row is None or row.patient_id != patient_id:
        row = PatientRow(
            id=uuid.uuid4().hex, issuer=issuer, created_at=now, touched_at=now
        )
        session.add(row)
    row.name = clean_text(patient.name, _TEXT_LIMIT) or row.name
    row.birth_date = clean_text(patient.birth_date, _TEXT_LIMIT) or row.birth_date
    row.sex = clean_text(patient.sex, _TEXT_LIMIT) or row.sex
    row.search_key = search_key(row.name, row.patient_id)
    row.touched_at = now
    session.flush()
    return row.id


def _upsert_series(
    session: Session, study_uid: str, series: Series, now: datetime
) -> None:
    _insert_unless_known(
        session,
        SeriesRow,
        series_uid=series.series_uid,
        study_uid=study_uid,
        created_at=now,
    )
    row = session.get_one(SeriesRow, series.series_uid)
    if row.study_uid != study_uid:
        raise MetiaError("conflict", "The series is known as one of another study.")
    row.series_number = series.series_number
    row.modality = clean_text(series.modality, _TEXT_LIMIT)
    row.description = clean_text(series.description, _TEXT_LIMIT)
    row.instance_count = series.instance_count
    session.flush()


def _insert_unless_known(session: Session, row: type[Base], **values: object) -> None:
    insert = postgresql_insert if is_postgresql(session) else sqlite_insert
    session.execute(insert(row).values(**values).on_conflict_do_nothing())
