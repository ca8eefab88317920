"""Three visits from the archive to tracks: real model, real registration, both ends.

The sample patient's images go into an archive in memory; the jobs are taken from a real
queue as a worker takes them. What comes out is held against the truth of the phantom,
in whatever order the visits were segmented.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest

from db import schema
from db.engine import Engine, make_engine, reading, transaction
from db.jobs import FOLLOW
from db.links import DecisionRecord, add_decision, undo_last_decision
from db.patients import find_patients
from db.registrations import list_registrations
from db.tracks import Member, load_tracks
from db.visits import load_visits
from segmentation.followup import follow_job
from segmentation.followup.assess import assess
from segmentation.followup.course import patient_case
from segmentation.followup.course_rows import load_course
from segmentation.followup.follow_job import FollowRunner
from segmentation.followup.linking import absorbed_tracks, recompute_links, relink
from segmentation.followup.registration import Registration, register
from segmentation.followup.results import Category
from segmentation.followup.rules import rule_sets
from segmentation.job_context import JobContext
from segmentation.jobs import JobQueue
from segmentation.models.registry import ModelRegistry, load_predictor
from segmentation.phantoms import (
    VISITS,
    SampleVisit,
    draw_sample_visit,
    motion_between,
)
from segmentation.pipeline import Outcome, Request, run_segmentation
from segmentation.runner import record_outcome
from settings import Settings
from tests.fake_archive import FakeArchive

TARGETS = ("anterior", "parietal", "cerebellar")


@dataclass
class Patient:
    """The sample patient's images, and what the model finds in each visit."""

    visits: dict[int, SampleVisit]
    archive: FakeArchive
    outcomes: dict[str, Outcome]
    names: dict[tuple[str, int], str]
    """Study and number of the lesion -> what it is in truth."""


class _Silent:
    def report(self, step: str, progress: float) -> None:
        pass

    def cancelled(self) -> bool:
        return False

    def ensure_owner(self) -> None:
        pass


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    (folder,) = (
        model
        for model in ModelRegistry(settings.model_dirs).models()
        if model.identity.name == "phantom-threshold"
    )
    predictor = load_predictor(folder, device="cpu", threads=2)
    archive = FakeArchive()
    visits, outcomes, names = {}, {}, {}
    for number in VISITS:
        visit = draw_sample_visit(number, only_post_contrast=True)
        archive.put(visit.images)

        def keep(outcome: Outcome) -> None:
            outcomes[outcome.study_uid] = outcome

        run_segmentation(
            Request(visit.study_uid, None),
            _Silent(),
            archive,
            predictor,
            keep,
            stable_timeout_s=1.0,
        )
        for lesion in outcomes[visit.study_uid].analysis.lesion_map.lesions:
            names[visit.study_uid, lesion.number] = _true_name(visit, lesion)
        visits[number] = visit
    return Patient(visits, archive, outcomes, names)


def _true_name(visit: SampleVisit, lesion: object) -> str:
    """Give the largest true lesion whose centre lies where the model drew `lesion`."""
    axis = np.asarray(lesion.long_axis_mm)  # type: ignore[attr-defined]
    reach = np.linalg.norm(axis[1] - axis[0]) / 2
    near = [
        (truth.volume_ml, name)
        for name, truth in zip(visit.names, visit.post_contrast.lesions, strict=True)
        if np.linalg.norm(np.subtract(truth.centre_mm, axis.mean(axis=0))) < reach
    ]
    return max(near)[1]


@pytest.fixture(scope="module")
def remembered() -> Callable[..., Registration]:
    """``register`` that computes each pair of images once a module."""
    known: dict[tuple[bytes, bytes], Registration] = {}

    def remember(fixed: hd.Volume, moving: hd.Volume, **more: object) -> Registration:
        key = (_digest(fixed), _digest(moving))
        if key not in known:
            known[key] = register(fixed, moving, **more)  # type: ignore[arg-type]
        return known[key]

    return remember


def _digest(volume: hd.Volume) -> bytes:
    return bytes(volume.affine.tobytes() + volume.array[::40, ::40, ::40].tobytes())


@dataclass
class Service:
    """A database with a queue and what a worker does with it."""

    engine: Engine
    settings: Settings
    patient: Patient

    def press(self, visit: int) -> None:
        """Have a visit segmented, as the button does."""
        queue = JobQueue(self.engine, self.settings)
        study_uid = self.patient.visits[visit].study_uid
        queue.submit(study_uid)
        job = queue.claim("worker")
        assert job is not None
        assert job.kind == "segmentation"  # before every job that only lines up visits
        outcome = self.patient.outcomes[study_uid]
        context = JobContext(queue, job, threading.Event(), 1.0)
        context.record(lambda session: record_outcome(session, job, outcome))

    def line_up(self) -> int:
        """Work off the follow jobs; gives how many there were."""
        queue = JobQueue(self.engine, self.settings)
        run = FollowRunner(self.engine, self.patient.archive)
        count = 0
        while (job := queue.claim("worker")) is not None:
            assert job.kind == FOLLOW
            run(job, JobContext(queue, job, threading.Event(), 1.0))
            assert queue.get(job.id).state == "succeeded"
            count += 1
        return count

    @property
    def key(self) -> str:
        with reading(self.engine) as session:
            (patient,), _ = find_patients(session)
        return patient.id

    def story(self) -> dict[str, list[tuple[int, str, str, str]]]:
        """Give label -> (visit, true name, relation, state) in order of visits."""
        with reading(self.engine) as session:
            tracks = load_tracks(session, self.key)
            visits = load_visits(session, self.key)
        number = {v.study_uid: n for n, v in self.patient.visits.items()}
        lesion = {
            (visit.study_uid, lesion.finding_uid): lesion.segment_number
            for visit in visits
            for lesion in visit.result.lesions
        }
        told: dict[str, list[tuple[int, str, str, str]]] = {}
        for track in tracks.tracks:
            members = [one for one in tracks.members if one.track_id == track.id]
            told[track.label] = sorted(
                (
                    number[one.study_uid],
                    self.patient.names[
                        one.study_uid, lesion[one.study_uid, one.finding_uid]
                    ],
                    one.relation,
                    one.state,
                )
                for one in members
            )
        return told

    def merged(self) -> Member:
        with reading(self.engine) as session:
            (member,) = (
                one
                for one in load_tracks(session, self.key).members
                if one.relation == "merge"
            )
        return member

    def categories(self) -> list[Category]:
        with reading(self.engine) as session:
            case = patient_case(load_course(session, self.key)).case
        assert case is not None
        answer = assess(case, rule_sets()["rano-bm"])
        return [visit.category for visit in answer.visits]


@pytest.fixture
def make_service(tmp_path: Path, patient: Patient) -> Iterator[Callable[[], Service]]:
    engines = []

    def make() -> Service:
        url = f"sqlite:///{tmp_path / f'{len(engines)}.sqlite'}"
        engine = make_engine(url)
        engines.append(engine)
        schema.upgrade(engine)
        return Service(engine, Settings(data_dir=tmp_path, database_url=url), patient)

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture(autouse=True)
def _register_once(
    monkeypatch: pytest.MonkeyPatch, remembered: Callable[..., Registration]
) -> None:
    monkeypatch.setattr(follow_job, "register", remembered)


def _same(name: str, *visits: int) -> list[tuple[int, str, str, str]]:
    first, *rest = visits
    start = "first" if first == 1 else "new"
    return [
        (first, name, start, "automatic"),
        *((visit, name, "same", "automatic") for visit in rest),
    ]


TRUTH = [
    _same("anterior", 1, 2, 3),
    _same("parietal", 1, 2, 3),
    _same("cerebellar", 1, 2, 3),
    _same("temporal", 1, 2, 3),
    [*_same("superior", 1, 2), (3, "superior", "merge", "pending")],
    _same("frontal", 1),
    _same("inferior", 1, 2),
    _same("occipital", 1, 2, 3),
    _same("new", 3),
]


@pytest.mark.parametrize("order", list(permutations(VISITS)))
def test_the_visits_line_up_in_whatever_order_they_come(make_service, order):
    service = make_service()
    for visit in order:
        service.press(visit)
        service.line_up()
    assert sorted(service.story().values()) == sorted(TRUTH)
    assert service.categories() == [Category.BASELINE, Category.PR, Category.PD]


def test_three_presses_before_the_first_is_lined_up(make_service):
    service = make_service()
    for visit in VISITS:
        service.press(visit)
    assert service.line_up() == 1  # one job for all
    story = service.story()
    assert [story[f"M{n + 1}"] for n in range(9)] == TRUTH  # in order of size
    assert service.line_up() == 0
    with transaction(service.engine) as session:
        before = load_tracks(session, service.key)
        assert recompute_links(session, service.key) == before
        relink(session, service.key)
    assert service.line_up() == 0


def test_the_registrations_are_true(make_service, patient):
    service = make_service()
    for visit in VISITS:
        service.press(visit)
    service.line_up()
    series = {n: patient.visits[n].post_contrast_series_uid for n in VISITS}
    with reading(service.engine) as session:
        found = list_registrations(session, series[1], series.values())
    head = patient.visits[1].post_contrast
    points = np.array([lesion.centre_mm for lesion in head.lesions])
    for visit in (2, 3):
        registration = found[series[visit]]
        assert registration.accepted
        assert registration.reason == ""
        assert registration.quality > 0.7
        there = (
            np.c_[points, np.ones(len(points))] @ np.linalg.inv(motion_between(visit)).T
        )
        back = there @ np.array(registration.matrix).T
        assert np.linalg.norm(back[:, :3] - points, axis=1).max() < 0.1


def test_until_it_is_lined_up_nothing_is_said_of_a_visit(make_service):
    service = make_service()
    service.press(1)
    assert service.line_up() == 0  # one visit needs nothing but itself
    assert len(service.story()) == 8
    service.press(2)
    waiting = [
        member
        for label in service.story().values()
        for member in label
        if member[0] == 2
    ]
    assert len(waiting) == 7
    assert {(relation, state) for _, _, relation, state in waiting} == {
        ("new", "pending")
    }
    assert service.categories() == [Category.BASELINE, Category.NE]
    service.line_up()
    assert service.categories() == [Category.BASELINE, Category.PR]


def test_a_reader_confirms_the_fusion_and_takes_it_back(make_service):
    service = make_service()
    for visit in VISITS:
        service.press(visit)
    service.line_up()
    merged = service.merged()
    label = {track.id: track.label for track in _tracks(service)}
    (gone,) = absorbed_tracks(merged)
    assert service.story()[label[gone]] == _same("inferior", 1, 2)
    with transaction(service.engine) as session:
        record = DecisionRecord(
            merged.study_uid, merged.finding_uid, "confirm", merged.track_id
        )
        add_decision(session, service.key, record, by="reader")
        relink(session, service.key)
    confirmed = service.merged()
    assert (confirmed.state, confirmed.by) == ("confirmed", "reader")
    assert service.categories() == [Category.BASELINE, Category.PR, Category.PD]
    with transaction(service.engine) as session:
        undo_last_decision(session, service.key, by="reader")
        relink(session, service.key)
    undone = service.merged()
    assert (undone.state, undone.by) == ("pending", None)
    assert undone.track_id == merged.track_id


def _tracks(service: Service):
    with reading(service.engine) as session:
        return load_tracks(session, service.key).tracks


def test_tracks_keep_their_names_when_an_earlier_visit_arrives(make_service):
    service = make_service()
    for visit in (2, 3):
        service.press(visit)
    service.line_up()
    before = {track.id: (track.tracking_uid, track.label) for track in _tracks(service)}
    members = {
        (one.study_uid, one.finding_uid): one.track_id for one in _members(service)
    }
    service.press(1)
    service.line_up()
    after = {track.id: (track.tracking_uid, track.label) for track in _tracks(service)}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1  # the one that was gone by then
    now = {(one.study_uid, one.finding_uid): one.track_id for one in _members(service)}
    assert members.items() <= now.items()


def _members(service: Service):
    with reading(service.engine) as session:
        return load_tracks(session, service.key).members


def test_a_study_whose_patient_was_corrected_leaves_the_former_follow_up(
    make_service,
):
    service = make_service()
    service.press(1)
    service.press(2)
    service.line_up()
    former = service.key
    moved = service.patient.visits[2].study_uid
    images = service.patient.outcomes[moved].analysis.source.source_images
    true_id = images[0].PatientID
    images[0].PatientID = "CORRECTED"
    try:
        service.press(2)
    finally:
        images[0].PatientID = true_id
    with reading(service.engine) as session:
        patients, _ = find_patients(session)
        (other,) = {one.id for one in patients} - {former}
        at = {
            key: {one.study_uid for one in load_tracks(session, key).members}
            for key in (former, other)
        }
    assert at == {former: {service.patient.visits[1].study_uid}, other: {moved}}
