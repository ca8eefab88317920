"""Real worker processes that are killed, stopped, asked to stop and cancelled.

The table of outcomes: wherever the worker dies, the job is taken again within the
lease, ends once, and leaves one object in the archive and one set of rows; whether the
database is polled or a broker delivers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.scripted_worker import STEPS
from tests.faults.stage import LEASE_S, ROOT, SOON_S, Stage

TRAPS = [*(f"before {step}" for step in STEPS), "after store", "inside record"]
BROKERS = ["postgresql+redis", "postgresql+rabbitmq"]
# One place before, and all after the archive has the object.
POSTGRESQL_TRAPS = ["before predict", "after store", "inside record"]


@pytest.mark.parametrize(
    ("backing", "trap"),
    [
        *(("sqlite", trap) for trap in TRAPS),
        *(("postgresql", trap) for trap in POSTGRESQL_TRAPS),
        ("postgresql+redis", "before predict"),
        ("postgresql+rabbitmq", "after store"),
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


@pytest.mark.parametrize("backing", ["sqlite"])
def test_killed_after_recording_changes_nothing(stage: Stage) -> None:
    job = stage.submit()
    victim = stage.start("after record")
    stage.wait_for_trap()
    victim.kill()
    stage.start()
    time.sleep(LEASE_S + 0.5)
    stage.assert_ended_once(job)
    assert len(stage.runs()) == 1


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


@pytest.mark.parametrize("backing", ["sqlite", "postgresql+redis"])
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


@pytest.mark.parametrize("backing", ["sqlite", "postgresql+rabbitmq"])
def test_asked_to_stop_while_storing_finishes(stage: Stage) -> None:
    job = stage.submit()
    leaving = stage.start("storing")
    stage.wait_for_trap()
    leaving.terminate()
    assert leaving.wait(SOON_S) == 0
    stage.assert_ended_once(job)
    assert stage.queue.get(job.id).attempt == 1


@pytest.mark.parametrize("backing", ["sqlite", "postgresql+rabbitmq"])
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


@pytest.mark.parametrize("backing", ["sqlite"])
def test_deaf_run_is_abandoned_when_the_time_to_drain_is_over(stage: Stage) -> None:
    job = stage.submit()
    deaf = stage.start("deaf")
    stage.wait_for_trap()
    began = time.monotonic()
    deaf.terminate()
    assert deaf.wait(SOON_S) == 0
    assert 7 < time.monotonic() - began < 10  # container engines kill after ten
    assert stage.queue.get(job.id).state == "queued"


@pytest.mark.parametrize(
    "backing", ["sqlite", "postgresql+redis", "postgresql+rabbitmq"]
)
def test_idle_worker_stops_at_once(stage: Stage) -> None:
    idle = stage.start()
    stage.wait(lambda: len(stage.queue.workers()) == 1)
    idle.terminate()
    began = time.monotonic()
    assert idle.wait(SOON_S) == 0
    assert time.monotonic() - began < 3
    assert stage.queue.workers() == ()


@pytest.mark.parametrize(
    "backing", ["sqlite", "postgresql+redis", "postgresql+rabbitmq"]
)
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
