"""Waits for a job on behalf of a page that knows no jobs.

The former system answered a press of its button when everything was done. Here the
thread that answers sleeps between looks at the job, for a bounded time, and only so
many threads of a process may do so at once, that the others go on answering. Giving up
waiting leaves the job alone. Safe between threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from errors import MetiaError
from segmentation.jobs import Job, JobQueue

MOST_WAITING = 4
"""Half of a web process's threads."""
_BETWEEN_LOOKS_S = 0.5
_ACTIVE = ("queued", "running")
_places = BoundedSemaphore(MOST_WAITING)


@contextmanager
def waiting_place() -> Iterator[None]:
    """Hold one of the places of those who wait.

    Raises
    ------
    MetiaError
        ``not-ready`` where all are taken.
    """
    if not _places.acquire(blocking=False):
        raise MetiaError(
            "not-ready", "The segmentation is queued, but too many wait for theirs."
        )
    try:
        yield
    finally:
        _places.release()


def wait_for_end(
    queue: JobQueue,
    job_id: str,
    limit_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Job | None:
    """Wait until a job has ended.

    Returns
    -------
    Job or None
        None where it had not after `limit_s`.
    """
    end = time.monotonic() + limit_s
    while (job := queue.get(job_id)).state in _ACTIVE:
        left_s = end - time.monotonic()
        if left_s <= 0:
            return None
        sleep(min(_BETWEEN_LOOKS_S, left_s))
    return job
