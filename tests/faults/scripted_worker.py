"""A real worker process whose run follows a script: the pipeline's steps, and a trap.

``python scripted_worker.py URL FOLDER TRAP [VALUE]``: at step TRAP of its first job the
run writes ``FOLDER/trapped`` and then waits to be killed, unless that file was there
before. Each "SEG" it stores is a file named by its UID in ``FOLDER/archive``, as an
archive would keep one object a UID. TRAP ``none`` runs through. The present folder is
the worker's own, as a host's disk would be; ``METIA_*`` choose broker and queues.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from db.engine import Engine, Session
from db.results import ResultRecord, record_result
from db.studies import Patient, Series, Study, upsert_study
from errors import MetiaError
from segmentation.job_context import JobContext
from segmentation.jobs import Job
from segmentation.pipeline import STEPS
from segmentation.worker import RunJob, run_worker
from settings import Settings
from tests.contract.sample_rows import STUDY_UID, make_record, make_visit_record


class ScriptedRun:
    def __init__(self, folder: Path, trap: str, pause_s: float) -> None:
        self._folder = folder
        self._trap = trap
        self._pause_s = pause_s

    def __call__(self, job: Job, context: JobContext) -> None:
        with (self._folder / "runs").open("a") as runs:
            runs.write(f"{job.study_uid} {job.attempt}\n")
        for number, step in enumerate(STEPS):
            if context.cancelled():
                raise MetiaError("job-cancelled", "Told to stop.")
            context.report(step, number / len(STEPS))
            self._spring(f"before {step}")
            self._work(step, context)
            if step == "store":
                context.ensure_owner()
                uid = _record_of(job).segmentation_sop_uid or "none"
                (self._folder / "archive" / uid).touch()
            if step == "record":
                context.record(lambda session: self._record(session, job))
            self._spring(f"after {step}")

    def _work(self, step: str, context: JobContext) -> None:
        until = time.monotonic() + self._pause_s
        while step == "predict" and time.monotonic() < until:
            if context.cancelled():
                raise MetiaError("job-cancelled", "Told to stop.")
            time.sleep(0.02)
        if step == "fetch" and self._trap == "unavailable" and self._first_time():
            raise MetiaError("archive-unavailable", "The archive does not answer.")
        if step == "fetch" and self._trap == "giving way" and self._first_time():
            raise MetiaError("job-gave-way", "A person's job goes first.")
        if step == "fetch" and self._trap == "deaf" and self._first_time():
            time.sleep(3600)
        if step == "store" and self._trap == "storing" and self._first_time():
            time.sleep(1.5)

    def _record(self, session: Session, job: Job) -> str:
        record = _record_of(job)
        upsert_study(
            session, Patient("phantom"), Study(job.study_uid), Series(record.series_uid)
        )
        result_id = record_result(session, record)
        self._spring("inside record")
        return result_id

    def _spring(self, place: str) -> None:
        if place == self._trap and self._first_time():
            time.sleep(3600)

    def _first_time(self) -> bool:
        try:
            (self._folder / "trapped").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _record_of(job: Job) -> ResultRecord:
    if job.study_uid == STUDY_UID:
        return make_record(job.id)
    return make_visit_record(job.study_uid, job_id=job.id)


def main() -> int:
    url, folder, trap = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    pause_s = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    settings = Settings(
        data_dir=Path.cwd(),
        database_url=url,
        job_lease_s=1.5,
        job_heartbeat_s=0.4,
        worker_poll_s=0.1,
    )

    def make(_settings: Settings, _engine: Engine) -> tuple[RunJob, str]:
        return ScriptedRun(folder, trap, pause_s), "cpu"

    return run_worker(settings, make)


if __name__ == "__main__":
    sys.exit(main())
