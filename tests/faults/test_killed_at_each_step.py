"""kill -9 of the real worker at every step, with the real archive and database.

| killed on entering | what is there already | outcome, each time |
| --- | --- | --- |
| waiting, fetch, volume, predict, lesions, segmentation | nothing | second attempt |
| store | nothing (the fence was not yet passed) | second attempt stores |
| record | the SEG, but no row | second attempt finds its SEG stored, records once |

A job that lines visits up, killed on entering fetch, register or link: the second
attempt goes on with what is missing; every lesion is linked once.

Always: the job succeeds at attempt 2 with one death counted, the archive holds one SEG,
the database one result with one set of lesions.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from db.engine import Engine, make_engine, reading
from db.jobs import FOLLOW, SEGMENTATION
from db.patients import find_patients
from db.results import list_results
from db.schema import upgrade
from db.tracks import load_tracks
from segmentation.jobs import Job, JobQueue
from segmentation.phantoms import LesionSpec, Visit, dicom_series, sample_head
from segmentation.pipeline import STEPS
from settings import Settings
from tests.orthanc_server import OrthancServer

ROOT = Path(__file__).parents[2]
LEASE_S = 2.0
_LESIONS = (LesionSpec.ball((36, 10, 22), 22.0), LesionSpec.ball((-34, -20, 12), 26.0))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Path]]:
    folder = tmp_path_factory.mktemp("killed")
    engine = make_engine(f"sqlite:///{folder / 'metia.sqlite'}")
    upgrade(engine)
    yield engine, folder
    engine.dispose()


def _sentinel(folder: Path, kind: str, step: str) -> Path:
    """Name the file that tells that a worker was killed there."""
    return folder / f"killed-{kind}-at-{step}"


@contextmanager
def _worker(
    kind: str, step: str, folder: Path, orthanc: OrthancServer, broker_url: str = ""
) -> Iterator[None]:
    """Keep a worker running: start another when it is killed, as a supervisor does."""
    environment = {
        **os.environ,
        "METIA_DATA_DIR": str(folder),
        "METIA_ARCHIVE_URL": orthanc.url,
        "METIA_ARCHIVE_USER": orthanc.user,
        "METIA_ARCHIVE_PASSWORD": orthanc.password,
        "METIA_JOB_LEASE_S": str(LEASE_S),
        "METIA_JOB_HEARTBEAT_S": str(LEASE_S / 4),
        "METIA_WORKER_POLL_S": "0.1",
        "METIA_BROKER_URL": broker_url,
    }
    command = [sys.executable, "-m", "tests.faults.killed_worker"]
    arguments = [kind, step, str(_sentinel(folder, kind, step))]
    running = [
        subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment)
        for _ in range(2)
    ]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def _finished(queue: JobQueue, job: Job, timeout_s: float = 90.0) -> Job:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        job = queue.get(job.id)
        if job.state not in {"queued", "running"}:
            return job
        time.sleep(0.2)
    pytest.fail(f"still {job.state} in step {job.step}")


# Before and after the archive has the object, also where a broker delivers.
def _died_and_succeeded(job: Job) -> None:
    """Once by our hand; on a busy machine the short lease may run out once more."""
    assert job.state == "succeeded"
    assert job.deaths >= 1
    assert job.attempt == job.deaths + 1


@pytest.mark.parametrize(
    ("delivery", "step"),
    [
        *(("polling", step) for step in STEPS),
        ("redis", "predict"),
        ("rabbitmq", "record"),
    ],
)
def test_killed_worker_leaves_one_result(
    delivery: str,
    step: str,
    database: tuple[Engine, Path],
    orthanc: OrthancServer,
    request: pytest.FixtureRequest,
) -> None:
    engine, folder = database
    broker_url = "" if delivery == "polling" else request.getfixturevalue(delivery).url
    _sentinel(folder, SEGMENTATION, step).unlink(missing_ok=True)  # of another delivery
    visit = Visit(key=f"killed-at-{step}-{time.time_ns()}")
    head = sample_head((48, 64, 64), lesions=_LESIONS)
    orthanc.upload(dicom_series(head, visit=visit))
    queue = JobQueue(engine, Settings(data_dir=folder, job_lease_s=LEASE_S,
                                      job_heartbeat_s=LEASE_S / 4))  # fmt: skip
    job, _ = queue.submit(visit.study_uid)
    with _worker(SEGMENTATION, step, folder, orthanc, broker_url):
        job = _finished(queue, job)

    assert _sentinel(folder, SEGMENTATION, step).exists(), "the worker was not killed"
    _died_and_succeeded(job)
    with reading(engine) as session:
        (result,) = list_results(session, visit.study_uid)
    assert job.result_id == result.id
    assert len(result.lesions) == len(_LESIONS)
    tracked = {lesion.tracking_uid for lesion in result.lesions}
    assert len(tracked) == len(_LESIONS)
    headers = orthanc.archive().series_headers(visit.study_uid)
    stored = [h for h in headers if h.sample.Modality == "SEG"]
    assert [h.series_uid for h in stored] == [result.segmentation_series_uid]
    assert stored[0].instance_count == 1


@pytest.mark.parametrize("step", ["fetch", "register", "link"])
def test_killed_worker_lines_visits_up_once(
    step: str, tmp_path: Path, orthanc: OrthancServer
) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'metia.sqlite'}")
    upgrade(engine)
    queue = JobQueue(engine, Settings(data_dir=tmp_path, job_lease_s=LEASE_S,
                                      job_heartbeat_s=LEASE_S / 4))  # fmt: skip
    patient = f"KILLED-{step}-{time.time_ns()}"
    studies = []
    for day in ("20200101", "20200301"):
        visit = Visit(key=f"{patient}-{day}", patient_id=patient, date=day)
        orthanc.upload(
            dicom_series(sample_head((48, 64, 64), lesions=_LESIONS), visit=visit)
        )
        studies.append(visit.study_uid)
    with _worker(FOLLOW, step, tmp_path, orthanc):
        for study_uid in studies:
            assert _finished(queue, queue.submit(study_uid)[0]).state == "succeeded"
        (job,) = [one for one in queue.list().jobs if one.kind == FOLLOW]
        job = _finished(queue, job)
    assert _sentinel(tmp_path, FOLLOW, step).exists(), "the worker was not killed"
    _died_and_succeeded(job)
    with reading(engine) as session:
        (found,), _ = find_patients(session)
        tracks = load_tracks(session, found.id)
    assert len(tracks.tracks) == len(_LESIONS)
    seen = [(one.study_uid, one.track_id) for one in tracks.members]
    assert len(seen) == len(set(seen)) == 2 * len(_LESIONS)
    engine.dispose()
