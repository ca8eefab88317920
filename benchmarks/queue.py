"""Times the calls of the job queue with ten jobs waiting and with ten thousand.

Both databases (PostgreSQL where it is installed, a server of its own). At each depth
the same calls are timed: a claim, a claim of the one job of another queue, a claim of a
named job as a broker asks for it, a look for lost messages, a new job. The last row has
as many jobs that are done beside those that wait. What counts is the ratio of the
medians, deepest to shallowest, of one run.

    python -m benchmarks.queue [--times RUNS] [--json FILE]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, text

from benchmarks.databases import on_each_database
from benchmarks.machine import spread, tell
from db.engine import Engine, make_engine, transaction
from db.jobs import Job
from db.models import JobRow
from db.schema import upgrade
from segmentation.jobs import Fence, JobQueue
from settings import Settings

DEPTHS = (10, 100, 1_000, 10_000)
OTHER_QUEUE = "train"
_TOO_OLD = datetime(2026, 1, 1, tzinfo=UTC)


def measure(runs: int = 50) -> dict[str, object]:
    """Time `runs` of each call at each depth, on each database."""
    return on_each_database(lambda url, _: _on(url, runs))


def _on(url: str, runs: int) -> dict[str, object]:
    engine = make_engine(url)
    upgrade(engine)
    queue = JobQueue(
        engine, Settings(database_url=url, job_queue_limit=10 * max(DEPTHS))
    )
    queue.submit("1.2", queue=OTHER_QUEUE)
    medians: dict[str, dict[str, float]] = {}
    waiting = 0
    for depth in DEPTHS:
        _fill(engine, waiting, depth, "queued")
        waiting = depth
        medians[f"{depth} waiting"] = _times(queue, runs)
    _fill(engine, waiting, 2 * waiting, "failed")
    medians[f"{waiting} waiting, {waiting} done"] = _times(queue, runs)
    engine.dispose()
    first, *_, last = medians.values()
    ratios = {call: round(last[call] / first[call], 2) for call in first}
    return {"median_ms": medians, "ratio_deepest_to_shallowest": ratios}


def _times(queue: JobQueue, runs: int) -> dict[str, float]:
    """Time each call; what it takes is given back, untimed."""
    named = queue.list(state="queued", limit=1).jobs[0].id
    claims: dict[str, Callable[[], Job | None]] = {
        "claim": lambda: queue.claim("benchmark"),
        "claim of another queue": lambda: queue.claim("benchmark", [OTHER_QUEUE]),
        "claim of a named job": lambda: queue.claim_one("benchmark", named),
    }
    seconds: dict[str, list[float]] = {}
    for number in range(runs):
        for name, claim in claims.items():
            began = time.perf_counter()
            job = claim()
            seconds.setdefault(name, []).append(time.perf_counter() - began)
            assert job is not None
            queue.release(Fence(job.id, job.attempt, "benchmark"))
        began = time.perf_counter()
        queue.take_unpublished("gpu", arrives_s=60, broker_empty=False, limit=20)
        seconds.setdefault("look for messages", []).append(time.perf_counter() - began)
        began = time.perf_counter()
        job, _ = queue.submit(f"1.3.{number}", priority=-1)
        seconds.setdefault("new job", []).append(time.perf_counter() - began)
        queue.cancel(job.id)
    return {
        name: round(1000 * spread(values, 6)["median"], 3)
        for name, values in seconds.items()
    }


def _fill(engine: Engine, from_: int, to: int, state: str) -> None:
    rows = [_row(number, state) for number in range(from_, to)]
    with transaction(engine) as session:
        session.execute(insert(JobRow), rows)
    with transaction(engine) as session:
        session.execute(text("ANALYZE"))


def _row(number: int, state: str) -> dict[str, object]:
    moment = _TOO_OLD + timedelta(seconds=number)
    ended = state == "failed"
    return {
        "id": f"{number:032x}",
        "kind": "segmentation",
        "queue": "gpu",
        "priority": 0,
        "state": state,
        "step": "waiting",
        "progress": 0.0,
        "attempt": 0,
        "deaths": 0,
        "retries": 0,
        "max_attempts": 3,
        "not_before": moment,
        "cancel_requested": False,
        "study_uid": f"1.2.{number}",
        "parameters": {},
        "dedupe_key": f"{number:064x}",
        "timings_s": {},
        "error_code": "internal" if ended else None,
        "created_at": moment,
        "finished_at": moment if ended else None,
    }


if __name__ == "__main__":
    tell(
        "milliseconds a call of the queue takes by the number of waiting jobs",
        measure,
        times=50,
    )
