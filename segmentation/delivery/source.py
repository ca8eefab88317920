"""Where a worker's jobs come from: one interface, and polling, the way built in.

``JobSource.feed`` runs in the worker's main thread and hands over one claimed job after
another; ``wake`` may come from any thread. The worker does not know which source it
has: leases, cancellation, the time to drain and the fence are its own.
"""

from __future__ import annotations

import threading
from typing import Protocol

import structlog

from errors import MetiaError
from segmentation.jobs import Job, JobQueue
from settings import Settings

log = structlog.get_logger(__name__)


class Desk(Protocol):
    """A worker as those see it who bring jobs."""

    owner: str
    stopping: threading.Event
    """Set once no further job is wanted."""

    def work(self, job: Job) -> None:
        """Run a job that this owner has claimed to its end; raises nothing."""


class JobSource(Protocol):
    """Brings jobs to a worker."""

    def feed(self, desk: Desk) -> None:
        """Claim jobs and give them to ``desk.work``, until it is stopping."""

    def wake(self) -> None:
        """Take note, in any thread, that the desk is stopping."""


class Polling:
    """Asks the database for the next job, again and again.

    Parameters
    ----------
    queue : JobQueue
    settings : Settings
        Queues, and seconds between two questions.
    """

    def __init__(self, queue: JobQueue, settings: Settings) -> None:
        self._queue = queue
        self._settings = settings

    def feed(self, desk: Desk) -> None:
        """See ``JobSource``."""
        while not desk.stopping.is_set():
            job = self._claim(desk)
            if job is None:
                desk.stopping.wait(self._settings.worker_poll_s)
            else:
                desk.work(job)

    def wake(self) -> None:
        """See ``JobSource``; the desk's own event wakes it."""

    def _claim(self, desk: Desk) -> Job | None:
        try:
            return self._queue.claim(desk.owner, self._settings.worker_queues)
        except MetiaError as error:
            log.error("no job can be taken", code=error.code, detail=error.detail)
            desk.stopping.wait(self._settings.job_heartbeat_s)
            return None


def make_source(settings: Settings, queue: JobQueue) -> JobSource:
    """Give the source that the settings choose."""
    url = settings.broker_url.get_secret_value()
    if not url:
        return Polling(queue, settings)
    # Only here: a worker without a broker does not pay for loading Celery.
    from segmentation.delivery.consumer import CeleryConsumer

    return CeleryConsumer(queue, settings)
