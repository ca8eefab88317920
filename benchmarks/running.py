"""The whole system, started for a measurement: stack, workers, a logged-in client.

``running_system`` starts archive, API and proxy as ``./metia up`` does. Workers are
processes of the benchmark's own (``RunningSystem.worker``), so that they can be
counted, timed from their start, held back to older instructions and asked how much
memory they took. Everything lies in a throw-away folder and is stopped at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
from pydicom.dataset import Dataset

from db.engine import make_engine
from orthanc.gateway import OrthancArchive
from segmentation.cli.stack_commands import prepare_database
from segmentation.cli.up import LocalStack, StackOptions, free_port
from segmentation.jobs import JobQueue
from settings import ROOT, Settings

_POLL_S = 0.02
_LONGEST_START_S = 120.0
STABLE_AGE_S = 2
ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class WorkerProcess:
    """One worker that takes jobs.

    Attributes
    ----------
    ready_s : float
        From its start until it said that it takes jobs, the model loaded.
    """

    process: subprocess.Popen[bytes]
    ready_s: float

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid


@dataclass(frozen=True)
class Press:
    """One press of the button and what came of it.

    Attributes
    ----------
    seconds : float
        From the request until its end was seen, through the proxy.
    job : dict
        As the API tells it.
    """

    seconds: float
    job: dict[str, Any]


class RunningSystem:
    """A system that runs: its address, its settings, its data folder, its log-in."""

    def __init__(self, stack: LocalStack, settings: Settings, password: str) -> None:
        self.stack = stack
        self.settings = settings
        self._password = password

    def client(self) -> httpx.Client:
        """Return a client that is logged in as the administrator."""
        client = httpx.Client(
            base_url=self.stack.url,
            headers={"Origin": self.stack.url},
            timeout=30,
            trust_env=False,
        )
        answer = client.post(
            "/api/v1/session", json={"username": "admin", "password": self._password}
        )
        answer.raise_for_status()
        client.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
        return client

    @cached_property
    def queue(self) -> JobQueue:
        """The queue of jobs in the system's database."""
        return JobQueue(make_engine(self.settings.database_url), self.settings)

    def store(self, images: Sequence[Dataset]) -> None:
        """Put images into the archive, and wait until it counts the study complete."""
        with closing(OrthancArchive.from_settings(self.settings)) as archive:
            archive.store(images)
        self.settle(images[0].StudyInstanceUID)

    def settle(self, study_uid: str) -> None:
        """Wait until a study counts as complete; a result stored in it unsettles it."""
        with closing(OrthancArchive.from_settings(self.settings)) as archive:
            archive.wait_until_stable(study_uid, 60, lambda: False)

    @contextmanager
    def worker(self, **environment: str) -> Iterator[WorkerProcess]:
        """Run one more worker; it is ready when it is given."""
        log = self.settings.data_dir / "log" / f"worker-{time.monotonic_ns()}.log"
        before = self._owners()
        began = time.perf_counter()
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "segmentation.worker"],
                cwd=ROOT,
                env={**self.stack.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            while not self._owners() - before:
                waited_s = time.perf_counter() - began
                if process.poll() is not None or waited_s > _LONGEST_START_S:
                    raise RuntimeError(f"No worker:\n{log.read_text('utf-8')[-3000:]}")
                time.sleep(_POLL_S)
            yield WorkerProcess(process, time.perf_counter() - began)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _owners(self) -> set[str]:
        return {worker.owner for worker in self.queue.workers()}

    @contextmanager
    def workers(self, count: int, **environment: str) -> Iterator[list[WorkerProcess]]:
        """Run so many workers."""
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(self.worker(**environment)) for _ in range(count)
            ]

    def press(self, client: httpx.Client, study_uid: str) -> Press:
        """Press the button, and wait for the end of the job.

        Raises
        ------
        RuntimeError
            Where the job did not succeed.
        """
        began = time.perf_counter()
        answer = client.post("/api/v1/jobs", json={"study_uid": study_uid})
        answer.raise_for_status()
        job: dict[str, Any] = answer.json()
        while job["state"] not in ENDED:
            time.sleep(_POLL_S)
            job = client.get(f"/api/v1/jobs/{job['id']}").raise_for_status().json()
        seconds = time.perf_counter() - began
        if job["state"] != "succeeded":
            raise RuntimeError(f"The job {job['state']}: {job['error']}")
        return Press(seconds, job)


@contextmanager
def running_system(workers: int = 0, **environment: str) -> Iterator[RunningSystem]:
    """Start the whole system in a folder of its own; stop and remove it at the end.

    Parameters
    ----------
    workers : int
        How many the stack itself starts.
    **environment
        METIA_* settings of all its processes.
    """
    with (
        tempfile.TemporaryDirectory(prefix="metia-") as folder,
        mock.patch.dict(os.environ, environment),
    ):
        options = StackOptions(Path(folder), port=free_port(), workers=workers)
        stack = LocalStack(options, print)
        stopped = threading.Event()
        stack.prepare()
        _shorten_stable_age(Path(folder) / "run" / "orthanc.json")
        os.environ.update(stack.environment)
        settings = Settings()
        password = prepare_database(settings)
        assert password is not None
        try:
            stack.start(stopped)
            yield RunningSystem(stack, settings, password)
        finally:
            stack.stop()


def _shorten_stable_age(configuration: Path) -> None:
    """Have the archive count a study complete after seconds, not after a minute."""
    content = json.loads(configuration.read_text("utf-8"))
    content["StableAge"] = STABLE_AGE_S
    configuration.write_text(json.dumps(content), "utf-8")


def memory_mib(pid: int, what: str = "VmRSS") -> float:
    """Give the memory of a process: ``VmRSS`` now, ``VmHWM`` at most so far."""
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return round(int(value.split()[0]) / 1024, 1)
    raise RuntimeError(f"process {pid} has no {what}")
