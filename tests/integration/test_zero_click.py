"""Arrivals in a real Orthanc: told once, whatever becomes of its list of changes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset

from db.ahead import AUTOMATIC
from db.engine import make_engine
from db.schema import upgrade
from orthanc import changes as changes_module
from orthanc.changes import OrthancChanges, Place
from segmentation.ahead.zero_click import ZeroClick
from segmentation.jobs import JobQueue
from segmentation.models.predictor import ModelIdentity
from settings import Settings
from tests.orthanc_server import (
    PASSWORD,
    USER,
    OrthancServer,
    free_port,
    program,
    running_orthanc,
)
from tests.small_series import make_series

pytestmark = pytest.mark.skipif(program() is None, reason="Orthanc is not installed")
SOON_S = 30.0


def head(count: int = 4, **attributes: object) -> list[Dataset]:
    described = {
        "SeriesDescription": "T1 SE AX +GD",
        "StudyDescription": "BRAIN",
        "StudyDate": date.today().strftime("%Y%m%d"),
    }
    return make_series(count, side=8, **(described | attributes))


@contextmanager
def opened(server: OrthancServer, **options: object) -> Iterator[OrthancChanges]:
    settings = Settings(
        archive_url=server.url,
        archive_user=USER,
        archive_password=PASSWORD,  # type: ignore[arg-type]
        **options,  # type: ignore[arg-type]
    )
    with closing(OrthancChanges.from_settings(settings)) as changes:
        yield changes


def read_all(changes: OrthancChanges, place: Place) -> tuple[set[str], Place]:
    studies: set[str] = set()
    while True:
        found = changes.after(place)
        assert found is not None
        studies |= set(found.studies)
        place = found.place
        if found.at_end:
            return studies, place


def listed(changes: OrthancChanges, since: datetime) -> list[str]:
    return [name for page in changes.updated_since(since) for name in page]


def uids_of(changes: OrthancChanges, studies: set[str]) -> set[str]:
    found = [changes.study(name) for name in studies]
    return {one.study_uid for one in found if one}


def wait_until_stable(changes: OrthancChanges, name: str) -> None:
    end = time.monotonic() + SOON_S
    while True:
        study = changes.study(name)
        if study is not None and study.stable:
            return
        assert time.monotonic() < end
        time.sleep(0.2)


def wait_until_all_is_stable(client: httpx.Client) -> None:
    """Wait until the list of changes grows no more by itself."""
    end = time.monotonic() + SOON_S
    while True:
        kinds = [one["ChangeType"] for one in client.get("/changes").json()["Changes"]]
        levels = ("Patient", "Study", "Series")
        if all(kinds.count(f"Stable{x}") == kinds.count(f"New{x}") for x in levels):
            return
        assert time.monotonic() < end, kinds
        time.sleep(0.2)


def test_the_list_from_any_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes_module, "_PAGE", 3)
    with running_orthanc(tmp_path) as server, opened(server) as changes:
        empty = changes.newest()
        assert empty == Place(0, "")
        assert changes.after(empty) == changes_module.Changes((), empty, at_end=True)
        one, two = head(), head()
        server.upload(one)
        middle = changes.newest()
        assert middle.sequence > 4
        server.upload(two)
        both, end = read_all(changes, empty)
        assert uids_of(changes, both) == {
            one[0].StudyInstanceUID,
            two[0].StudyInstanceUID,
        }
        later, _ = read_all(changes, middle)
        assert uids_of(changes, later) >= {two[0].StudyInstanceUID}
        names = sorted(both)
        wait_until_stable(changes, names[0])
        wait_until_stable(changes, names[1])
        stable, end = read_all(changes, end)
        assert stable == both
        again, same = read_all(changes, end)
        assert (again, same) == (set(), end)
        more = head(3, study_uid=one[0].StudyInstanceUID)
        server.upload(more)
        grown, _ = read_all(changes, end)
        assert uids_of(changes, grown) == {one[0].StudyInstanceUID}
        assert changes.study(names[0][::-1]) is None


def test_a_place_that_is_gone_is_told(tmp_path: Path) -> None:
    with running_orthanc(tmp_path / "a") as server, opened(server) as changes:
        server.upload(head())
        images = head()
        server.upload(images)
        with server.client() as client:
            wait_until_all_is_stable(client)
            place = changes.newest()
            client.delete("/changes").raise_for_status()
        assert changes.after(place) is None
        emptied = changes.newest()
        assert emptied.sequence == place.sequence
        assert changes.after(emptied) is not None
        server.upload(head())
        after = changes.after(emptied)
        assert after is not None
        assert len(after.studies) == 1
        soon = datetime.now(UTC) - timedelta(hours=1)
        assert len(set(listed(changes, soon))) == 3
        assert listed(changes, datetime.now(UTC) + timedelta(hours=1)) == []
    with running_orthanc(tmp_path / "b") as other, opened(other) as changes:
        assert changes.after(place) is None
        assert changes.after(emptied) is None
        for _ in range(3):
            other.upload(head(6))
        assert changes.newest().sequence > place.sequence
        assert changes.after(place) is None, "another archive with a longer list"


def test_who_sent_a_series(tmp_path: Path) -> None:
    if shutil.which("storescu") is None:
        pytest.skip("dcmtk is not installed")
    port = free_port()
    allow = '"DicomAlwaysAllowStore": false', '"DicomAlwaysAllowStore": true'
    with (
        running_orthanc(
            tmp_path, dicom_port=port, change=lambda text: text.replace(*allow)
        ) as server,
        opened(server) as changes,
    ):
        sent, posted = head(3), head(3)
        for number, image in enumerate(sent):
            image.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        files = [str(path) for path in tmp_path.glob("*.dcm")]
        command = ["storescu", "-aet", "MR-3T", "-aec", "METIA", "127.0.0.1", str(port)]
        subprocess.run([*command, *files], check=True)
        server.upload(posted)
        names, _ = read_all(changes, Place(0, ""))
        for name in names:
            study = changes.study(name)
            assert study is not None
            by_net = study.study_uid == sent[0].StudyInstanceUID
            images = sent if by_net else posted
            title = changes.sender(name, images[0].SeriesInstanceUID)
            assert title == ("MR-3T" if by_net else "")


class Reader:
    """A reader of arrivals on a database, over whichever Orthanc runs now."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder)
        self.engine = make_engine(self.settings.database_url)
        upgrade(self.engine)
        self.queue = JobQueue(self.engine, self.settings)

    def read(self, server: OrthancServer, expected: int) -> list[str]:
        """Step until so many jobs are there, and a while longer."""
        model = ModelIdentity("net", "1", "ab" * 32, True)
        with opened(server) as changes, closing(server.archive(retries=0)) as archive:
            feed = ZeroClick(
                self.settings, self.engine, archive, changes, lambda: model, "reader"
            )
            end = time.monotonic() + SOON_S
            spare = 3
            while spare and time.monotonic() < end:
                feed.step()
                time.sleep(0.5)
                spare -= len(self.queue.list().jobs) >= expected
        jobs = self.queue.list().jobs
        assert all(job.requested_by == AUTOMATIC for job in jobs)
        return [job.study_uid for job in jobs]


def test_nothing_is_lost_or_doubled_when_orthanc_dies(tmp_path: Path) -> None:
    """Orthanc forgets in a restart which studies had yet to become stable."""
    reader = Reader(tmp_path)
    folder = tmp_path / "orthanc"
    first, second, third = head(), head(), head()
    with running_orthanc(folder, stable_age_s=2) as server:
        assert reader.read(server, 0) == []
        server.upload(first)
        assert reader.read(server, 1) == [first[0].StudyInstanceUID]
        server.upload(second)
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGKILL)
    with running_orthanc(folder, stable_age_s=2) as server:
        found = reader.read(server, 2)
        assert sorted(found) == sorted(
            [first[0].StudyInstanceUID, second[0].StudyInstanceUID]
        )
        server.upload(third)
        with server.client() as client:
            client.delete("/changes").raise_for_status()
        assert len(set(reader.read(server, 3))) == 3
    with running_orthanc(tmp_path / "replaced") as server:
        server.upload(third)  # moved over, with a new one
        server.upload(head())
        found = reader.read(server, 4)
        assert len(found) == len(set(found)) == 4
