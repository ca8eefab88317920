"""The process that owns the model and the GPU: takes jobs, runs them, ends them.

It knows the queue, not what a job does (``RunJob`` is given to it), nor how it comes
(``segmentation.delivery``: polling, or a broker). One job at a time,
in the main thread; a watching thread renews the lease, notes that the worker is alive
and hears the signals. The first SIGTERM or SIGINT gives the job in hand back to the
queue at the run's next question (or lets it finish once it stores its result), the
second, or the passing of ``DRAIN_S``, ends the process at once. A run that shows no
life for ``STALL_S`` ends the process too. Nothing here forks; torch is loaded only by
the ``RunJob``.

Exit codes: 0 stopped on request, 1 could not start, 70 stuck or broken inside.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from db import schema
from db.engine import Engine, make_engine
from db.jobs import FOLLOW
from errors import MetiaError
from segmentation.delivery.source import JobSource, Polling, make_source
from segmentation.http.logs import configure_logs, describe_exception
from segmentation.job_context import JobContext
from segmentation.jobs import Job, JobQueue, may_retry
from settings import Settings, get_settings

log = structlog.get_logger(__name__)

DRAIN_S = 8.0
"""Container engines kill after ten seconds."""
STALL_S = 1800.0
_STUCK = 70

RunJob = Callable[[Job, JobContext], None]
"""Runs a job to its end: returns after ``context.record``, or raises ``MetiaError``."""


class Worker:
    """One worker.

    Parameters
    ----------
    queue : JobQueue
        Where jobs come from.
    run_job : Callable
        Does the work.
    settings : Settings
        Lease, heartbeat, polling, queues.
    device : str
        What it computes on, for people to see.
    source : JobSource, optional
        Brings the jobs; polls the queue where left out.
    drain_s, stall_s : float
        See the module's head.
    """

    def __init__(
        self,
        queue: JobQueue,
        run_job: RunJob,
        settings: Settings,
        *,
        device: str,
        source: JobSource | None = None,
        drain_s: float = DRAIN_S,
        stall_s: float = STALL_S,
    ) -> None:
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._queue = queue
        self._run_job = run_job
        self._settings = settings
        self._device = device
        self._drain_s = drain_s
        self._stall_s = stall_s
        self._source = source or Polling(queue, settings)
        self.stopping = threading.Event()
        self._ended = threading.Event()
        self._context: JobContext | None = None
        self._bell, self._ringer = socket.socketpair()
        self._ringer.setblocking(False)

    def run(self) -> None:
        """Take and run jobs until asked to stop."""
        watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        watcher.start()
        log.info("worker started", owner=self.owner, device=self._device)
        try:
            self._source.feed(self)
        finally:
            self._ended.set()
            self.stop()  # wakes the watcher
            watcher.join()
            self._leave()

    def stop(self) -> None:
        """Ask the worker to stop; the second time: at once. Safe in any thread."""
        self._ringer.send(b"\0")

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT ask this worker to stop; in the main thread only.

        The interpreter writes them into the bell at once, even while the main thread
        is inside a long call of a library; a Python handler would have to wait.
        """
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, _heard) for number in numbers}
        descriptor = signal.set_wakeup_fd(self._ringer.fileno())
        try:
            yield
        finally:
            signal.set_wakeup_fd(descriptor)
            for number, handler in before.items():
                signal.signal(number, handler)

    # -- main thread -----------------------------------------------------------

    def work(self, job: Job) -> None:
        """Run a job that was claimed for this worker to its end; raises nothing."""
        log.info("job taken", job=job.id, attempt=job.attempt)
        context = JobContext(
            self._queue, job, self.stopping, self._settings.job_lease_s
        )
        self._context = context
        try:
            self._end(context, self._attempt(job, context))
        except MetiaError as error:
            # The lease will run out and another worker, or this one, take the job.
            log.error("job left to its lease", job=job.id, code=error.code)
        finally:
            context.ended = True
            self._context = None

    def _attempt(self, job: Job, context: JobContext) -> MetiaError | None:
        """Run the job; gives what went wrong."""
        try:
            self._run_job(job, context)
        except MetiaError as error:
            return error
        except MemoryError:
            return MetiaError("out-of-memory", f"In step {context.step}.")
        except Exception as error:  # noqa: BLE001 - whatever a run dies of ends its job
            log.error("job broke", job=job.id, **describe_exception(error))
            return MetiaError(
                "internal",
                f"An unexpected {type(error).__name__} in step {context.step}; "
                "the worker's log has the place.",
            )
        if not context.ended:
            return MetiaError("internal", "The run ended without recording a result.")
        return None

    def _end(self, context: JobContext, error: MetiaError | None) -> None:
        """Bring the job to the state that follows from how its run ended."""
        job_id = context.job.id
        if context.ended:
            log.info("job done", job=job_id)
            if error is not None:
                log.error("after recording", job=job_id, code=error.code)
            return
        if error is None or context.lost or error.code == "job-superseded":
            log.warning("job taken over by another worker", job=job_id)
            return
        ending = self._ending(context, error, context.close())
        job = context.persist(ending)
        log.info("job ended", job=job_id, state=job.state, code=error.code)

    def _ending(
        self, context: JobContext, error: MetiaError, timings_s: dict[str, float]
    ) -> Callable[[], Job]:
        """Choose what follows from the error that ended a run."""
        fence = context.fence
        if context.cancel_requested:
            cancelled = MetiaError("job-cancelled", "The job was cancelled on request.")
            return lambda: self._queue.fail(fence, cancelled)
        interrupted = self.stopping.is_set() and _is_interruption(error)
        if interrupted or error.code == "job-gave-way":
            return lambda: self._queue.release(fence)
        if may_retry(error.code):
            return lambda: self._queue.retry(fence, error, timings_s)
        return lambda: self._queue.fail(fence, error, timings_s)

    # -- watching thread -------------------------------------------------------

    def _watch(self) -> None:
        try:
            self._watch_until_ended()
        except Exception as error:  # noqa: BLE001 - nobody may work unwatched
            log.error("watcher broke, ending", **describe_exception(error))
            _exit(_STUCK)

    def _watch_until_ended(self) -> None:
        requests = 0
        deadline = float("inf")
        next_beat = time.monotonic()
        while not self._ended.is_set():
            now = time.monotonic()
            if requests >= 2 or now >= deadline:
                self._abandon()
            if now >= next_beat:
                self._beat()
                next_beat = time.monotonic() + self._settings.job_heartbeat_s
            timeout_s = max(0.0, min(next_beat, deadline) - time.monotonic())
            ready, _, _ = select.select([self._bell], [], [], timeout_s)
            if ready:
                requests += len(self._bell.recv(16))
                deadline = min(deadline, time.monotonic() + self._drain_s)
                self.stopping.set()
                self._source.wake()

    def _beat(self) -> None:
        context = self._context
        try:
            self._queue.note_worker(
                self.owner, self._settings.worker_queues, self._device
            )
            if context is not None:
                if time.monotonic() - context.reported > self._stall_s:
                    log.error("run is stuck, ending", job=context.job.id)
                    _exit(_STUCK)
                context.beat()
        except MetiaError as error:
            log.warning("no heartbeat", code=error.code, detail=error.detail)

    def _abandon(self) -> None:
        """Give the job in hand back, without waiting for its run, and end."""
        context = self._context
        if context is not None and not context.ended:
            try:
                self._queue.release(context.fence)
            except MetiaError as error:
                log.warning("job left to its lease", code=error.code)
        self._leave()
        log.warning("worker ended in the middle of its work", owner=self.owner)
        _exit(0)

    def _leave(self) -> None:
        try:
            self._queue.remove_worker(self.owner)
        except MetiaError as error:
            log.warning("worker not signed off", code=error.code)


def _heard(_number: int, _frame: object) -> None:
    """Do nothing: the number has been written into the bell already."""


def _is_interruption(error: MetiaError) -> bool:
    """Tell whether a run ended for being told to, rather than for its own reasons."""
    return error.code == "job-cancelled" or may_retry(error.code)


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_worker(
    settings: Settings, make_run_job: Callable[[Settings, Engine], tuple[RunJob, str]]
) -> int:
    """Be a worker process until a signal stops it.

    Parameters
    ----------
    settings : Settings
        Of this process.
    make_run_job : Callable
        Makes, once and before the first job is taken, what does the work; gives it and
        the device it computes on. Here the model is loaded.

    Returns
    -------
    int
        Exit code of the process.
    """
    configure_logs(settings.log_level)
    try:
        engine = make_engine(settings.database_url)
        schema.require_current(engine)
        run_job, device = make_run_job(settings, engine)
    except MetiaError as error:
        log.error("worker cannot start", code=error.code, detail=error.detail)
        return 1
    queue = JobQueue(engine, settings)
    source = make_source(settings, queue)
    worker = Worker(queue, run_job, settings, device=device, source=source)
    try:
        with worker.stopped_by_signals():
            worker.run()
    except MetiaError as error:
        log.error("worker failed", code=error.code, detail=error.detail)
        return _STUCK
    log.info("worker stopped", owner=worker.owner)
    return 0


def main() -> int:
    """Be the worker of the product, as the settings say."""
    return run_worker(get_settings(), make_runners)


def make_runners(settings: Settings, engine: Engine) -> tuple[RunJob, str]:
    """Give what runs each kind of job, and the device it computes on."""
    # Only here: whoever imports this module for its types loads no pipeline.
    from orthanc.gateway import OrthancArchive
    from segmentation.ahead.start import start_prefetcher, start_zero_click
    from segmentation.followup.follow_job import FollowRunner
    from segmentation.runner import SegmentationRunner
    from unetr.hardware import keep_memory

    keep_memory()
    # The computing gives way to the answers of the web on the same machine.
    os.nice(settings.worker_niceness)
    archive = OrthancArchive.from_settings(settings)
    prefetcher = start_prefetcher(settings, engine, archive)
    segment = SegmentationRunner(settings, engine, archive, prefetcher)
    line_up = FollowRunner(engine, archive)

    def run(job: Job, context: JobContext) -> None:
        if job.kind == FOLLOW:
            line_up(job, context)
        else:
            segment(job, context)

    device = segment.warm_up()
    start_zero_click(settings, engine, archive)
    return run, device


if __name__ == "__main__":
    sys.exit(main())
