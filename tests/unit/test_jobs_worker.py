"""How a worker ends jobs: every end of a run, and a database that fails meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from db import schema
from db.engine import Engine, make_engine, reading
from db.results import list_results, record_result
from errors import MetiaError
from segmentation import worker as worker_module
from segmentation.delivery.source import Desk, Polling
from segmentation.http.logs import configure_logs
from segmentation.job_context import JobContext
from segmentation.jobs import Job, JobQueue
from segmentation.worker import RunJob, Worker
from settings import Settings
from tests.contract.sample_rows import add_study, make_record


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path / 'metia.sqlite'}")
    schema.upgrade(engine)
    add_study(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path, job_lease_s=3, job_heartbeat_s=0.2, worker_poll_s=0.02
    )


@pytest.fixture
def queue(engine: Engine, settings: Settings) -> JobQueue:
    return JobQueue(engine, settings)


class FirstTry(Polling):
    """Feeds one job once: a second try of it would hide how the first one ended."""

    def feed(self, desk: Desk) -> None:
        while (job := self._claim(desk)) is None:
            pass  # the database refused, and `_claim` has waited
        desk.work(job)


def run_one(queue: JobQueue, settings: Settings, run_job: RunJob) -> Job:
    """Submit a job, let a worker in this thread run it once; give how it stands."""
    job, _ = queue.submit("1.2.3")
    source = FirstTry(queue, settings)
    Worker(queue, run_job, settings, device="cpu", source=source).run()
    ended = queue.get(job.id)
    assert ended.state != "running"
    return ended


def test_finished_run(engine: Engine, queue: JobQueue, settings: Settings) -> None:
    def run(job: Job, context: JobContext) -> None:
        context.report("fetch", 0.1)
        time.sleep(0.05)
        context.report("record", 0.9)
        context.record(lambda session: record_result(session, make_record(job.id)))

    job = run_one(queue, settings, run)
    assert (job.state, job.progress, job.step) == ("succeeded", 1, "record")
    assert set(job.timings_s) == {"waiting", "fetch", "record"}
    assert 0.04 < job.timings_s["fetch"] < 5
    with reading(engine) as session:
        assert len(list_results(session, "1.2.3")) == 1


@pytest.mark.parametrize(
    ("raised", "state", "code"),
    [
        (MetiaError("no-suitable-series", "Nothing here."), "failed", None),
        (MetiaError("archive-denied", "No."), "failed", None),
        (MetiaError("archive-unavailable", "Gone."), "queued", None),
        (MetiaError("database-unusable", "Gone."), "queued", None),
        (MetiaError("job-cancelled", "By itself."), "cancelled", None),
        (ValueError("Canary^Name"), "failed", "internal"),
        (MemoryError(), "queued", "out-of-memory"),
        (None, "failed", "internal"),
    ],
)
def test_run_that_raises(
    queue: JobQueue,
    settings: Settings,
    raised: Exception | None,
    state: str,
    code: str | None,
) -> None:
    def run(_job: Job, context: JobContext) -> None:
        context.report("predict", 0.3)
        if raised is not None:
            raise raised

    job = run_one(queue, settings, run)
    assert job.state == state
    assert job.error_code == (code or getattr(raised, "code", None))
    if state == "failed":
        assert job.step == "predict"
        assert "Canary" not in (job.error_detail or "")


def test_unexpected_exception_is_logged_by_place_not_by_message(
    queue: JobQueue, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    before = logging.getLogger().handlers

    def run(_job: Job, _context: JobContext) -> None:
        patient = "Canary^Name"
        raise ValueError(f"cannot parse {patient}")

    configure_logs("INFO")
    try:
        run_one(queue, settings, run)
    finally:
        logging.getLogger().handlers = before
    log = capsys.readouterr().err
    assert "ValueError" in log
    assert "test_jobs_worker.py" in log
    assert "Canary" not in log


def test_error_after_recording_does_not_undo_it(
    queue: JobQueue, settings: Settings
) -> None:
    def run(job: Job, context: JobContext) -> None:
        context.record(lambda session: record_result(session, make_record(job.id)))
        raise RuntimeError

    assert run_one(queue, settings, run).state == "succeeded"


def test_cancellation_reaches_a_run_that_only_asks(
    queue: JobQueue, settings: Settings
) -> None:
    def run(job: Job, context: JobContext) -> None:
        context.report("predict", 0.2)
        queue.cancel(job.id)
        deadline = time.monotonic() + 5
        while not context.cancelled():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        raise MetiaError("series-not-stable", "Interrupted while waiting.")

    job = run_one(queue, settings, run)
    assert (job.state, job.error_code) == ("cancelled", "job-cancelled")


def test_nobody_stops_a_run_that_stores(queue: JobQueue, settings: Settings) -> None:
    def run(job: Job, context: JobContext) -> None:
        context.report("store", 0.9)
        queue.cancel(job.id)
        time.sleep(0.6)
        assert not context.cancelled()
        context.record(lambda session: record_result(session, make_record(job.id)))

    assert run_one(queue, settings, run).state == "succeeded"


def test_long_step_without_report_keeps_its_lease(
    queue: JobQueue, settings: Settings
) -> None:
    def run(job: Job, context: JobContext) -> None:
        time.sleep(settings.job_lease_s + 0.5)
        assert queue.claim("other") is None
        context.ensure_owner()
        context.record(lambda session: record_result(session, make_record(job.id)))

    assert run_one(queue, settings, run).state == "succeeded"


def test_reports_write_seldom_but_steps_at_once(
    queue: JobQueue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[object, object]] = []
    heartbeat = JobQueue.heartbeat

    def count(self: JobQueue, *args: object, **told: object) -> bool:
        written.append((told["step"], told["progress"]))
        return heartbeat(self, *args, **told)  # type: ignore[arg-type]

    monkeypatch.setattr(JobQueue, "heartbeat", count)
    slow = settings.model_copy(update={"job_heartbeat_s": 1.4})

    def run(job: Job, context: JobContext) -> None:
        for step in ("fetch", "predict"):
            for number in range(200):
                context.report(step, number / 200)
        context.record(lambda session: record_result(session, make_record(job.id)))

    run_one(queue, slow, run)
    assert [step for step, _ in written][:2] == ["fetch", "predict"]
    assert len(written) < 10


def test_database_that_fails_for_a_while_costs_nothing(
    queue: JobQueue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = threading.Event()
    complete, heartbeat = JobQueue.complete, JobQueue.heartbeat

    def failing(method: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **more: object) -> object:
            if broken.is_set():
                raise MetiaError("database-unusable", "Locked for too long.")
            return method(*args, **more)

        return call

    monkeypatch.setattr(JobQueue, "complete", failing(complete))
    monkeypatch.setattr(JobQueue, "heartbeat", failing(heartbeat))

    def run(job: Job, context: JobContext) -> None:
        broken.set()
        context.report("predict", 0.5)
        assert not context.cancelled()
        threading.Timer(0.8, broken.clear).start()
        context.ensure_owner()
        broken.set()
        threading.Timer(0.8, broken.clear).start()
        context.record(lambda session: record_result(session, make_record(job.id)))

    assert run_one(queue, settings, run).state == "succeeded"


def test_lost_answer_to_the_commit_is_not_a_second_result(
    engine: Engine,
    queue: JobQueue,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complete = JobQueue.complete
    calls: list[int] = []

    def answer_lost_once(*args: object, **more: object) -> object:
        done = complete(*args, **more)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 1:
            raise MetiaError("database-unusable", "The connection broke.")
        return done

    monkeypatch.setattr(JobQueue, "complete", answer_lost_once)

    def run(job: Job, context: JobContext) -> None:
        context.record(lambda session: record_result(session, make_record(job.id)))

    assert run_one(queue, settings, run).state == "succeeded"
    assert len(calls) == 2
    with reading(engine) as session:
        assert len(list_results(session, "1.2.3")) == 1


def test_superseded_run_is_told_so(queue: JobQueue, settings: Settings) -> None:
    seen: list[str] = []

    def run(job: Job, context: JobContext) -> None:
        queue.release(context.fence)
        other = queue.claim("other")
        assert other is not None
        for ask in (
            lambda: context.report("predict", 0.5),
            context.ensure_owner,
            lambda: context.record(lambda session: "x"),
        ):
            with pytest.raises(MetiaError) as caught:
                ask()
            seen.append(caught.value.code)
        assert context.cancelled()
        queue.fail(
            worker_module.JobContext(
                queue, other, threading.Event(), patience_s=1
            ).fence,
            MetiaError("internal", "ended by the other"),
        )
        raise MetiaError("job-cancelled", "as a predictor would")

    job = run_one(queue, settings, run)
    assert seen == ["job-superseded"] * 3
    assert job.error_detail == "ended by the other"


def test_worker_survives_a_database_that_cannot_be_claimed_from(
    queue: JobQueue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = JobQueue.claim
    calls: list[int] = []

    def fail_first(*args: object) -> object:
        calls.append(1)
        if len(calls) < 3:
            raise MetiaError("database-unusable", "Locked for too long.")
        return claim(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(JobQueue, "claim", fail_first)

    def run(job: Job, context: JobContext) -> None:
        context.record(lambda session: record_result(session, make_record(job.id)))

    assert run_one(queue, settings, run).state == "succeeded"


def test_stuck_run_ends_the_worker(
    queue: JobQueue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    exited: list[int] = []
    gone = threading.Event()

    def pretend_exit(code: int) -> None:
        exited.append(code)
        gone.set()

    monkeypatch.setattr(worker_module, "_exit", pretend_exit)

    def stuck(_job: Job, _context: JobContext) -> None:
        gone.wait(10)

    queue.submit("1.2.3")
    worker = Worker(queue, stuck, settings, device="cpu", stall_s=0.3)
    stopper = threading.Thread(target=lambda: (gone.wait(10), worker.stop()))
    stopper.start()
    worker.run()
    stopper.join()
    assert exited[0] == 70


def test_broken_watcher_ends_the_worker(
    queue: JobQueue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    exited: list[int] = []
    monkeypatch.setattr(worker_module, "_exit", exited.append)
    monkeypatch.setattr(JobQueue, "note_worker", None)
    Worker(queue, lambda _job, _context: None, settings, device="cpu")._watch()
    assert exited == [70]
