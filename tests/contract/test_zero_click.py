"""What arrives is queued by itself: once, behind everyone, and by one process alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import update

from db import ahead, audit
from db.ahead import AUTOMATIC, AUTOMATIC_PRIORITY
from db.engine import Engine, database_time, reading, transaction
from db.models import ArrivalFeedRow, ArrivalRow, ResultRow
from db.models_registry import ModelRecord
from db.results import record_result
from db.studies import Patient, Series, Study, upsert_study
from errors import MetiaError
from segmentation.ahead.zero_click import ZeroClick
from segmentation.jobs import Fence, Job, JobQueue
from segmentation.models.predictor import ModelIdentity
from settings import Settings
from tests.contract.sample_rows import make_record
from tests.fake_archive import FakeArchive
from tests.fake_changes import FakeChanges
from tests.small_series import make_series

MODEL = ModelIdentity("net-a", "1.0", "a" * 64, True)
TODAY = date.today().strftime("%Y%m%d")


def head(count: int = 12, **attributes: object) -> list[Dataset]:
    described = {
        "SeriesDescription": "T1 SE AX +GD",
        "StudyDescription": "BRAIN",
        "StudyDate": TODAY,
    }
    return make_series(count, side=4, **(described | attributes))


@dataclass
class Hospital:
    """An archive, a queue, and whoever reads the arrivals."""

    engine: Engine
    settings: Settings
    archive: FakeArchive = field(default_factory=FakeArchive)
    model: ModelIdentity = MODEL

    def __post_init__(self) -> None:
        self.changes = FakeChanges(self.archive)
        self.queue = JobQueue(self.engine, self.settings)

    def feed(self, owner: str = "one", **change: object) -> ZeroClick:
        return ZeroClick(
            self.settings.model_copy(update=change),
            self.engine,
            self.archive,
            self.changes,
            lambda: self.model,
            owner,
        )

    def jobs(self) -> list[Job]:
        return list(self.queue.list(limit=200).jobs)

    def work(self) -> Job | None:
        """Take the next job and end it with a result."""
        job = self.queue.claim("worker")
        if job is None:
            return None
        (header,) = self.archive.series_headers(job.study_uid)[-1:]
        self.queue.complete(
            Fence(job.id, job.attempt, "worker"),
            lambda session: self.record(session, job.study_uid, header.series_uid, job),
        )
        return job

    def record(
        self, session: object, study_uid: str, series_uid: str, job: Job | None = None
    ) -> str:
        upsert_study(
            session,  # type: ignore[arg-type]
            Patient("phantom-1"),
            Study(study_uid),
            Series(series_uid, modality="MR", instance_count=12),
        )
        return record_result(
            session,  # type: ignore[arg-type]
            make_record(
                job.id if job else None,
                lesions=0,
                series_uid=series_uid,
                instance_count=12,
                model=ModelRecord(self.model.name, "1.0", self.model.sha256, True),
                parameters={"job": job.id if job else ""},
            ),
        )


@pytest.fixture
def hospital(engine: Engine, settings: Settings) -> Hospital:
    return Hospital(engine, settings)


def run_dry(feed: ZeroClick) -> None:
    for _ in range(200):
        if not feed.step():
            return
    raise AssertionError("there is always more to do")


def test_a_new_study_is_queued_once_and_says_by_whom(hospital: Hospital) -> None:
    before = hospital.changes.arrive(head())
    feed = hospital.feed()
    run_dry(feed)
    study_uid = hospital.changes.arrive(head())
    for _ in range(3):
        run_dry(feed)
        hospital.changes.note(study_uid)
    (job,) = hospital.jobs()
    assert job.study_uid == study_uid != before
    assert (job.priority, job.requested_by) == (AUTOMATIC_PRIORITY, AUTOMATIC)
    assert (job.model_name, job.series_uid, job.queue) == ("net-a", None, "gpu")
    with reading(hospital.engine) as session:
        (entry,) = audit.entries(session, subject=f"job:{job.id}")
    assert (entry.actor, entry.action) == (None, "job-submit")
    assert entry.details == {"requested_by": AUTOMATIC}


def test_its_own_result_does_not_bring_it_back(hospital: Hospital) -> None:
    feed = hospital.feed()
    run_dry(feed)
    study_uid = hospital.changes.arrive(head())
    run_dry(feed)
    assert hospital.work() is not None
    hospital.changes.note(study_uid)  # the SEG has arrived, the study is stable again
    run_dry(feed)
    assert len(hospital.jobs()) == 1


def test_nor_does_a_failure_until_more_images_come(hospital: Hospital) -> None:
    feed = hospital.feed()
    run_dry(feed)
    images = head()
    study_uid = hospital.changes.arrive(images[:-1])
    run_dry(feed)
    job = hospital.queue.claim("worker")
    assert job is not None
    missing = MetiaError("volume-missing-slice", "One is missing.")
    hospital.queue.fail(Fence(job.id, job.attempt, "worker"), missing)
    hospital.changes.note(study_uid)
    run_dry(feed)
    assert len(hospital.jobs()) == 1
    hospital.changes.arrive(images[-1:])
    run_dry(feed)
    assert [one.state for one in hospital.jobs()] == ["queued", "failed"]


def test_a_better_series_that_comes_later_is_segmented_too(hospital: Hospital) -> None:
    feed = hospital.feed()
    run_dry(feed)
    first = head(12)
    study_uid = hospital.changes.arrive(first)
    run_dry(feed)
    hospital.work()
    better = head(40, study_uid=study_uid, SeriesDescription="T1 MPRAGE 3D +GD",
                  MRAcquisitionType="3D", SeriesNumber=9)  # fmt: skip
    hospital.changes.arrive(better)
    run_dry(feed)
    assert [job.state for job in hospital.jobs()] == ["queued", "succeeded"]


@pytest.mark.parametrize("touch", ["pressed", "accepted", "drawn", "under way"])
def test_what_people_did_is_left_alone(hospital: Hospital, touch: str) -> None:
    feed = hospital.feed()
    run_dry(feed)
    images = head()
    study_uid, series_uid = images[0].StudyInstanceUID, images[0].SeriesInstanceUID
    if touch == "under way":
        # Of another series: a press of one's own choice.
        hospital.queue.submit(study_uid, "1.2.3", "net-a", requested_by="ann")
    elif touch == "pressed":
        hospital.archive.put(images)
        hospital.queue.submit(study_uid, None, "net-a", requested_by="ann")
        hospital.work()
    else:
        hospital.model = ModelIdentity("net-b", "1.0", "b" * 64, True)
        with transaction(hospital.engine) as session:
            result_id = hospital.record(session, study_uid, series_uid)
            change = (
                {"state": "accepted"}
                if touch == "accepted"
                else {"origin": "reader", "author": "ann"}
            )
            session.execute(
                update(ResultRow).where(ResultRow.id == result_id).values(**change)
            )
        hospital.model = MODEL
    before = len(hospital.jobs())
    hospital.changes.arrive(images)
    run_dry(feed)
    assert len(hospital.jobs()) == before


def test_another_model_is_a_reason_and_an_untouched_result_is_none(
    hospital: Hospital,
) -> None:
    feed = hospital.feed()
    run_dry(feed)
    study_uid = hospital.changes.arrive(head())
    run_dry(feed)
    hospital.work()
    hospital.model = ModelIdentity("net-b", "1.0", "b" * 64, True)
    hospital.changes.note(study_uid)
    run_dry(feed)
    assert [job.model_name for job in hospital.jobs()] == ["net-b", "net-a"]


def test_it_waits_until_the_study_is_complete(hospital: Hospital) -> None:
    feed = hospital.feed()
    run_dry(feed)
    images = head()
    hospital.archive.unstable.add(images[0].StudyInstanceUID)
    hospital.changes.arrive(images)
    run_dry(feed)
    assert hospital.jobs() == []
    hospital.archive.unstable.clear()
    make_due(hospital.engine)
    run_dry(feed)
    assert len(hospital.jobs()) == 1


def make_due(engine: Engine) -> None:
    with transaction(engine) as session:
        now = database_time(session)
        session.execute(update(ArrivalRow).values(not_before=now - timedelta(days=1)))


def test_a_flood_waits_outside_the_queue(hospital: Hospital) -> None:
    hospital.settings = hospital.settings.model_copy(
        update={"zero_click_limit": 4, "job_queue_limit": 10}
    )
    hospital.queue = JobQueue(hospital.engine, hospital.settings)
    hospital.changes.page = 7
    feed = hospital.feed()
    run_dry(feed)
    studies = {hospital.changes.arrive(head(3)) for _ in range(30)}
    run_dry(feed)
    assert hospital.queue.counts()["queued"] == 4
    pressed, created = hospital.queue.submit("9.9.9", requested_by="ann")
    assert created
    first = hospital.queue.claim("worker")
    assert first is not None
    assert first.id == pressed.id
    done = []
    while True:
        run_dry(feed)
        assert hospital.queue.counts()["queued"] <= 4
        job = hospital.work()
        if job is None:
            break
        done.append(job.study_uid)
    assert len(done) == len(set(done)) == 30
    assert set(done) == studies


def test_people_leave_no_room_for_automatic_jobs(hospital: Hospital) -> None:
    hospital.settings = hospital.settings.model_copy(update={"job_queue_limit": 6})
    hospital.queue = JobQueue(hospital.engine, hospital.settings)
    feed = hospital.feed()
    run_dry(feed)
    for number in range(3):
        hospital.queue.submit(f"9.9.{number}")
    hospital.changes.arrive(head())
    run_dry(feed)
    assert hospital.queue.counts()["queued"] == 3
    hospital.queue.claim("worker")
    run_dry(feed)
    assert hospital.queue.counts()["queued"] == 3


def test_a_press_takes_the_automatic_job_and_overtakes(hospital: Hospital) -> None:
    feed = hospital.feed()
    run_dry(feed)
    studies = [hospital.changes.arrive(head()) for _ in range(3)]
    run_dry(feed)
    job, created = hospital.queue.submit(studies[2], None, "net-a", requested_by="ann")
    assert not created
    assert (job.priority, job.requested_by) == (0, "ann")
    assert len(hospital.jobs()) == 3
    taken = hospital.queue.claim("worker")
    assert taken is not None
    assert taken.study_uid == studies[2]
    with reading(hospital.engine) as session:
        actions = [e.action for e in audit.entries(session, subject=f"job:{job.id}")]
    assert actions == ["job-adopt", "job-submit"]


def test_pressing_again_never_puts_a_job_back(hospital: Hospital) -> None:
    job, _ = hospital.queue.submit("9.9.1", priority=3, requested_by="ann")
    again, created = hospital.queue.submit("9.9.1", priority=-3, requested_by="bob")
    assert not created
    assert (again.priority, again.requested_by) == (3, "ann")
    higher, _ = hospital.queue.submit("9.9.1", priority=5, requested_by="bob")
    assert (higher.id, higher.priority, higher.requested_by) == (job.id, 5, "ann")


def test_an_opened_study_comes_before_the_others(hospital: Hospital) -> None:
    feed = hospital.feed()
    run_dry(feed)
    studies = [hospital.changes.arrive(head()) for _ in range(2)]
    run_dry(feed)
    last = hospital.jobs()[0].study_uid
    assert last in studies
    with transaction(hospital.engine) as session:
        ahead.raise_automatic(session, last, -1)
    taken = hospital.queue.claim("worker")
    assert taken is not None
    assert (taken.study_uid, taken.requested_by) == (last, AUTOMATIC)


# -- one reader ----------------------------------------------------------------


def test_only_one_process_reads_at_a_time(hospital: Hospital) -> None:
    one, two = hospital.feed("one"), hospital.feed("two")
    run_dry(one)
    hospital.changes.arrive(head())
    run_dry(two)
    assert hospital.jobs() == []
    run_dry(one)
    assert len(hospital.jobs()) == 1


def test_another_takes_over_where_the_reader_died(hospital: Hospital) -> None:
    one, two = hospital.feed("one"), hospital.feed("two")
    run_dry(one)
    hospital.changes.arrive(head())
    expire(hospital.engine)
    run_dry(two)
    assert len(hospital.jobs()) == 1
    hospital.changes.arrive(head())
    run_dry(one)
    assert len(hospital.jobs()) == 1, "who has lost the lease does nothing"


def expire(engine: Engine) -> None:
    with transaction(engine) as session:
        now = database_time(session)
        session.execute(
            update(ArrivalFeedRow).values(lease_until=now - timedelta(seconds=1))
        )


def test_who_lost_the_lease_writes_nothing(hospital: Hospital) -> None:
    one, two = hospital.feed("one"), hospital.feed("two")
    run_dry(one)
    hospital.changes.arrive(head())
    headers = hospital.archive.series_headers

    def meanwhile(study_uid: str) -> object:
        hospital.archive.series_headers = headers  # type: ignore[method-assign]
        expire(hospital.engine)
        run_dry(two)
        return headers(study_uid)

    hospital.archive.series_headers = meanwhile  # type: ignore[method-assign, assignment]
    with pytest.raises(MetiaError, match="job-superseded"):
        run_dry(one)
    assert len(hospital.jobs()) == 1


def test_many_at_once_queue_each_study_once(hospital: Hospital) -> None:
    run_dry(hospital.feed("first"))
    expire(hospital.engine)
    for _ in range(10):
        hospital.changes.arrive(head(3))
    broken: list[BaseException] = []

    def read(owner: str) -> None:
        feed = hospital.feed(owner)
        for _ in range(8):
            try:
                feed.step()
            except MetiaError as error:
                if error.code != "job-superseded":
                    broken.append(error)
            except BaseException as error:  # noqa: BLE001 - told below
                broken.append(error)
            expire(hospital.engine)

    threads = [threading.Thread(target=read, args=(f"p{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken == []
    expire(hospital.engine)
    run_dry(hospital.feed("last"))
    studies = [job.study_uid for job in hospital.jobs()]
    assert len(studies) == len(set(studies)) == 10


# -- an archive that fails, forgets or is replaced ------------------------------


def test_an_archive_that_is_away_loses_nothing(hospital: Hospital) -> None:
    feed = hospital.feed()
    run_dry(feed)
    study_uid = hospital.changes.arrive(head())
    away = MetiaError("archive-unavailable", "It is away.")
    hospital.changes.fail_with = away
    with pytest.raises(MetiaError, match="archive-unavailable"):
        feed.step()
    hospital.changes.fail_with = None
    hospital.archive.fail_with = away
    with pytest.raises(MetiaError, match="archive-unavailable"):
        feed.step()
    hospital.archive.fail_with = None
    run_dry(feed)
    assert [job.study_uid for job in hospital.jobs()] == [study_uid]


@pytest.mark.parametrize("what", ["empty", "replace"])
def test_a_list_that_does_not_go_on_loses_and_doubles_nothing(
    hospital: Hospital, what: str
) -> None:
    feed = hospital.feed()
    run_dry(feed)
    known = hospital.changes.arrive(head())
    run_dry(feed)
    missed = hospital.changes.arrive(head())
    forget: Callable[[], None] = getattr(hospital.changes, what)
    forget()
    run_dry(feed)
    later = hospital.changes.arrive(head())
    run_dry(feed)
    studies = [job.study_uid for job in hospital.jobs()]
    assert sorted(studies) == sorted([known, missed, later])


def test_a_study_that_cannot_be_read_holds_up_no_other(hospital: Hospital) -> None:
    feed = hospital.feed()
    run_dry(feed)
    broken = hospital.changes.arrive(head())
    twin = head(study_uid=broken, PatientID="ANOTHER")
    hospital.archive.put(twin)  # the archive has the study twice: archive-ambiguous
    good = hospital.changes.arrive(head())
    for _ in range(15):
        run_dry(feed)
        make_due(hospital.engine)
    assert [job.study_uid for job in hospital.jobs()] == [good]
    with reading(hospital.engine) as session:
        assert ahead.count_arrivals(session) == 0, "given up at last"


def test_a_study_that_was_deleted_is_forgotten(hospital: Hospital) -> None:
    feed = hospital.feed()
    run_dry(feed)
    study_uid = hospital.changes.arrive(head())
    hospital.archive.delete_study(study_uid)
    run_dry(feed)
    assert hospital.jobs() == []


def test_the_loop_goes_on_after_any_failure(hospital: Hospital) -> None:
    feed = hospital.feed(zero_click_poll_s=0.01)
    run_dry(feed)
    stopped = threading.Event()
    hospital.changes.fail_with = MetiaError("archive-unavailable", "It is away.")
    thread = threading.Thread(target=feed.run, args=(stopped,))
    thread.start()
    study_uid = hospital.changes.arrive(head())
    hospital.changes.fail_with = None
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    while not hospital.jobs() and datetime.now(UTC) < deadline:
        stopped.wait(0.05)
    stopped.set()
    thread.join()
    assert [job.study_uid for job in hospital.jobs()] == [study_uid]
    run_dry(hospital.feed("another"))  # the lease was given back
    with reading(hospital.engine) as session:
        owner = session.get(ArrivalFeedRow, "archive")
        assert owner is not None
        assert owner.owner == "another"


def test_looking_through_a_large_archive_keeps_the_lease(hospital: Hospital) -> None:
    """However long it takes, another process must not begin the same again."""
    one, two = hospital.feed("one"), hospital.feed("two")
    run_dry(one)
    for _ in range(3):
        hospital.changes.arrive(head(3))
    hospital.changes.replace()
    pages = hospital.changes.updated_since

    def slow(moment: datetime) -> object:
        for page in pages(moment):
            with transaction(hospital.engine) as session:
                now = database_time(session) + timedelta(seconds=1)
                session.execute(update(ArrivalFeedRow).values(lease_until=now))
            yield page
            assert not two.step()
            with reading(hospital.engine) as session:
                row = session.get(ArrivalFeedRow, "archive")
                assert row is not None
                assert row.lease_until is not None
                assert row.lease_until > database_time(session) + timedelta(seconds=9)

    hospital.changes.updated_since = slow  # type: ignore[method-assign, assignment]
    run_dry(one)
    assert len(hospital.jobs()) == 3
