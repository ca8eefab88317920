"""The queue of jobs: who may add one, who may take one, when a job is tried again.

``JobQueue`` is what API, command line and worker share; each call is one transaction,
so it may be shared between threads, processes and (PostgreSQL) hosts. The promise: two
requests for the same work while it is active are one job; a job is held by one worker
at a time; a worker that died is replaced within the lease; a job ends exactly once.

Three ways back to the queue, deliberately counted apart: the worker *died* (its lease
ran out: at most ``max_attempts`` times, then ``job-attempts-exhausted``), the work has
to *wait* for something that may mend itself (``retry``: after 1, 2, 4 ... 60 s, give or
take a quarter, at most ``RETRY_LIMIT`` times), or the worker is *asked to stop*
(``release``: at once and not counted).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from db import job_claims, job_life, jobs, workers
from db.ahead import overtake
from db.engine import Engine, Session, database_time, reading, transaction
from db.job_life import Fence
from db.jobs import Job, JobRequest, ups_state
from db.workers import WorkerInfo
from errors import CODES, MetiaError
from settings import Settings

__all__ = [
    "Fence",
    "Job",
    "JobPage",
    "JobQueue",
    "JobRequest",
    "WorkerInfo",
    "ups_state",
]

RETRY_LIMIT = 15
"""Waits before a job fails: about eleven minutes in all."""
_RETRY_LIMITS = {"out-of-memory": 2}
_LONGEST_DELAY_S = 60.0
_RETRYABLE_HERE = {"database-unusable"}
"""Not mended by asking again in a request, but worth waiting for in a job."""


@dataclass(frozen=True)
class JobPage:
    """Some jobs, newest first, and the cursor of the next page (None at the end)."""

    jobs: tuple[Job, ...]
    next_cursor: str | None


class JobQueue:
    """The queue of jobs in the product's database.

    Parameters
    ----------
    engine : Engine
        The database, at the current schema.
    settings : Settings
        Lease, attempts and length of the queue.
    clock : Callable, optional
        Gives the time that all users of the database share; for tests.
    announce : Callable, optional
        Told of each new job once it is committed; raises nothing. Without it the
        workers find the job by themselves.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        clock: Callable[[Session], datetime] = database_time,
        announce: Callable[[Job], None] | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._announce = announce
        self._lease = timedelta(seconds=settings.job_lease_s)
        self._max_attempts = settings.job_max_attempts
        self._limit = settings.job_queue_limit

    # -- for those who want work done ------------------------------------------

    def submit(
        self,
        study_uid: str,
        series_uid: str | None = None,
        model_name: str | None = None,
        parameters: Mapping[str, object] | None = None,
        *,
        kind: str = "segmentation",
        queue: str = "gpu",
        priority: int = 0,
        requested_by: str | None = None,
    ) -> tuple[Job, bool]:
        """Ask for work; the same work while it is active is the same job.

        A job whose cancellation was asked for no longer counts: asking again gives a
        new one.

        Returns
        -------
        tuple
            The job, and whether it is new.

        Raises
        ------
        MetiaError
            ``too-many-requests`` where the queue is full.
        """
        request = JobRequest(
            study_uid,
            series_uid,
            model_name,
            dict(parameters or {}),
            kind,
            queue,
            priority,
            requested_by,
        )
        with transaction(self._engine) as session:
            jobs.lock_queue(session)
            active = jobs.find_active(session, request.dedupe_key)
            if active is not None:
                # Whoever presses for what a rule has queued need not wait behind it.
                return overtake(session, active, priority, requested_by), False
            if jobs.count_queued(session) >= self._limit:
                raise MetiaError(
                    "too-many-requests",
                    f"{self._limit} jobs are waiting already.",
                    {"queue_limit": self._limit},
                )
            job = jobs.insert_job(
                session,
                request,
                max_attempts=self._max_attempts,
                now=self._clock(session),
                published=self._announce is not None,
            )
        if self._announce is not None:
            self._announce(job)
        return job, True

    def get(self, job_id: str) -> Job:
        """Read a job; ``not-found`` where there is none."""
        with reading(self._engine) as session:
            return jobs.get_job(session, job_id)

    def list(
        self,
        *,
        state: str | None = None,
        study_uid: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """List jobs, newest first; ``invalid-input`` for a cursor of no page."""
        with reading(self._engine) as session:
            return JobPage(
                *jobs.list_jobs(
                    session,
                    state=state,
                    study_uid=study_uid,
                    limit=limit,
                    cursor=cursor,
                )
            )

    def position(self, job: Job) -> int | None:
        """Place of a waiting job in its queue, from 1; None once it does not wait."""
        with reading(self._engine) as session:
            return jobs.queue_position(session, job)

    def counts(self) -> dict[str, int]:
        """Count the jobs of every state."""
        with reading(self._engine) as session:
            return jobs.count_jobs(session)

    def cancel(self, job_id: str) -> Job:
        """Cancel a waiting job at once; ask the worker of a running one to stop.

        Cancelling twice is cancelling once. A running job that is about to record its
        result may still succeed.

        Raises
        ------
        MetiaError
            ``not-found``; ``conflict`` where the job has succeeded or failed.
        """
        with transaction(self._engine) as session:
            return job_life.request_cancel(session, job_id, now=self._clock(session))

    # -- for workers -----------------------------------------------------------

    def claim(self, owner: str, queues: Sequence[str] = ("gpu", "cpu")) -> Job | None:
        """Take the next job, if one waits; first gives back those of dead workers.

        Parameters
        ----------
        owner : str
            Name of the worker process, never used by another.
        queues : sequence of str
            What it can do; higher priority first, then the oldest, over all of them.
        """
        with transaction(self._engine) as session:
            now = self._clock(session)
            job_life.recover_expired(session, lease=self._lease, now=now)
            return job_claims.claim(session, owner, queues, lease=self._lease, now=now)

    def claim_one(self, owner: str, job_id: str) -> Job | None:
        """Take this very job; None where it does not wait or is not due."""
        with transaction(self._engine) as session:
            return job_claims.claim_one(
                session, job_id, owner, lease=self._lease, now=self._clock(session)
            )

    def recover(self) -> tuple[Job, ...]:
        """Give back the jobs of dead workers; gives those jobs."""
        with transaction(self._engine) as session:
            now = self._clock(session)
            return job_life.recover_expired(session, lease=self._lease, now=now)

    def take_unpublished(
        self, queue: str, *, arrives_s: float, broker_empty: bool, limit: int
    ) -> tuple[Job, ...]:
        """Give the first jobs of a queue whose message is missing, noted as sent.

        Parameters
        ----------
        arrives_s : float
            How long a message may be on its way.
        broker_empty : bool
            No message of this queue waits in the broker.
        limit : int
            How far from the front to look.
        """
        with transaction(self._engine) as session:
            now = self._clock(session)
            return job_claims.take_unpublished(
                session,
                queue,
                arrived=now - timedelta(seconds=arrives_s),
                broker_empty=broker_empty,
                now=now,
                limit=limit,
            )

    def heartbeat(
        self,
        job_id: str,
        attempt: int,
        owner: str,
        *,
        step: str | None = None,
        progress: float | None = None,
        timings_s: dict[str, float] | None = None,
    ) -> bool:
        """Renew the lease and note how far the work is.

        Returns
        -------
        bool
            Whether the job's cancellation was asked for.

        Raises
        ------
        MetiaError
            ``job-superseded`` where another worker holds the job, or it has ended.
        """
        with transaction(self._engine) as session:
            job = job_life.heartbeat(
                session,
                Fence(job_id, attempt, owner),
                lease=self._lease,
                now=self._clock(session),
                step=step,
                progress=progress,
                timings_s=timings_s,
            )
        return job.cancel_requested

    def complete(
        self,
        fence: Fence,
        store: Callable[[Session], str | None],
        timings_s: dict[str, float] | None = None,
    ) -> Job:
        """Store a result and end the job with it, both or neither.

        May be called again where the answer to the first call was lost.

        Parameters
        ----------
        fence : Fence
            Proof of holding the job.
        store : Callable
            Writes the result with the session given; returns the result's id, or None
            for a job that has none (of kind ``follow``).

        Raises
        ------
        MetiaError
            ``job-superseded`` where another worker holds the job: nothing is stored.
        """
        with transaction(self._engine) as session:
            job = job_life.hold(session, fence)
            if job.state == "succeeded":
                return job
            result_id = store(session)
            return job_life.complete(
                session,
                fence,
                result_id,
                now=self._clock(session),
                timings_s=timings_s,
            )

    def fail(
        self, fence: Fence, error: MetiaError, timings_s: dict[str, float] | None = None
    ) -> Job:
        """End the job with an error; cancelled where that is the error.

        Raises
        ------
        MetiaError
            ``job-superseded`` where another worker holds the job.
        """
        with transaction(self._engine) as session:
            now = self._clock(session)
            if error.code == "job-cancelled":
                return job_life.end_cancelled(session, fence, now=now)
            return job_life.fail(
                session, fence, error.code, error.detail, now=now, timings_s=timings_s
            )

    def retry(
        self, fence: Fence, error: MetiaError, timings_s: dict[str, float] | None = None
    ) -> Job:
        """Put the job back to be tried later, or fail it where that has no prospect.

        Raises
        ------
        MetiaError
            ``job-superseded`` where another worker holds the job.
        """
        with transaction(self._engine) as session:
            now = self._clock(session)
            job = job_life.hold(session, fence)
            limit = _RETRY_LIMITS.get(error.code, RETRY_LIMIT)
            if not may_retry(error.code) or job.retries >= limit:
                return job_life.fail(
                    session,
                    fence,
                    error.code,
                    error.detail,
                    now=now,
                    timings_s=timings_s,
                )
            return job_life.put_back(
                session,
                fence,
                not_before=now + retry_delay(job.retries),
                now=now,
                error_code=error.code,
                error_detail=error.detail,
                count_retry=True,
            )

    def release(self, fence: Fence) -> Job:
        """Give the job to another worker at once, because this one has to stop.

        Raises
        ------
        MetiaError
            ``job-superseded`` where another worker holds the job.
        """
        with transaction(self._engine) as session:
            now = self._clock(session)
            return job_life.put_back(session, fence, not_before=now, now=now)

    # -- who works -------------------------------------------------------------

    def note_worker(self, owner: str, queues: Sequence[str], device: str) -> None:
        """Note that a worker process is alive."""
        with transaction(self._engine) as session:
            workers.note_worker(session, owner, queues, device)

    def remove_worker(self, owner: str) -> None:
        """Note that a worker process has ended."""
        with transaction(self._engine) as session:
            workers.remove_worker(session, owner)

    def workers(self) -> tuple[WorkerInfo, ...]:
        """List the worker processes heard of within a lease."""
        with reading(self._engine) as session:
            return workers.live_workers(session, self._lease)


def may_retry(code: str) -> bool:
    """Tell whether a job that failed with `code` may succeed later by itself."""
    return CODES[code].retryable or code in _RETRYABLE_HERE


def retry_delay(retries: int) -> timedelta:
    """Give the wait after so many earlier waits: 1, 2, 4 ... 60 s, a quarter at random.

    The random part keeps the jobs that one outage put off from coming back at once.
    """
    delay_s = min(_LONGEST_DELAY_S, 2.0 ** min(retries, 10))
    return timedelta(seconds=delay_s * random.uniform(0.75, 1.25))  # noqa: S311
