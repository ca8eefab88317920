"""What delivery by a broker asks of the queue, and that its size costs nothing.

On SQLite and PostgreSQL alike: a named job is claimed once, missing messages are found
once, and no statement of the queue reads what it does not give.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from sqlalchemy import event, text

from db import jobs as job_rows
from db.engine import Engine, is_postgresql, reading, transaction
from db.jobs import Job
from errors import MetiaError
from segmentation.jobs import Fence, JobQueue
from settings import Settings
from tests.contract.test_job_queue import Clock, fence_of, in_threads, waiting_row

_MANY = 10_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[Job]:
    return []


@pytest.fixture
def queue(
    engine: Engine, settings: Settings, clock: Clock, told: list[Job]
) -> JobQueue:
    """A queue whose new jobs are announced."""
    return JobQueue(engine, settings, clock, told.append)


def missing(
    queue: JobQueue, arrives_s: float = 60, limit: int = 100, empty: bool = True
) -> list[str]:
    found = queue.take_unpublished(
        "gpu", arrives_s=arrives_s, broker_empty=empty, limit=limit
    )
    return [job.study_uid for job in found]


# -- claiming a named job ------------------------------------------------------


def test_named_job_is_claimed_once(queue: JobQueue) -> None:
    queue.submit("1.1", priority=9)
    job, _ = queue.submit("1.2")
    claimed = in_threads(8, lambda n: queue.claim_one(f"worker-{n}", job.id))
    (taken,) = [one for one in claimed if one is not None]
    assert isinstance(taken, Job)
    assert (taken.id, taken.state, taken.attempt) == (job.id, "running", 1)
    assert queue.get(job.id) == taken
    assert queue.counts()["queued"] == 1


def test_named_job_that_does_not_wait_is_not_claimed(
    queue: JobQueue, clock: Clock
) -> None:
    assert queue.claim_one("me", "0" * 32) is None
    job, _ = queue.submit("1.1")
    queue.cancel(job.id)
    assert queue.claim_one("me", job.id) is None
    job, _ = queue.submit("1.2")
    running = queue.claim_one("me", job.id)
    assert running is not None
    assert queue.claim_one("other", job.id) is None
    queue.fail(fence_of(running), MetiaError("internal", "broken"))
    assert queue.claim_one("other", job.id) is None


def test_named_job_that_is_put_off_is_not_claimed_early(
    queue: JobQueue, clock: Clock
) -> None:
    job, _ = queue.submit("1.1")
    taken = queue.claim_one("me", job.id)
    assert taken is not None
    put_off = queue.retry(fence_of(taken), MetiaError("archive-unavailable", "x"))
    wait_s = (put_off.not_before - clock.now).total_seconds()
    clock.move(wait_s - 0.01)
    assert queue.claim_one("early", job.id) is None
    clock.move(0.02)
    again = queue.claim_one("other", job.id)
    assert again is not None
    assert again.attempt == 2


# -- announcing ----------------------------------------------------------------


def test_new_job_is_announced_after_it_is_there(
    engine: Engine, settings: Settings
) -> None:
    seen: list[str] = []
    fresh = JobQueue(engine, settings)

    def look(job: Job) -> None:
        seen.append(fresh.get(job.id).state)  # another connection sees it

    queue = JobQueue(engine, settings, announce=look)
    queue.submit("1.1")
    queue.submit("1.1")
    assert seen == ["queued"]


def test_refused_job_is_not_announced(
    engine: Engine, settings: Settings, told: list[Job]
) -> None:
    small = settings.model_copy(update={"job_queue_limit": 1})
    queue = JobQueue(engine, small, announce=told.append)
    queue.submit("1.1")
    with pytest.raises(MetiaError, match="too-many-requests"):
        queue.submit("1.2")
    assert len(told) == 1


# -- messages that are missing -------------------------------------------------


def test_announced_job_is_missed_once_its_message_should_have_come(
    queue: JobQueue, clock: Clock
) -> None:
    queue.submit("1.1")
    assert missing(queue) == []
    clock.move(59)
    assert missing(queue) == []
    clock.move(2)
    assert missing(queue) == ["1.1"]
    assert missing(queue) == []
    clock.move(61)
    assert missing(queue) == ["1.1"]


def test_job_nobody_was_told_of_is_missed_at_once(
    engine: Engine, settings: Settings, clock: Clock
) -> None:
    quiet = JobQueue(engine, settings, clock)
    quiet.submit("1.1")
    quiet.submit("1.2", priority=3)
    quiet.submit("1.3", queue="cpu", priority=9)
    assert missing(quiet, limit=1) == ["1.2"]
    assert missing(quiet, limit=2) == ["1.1"]
    assert missing(quiet) == []


@pytest.mark.parametrize("way", ["retry", "release", "death"])
def test_job_that_came_back_is_missed_once_it_is_due(
    queue: JobQueue, clock: Clock, settings: Settings, way: str
) -> None:
    job, _ = queue.submit("1.1")
    taken = queue.claim_one("me", job.id)
    assert taken is not None
    if way == "retry":
        put_off = queue.retry(fence_of(taken), MetiaError("archive-unavailable", "x"))
        assert missing(queue) == []
        clock.move((put_off.not_before - clock.now).total_seconds())
    if way == "release":
        queue.release(fence_of(taken))
    if way == "death":
        assert queue.recover() == ()
        clock.move(settings.job_lease_s + 1)
        assert [one.id for one in queue.recover()] == [job.id]
    assert missing(queue) == ["1.1"]
    assert missing(queue) == []


def test_only_waiting_jobs_are_missed(
    queue: JobQueue, clock: Clock, settings: Settings
) -> None:
    running, _ = queue.submit("1.1")
    cancelled, _ = queue.submit("1.2")
    queue.claim_one("me", running.id)
    queue.cancel(cancelled.id)
    clock.move(settings.job_lease_s - 1)
    assert missing(queue, arrives_s=1) == []


def test_job_in_a_broker_that_has_messages_is_missed_only_when_overtaken(
    queue: JobQueue, clock: Clock
) -> None:
    for uid, priority in (("1.1", 0), ("1.2", 0), ("1.3", 5), ("1.4", -5)):
        queue.submit(uid, priority=priority)
        clock.move(1)
    by_uid = {job.study_uid: job.id for job in queue.list().jobs}
    clock.move(3600)
    assert missing(queue, empty=False) == []  # a long queue is no loss

    first = queue.claim_one("me", by_uid["1.3"])  # told of later, but more urgent
    assert first is not None
    assert missing(queue, empty=False) == []
    queue.claim_one("me", by_uid["1.4"])  # told of later, and less urgent
    assert missing(queue, arrives_s=7200, empty=False) == []  # may be on their way
    assert missing(queue, empty=False) == ["1.1", "1.2"]
    assert missing(queue, empty=False) == []


def test_many_sweepers_find_each_missing_message_once(
    engine: Engine, settings: Settings
) -> None:
    quiet = JobQueue(engine, settings)
    expected = sorted(quiet.submit(f"1.2.{n}")[0].study_uid for n in range(60))

    def sweep(_: int) -> list[str]:
        return [uid for _ in range(4) for uid in missing(quiet)]

    found = [uid for part in in_threads(6, sweep) for uid in part]  # type: ignore[attr-defined]
    assert sorted(found) == expected


def test_message_from_before_the_clock_went_back_is_missed(
    queue: JobQueue, clock: Clock
) -> None:
    queue.submit("1.1")
    clock.move(-3600)
    assert missing(queue) == ["1.1"]


# -- claiming over several queues ----------------------------------------------


def test_queues_are_served_as_one(queue: JobQueue, clock: Clock) -> None:
    for uid, name, priority in (
        ("1.1", "cpu", 0),
        ("1.2", "gpu", 0),
        ("1.3", "cpu", 5),
        ("1.4", "gpu", -5),
        ("1.5", "train", 9),
    ):
        queue.submit(uid, queue=name, priority=priority)
        clock.move(1)
    order = []
    while (job := queue.claim("me", ("gpu", "cpu", "gpu"))) is not None:
        order.append(job.study_uid)
    assert order == ["1.3", "1.1", "1.2", "1.4"]


def test_no_queue_no_job(queue: JobQueue) -> None:
    queue.submit("1.1")
    assert queue.claim("me", ()) is None


# -- the places of many jobs ---------------------------------------------------


def test_places_of_a_page_are_those_of_each_job(
    engine: Engine, queue: JobQueue, clock: Clock
) -> None:
    for number in range(12):
        queue.submit(f"1.{number}", queue="gpu" if number % 3 else "cpu",
                     priority=number % 4)  # fmt: skip
        clock.move(number % 2)
    queue.claim("me")
    page = queue.list().jobs
    with reading(engine) as session:
        places = job_rows.queue_positions(session, page)
        assert places == {
            job.id: job_rows.queue_position(session, job)
            for job in page
            if job.state == "queued"
        }
        assert job_rows.queue_positions(session, ()) == {}
    for name in ("gpu", "cpu"):
        waiting = [job for job in page if job.queue == name and job.id in places]
        assert sorted(places[job.id] for job in waiting) == [
            number + 1 for number in range(len(waiting))
        ]


def test_the_oldest_waiting_job(engine: Engine, queue: JobQueue, clock: Clock) -> None:
    def oldest() -> datetime | None:
        with reading(engine) as session:
            return job_rows.oldest_queued(session)

    assert oldest() is None
    began = clock.now
    queue.submit("1.1")
    clock.move(5)
    queue.submit("1.2")
    assert oldest() == began
    queue.claim("me")
    assert oldest() == began + timedelta(seconds=5)


# -- plans ---------------------------------------------------------------------


@pytest.fixture
def long_queue(engine: Engine, settings: Settings, clock: Clock) -> JobQueue:
    """Ten thousand jobs that wait for the GPU, and two that wait behind, for a CPU."""
    roomy = settings.model_copy(update={"job_queue_limit": 2 * _MANY})
    queue = JobQueue(engine, roomy, clock)
    with transaction(engine) as session:
        for number in range(_MANY):
            session.add(waiting_row(number + 10, clock.now))
    queue.submit("9.1", queue="cpu", priority=-10)
    queue.submit("9.2", queue="cpu", priority=-10)
    with transaction(engine) as session:
        session.execute(text("ANALYZE"))
    return queue


CALLS: dict[str, Callable[[JobQueue, Engine], object]] = {
    "claim": lambda queue, _: queue.claim("me"),
    "claim of the other queue": lambda queue, _: queue.claim("me", ("cpu",)),
    "claim one": lambda queue, _: queue.claim_one("me", f"{500:032x}"),
    "recover": lambda queue, _: queue.recover(),
    "unpublished": lambda queue, _: queue.take_unpublished(
        "gpu", arrives_s=1, broker_empty=False, limit=20
    ),
    "submit again": lambda queue, _: queue.submit("9.1", queue="cpu", priority=-10),
    "position": lambda queue, _: queue.position(
        queue.list(state="queued", limit=1).jobs[0]
    ),
    "heartbeat": lambda queue, _: _beat(queue),
}  # fmt: skip


def _beat(queue: JobQueue) -> None:
    job = queue.claim("me")
    assert job is not None
    queue.heartbeat(job.id, job.attempt, "me", progress=0.5)
    queue.release(Fence(job.id, job.attempt, "me"))


def test_no_statement_reads_the_whole_table(
    engine: Engine, long_queue: JobQueue
) -> None:
    for name, call in CALLS.items():
        plans = list(plans_of(engine, lambda: call(long_queue, engine)))  # noqa: B023
        assert plans, name
        for plan in plans:
            # PostgreSQL; SQLite says SCAN where it reads a table, or an index, whole.
            assert "Seq Scan on job" not in plan, (name, plan)
            # ... but the front of an index in its order, or the few jobs that run.
            for scan in re.findall(r"SCAN job[^',]*", plan):
                assert scan.endswith(("ix_job_created", "ix_job_lease")), (name, plan)
            assert "TEMP B-TREE" not in plan, (name, plan)


def plans_of(engine: Engine, call: Callable[[], object]) -> Iterator[str]:
    """Say how the database does each statement of `call` that concerns jobs."""
    with _listening(engine) as statements:
        call()
    explain = "EXPLAIN" if is_postgresql(engine) else "EXPLAIN QUERY PLAN"
    with transaction(engine) as session:
        driver = session.connection()
        for sql, values in statements:
            if sql.startswith(("SELECT", "UPDATE")) and "job" in sql:
                yield str(driver.exec_driver_sql(f"{explain} {sql}", values).all())  # type: ignore[arg-type]


@contextmanager
def _listening(engine: Engine) -> Iterator[list[tuple[str, object]]]:
    statements: list[tuple[str, object]] = []

    def remember(
        _c: object, _cursor: object, sql: str, values: object, *_: object
    ) -> None:
        statements.append((sql, values))

    event.listen(engine, "before_cursor_execute", remember)
    yield statements
    event.remove(engine, "before_cursor_execute", remember)
