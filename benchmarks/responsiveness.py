"""How fast the system answers while a network computes: health, API, DICOMweb, images.

Starts the whole system, opens the sample study like a viewer does, and measures each
kind of request through nginx, first with an idle worker, then while jobs keep the
worker busy.

    python -m benchmarks.responsiveness [--times SECONDS] [--json FILE]
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import httpx

from benchmarks.machine import tell
from benchmarks.running import running_system
from segmentation.phantoms import draw_sample_visit

TARGET_P99_MS = 100.0
_PAUSE_S = 0.02


def measure(seconds: int) -> dict[str, object]:
    """Measure for `seconds` idle and for `seconds` busy."""
    visit = draw_sample_visit(1)
    with running_system(METIA_DEFAULT_MODEL="unetr-seeded") as system:
        system.store(visit.images)
        with contextlib.closing(system.client()) as client:
            requests = _requests(client, visit.study_uid)
            idle = _sample(client, requests, seconds)
            busy, jobs = _sample_busy(client, requests, visit.study_uid, seconds)
    return {
        "idle": idle,
        "while a network computes": busy,
        "jobs finished meanwhile": jobs,
        "target_p99_ms": TARGET_P99_MS,
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
    client: httpx.Client, requests: dict[str, str], study_uid: str, seconds: float
) -> tuple[dict[str, dict[str, float]], int]:
    started: set[str] = set()

    def keep_busy() -> None:
        # The same work while it is active is the same job; a new one once it ended.
        answer = client.post("/api/v1/jobs", json={"study_uid": study_uid})
        answer.raise_for_status()
        started.add(answer.json()["id"])

    figures = _sample(client, requests, seconds, keep_busy)
    return figures, len(started) - 1


def _percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(ordered[len(ordered) // 2], 1),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
        "max": round(ordered[-1], 1),
        "requests": len(ordered),
    }


if __name__ == "__main__":
    tell("milliseconds an answer through nginx, one client", measure, times=40)
