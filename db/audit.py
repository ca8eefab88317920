"""Who did what and when; entries can be added and read, never changed or removed.

The database itself refuses changes (triggers in the migrations). Details hold ids,
codes and counts, never a name, date or identifier of a patient. Write the entry in the
transaction of what it tells of. Functions take a ``Session``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.engine import database_time
from db.models import AuditRow


@dataclass(frozen=True)
class AuditEntry:
    """One thing that was done.

    Attributes
    ----------
    actor : str or None
        Name of the user; None for the system itself.
    action : str
        A verb and its object, such as ``job-submitted``.
    subject : str
        What it was done to, such as ``job:<id>``.
    """

    id: int
    at: datetime
    actor: str | None
    action: str
    subject: str
    details: dict[str, Any]
    request_id: str | None


def append(
    session: Session,
    *,
    actor: str | None,
    action: str,
    subject: str,
    details: Mapping[str, object] | None = None,
    request_id: str | None = None,
) -> None:
    """Add an entry."""
    session.add(
        AuditRow(
            at=database_time(session),
            actor=actor,
            action=action,
            subject=subject,
            details=dict(details or {}),
            request_id=request_id,
        )
    )
    session.flush()


def entries(
    session: Session,
    *,
    subject: str | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> tuple[AuditEntry, ...]:
    """Read entries, newest first, of one subject or of all."""
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(AuditRow.subject == subject)
    if before_id is not None:
        query = query.where(AuditRow.id < before_id)
    return tuple(map(_entry, session.scalars(query)))


@dataclass(frozen=True)
class AuditFilter:
    """Which entries are wanted; what is None does not matter.

    Attributes
    ----------
    since, until : datetime or None
        From the first on, and before the second.
    actor, subject, action : str or None
        Exactly these.
    """

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    subject: str | None = None
    action: str | None = None


def export_entries(
    session: Session, wanted: AuditFilter, *, after_id: int = 0, limit: int
) -> tuple[AuditEntry, ...]:
    """Read entries, oldest first, that come after `after_id`.

    Read on from the last entry's id until fewer than `limit` come: entries added
    meanwhile come last, so none is missed and none comes twice.
    """
    query = select(AuditRow).where(AuditRow.id > after_id).order_by(AuditRow.id)
    if wanted.since is not None:
        query = query.where(AuditRow.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditRow.at < wanted.until)
    for column, value in (
        (AuditRow.actor, wanted.actor),
        (AuditRow.subject, wanted.subject),
        (AuditRow.action, wanted.action),
    ):
        if value is not None:
            query = query.where(column == value)
    return tuple(map(_entry, session.scalars(query.limit(limit))))


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        row.id,
        row.at,
        row.actor,
        row.action,
        row.subject,
        row.details,
        row.request_id,
    )
