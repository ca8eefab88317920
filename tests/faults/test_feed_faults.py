"""kill -9 of the process that reads arrivals: no study is lost, none is queued twice.

Wherever it dies, in a transaction or between two, another process takes over once the
lease has run out, and every study that arrived before, meanwhile and after has exactly
one job.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import pytest

from db import ahead
from db.ahead import FeedPosition, caught_up_at
from db.engine import Engine, database_time, reading, transaction
from db.models import ArrivalFeedRow
from orthanc.changes import OrthancChanges
from segmentation.jobs import JobQueue
from settings import Settings
from tests.orthanc_server import OrthancServer
from tests.small_series import make_series

ROOT = Path(__file__).parents[2]
SOON_S = 40.0


@contextmanager
def feed(
    place: str, sentinel: Path, settings: Settings, orthanc: OrthancServer
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "METIA_DATA_DIR": str(settings.data_dir),
        "METIA_DATABASE_URL": settings.database_url,
        "METIA_ARCHIVE_URL": orthanc.url,
        "METIA_ARCHIVE_USER": orthanc.user,
        "METIA_ARCHIVE_PASSWORD": orthanc.password,
        "METIA_ZERO_CLICK_POLL_S": "0.2",
        "METIA_ZERO_CLICK_DESCRIPTIONS": f"*{sentinel.parent.name}*",
    }
    command = [sys.executable, "-m", "tests.faults.killed_feed", place, str(sentinel)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def upload(orthanc: OrthancServer, mark: str) -> str:
    images = make_series(
        3,
        side=8,
        SeriesDescription="T1 SE AX +GD",
        StudyDescription=mark,
        StudyDate=date.today().strftime("%Y%m%d"),
    )
    orthanc.upload(images)
    return str(images[0].StudyInstanceUID)


def has_begun(engine: Engine) -> bool:
    with reading(engine) as session:
        return caught_up_at(session) is not None


def wait(what: object, found: object) -> None:
    end = time.monotonic() + SOON_S
    while not found():  # type: ignore[operator]
        assert time.monotonic() < end, what
        time.sleep(0.1)


PLACES = ["note_arrivals", "move_feed", "looked", "append", "queued"]


@pytest.mark.parametrize(
    ("database_kind", "place"),
    [
        (kind, place)
        for kind in ("sqlite", "postgresql")
        for place in PLACES
        if kind == "sqlite" or place in {"move_feed", "append"}
    ],
)
def test_killed_at(
    engine: Engine, settings: Settings, orthanc: OrthancServer, place: str
) -> None:
    sentinel = settings.data_dir / "killed"
    queue = JobQueue(engine, settings)
    mark = settings.data_dir.name
    begin(engine, orthanc)

    def studies() -> list[str]:
        return [job.study_uid for job in queue.list(limit=200).jobs]

    with feed(place, sentinel, settings, orthanc) as victim:
        expected = {upload(orthanc, mark)}
        wait(f"to be killed at {place}", lambda: victim.poll() is not None)
    assert sentinel.exists()
    expected.add(upload(orthanc, mark))
    with feed("never", sentinel, settings, orthanc):
        expected.add(upload(orthanc, mark))
        wait("all jobs", lambda: expected <= set(studies()))
        time.sleep(1.0)
    found = studies()
    assert len(found) == len(set(found))
    assert set(found) == expected


def begin(engine: Engine, orthanc: OrthancServer) -> None:
    """Note where the list of changes ends now, as the first reading does."""
    options = {"archive_user": orthanc.user, "archive_password": orthanc.password}
    changes = OrthancChanges.from_settings(
        Settings(archive_url=orthanc.url, **options)  # type: ignore[arg-type]
    )
    place = changes.newest()
    changes.close()
    with transaction(engine) as session:
        now = database_time(session)
        ahead.take_feed(session, "test", lease=timedelta(0), now=now)
        ahead.move_feed(session, FeedPosition(place.sequence, place.mark, now))
        ahead.leave_feed(session, "test")


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_a_worker_that_is_asked_to_stop_gives_the_feed_back(
    engine: Engine, settings: Settings, orthanc: OrthancServer
) -> None:
    environment = {
        **os.environ,
        "METIA_DATA_DIR": str(settings.data_dir),
        "METIA_ARCHIVE_URL": orthanc.url,
        "METIA_ARCHIVE_USER": orthanc.user,
        "METIA_ARCHIVE_PASSWORD": orthanc.password,
        "METIA_ZERO_CLICK": "true",
    }

    def owner() -> str | None:
        with reading(engine) as session:
            row = session.get(ArrivalFeedRow, "archive")
            return None if row is None else row.owner

    command = [sys.executable, "-m", "segmentation.worker"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        wait("somebody to read", lambda: owner() and has_begun(engine))
        process.terminate()
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
    assert owner() is None
