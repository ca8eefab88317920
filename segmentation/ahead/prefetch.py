"""Images pulled before their job needs them, so that the job's own pull costs nothing.

A ``Prefetcher`` is a thread of a worker. While the worker computes it pulls the series
of the jobs that wait next (it only looks at the queue, never claims); while the worker
is idle it pulls the series of studies that somebody has just opened. What it has is
compared with the archive's list when a job takes it, and pulled again where that
differs, so that nothing old is ever segmented. At most two series are kept, within
``prefetch_megabytes``, for ten minutes. All of it is best effort: what fails is a line
of the log, and the job pulls for itself and says what is wrong.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
from pydicom.dataset import Dataset

from db.ahead import next_waiting, opened_lately
from db.engine import Engine, database_time, reading
from errors import MetiaError
from orthanc.archive import Archive, Progress, SeriesListing
from segmentation.http.logs import describe_exception
from segmentation.pipeline import Request, choose_series
from settings import Settings

log = structlog.get_logger(__name__)

_SERIES_KEPT = 2
_KEPT_S = 600.0
_LOOK_EVERY_S = 1.0
_OPENED_WITHIN = timedelta(minutes=1)
_PATIENCE_S = 10.0
"""How long a job waits for a pull of its series that is under way here."""
_REMEMBERED = 64

Key = tuple[str, str]
"""Study and series."""


@dataclass(frozen=True)
class _Pulled:
    listing: SeriesListing
    instances: list[Dataset]
    at: float


class Shelf:
    """A few series that were pulled ahead; safe between threads.

    Parameters
    ----------
    limit_bytes : int
        Of all series kept, as files.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._kept: OrderedDict[Key, _Pulled] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: Key) -> bool:
        with self._lock:
            self._forget_old()
            return key in self._kept

    def put(self, key: Key, listing: SeriesListing, instances: list[Dataset]) -> None:
        """Keep a series; older ones go where there is no room for it."""
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = _Pulled(listing, instances, time.monotonic())
            while len(self._kept) > _SERIES_KEPT or self._size() > self.limit_bytes:
                self._kept.popitem(last=False)

    def take(self, key: Key) -> tuple[SeriesListing, list[Dataset]] | None:
        """Give a series away; None where it is not here."""
        with self._lock:
            self._forget_old()
            pulled = self._kept.pop(key, None)
        return None if pulled is None else (pulled.listing, pulled.instances)

    def tidy(self) -> None:
        """Let go of what nobody came for."""
        with self._lock:
            self._forget_old()

    def _forget_old(self) -> None:
        oldest = time.monotonic() - _KEPT_S
        for key in [key for key, one in self._kept.items() if one.at < oldest]:
            del self._kept[key]

    def _size(self) -> int:
        return sum(one.listing.size_bytes for one in self._kept.values())


class Prefetcher:
    """Pulls ahead for one worker.

    Parameters
    ----------
    settings : Settings
    engine : Engine
    archive : Archive
        Whose instances are pulled; shared with the jobs.
    """

    def __init__(self, settings: Settings, engine: Engine, archive: Archive) -> None:
        self._settings = settings
        self._engine = engine
        self._archive = archive
        self.shelf = Shelf(settings.prefetch_megabytes * 1_000_000)
        self._changed = threading.Condition()
        self._busy = False
        self._computing = False
        self._pulling: Key | None = None
        self._seen: OrderedDict[object, None] = OrderedDict()

    # -- for jobs, in the worker's thread ----------------------------------------

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Tell that a job is under way: nothing is pulled until it has its images."""
        self._tell(busy=True, computing=False)
        try:
            yield
        finally:
            self._tell(busy=False, computing=False)

    def fetch_series(
        self, study_uid: str, series_uid: str, progress: Progress
    ) -> list[Dataset]:
        """Give what ``Archive.fetch_series`` would give now, pulled ahead or not.

        Raises
        ------
        MetiaError
            As ``Archive.fetch_series``.
        """
        key = study_uid, series_uid
        with self._changed:
            self._changed.wait_for(lambda: self._pulling != key, _PATIENCE_S)
        pulled = self.shelf.take(key)
        if pulled and pulled[0] == self._archive.list_series(*key):
            progress(1.0)
            instances = pulled[1]
        else:
            instances = self._archive.fetch_series(study_uid, series_uid, progress)
        self._tell(busy=True, computing=True)
        return instances

    def _tell(self, *, busy: bool, computing: bool) -> None:
        with self._changed:
            self._busy, self._computing = busy, computing
            self._changed.notify_all()

    # -- its own thread ----------------------------------------------------------

    def run(self, stopped: threading.Event) -> None:
        """Pull ahead until stopped."""
        while not stopped.is_set():
            try:
                self.step()
            except MetiaError as error:
                log.info("nothing pulled ahead", code=error.code)
            except Exception as error:  # noqa: BLE001 - must not end for one study
                log.error("pulling ahead broke", **describe_exception(error))
            with self._changed:
                self._changed.wait(_LOOK_EVERY_S)

    def step(self) -> None:
        """Pull what will probably be asked for next, unless it is here already.

        Raises
        ------
        MetiaError
            Why something could not be pulled; it is not tried again.
        """
        self.shelf.tidy()
        for wish, request in self._wishes():
            if wish in self._seen:
                continue
            self._seen[wish] = None
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            self._pull(request)

    def _wishes(self) -> list[tuple[object, Request]]:
        """List what may be wanted, each with what makes it a wish of its own."""
        with reading(self._engine) as session:
            now = database_time(session)
            if self._computing:
                jobs = next_waiting(
                    session, self._settings.worker_queues, now, _SERIES_KEPT
                )
                return [
                    ((job.id, job.attempt), Request(job.study_uid, job.series_uid))
                    for job in jobs
                ]
            if self._busy or not self._settings.prefetch_on_open:
                return []
            opened = opened_lately(session, now - _OPENED_WITHIN, _SERIES_KEPT)
        return [
            ((one.study_uid, one.opened_at), Request(one.study_uid, None))
            for one in reversed(opened)
        ]

    def _pull(self, request: Request) -> None:
        series_uid, _ = choose_series(self._archive, request)
        key = request.study_uid, series_uid
        if key in self.shelf:
            return
        with self._changed:
            if self._busy and not self._computing:
                return  # the job in hand pulls now, perhaps this very series
            self._pulling = key
        try:
            listing = self._archive.list_series(*key)
            if listing.size_bytes <= self.shelf.limit_bytes:
                self.shelf.put(key, listing, self._archive.fetch_series(*key))
        finally:
            with self._changed:
                self._pulling = None
                self._changed.notify_all()
