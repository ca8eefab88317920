"""Lets one correction at a time into memory.

A label map, its predecessor and the images take hundreds of megabytes for the largest
series; a process that worked on many at once could be killed for it. One lock for the
whole process, shared by all its threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from errors import MetiaError

_LONGEST_WAIT_S = 30.0
_turns = BoundedSemaphore(1)


@contextmanager
def turn() -> Iterator[None]:
    """Wait until it is one's turn, and hold it.

    Raises
    ------
    MetiaError
        ``not-ready`` after half a minute.
    """
    if not _turns.acquire(timeout=_LONGEST_WAIT_S):
        raise MetiaError("not-ready", "Other corrections are being saved.")
    try:
        yield
    finally:
        _turns.release()
