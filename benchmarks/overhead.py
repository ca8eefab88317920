"""What a press of the button costs beyond the network: each step, warm, 176x256x256.

Runs the real pipeline against a real Orthanc with the real database. The network is
taken out by a predictor that answers at once with the known lesions of a synthetic
head, so that every other step has its true work: 7 or 40 lesions to measure, write,
store, read back, compare and record. What the network's own side adds (scaling the
image, bringing the answer back) is in ``benchmarks.engines``.

    python -m benchmarks.overhead [--times RUNS] [--json FILE]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import highdicom as hd

from benchmarks.heads import as_study, head
from benchmarks.machine import spread, tell
from db.engine import Engine, make_engine, transaction
from db.jobs import Job
from db.schema import upgrade
from orthanc.archive import Archive
from segmentation.jobs import JobQueue
from segmentation.models.predictor import ModelIdentity, Prediction
from segmentation.pipeline import Outcome, Request, run_segmentation
from segmentation.runner import (
    collecting_afterwards,
    record_outcome,
)
from settings import Settings
from tests.orthanc_server import running_orthanc
from unetr.hardware import keep_memory

LESIONS = (7, 40)
TARGETS_S = {
    "fetch": 0.3,
    "volume": 0.15,
    "lesions": 0.3,
    "segmentation + store": 0.5,
    "total": 0.925,
}
"""The total: a quarter of the 3.7 s that MONAI Label adds."""


class KnownAnswer:
    """A predictor without a network: it has seen the truth."""

    threshold = 0.5
    minimum_volume_mm3 = 10.0
    minimum_peak = 0.0
    device = "none"

    def __init__(self, occupancy: hd.Volume, run: int) -> None:
        self._occupancy = occupancy
        # Another hash each run: another SEG is made, stored and recorded each time.
        self.identity = ModelIdentity("known-answer", "1", f"{run:064x}", True)

    def predict(
        self,
        image: hd.Volume,
        *,
        progress: Callable[[float], None],
        cancelled: Callable[[], bool],
    ) -> Prediction:
        """Answer with the truth."""
        return Prediction(self._occupancy.match_geometry(image, tol=1e-3), self.device)


class Reporter:
    """Takes note of nothing and never cancels."""

    def report(self, step: str, progress: float) -> None:
        """Do nothing."""

    def cancelled(self) -> bool:
        """Go on."""
        return False

    def ensure_owner(self) -> None:
        """Hold everything."""


def measure(runs: int) -> dict[str, object]:
    """Measure `runs` runs with few and with many lesions, after one not counted."""
    keep_memory()  # as the worker does
    told: dict[str, object] = {"targets s": TARGETS_S}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_orthanc(Path(folder) / "orthanc") as server,
    ):
        settings = Settings(data_dir=Path(folder))
        engine = make_engine(settings.database_url)
        upgrade(engine)
        queue = JobQueue(engine, settings)
        with closing(server.archive()) as archive:
            for number, lesions in enumerate(LESIONS):
                drawn = head(lesions)
                images = as_study(drawn, number)
                server.upload(images)
                truth = drawn.volume.with_array(drawn.occupancy)
                study = images[0].StudyInstanceUID
                steps: dict[str, list[float]] = {}
                for run in range(runs + 1):
                    # The SEG of the run before counts as an arrival, too.
                    archive.wait_until_stable(study, 30, lambda: False)
                    job, _ = queue.submit(study, parameters={"run": run})
                    timings = _run_once(job, truth, archive, engine, run)
                    for step, seconds in timings.items() if run else ():
                        steps.setdefault(step, []).append(seconds)
                told[f"{lesions} lesions"] = _summary(steps)
    return told


def _summary(steps: dict[str, list[float]]) -> dict[str, object]:
    totals = [sum(values) for values in zip(*steps.values(), strict=True)]
    pairs = zip(steps["segmentation"], steps["store"], strict=True)
    return {
        **{step: spread(values) for step, values in steps.items()},
        "segmentation + store": spread([sum(pair) for pair in pairs]),
        "total": spread(totals),
    }


def _run_once(
    job: Job, truth: hd.Volume, archive: Archive, engine: Engine, run: int
) -> dict[str, float]:
    seen: dict[str, float] = {}

    def record(outcome: Outcome) -> None:
        began = time.perf_counter()
        with transaction(engine) as session:
            record_outcome(session, job, outcome)
        seen.update(outcome.analysis.timings_s)
        seen["record"] = time.perf_counter() - began

    with collecting_afterwards():
        run_segmentation(
            Request(job.study_uid, None),
            Reporter(),
            archive,
            KnownAnswer(truth, run),
            record,
            stable_timeout_s=30,
        )
    del seen["predict"]
    return seen


if __name__ == "__main__":
    tell(
        "seconds a step beyond the network, 176x256x256, 7 and 40 lesions, warm",
        measure,
        times=7,
    )
