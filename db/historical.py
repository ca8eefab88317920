"""Measurements of the former system: kept beside the results, never among them.

They have no position, no axes and no model, so nothing is matched or summed with them:
they are kept to be looked at. Recording the same again adds nothing. Diameters in mm,
volumes in ml. Functions take a ``Session``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.encoding import canonical_hash, search_key
from db.engine import database_time
from db.models import HistoricalMeasurementRow, PatientRow
from db.patients import PatientRecord, to_patient, touch
from db.studies import Patient

_MOST_ASKED = 500
"""Hashes asked for at once; SQLite takes some thousands of parameters."""


@dataclass(frozen=True)
class HistoricalRecord:
    """One lesion at one date, as it is given to be recorded.

    Attributes
    ----------
    study_date : str or None
        DICOM's DA text.
    series_uid : str
        Of the RTSTRUCT it was measured on.
    first_slice, last_slice : int or None
        In the former system's own count.
    colour : tuple of int or None
        RGB, 0 to 255.
    """

    study_uid: str
    study_date: str | None
    series_uid: str
    roi_number: int | None
    name: str | None
    volume_ml: float | None
    diameter_mm: float | None
    first_slice: int | None
    last_slice: int | None
    colour: tuple[int, int, int] | None = None

    @property
    def measured(self) -> tuple[object, ...]:
        """What makes two rows of one series the same lesion; not name and colour."""
        return (
            self.roi_number,
            self.volume_ml,
            self.diameter_mm,
            self.first_slice,
            self.last_slice,
        )

    def identity(self, patient_id: str) -> str:
        """Hash what makes it the same measurement as one that is there."""
        content = [patient_id, self.study_uid, self.series_uid, *self.measured]
        return canonical_hash(content)


@dataclass(frozen=True, kw_only=True)
class HistoricalMeasurement(HistoricalRecord):
    """A recorded measurement."""

    id: int
    patient_key: str
    imported_at: datetime


def patients_of_id(session: Session, patient_id: str) -> tuple[PatientRecord, ...]:
    """List the patients of exactly this PatientID, whoever issued it."""
    rows = session.scalars(
        select(PatientRow)
        .where(PatientRow.patient_id == patient_id)
        .order_by(PatientRow.issuer)
    )
    return tuple(to_patient(row) for row in rows)


def add_patient(session: Session, patient: Patient) -> str:
    """Make the row of a patient whom no image has told of yet; gives its key."""
    now = database_time(session)
    row = PatientRow(
        id=uuid.uuid4().hex,
        patient_id=patient.patient_id,
        issuer=patient.issuer or "",
        name=patient.name,
        birth_date=patient.birth_date,
        sex=patient.sex,
        search_key=search_key(patient.name, patient.patient_id),
        created_at=now,
        touched_at=now,
    )
    session.add(row)
    session.flush()
    return row.id


def known_identities(session: Session, identities: Sequence[str]) -> set[str]:
    """Tell which of these measurements are recorded already."""
    column = HistoricalMeasurementRow.identity_sha256
    known: set[str] = set()
    for start in range(0, len(identities), _MOST_ASKED):
        some = identities[start : start + _MOST_ASKED]
        known |= set(session.scalars(select(column).where(column.in_(some))))
    return known


def record_historical(
    session: Session,
    patient_key: str,
    patient_id: str,
    records: Iterable[HistoricalRecord],
    *,
    source_sha256: str,
    by: str | None,
) -> None:
    """Add measurements that are not known yet (see ``known_identities``)."""
    touch(session, patient_key)
    now = database_time(session)
    session.add_all(
        HistoricalMeasurementRow(
            identity_sha256=record.identity(patient_id),
            patient_key=patient_key,
            source_sha256=source_sha256,
            imported_by=by,
            imported_at=now,
            **{
                **vars(record),
                "colour": list(record.colour) if record.colour else None,
            },
        )
        for record in records
    )
    session.flush()


def list_historical(
    session: Session,
    *,
    patient_key: str | None = None,
    study_uid: str | None = None,
    series_uid: str | None = None,
) -> tuple[HistoricalMeasurement, ...]:
    """List measurements of a patient, study or series, or all; by date."""
    row = HistoricalMeasurementRow
    query = select(row).order_by(row.study_date, row.study_uid, row.id)
    for column, value in (
        (row.patient_key, patient_key),
        (row.study_uid, study_uid),
        (row.series_uid, series_uid),
    ):
        if value is not None:
            query = query.where(column == value)
    return tuple(map(_measurement, session.scalars(query)))


def _measurement(row: HistoricalMeasurementRow) -> HistoricalMeasurement:
    names = HistoricalMeasurement.__dataclass_fields__
    values = {name: getattr(row, name) for name in names}
    values["colour"] = tuple(row.colour) if row.colour else None
    return HistoricalMeasurement(**values)
