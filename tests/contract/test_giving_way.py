"""An automatic job under way gives way to a person, and is done afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import highdicom as hd
import pytest
from sqlalchemy import update

from db import ahead
from db.engine import Engine, database_time, transaction
from db.models import JobRow
from errors import MetiaError
from segmentation.ahead import giving_way
from segmentation.ahead.giving_way import person_waits
from segmentation.jobs import Job, JobQueue
from segmentation.models.predictor import ModelIdentity, Prediction
from segmentation.phantoms import LesionSpec, Visit, dicom_series, sample_head
from segmentation.runner import SegmentationRunner
from segmentation.worker import Worker
from settings import Settings
from tests.fake_archive import FakeArchive

VISIT = Visit(key="gives-way")
HEAD = sample_head((24, 64, 64), lesions=(LesionSpec.ball((36, 10, 22), 22.0),))
QUEUES = ("gpu", "cpu")


class Windows:
    """A predictor that works window by window and asks between them."""

    identity = ModelIdentity("stub", "1", "ab" * 32, True)
    threshold = 0.5
    minimum_volume_mm3 = 10.0
    minimum_peak = 0.0
    device = "cpu"

    def __init__(self, meanwhile: Callable[[int], None]) -> None:
        self._meanwhile = meanwhile
        self.windows = 0

    def predict(
        self,
        image: hd.Volume,
        *,
        progress: Callable[[float], None],
        cancelled: Callable[[], bool],
    ) -> Prediction:
        for window in range(10):
            self._meanwhile(window)
            self.windows += 1
            if cancelled():
                raise MetiaError("job-cancelled", "Told to stop.")
            progress((window + 1) / 10)
        answer = HEAD.volume.with_array(HEAD.occupancy)
        return Prediction(answer.match_geometry(image, tol=1e-3), "cpu")


@pytest.fixture(autouse=True)
def _asks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving_way, "_ASK_EVERY_S", 0.0)


@pytest.fixture
def queue(engine: Engine, settings: Settings) -> JobQueue:
    return JobQueue(engine, settings)


def automatic(queue: JobQueue, study_uid: str = VISIT.study_uid) -> Job:
    job, _ = queue.submit(
        study_uid, priority=ahead.AUTOMATIC_PRIORITY, requested_by=ahead.AUTOMATIC
    )
    return job


def ago(engine: Engine, job: Job, seconds: float) -> None:
    with transaction(engine) as session:
        then = database_time(session) - timedelta(seconds=seconds)
        session.execute(
            update(JobRow).where(JobRow.id == job.id).values(created_at=then)
        )


def work(
    engine: Engine,
    settings: Settings,
    queue: JobQueue,
    meanwhile: Callable[[int], None],
) -> tuple[Job, Windows]:
    """Let a worker take one job to where it ends."""
    archive = FakeArchive()
    archive.put(dicom_series(HEAD, visit=VISIT))
    predictor = Windows(meanwhile)
    runner = SegmentationRunner(settings, engine, archive)
    runner._load = lambda _model: predictor  # type: ignore[method-assign, assignment, return-value]
    worker = Worker(queue, runner, settings, device="cpu")
    job = queue.claim(worker.owner)
    assert job is not None
    worker.work(job)
    return queue.get(job.id), predictor


def test_a_person_goes_first_and_nothing_is_counted_against_it(
    engine: Engine, settings: Settings, queue: JobQueue
) -> None:
    job = automatic(queue)

    def press(window: int) -> None:
        if window == 2:
            pressed, _ = queue.submit("9.9.9", requested_by="ann")
            ago(engine, pressed, 5)

    ended, predictor = work(engine, settings, queue, press)
    assert predictor.windows == 3
    assert (ended.state, ended.retries, ended.deaths) == ("queued", 0, 0)
    assert ended.error_code is None
    next_job = queue.claim("worker")
    assert next_job is not None
    assert next_job.study_uid == "9.9.9"
    ended, predictor = work(engine, settings, queue, lambda _window: None)
    assert ended.id == job.id
    assert ended.state == "succeeded"


def test_not_where_an_idle_worker_may_take_it_or_most_is_done(
    engine: Engine, settings: Settings, queue: JobQueue
) -> None:
    automatic(queue)

    def press(window: int) -> None:
        if window == 0:
            queue.submit("9.9.8", requested_by="ann")  # just now
        if window == 9:
            pressed, _ = queue.submit("9.9.9", requested_by="ann")
            ago(engine, pressed, 5)

    ended, _ = work(engine, settings, queue, press)
    assert ended.state == "succeeded"


def test_nor_where_somebody_pressed_for_this_very_study(
    engine: Engine, settings: Settings, queue: JobQueue
) -> None:
    automatic(queue)

    def press(window: int) -> None:
        if window == 0:
            adopted, created = queue.submit(VISIT.study_uid, requested_by="ann")
            assert not created
            assert adopted.requested_by == "ann"
            other, _ = queue.submit("9.9.9", requested_by="bob")
            ago(engine, other, 5)

    ended, _ = work(engine, settings, queue, press)
    assert ended.state == "succeeded"


def test_a_person_s_job_gives_way_to_nobody(
    engine: Engine, settings: Settings, queue: JobQueue
) -> None:
    queue.submit(VISIT.study_uid, requested_by="ann")

    def press(window: int) -> None:
        if window == 0:
            other, _ = queue.submit("9.9.9", priority=9, requested_by="bob")
            ago(engine, other, 5)

    ended, _ = work(engine, settings, queue, press)
    assert ended.state == "succeeded"


def test_a_cancelled_automatic_job_is_cancelled(
    engine: Engine, settings: Settings, queue: JobQueue
) -> None:
    job = automatic(queue)

    def cancel(window: int) -> None:
        if window == 1:
            queue.cancel(job.id)
        time.sleep(0.2)  # the run hears of it twice a second

    ended, _ = work(engine, settings, queue, cancel)
    assert ended.state == "cancelled"


def test_automatic_jobs_and_alignments_are_nobody(
    engine: Engine, queue: JobQueue
) -> None:
    job = automatic(queue)
    ago(engine, automatic(queue, "1.9"), 60)
    follow, _ = queue.submit("1.8", kind="follow", queue="cpu", priority=-10)
    ago(engine, follow, 60)
    assert not person_waits(engine, QUEUES, job.id)
    pressed, _ = queue.submit("1.7", priority=-10, requested_by="ann")
    ago(engine, pressed, 61)
    assert person_waits(engine, QUEUES, job.id)
    assert not person_waits(engine, ("cpu",), job.id)
