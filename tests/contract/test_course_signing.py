"""Signing and changing a course at once, on both databases: nothing gets lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from threading import Barrier, Event
from typing import Any

import pytest

from db import audit
from db.assessments import list_assessments
from db.engine import Engine, Session, reading, transaction
from db.patients import key_of_study
from db.results import get_result
from db.visits import get_reading
from errors import MetiaError
from segmentation.followup import course_changes, signing
from segmentation.followup.course_document import CourseView
from segmentation.followup.course_rows import CourseRows, load_course
from segmentation.followup.signing import sign, signed_assessments
from segmentation.versions.corrections import Reader
from tests.course_patients import Visit, add_visit, link, register

READER = Reader("reader", "Dr Reader")
READING = {
    "revision": 0,
    "steroid_use": "none",
    "steroid_change": None,
    "steroid_dose_mg": None,
    "clinical": "stable",
    "non_target": None,
    "technique_changed": False,
    "extracranial_response": "not_recorded",
    "note": "",
    "selected_result_id": None,
}


class Followed:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        with transaction(engine) as session:
            self.visits: list[Visit] = [
                add_visit(session, "P1", date(2024, 1, 5), {"M1": 20.0}),
                add_visit(session, "P1", date(2024, 3, 5), {"M1": 12.0}),
            ]
            self.study = self.visits[1].study_uid
            self.key = key_of_study(session, self.study)
            register(session, self.visits)
            self.tracks = link(session, self.key, self.visits)

    def shown(self) -> dict[str, Any]:
        with reading(self.engine) as session:
            view = CourseView(load_course(session, self.key))
        visit: dict[str, Any] = view.document()["visits"][1]
        return visit

    def request(self, **more: Any) -> dict[str, Any]:
        return {
            "rule_set": "rano-bm",
            "category": None,
            "comment": "",
            "inputs_sha256": self.shown()["assessment"]["inputs_sha256"],
            **more,
        }

    def sign(self, asked: dict[str, Any], name: str = "reader") -> str:
        with transaction(self.engine) as session:
            return sign(session, self.study, asked, Reader(name, f"Dr {name}"))


@pytest.fixture
def followed(engine: Engine) -> Followed:
    return Followed(engine)


def at_once(*calls: Callable[[], object]) -> list[str]:
    """Make calls at the same moment; gives "ok" or the code of each."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], object]) -> str:
        barrier.wait()
        try:
            call()
        except MetiaError as error:
            return error.code
        return "ok"

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_signatures_of_many_form_one_line(followed: Followed) -> None:
    asked = followed.request()
    names = [f"reader-{number}" for number in range(5)]
    outcomes = at_once(
        *(lambda name=name: followed.sign(asked, name) for name in names)
    )
    assert outcomes == ["ok"] * 5
    with reading(followed.engine) as session:
        signed = list_assessments(session, followed.study)
        result = get_result(session, followed.visits[1].result_id)
    assert {one.signed_by for one in signed} == {f"Dr {name}" for name in names}
    superseded = [one.supersedes_id for one in signed]
    assert superseded.count(None) == 1
    assert len(set(superseded)) == 5
    # The result is signed once: by the first of them.
    first = next(one for one in signed if one.supersedes_id is None)
    assert f"Dr {result.signed_by}" == first.signed_by
    assert result.state == "signed"
    assert followed.shown()["signed"]["stale"] is False


def test_change_and_signature_never_pass_each_other(followed: Followed) -> None:
    asked = followed.request()

    def change() -> None:
        with transaction(followed.engine) as session:
            course_changes.change_reading(
                session,
                followed.study,
                {**READING, "clinical": "worse_due_to_tumour"},
                READER,
            )

    changed, signed = at_once(change, lambda: followed.sign(asked))
    assert changed == "ok"
    shown = followed.shown()
    if signed == "ok":  # It was first: what it signed is not what is shown now.
        assert shown["signed"]["category"] == "PR"
        assert shown["signed"]["stale"] is True
    else:
        assert signed == "edit-conflict"
        assert shown["signed"] is None
        assert shown["result_state"] == "unverified"


def test_change_waits_while_a_signature_is_made(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = followed.request()
    loaded, changed = Event(), Event()
    overtaken = []

    def load_slowly(session: Session, patient_key: str) -> CourseRows:
        rows = load_course(session, patient_key)
        loaded.set()
        overtaken.append(changed.wait(0.5))
        return rows

    def change() -> None:
        loaded.wait(10)
        with transaction(followed.engine) as session:
            course_changes.change_reading(
                session,
                followed.study,
                {**READING, "clinical": "worse_due_to_tumour"},
                READER,
            )
        changed.set()

    monkeypatch.setattr(signing, "load_course", load_slowly)
    assert at_once(change, lambda: followed.sign(asked)) == ["ok", "ok"]
    assert overtaken == [False]
    assert followed.shown()["signed"]["stale"] is True


def test_of_readings_at_once_one_wins_and_the_others_are_told(
    followed: Followed,
) -> None:
    def change(clinical: str) -> Callable[[], None]:
        def run() -> None:
            with transaction(followed.engine) as session:
                course_changes.change_reading(
                    session, followed.study, {**READING, "clinical": clinical}, READER
                )

        return run

    states = ("stable", "better", "worse_other_cause", "worse_due_to_tumour")
    outcomes = at_once(*map(change, states))
    assert sorted(outcomes) == ["edit-conflict"] * 3 + ["ok"]
    with reading(followed.engine) as session:
        kept = get_reading(session, followed.study)
        entries = audit.entries(session, subject=f"patient:{followed.key}")
    assert kept.clinical == states[outcomes.index("ok")]
    assert kept.revision == 1
    assert [entry.action for entry in entries] == ["reading-change"]


def test_stale_request_signs_nothing(followed: Followed) -> None:
    asked = followed.request()
    with transaction(followed.engine) as session:
        course_changes.change_track(
            session,
            followed.tracks["M1"],
            {"revision": 1, "role": "non_target"},
            READER,
        )
    with pytest.raises(MetiaError) as caught:
        followed.sign(asked)
    assert caught.value.code == "edit-conflict"
    now = followed.shown()["assessment"]["inputs_sha256"]
    assert caught.value.facts["current_inputs_sha256"] == now
    with reading(followed.engine) as session:
        assert list_assessments(session, followed.study) == ()
        result = get_result(session, followed.visits[1].result_id)
    assert result.state == "unverified"


def test_signed_documents_survive_the_database_unchanged(followed: Followed) -> None:
    from db.encoding import canonical_hash

    followed.sign(followed.request(category="SD", comment="a second reader agrees"))
    with reading(followed.engine) as session:
        (kept,) = signed_assessments(session, followed.study)
    assert canonical_hash(kept["case"]) == kept["inputs_sha256"]
    assert kept["document"]["visits"][-1]["category"] == kept["proposed_category"]
    assert kept["document"]["signed_by_user"] == "reader"
    assert (kept["proposed_category"], kept["category"]) == ("PR", "SD")
    assert kept["stale"] is False


def test_plan_that_is_refused_leaves_nothing_behind(followed: Followed) -> None:
    plan = {
        "revision": 0,
        "treatment_start": None,
        "immunotherapy_start": None,
        "baseline_study_uid": None,
        "rule_set": "rano-bm",
        "protocol": {},
        "resets": [{"study_uid": followed.visits[0].study_uid, "reason": "x"}],
    }
    with pytest.raises(MetiaError), transaction(followed.engine) as session:
        course_changes.change_plan(session, followed.key, plan, READER)
    with reading(followed.engine) as session:
        rows = load_course(session, followed.key)
        assert rows.plan.revision == 0
        assert audit.entries(session, subject=f"patient:{followed.key}") == ()
