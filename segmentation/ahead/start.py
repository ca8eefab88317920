"""Starts the threads of a worker process that work ahead, as the settings say.

Called once in a worker process, before its first job; the threads end with the process.
They hold nothing that would have to be put away: what counts lies in the database.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
import uuid
from collections.abc import Callable

from db.engine import Engine
from orthanc.archive import Archive
from orthanc.changes import OrthancChanges
from segmentation.ahead.prefetch import Prefetcher
from segmentation.ahead.zero_click import ZeroClick
from segmentation.models.choice import default_model
from segmentation.models.registry import ModelRegistry
from settings import Settings

_STOP_S = 2.0


def start_prefetcher(
    settings: Settings, engine: Engine, archive: Archive
) -> Prefetcher | None:
    """Start pulling ahead; None where the settings keep no room for it."""
    if not settings.prefetch_megabytes:
        return None
    prefetcher = Prefetcher(settings, engine, archive)
    _start("prefetch", prefetcher.run)
    return prefetcher


def start_zero_click(settings: Settings, engine: Engine, archive: Archive) -> None:
    """Start queueing what arrives, where the settings ask for it."""
    if not settings.zero_click:
        return
    registry = ModelRegistry(settings.model_dirs)
    owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    feed = ZeroClick(
        settings,
        engine,
        archive,
        OrthancChanges.from_settings(settings),
        lambda: default_model(settings, engine, registry).identity,
        owner,
    )
    _start("zero-click", feed.run)


def _start(name: str, run: Callable[[threading.Event], None]) -> None:
    stopped = threading.Event()
    thread = threading.Thread(target=run, args=(stopped,), name=name, daemon=True)
    thread.start()

    def stop() -> None:
        stopped.set()
        thread.join(_STOP_S)

    # An orderly end, where the process comes to one: another may take over at once.
    atexit.register(stop)
