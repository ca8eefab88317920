"""How one series lies in another: rigid motions between visits of a patient.

A registration that was not accepted is kept too, with the reason, so that it is not
tried again at every answer. Matrices are 4 x 4, homogeneous, row by row, from the
moving to the fixed series, in LPS mm. Functions take a ``Session``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.engine import database_time
from db.models import RegistrationRow
from db.patients import touch_series

Matrix = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class RegistrationRecord:
    """One registration, as it is given to be recorded.

    Attributes
    ----------
    matrix : tuple of tuple of float or None
        4 x 4, moving -> fixed, LPS mm; None where none was found.
    quality : float or None
        Of the method's own scale, higher is better.
    accepted : bool
        Whether links may rest on it.
    reason : str
        Why not, as a code; empty where it was accepted.
    method : str
        What computed it, with its version.
    """

    moving_series_uid: str
    fixed_series_uid: str
    matrix: Matrix | None
    quality: float | None
    accepted: bool
    reason: str
    method: str


@dataclass(frozen=True, kw_only=True)
class Registration(RegistrationRecord):
    """A recorded registration."""

    id: str
    created_at: datetime


def save_registration(session: Session, record: RegistrationRecord) -> Registration:
    """Record a registration in place of the one of the same two series."""
    touch_series(session, record.moving_series_uid)
    now = database_time(session)
    row = _find(session, record.moving_series_uid, record.fixed_series_uid)
    if row is None:
        row = RegistrationRow(id=uuid.uuid4().hex)
        session.add(row)
    for item in fields(record):
        setattr(row, item.name, getattr(record, item.name))
    row.matrix = [list(line) for line in record.matrix] if record.matrix else None
    row.created_at = now
    session.flush()
    return _registration(row)


def find_registration(
    session: Session, moving_series_uid: str, fixed_series_uid: str
) -> Registration | None:
    """Read the registration of two series; None where it was never tried."""
    row = _find(session, moving_series_uid, fixed_series_uid)
    return None if row is None else _registration(row)


def list_registrations(
    session: Session, fixed_series_uid: str, moving_series_uids: Iterable[str]
) -> dict[str, Registration]:
    """Read the registrations of many series into one, by moving series."""
    query = select(RegistrationRow).where(
        RegistrationRow.fixed_series_uid == fixed_series_uid,
        RegistrationRow.moving_series_uid.in_(list(moving_series_uids)),
    )
    return {row.moving_series_uid: _registration(row) for row in session.scalars(query)}


def _find(session: Session, moving: str, fixed: str) -> RegistrationRow | None:
    return session.scalar(
        select(RegistrationRow).where(
            RegistrationRow.moving_series_uid == moving,
            RegistrationRow.fixed_series_uid == fixed,
        )
    )


def _registration(row: RegistrationRow) -> Registration:
    values = {item.name: getattr(row, item.name) for item in fields(Registration)}
    values["matrix"] = tuple(tuple(line) for line in row.matrix) if row.matrix else None
    return Registration(**values)
