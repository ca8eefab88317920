"""What a job is; adding, reading and counting jobs.

Life (the steps are in ``db.job_life``): queued -> running -> succeeded | failed |
cancelled, and running -> queued where a worker died, gave the job back or has to wait.
``attempt`` counts how often the job was taken; with ``owner`` it is the fence: only the
taker that knows both may change a running job. ``deaths`` counts workers lost while
holding it (limit: ``max_attempts``), ``retries`` the waits for something that may mend
itself. Functions take a ``Session``; policy (delays, limits) is ``segmentation.jobs``.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Text, and_, func, literal_column, or_, select, text
from sqlalchemy.orm import Session

from db.encoding import canonical_hash
from db.engine import is_postgresql
from db.models import JOB_STATES, JobRow
from errors import MetiaError

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]

_UPS_STATES: dict[str, str] = {
    "queued": "SCHEDULED",
    "running": "IN PROGRESS",
    "succeeded": "COMPLETED",
    "failed": "CANCELED",
    "cancelled": "CANCELED",
}
# Literals, so that every plan can use the partial indexes over these states.
QUEUED = literal_column("'queued'", Text)
RUNNING = literal_column("'running'", Text)
_NOT_CANCELLED = text("NOT cancel_requested")

SEGMENTATION = "segmentation"
FOLLOW = "follow"
"""Kind of the jobs that line up a patient's visits; they have no result."""

_QUEUE_LOCK = 0x4D657449  # "MetI": any number of our own


@dataclass(frozen=True)
class Job:
    """One job as it was when it was read.

    Attributes
    ----------
    kind : str
        ``segmentation``, or ``follow`` (a patient's visits are lined up).
    step : str
        ``waiting`` ``fetch`` ``volume`` ``predict`` ``lesions`` ``segmentation``
        ``store`` ``record``.
    progress : float
        Of the whole job, 0 to 1.
    attempt : int
        How often it was taken by a worker; the fence.
    deaths, retries : int
        Takings that ended with the worker's death, and with a wait for another try.
    max_attempts : int
        Deaths after which the job fails.
    owner : str or None
        The worker that holds it, or held it last.
    error_code, error_detail : str or None
        Why it failed; of a queued job: why its last try was put off.
    timings_s : dict
        Seconds a step, of the last attempt.
    """

    id: str
    kind: str
    queue: str
    priority: int
    state: JobState
    step: str
    progress: float
    attempt: int
    deaths: int
    retries: int
    max_attempts: int
    owner: str | None
    lease_until: datetime | None
    not_before: datetime
    cancel_requested: bool
    study_uid: str
    series_uid: str | None
    model_name: str | None
    parameters: dict[str, Any]
    requested_by: str | None
    dedupe_key: str
    error_code: str | None
    error_detail: str | None
    result_id: str | None
    timings_s: dict[str, float]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True)
class JobRequest:
    """What is asked of a new job."""

    study_uid: str
    series_uid: str | None = None
    model_name: str | None = None
    parameters: Mapping[str, object] | None = None
    kind: str = SEGMENTATION
    queue: str = "gpu"
    priority: int = 0
    requested_by: str | None = None

    @classmethod
    def follow(
        cls, patient_key: str, study_uid: str, requested_by: str | None = None
    ) -> JobRequest:
        """Ask for a patient's visits to be lined up; one active a patient.

        Parameters
        ----------
        patient_key : str
            Key of the patient's row.
        study_uid : str
            The visit that gave rise to it; does not tell two requests apart.
        requested_by : str, optional
            Name of the user.
        """
        return cls(
            study_uid,
            parameters={"patient_key": patient_key},
            kind=FOLLOW,
            queue="cpu",
            requested_by=requested_by,
        )

    @property
    def dedupe_key(self) -> str:
        """Hash of all that makes two requests the same work."""
        if self.kind == FOLLOW:
            return canonical_hash([FOLLOW, dict(self.parameters or {})])
        return canonical_hash(
            [
                self.kind,
                self.study_uid,
                self.series_uid or "",
                self.model_name or "",
                dict(self.parameters or {}),
            ]
        )


def ups_state(state: str) -> str:
    """Map a job's state to the Procedure Step State of DICOM PS3.4 CC.1.1."""
    return _UPS_STATES[state]


def find_active(session: Session, dedupe_key: str) -> Job | None:
    """Find the queued or running job of this key that nobody has cancelled."""
    row = session.scalar(
        select(JobRow).where(
            JobRow.dedupe_key == dedupe_key,
            JobRow.state.in_((QUEUED, RUNNING)),
            _NOT_CANCELLED,
        )
    )
    return None if row is None else to_job(row)


def lock_queue(session: Session) -> None:
    """Let nobody else add a job until the transaction ends (SQLite: already so)."""
    if is_postgresql(session):
        session.execute(
            text("SELECT pg_advisory_xact_lock(:key)"), {"key": _QUEUE_LOCK}
        )


def enqueue(
    session: Session, request: JobRequest, *, max_attempts: int, now: datetime
) -> tuple[Job, bool]:
    """Add a job unless an active one does the same work; for use inside a transaction.

    A job that is under way counts as active. So that what it has not seen is not
    forgotten, whoever writes the work's input and whoever ends the job hold the same
    lock (``db.patients.lock_patient``) while they do, and the latter looks once more.

    Returns
    -------
    tuple
        The job, and whether it is new.
    """
    lock_queue(session)
    active = find_active(session, request.dedupe_key)
    if active is not None:
        return active, False
    return insert_job(session, request, max_attempts=max_attempts, now=now), True


def insert_job(
    session: Session,
    request: JobRequest,
    *,
    max_attempts: int,
    now: datetime,
    published: bool = False,
) -> Job:
    """Add a job; ``conflict`` where an active one of the same key is there already.

    `published` says that the caller will tell the broker of it once it is committed.
    """
    row = JobRow(
        id=uuid.uuid4().hex,
        kind=request.kind,
        queue=request.queue,
        priority=request.priority,
        state="queued",
        step="waiting",
        progress=0.0,
        attempt=0,
        deaths=0,
        retries=0,
        max_attempts=max_attempts,
        not_before=now,
        published_at=now if published else None,
        cancel_requested=False,
        study_uid=request.study_uid,
        series_uid=request.series_uid,
        model_name=request.model_name,
        parameters=dict(request.parameters or {}),
        requested_by=request.requested_by,
        dedupe_key=request.dedupe_key,
        timings_s={},
        created_at=now,
    )
    session.add(row)
    session.flush()
    return to_job(row)


def get_job(session: Session, job_id: str) -> Job:
    """Read one job; ``not-found`` where there is none."""
    row = session.scalar(
        select(JobRow)
        .where(JobRow.id == job_id)
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise MetiaError("not-found", "There is no job of this id.")
    return to_job(row)


def list_jobs(
    session: Session,
    *,
    state: str | None = None,
    study_uid: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[tuple[Job, ...], str | None]:
    """List jobs, newest first.

    Returns
    -------
    tuple
        The jobs, and the cursor of the page after (None at the end).

    Raises
    ------
    MetiaError
        ``invalid-input`` for a cursor that no list gave out.
    """
    query = select(JobRow).order_by(JobRow.created_at.desc(), JobRow.id.desc())
    if state is not None:
        query = query.where(JobRow.state == state)
    if study_uid is not None:
        query = query.where(JobRow.study_uid == study_uid)
    if cursor is not None:
        created_at, job_id = _read_cursor(cursor)
        query = query.where(
            or_(
                JobRow.created_at < created_at,
                and_(JobRow.created_at == created_at, JobRow.id < job_id),
            )
        )
    jobs = [to_job(row) for row in session.scalars(query.limit(limit + 1))]
    more = len(jobs) > limit
    page = tuple(jobs[:limit])
    return page, _write_cursor(page[-1]) if more and page else None


def _write_cursor(job: Job) -> str:
    place = f"{job.created_at.isoformat()} {job.id}"
    return base64.urlsafe_b64encode(place.encode("ascii")).decode("ascii")


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        place = base64.b64decode(cursor.encode("ascii"), b"-_", validate=True)
        moment, job_id = place.decode("ascii").split(" ")
        created_at = datetime.fromisoformat(moment)
    except ValueError:
        created_at = None
        job_id = ""
    if created_at is None or created_at.tzinfo is None:
        raise MetiaError("invalid-input", "The cursor is not one of this list.")
    return created_at, job_id


def count_jobs(session: Session) -> dict[str, int]:
    """Count the jobs of every state."""
    counted = select(JobRow.state, func.count()).group_by(JobRow.state)
    return dict.fromkeys(JOB_STATES, 0) | {
        state: number for state, number in session.execute(counted)
    }


def count_queued(session: Session) -> int:
    """Count the jobs that wait for a worker."""
    queued = select(func.count()).select_from(JobRow).where(JobRow.state == QUEUED)
    return session.scalar(queued) or 0


def oldest_queued(session: Session) -> datetime | None:
    """Tell since when the oldest waiting job waits; None where none does."""
    return session.scalar(
        select(func.min(JobRow.created_at)).where(JobRow.state == QUEUED)
    )


def queue_position(session: Session, job: Job) -> int | None:
    """Tell how many waiting jobs of its queue come up to and with this one (from 1)."""
    return queue_positions(session, (job,)).get(job.id)


def queue_positions(session: Session, jobs: Sequence[Job]) -> dict[str, int]:
    """Tell the place in its queue of each of these jobs that waits, by its id."""
    waiting = [job for job in jobs if job.state == "queued"]
    if len(waiting) == 1:
        return {waiting[0].id: 1 + _count_before(session, waiting[0])}
    if not waiting:
        return {}
    # Numbering a queue once costs less than counting for each job of a page.
    place = func.row_number().over(
        partition_by=JobRow.queue,
        order_by=(JobRow.priority.desc(), JobRow.created_at, JobRow.id),
    )
    numbered = select(JobRow.id, place).where(JobRow.state == QUEUED).subquery()
    job_id, position = numbered.c
    wanted = job_id.in_([job.id for job in waiting])
    rows = session.execute(select(job_id, position).where(wanted))
    return {str(row[0]): int(row[1]) for row in rows}


def _count_before(session: Session, job: Job) -> int:
    before = or_(
        JobRow.priority > job.priority,
        and_(
            JobRow.priority == job.priority,
            or_(
                JobRow.created_at < job.created_at,
                and_(JobRow.created_at == job.created_at, JobRow.id < job.id),
            ),
        ),
    )
    ahead = (
        select(func.count())
        .select_from(JobRow)
        .where(JobRow.state == QUEUED, JobRow.queue == job.queue, before)
    )
    return session.scalar(ahead) or 0


def to_job(row: JobRow) -> Job:
    """Copy a row into what leaves this package."""
    values = {item.name: getattr(row, item.name) for item in fields(Job)}
    # SQLite's RETURNING gives 0 for 0.0.
    return Job(**(values | {"progress": float(row.progress)}))
