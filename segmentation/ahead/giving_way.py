"""An automatic job that is under way gives way to a person who waits.

``GivingWay`` stands between a run and its job: where a person's job waits and nobody
has taken it, the run is told to stop as if it had been cancelled, and the worker puts
the automatic job back into the queue. Not once most of the work is done, and not where
somebody has pressed for this very study meanwhile. Asks the database once a second at
most; where it cannot be asked, the run goes on. For the run's own thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from db.ahead import AUTOMATIC, next_waiting
from db.engine import Engine, database_time, reading
from db.jobs import get_job
from errors import MetiaError

log = structlog.get_logger(__name__)

_ASK_EVERY_S = 1.0
_IDLE_TAKES = timedelta(seconds=1.5)
"""An idle worker would have taken a job that waits so long."""
_NEARLY_DONE = 0.75


class _Job(Protocol):
    def report(self, step: str, progress: float) -> None: ...

    def cancelled(self) -> bool: ...

    def ensure_owner(self) -> None: ...


class GivingWay:
    """The port of an automatic job's run.

    Parameters
    ----------
    job : JobPort
        What it stands before.
    someone_waits : Callable
        Tells whether a person waits for a worker.

    Attributes
    ----------
    gave_way : bool
        The run was told to stop for a person's sake.
    """

    def __init__(self, job: _Job, someone_waits: Callable[[], bool]) -> None:
        self._job = job
        self._someone_waits = someone_waits
        self._progress = 0.0
        self._asked = time.monotonic()
        self.gave_way = False

    def report(self, step: str, progress: float) -> None:
        """Take note that `step` has reached `progress`."""
        self._progress = progress
        self._job.report(step, progress)

    def cancelled(self) -> bool:
        """Tell whether the run should stop."""
        if self.gave_way or self._job.cancelled():
            return True
        now = time.monotonic()
        if self._progress >= _NEARLY_DONE or now - self._asked < _ASK_EVERY_S:
            return False
        self._asked = now
        self.gave_way = self._someone_waits()
        return self.gave_way

    def ensure_owner(self) -> None:
        """Raise ``job-superseded`` unless this worker still holds the job."""
        self._job.ensure_owner()


def person_waits(engine: Engine, queues: Sequence[str], job_id: str) -> bool:
    """Tell whether a person's job waits that the worker of this one should do first."""
    try:
        with reading(engine) as session:
            if get_job(session, job_id).requested_by != AUTOMATIC:
                return False  # somebody has pressed for this one
            now = database_time(session)
            return any(
                job.requested_by != AUTOMATIC and job.created_at <= now - _IDLE_TAKES
                for job in next_waiting(session, queues, now, 1)
            )
    except MetiaError as error:
        log.warning("not known who waits", code=error.code)
        return False
