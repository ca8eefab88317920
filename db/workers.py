"""Which worker processes are alive, for readiness checks and people.

A worker notes itself at every heartbeat and takes its row away when it ends; one that
died is forgotten by the next that starts. Functions take a ``Session``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from db.engine import database_time
from db.models import WorkerRow

_FORGET_AFTER = timedelta(days=1)


@dataclass(frozen=True)
class WorkerInfo:
    """One worker process; `device` is ``cpu`` or ``cuda:N (name)``."""

    owner: str
    queues: tuple[str, ...]
    device: str
    started_at: datetime
    last_seen: datetime


def note_worker(
    session: Session, owner: str, queues: Sequence[str], device: str
) -> None:
    """Note that a worker is alive."""
    now = database_time(session)
    row = session.get(WorkerRow, owner)
    if row is None:
        session.execute(
            delete(WorkerRow).where(WorkerRow.last_seen < now - _FORGET_AFTER)
        )
        row = WorkerRow(owner=owner, started_at=now)
        session.add(row)
    row.queues, row.device, row.last_seen = list(queues), device, now
    session.flush()


def remove_worker(session: Session, owner: str) -> None:
    """Note that a worker has ended."""
    session.execute(delete(WorkerRow).where(WorkerRow.owner == owner))


def live_workers(session: Session, within: timedelta) -> tuple[WorkerInfo, ...]:
    """List the workers heard of lately."""
    query = select(WorkerRow).where(
        WorkerRow.last_seen >= database_time(session) - within
    )
    return tuple(
        WorkerInfo(
            row.owner, tuple(row.queues), row.device, row.started_at, row.last_seen
        )
        for row in session.scalars(query.order_by(WorkerRow.started_at))
    )
