"""What pulling ahead saves: the fetch step of jobs with and without it, in one run.

A real Orthanc, a real worker process with the demonstration model, studies of 160
slices of 256 x 256. Three ways, each with studies of its own: without pulling ahead;
queued one behind the other, so that a pull overlaps the work on the study before; and
opened in the viewer some seconds before the press. Seconds of the step as each job
records them; the first job of a series of waiting ones has nothing to overlap with and
is not counted.

    python -m benchmarks.prefetch [--times STUDIES] [--json FILE]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.machine import spread, tell
from db import ahead
from db.engine import Engine, database_time, make_engine, transaction
from db.schema import upgrade
from segmentation.jobs import JobQueue
from segmentation.phantoms import Grid, LesionSpec, Visit, dicom_series, make_head
from settings import ROOT, Settings
from tests.orthanc_server import OrthancServer, running_orthanc

_SHAPE = (160, 256, 256)
_OPENED_BEFORE_S = 4.0
_PATIENCE_S = 120.0


def measure(studies: int) -> Mapping[str, object]:
    """Time the fetch step of so many jobs of each way."""
    head = make_head(
        Grid(_SHAPE, (1.0, 0.94, 0.94)), (LesionSpec.ball((30, 0, 20), 14.0),), seed=3
    )
    ways: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_orthanc(Path(folder) / "orthanc") as server,
    ):
        for way, settings in (
            ("without", {"METIA_PREFETCH_MEGABYTES": "0"}),
            ("overlapped", {}),
            ("opened", {}),
        ):
            uids = []
            for number in range(studies + 1):
                visit = Visit(key=f"prefetch-{way}-{number}")
                server.upload(dicom_series(head, visit=visit))
                uids.append(visit.study_uid)
            time.sleep(2)  # until all are stable
            ways[way] = _run(Path(folder) / way, server, uids, way, settings)[1:]
    return {f"fetch_{way}": spread(seconds) for way, seconds in ways.items()}


def _run(
    folder: Path,
    server: OrthancServer,
    uids: list[str],
    way: str,
    settings: Mapping[str, str],
) -> list[float]:
    engine = make_engine(f"sqlite:///{folder / 'metia.sqlite'}")
    upgrade(engine)
    queue = JobQueue(engine, Settings(data_dir=folder))
    jobs = []
    with _worker(folder, server, settings):
        while not queue.workers():
            time.sleep(0.1)
        for uid in uids:
            if way == "opened":
                _open(engine, uid)
                time.sleep(_OPENED_BEFORE_S)
            jobs.append(queue.submit(uid)[0])
            if way == "opened":
                _wait(queue, jobs[-1].id)
        for job in jobs:
            _wait(queue, job.id)
    engine.dispose()
    return [queue.get(job.id).timings_s["fetch"] for job in jobs]


def _open(engine: Engine, study_uid: str) -> None:
    with transaction(engine) as session:
        ahead.note_opened(session, study_uid, database_time(session))


def _wait(queue: JobQueue, job_id: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while (job := queue.get(job_id)).state in {"queued", "running"}:
        if time.monotonic() > end:
            raise RuntimeError(f"the job is still {job.state}")
        time.sleep(0.1)
    if job.state != "succeeded":
        raise RuntimeError(f"the job has {job.state}: {job.error_code}")


@contextmanager
def _worker(
    folder: Path, server: OrthancServer, settings: Mapping[str, str]
) -> Iterator[None]:
    environment = {
        **os.environ,
        "METIA_DATA_DIR": str(folder),
        "METIA_ARCHIVE_URL": server.url,
        "METIA_ARCHIVE_USER": server.user,
        "METIA_ARCHIVE_PASSWORD": server.password,
        "METIA_DEFAULT_MODEL": "phantom-threshold",
        "METIA_LOG_LEVEL": "WARNING",
        **settings,
    }
    command = [sys.executable, "-m", "segmentation.worker"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    tell("seconds of the fetch step, 160 slices of 256 x 256", measure, times=4)
