"""Images pulled ahead: used where they are still right, pulled again where not."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from db import ahead
from db.engine import Engine, database_time, make_engine, transaction
from db.schema import upgrade
from errors import MetiaError
from segmentation.ahead import prefetch
from segmentation.ahead.prefetch import Prefetcher
from segmentation.jobs import JobQueue
from settings import Settings
from tests.fake_archive import FakeArchive
from tests.small_series import make_series


class CountingArchive(FakeArchive):
    """Counts the pulls; one can be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.pulls: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def fetch_series(self, study_uid, series_uid, progress=None):  # type: ignore[no-untyped-def]
        self.pulls.append(series_uid)
        assert self.gate.wait(20)
        return super().fetch_series(study_uid, series_uid, progress)


class Ward:
    """An archive, a queue and a prefetcher whose steps the test takes."""

    def __init__(self, folder: Path, **change: object) -> None:
        self.settings = Settings(data_dir=folder, **change)  # type: ignore[arg-type]
        self.engine: Engine = make_engine(self.settings.database_url)
        upgrade(self.engine)
        self.queue = JobQueue(self.engine, self.settings)
        self.archive = CountingArchive()
        self.prefetcher = Prefetcher(self.settings, self.engine, self.archive)

    def put(self, count: int = 4, **attributes: object) -> list[Dataset]:
        images = make_series(
            count, **({"SeriesDescription": "T1 SE AX +GD"} | attributes)
        )
        self.archive.put(images)
        return images

    def open(self, study_uid: str, ago_s: float = 0.0) -> None:
        with transaction(self.engine) as session:
            now = database_time(session) - timedelta(seconds=ago_s)
            ahead.note_opened(session, study_uid, now)

    def fetch(self, images: list[Dataset]) -> list[str]:
        found = self.prefetcher.fetch_series(*uids(images), lambda _done: None)
        return sorted(str(image.SOPInstanceUID) for image in found)


def uids(images: list[Dataset]) -> tuple[str, str]:
    return str(images[0].StudyInstanceUID), str(images[0].SeriesInstanceUID)


def sops(images: list[Dataset]) -> list[str]:
    return sorted(str(image.SOPInstanceUID) for image in images)


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path)


def test_the_next_job_s_images_are_there_while_this_one_computes(ward: Ward) -> None:
    first, second = ward.put(), ward.put()
    for images in (first, second):
        ward.queue.submit(uids(images)[0])
    ward.queue.claim("worker")
    with ward.prefetcher.at_work():
        ward.prefetcher.step()
        assert ward.archive.pulls == [], "the job in hand has not got its own yet"
        ward.fetch(first)
        ward.prefetcher.step()
        ward.prefetcher.step()
    assert ward.archive.pulls == [uids(first)[1], uids(second)[1]]
    ward.queue.claim("worker")
    with ward.prefetcher.at_work():
        assert ward.fetch(second) == sops(second)
    assert len(ward.archive.pulls) == 2
    assert uids(second) not in ward.prefetcher.shelf, "given away once"


def test_looking_ahead_takes_no_job(ward: Ward) -> None:
    first, second = ward.put(), ward.put()
    ward.queue.submit(uids(second)[0])
    with ward.prefetcher.at_work():
        ward.fetch(first)
        ward.prefetcher.step()
    assert uids(second) in ward.prefetcher.shelf
    job = ward.queue.claim("worker")
    assert job is not None
    assert (job.study_uid, job.attempt) == (uids(second)[0], 1)


@pytest.mark.parametrize("what", ["more", "fewer", "stored anew"])
def test_what_changed_meanwhile_is_pulled_again(ward: Ward, what: str) -> None:
    images = ward.put(4)
    ward.open(uids(images)[0])
    ward.prefetcher.step()
    assert ward.archive.pulls == [uids(images)[1]]
    if what == "more":
        more = make_series(1, study_uid=uids(images)[0])
        more[0].SeriesInstanceUID = uids(images)[1]
        more[0].InstanceNumber = 9
        ward.archive.put(more)
        images += more
    else:
        gone = images.pop()
        key = ("TEST", *uids(images), str(gone.SOPInstanceUID))
        del ward.archive._files[key]
        if what == "stored anew":
            gone.PixelData = bytes(len(gone.PixelData))
            ward.archive.put([gone])
            images.append(gone)
    found = ward.prefetcher.fetch_series(*uids(images), lambda _done: None)
    assert len(ward.archive.pulls) == 2
    by_uid = {str(image.SOPInstanceUID): image.PixelData for image in found}
    assert by_uid == {str(i.SOPInstanceUID): i.PixelData for i in images}


def test_an_opened_study_is_pulled_by_an_idle_worker_once(ward: Ward) -> None:
    images, old = ward.put(), ward.put()
    ward.open(uids(old)[0], ago_s=120)
    ward.open(uids(images)[0])
    for _ in range(3):
        ward.prefetcher.step()
    assert ward.archive.pulls == [uids(images)[1]]
    assert ward.fetch(images) == sops(images)
    ward.open(uids(images)[0])
    with ward.prefetcher.at_work():
        ward.prefetcher.step()
    assert len(ward.archive.pulls) == 1, "a busy worker leaves it alone"


def test_opening_may_be_switched_off(tmp_path: Path) -> None:
    ward = Ward(tmp_path, prefetch_on_open=False)
    ward.open(uids(ward.put())[0])
    ward.prefetcher.step()
    assert ward.archive.pulls == []


def test_no_more_than_two_series_are_kept(ward: Ward) -> None:
    studies = [ward.put() for _ in range(4)]
    for images in studies:
        ward.open(uids(images)[0])
        ward.prefetcher.step()
    kept = [uids(images) in ward.prefetcher.shelf for images in studies]
    assert kept == [False, False, True, True]


def test_nor_more_than_the_memory_allows(tmp_path: Path) -> None:
    ward = Ward(tmp_path, prefetch_megabytes=1)
    large = ward.put(3, side=512)  # 1.6 MB
    small = [ward.put(3, side=320) for _ in range(2)]  # 0.6 MB each
    for images in (large, *small):
        ward.open(uids(images)[0])
        ward.prefetcher.step()
    assert uids(large)[1] not in ward.archive.pulls
    kept = [uids(images) in ward.prefetcher.shelf for images in small]
    assert kept == [False, True]


def test_what_nobody_comes_for_is_let_go(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = ward.put()
    ward.open(uids(images)[0])
    ward.prefetcher.step()
    monkeypatch.setattr(prefetch, "_KEPT_S", -1.0)
    ward.prefetcher.step()
    assert not ward.prefetcher.shelf._kept


def test_a_failure_is_none_of_the_job_s(ward: Ward) -> None:
    """And it is not tried again: the job itself will say what is wrong."""
    images = ward.put()
    ward.open("1.2.3.4")
    ward.open(uids(images)[0])
    for expected in ("study-not-found", None):
        if expected:
            with pytest.raises(MetiaError, match=expected):
                ward.prefetcher.step()
        else:
            ward.prefetcher.step()
    assert ward.fetch(images) == sops(images)


def test_the_job_waits_for_a_pull_that_is_under_way(ward: Ward) -> None:
    images = ward.put()
    ward.open(uids(images)[0])
    ward.archive.gate.clear()
    puller = threading.Thread(target=ward.prefetcher.step)
    puller.start()
    while not ward.archive.pulls:
        time.sleep(0.01)
    found: list[str] = []
    job = threading.Thread(target=lambda: found.extend(ward.fetch(images)))
    job.start()
    ward.archive.gate.set()
    job.join(20)
    puller.join(20)
    assert found == sops(images)
    assert len(ward.archive.pulls) == 1


def test_its_thread_outlives_failures(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "_LOOK_EVERY_S", 0.02)
    stopped = threading.Event()
    ward.archive.fail_with = MetiaError("archive-unavailable", "It is away.")
    images = ward.put()
    ward.open(uids(images)[0])
    thread = threading.Thread(target=ward.prefetcher.run, args=(stopped,))
    thread.start()
    stopped.wait(0.2)
    ward.archive.fail_with = None
    ward.open(uids(images)[0])
    for _ in range(400):
        if uids(images) in ward.prefetcher.shelf:
            break
        stopped.wait(0.02)
    stopped.set()
    thread.join()
    assert uids(images) in ward.prefetcher.shelf
