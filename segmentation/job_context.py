"""What a running job sees of the queue: progress out, cancellation and the fence in.

A run calls ``report``, ``cancelled``, ``ensure_owner`` and, once, ``record``; it may do
so as often as it likes, the database is asked about twice a second. The worker's
watching thread calls ``beat``; both threads may use one context at once. A database
that fails for a while does not stop a run: the fence decides at the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from db.engine import Session
from errors import MetiaError
from segmentation.jobs import Fence, Job, JobQueue, may_retry

log = structlog.get_logger(__name__)

Written = TypeVar("Written")

_CONTACT_INTERVAL_S = 0.5
_COMMITTING = frozenset({"store", "record"})
"""Steps after which the archive may hold the object: stopping then would leave it there
without its record, so cancellation comes too late."""


class JobContext:
    """One taking of one job.

    Parameters
    ----------
    queue : JobQueue
        Where the job came from.
    job : Job
        As it was claimed.
    stopping : threading.Event
        Set once the worker has been asked to stop.
    patience_s : float
        How long to keep trying where the database fails.
    """

    def __init__(
        self,
        queue: JobQueue,
        job: Job,
        stopping: threading.Event,
        patience_s: float,
    ) -> None:
        self.job = job
        self.fence = Fence(job.id, job.attempt, job.owner or "")
        self._queue = queue
        self._stopping = stopping
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._step = job.step
        self._progress = 0.0
        self._timings_s: dict[str, float] = {}
        self._step_began = time.monotonic()
        self._contacted = self._step_began
        self.reported = self._step_began
        """When the run last gave a sign of life (monotonic seconds)."""
        self.cancel_requested = False
        self.lost = False
        """Another worker holds the job, or it was ended by others."""
        self.ended = False
        """This taking has ended; there is nothing left to renew."""

    @property
    def step(self) -> str:
        """The step the run is in."""
        return self._step

    def report(self, step: str, progress: float) -> None:
        """Take note that the whole job has reached `progress` (0 to 1) in `step`.

        Raises
        ------
        MetiaError
            ``job-superseded`` once another worker holds the job.
        """
        now = time.monotonic()
        self.reported = now
        with self._lock:
            new_step = step != self._step
            if new_step:
                self._close_step(now)
                self._step = step
            self._progress = min(max(progress, 0.0), 1.0)
        self._contact(at_once=new_step)
        self._raise_if_lost()

    def cancelled(self) -> bool:
        """Tell whether the run should stop: on request, or for the worker's end.

        Once the run stores its result it is always told to go on.
        """
        self.reported = time.monotonic()
        if self._step in _COMMITTING:
            return False
        self._contact(at_once=False)
        return self.cancel_requested or self.lost or self._stopping.is_set()

    def ensure_owner(self) -> None:
        """Renew the lease now; to be called before anything that cannot be undone.

        Raises
        ------
        MetiaError
            ``job-superseded`` where another worker holds the job, ``database-unusable``
            where that cannot be known.
        """
        self.persist(self.beat)
        self._raise_if_lost()

    def record(self, store: Callable[[Session], str | None]) -> None:
        """Store the result and end the job, in one transaction.

        Parameters
        ----------
        store : Callable
            Writes the rows with the session given and returns the result's id (None
            for a job without one). May be called more than once; only one call's rows
            are kept.

        Raises
        ------
        MetiaError
            ``job-superseded`` where another worker holds the job: nothing is stored.
        """
        self._raise_if_lost()
        timings_s = self.close()
        self.persist(lambda: self._queue.complete(self.fence, store, timings_s))
        self.ended = True

    def beat(self) -> None:
        """Renew the lease, tell the progress, learn of a cancellation.

        Raises
        ------
        MetiaError
            ``database-unusable`` and its like; never ``job-superseded`` (see `lost`).
        """
        with self._lock:
            if self.ended or self.lost:
                return
            self._contacted = time.monotonic()
            try:
                self.cancel_requested = self._queue.heartbeat(
                    self.fence.job_id,
                    self.fence.attempt,
                    self.fence.owner,
                    step=self._step,
                    progress=self._progress,
                    timings_s=dict(self._timings_s),
                )
            except MetiaError as error:
                if error.code != "job-superseded":
                    raise
                self.lost = not self.ended

    def close(self) -> dict[str, float]:
        """Give the seconds each step took, the present one until now."""
        with self._lock:
            self._close_step(time.monotonic())
            return dict(self._timings_s)

    def persist(self, write: Callable[[], Written]) -> Written:
        """Do `write`, again and again while the database fails but may recover.

        Raises
        ------
        MetiaError
            What `write` raised last, once patience has run out or it is of no use.
        """
        deadline = time.monotonic() + self._patience_s
        delay_s = 0.25
        while True:
            try:
                return write()
            except MetiaError as error:
                if not may_retry(error.code) or time.monotonic() + delay_s > deadline:
                    raise
                log.warning("database fails, trying again", code=error.code)
                time.sleep(delay_s)
                delay_s = min(2 * delay_s, 5.0)

    def _contact(self, *, at_once: bool) -> None:
        if not at_once and time.monotonic() - self._contacted < _CONTACT_INTERVAL_S:
            return
        try:
            self.beat()
        except MetiaError as error:
            log.warning("progress not written", code=error.code, job=self.fence.job_id)

    def _close_step(self, now: float) -> None:
        spent_s = self._timings_s.get(self._step, 0.0) + now - self._step_began
        self._timings_s[self._step] = round(spent_s, 3)
        self._step_began = now

    def _raise_if_lost(self) -> None:
        if self.lost:
            raise MetiaError("job-superseded", "Another worker holds this job.")
