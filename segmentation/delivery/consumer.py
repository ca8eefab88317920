"""Lets Celery bring a worker its jobs.

A Celery worker of one thread, the process's main one (pool ``solo``): nothing forks,
and the loaded model stays. It takes one message at a time, claims exactly the job that
the message names, works it off, and only then acknowledges. A message for a job that
another has, or that is not due, is dropped: the row knows better, and the sweeper tells
of it again when it is time. Signals are the worker's own; Celery installs none.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.exceptions import Reject
from celery.worker import state
from celery.worker.request import Request

from errors import MetiaError
from segmentation.delivery.broker import TASK, Broker, broker_queue, is_redis, make_app
from segmentation.delivery.source import Desk
from segmentation.delivery.sweeper import Sweeper
from segmentation.http.identifiers import is_id
from segmentation.jobs import JobQueue
from settings import Settings

log = structlog.get_logger(__name__)

_GONE_AFTER_LEASES = 10


class CeleryConsumer:
    """A ``JobSource`` behind a broker.

    Parameters
    ----------
    queue : JobQueue
    settings : Settings
        Broker, queues, lease.
    """

    def __init__(self, queue: JobQueue, settings: Settings) -> None:
        self._queue = queue
        self._settings = settings
        self._url = settings.broker_url.get_secret_value()
        self._sweeper = Sweeper(queue, Broker(self._url), settings)
        self._bell, self._ringer = socket.socketpair()

    def feed(self, desk: Desk) -> None:
        """See ``JobSource``.

        Raises
        ------
        MetiaError
            ``internal`` where Celery gave up for another reason than being asked to.
        """
        app = self._make_app()
        self._register(app, desk)
        sweeper = threading.Thread(
            target=self._sweeper.run, args=(desk.stopping,), name="sweeper", daemon=True
        )
        sweeper.start()
        worker = app.WorkController(
            pool_cls="solo",
            concurrency=1,
            hostname=f"metia@{desk.owner}",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        try:
            worker.start()
        finally:
            state.should_stop = None
        if not desk.stopping.is_set():
            raise MetiaError("internal", "Celery stopped by itself.")
        sweeper.join(self._settings.job_heartbeat_s)

    def wake(self) -> None:
        """See ``JobSource``."""
        state.should_stop = 0
        self._ringer.send(b"\0")

    def _make_app(self) -> Celery:
        transport: dict[str, object] = {}
        if is_redis(self._url):
            # May be short: what comes twice is refused. Long enough not to come often.
            lease_s = self._settings.job_lease_s
            transport["visibility_timeout"] = _GONE_AFTER_LEASES * lease_s
        app = make_app(self._url, **transport)
        app.conf.update(
            task_queues=[broker_queue(name) for name in self._settings.worker_queues],
            worker_prefetch_multiplier=1,
            worker_enable_remote_control=False,
            worker_enable_prefetch_count_reduction=False,
        )
        app.steps["consumer"].add(_bell_step(self._bell))
        return app

    def _register(self, app: Celery, desk: Desk) -> None:
        @app.task(  # type: ignore[untyped-decorator]
            name=TASK,
            Request=_Delivery,
            acks_late=True,
            reject_on_worker_lost=True,
            ignore_result=True,
            shared=False,
        )
        def run(job_id: str) -> None:
            self._deliver(desk, job_id)

        app.finalize()
        # Where Celery's own code looks a task up by its name.
        app.set_current()

    def _deliver(self, desk: Desk, job_id: object) -> None:
        if not isinstance(job_id, str) or not is_id(job_id):
            log.warning("message of strangers dropped")
            return
        if desk.stopping.is_set():
            raise Reject("stopping", requeue=True)
        try:
            job = self._queue.claim_one(desk.owner, job_id)
        except MetiaError as error:
            log.error("no job can be taken", code=error.code, detail=error.detail)
            desk.stopping.wait(self._settings.job_heartbeat_s)
            raise Reject(error.code, requeue=True) from error
        if job is None:
            log.info("message dropped, the job is not to be had", job=job_id)
            return
        desk.work(job)


class _Delivery(Request):  # type: ignore[misc]
    """A message whose acknowledgement fails aloud, so that Celery connects anew.

    Celery's own only logs it. Its connection to Redis then counts the message as being
    worked on for ever, and with room for one asks for no other.
    """

    acknowledged: bool

    def acknowledge(self) -> None:
        if not self.acknowledged:
            self.message.ack()
            self.acknowledged = True

    def reject(self, requeue: bool = False) -> None:
        if not self.acknowledged:
            self.message.reject(requeue=requeue)
            self.acknowledged = True


def _bell_step(bell: socket.socket) -> type[Any]:
    """Make the part of Celery's worker that wakes its event loop at our bell."""

    class Bell(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = {"celery.worker.consumer.tasks:Tasks"}  # noqa: RUF012

        def register_with_event_loop(self, _consumer: object, hub: Any) -> None:
            # Nothing to do: each turn of the loop looks whether to stop.
            hub.add_reader(bell, lambda: None)

    return Bell
