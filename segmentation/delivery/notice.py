"""Tells the broker of a new job without letting anybody wait for a broker that is away.

For the web: called after the job is committed. Where the broker does not take it the
job waits in the database all the same, and a worker's sweeper tells of it later. After
a failure the broker is left alone for a while, so that a crowd of requests does not
queue up behind its silence. Safe between threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from errors import MetiaError
from segmentation.jobs import Job
from settings import Settings

log = structlog.get_logger(__name__)

_PAUSE_S = 10.0


class Notice:
    """Tells of one job at a time.

    Parameters
    ----------
    publish : Callable
        Takes jobs; raises ``MetiaError`` where the broker does not.
    """

    def __init__(self, publish: Callable[[list[Job]], None]) -> None:
        self._publish = publish
        self._silent_until = float("-inf")

    def __call__(self, job: Job) -> None:
        """Tell of a job, or leave it to the sweepers."""
        if time.monotonic() < self._silent_until:
            return
        try:
            self._publish([job])
        except MetiaError as error:
            # First, so that requests that come meanwhile do not wait as well.
            self._silent_until = time.monotonic() + _PAUSE_S
            log.warning("left to the sweepers", job=job.id, code=error.code)


def make_notice(
    settings: Settings,
) -> tuple[Callable[[Job], None] | None, Callable[[], None] | None]:
    """Give what tells of a new job and what asks the broker whether it answers.

    Returns
    -------
    tuple
        Both None where no broker is set.
    """
    url = settings.broker_url.get_secret_value()
    if not url:
        return None, None
    # Only here: a process without a broker does not pay for loading Celery.
    from segmentation.delivery.broker import Broker

    broker = Broker(url)
    return Notice(broker.publish), broker.ping
