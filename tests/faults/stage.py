"""A queue, an archive folder, and scripted worker processes on them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from db.engine import Engine, reading
from db.models import LesionRow, ResultRow
from db.results import list_results
from segmentation.delivery.notice import make_notice
from segmentation.jobs import Job, JobQueue
from settings import Settings

ROOT = Path(__file__).resolve().parents[2]
LEASE_S = 1.5
SOON_S = 30.0
"""For the machine to be slow; nothing here should need it."""


class Stage:
    """What one test plays on.

    Parameters
    ----------
    broker_url : str
        Empty: workers poll the database.
    """

    def __init__(
        self, engine: Engine, settings: Settings, folder: Path, broker_url: str = ""
    ) -> None:
        self.engine = engine
        self.settings = settings.model_copy(update={"job_lease_s": LEASE_S})
        self.use_broker(broker_url)
        self._url = settings.database_url
        self.folder = folder
        (folder / "archive").mkdir()
        self.processes: list[subprocess.Popen[str]] = []

    def use_broker(self, url: str) -> None:
        self.broker_url = url
        told = Settings(broker_url=url)  # type: ignore[arg-type]
        announce, _ = make_notice(told)
        self.queue = JobQueue(self.engine, self.settings, announce=announce)

    def start(
        self, trap: str = "none", pause_s: float = 0.0, **environment: str
    ) -> subprocess.Popen[str]:
        """Start a worker in a folder and a process group of its own, as on a host."""
        host = self.folder / f"host-{len(self.processes)}"
        host.mkdir()
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.faults.scripted_worker",
                    self._url,
                    str(self.folder),
                    trap,
                    str(pause_s),
                ],
                cwd=host,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "METIA_BROKER_URL": self.broker_url,
                    **environment,
                },
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def kill_host(self, process: subprocess.Popen[str]) -> None:
        """End a worker and whatever it started, without a word."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()

    def submit(self, study_uid: str = "1.2.3", priority: int = 0) -> Job:
        return self.queue.submit(study_uid, priority=priority)[0]

    def wait(self, what: Callable[[], bool], soon_s: float = SOON_S) -> float:
        """Wait until it is true; gives the seconds it took."""
        began = time.monotonic()
        while not what():
            assert time.monotonic() - began < soon_s, self.log()
            time.sleep(0.02)
        return time.monotonic() - began

    def wait_for_trap(self) -> None:
        self.wait((self.folder / "trapped").exists)

    def wait_for(self, job: Job, state: str) -> float:
        return self.wait(lambda: self.queue.get(job.id).state == state)

    def wait_for_all(self, number: int, soon_s: float = SOON_S) -> None:
        """Wait until so many jobs have succeeded."""
        self.wait(lambda: self.queue.counts()["succeeded"] == number, soon_s)

    def runs(self) -> list[str]:
        """Studies in the order in which their runs began."""
        path = self.folder / "runs"
        if not path.exists():
            return []
        return [line.split()[0] for line in path.read_text().splitlines()]

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def assert_ended_once(self, job: Job) -> None:
        ended = self.queue.get(job.id)
        assert ended.state == "succeeded"
        assert [p.name for p in (self.folder / "archive").iterdir()] == ["2.25.101"]
        with reading(self.engine) as session:
            (result,) = list_results(session, "1.2.3")
            assert session.query(ResultRow).count() == 1
            assert session.query(LesionRow).count() == 2
        assert ended.result_id == result.id

    def assert_each_once(self, jobs: list[Job], run_twice: int = 0) -> None:
        """Every job has succeeded with one object and one result; so many ran twice."""
        ended = [self.queue.get(job.id) for job in jobs]
        assert {job.state for job in ended} == {"succeeded"}
        assert len(list((self.folder / "archive").iterdir())) == len(jobs)
        with reading(self.engine) as session:
            found = [list_results(session, job.study_uid) for job in jobs]
            assert session.query(ResultRow).count() == len(jobs)
        assert [result.id for (result,) in found] == [job.result_id for job in ended]
        runs = Counter(self.runs())
        assert set(runs) == {job.study_uid for job in jobs}
        assert sum(runs.values()) == len(jobs) + run_twice
        assert sum(job.attempt for job in ended) == len(jobs) + run_twice
