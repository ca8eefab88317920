"""What the routes of one application work with, made once by ``create_app``.

Everything in here may be used by several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

from db.engine import Engine
from errors import MetiaError
from orthanc.archive import Archive
from segmentation.access.identity import IdentityProvider
from segmentation.http.metrics import Metrics
from segmentation.jobs import JobQueue
from segmentation.models.registry import ModelRegistry
from settings import Settings

_PING_LASTS_S = 5.0


@dataclass
class Health:
    """Remembers for some seconds whether another service answers.

    Whoever asks often, or without being logged in, cannot make us ask as often.
    """

    ping: Callable[[], None]
    _lock: Lock = field(default_factory=Lock)
    _asked_at: float = float("-inf")
    _code: str | None = None

    def failure(self) -> str | None:
        """Give the code of its failure; None where it answers."""
        with self._lock:
            if monotonic() - self._asked_at > _PING_LASTS_S:
                try:
                    self.ping()
                    self._code = None
                except MetiaError as error:
                    self._code = error.code
                self._asked_at = monotonic()
            return self._code


@dataclass(frozen=True)
class Services:
    """The parts an application is made of."""

    settings: Settings
    engine: Engine
    archive: Archive
    queue: JobQueue
    models: ModelRegistry
    identity: IdentityProvider
    metrics: Metrics
    archive_health: Health
    broker_health: Health | None = None
    """None where jobs are delivered without a broker."""
