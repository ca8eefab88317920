"""How fast the system answers while a network computes: health, API, DICOMweb, images.

Starts the whole system, opens a study like a viewer does, and measures each kind of
request through nginx: first while nothing runs, then while two workers, each with all
cores, have more jobs than they can do. The bundled network, or ``--model FOLDER``.

    python -m benchmarks.responsiveness [--times SECONDS] [--model FOLDER] [--json FILE]
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from benchmarks.heads import as_study, head, other_study
from benchmarks.machine import tell
from benchmarks.models import chosen_by, network_folder
from benchmarks.running import running_system

TARGET_P99_MS = 100.0
WORKERS = 2
_PAUSE_S = 0.02


def measure(seconds: int, model: str = "") -> dict[str, object]:
    """Measure for `seconds` idle and for `seconds` busy."""
    original = as_study(head())
    studies = [other_study(original, number) for number in range(WORKERS + 1)]
    with tempfile.TemporaryDirectory() as folder:
        network = network_folder(model, Path(folder))
        with running_system(**chosen_by(network)) as system:
            for images in studies:
                system.store(images)
            uids = [images[0].StudyInstanceUID for images in studies]
            with contextlib.closing(system.client()) as client:
                requests = _requests(client, uids[0])
                idle = _sample(client, requests, seconds)
                with system.workers(WORKERS):
                    busy, jobs = _sample_busy(client, requests, uids, seconds)
    return {
        "network": network.name,
        "workers": WORKERS,
        "idle, ms": idle,
        "while networks compute, ms": busy,
        "jobs queued meanwhile": jobs,
        "target p99 ms": TARGET_P99_MS,
    }


def _requests(client: httpx.Client, study_uid: str) -> dict[str, str]:
    studies = f"/dicom-web/studies/{study_uid}"
    ranked = client.get(f"/api/v1/studies/{study_uid}/series").json()
    series = f"{studies}/series/{ranked['chosen']}"
    instance = client.get(f"{series}/instances").json()[80]["00080018"]["Value"][0]
    return {
        "health": "/healthz",
        "list of jobs": f"/api/v1/jobs?study_uid={study_uid}",
        "results of the study": f"/api/v1/studies/{study_uid}/results",
        "study list (QIDO)": "/dicom-web/studies?limit=25",
        "one image (WADO)": f"{series}/instances/{instance}/frames/1",
    }


def _sample(
    client: httpx.Client,
    requests: dict[str, str],
    seconds: float,
    between: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, float]]:
    taken: dict[str, list[float]] = {name: [] for name in requests}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        between()
        for name, path in requests.items():
            began = time.perf_counter()
            client.get(path).raise_for_status()
            taken[name].append((time.perf_counter() - began) * 1000)
            time.sleep(_PAUSE_S)
    return {name: _percentiles(values) for name, values in taken.items()}


def _sample_busy(
    client: httpx.Client,
    requests: dict[str, str],
    study_uids: Sequence[str],
    seconds: float,
) -> tuple[dict[str, dict[str, float]], int]:
    started: set[str] = set()

    def keep_busy() -> None:
        # The same work while it is active is the same job; a new one once it ended.
        for study_uid in study_uids:
            answer = client.post("/api/v1/jobs", json={"study_uid": study_uid})
            started.add(answer.raise_for_status().json()["id"])

    keep_busy()
    return _sample(client, requests, seconds, keep_busy), len(started)


def _percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(ordered[len(ordered) // 2], 1),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
        "max": round(ordered[-1], 1),
        "requests": len(ordered),
    }


if __name__ == "__main__":
    tell(
        "milliseconds an answer through nginx, one client",
        measure,
        times=40,
        options={"model": "folder of the model to run (default: the bundled one)"},
    )
