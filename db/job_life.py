"""The steps of a job's life once it was taken, each guarded by the fence.

How it is taken is in ``db.job_claims``. A worker is known by a ``Fence``: job, attempt
and owner. Whoever holds an older one (stopped, cut off, presumed dead) gets
``job-superseded`` and changes nothing. All functions take a writing ``Session`` and the
shared time ``now`` (``db.engine.database_time``), never the clock of the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, null, or_, select, update
from sqlalchemy.orm import Session

from db.jobs import RUNNING, Job, get_job, to_job
from db.models import JobRow
from errors import MetiaError

LONGEST_WAIT = timedelta(minutes=2)
"""No caller of `put_back` may ask for more."""


@dataclass(frozen=True)
class Fence:
    """Proof of which taking of which job its bearer stands for."""

    job_id: str
    attempt: int
    owner: str


def recover_expired(
    session: Session, *, lease: timedelta, now: datetime
) -> tuple[Job, ...]:
    """End the takings of workers that have not been heard of.

    The job waits for another worker; after ``max_attempts`` deaths it has failed, and
    where its cancellation was asked for it is cancelled. A lease further ahead than any
    can be comes from before a jump of the clock and counts as expired too: its worker,
    if alive, is fenced off and the work done again.
    """
    expired = (
        select(JobRow.id)
        .where(
            JobRow.state == RUNNING,
            or_(JobRow.lease_until < now, JobRow.lease_until > now + 4 * lease),
        )
        .with_for_update(skip_locked=True)
    )
    exhausted = JobRow.deaths + 1 >= JobRow.max_attempts
    ended = or_(JobRow.cancel_requested, exhausted)
    statement = (
        update(JobRow)
        .where(JobRow.id.in_(expired))
        .values(
            state=case(
                (JobRow.cancel_requested, "cancelled"),
                (exhausted, "failed"),
                else_="queued",
            ),
            deaths=JobRow.deaths + 1,
            step=case((ended, JobRow.step), else_="waiting"),
            progress=case((ended, JobRow.progress), else_=0.0),
            lease_until=null(),
            not_before=now,
            published_at=null(),
            finished_at=case((ended, now), else_=null()),
            error_code=case(
                (JobRow.cancel_requested, "job-cancelled"),
                (exhausted, "job-attempts-exhausted"),
            ),
            error_detail=case(
                (JobRow.cancel_requested, "The job was cancelled on request."),
                (exhausted, "Every worker that tried this job died of it."),
            ),
        )
        .returning(JobRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return tuple(to_job(row) for row in session.scalars(statement))


def heartbeat(
    session: Session,
    fence: Fence,
    *,
    lease: timedelta,
    now: datetime,
    step: str | None = None,
    progress: float | None = None,
    timings_s: dict[str, float] | None = None,
) -> Job:
    """Renew the lease and note how far the work is.

    Raises
    ------
    MetiaError
        ``job-superseded`` where the bearer no longer holds the job.
    """
    told: dict[str, Any] = {"step": step, "progress": progress, "timings_s": timings_s}
    known = {name: value for name, value in told.items() if value is not None}
    return _guarded(session, fence, lease_until=now + lease, **known)


def hold(session: Session, fence: Fence) -> Job:
    """Make sure of the job until the transaction ends.

    A job that this very taking has finished is given back as it is, so that a commit
    whose answer was lost can be repeated.

    Raises
    ------
    MetiaError
        ``job-superseded`` where another holds the job, or it was ended otherwise.
    """
    row = session.scalar(
        select(JobRow)
        .where(JobRow.id == fence.job_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    mine = (
        row is not None
        and (row.attempt, row.owner) == (fence.attempt, fence.owner)
        and row.state in {"running", "succeeded"}
    )
    if row is None or not mine:
        raise _superseded()
    return to_job(row)


def complete(
    session: Session,
    fence: Fence,
    result_id: str | None,
    *,
    now: datetime,
    timings_s: dict[str, float] | None = None,
) -> Job:
    """End the job with its result; call it in the transaction that stored the result.

    A job of another kind than ``segmentation`` has no result.

    A cancellation that came too late to stop the work does not undo it.

    Raises
    ------
    MetiaError
        ``job-superseded``; the transaction must then be rolled back.
    """
    more = {} if timings_s is None else {"timings_s": timings_s}
    return _guarded(
        session,
        fence,
        state="succeeded",
        step="record",
        progress=1.0,
        lease_until=null(),
        result_id=null() if result_id is None else result_id,
        error_code=null(),
        error_detail=null(),
        finished_at=now,
        **more,
    )


def fail(
    session: Session,
    fence: Fence,
    code: str,
    detail: str,
    *,
    now: datetime,
    timings_s: dict[str, float] | None = None,
) -> Job:
    """End the job with an error; its step stays where the error came from."""
    more = {} if timings_s is None else {"timings_s": timings_s}
    return _guarded(
        session,
        fence,
        state="failed",
        lease_until=null(),
        error_code=code,
        error_detail=detail,
        finished_at=now,
        **more,
    )


def end_cancelled(session: Session, fence: Fence, *, now: datetime) -> Job:
    """End a running job because its cancellation was asked for."""
    return _guarded(session, fence, **_cancelled(now))


def put_back(
    session: Session,
    fence: Fence,
    *,
    not_before: datetime,
    now: datetime,
    error_code: str | None = None,
    error_detail: str | None = None,
    count_retry: bool = False,
) -> Job:
    """Give a running job back to the queue (or end it, where it is to be cancelled)."""
    job = hold(session, fence)
    if job.cancel_requested:
        return end_cancelled(session, fence, now=now)
    return _guarded(
        session,
        fence,
        state="queued",
        step="waiting",
        progress=0.0,
        lease_until=null(),
        not_before=not_before,
        published_at=null(),
        retries=JobRow.retries + (1 if count_retry else 0),
        timings_s={},
        error_code=error_code,
        error_detail=error_detail,
    )


def request_cancel(session: Session, job_id: str, *, now: datetime) -> Job:
    """Cancel a waiting job at once; ask the worker of a running one to stop.

    A running job whose worker is not heard of any more is cancelled at once too.

    Raises
    ------
    MetiaError
        ``not-found``; ``conflict`` where the job has succeeded or failed.
    """
    row = session.scalar(
        select(JobRow)
        .where(JobRow.id == job_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise MetiaError("not-found", "There is no job of this id.")
    if row.state in {"succeeded", "failed"}:
        raise MetiaError("conflict", f"The job has {row.state} already.")
    orphan = row.lease_until is not None and row.lease_until < now
    if row.state == "queued" or (row.state == "running" and orphan):
        return _change(session, job_id, **_cancelled(now))
    if row.state == "running":
        return _change(session, job_id, cancel_requested=True)
    return to_job(row)


def _change(session: Session, job_id: str, **values: Any) -> Job:
    job = update_job(session, JobRow.id == job_id, **values)
    return job if job is not None else get_job(session, job_id)


def _cancelled(now: datetime) -> dict[str, Any]:
    return {
        "state": "cancelled",
        "cancel_requested": True,
        "lease_until": null(),
        "error_code": "job-cancelled",
        "error_detail": "The job was cancelled on request.",
        "finished_at": now,
    }


def _guarded(session: Session, fence: Fence, **values: Any) -> Job:
    job = update_job(
        session,
        and_(
            JobRow.id == fence.job_id,
            JobRow.attempt == fence.attempt,
            JobRow.owner == fence.owner,
            JobRow.state == RUNNING,
        ),
        **values,
    )
    if job is None:
        raise _superseded()
    return job


def _superseded() -> MetiaError:
    return MetiaError(
        "job-superseded",
        "This worker does not hold the job any more; it changes nothing.",
    )


def update_job(
    session: Session, condition: ColumnElement[bool], **values: Any
) -> Job | None:
    """Change the one job that fulfils `condition`; None where none does."""
    statement = (
        update(JobRow)
        .where(condition)
        .values(**values)
        .returning(JobRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    row = session.scalar(statement)
    return None if row is None else to_job(row)
