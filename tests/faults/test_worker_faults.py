"""Real worker processes that are killed, stopped, asked to stop and cancelled.

The table of outcomes: wherever the worker dies, the job is taken again within the
lease, ends once, and leaves one object in the archive and one set of rows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from db.engine import Engine, reading
from db.models import LesionRow, ResultRow
from db.results import list_results
from segmentation.jobs import Job, JobQueue
from settings import Settings
from tests.faults.scripted_worker import STEPS

ROOT = Path(__file__).resolve().parents[2]
LEASE_S = 1.5
SOON_S = 30.0
"""For the machine to be slow; nothing here should need it."""


class Stage:
    """A queue, an archive folder, and worker processes on them."""

    def __init__(self, engine: Engine, settings: Settings, folder: Path) -> None:
        self.engine = engine
        self.queue = JobQueue(
            engine, settings.model_copy(update={"job_lease_s": LEASE_S})
        )
        self._url = settings.database_url
        self.folder = folder
        (folder / "archive").mkdir()
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, trap: str = "none", pause_s: float = 0.0) -> subprocess.Popen[str]:
        log = (self.folder / "log").open("a")
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
            cwd=ROOT,
            stderr=log,
            text=True,
        )
        log.close()
        self.processes.append(process)
        return process

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()

    def submit(self) -> Job:
        return self.queue.submit("1.2.3")[0]

    def wait(self, what: Callable[[], bool]) -> float:
        """Wait until it is true; gives the seconds it took."""
        began = time.monotonic()
        while not what():
            assert time.monotonic() - began < SOON_S, self.log()
            time.sleep(0.02)
        return time.monotonic() - began

    def wait_for_trap(self) -> None:
        self.wait((self.folder / "trapped").exists)

    def wait_for(self, job: Job, state: str) -> float:
        return self.wait(lambda: self.queue.get(job.id).state == state)

    def runs(self) -> int:
        return len((self.folder / "runs").read_text().splitlines())

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


@pytest.fixture
def stage(engine: Engine, settings: Settings, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(engine, settings, tmp_path)
    yield stage
    stage.stop()


TRAPS = [*(f"before {step}" for step in STEPS), "after store", "inside record"]
# One place before, and all after the archive has the object.
POSTGRESQL_TRAPS = {"before predict", "after store", "inside record"}


@pytest.mark.parametrize(
    ("database_kind", "trap"),
    [
        (kind, trap)
        for kind in ("sqlite", "postgresql")
        for trap in TRAPS
        if kind == "sqlite" or trap in POSTGRESQL_TRAPS
    ],
)
def test_worker_killed_at(stage: Stage, trap: str) -> None:
    job = stage.submit()
    victim = stage.start(trap)
    stage.wait_for_trap()
    assert stage.queue.get(job.id).state == "running"
    victim.kill()
    stage.start()
    stage.wait_for(job, "succeeded")
    stage.assert_ended_once(job)
    ended = stage.queue.get(job.id)
    assert (ended.attempt, ended.deaths) == (2, 1)


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_killed_after_recording_changes_nothing(stage: Stage) -> None:
    job = stage.submit()
    victim = stage.start("after record")
    stage.wait_for_trap()
    victim.kill()
    stage.start()
    time.sleep(LEASE_S + 0.5)
    stage.assert_ended_once(job)
    assert stage.runs() == 1


def test_waiting_worker_takes_over_within_the_lease(stage: Stage) -> None:
    job = stage.submit()
    victim = stage.start("before predict")
    stage.wait_for_trap()
    stage.start()
    stage.wait(lambda: len(stage.queue.workers()) == 2)
    victim.kill()
    # Lease, one poll, and the slowness of a busy machine.
    assert stage.wait(lambda: stage.queue.get(job.id).attempt == 2) < LEASE_S + 2
    stage.wait_for(job, "succeeded")
    stage.assert_ended_once(job)


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_job_that_kills_every_worker_is_given_up(stage: Stage) -> None:
    job = stage.submit()
    for _ in range(3):
        (stage.folder / "trapped").unlink(missing_ok=True)
        victim = stage.start("before predict")
        stage.wait_for_trap()
        victim.kill()
        victim.wait()
    stage.start()
    stage.wait_for(job, "failed")
    failed = stage.queue.get(job.id)
    assert (failed.error_code, failed.attempt) == ("job-attempts-exhausted", 3)


def test_stopped_worker_that_comes_back_is_fenced_off(stage: Stage) -> None:
    job = stage.submit()
    sleeper = stage.start(pause_s=1.0)
    stage.wait(lambda: stage.queue.get(job.id).step == "predict")
    sleeper.send_signal(signal.SIGSTOP)
    stage.start(pause_s=0.0)
    stage.wait_for(job, "succeeded")
    sleeper.send_signal(signal.SIGCONT)
    stage.wait(lambda: "taken over by another" in stage.log())
    stage.assert_ended_once(job)
    assert stage.queue.get(job.id).attempt == 2
    assert sleeper.poll() is None  # and is there for the next job
    other, _ = stage.queue.submit("1.2.3", parameters={"again": True})
    stage.wait_for(other, "succeeded")


def test_worker_stopped_just_before_recording_is_fenced_off(stage: Stage) -> None:
    job = stage.submit()
    sleeper = stage.start("storing")
    stage.wait_for_trap()
    sleeper.send_signal(signal.SIGSTOP)
    stage.start()
    stage.wait_for(job, "succeeded")
    sleeper.send_signal(signal.SIGCONT)
    stage.wait(lambda: "taken over by another" in stage.log())
    stage.assert_ended_once(job)


def test_asked_to_stop_gives_the_job_back_at_once(stage: Stage) -> None:
    job = stage.submit()
    leaving = stage.start(pause_s=3600)
    stage.wait(lambda: stage.queue.get(job.id).step == "predict")
    leaving.terminate()
    assert leaving.wait(SOON_S) == 0
    given_back = stage.queue.get(job.id)
    assert (given_back.state, given_back.deaths) == ("queued", 0)
    assert stage.queue.workers() == ()
    stage.start()
    stage.wait_for(job, "succeeded")
    stage.assert_ended_once(job)


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_asked_to_stop_while_storing_finishes(stage: Stage) -> None:
    job = stage.submit()
    leaving = stage.start("storing")
    stage.wait_for_trap()
    leaving.terminate()
    assert leaving.wait(SOON_S) == 0
    stage.assert_ended_once(job)
    assert stage.queue.get(job.id).attempt == 1


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_second_signal_ends_a_deaf_run(stage: Stage) -> None:
    job = stage.submit()
    deaf = stage.start("deaf")
    stage.wait_for_trap()
    deaf.terminate()
    time.sleep(0.5)
    assert deaf.poll() is None
    deaf.send_signal(signal.SIGINT)
    assert deaf.wait(SOON_S) == 0
    assert stage.queue.get(job.id).state == "queued"
    stage.start()
    stage.wait_for(job, "succeeded")
    stage.assert_ended_once(job)


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_deaf_run_is_abandoned_when_the_time_to_drain_is_over(stage: Stage) -> None:
    job = stage.submit()
    deaf = stage.start("deaf")
    stage.wait_for_trap()
    began = time.monotonic()
    deaf.terminate()
    assert deaf.wait(SOON_S) == 0
    assert 7 < time.monotonic() - began < 10  # container engines kill after ten
    assert stage.queue.get(job.id).state == "queued"


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_idle_worker_stops_at_once(stage: Stage) -> None:
    idle = stage.start()
    stage.wait(lambda: len(stage.queue.workers()) == 1)
    idle.terminate()
    began = time.monotonic()
    assert idle.wait(SOON_S) == 0
    assert time.monotonic() - began < 3
    assert stage.queue.workers() == ()


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_cancelled_run_stops_soon(stage: Stage) -> None:
    job = stage.submit()
    stage.start(pause_s=3600)
    stage.wait(lambda: stage.queue.get(job.id).step == "predict")
    stage.queue.cancel(job.id)
    assert stage.wait_for(job, "cancelled") < 2
    assert not list((stage.folder / "archive").iterdir())


def test_worker_without_schema_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.faults.scripted_worker",
            f"sqlite:///{tmp_path / 'none.sqlite'}",
            str(tmp_path),
            "none",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "database-unusable" in done.stderr
    assert "Traceback" not in done.stderr


def test_importing_the_worker_loads_no_torch() -> None:
    code = (
        "import sys, segmentation.worker;"
        "print([m for m in ('torch', 'monai', 'flask') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert done.stdout.strip() == "[]"
