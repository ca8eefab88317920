"""What stays behind after many jobs: memory, open files, size of the database.

The whole system with one worker, small synthetic heads of a few patients, 500 jobs
with the demonstration model. It marks lesions: each job builds its object, finds it
stored before, reads it back and compares it. ``--model unetr-seeded`` takes a network.
Memory and open files of worker and API and the size of the database are sampled; the
slope over the second half (Theil-Sen, so that one step of the allocator does not
decide) tells whether something grows with every job. Results stay in the database,
which grows by their rows.

    python -m benchmarks.soak [--times JOBS] [--model NAME] [--json FILE]
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import httpx
from scipy.stats import theilslopes

from benchmarks.heads import as_study, head, other_study
from benchmarks.machine import tell
from benchmarks.running import RunningSystem, memory_mib, running_system
from benchmarks.throughput import press_all
from segmentation.models.registry import FALLBACK_NAME

STUDIES = 5
_SHAPE, _SLICE_MM = (44, 64, 64), 4.0
_AT_ONCE = 10
_TARGET_KIB = 20.0
"""Growth of memory for each job: 10 MiB over 500 jobs."""
Sample = dict[str, float]


def measure(jobs: int, model: str = "") -> dict[str, object]:
    """Run `jobs` jobs."""
    with running_system(METIA_DEFAULT_MODEL=model or FALLBACK_NAME) as system:
        original = as_study(head(3, _SHAPE, _SLICE_MM))
        studies = []
        for number in range(STUDIES):
            images = other_study(original, number)
            system.store(images)
            studies.append(images[0].StudyInstanceUID)
        with (
            contextlib.closing(system.client()) as client,
            system.worker() as worker,
        ):
            samples = _run(system, client, worker.pid, studies, jobs)
    return {
        "jobs": jobs,
        "model": model or FALLBACK_NAME,
        "targets": {"growth of memory a job KiB": _TARGET_KIB},
        "samples": _thinned(samples),
        "growth a job over the second half": _slopes(samples),
    }


def _run(
    system: RunningSystem,
    client: httpx.Client,
    worker: int,
    studies: Sequence[str],
    jobs: int,
) -> list[Sample]:
    web = _web_processes()
    samples = []
    for done in range(0, jobs, _AT_ONCE):
        # The same study is one job while it is active, so each round asks once a study.
        for _ in range(_AT_ONCE // len(studies)):
            press_all(client, studies)
        samples.append(
            {
                "jobs": float(done + _AT_ONCE),
                "worker MiB": memory_mib(worker),
                "API MiB": round(sum(map(memory_mib, web)), 1),
                "worker files": float(_open_files(worker)),
                "API files": float(sum(map(_open_files, web))),
                "database KiB": _database_kib(system),
            }
        )
    return samples


def _web_processes() -> list[int]:
    """Give the processes that answer requests: children of gunicorn, which is ours."""
    ours = _children(os.getpid())
    (parent,) = (
        pid for pid in ours if b"gunicorn" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    return _children(parent)


def _children(pid: int) -> list[int]:
    """Give the children of a process, whichever of its threads started them."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text("ascii").split()]


def _open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _database_kib(system: RunningSystem) -> float:
    files = system.settings.data_dir.glob("metia.sqlite*")
    return round(sum(file.stat().st_size for file in files) / 1024, 1)


def _thinned(samples: Sequence[Sample]) -> list[Sample]:
    step = max(1, len(samples) // 10)
    return [*samples[::step], samples[-1]]


def _slopes(samples: Sequence[Sample]) -> Sample:
    later = samples[len(samples) // 2 :]
    jobs = [sample["jobs"] for sample in later]

    def slope(name: str, factor: float = 1.0) -> float:
        values = [sample[name] * factor for sample in later]
        return round(float(theilslopes(values, jobs)[0]), 3)

    return {
        "worker KiB": slope("worker MiB", 1024),
        "API KiB": slope("API MiB", 1024),
        "worker files": slope("worker files"),
        "API files": slope("API files"),
        "database KiB": slope("database KiB"),
    }


if __name__ == "__main__":
    tell(
        "memory, open files and database over many jobs",
        measure,
        times=500,
        options={"model": f"name of an installed model (default: {FALLBACK_NAME})"},
    )
