"""One press of the button on the whole system, from the request to the stored SEG.

Real archive, API, proxy, database and worker; a synthetic head of 256 x 256 x 176 at
1 mm with lesions; the network that MetIA comes with, or ``--model FOLDER``. Once as
this machine is, once held back to AVX2 (what an ordinary PC has). Tells how soon the
worker is ready, what a warm press takes and of what, and the worker's peak memory.

    python -m benchmarks.end_to_end [--times PRESSES] [--model FOLDER] [--json FILE]
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from pathlib import Path
from typing import Any

import httpx

from benchmarks.heads import HEAD_SHAPE, as_study, head
from benchmarks.machine import spread, tell
from benchmarks.models import chosen_by, network_folder
from benchmarks.running import Press, RunningSystem, memory_mib, running_system
from segmentation.pipeline import STEPS

LESIONS = 12
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
"""How oneDNN (in torch and OpenVINO) and torch's own loops are held back."""
TARGETS = {
    "press on AMX s": 8.0,
    "press on AVX2 s": 25.0,
    "worker ready s": 3.0,
    "worker peak memory MiB": 3072,
    "beyond the network s": 0.925,
}
"""Beyond the network: a quarter of the 3.7 s that MONAI Label adds."""


def measure(presses: int, model: str = "") -> dict[str, object]:
    """Press `presses` times on a warm worker, and a third as often held to AVX2."""
    slices, rows, columns = HEAD_SHAPE
    with tempfile.TemporaryDirectory() as folder:
        network = network_folder(model, Path(folder))
        images = as_study(head(LESIONS))
        with running_system(**chosen_by(network)) as system:
            system.store(images)
            study = images[0].StudyInstanceUID
            with contextlib.closing(system.client()) as client:
                # The first start reads everything from the disk, the second does not.
                first_s = _start_once(system)
                slow = max(1, presses // 3)  # several times as long
                ways = {"as it is": ({}, presses), "AVX2": (AVX2, slow)}
                measured = {
                    name: _press_often(system, client, study, count, cap)
                    for name, (cap, count) in ways.items()
                }
    return {
        "image": f"{columns} x {rows} x {slices}, 1 mm, {LESIONS} lesions",
        "network": network.name,
        "first start of a worker s": round(first_s, 2),
        "runs": {name: figures["whole"] for name, figures in measured.items()},
        "median seconds a step": {
            name: figures["steps"] for name, figures in measured.items()
        },
        "how": {name: figures["how"] for name, figures in measured.items()},
        "targets": TARGETS,
    }


def _start_once(system: RunningSystem) -> float:
    with system.worker() as worker:
        return worker.ready_s


def _press_often(
    system: RunningSystem,
    client: httpx.Client,
    study_uid: str,
    presses: int,
    cap: dict[str, str],
) -> dict[str, dict[str, Any]]:
    with system.worker(**cap) as worker:
        done: list[Press] = []
        for _ in range(presses + 1):
            system.settle(study_uid)
            done.append(system.press(client, study_uid))
        peak_mib = memory_mib(worker.pid, "VmHWM")
    first, warm = done[0], done[1:]
    result = client.get(f"/api/v1/results/{done[-1].job['result_id']}").json()
    steps = {
        step: round(statistics.median(one.job["timings_s"][step] for one in warm), 3)
        for step in STEPS
        if step in warm[0].job["timings_s"]
    }
    beyond = [one.seconds - one.job["timings_s"]["predict"] for one in warm]
    whole = {
        "worker ready s": round(worker.ready_s, 2),
        "first press s": round(first.seconds, 2),
        **{f"press {k}": v for k, v in spread([p.seconds for p in warm], 2).items()},
        "beyond the network s": round(statistics.median(beyond), 2),
        "worker peak MiB": peak_mib,
        "lesions found": len(result["lesions"]),
    }
    execution = result["parameters"].get("execution", {})
    how = {name: value for name, value in execution.items() if _is_plain(value)}
    return {"whole": whole, "steps": steps, "how": how | cap}


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, int, float)) or value is None


if __name__ == "__main__":
    tell(
        "seconds of one press of the button, whole system",
        measure,
        times=5,
        options={"model": "folder of the model to measure (default: the bundled one)"},
    )
