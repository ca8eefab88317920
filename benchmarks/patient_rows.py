"""Reading one patient of 20 visits x 10 lesions from among 1,000 such, and finding one.

Both databases, filled in bulk; PostgreSQL where it is installed (a server of its own).
Each run reads another patient, so that nothing of it is in a cache of ours. Processor
time of this process is told beside, for machines that do other things meanwhile.

    python -m benchmarks.patient_rows [--times RUNS] [--json FILE]
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.databases import on_each_database
from benchmarks.machine import spread, tell
from db.engine import Engine, make_engine, reading
from db.patients import find_patients
from db.schema import upgrade
from segmentation.followup.course_rows import load_course
from tests.many_patients import fill

PATIENTS, VISITS, LESIONS = 1000, 20, 10
TARGET_S = 0.1


def measure(runs: int) -> dict[str, object]:
    """Measure `runs` patients on each database."""
    return {"target_s": TARGET_S} | on_each_database(lambda url, _: _on(url, runs))


def _on(url: str, runs: int) -> dict[str, object]:
    engine = make_engine(url)
    upgrade(engine)
    fill(engine, PATIENTS, VISITS, LESIONS)
    try:
        return {
            "one patient": _repeat(runs, lambda run: _load(engine, run * 7)),
            "first page of 50": _repeat(runs, lambda run: _find(engine, "", 50)),
            "search by id": _repeat(runs, lambda run: _find(engine, f"p{run:06}", 1)),
        }
    finally:
        engine.dispose()


def _repeat(runs: int, ask: Callable[[int], None]) -> dict[str, object]:
    seconds, of_cpu = [], []
    for run in range(runs + 1):
        began, cpu_began = time.perf_counter(), time.process_time()
        ask(run)
        seconds.append(time.perf_counter() - began)
        of_cpu.append(time.process_time() - cpu_began)
    return {"elapsed": spread(seconds[1:]), "our processor": spread(of_cpu[1:])}


def _load(engine: Engine, number: int) -> None:
    with reading(engine) as session:
        rows = load_course(session, f"{number % PATIENTS:032}")
    found = sum(len(visit.result.lesions) for visit in rows.visits if visit.result)
    assert (len(rows.visits), found) == (VISITS, VISITS * LESIONS)
    assert len(rows.tracks.members) == VISITS * LESIONS


def _find(engine: Engine, search: str, expected: int) -> None:
    with reading(engine) as session:
        page, _ = find_patients(session, search=search)
    assert len(page) == expected


if __name__ == "__main__":
    tell(
        f"seconds to read one of {PATIENTS} patients of {VISITS} visits x {LESIONS} "
        "lesions, and to find one",
        measure,
        times=20,
    )
