"""Jobs that line up a patient's visits: on both databases, through death and outage."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import Dataset

from db.engine import Engine, database_time, reading, transaction
from db.jobs import FOLLOW, Job, list_jobs
from db.links import DecisionRecord, add_decision, undo_last_decision
from db.patients import key_of_study
from db.registrations import list_registrations
from db.reviews import review_result
from db.tracks import PatientTracks, load_tracks
from db.visits import load_visits
from errors import MetiaError
from segmentation.followup import follow_job
from segmentation.followup.follow_job import FollowRunner
from segmentation.followup.linking import recompute_links, relink, track_of
from segmentation.followup.registration import Registration
from segmentation.job_context import JobContext
from segmentation.jobs import JobQueue
from segmentation.phantoms import Grid, dicom_series, make_head
from settings import Settings
from tests.contract.sample_rows import add_visit, visit_uid
from tests.fake_archive import FakeArchive

NAME = "phantom-1"


class Registrar:
    """Stands in for the registration: counts, and does what a test asks of it."""

    def __init__(self) -> None:
        self.calls = 0
        self.before_each: Callable[[], None] = lambda: None
        self.accepted = True

    def __call__(
        self, fixed: hd.Volume, moving: hd.Volume, **more: object
    ) -> Registration:
        self.calls += 1
        self.before_each()
        reason = "ok" if self.accepted else "poor-agreement"
        return Registration(np.eye(4), 0.8, 1.0, self.accepted, reason)


@pytest.fixture
def registrar(monkeypatch: pytest.MonkeyPatch) -> Registrar:
    registrar = Registrar()
    monkeypatch.setattr(follow_job, "register", registrar)
    return registrar


@pytest.fixture(scope="module")
def images() -> list[Dataset]:
    return dicom_series(make_head(Grid((8, 32, 32), (5.0, 4.0, 4.0))))


class Patient:
    """A patient in database and archive, and the worker that lines the visits up."""

    def __init__(
        self, engine: Engine, settings: Settings, images: list[Dataset]
    ) -> None:
        self.engine = engine
        self.archive = FakeArchive()
        self.queue = JobQueue(engine, settings)
        self._settings = settings
        self._images = images

    def visit(self, number: int, *, archived: bool = True, **other: object) -> str:
        """Add a visit with one lesion, always at the same place."""
        result = add_visit(self.engine, NAME, number, lesions=1, **other)
        study_uid = visit_uid(NAME, number)
        if archived:
            copies = []
            for index, image in enumerate(self._images):
                copy = Dataset(image)
                copy.file_meta = Dataset(image.file_meta)
                copy.PatientID = NAME
                copy.StudyInstanceUID = study_uid
                copy.SeriesInstanceUID = f"{study_uid}.1"
                copy.SOPInstanceUID = f"{study_uid}.1.{index + 1}"
                copies.append(copy)
            self.archive.put(copies)
        with transaction(self.engine) as session:
            relink(session, key_of_study(session, study_uid))
        return result

    @property
    def key(self) -> str:
        with reading(self.engine) as session:
            return key_of_study(session, visit_uid(NAME, 1))

    def jobs(self) -> list[Job]:
        with reading(self.engine) as session:
            return list(list_jobs(session)[0])

    def run(self, queue: JobQueue | None = None, worker: str = "worker") -> Job:
        """Take the next job and run it as a worker does."""
        queue = queue or self.queue
        job = queue.claim(worker)
        assert job is not None
        context = JobContext(queue, job, threading.Event(), 1.0)
        FollowRunner(self.engine, self.archive)(job, context)
        return queue.get(job.id)

    def tracks(self) -> PatientTracks:
        with reading(self.engine) as session:
            return load_tracks(session, self.key)

    def reasons(self) -> list[str]:
        """Give, visit by visit after the first, why it was not accepted."""
        with reading(self.engine) as session:
            visits = load_visits(session, self.key)
            series = [visit.result.series_uid for visit in visits if visit.result]
            found = list_registrations(session, series[0], series)
        return [found[uid].reason if uid in found else "missing" for uid in series[1:]]

    def states(self) -> set[str]:
        return {member.state for member in self.tracks().members}


@pytest.fixture
def patient(engine: Engine, settings: Settings, images: list[Dataset]) -> Patient:
    return Patient(engine, settings, images)


def test_a_first_visit_is_linked_at_once_and_needs_no_job(patient):
    patient.visit(0)
    assert patient.jobs() == []


def test_one_job_lines_up_all_visits_and_comes_after_what_people_wait_for(
    patient, registrar
):
    for number in range(3):
        patient.visit(number)
    (job,) = patient.jobs()
    assert (job.kind, job.state) == (FOLLOW, "queued")
    urgent, _ = patient.queue.submit(visit_uid(NAME, 0))
    claimed = patient.queue.claim("worker")
    assert claimed is not None
    assert claimed.id == urgent.id
    assert patient.run().state == "succeeded"
    assert registrar.calls == 2
    (track,) = patient.tracks().tracks
    assert track.label == "M1"
    assert patient.states() == {"automatic"}
    assert [m.relation for m in _by_visit(patient)] == ["first", "same", "same"]


def _by_visit(patient: Patient):
    return sorted(patient.tracks().members, key=lambda one: one.study_uid)


def test_a_refused_registration_waits_for_the_reader_and_is_not_tried_again(
    patient, registrar
):
    registrar.accepted = False
    patient.visit(0)
    patient.visit(1)
    assert patient.run().state == "succeeded"
    assert patient.reasons() == ["poor-agreement"]
    assert sorted(m.state for m in patient.tracks().members) == ["automatic", "pending"]
    with transaction(patient.engine) as session:
        relink(session, patient.key)
    assert [job.state for job in patient.jobs()] == ["succeeded"]


def test_a_worker_that_dies_leaves_what_it_has_done(
    patient, registrar, settings, monkeypatch
):
    for number in range(4):
        patient.visit(number)

    class KilledError(BaseException):
        pass

    def die_at_the_third() -> None:
        if registrar.calls == 3:
            raise KilledError

    registrar.before_each = die_at_the_third
    with pytest.raises(KilledError):
        patient.run()
    assert patient.reasons() == ["", "", "missing"]
    later = JobQueue(
        patient.engine,
        settings,
        clock=lambda session: (
            database_time(session) + timedelta(seconds=settings.job_lease_s + 1)
        ),
    )
    registrar.before_each = lambda: None
    done = patient.run(later, "another")
    assert (done.state, done.deaths) == ("succeeded", 1)
    assert registrar.calls == 4  # what was there was not made again
    assert patient.reasons() == ["", "", ""]
    assert len(patient.tracks().tracks) == 1


def test_a_visit_that_comes_meanwhile_is_not_forgotten(patient, registrar):
    patient.visit(0)
    patient.visit(1)

    def arrive() -> None:
        registrar.before_each = lambda: None
        patient.visit(2)

    registrar.before_each = arrive
    patient.run()
    assert [job.state for job in patient.jobs()] == ["succeeded"]
    assert patient.reasons() == ["", ""]


def test_an_earlier_visit_makes_a_new_baseline(patient, registrar):
    patient.visit(1)
    patient.visit(2)
    patient.run()
    (before,) = patient.tracks().tracks
    patient.visit(0)
    assert patient.reasons() == ["missing", "missing"]
    patient.run()
    assert patient.reasons() == ["", ""]
    (after,) = patient.tracks().tracks
    assert (after.id, after.tracking_uid) == (before.id, before.tracking_uid)
    assert [m.relation for m in _by_visit(patient)] == ["first", "same", "same"]


def test_cancelled_and_asked_for_again(patient, registrar):
    patient.visit(0)
    patient.visit(1)
    job = patient.queue.claim("worker")
    assert job is not None
    context = JobContext(patient.queue, job, threading.Event(), 1.0)
    patient.queue.cancel(job.id)
    context.beat()
    run = FollowRunner(patient.engine, patient.archive)
    with pytest.raises(MetiaError, match="job-cancelled"):
        run(job, context)
    patient.queue.fail(context.fence, MetiaError("job-cancelled", "asked"))
    assert patient.reasons() == ["missing"]
    with transaction(patient.engine) as session:
        relink(session, job.parameters["patient_key"])
    assert sorted(one.state for one in patient.jobs()) == ["cancelled", "queued"]


def test_an_archive_that_does_not_answer_puts_the_job_off(patient, registrar):
    patient.visit(0)
    patient.visit(1)
    patient.archive.fail_with = MetiaError("archive-unavailable", "down")
    with pytest.raises(MetiaError, match="archive-unavailable"):
        patient.run()
    assert patient.reasons() == ["missing"]


def test_images_that_are_gone_are_recorded_as_such(patient, registrar):
    patient.visit(0)
    patient.visit(1, archived=False)
    patient.visit(2)
    assert patient.run().state == "succeeded"
    assert patient.reasons() == ["study-not-found", ""]
    assert {m.state for m in _by_visit(patient)} == {"automatic", "pending"}


def test_a_baseline_without_images_refuses_all(patient, registrar):
    patient.visit(0, archived=False)
    patient.visit(1)
    patient.visit(2)
    assert patient.run().state == "succeeded"
    assert patient.reasons() == ["study-not-found"] * 2
    assert registrar.calls == 0


def test_images_that_show_nothing_are_no_failure_of_the_job(patient, registrar):
    patient.visit(0)
    patient.visit(1)

    def refuse() -> None:
        raise MetiaError("volume-bad-pixels", "The image shows nothing.")

    registrar.before_each = refuse
    assert patient.run().state == "succeeded"
    assert patient.reasons() == ["volume-bad-pixels"]


# -- what readers do -----------------------------------------------------------


def test_a_reader_decides_and_takes_it_back(patient, registrar):
    patient.visit(0)
    patient.visit(1)
    patient.run()
    second = _by_visit(patient)[1]
    key = (second.study_uid, second.finding_uid)
    with transaction(patient.engine) as session:
        assert track_of(session, patient.key, key) == second.track_id
        add_decision(
            session,
            patient.key,
            DecisionRecord(*key, "unlink", second.track_id),
            by="reader",
        )
        relink(session, patient.key)
    apart = _by_visit(patient)
    assert apart[0].track_id == second.track_id
    assert apart[1].track_id != second.track_id
    assert (apart[1].state, apart[1].by) == ("confirmed", "reader")
    with transaction(patient.engine) as session:
        undo_last_decision(session, patient.key, by="reader")
        relink(session, patient.key)
    again = _by_visit(patient)[1]
    assert (again.track_id, again.state, again.by) == (
        second.track_id,
        "automatic",
        None,
    )
    assert len(patient.tracks().tracks) == 1


def test_rejected_lesions_are_not_followed(patient, registrar):
    patient.visit(0)
    result = patient.visit(1)
    patient.run()
    with transaction(patient.engine) as session:
        review_result(session, result, expected_revision=1, state="rejected")
        recompute_links(session, patient.key)
    assert [m.relation for m in patient.tracks().members] == ["first"]


def test_another_model_on_the_same_day_does_not_lose_the_track(patient, registrar):
    patient.visit(0)
    patient.visit(1)
    patient.run()
    before = patient.tracks()
    patient.visit(0, letter="b")  # newer, so it is the current one
    after = patient.tracks()
    assert [t.id for t in after.tracks] == [t.id for t in before.tracks]
    assert {m.finding_uid for m in after.members} != {
        m.finding_uid for m in before.members
    }
    assert [m.relation for m in _by_visit(patient)] == ["first", "same"]


def test_labels_of_what_only_waited_are_not_used_up(patient, registrar):
    patient.visit(0)
    patient.visit(1)
    assert sorted(track.label for track in patient.tracks().tracks) == ["M1", "U1"]
    patient.run()
    assert [track.label for track in patient.tracks().tracks] == ["M1"]
