"""How many studies an hour 1, 2 and 4 workers work off, on the whole system.

Real archive, API, proxy and database; synthetic heads of other patients, all queued at
once; the bundled network, or ``--model FOLDER``. Workers share the cores: each gets its
part of them as threads, at least one, so that they do not fight over them. On a machine
without a GPU the cores are the limit, and more workers than cores can only overlap
what does not compute. Models are loaded before the clock runs; the first job of each
worker, a little slower than the next, is within it.

    python -m benchmarks.throughput [--times STUDIES] [--model FOLDER] [--json FILE]
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.heads import as_study, head, other_study
from benchmarks.machine import tell
from benchmarks.models import chosen_by, network_folder
from benchmarks.running import ENDED, RunningSystem, memory_mib, running_system

WORKERS = (1, 2, 4)
_POLL_S = 0.1


def measure(studies: int, model: str = "") -> dict[str, object]:
    """Work off `studies` studies with each number of workers."""
    told: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        network = network_folder(model, Path(folder))
        with running_system(**chosen_by(network)) as system:
            original = as_study(head())
            uids = []
            for number in range(studies):
                images = other_study(original, number)
                system.store(images)
                uids.append(images[0].StudyInstanceUID)
            with contextlib.closing(system.client()) as client:
                for count in WORKERS:
                    told[str(count)] = _work_off(system, client, uids, count)
    alone = told[str(WORKERS[0])]["studies an hour"]
    for row in told.values():
        row["of one worker"] = round(row["studies an hour"] / alone, 2)
    return {
        "network": network.name,
        "studies": studies,
        "cores": _cores(),
        "workers": told,
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _work_off(
    system: RunningSystem, client: httpx.Client, studies: Sequence[str], workers: int
) -> dict[str, float]:
    threads = max(1, _cores() // workers)
    with system.workers(workers, METIA_THREADS=str(threads)) as running:
        for study in studies:
            system.settle(study)
        began = time.perf_counter()
        seconds_s = press_all(client, studies)
        elapsed_s = time.perf_counter() - began
        memory = sum(memory_mib(worker.pid, "VmHWM") for worker in running)
    return {
        "threads each": threads,
        "studies an hour": round(3600 * len(studies) / elapsed_s, 1),
        "seconds a job": round(sum(seconds_s) / len(seconds_s), 2),
        "peak MiB of all": round(memory),
    }


def press_all(client: httpx.Client, studies: Sequence[str]) -> list[float]:
    """Queue all at once and wait for all; gives the seconds each was worked on.

    Raises
    ------
    RuntimeError
        Where one did not succeed.
    """
    waiting = []
    for study in studies:
        answer = client.post("/api/v1/jobs", json={"study_uid": study})
        waiting.append(answer.raise_for_status().json()["id"])
    seconds: list[float] = []
    while waiting:
        job = client.get(f"/api/v1/jobs/{waiting[0]}").raise_for_status().json()
        if job["state"] not in ENDED:
            time.sleep(_POLL_S)
            continue
        if job["state"] != "succeeded":
            raise RuntimeError(f"The job {job['state']}: {job['error']}")
        seconds.append(sum(job["timings_s"].values()))
        waiting.pop(0)
    return seconds


if __name__ == "__main__":
    tell(
        "studies an hour by the number of workers, whole system",
        measure,
        times=6,
        options={"model": "folder of the model to measure (default: the bundled one)"},
    )
