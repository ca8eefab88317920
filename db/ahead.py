"""What is done before anyone asks: the archive's changes read so far, and hints.

One process at a time reads the archive's changes: it holds a lease on the feed's row,
and everything it writes is refused once another has taken over (``hold_feed``). What it
noticed, how far it read, and the job it asked for are written in one transaction, so
that a death at any point loses nothing and does nothing twice. Functions take a
``Session`` and the shared time ``now``; policy is ``segmentation.ahead``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db import audit
from db.engine import is_postgresql
from db.job_claims import first_due
from db.jobs import QUEUED, RUNNING, SEGMENTATION, Job, to_job
from db.models import (
    ArrivalFeedRow,
    ArrivalRow,
    JobRow,
    OpenedStudyRow,
    ResultRow,
    SeriesRow,
)
from errors import MetiaError

AUTOMATIC = "rule:zero-click"
"""In the place of the user who requested a job; no user can be named so."""
AUTOMATIC_PRIORITY = -50
"""Below what any person, and the lining-up of visits, can ask for."""
AUTOMATIC_QUEUE = "gpu"

_FEED = "archive"
_OPENED_KEPT = timedelta(minutes=5)
_DECIDED_KEPT = timedelta(days=30)


@dataclass(frozen=True)
class FeedPosition:
    """How far the archive's list of changes has been read.

    Attributes
    ----------
    sequence : int
        Number of the last change read; 0 where none was.
    mark : str
        What the archive said of it.
    caught_up_at : datetime or None
        When the end was last reached; None before the first time.
    """

    sequence: int = 0
    mark: str = ""
    caught_up_at: datetime | None = None


@dataclass(frozen=True)
class Arrival:
    """A study in which something arrived and that is still to be looked at."""

    archive_id: str
    tries: int
    decided: str | None


@dataclass(frozen=True)
class OpenedStudy:
    """A study that somebody has just opened."""

    study_uid: str
    opened_at: datetime


# -- who reads the archive's changes -------------------------------------------


def take_feed(
    session: Session, owner: str, *, lease: timedelta, now: datetime
) -> FeedPosition | None:
    """Take or keep the lease on the feed; None while another holds it."""
    dialect = postgresql if is_postgresql(session) else sqlite
    session.execute(
        dialect.insert(ArrivalFeedRow)
        .values(name=_FEED, sequence=0, mark="")
        .on_conflict_do_nothing()
    )
    free = or_(
        ArrivalFeedRow.owner.is_(None),
        ArrivalFeedRow.owner == owner,
        ArrivalFeedRow.lease_until < now,
        # Further ahead than any lease: written before the clock went back.
        ArrivalFeedRow.lease_until > now + 4 * lease,
    )
    row = session.scalar(
        update(ArrivalFeedRow)
        .where(ArrivalFeedRow.name == _FEED, free)
        .values(owner=owner, lease_until=now + lease)
        .returning(ArrivalFeedRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return (
        None if row is None else FeedPosition(row.sequence, row.mark, row.caught_up_at)
    )


def hold_feed(session: Session, owner: str, *, lease: timedelta, now: datetime) -> None:
    """Make sure of the lease until the transaction ends, and renew it.

    A lease that ran out is still held for as long as nobody else has taken it.

    Raises
    ------
    MetiaError
        ``job-superseded`` where another process reads now.
    """
    held = session.scalar(
        update(ArrivalFeedRow)
        .where(ArrivalFeedRow.name == _FEED, ArrivalFeedRow.owner == owner)
        .values(lease_until=now + lease)
        .returning(ArrivalFeedRow.name)
        .execution_options(synchronize_session=False)
    )
    if held is None:
        raise MetiaError("job-superseded", "Another process reads the arrivals.")


def leave_feed(session: Session, owner: str) -> None:
    """Let another process read at once."""
    session.execute(
        update(ArrivalFeedRow)
        .where(ArrivalFeedRow.name == _FEED, ArrivalFeedRow.owner == owner)
        .values(owner=None, lease_until=None)
    )


def caught_up_at(session: Session) -> datetime | None:
    """Tell when the end of the list was last reached."""
    return session.scalar(
        select(ArrivalFeedRow.caught_up_at).where(ArrivalFeedRow.name == _FEED)
    )


def move_feed(session: Session, position: FeedPosition) -> None:
    """Note how far the list has been read; only within ``hold_feed``."""
    session.execute(
        update(ArrivalFeedRow)
        .where(ArrivalFeedRow.name == _FEED)
        .values(
            sequence=position.sequence,
            mark=position.mark,
            caught_up_at=position.caught_up_at,
        )
    )


# -- what has arrived ----------------------------------------------------------


def note_arrivals(session: Session, archive_ids: Sequence[str], now: datetime) -> None:
    """Have these studies looked at, once each; again where they were before."""
    dialect = postgresql if is_postgresql(session) else sqlite
    for archive_id in dict.fromkeys(archive_ids):
        fresh = {"pending": True, "noticed_at": now, "not_before": now, "tries": 0}
        session.execute(
            dialect.insert(ArrivalRow)
            .values(archive_id=archive_id, **fresh)
            .on_conflict_do_update(index_elements=["archive_id"], set_=fresh)
        )
    session.execute(
        delete(ArrivalRow).where(
            ~ArrivalRow.pending, ArrivalRow.noticed_at < now - _DECIDED_KEPT
        )
    )


def due_arrivals(session: Session, now: datetime, limit: int) -> tuple[Arrival, ...]:
    """List the studies to look at now, those that waited longest first."""
    query = (
        select(ArrivalRow)
        .where(ArrivalRow.pending, ArrivalRow.not_before <= now)
        .order_by(ArrivalRow.not_before, ArrivalRow.archive_id)
        .limit(limit)
    )
    return tuple(
        Arrival(row.archive_id, row.tries, row.decided)
        for row in session.scalars(query)
    )


def count_arrivals(session: Session) -> int:
    """Count the studies still to be looked at."""
    pending = select(func.count()).select_from(ArrivalRow).where(ArrivalRow.pending)
    return session.scalar(pending) or 0


def postpone_arrival(
    session: Session, archive_id: str, not_before: datetime, *, failed: bool
) -> None:
    """Look at a study later; `failed` counts the try."""
    session.execute(
        update(ArrivalRow)
        .where(ArrivalRow.archive_id == archive_id)
        .values(not_before=not_before, tries=ArrivalRow.tries + (1 if failed else 0))
    )


def settle_arrival(session: Session, archive_id: str, decided: str | None) -> None:
    """Be done with a study until something arrives in it again.

    Parameters
    ----------
    decided : str or None
        See ``ArrivalRow``; None leaves what was decided before.
    """
    change = {} if decided is None else {"decided": decided}
    session.execute(
        update(ArrivalRow)
        .where(ArrivalRow.archive_id == archive_id)
        .values(pending=False, **change)
    )


# -- jobs nobody pressed for ---------------------------------------------------


def count_automatic(session: Session) -> int:
    """Count the automatic jobs that wait."""
    waiting = (
        select(func.count())
        .select_from(JobRow)
        .where(
            JobRow.state == QUEUED,
            JobRow.queue == AUTOMATIC_QUEUE,
            JobRow.priority == AUTOMATIC_PRIORITY,
        )
    )
    return session.scalar(waiting) or 0


def is_taken_care_of(
    session: Session, study_uid: str, model_name: str, model_sha256: str
) -> bool:
    """Tell whether an automatic job would repeat or cross what people did.

    So it is where a job of the study and model is under way; where a person asked for
    a result of this model; and where a reader has touched any result of the study.
    """
    under_way = select(JobRow.id).where(
        JobRow.study_uid == study_uid,
        JobRow.kind == SEGMENTATION,
        JobRow.model_name == model_name,
        JobRow.state.in_((QUEUED, RUNNING)),
        ~JobRow.cancel_requested,
    )
    if session.scalar(under_way.limit(1)) is not None:
        return True
    asked_for = or_(
        JobRow.id.is_(None), JobRow.requested_by.is_distinct_from(AUTOMATIC)
    )
    results = (
        select(ResultRow.id)
        .join(SeriesRow, SeriesRow.series_uid == ResultRow.series_uid)
        .outerjoin(JobRow, JobRow.id == ResultRow.job_id)
        .where(
            SeriesRow.study_uid == study_uid,
            or_(
                ResultRow.origin != "model",
                ResultRow.state != "unverified",
                and_(ResultRow.model_sha256 == model_sha256, asked_for),
            ),
        )
    )
    return session.scalar(results.limit(1)) is not None


def overtake(
    session: Session, job: Job, priority: int, requested_by: str | None
) -> Job:
    """Let an active job that somebody asks for again come earlier, never later.

    An automatic one is from now on that of the person who asked.
    """
    adopted = job.requested_by == AUTOMATIC and requested_by is not None
    if not adopted and job.priority >= priority:
        return job
    row = session.scalar(
        update(JobRow)
        .where(JobRow.id == job.id, JobRow.state.in_((QUEUED, RUNNING)))
        .values(
            priority=max(job.priority, priority),
            requested_by=requested_by if adopted else job.requested_by,
            # A broker that was told of it has to be told again.
            published_at=None,
        )
        .returning(JobRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if row is None:
        return job
    if adopted:
        audit.append(
            session,
            actor=requested_by,
            action="job-adopt",
            subject=f"job:{job.id}",
            details={"requested_by": AUTOMATIC},
        )
    return to_job(row)


def raise_automatic(session: Session, study_uid: str, priority: int) -> None:
    """Let the waiting automatic jobs of a study come earlier; they stay automatic."""
    session.execute(
        update(JobRow)
        .where(
            JobRow.study_uid == study_uid,
            JobRow.state == QUEUED,
            JobRow.priority < priority,
            JobRow.requested_by == AUTOMATIC,
        )
        .values(priority=priority, published_at=None)
        .execution_options(synchronize_session=False)
    )


# -- what will be asked for soon -----------------------------------------------


def next_waiting(
    session: Session, queues: Sequence[str], now: datetime, limit: int
) -> tuple[Job, ...]:
    """Show the segmentations that a worker would take next; takes none of them."""
    heads: list[Job] = []
    for queue in dict.fromkeys(queues):
        # One queue at a time, as its index has them.
        first = first_due(queue, now).with_only_columns(JobRow).limit(limit)
        heads += map(to_job, session.scalars(first))
    heads.sort(key=lambda job: (-job.priority, job.created_at, job.id))
    return tuple(job for job in heads[:limit] if job.kind == SEGMENTATION)


def note_opened(session: Session, study_uid: str, now: datetime) -> None:
    """Note that somebody has opened a study, and forget who did long ago."""
    session.execute(
        delete(OpenedStudyRow).where(OpenedStudyRow.opened_at < now - _OPENED_KEPT)
    )
    dialect = postgresql if is_postgresql(session) else sqlite
    session.execute(
        dialect.insert(OpenedStudyRow)
        .values(study_uid=study_uid, opened_at=now)
        .on_conflict_do_update(index_elements=["study_uid"], set_={"opened_at": now})
    )


def opened_lately(
    session: Session, since: datetime, limit: int
) -> tuple[OpenedStudy, ...]:
    """List the studies opened since then, the latest first."""
    query = (
        select(OpenedStudyRow)
        .where(OpenedStudyRow.opened_at >= since)
        .order_by(OpenedStudyRow.opened_at.desc())
        .limit(limit)
    )
    return tuple(
        OpenedStudy(row.study_uid, row.opened_at) for row in session.scalars(query)
    )
