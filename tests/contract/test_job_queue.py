"""The queue's promises, kept by SQLite and by PostgreSQL alike."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, select, text, update

from db import jobs as job_rows
from db.engine import Engine, Session, is_postgresql, reading, transaction
from db.models import JOB_STATES, JobRow, UserRow
from db.results import list_results, record_result
from errors import MetiaError
from segmentation import jobs as queue_module
from segmentation.jobs import Fence, Job, JobQueue, retry_delay, ups_state
from settings import Settings
from tests.contract.sample_rows import add_study, make_record

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """A time that stands still until moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self, _session: Session) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(engine: Engine, settings: Settings, clock: Clock) -> JobQueue:
    return JobQueue(engine, settings, clock)


def fence_of(job: Job) -> Fence:
    assert job.owner is not None
    return Fence(job.id, job.attempt, job.owner)


def take(queue: JobQueue, owner: str = "worker") -> Job:
    job = queue.claim(owner)
    assert job is not None
    return job


def in_threads(number: int, call: Callable[[int], object]) -> list[object]:
    """Run `call` in that many threads that start together."""
    together = threading.Barrier(number)

    def one(index: int) -> object:
        together.wait()
        return call(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


# -- submitting ----------------------------------------------------------------


def test_new_job_waits(queue: JobQueue, clock: Clock) -> None:
    job, created = queue.submit("1.2.3", "1.2.4", "net", {"a": 1}, requested_by="ann")
    assert created
    assert job == queue.get(job.id)
    assert (job.state, job.step, job.progress, job.attempt) == (
        "queued",
        "waiting",
        0,
        0,
    )
    assert (job.study_uid, job.series_uid, job.model_name) == ("1.2.3", "1.2.4", "net")
    assert (job.parameters, job.requested_by) == ({"a": 1}, "ann")
    assert job.created_at == clock.now
    assert job.created_at.tzinfo is UTC


def test_same_request_is_same_job_while_active(queue: JobQueue) -> None:
    job, _ = queue.submit("1.2.3", parameters={"a": 1, "b": 2})
    assert queue.submit("1.2.3", parameters={"b": 2, "a": 1}) == (job, False)
    running = take(queue)
    assert queue.submit("1.2.3", parameters={"a": 1, "b": 2}) == (running, False)
    queue.fail(fence_of(running), MetiaError("internal", "broken"))
    again, created = queue.submit("1.2.3", parameters={"a": 1, "b": 2})
    assert created
    assert again.id != job.id


@pytest.mark.parametrize(
    "other",
    [
        {"study_uid": "1.2.9"},
        {"series_uid": "1.2.9"},
        {"model_name": "other"},
        {"parameters": {"a": 2}},
        {"kind": "training"},
    ],
)
def test_other_work_is_another_job(queue: JobQueue, other: dict[str, object]) -> None:
    first, _ = queue.submit("1.2.3")
    second, created = queue.submit(**({"study_uid": "1.2.3"} | other))  # type: ignore[arg-type]
    assert created
    assert second.id != first.id


def test_sixteen_at_once_are_one_job(queue: JobQueue) -> None:
    answers = in_threads(16, lambda _: queue.submit("1.2.3"))
    assert sum(created for _, created in answers) == 1  # type: ignore[misc]
    assert len({job.id for job, _ in answers}) == 1  # type: ignore[misc]
    assert queue.counts()["queued"] == 1


def test_processes_at_once_are_one_job(queue: JobQueue, settings: Settings) -> None:
    script = (
        "import sys; from db.engine import make_engine;"
        "from segmentation.jobs import JobQueue; from settings import Settings;"
        "s = Settings(database_url=sys.argv[1]);"
        "q = JobQueue(make_engine(s.database_url), s);"
        "sys.stdin.readline();"
        "print([q.submit('1.2.3')[1] for _ in range(20)].count(True))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, settings.database_url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert sum(map(int, outputs)) == 1
    assert queue.counts()["queued"] == 1


def test_the_index_guards_where_the_code_does_not(
    engine: Engine, queue: JobQueue
) -> None:
    queue.submit("1.2.3")
    request = job_rows.JobRequest("1.2.3")
    with (
        pytest.raises(MetiaError, match="conflict") as caught,
        transaction(engine) as session,
    ):
        job_rows.insert_job(session, request, max_attempts=3, now=datetime.now(UTC))
    assert "1.2.3" not in caught.value.detail


def test_full_queue_refuses_new_but_finds_known(
    engine: Engine, settings: Settings
) -> None:
    small = JobQueue(engine, settings.model_copy(update={"job_queue_limit": 3}))
    known = [small.submit(f"1.2.{n}")[0] for n in range(3)]
    with pytest.raises(MetiaError, match="too-many-requests") as caught:
        small.submit("1.2.9")
    assert caught.value.facts == {"queue_limit": 3}
    assert small.submit("1.2.1") == (known[1], False)
    assert small.claim("worker")
    assert small.submit("1.2.9")[1]


def test_limit_holds_against_a_crowd(engine: Engine, settings: Settings) -> None:
    small = JobQueue(engine, settings.model_copy(update={"job_queue_limit": 5}))

    def submit(number: int) -> str:
        try:
            small.submit(f"1.2.{number}")
        except MetiaError as error:
            return error.code
        return "new"

    answers = in_threads(16, submit)
    assert sorted(answers) == ["new"] * 5 + ["too-many-requests"] * 11  # type: ignore[type-var]
    assert small.counts()["queued"] == 5


# -- claiming ------------------------------------------------------------------


def test_higher_priority_first_then_older(queue: JobQueue, clock: Clock) -> None:
    for uid, priority in (("1.1", 0), ("1.2", 5), ("1.3", 5), ("1.4", -1)):
        queue.submit(uid, priority=priority)
        clock.move(1)
    assert [take(queue).study_uid for _ in range(4)] == ["1.2", "1.3", "1.1", "1.4"]
    assert queue.claim("worker") is None


def test_only_its_queues(queue: JobQueue) -> None:
    queue.submit("1.1", queue="train", priority=9)
    queue.submit("1.2", queue="cpu")
    assert queue.claim("worker", ["gpu"]) is None
    job = queue.claim("worker", ["gpu", "cpu"])
    assert job is not None
    assert job.study_uid == "1.2"


def test_claim_starts_an_attempt(
    queue: JobQueue, clock: Clock, settings: Settings
) -> None:
    queue.submit("1.1")
    clock.move(3)
    job = take(queue, "me")
    assert (job.state, job.owner, job.attempt, job.deaths) == ("running", "me", 1, 0)
    assert job.started_at == clock.now
    assert job.lease_until == clock.now + timedelta(seconds=settings.job_lease_s)
    assert queue.get(job.id) == job


def test_one_job_goes_to_one_of_many(queue: JobQueue) -> None:
    queue.submit("1.1")
    claimed = in_threads(8, lambda n: queue.claim(f"worker-{n}"))
    assert sum(job is not None for job in claimed) == 1


def test_many_workers_share_jobs_out(queue: JobQueue) -> None:
    expected = {queue.submit(f"1.2.{n}")[0].id for n in range(120)}

    def drain(number: int) -> list[str]:
        taken = []
        while (job := queue.claim(f"worker-{number}")) is not None:
            taken.append(job.id)
        return taken

    taken = [job_id for part in in_threads(6, drain) for job_id in part]  # type: ignore[attr-defined]
    assert len(taken) == 120
    assert set(taken) == expected


def test_claim_reads_only_the_front_of_a_long_queue(
    engine: Engine, queue: JobQueue, clock: Clock
) -> None:
    with transaction(engine) as session:
        for number in range(10_000):
            session.add(waiting_row(number, clock.now))
    with transaction(engine) as session:
        session.execute(text("ANALYZE"))
    plan = plan_of(engine, lambda: take(queue))
    assert "ix_job_waiting" in plan
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan


def plan_of(engine: Engine, call: Callable[[], object]) -> str:
    """Say how the database does the last UPDATE of `call`."""
    statements: list[tuple[str, object]] = []

    def remember(
        _c: object, _cursor: object, sql: str, values: object, *_: object
    ) -> None:
        if sql.startswith("UPDATE"):
            statements.append((sql, values))

    event.listen(engine, "before_cursor_execute", remember)
    call()
    event.remove(engine, "before_cursor_execute", remember)
    explain = "EXPLAIN" if is_postgresql(engine) else "EXPLAIN QUERY PLAN"
    sql, values = statements[-1]
    with transaction(engine) as session:
        driver = session.connection()
        return str(driver.exec_driver_sql(f"{explain} {sql}", values).all())  # type: ignore[arg-type]


def waiting_row(number: int, now: datetime) -> JobRow:
    return JobRow(
        id=f"{number:032x}",
        kind="segmentation",
        queue="gpu",
        priority=0,
        state="queued",
        step="waiting",
        progress=0.0,
        attempt=0,
        deaths=0,
        retries=0,
        max_attempts=3,
        not_before=now,
        cancel_requested=False,
        study_uid=f"1.2.{number}",
        parameters={},
        dedupe_key=f"{number:064x}",
        timings_s={},
        created_at=now,
    )


# -- leases and the fence ------------------------------------------------------


def test_heartbeat_tells_progress_and_keeps_the_job(
    queue: JobQueue, clock: Clock, settings: Settings
) -> None:
    queue.submit("1.1")
    job = take(queue, "me")
    for _ in range(5):
        clock.move(settings.job_lease_s * 0.9)
        assert not queue.heartbeat(
            job.id,
            job.attempt,
            "me",
            step="predict",
            progress=0.5,
            timings_s={"a": 1.5},
        )
        assert queue.claim("other") is None
    seen = queue.get(job.id)
    assert (seen.step, seen.progress, seen.timings_s) == ("predict", 0.5, {"a": 1.5})
    assert not queue.heartbeat(job.id, job.attempt, "me")
    assert queue.get(job.id).step == "predict"


def test_dead_workers_job_is_taken_again_then_given_up(
    queue: JobQueue, clock: Clock, settings: Settings
) -> None:
    queue.submit("1.1")
    for attempt in range(1, settings.job_max_attempts + 1):
        job = take(queue, f"worker-{attempt}")
        assert (job.attempt, job.deaths) == (attempt, attempt - 1)
        clock.move(settings.job_lease_s - 1)
        assert queue.claim("other") is None
        clock.move(2)
    assert queue.claim("other") is None
    job = queue.get(job.id)
    assert (job.state, job.error_code) == ("failed", "job-attempts-exhausted")
    assert job.finished_at == clock.now
    assert job.deaths == settings.job_max_attempts


def test_slow_worker_keeps_a_job_that_nobody_wanted(
    queue: JobQueue, clock: Clock, settings: Settings
) -> None:
    queue.submit("1.1")
    job = take(queue, "me")
    clock.move(settings.job_lease_s * 3)
    assert not queue.heartbeat(job.id, job.attempt, "me")
    assert queue.claim("other") is None


@pytest.mark.parametrize(
    "after", ["requeued", "retaken", "retaken by itself", "failed"]
)
def test_fenced_off_worker_changes_nothing(
    engine: Engine, queue: JobQueue, clock: Clock, settings: Settings, after: str
) -> None:
    queue.submit("1.1")
    job = take(queue, "old")
    old = fence_of(job)
    clock.move(settings.job_lease_s + 1)
    assert queue.claim("other", ["none"]) is None  # only puts it back
    if after.startswith("retaken"):
        take(queue, "old" if after.endswith("itself") else "new")
    if after == "failed":
        queue.fail(fence_of(take(queue, "new")), MetiaError("internal", "x"))
    before = queue.get(job.id)
    add_study(engine)
    error = MetiaError("archive-unavailable", "x")
    stored: list[str] = []

    def store(session: Session) -> str:
        stored.append("called")
        return record_result(session, make_record(job.id))

    for act in (
        lambda: queue.heartbeat(old.job_id, old.attempt, old.owner, progress=0.9),
        lambda: queue.complete(old, store),
        lambda: queue.fail(old, error),
        lambda: queue.fail(old, MetiaError("job-cancelled", "x")),
        lambda: queue.retry(old, error),
        lambda: queue.release(old),
    ):
        with pytest.raises(MetiaError, match="job-superseded"):
            act()
    assert queue.get(job.id) == before
    assert stored == []


def test_another_owner_does_not_hold_the_job(queue: JobQueue) -> None:
    queue.submit("1.1")
    job = take(queue, "me")
    with pytest.raises(MetiaError, match="job-superseded"):
        queue.heartbeat(job.id, job.attempt, "somebody")
    with pytest.raises(MetiaError, match="job-superseded"):
        queue.release(Fence(job.id, job.attempt, "somebody"))
    assert queue.get(job.id) == job


def test_lease_from_before_the_clock_went_back_counts_as_expired(
    queue: JobQueue, clock: Clock
) -> None:
    queue.submit("1.1")
    take(queue, "dead")
    clock.move(1)
    queue.submit("1.2")
    clock.move(-3600)
    assert take(queue, "other").attempt == 2
    assert take(queue, "other").study_uid == "1.2"


# -- trying again --------------------------------------------------------------


def test_outage_is_waited_out_without_counting_as_death(
    queue: JobQueue, clock: Clock
) -> None:
    queue.submit("1.1")
    error = MetiaError("archive-unavailable", "The archive does not answer.")
    waits = []
    for number in range(queue_module.RETRY_LIMIT):
        job = queue.retry(fence_of(take(queue)), error)
        assert (job.state, job.retries, job.deaths) == ("queued", number + 1, 0)
        assert (job.error_code, job.error_detail) == (error.code, error.detail)
        assert (job.step, job.progress) == ("waiting", 0)
        wait_s = (job.not_before - clock.now).total_seconds()
        waits.append(wait_s)
        clock.move(wait_s - 0.01)
        assert queue.claim("early") is None
        clock.move(0.02)
    for wait_s, base in zip(waits, [1, 2, 4, 8, 16, 32, *[60] * 9], strict=True):
        assert 0.75 * base <= wait_s <= 1.25 * base
    job = queue.retry(fence_of(take(queue)), error)
    assert (job.state, job.error_code) == ("failed", "archive-unavailable")


def test_second_try_starts_clean(queue: JobQueue, clock: Clock) -> None:
    queue.submit("1.1")
    queue.retry(fence_of(take(queue)), MetiaError("archive-unavailable", "x"))
    clock.move(2)
    job = take(queue)
    assert (job.error_code, job.error_detail, job.attempt) == (None, None, 2)


@pytest.mark.parametrize("code", ["archive-denied", "model-integrity", "internal"])
def test_hopeless_errors_are_not_retried(queue: JobQueue, code: str) -> None:
    queue.submit("1.1")
    assert queue.retry(fence_of(take(queue)), MetiaError(code, "x")).state == "failed"


def test_memory_is_tried_less_often(queue: JobQueue, clock: Clock) -> None:
    queue.submit("1.1")
    states = []
    for _ in range(3):
        error = MetiaError("out-of-memory", "x")
        states.append(queue.retry(fence_of(take(queue)), error).state)
        clock.move(60)
    assert states == ["queued", "queued", "failed"]


def test_delays_differ(queue: JobQueue) -> None:
    assert len({retry_delay(3) for _ in range(20)}) > 10


def test_released_job_is_free_at_once(queue: JobQueue) -> None:
    queue.submit("1.1")
    released = queue.release(fence_of(take(queue, "leaving")))
    assert (released.state, released.deaths, released.retries) == ("queued", 0, 0)
    assert take(queue, "other").attempt == 2


# -- cancelling ----------------------------------------------------------------


def test_waiting_job_is_cancelled_at_once(queue: JobQueue) -> None:
    job, _ = queue.submit("1.1")
    cancelled = queue.cancel(job.id)
    assert (cancelled.state, cancelled.error_code) == ("cancelled", "job-cancelled")
    assert queue.claim("worker") is None
    assert queue.cancel(job.id) == cancelled
    assert queue.submit("1.1")[1]


def test_running_job_is_asked_to_stop(queue: JobQueue) -> None:
    queue.submit("1.1")
    job = take(queue)
    asked = queue.cancel(job.id)
    assert (asked.state, asked.cancel_requested) == ("running", True)
    assert queue.heartbeat(job.id, job.attempt, "worker")
    ended = queue.fail(fence_of(job), MetiaError("job-cancelled", "x"))
    assert ended.state == "cancelled"


def test_pressing_again_during_cancellation_gives_a_new_job(queue: JobQueue) -> None:
    queue.submit("1.1")
    job = take(queue)
    queue.cancel(job.id)
    new, created = queue.submit("1.1")
    assert created
    assert new.id != job.id


@pytest.mark.parametrize("ending", ["release", "retry", "death", "orphan"])
def test_cancelled_job_never_returns_to_the_queue(
    queue: JobQueue, clock: Clock, settings: Settings, ending: str
) -> None:
    queue.submit("1.1")
    job = take(queue)
    if ending == "orphan":
        clock.move(settings.job_lease_s + 1)
    queue.cancel(job.id)
    if ending == "release":
        queue.release(fence_of(job))
    if ending == "retry":
        queue.retry(fence_of(job), MetiaError("archive-unavailable", "x"))
    if ending == "death":
        clock.move(settings.job_lease_s + 1)
        assert queue.claim("other") is None
    assert queue.get(job.id).state == "cancelled"
    assert queue.claim("other") is None


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_ended_job_cannot_be_cancelled(
    engine: Engine, queue: JobQueue, state: str
) -> None:
    queue.submit("1.1")
    job = take(queue)
    if state == "failed":
        queue.fail(fence_of(job), MetiaError("internal", "x"))
    else:
        add_study(engine)
        queue.complete(fence_of(job), lambda s: record_result(s, make_record(job.id)))
    with pytest.raises(MetiaError, match="conflict"):
        queue.cancel(job.id)
    assert queue.get(job.id).state == state


def test_unknown_job(queue: JobQueue) -> None:
    for call in (queue.get, queue.cancel):
        with pytest.raises(MetiaError, match="not-found"):
            call("0" * 32)


# -- ending with a result ------------------------------------------------------


def test_result_and_end_are_one(engine: Engine, queue: JobQueue) -> None:
    add_study(engine)
    queue.submit("1.2.3")
    job = take(queue)

    def store(session: Session) -> str:
        return record_result(session, make_record(job.id))

    done = queue.complete(fence_of(job), store, {"fetch": 1.0})
    assert (done.state, done.progress, done.lease_until) == ("succeeded", 1, None)
    assert done.timings_s == {"fetch": 1.0}
    with reading(engine) as session:
        (result,) = list_results(session, "1.2.3")
    assert (done.result_id, result.job_id) == (result.id, job.id)
    # The answer was lost and the worker asks again.
    assert queue.complete(fence_of(job), store) == done
    with reading(engine) as session:
        assert len(list_results(session, "1.2.3")) == 1


def test_failed_store_leaves_neither(engine: Engine, queue: JobQueue) -> None:
    add_study(engine)
    queue.submit("1.2.3")
    job = take(queue)

    def store(session: Session) -> str:
        record_result(session, make_record(job.id))
        raise MetiaError("internal", "broke after writing")

    with pytest.raises(MetiaError, match="broke after writing"):
        queue.complete(fence_of(job), store)
    assert queue.get(job.id).state == "running"
    with reading(engine) as session:
        assert list_results(session, "1.2.3") == ()


def test_late_cancellation_does_not_undo_a_result(
    engine: Engine, queue: JobQueue
) -> None:
    add_study(engine)
    queue.submit("1.2.3")
    job = take(queue)
    queue.cancel(job.id)
    done = queue.complete(
        fence_of(job), lambda s: record_result(s, make_record(job.id))
    )
    assert done.state == "succeeded"


def test_two_workers_finishing_at_once_end_the_job_once(
    engine: Engine, queue: JobQueue, clock: Clock, settings: Settings
) -> None:
    add_study(engine)
    queue.submit("1.2.3")
    fences = []
    for owner in ("one", "two", "three"):
        fences.append(fence_of(take(queue, owner)))
        clock.move(settings.job_lease_s + 1)

    def finish(number: int) -> str:
        try:
            queue.complete(
                fences[number],
                lambda s: record_result(s, make_record(fences[number].job_id)),
            )
        except MetiaError as error:
            return error.code
        return "done"

    outcome = in_threads(3, finish)
    assert outcome == ["job-superseded", "job-superseded", "done"]
    with reading(engine) as session:
        assert len(list_results(session, "1.2.3")) == 1


# -- reading -------------------------------------------------------------------


def test_pages_hold_every_job_once(queue: JobQueue, clock: Clock) -> None:
    ids = []
    for number in range(7):
        ids.append(queue.submit(f"1.2.{number}")[0].id)
        clock.move(0 if number % 2 else 1)  # some of the same moment
    seen: list[str] = []
    cursor = None
    while True:
        page = queue.list(limit=3, cursor=cursor)
        seen += [job.id for job in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(seen) == sorted(ids)
    assert seen[0] == ids[-1] or seen[1] == ids[-1]


def test_lists_can_be_narrowed(queue: JobQueue) -> None:
    queue.submit("1.1")
    queue.submit("1.2")
    running = take(queue)
    assert [job.id for job in queue.list(state="running").jobs] == [running.id]
    assert [job.study_uid for job in queue.list(study_uid="1.2").jobs] == ["1.2"]
    assert queue.list(state="failed").jobs == ()


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "MjAyNi0wMS0wMQ==", "\0", "A" * 5000, "MjAyNi0wMS0wMSBh"]
)
def test_foreign_cursor_is_refused(queue: JobQueue, cursor: str) -> None:
    with pytest.raises(MetiaError, match="invalid-input"):
        queue.list(cursor=cursor)


def test_place_in_the_queue(queue: JobQueue, clock: Clock) -> None:
    first, _ = queue.submit("1.1")
    clock.move(1)
    second, _ = queue.submit("1.2")
    urgent, _ = queue.submit("1.3", priority=1)
    queue.submit("1.4", queue="train", priority=9)
    assert [queue.position(job) for job in (first, second, urgent)] == [2, 3, 1]
    assert queue.position(take(queue)) is None


def test_counts_every_state(queue: JobQueue) -> None:
    queue.submit("1.1")
    queue.submit("1.2")
    take(queue)
    assert queue.counts() == dict.fromkeys(JOB_STATES, 0) | {"queued": 1, "running": 1}


def test_workers_are_known_while_alive(
    engine: Engine, queue: JobQueue, settings: Settings
) -> None:
    queue.note_worker("one", ("gpu",), "cpu")
    queue.note_worker("one", ("gpu",), "cuda:0")
    queue.note_worker("two", ("cpu",), "cpu")
    assert [w.owner for w in queue.workers()] == ["one", "two"]
    assert queue.workers()[0].device == "cuda:0"
    queue.remove_worker("two")
    assert [w.owner for w in queue.workers()] == ["one"]
    with transaction(engine) as session:
        session.execute(
            text("UPDATE worker SET last_seen = :then"),
            {"then": datetime.now(UTC) - timedelta(seconds=settings.job_lease_s + 60)},
        )
    assert queue.workers() == ()


def test_states_map_on_those_of_a_procedure_step() -> None:
    assert {state: ups_state(state) for state in JOB_STATES} == {
        "queued": "SCHEDULED",
        "running": "IN PROGRESS",
        "succeeded": "COMPLETED",
        "failed": "CANCELED",
        "cancelled": "CANCELED",
    }


# -- the database beneath ------------------------------------------------------


def test_read_modify_write_loses_nothing(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(
            UserRow(
                name="ann",
                display_name="0",
                role="viewer",
                active=True,
                created_at=datetime.now(UTC),
            )
        )

    def add_fifty(_: int) -> None:
        for _ in range(50):
            with transaction(engine) as session:
                row = session.scalar(select(UserRow).with_for_update())
                assert row is not None
                row.display_name = str(int(row.display_name) + 1)

    in_threads(6, add_fifty)
    with reading(engine) as session:
        assert session.scalar(select(UserRow.display_name)) == "300"


def test_reader_sees_one_moment_and_never_waits(
    engine: Engine, queue: JobQueue
) -> None:
    job, _ = queue.submit("1.1")
    with transaction(engine) as writer:
        writer.execute(update(JobRow).values(priority=7))
        with reading(engine) as reader:
            assert job_rows.get_job(reader, job.id).priority == 0
    with reading(engine) as reader:
        assert job_rows.get_job(reader, job.id).priority == 7
        with transaction(engine) as writer:
            writer.execute(update(JobRow).values(priority=8))
        assert job_rows.get_job(reader, job.id).priority == 7


def test_reader_cannot_write(engine: Engine, queue: JobQueue) -> None:
    queue.submit("1.1")
    with (
        pytest.raises(MetiaError, match="database-unusable"),
        reading(engine) as session,
    ):
        session.execute(update(JobRow).values(priority=7))
    queue.submit("1.2")  # and the connection can write again
