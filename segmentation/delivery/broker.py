"""Speaks to the broker: Redis or RabbitMQ through Celery's own messages.

The only module besides ``consumer`` that knows Celery and kombu. A message is one
Celery task with one argument, the job's id: nothing else leaves the database. Each
queue of jobs is one queue of the broker (``metia.gpu`` ...), durable, with ten levels
of priority. Every call ends within seconds whatever the broker does. A ``Broker`` may
be shared between threads and processes; a ``Line`` belongs to one thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.exceptions import KombuError

from errors import MetiaError
from segmentation.jobs import Job

TASK = "metia.job"
_PREFIX = "metia."
_TIMEOUT_S = 2.0
_LEVELS = 10
# Close around 0, where the priorities of people and programs lie (-100 to 100).
_LEVEL_BEGINS = (-50, -20, -5, 0, 1, 5, 10, 20, 50)


def is_redis(url: str) -> bool:
    """Tell Redis from RabbitMQ."""
    return url.startswith(("redis://", "rediss://"))


def broker_queue(name: str) -> Queue:
    """Give the broker's queue for a queue of jobs."""
    full = _PREFIX + name
    arguments = {"x-max-priority": _LEVELS - 1}
    return Queue(
        full, Exchange(""), full, durable=True, queue_arguments=arguments
    )  # the nameless exchange: routed by the queue's own name


def broker_priority(url: str, priority: int) -> int:
    """Give the level of a job's priority: RabbitMQ serves high ones first, Redis low.

    Parameters
    ----------
    priority : int
        Of the job, -100 to 100; levels keep their order but not every difference.
    """
    level = bisect_right(_LEVEL_BEGINS, priority)
    return _LEVELS - 1 - level if is_redis(url) else level


def make_app(url: str, **transport: object) -> Celery:
    """Make a Celery application for this broker.

    Parameters
    ----------
    url : str
        ``redis[s]://...`` or ``amqp[s]://...``.
    transport
        Further options of kombu's transport.
    """
    options: dict[str, object] = {"confirm_publish": True}
    if is_redis(url):
        # Both ends must have the same steps.
        options = {"priority_steps": list(range(_LEVELS)), "socket_keepalive": True}
    app = Celery("metia", broker=url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        broker_transport_options=options | transport,
        # A worker busy with one job in its only thread sends no heartbeat.
        broker_heartbeat=0,
        broker_connection_timeout=_TIMEOUT_S,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # RabbitMQ closes the channel of one who takes longer than half an hour.
        broker_channel_error_retry=True,
    )
    return app


class Line:
    """An open connection to the broker, for one thread."""

    def __init__(self, app: Celery, connection: Connection, url: str) -> None:
        self._app = app
        self._url = url
        self._channel = connection.default_channel
        self._producer = app.amqp.Producer(self._channel)

    def publish(self, job: Job) -> None:
        """Tell of a job; returns once the broker has it."""
        options: dict[str, Any] = {}
        if not is_redis(self._url):
            options["confirm_timeout"] = _TIMEOUT_S
        self._app.send_task(
            TASK,
            args=[job.id],
            queue=broker_queue(job.queue),
            priority=broker_priority(self._url, job.priority),
            producer=self._producer,
            retry=False,
            **options,
        )

    def depth(self, queue: str) -> int:
        """Count the messages of a queue that no worker has been given."""
        wanted = broker_queue(queue)
        found = self._channel.queue_declare(
            queue=wanted.name,
            durable=True,
            auto_delete=False,
            arguments=wanted.queue_arguments,
        )
        return int(found.message_count)


class Broker:
    """The broker that the settings name.

    Parameters
    ----------
    url : str
        With its credentials; never shown.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        timeouts = (
            {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
            if is_redis(url)
            else {"read_timeout": _TIMEOUT_S, "write_timeout": _TIMEOUT_S}
        )
        # Who calls tries again later, or leaves it to another.
        self._app = make_app(url, max_retries=0, **timeouts)
        # Loads what speaks to this kind of broker now, not when somebody waits.
        connection = self._app.connection_for_write()
        self._failures: tuple[type[Exception], ...] = (
            *connection.connection_errors,
            *connection.channel_errors,
            KombuError,
            OSError,
        )

    @contextmanager
    def line(self) -> Iterator[Line]:
        """Open a connection for a while.

        Raises
        ------
        MetiaError
            ``broker-unavailable``, also for what fails inside.
        """
        connection = self._app.connection_for_write()
        try:
            with connection:
                yield Line(self._app, connection, self._url)
        except self._failures as error:
            raise MetiaError(
                "broker-unavailable",
                f"The message broker does not answer ({type(error).__name__}).",
            ) from error

    def publish(self, jobs: Iterable[Job]) -> None:
        """Tell of jobs on a connection of its own; ``broker-unavailable``."""
        with self.line() as line:
            for job in jobs:
                line.publish(job)

    def ping(self) -> None:
        """Make sure that the broker answers; ``broker-unavailable``."""
        with self.line():
            pass
