"""Which waiting job is taken next, and which of them a broker has to be told of.

A job waits in one queue; higher priority goes first, then the older. Everything here
looks at the head of a queue in a partial index, so that its time does not grow with the
jobs that wait (there or in other queues) or are done. Of any number of workers that ask
at once one gets a job: SQLite has one writer, PostgreSQL skips or re-reads what another
has locked. All functions take a writing ``Session`` and the shared time ``now``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, and_, null, or_, select, text, update
from sqlalchemy.orm import Session, aliased

from db.job_life import LONGEST_WAIT, update_job
from db.jobs import QUEUED, Job, to_job
from db.models import JobRow


def claim(
    session: Session,
    owner: str,
    queues: Sequence[str],
    *,
    lease: timedelta,
    now: datetime,
) -> Job | None:
    """Take the waiting job of highest priority, and of those the oldest."""
    for queue in _by_their_heads(session, queues, now):
        head = first_due(queue, now).limit(1).with_for_update(skip_locked=True)
        chosen = head.with_only_columns(JobRow.id).scalar_subquery()
        job = _take(session, JobRow.id == chosen, owner, lease=lease, now=now)
        if job is not None:
            return job
    return None


def claim_one(
    session: Session, job_id: str, owner: str, *, lease: timedelta, now: datetime
) -> Job | None:
    """Take this job if it waits and is due; else another has it, or it is not time yet.

    However often and by however many it is asked for, one gets it.
    """
    this = and_(JobRow.id == job_id, JobRow.state == QUEUED, _due(now))
    return _take(session, this, owner, lease=lease, now=now)


def take_unpublished(
    session: Session,
    queue: str,
    *,
    arrived: datetime,
    broker_empty: bool,
    now: datetime,
    limit: int,
) -> tuple[Job, ...]:
    """Give the first jobs of a queue whose message is missing, and note it as sent.

    Noted before it is sent, so that of many who look only one sends; a message that
    gets lost all the same is missed again.

    Parameters
    ----------
    arrived : datetime
        A message sent before this has reached the broker or a worker, or is lost.
    broker_empty : bool
        No message of this queue waits in the broker: those of waiting jobs are lost.
        Where some wait, those are that later messages of no higher priority overtook.
    limit : int
        How many jobs from the head of the queue to look at.
    """
    first = first_due(queue, now).limit(limit).subquery()
    lost = JobRow.published_at <= arrived
    if not broker_empty:
        lost = and_(lost, _overtaken())
    missing = (
        select(JobRow.id)
        .where(
            JobRow.id.in_(select(first.c.id)),
            or_(
                JobRow.published_at.is_(None),
                lost,
                # Written before the clock went back.
                JobRow.published_at > now + LONGEST_WAIT,
            ),
        )
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(JobRow)
        .where(JobRow.id.in_(missing), JobRow.state == QUEUED)
        .values(published_at=now)
        .returning(JobRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    jobs = [to_job(row) for row in session.scalars(statement)]
    return tuple(sorted(jobs, key=lambda one: (-one.priority, one.created_at, one.id)))


def _overtaken() -> ColumnElement[bool]:
    """Tell that a job runs whose message should have come after this one's."""
    other = aliased(JobRow, name="other")
    return (
        select(other.id)
        .where(
            text("other.state = 'running'"),  # as the partial index has it
            other.queue == JobRow.queue,
            other.priority <= JobRow.priority,
            other.published_at > JobRow.published_at,
        )
        .exists()
    )


def _by_their_heads(
    session: Session, queues: Sequence[str], now: datetime
) -> list[str]:
    """Put the queues in which a job is due in the order of their first jobs."""
    if len(queues) == 1:
        return list(queues)
    heads = []
    for queue in dict.fromkeys(queues):
        head = session.execute(first_due(queue, now).limit(1)).one_or_none()
        if head is not None:
            heads.append((-head.priority, head.created_at, head.id, queue))
    return [queue for *_, queue in sorted(heads)]


def first_due(queue: str, now: datetime) -> Select[str, int, datetime]:
    """Select the jobs of a queue that may run, in the order in which they are taken."""
    return (
        select(JobRow.id, JobRow.priority, JobRow.created_at)
        .where(JobRow.state == QUEUED, JobRow.queue == queue, _due(now))
        .order_by(JobRow.priority.desc(), JobRow.created_at, JobRow.id)
    )


def _due(now: datetime) -> ColumnElement[bool]:
    # Nothing is ever put off for long: a time further ahead was written before the
    # clock went back.
    return or_(JobRow.not_before <= now, JobRow.not_before > now + LONGEST_WAIT)


def _take(
    session: Session,
    condition: ColumnElement[bool],
    owner: str,
    *,
    lease: timedelta,
    now: datetime,
) -> Job | None:
    return update_job(
        session,
        condition,
        state="running",
        step="waiting",
        progress=0.0,
        attempt=JobRow.attempt + 1,
        owner=owner,
        lease_until=now + lease,
        started_at=now,
        error_code=null(),
        error_detail=null(),
        timings_s={},
    )
