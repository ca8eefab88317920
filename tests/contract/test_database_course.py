"""Visits, plans, events, assessments and follow jobs, on both kinds of database."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import event, text

from db.assessments import (
    AssessmentRecord,
    get_assessment,
    latest_assessment,
    latest_of_patient,
    list_assessments,
    sign_assessment,
)
from db.engine import Engine, database_time, reading, transaction
from db.jobs import JobRequest, enqueue
from db.patients import key_of_study, lock_patient
from db.plans import (
    EventRecord,
    Plan,
    PlanRecord,
    add_event,
    delete_event,
    get_plan,
    list_events,
    save_plan,
)
from db.results import get_result, record_result
from db.reviews import review_result
from db.visits import (
    Candidate,
    VisitReading,
    VisitReadingRecord,
    current_result_id,
    get_reading,
    load_visit,
    load_visits,
    save_reading,
    select_result,
)
from errors import MetiaError
from segmentation.jobs import JobQueue
from settings import Settings
from tests.contract.sample_rows import (
    add_patient,
    add_visit,
    make_version,
    visit_uid,
)

NAME = "phantom-1"


@pytest.fixture
def patient(engine: Engine) -> str:
    return add_patient(engine, NAME, visits=3)


# -- the result that counts ----------------------------------------------------

_START = datetime(2026, 1, 1, tzinfo=UTC)


def candidate(
    key: str,
    *,
    after: str | None = None,
    origin: str = "model",
    state: str = "unverified",
    minute: int = 0,
) -> Candidate:
    return Candidate(key, "1.2", after, origin, state, _START + timedelta(0, minute))


@pytest.mark.parametrize(
    ("found", "selected", "expected"),
    [
        ([], None, None),
        ([candidate("a")], None, "a"),
        ([candidate("a", minute=1), candidate("b", minute=2)], None, "b"),
        # Of a model, but a reader accepted it.
        ([candidate("a", state="accepted"), candidate("b", minute=9)], None, "a"),
        ([candidate("a", state="signed"), candidate("b", minute=9)], None, "a"),
        ([candidate("a", origin="import"), candidate("b", minute=9)], None, "a"),
        # An edit counts from its newest version.
        (
            [candidate("a"), candidate("b", after="a", origin="reader", minute=1),
             candidate("c", after="b", origin="reader", minute=2)],
            None, "c",
        ),
        ([candidate("a", state="rejected")], None, None),
        # A rejected edit does not bring back what it replaced.
        (
            [candidate("a"),
             candidate("b", after="a", origin="reader", state="rejected")],
            None, None,
        ),
        (
            [candidate("a", state="rejected"), candidate("b", minute=-5)],
            None, "b",
        ),
        # Two chains of readers: the newer.
        (
            [candidate("a", origin="reader", minute=3),
             candidate("b", origin="reader", minute=4)],
            None, "b",
        ),
        # What a reader selected, or its newest version.
        ([candidate("a"), candidate("b", minute=9)], "a", "a"),
        (
            [candidate("a"), candidate("b", after="a", origin="reader", minute=1),
             candidate("x", state="accepted", minute=9)],
            "a", "b",
        ),
        # ... unless it was rejected since, or is of another visit.
        ([candidate("a", state="rejected"), candidate("b")], "a", "b"),
        ([candidate("a")], "z", "a"),
    ],
)  # fmt: skip
def test_one_result_of_a_visit_counts(
    found: list[Candidate], selected: str | None, expected: str | None
) -> None:
    for order in itertools.permutations(found):
        assert current_result_id(order, selected) == expected


def test_visits_come_by_date_with_what_counts(engine: Engine, patient: str) -> None:
    first = add_visit(engine, NAME, 0)
    accepted = add_visit(engine, NAME, 1)
    newer = add_visit(engine, NAME, 1, letter="b")
    rejected = add_visit(engine, NAME, 2)
    with transaction(engine) as session:
        review_result(session, accepted, expected_revision=1, state="accepted")
        review_result(session, rejected, expected_revision=1, state="rejected")
        made = make_version(get_result(session, first), "b")
        second = record_result(session, made, expected_revision=1)
    with reading(engine) as session:
        visits = load_visits(session, patient)
        assert [visit.study_uid for visit in visits] == [
            visit_uid(NAME, number) for number in range(3)
        ]
        assert [visit.result and visit.result.id for visit in visits] == [
            second,
            accepted,
            None,
        ]
        assert [visit.result_count for visit in visits] == [2, 2, 1]
        assert [visit.reading.revision for visit in visits] == [0, 0, 0]
        assert load_visit(session, visit_uid(NAME, 1)) == visits[1]
        assert load_visit(session, "9.9") is None
        assert load_visits(session, "0" * 32) == ()
    with transaction(engine) as session:
        select_result(session, visit_uid(NAME, 1), newer, expected_revision=0, by="ann")
    with reading(engine) as session:
        visit = load_visit(session, visit_uid(NAME, 1))
    assert visit is not None
    assert visit.result is not None
    assert visit.result.id == newer
    assert visit.reading.selected_result_id == newer


def test_number_of_queries_does_not_grow_with_visits(
    engine: Engine, patient: str
) -> None:
    asked: list[str] = []
    event.listen(
        engine, "before_cursor_execute", lambda *call: asked.append(str(call[2]))
    )

    def count() -> int:
        asked.clear()
        with reading(engine) as session:
            load_visits(session, patient)
        return len(asked)

    few = count()
    for number in range(3, 12):
        add_visit(engine, NAME, number)
    assert count() == few
    assert few <= 12


# -- readings of visits --------------------------------------------------------


def test_reading_is_saved_beside_what_was_selected(
    engine: Engine, patient: str
) -> None:
    study = visit_uid(NAME, 0)
    record = VisitReadingRecord(
        steroid_use="pharmacological",
        steroid_change="decreased",
        steroid_dose_tenths_mg=40,
        clinical="better",
        non_target="non_cr_non_pd",
        technique_changed=True,
        extracranial_response="SD",
        note="other scanner",
    )
    result_id = add_visit(engine, NAME, 0)
    with transaction(engine) as session:
        assert get_reading(session, study) == VisitReading(study_uid=study)
        first = select_result(session, study, result_id, expected_revision=0, by="ann")
        assert first.revision == 1
    with transaction(engine) as session:
        second = save_reading(session, study, record, expected_revision=1, by="bob")
    with reading(engine) as session:
        assert get_reading(session, study) == second
    assert second.revision == 2
    assert second.author == "bob"
    assert second.selected_result_id == result_id
    for name in record.__dataclass_fields__:
        assert getattr(second, name) == getattr(record, name), name
    with transaction(engine) as session:
        third = select_result(session, study, None, expected_revision=2, by="ann")
    assert third.selected_result_id is None
    assert third.note == "other scanner"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steroid_use", "plenty"),
        ("steroid_change", "wild"),
        ("steroid_dose_tenths_mg", -1),
        ("clinical", "fine"),
        ("non_target", "maybe"),
        ("extracranial_response", "XX"),
    ],
)
def test_database_refuses_a_visit_reading(
    engine: Engine, patient: str, field: str, value: object
) -> None:
    record = replace(VisitReadingRecord(), **{field: value})  # type: ignore[arg-type]
    with pytest.raises(MetiaError, match="conflict"), transaction(engine) as session:
        save_reading(session, visit_uid(NAME, 0), record, expected_revision=0, by="ann")


def test_result_of_another_visit_cannot_be_selected(
    engine: Engine, patient: str
) -> None:
    other = add_visit(engine, NAME, 1)
    with (
        pytest.raises(MetiaError, match="invalid-input"),
        transaction(engine) as session,
    ):
        select_result(session, visit_uid(NAME, 0), other, expected_revision=0, by="ann")


def test_unknown_study_has_no_reading(engine: Engine) -> None:
    with pytest.raises(MetiaError, match="not-found"), transaction(engine) as session:
        save_reading(
            session, "9.9", VisitReadingRecord(), expected_revision=0, by="ann"
        )


@pytest.mark.parametrize("expected", [0, 1])
def test_of_two_readers_of_a_visit_exactly_one_wins(
    engine: Engine, patient: str, expected: int
) -> None:
    study = visit_uid(NAME, 0)

    def write(note: str) -> str:
        record = VisitReadingRecord(note=note)
        try:
            with transaction(engine) as session:
                save_reading(
                    session, study, record, expected_revision=expected, by=note
                )
        except MetiaError as error:
            return f"{error.code} {error.facts['current_revision']}"
        return "done"

    if expected:
        with transaction(engine) as session:
            save_reading(
                session, study, VisitReadingRecord(), expected_revision=0, by="x"
            )
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(write, "abcd"))
    assert sorted(done) == ["done", *[f"edit-conflict {expected + 1}"] * 3]
    with reading(engine) as session:
        assert get_reading(session, study).note == "abcd"[done.index("done")]


# -- plan and events -----------------------------------------------------------


def test_plan_is_saved_by_revision(engine: Engine, patient: str) -> None:
    record = PlanRecord(
        treatment_start=date(2026, 1, 2),
        immunotherapy_start=date(2026, 1, 3),
        baseline_study_uid=visit_uid(NAME, 1),
        rule_set="recist-1.1",
        protocol={"max_targets": 3},
        resets=({"study_uid": visit_uid(NAME, 2), "reason": "new line"},),
    )
    with transaction(engine) as session:
        assert get_plan(session, patient) == Plan(patient_key=patient)
        saved = save_plan(session, patient, record, expected_revision=0, by="ann")
    with transaction(engine) as session:
        assert get_plan(session, patient) == saved
        for name in record.__dataclass_fields__:
            assert getattr(saved, name) == getattr(record, name), name
        assert (saved.revision, saved.author) == (1, "ann")
        with pytest.raises(MetiaError, match="edit-conflict") as caught:
            save_plan(session, patient, PlanRecord(), expected_revision=0, by="bob")
        assert caught.value.facts == {"current_revision": 1}


@pytest.mark.parametrize(
    "other",
    [
        {"baseline_study_uid": "9.9"},
        {"baseline_study_uid": visit_uid("phantom-2", 0)},
        {"resets": ({"study_uid": visit_uid("phantom-2", 0), "reason": ""},)},
    ],
)
def test_plan_speaks_of_the_patients_own_visits(
    engine: Engine, patient: str, other: dict[str, object]
) -> None:
    add_patient(engine, "phantom-2")
    record = replace(PlanRecord(), **other)  # type: ignore[arg-type]
    with (
        pytest.raises(MetiaError, match="invalid-input"),
        transaction(engine) as session,
    ):
        save_plan(session, patient, record, expected_revision=0, by="ann")


def test_of_two_planners_exactly_one_wins(engine: Engine, patient: str) -> None:
    def write(by: str) -> str:
        try:
            with transaction(engine) as session:
                save_plan(session, patient, PlanRecord(), expected_revision=0, by=by)
        except MetiaError as error:
            return error.code
        return "done"

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(write, "abcd")) == ["done", *["edit-conflict"] * 3]


def test_events_come_by_date_and_go_one_by_one(engine: Engine, patient: str) -> None:
    other = add_patient(engine, "phantom-2")
    with transaction(engine) as session:
        for day in (3, 1, 2):
            record = EventRecord(date(2026, 1, day), "radiosurgery", f"on {day}")
            add_event(session, patient, record, by="ann")
    with transaction(engine) as session:
        events = list_events(session, patient)
        assert [one.date.day for one in events] == [1, 2, 3]
        with pytest.raises(MetiaError, match="not-found"):
            delete_event(session, other, events[0].id)
        assert delete_event(session, patient, events[0].id) == events[0]
        assert list_events(session, patient) == events[1:]
        with pytest.raises(MetiaError, match="not-found"):
            delete_event(session, patient, events[0].id)
        wrong = EventRecord(date(2026, 1, 1), "surgery", track_id="0" * 32)
        with pytest.raises(MetiaError, match="invalid-input"):
            add_event(session, patient, wrong, by="ann")


# -- assessments ---------------------------------------------------------------


def make_assessment(number: int = 0, **other: object) -> AssessmentRecord:
    made = AssessmentRecord(
        study_uid=visit_uid(NAME, number),
        rule_set="rano-bm",
        rules_version="1.0",
        proposed_category="PR",
        category="SD",
        comment="seen together",
        case_json={"visits": [1, {"sum": 12.5}]},
        document_json={"category": "PR"},
        inputs_sha256="c" * 64,
    )
    return replace(made, **other)  # type: ignore[arg-type]


def test_assessments_supersede_each_other_in_a_line(
    engine: Engine, patient: str
) -> None:
    with transaction(engine) as session:
        first = sign_assessment(session, make_assessment(), by="ann")
        recist = sign_assessment(
            session, make_assessment(rule_set="recist-1.1"), by="ann"
        )
        other = sign_assessment(session, make_assessment(1), by="ann")
    with transaction(engine) as session:
        second = sign_assessment(session, make_assessment(comment="again"), by="bob")
    study = visit_uid(NAME, 0)
    with reading(engine) as session:
        assert (first.supersedes_id, second.supersedes_id) == (None, first.id)
        assert get_assessment(session, first.id) == first
        assert first.case_json == {"visits": [1, {"sum": 12.5}]}
        assert first.patient_key == patient
        assert list_assessments(session, study)[0].id == second.id
        assert len(list_assessments(session, study)) == 3
        latest = latest_assessment(session, study, "rano-bm")
        assert latest is not None
        assert latest.id == second.id
        assert {
            key: one.id for key, one in latest_of_patient(session, patient).items()
        } == {
            (study, "rano-bm"): second.id,
            (study, "recist-1.1"): recist.id,
            (visit_uid(NAME, 1), "rano-bm"): other.id,
        }
        with pytest.raises(MetiaError, match="not-found"):
            get_assessment(session, "0" * 32)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE assessment SET category = 'CR'",
        "UPDATE assessment SET signed_by = 'nobody'",
        "DELETE FROM assessment",
        "REPLACE INTO assessment SELECT * FROM assessment",
        "TRUNCATE assessment",
    ],
)
def test_assessment_cannot_be_changed(
    engine: Engine, patient: str, database_kind: str, statement: str
) -> None:
    if statement.startswith("TRUNCATE" if database_kind == "sqlite" else "REPLACE"):
        return  # the other database's words
    with transaction(engine) as session:
        signed = sign_assessment(session, make_assessment(), by="ann")
    with pytest.raises(MetiaError, match="conflict"), transaction(engine) as session:
        session.execute(text(statement))
    with reading(engine) as session:
        assert get_assessment(session, signed.id) == signed


@pytest.mark.parametrize(
    "other", [{"category": ""}, {"inputs_sha256": "short"}, {"rule_set": ""}]
)
def test_database_refuses_an_assessment(
    engine: Engine, patient: str, other: dict[str, object]
) -> None:
    with pytest.raises(MetiaError, match="conflict"), transaction(engine) as session:
        sign_assessment(session, make_assessment(**other), by="ann")
    with pytest.raises(MetiaError, match="conflict"), transaction(engine) as session:
        sign_assessment(session, make_assessment(), by="")


def test_signatures_at_once_stay_in_a_line(engine: Engine, patient: str) -> None:
    def sign(by: str) -> None:
        with transaction(engine) as session:
            sign_assessment(session, make_assessment(), by=by)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(sign, "abcdef"))
    with reading(engine) as session:
        chain = list_assessments(session, visit_uid(NAME, 0))
    assert len({one.supersedes_id for one in chain}) == 6


# -- follow jobs ---------------------------------------------------------------


def test_one_follow_job_a_patient_is_active(
    engine: Engine, patient: str, settings: Settings
) -> None:
    queue = JobQueue(engine, settings)
    job, is_new = queue.submit(
        visit_uid(NAME, 0), kind="follow", queue="cpu",
        parameters={"patient_key": patient},
    )  # fmt: skip
    assert is_new
    with transaction(engine) as session:
        asked = JobRequest.follow(patient, visit_uid(NAME, 1), "ann")
        same, is_new = enqueue(
            session, asked, max_attempts=3, now=database_time(session)
        )
    assert (same.id, is_new) == (job.id, False)
    other, is_new = queue.submit(
        visit_uid(NAME, 0), kind="follow", queue="cpu",
        parameters={"patient_key": "0" * 32},
    )  # fmt: skip
    assert is_new
    assert queue.submit(visit_uid(NAME, 0))[1]
    assert other.id != job.id


def test_follow_job_ends_without_a_result(
    engine: Engine, patient: str, settings: Settings
) -> None:
    from segmentation.jobs import Fence

    queue = JobQueue(engine, settings)
    queue.submit(
        visit_uid(NAME, 0), kind="follow", queue="cpu",
        parameters={"patient_key": patient},
    )  # fmt: skip
    job = queue.claim("worker-1", ["cpu"])
    assert job is not None
    fence = Fence(job.id, job.attempt, "worker-1")
    done = queue.complete(fence, lambda _: None)
    assert (done.state, done.result_id) == ("succeeded", None)
    assert queue.complete(fence, lambda _: None) == done


def test_segmentation_job_cannot_succeed_without_a_result(
    engine: Engine, patient: str, settings: Settings
) -> None:
    from segmentation.jobs import Fence

    queue = JobQueue(engine, settings)
    queue.submit(visit_uid(NAME, 0))
    job = queue.claim("worker-1")
    assert job is not None
    fence = Fence(job.id, job.attempt, "worker-1")
    with pytest.raises(MetiaError, match="conflict"):
        queue.complete(fence, lambda _: None)


def test_no_visit_is_forgotten_between_two_follow_jobs(
    engine: Engine, patient: str, settings: Settings
) -> None:
    """Recording a visit and ending a follow job under one lock, in any order."""
    from segmentation.jobs import Fence

    queue = JobQueue(engine, settings)
    seen = 0

    def arrive(number: int) -> None:
        with transaction(engine) as session:
            lock_patient(session, patient)
            record = EventRecord(date(2026, 1, 1), f"visit {number}")
            add_event(session, patient, record, by="worker")
            asked = JobRequest.follow(patient, visit_uid(NAME, 0))
            enqueue(session, asked, max_attempts=3, now=database_time(session))

    def follow(_: int) -> None:
        nonlocal seen
        owner = f"worker-{random.random()}"
        job = queue.claim(owner, ["cpu"])
        if job is None:
            return

        def look(session: object) -> None:
            nonlocal seen
            lock_patient(session, patient)  # type: ignore[arg-type]
            seen = len(list_events(session, patient))  # type: ignore[arg-type]

        queue.complete(Fence(job.id, job.attempt, owner), look)

    with ThreadPoolExecutor(4) as pool:
        for number in range(10):
            pool.submit(arrive, number)
            pool.submit(follow, number)
    follow(0)
    assert seen == 10


def test_patient_of_a_study_is_known_by_key(engine: Engine, patient: str) -> None:
    with reading(engine) as session:
        assert key_of_study(session, visit_uid(NAME, 2)) == patient
        with pytest.raises(MetiaError, match="not-found"):
            key_of_study(session, "9.9")
