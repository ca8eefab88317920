"""Prometheus metrics of the web processes and of the job queue.

Labels are methods, route templates, status codes, job states and queues: never a path,
a user or anything of an image. With ``PROMETHEUS_MULTIPROC_DIR`` set (gunicorn), the
counts of all worker processes are added up at the scrape; without, those of this
process are given. Safe between threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class QueueFigures:
    """How the job queue stands.

    Attributes
    ----------
    jobs_by_state : mapping
        Number of jobs a state.
    oldest_queued_s : float
        Seconds the oldest waiting job has waited (0 where none waits).
    """

    jobs_by_state: Mapping[str, int]
    oldest_queued_s: float


class _QueueCollector(Collector):
    def __init__(self, read: Callable[[], QueueFigures]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        figures = self._read()
        jobs = GaugeMetricFamily("metia_jobs", "Jobs by state.", labels=["state"])
        for state, count in sorted(figures.jobs_by_state.items()):
            jobs.add_metric([state], count)
        yield jobs
        yield GaugeMetricFamily(
            "metia_queue_oldest_seconds",
            "Age of the oldest waiting job.",
            value=figures.oldest_queued_s,
        )


class Metrics:
    """The metrics of one application.

    Parameters
    ----------
    read_queue : Callable
        Reads the queue's figures; asked at each scrape.
    """

    def __init__(self, read_queue: Callable[[], QueueFigures]) -> None:
        self._read_queue = read_queue
        self._own = CollectorRegistry()
        self._requests = Counter(
            "metia_http_requests",
            "HTTP requests answered.",
            ["method", "route", "status"],
            registry=self._own,
        )
        self._seconds = Histogram(
            "metia_http_request_seconds",
            "Time to answer an HTTP request.",
            ["method", "route"],
            buckets=_BUCKETS_S,
            registry=self._own,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request.

        Parameters
        ----------
        method : str
            One of the standard HTTP methods (others are counted as ``OTHER``).
        route : str
            Route template, or ``unmatched``.
        status : int
            HTTP status.
        seconds : float
            Time it took.
        """
        if method not in _METHODS:
            method = "OTHER"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self) -> bytes:
        """Give all metrics in Prometheus' text format.

        Raises
        ------
        MetiaError
            ``database-unusable`` where the queue cannot be read.
        """
        registry = CollectorRegistry()
        registry.register(_QueueCollector(self._read_queue))
        parts = [generate_latest(registry)]
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            shared = CollectorRegistry()
            MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
            parts.append(generate_latest(shared))
        else:
            parts.append(generate_latest(self._own))
        return b"".join(parts)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
