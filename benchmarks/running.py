"""The whole system, started for a measurement, with a logged-in client."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import httpx
from pydicom.dataset import Dataset

from orthanc.gateway import OrthancArchive
from segmentation.cli.stack_commands import prepare_database
from segmentation.cli.up import LocalStack, StackOptions, free_port
from settings import Settings


@dataclass
class RunningSystem:
    """A system that runs: its address, its settings, its data folder, its log-in."""

    stack: LocalStack
    settings: Settings
    password: str

    def client(self) -> httpx.Client:
        """Return a client that is logged in as the administrator."""
        client = httpx.Client(
            base_url=self.stack.url,
            headers={"Origin": self.stack.url},
            timeout=30,
            trust_env=False,
        )
        answer = client.post(
            "/api/v1/session", json={"username": "admin", "password": self.password}
        )
        answer.raise_for_status()
        client.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
        return client

    def store(self, images: Sequence[Dataset]) -> None:
        """Put images into the archive."""
        with closing(OrthancArchive.from_settings(self.settings)) as archive:
            archive.store(images)


@contextmanager
def running_system(**environment: str) -> Iterator[RunningSystem]:
    """Start the whole system in a folder of its own; stop and remove it at the end.

    Parameters
    ----------
    **environment
        METIA_* settings of all its processes.
    """
    with (
        tempfile.TemporaryDirectory(prefix="metia-") as folder,
        mock.patch.dict(os.environ, environment),
    ):
        stack = LocalStack(StackOptions(Path(folder), port=free_port()), print)
        stopped = threading.Event()
        stack.prepare()
        os.environ.update(stack.environment)
        settings = Settings()
        password = prepare_database(settings)
        assert password is not None
        try:
            stack.start(stopped)
            yield RunningSystem(stack, settings, password)
        finally:
            stack.stop()
