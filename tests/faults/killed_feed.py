"""A process that reads arrivals and kills itself, once, at a named place.

    python -m tests.faults.killed_feed PLACE SENTINEL

PLACE is a function of ``db.ahead`` or ``db.audit`` (killed right after it, within its
transaction), ``looked`` (a study was looked at, nothing written yet), ``queued`` (the
job is committed) or ``never``. Archive and database are real, as the environment says.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from db import ahead, audit
from db.engine import make_engine
from orthanc.changes import OrthancChanges
from orthanc.gateway import OrthancArchive
from segmentation.ahead import zero_click
from segmentation.ahead.zero_click import ZeroClick
from segmentation.models.predictor import ModelIdentity
from settings import get_settings

LEASE = timedelta(seconds=1.5)


def main(place: str, sentinel: Path) -> None:
    """Read arrivals until killed."""

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            found = function(*arguments, **options)
            if not sentinel.exists() and _worth_it(place, found, arguments):
                sentinel.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return run

    if place == "looked":
        zero_click.judge = deadly(zero_click.judge)
    elif place == "queued":
        ZeroClick._queue = deadly(ZeroClick._queue)  # type: ignore[method-assign]
    elif hasattr(ahead, place):
        setattr(ahead, place, deadly(getattr(ahead, place)))
    elif hasattr(audit, place):
        setattr(audit, place, deadly(getattr(audit, place)))
    settings = get_settings()
    ZeroClick(
        settings,
        make_engine(settings.database_url),
        OrthancArchive.from_settings(settings),
        OrthancChanges.from_settings(settings),
        lambda: ModelIdentity("net", "1", "ab" * 32, True),
        f"feed-{os.getpid()}",
        LEASE,
    ).run(threading.Event())


def _worth_it(place: str, found: Any, arguments: tuple[Any, ...]) -> bool:
    """Pass over calls that come before anything has arrived."""
    if place == "note_arrivals":
        return len(arguments[1]) > 0
    if place == "move_feed":
        return bool(arguments[1].sequence > 0)
    return True


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
