"""How fast the system answers while a network computes: health, API, DICOMweb, images.

Starts the whole system, opens the sample study like a viewer does, and measures each
kind of request through nginx, first with an idle worker, then while jobs keep the
worker busy.

    python -m benchmarks.responsiveness [--seconds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from benchmarks.machine import describe_machine
from benchmarks.running import running_system
from segmentation.phantoms import draw_sample_visit

TARGET_P99_MS = 100.0
_PAUSE_S = 0.02


def measure(seconds: float) -> dict[str, object]:
    """Measure for `seconds` idle and for `seconds` busy."""
    visit = draw_sample_visit(1)
    with running_system(METIA_DEFAULT_MODEL="unetr-seeded") as system:
        system.store(visit.images)
        with system.client() as client:
            requests = _requests(client, visit.study_uid)
            idle = _sample(client, requests, seconds)
            busy, jobs = _sample_busy(client, requests, visit.study_uid, seconds)
    return {
        "what": "milliseconds an answer through nginx, one client",
        "machine": describe_machine(),
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


def main() -> None:
    """Print the figures, and keep them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = measure(options.seconds)
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
