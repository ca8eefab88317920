"""What a press of the button costs beyond the network: each step, warm, 160x256x256.

Runs the real pipeline against a real Orthanc with the real database. The network is
taken out by a predictor that answers at once with the known lesions of a synthetic
head, so that every other step has its true work: seven lesions to measure, write,
store, read back, compare and record.

    python -m benchmarks.overhead [--times RUNS] [--json FILE]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import highdicom as hd

from benchmarks.machine import spread, tell
from db.engine import Engine, make_engine, transaction
from db.jobs import Job
from db.schema import upgrade
from orthanc.archive import Archive
from segmentation.jobs import JobQueue
from segmentation.models.predictor import ModelIdentity, Prediction
from segmentation.phantoms import draw_sample_visit
from segmentation.pipeline import Outcome, Request, run_segmentation
from segmentation.runner import keep_memory, record_outcome
from settings import Settings
from tests.orthanc_server import running_orthanc

TARGET_S = 1.0


class KnownAnswer:
    """A predictor without a network: it has seen the truth."""

    threshold = 0.5
    minimum_volume_mm3 = 10.0
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
    """Measure `runs` runs after one that is not counted."""
    keep_memory()  # as the worker does
    visit = draw_sample_visit(1)
    head = visit.post_contrast
    truth = head.volume.with_array(head.occupancy)
    steps: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_orthanc(Path(folder) / "orthanc") as server,
    ):
        server.upload(visit.images)
        settings = Settings(data_dir=Path(folder))
        engine = make_engine(settings.database_url)
        upgrade(engine)
        queue = JobQueue(engine, settings)
        with closing(server.archive()) as archive:
            for run in range(runs + 1):
                # The SEG of the run before counts as an arrival, too.
                archive.wait_until_stable(visit.study_uid, 30, lambda: False)
                job, _ = queue.submit(visit.study_uid, parameters={"run": run})
                timings = _run_once(job, truth, archive, engine, run)
                for step, seconds in timings.items() if run else ():
                    steps.setdefault(step, []).append(seconds)
    totals = [sum(values) for values in zip(*steps.values(), strict=True)]
    return {
        "steps": {step: spread(values) for step, values in steps.items()},
        "total": spread(totals),
        "target_s": TARGET_S,
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
        "seconds a step beyond the network, 160x256x256, seven lesions, warm",
        measure,
        times=7,
    )
