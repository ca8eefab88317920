"""Finds jobs that wait without a message in the broker, and sends it again.

Messages get lost: the broker was away or wiped, a host died with one in hand, a job
came back to the queue (tried again, given back, its worker dead). A thread of every
worker looks at the head of its queues; the database lets one sweeper at a time take up
a job, and the fence makes a message too many harmless. A job is missed when no broker
was told of it since it came to wait; when it still waits though the broker's queue is
empty; or when one runs whose message should have come after its own.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import structlog

from errors import MetiaError
from segmentation.http.logs import describe_exception
from segmentation.jobs import Job, JobQueue
from settings import Settings

log = structlog.get_logger(__name__)

_MANY = 200
_FEW = 20
"""How far from the front to look, where the broker's queue is empty and where not."""


class OpenLine(Protocol):
    """A connection to the broker."""

    def publish(self, job: Job) -> None:
        """Tell of a job."""

    def depth(self, queue: str) -> int:
        """Count the messages that nobody has been given."""


class Lines(Protocol):
    """Opens connections to the broker."""

    def line(self) -> AbstractContextManager[OpenLine]:
        """Open one; ``broker-unavailable``, also for what fails inside."""


class Sweeper:
    """Looks after the queues of one worker.

    Parameters
    ----------
    queue : JobQueue
    broker : Lines
    settings : Settings
        Polling and lease, from which the times follow.
    """

    def __init__(self, queue: JobQueue, broker: Lines, settings: Settings) -> None:
        self._queue = queue
        self._broker = broker
        self._queues: Sequence[str] = settings.worker_queues
        self._period_s = 4 * settings.worker_poll_s
        self._arrives_s = settings.job_lease_s / 6
        self._failing: str | None = None

    def run(self, stopping: threading.Event) -> None:
        """Sweep until `stopping` is set."""
        while not stopping.is_set():
            try:
                with self._broker.line() as line:
                    while not stopping.is_set():
                        self.sweep(line)
                        self._note(None)
                        stopping.wait(self._period_s)
            except MetiaError as error:
                self._note(error)
            except Exception as error:  # noqa: BLE001 - jobs must not be left unswept
                log.error("sweeper broke, going on", **describe_exception(error))
            stopping.wait(self._period_s)

    def sweep(self, line: OpenLine) -> int:
        """Send what is missing, once; gives the number of messages sent."""
        self._queue.recover()
        sent = 0
        for queue in self._queues:
            empty = line.depth(queue) == 0
            missing = self._queue.take_unpublished(
                queue,
                arrives_s=self._arrives_s,
                broker_empty=empty,
                limit=_MANY if empty else _FEW,
            )
            for job in missing:
                line.publish(job)
            sent += len(missing)
        if sent:
            log.info("jobs told of again", count=sent)
        return sent

    def _note(self, error: MetiaError | None) -> None:
        """Log a failure when it begins and when it ends, not at every sweep."""
        code = None if error is None else error.code
        if code == self._failing:
            return
        self._failing = code
        if error is None:
            log.info("sweeper works again")
        else:
            log.warning("sweeper cannot work", code=code, detail=error.detail)
