"""The course of a patient over HTTP: what is shown, what readers may change, and who.

Each change answers with the new course; one made for an older state is refused and
changes nothing; each leaves one entry in the audit, without a day or a text in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from db import audit
from db.engine import reading, transaction
from db.patients import key_of_study
from db.results import get_result, record_result
from db.studies import Patient, Series, Study, upsert_study
from errors import MetiaError
from segmentation.followup.assess import assess
from segmentation.followup.case_reading import case_from_document
from segmentation.followup.course_schemas import Course
from segmentation.followup.rano_bm import RANO_BM
from tests.contract.sample_rows import make_record
from tests.course_patients import Visit, add_visit, link, register
from tests.security.application import Application, Browser, make_empty_database
from tests.small_series import make_series

READING = {
    "revision": 0,
    "steroid_use": "none",
    "steroid_change": None,
    "steroid_dose_mg": None,
    "clinical": "stable",
    "non_target": None,
    "technique_changed": False,
}


class Followed:
    """A patient of three visits: a lesion that shrinks, and one that is new."""

    def __init__(self, application: Application, patient_id: str = "P1") -> None:
        self.application = application
        with transaction(application.engine) as session:
            self.visits: list[Visit] = [
                add_visit(session, patient_id, day, lesions)
                for day, lesions in (
                    (date(2024, 1, 5), {"M1": 20.0, "M2": 12.0}),
                    (date(2024, 3, 5), {"M1": 12.0, "M2": 8.0}),
                    (date(2024, 5, 6), {"M1": 11.0, "M3": 9.0}),
                )
            ]
            self.key = key_of_study(session, self.visits[0].study_uid)
            register(session, self.visits)
            self.tracks = link(session, self.key, self.visits)

    def course(self, browser: Browser, **query: str) -> dict[str, Any]:
        answer = browser.get(f"/api/v1/patients/{self.key}/course", query_string=query)
        return course_of(answer)

    def audited(self) -> list[audit.AuditEntry]:
        with reading(self.application.engine) as session:
            return list(audit.entries(session, subject=f"patient:{self.key}"))


def course_of(answer: TestResponse, status: int = 200) -> dict[str, Any]:
    """Insist on a course that keeps to its schema."""
    assert answer.status_code == status, answer.text
    assert Course().validate(answer.json) == {}
    return dict(answer.json)


def refused(answer: TestResponse, code: str) -> dict[str, Any]:
    assert answer.json["code"] == code, answer.text
    return dict(answer.json)


@pytest.fixture
def followed(application: Application) -> Followed:
    return Followed(application)


@pytest.fixture
def browser(application: Application) -> Browser:
    return application.browser("annotator")


@pytest.fixture
def reviewer(application: Application) -> Browser:
    return application.browser("reviewer")


# -- reading -----------------------------------------------------------------------


def test_course_of_a_patient(followed: Followed, application: Application) -> None:
    browser = application.browser("viewer")
    course = followed.course(browser)
    assert [visit["sum_mm"] for visit in course["visits"]] == [32.0, 20.0, 11.0]
    assert [visit["assessment"]["category"] for visit in course["visits"]] == [
        "BASELINE",
        "PR",
        "PR",
    ]
    assert [track["label"] for track in course["tracks"]] == ["M1", "M2", "M3"]
    assert course["patient"]["birth_date"] == "1960-01-02"
    assert course["current_study_uid"] is None
    assert course["notice"].startswith("Research use only")


def test_course_of_a_study_is_that_of_its_patient(
    followed: Followed, browser: Browser
) -> None:
    study = followed.visits[1].study_uid
    course = course_of(browser.get(f"/api/v1/studies/{study}/course"))
    assert course["current_study_uid"] == study
    assert course["patient"]["id"] == followed.key


def test_course_by_other_criteria(followed: Followed, browser: Browser) -> None:
    course = followed.course(browser, rule_set="recist-1.1")
    assert (course["rule_set"], course["rules_version"]) == ("recist-1.1", "1.0")
    study = followed.visits[1].study_uid
    address = f"/api/v1/studies/{study}/reading?rule_set=recist-1.1"
    answered = course_of(browser.put(address, json=READING))
    assert answered["rule_set"] == "recist-1.1"


def test_study_without_a_result_has_no_course(
    application: Application, browser: Browser
) -> None:
    with transaction(application.engine) as session:
        upsert_study(session, Patient("P9"), Study("1.2.9"), Series("1.2.9.1"))
    for study in ("1.2.9", "1.2.99"):
        for answer in (
            browser.get(f"/api/v1/studies/{study}/course"),
            browser.get(f"/api/v1/studies/{study}/assessments"),
            browser.put(f"/api/v1/studies/{study}/reading", json=READING),
        ):
            assert answer.status_code == 404
            refused(answer, "not-found")


def test_patients_are_listed_in_pages_and_found(
    application: Application, browser: Browser
) -> None:
    for name in ("P1", "P2", "P3"):
        Followed(application, name)
    first = browser.get("/api/v1/patients?limit=2").json
    assert [p["patient_id"] for p in first["patients"]] == ["P1", "P2"]
    cursor = {"limit": 2, "cursor": first["next_cursor"]}
    rest = browser.get("/api/v1/patients", query_string=cursor).json
    assert [p["patient_id"] for p in rest["patients"]] == ["P3"]
    assert rest["next_cursor"] is None
    found = browser.get("/api/v1/patients?search=test p2").json["patients"]
    assert [p["patient_id"] for p in found] == ["P2"]
    assert found[0]["visit_count"] == 3
    assert (found[0]["first_visit"], found[0]["last_visit"]) == (
        "2024-01-05",
        "2024-05-06",
    )
    assert browser.get("/api/v1/patients?cursor=x").status_code == 422


# -- readings of visits ------------------------------------------------------------


def test_reading_of_a_visit(followed: Followed, browser: Browser) -> None:
    study = followed.visits[1].study_uid
    asked = {**READING, "steroid_use": "pharmacological", "steroid_dose_mg": 4.5,
             "clinical": "worse_due_to_tumour", "note": "two\nlines"}  # fmt: skip
    course = course_of(browser.put(f"/api/v1/studies/{study}/reading", json=asked))
    visit = course["visits"][1]
    assert visit["reading"]["revision"] == 1
    assert visit["reading"]["steroid_dose_mg"] == 4.5
    assert visit["reading"]["author"] == "annotator"
    assert visit["reading"]["note"] == "two\nlines"
    assert visit["assessment"]["category"] == "PD"
    (entry,) = followed.audited()
    assert (entry.action, entry.actor) == ("reading-change", "annotator")
    assert entry.details["before"]["clinical"] == "not_recorded"
    assert entry.details["after"]["clinical"] == "worse_due_to_tumour"
    assert "note" in entry.details["changed"]
    assert "lines" not in json.dumps(entry.details)


def test_older_reading_is_refused_and_changes_nothing(
    followed: Followed, browser: Browser
) -> None:
    address = f"/api/v1/studies/{followed.visits[1].study_uid}/reading"
    course_of(browser.put(address, json={**READING, "clinical": "better"}))
    late = browser.put(address, json={**READING, "clinical": "stable"})
    assert late.status_code == 409
    assert refused(late, "edit-conflict")["current_revision"] == 1
    reading_now = followed.course(browser)["visits"][1]["reading"]
    assert (reading_now["clinical"], reading_now["revision"]) == ("better", 1)
    assert len(followed.audited()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"steroid_dose_mg": -1},
        {"steroid_dose_mg": 201},
        {"steroid_dose_mg": "NaN"},
        {"clinical": "fine"},
        {"non_target": ""},
        {"technique_changed": "no"},
        {"technique_changed": 1},
        {"revision": -1},
        {"note": "\u0000"},
        {"note": "x" * 2001},
        {"selected_result_id": "0" * 32},
        {"unknown": 1},
    ],
)
def test_reading_that_makes_no_sense(
    followed: Followed, browser: Browser, wrong: dict[str, object]
) -> None:
    address = f"/api/v1/studies/{followed.visits[1].study_uid}/reading"
    answer = browser.put(address, json={**READING, **wrong})
    assert answer.status_code == 422, answer.text
    assert followed.audited() == []
    assert followed.course(browser)["visits"][1]["reading"]["revision"] == 0


def test_reader_selects_the_result_that_counts(
    application: Application, followed: Followed, browser: Browser
) -> None:
    visit = followed.visits[1]
    record = make_record(series_uid=visit.series_uid, lesions=0)
    with transaction(application.engine) as session:
        other = record_result(session, record)
    address = f"/api/v1/studies/{visit.study_uid}/reading"
    chosen = {**READING, "selected_result_id": other}
    course = course_of(browser.put(address, json=chosen))
    shown = course["visits"][1]
    assert shown["result_id"] == other
    assert shown["reading"]["selected_result_id"] == other
    again = {**READING, "revision": shown["reading"]["revision"]}
    course = course_of(browser.put(address, json=again))
    assert course["visits"][1]["reading"]["selected_result_id"] is None


# -- lesions -----------------------------------------------------------------------


def put_track(
    browser: Browser, followed: Followed, name: str, number: int, **said: Any
) -> TestResponse:
    study = followed.visits[number].study_uid
    address = f"/api/v1/tracks/{followed.tracks[name]}/studies/{study}"
    return browser.put(address, json={"revision": 1, **said})


def test_reader_says_what_became_of_a_lesion(
    followed: Followed, browser: Browser
) -> None:
    course = course_of(
        put_track(browser, followed, "M2", 2, state="merged",
                  into_track_id=followed.tracks["M1"])
    )  # fmt: skip
    track = course["tracks"][1]
    assert track["revision"] == 2
    assert track["observations"][2]["state"] == "merged"
    assert track["observations"][2]["reading"]["author"] == "annotator"
    assert followed.audited()[0].action == "track-reading-change"
    late = put_track(browser, followed, "M2", 1, state="too_small")
    assert refused(late, "edit-conflict")["current_revision"] == 2


def test_reader_calls_a_new_lesion_certain(
    followed: Followed, browser: Browser
) -> None:
    before = followed.course(browser)["visits"][2]["assessment"]
    assert (before["category"], before["new_lesions"]) == ("PR", ["M3"])
    course = course_of(
        put_track(browser, followed, "M3", 2, certainty="unequivocal", projections=2)
    )
    after = course["visits"][2]["assessment"]
    assert after["category"] == "PD"
    assert course["tracks"][2]["observations"][2]["certainty"] == "unequivocal"


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "merged"},
        {"state": "merged", "into_track_id": "0" * 32},
        {"state": "merged", "into_track_id": "itself"},
        {"state": "absent", "into_track_id": "M1"},
        {"state": "not_assessed"},
        {"state": "not_assessed", "reason": "because"},
        {"state": "absent", "reason": "artefact"},
        {"state": "locally_treated"},
        {"state": "locally_treated", "treated_on": "2024-04-01"},
        {"state": "locally_treated", "treated_on": "2024-05-07", "modality": "surgery"},
        {"state": "locally_treated", "treated_on": "20240401", "modality": "surgery"},
        {"state": "locally_treated", "treated_on": "2024-02-30", "modality": "surgery"},
        {"state": "measured"},
        {"state": None, "treated_on": "2024-04-01"},
        {"projections": 0},
        {"certainty": "perhaps"},
    ],
)
def test_reading_of_a_lesion_that_makes_no_sense(
    followed: Followed, browser: Browser, wrong: dict[str, Any]
) -> None:
    tracks = {**followed.tracks, "itself": followed.tracks["M2"]}
    into = wrong.get("into_track_id", "")
    said = {**wrong, "into_track_id": tracks[into]} if into in tracks else wrong
    answer = put_track(browser, followed, "M2", 2, **said)
    assert answer.status_code == 422, answer.text
    assert followed.audited() == []


def test_lesions_cannot_merge_in_a_circle(followed: Followed, browser: Browser) -> None:
    m1, m2, m3 = (followed.tracks[name] for name in ("M1", "M2", "M3"))
    for name, into in (("M1", m2), ("M2", m3)):
        course_of(
            put_track(browser, followed, name, 2, state="merged", into_track_id=into)
        )
    answer = put_track(browser, followed, "M3", 2, state="merged", into_track_id=m1)
    refused(answer, "invalid-input")


def test_lesion_of_another_patient_is_not_within_reach(
    application: Application, followed: Followed, browser: Browser
) -> None:
    other = Followed(application, "P2")
    study = other.visits[0].study_uid
    track = followed.tracks["M1"]
    answer = browser.put(
        f"/api/v1/tracks/{track}/studies/{study}",
        json={"revision": 1, "state": "absent"},
    )
    refused(answer, "invalid-input")
    answer = put_track(
        browser, followed, "M2", 2, state="merged", into_track_id=other.tracks["M1"]
    )
    refused(answer, "invalid-input")


def test_lesion_is_renamed_and_given_a_role(
    followed: Followed, browser: Browser
) -> None:
    address = f"/api/v1/tracks/{followed.tracks['M1']}"
    asked = {"revision": 1, "label": "Frontal-1", "role": "non_target"}
    course = course_of(browser.patch(address, json=asked))
    track = next(t for t in course["tracks"] if t["id"] == followed.tracks["M1"])
    assert (track["label"], track["role"], track["role_by"]) == (
        "Frontal-1",
        "non_target",
        "reader",
    )
    assert [visit["sum_mm"] for visit in course["visits"]] == [12.0, 8.0, 0.0]
    entry = followed.audited()[0]
    assert entry.details["before"]["label"] == "M1"
    assert entry.details["changed"] == ["label", "role"]
    course = course_of(browser.patch(address, json={"revision": 2, "role": None}))
    assert course["visits"][0]["sum_mm"] == 32.0
    late = browser.patch(address, json={"revision": 2, "kind": "dural"})
    assert refused(late, "edit-conflict")["current_revision"] == 3
    taken = browser.patch(address, json={"revision": 3, "label": "M2"})
    assert taken.status_code == 409
    for label in ("", "left one", "<b>", "é", "x" * 33, "a\n"):
        answer = browser.patch(address, json={"revision": 3, "label": label})
        assert answer.status_code == 422, label


# -- plan and events ---------------------------------------------------------------


def test_plan_is_a_reviewers(
    followed: Followed, browser: Browser, reviewer: Browser
) -> None:
    address = f"/api/v1/patients/{followed.key}/plan"
    asked = {
        "revision": 0,
        "treatment_start": "2024-03-10",
        "immunotherapy_start": "2024-03-10",
        "rule_set": "rano-bm",
        "protocol": {"max_targets": 1},
        "resets": [{"study_uid": followed.visits[2].study_uid, "reason": "new drug"}],
    }
    assert browser.put(address, json=asked).status_code == 403
    course = course_of(reviewer.put(address, json=asked))
    plan = course["plan"]
    assert (plan["revision"], plan["treatment_start"]) == (1, "2024-03-10")
    assert plan["protocol"]["max_targets"] == 1
    assert plan["protocol"]["confirmation_days"] == 28
    assert [visit["is_baseline"] for visit in course["visits"]] == [False, True, True]
    (entry,) = followed.audited()
    assert "treatment_start" in entry.details["changed"]
    assert "2024" not in json.dumps(entry.details)
    refused(reviewer.put(address, json=asked), "edit-conflict")


@pytest.mark.parametrize(
    "wrong",
    [
        {"baseline_study_uid": "1.2.3.4"},
        {"baseline_study_uid": "other"},
        {"resets": [{"study_uid": "first", "reason": "x"}]},
        {"resets": [{"study_uid": "last", "reason": "x"}] * 2},
        {"resets": [{"study_uid": "last", "reason": ""}]},
        {"protocol": {"max_targets": 6}},
        {"protocol": {"max_targets": True}},
        {"protocol": {"confirmation_required": 1}},
        {"protocol": {"unknown": 1}},
        {"treatment_start": "2024-13-01"},
        {"treatment_start": "20240301"},
        {"rule_set": "mine"},
    ],
)
def test_plan_that_makes_no_sense(
    application: Application,
    followed: Followed,
    reviewer: Browser,
    wrong: dict[str, Any],
) -> None:
    named = {
        "first": followed.visits[0].study_uid,
        "last": followed.visits[2].study_uid,
    }
    if wrong.get("baseline_study_uid") == "other":
        named["other"] = Followed(application, "P2").visits[0].study_uid
    text = json.dumps({"revision": 0, "rule_set": "rano-bm", **wrong})
    for name, uid in named.items():
        text = text.replace(f'"{name}"', f'"{uid}"')
    address = f"/api/v1/patients/{followed.key}/plan"
    answer = reviewer.put(address, json=json.loads(text))
    assert answer.status_code == 422, answer.text
    assert followed.course(reviewer)["plan"]["revision"] == 0
    assert followed.audited() == []


def test_events_come_and_go(followed: Followed, browser: Browser) -> None:
    address = f"/api/v1/patients/{followed.key}/events"
    event = {"date": "2024-02-01", "kind": "radiosurgery", "text": "20 Gy",
             "track_id": followed.tracks["M1"]}  # fmt: skip
    course = course_of(browser.post(address, json=event), 201)
    (shown,) = course["events"]
    assert (shown["date"], shown["kind"], shown["author"]) == (
        "2024-02-01",
        "radiosurgery",
        "annotator",
    )
    # Events are for the time line: what was treated is said of the lesion.
    assert course["visits"][1]["assessment"]["category"] == "PR"
    other = {**event, "track_id": "0" * 32}
    refused(browser.post(address, json=other), "invalid-input")
    course = course_of(browser.delete(f"{address}/{shown['id']}"))
    assert course["events"] == []
    assert [e.action for e in followed.audited()] == ["event-remove", "event-add"]
    assert "20 Gy" not in json.dumps([e.details for e in followed.audited()])
    assert browser.delete(f"{address}/{shown['id']}").status_code == 404


# -- links -------------------------------------------------------------------------


def test_links_are_decided_and_undone(followed: Followed, browser: Browser) -> None:
    address = f"/api/v1/patients/{followed.key}/links"
    last = followed.visits[2]
    asked = {
        "study_uid": last.study_uid,
        "finding_uid": last.findings["M3"],
        "action": "link",
        "track_id": followed.tracks["M2"],
    }
    course = course_of(browser.post(address, json=asked))
    assert course["current_study_uid"] == last.study_uid
    decision = course["last_decision"]
    assert (decision["action"], decision["by"]) == ("link", "annotator")
    m2 = next(t for t in course["tracks"] if t["id"] == followed.tracks["M2"])
    cell = m2["observations"][2]
    assert (cell["state"], cell["link"]["state"]) == ("measured", "confirmed")
    assert cell["finding_uid"] == last.findings["M3"]
    stale = browser.post(f"{address}/undo", json={"decision_id": decision["id"] + 1})
    assert refused(stale, "edit-conflict")["current_decision_id"] == decision["id"]
    course = course_of(
        browser.post(f"{address}/undo", json={"decision_id": decision["id"]})
    )
    assert course["last_decision"] is None
    m2 = next(t for t in course["tracks"] if t["id"] == followed.tracks["M2"])
    assert m2["observations"][2]["finding_uid"] != last.findings["M3"]
    assert browser.post(f"{address}/undo", json={}).status_code == 409
    assert [e.action for e in followed.audited()] == ["link-undo", "link-decide"]


def test_link_names_a_lesion_by_its_id_too(
    followed: Followed, browser: Browser
) -> None:
    course = followed.course(browser)
    m3 = course["tracks"][2]["observations"][2]
    asked = {
        "study_uid": followed.visits[2].study_uid,
        "lesion_id": m3["lesion_id"],
        "action": "new",
    }
    course = course_of(
        browser.post(f"/api/v1/patients/{followed.key}/links", json=asked)
    )
    assert course["last_decision"]["finding_uid"] == m3["finding_uid"]


@pytest.mark.parametrize(
    "change",
    [
        {"finding_uid": "1.2.3"},
        {"finding_uid": None},
        {"lesion_id": "0" * 32},
        {"lesion_id": "0" * 32, "finding_uid": None},
        {"study_uid": "1.2.3"},
        {"study_uid": "first"},
        {"track_id": None},
        {"track_id": "0" * 32},
        {"action": "new"},
        {"action": "split"},
    ],
)
def test_link_that_makes_no_sense(
    followed: Followed, browser: Browser, change: Mapping[str, Any]
) -> None:
    last = followed.visits[2]
    asked = {
        "study_uid": last.study_uid,
        "finding_uid": last.findings["M3"],
        "action": "link",
        "track_id": followed.tracks["M2"],
        **change,
    }
    if asked["study_uid"] == "first":
        asked["study_uid"] = followed.visits[0].study_uid
    if asked["finding_uid"] is None:
        del asked["finding_uid"]
    answer = browser.post(f"/api/v1/patients/{followed.key}/links", json=asked)
    assert answer.status_code in (404, 422), answer.text
    assert followed.audited() == []
    assert followed.course(browser)["last_decision"] is None


# -- signing -----------------------------------------------------------------------


def sign(
    browser: Browser, followed: Followed, number: int, **more: Any
) -> TestResponse:
    rule_set = more.get("rule_set", "rano-bm")
    shown = followed.course(browser, rule_set=rule_set)["visits"][number]["assessment"]
    study = followed.visits[number].study_uid
    asked = {"rule_set": "rano-bm", "inputs_sha256": shown["inputs_sha256"], **more}
    return browser.post(f"/api/v1/studies/{study}/assessments", json=asked)


def test_signing(
    application: Application, followed: Followed, browser: Browser, reviewer: Browser
) -> None:
    assert sign(browser, followed, 1).status_code == 403
    course = course_of(sign(reviewer, followed, 1, comment="seen"), 201)
    signed = course["visits"][1]["signed"]
    assert (signed["category"], signed["by"], signed["stale"]) == (
        "PR",
        "Reviewer",
        False,
    )
    assert signed["comment"] == "seen"
    assert course["visits"][1]["result_state"] == "signed"
    assert course["visits"][0]["signed"] is None
    with reading(application.engine) as session:
        result = get_result(session, followed.visits[1].result_id)
    assert (result.state, result.signed_by) == ("signed", "reviewer")
    assert [entry.action for entry in followed.audited()] == ["assessment-sign"]


def test_what_was_signed_can_be_checked_by_anyone(
    followed: Followed, reviewer: Browser
) -> None:
    course_of(sign(reviewer, followed, 1), 201)
    study = followed.visits[1].study_uid
    (kept,) = reviewer.get(f"/api/v1/studies/{study}/assessments").json["assessments"]
    case = case_from_document(kept["case"])
    answer = assess(case, RANO_BM).visits[-1]
    told = kept["document"]["visits"][-1]
    assert answer.category == told["category"] == kept["category"] == "PR"
    assert told["numbers"]["sum_tenths_mm"] == 200
    assert kept["document"]["rule_set"]["version"] == kept["rules_version"]
    # A name, a birth date or an identifier of the archive is no input.
    text = json.dumps(kept["case"])
    for secret in ("Test^", "1960", "P1", study):
        assert secret not in text


def test_signature_of_something_else_is_refused(
    followed: Followed, browser: Browser, reviewer: Browser
) -> None:
    shown = followed.course(reviewer)["visits"][2]["assessment"]
    course_of(
        put_track(browser, followed, "M3", 2, certainty="unequivocal", projections=2)
    )
    study = followed.visits[2].study_uid
    asked = {"rule_set": "rano-bm", "inputs_sha256": shown["inputs_sha256"]}
    answer = reviewer.post(f"/api/v1/studies/{study}/assessments", json=asked)
    assert answer.status_code == 409
    told = refused(answer, "edit-conflict")
    now = followed.course(reviewer)["visits"][2]
    assert told["current_inputs_sha256"] == now["assessment"]["inputs_sha256"]
    assert now["signed"] is None
    assert now["result_state"] == "unverified"


def test_another_category_needs_a_comment(
    followed: Followed, reviewer: Browser
) -> None:
    for comment in ("", " \n "):
        answer = sign(reviewer, followed, 1, category="SD", comment=comment)
        assert answer.status_code == 422
    course = course_of(
        sign(reviewer, followed, 1, category="SD", comment="oedema only"), 201
    )
    signed = course["visits"][1]["signed"]
    assert (signed["proposed_category"], signed["category"]) == ("PR", "SD")
    assert course["visits"][1]["assessment"]["category"] == "PR"


def test_signature_is_stale_once_its_inputs_change_and_can_be_renewed(
    application: Application, followed: Followed, browser: Browser, reviewer: Browser
) -> None:
    first = course_of(sign(reviewer, followed, 1), 201)["visits"][1]["signed"]
    study = followed.visits[1].study_uid
    asked = {**READING, "clinical": "worse_due_to_tumour"}
    course = course_of(browser.put(f"/api/v1/studies/{study}/reading", json=asked))
    assert course["visits"][1]["signed"]["stale"] is True
    assert course["visits"][1]["assessment"]["category"] == "PD"
    course = course_of(sign(reviewer, followed, 1), 201)
    signed = course["visits"][1]["signed"]
    assert (signed["category"], signed["stale"]) == ("PD", False)
    kept = reviewer.get(f"/api/v1/studies/{study}/assessments").json["assessments"]
    assert [(one["category"], one["stale"]) for one in kept] == [
        ("PD", False),
        ("PR", True),
    ]
    assert kept[0]["supersedes_id"] == kept[1]["id"] == first["id"]
    # Taking the change back makes the inputs what they were.
    back = {**READING, "revision": 1, "clinical": "not_recorded",
            "steroid_use": "not_recorded"}  # fmt: skip
    course = course_of(browser.put(f"/api/v1/studies/{study}/reading", json=back))
    assert course["visits"][1]["signed"]["stale"] is True
    kept = reviewer.get(f"/api/v1/studies/{study}/assessments").json["assessments"]
    assert [one["stale"] for one in kept] == [True, False]


def test_later_visit_leaves_a_signature_fresh(
    application: Application, followed: Followed, reviewer: Browser
) -> None:
    course_of(sign(reviewer, followed, 2), 201)
    with transaction(application.engine) as session:
        later = add_visit(session, "P1", date(2024, 7, 1), {"M1": 40.0, "M3": 9.0})
        followed.visits.append(later)
        register(session, followed.visits)
        link(session, followed.key, followed.visits)
    course = followed.course(reviewer)
    assert course["visits"][3]["assessment"]["category"] == "PD"
    assert course["visits"][2]["signed"]["stale"] is False


def test_each_rule_set_is_signed_by_itself(
    followed: Followed, reviewer: Browser
) -> None:
    course_of(sign(reviewer, followed, 1), 201)
    course = course_of(sign(reviewer, followed, 1, rule_set="recist-1.1"), 201)
    assert course["rule_set"] == "recist-1.1"
    assert course["visits"][1]["signed"]["rule_set"] == "recist-1.1"
    study = followed.visits[1].study_uid
    kept = reviewer.get(f"/api/v1/studies/{study}/assessments").json["assessments"]
    assert sorted(one["rule_set"] for one in kept) == ["rano-bm", "recist-1.1"]
    assert all(one["supersedes_id"] is None for one in kept)


def test_visit_that_is_not_assessed_cannot_be_signed(
    application: Application, followed: Followed, reviewer: Browser
) -> None:
    plan = {
        "revision": 0,
        "rule_set": "rano-bm",
        "baseline_study_uid": followed.visits[1].study_uid,
    }
    course_of(reviewer.put(f"/api/v1/patients/{followed.key}/plan", json=plan))
    answer = sign(reviewer, followed, 0)
    assert answer.status_code == 409
    refused(answer, "conflict")
    with transaction(application.engine) as session:
        undated = add_visit(session, "P1", None, {"M1": 9.0})
    address = f"/api/v1/studies/{undated.study_uid}/assessments"
    asked = {"rule_set": "rano-bm", "inputs_sha256": "0" * 64}
    refused(reviewer.post(address, json=asked), "conflict")


# -- bringing up to date -----------------------------------------------------------


class Archived:
    """Studies of a patient in the archive."""

    def __init__(self, application: Application) -> None:
        self.application = application
        with transaction(application.engine) as session:
            visit = add_visit(session, "PX", date(2024, 1, 5), {"M1": 20.0})
            self.key = key_of_study(session, visit.study_uid)
        self.done = visit.study_uid
        self.put(study_uid=self.done, StudyDate="20240105")

    def put(self, **attributes: Any) -> str:
        values = {"SeriesDescription": "T1 SE AX +GD", "PatientID": "PX", **attributes}
        images = make_series(20, **values)
        self.application.archive.put(images)
        return str(images[0].StudyInstanceUID)

    def update(self, browser: Browser) -> TestResponse:
        return browser.post(f"/api/v1/patients/{self.key}/update", json={})


@pytest.fixture
def archived(application: Application) -> Archived:
    return Archived(application)


def test_prior_studies_are_found_and_queued_once(
    archived: Archived, browser: Browser
) -> None:
    new = [archived.put(StudyDate=day) for day in ("20230501", "20240901")]
    archived.put(PatientID="PX2")
    answer = archived.update(browser)
    assert answer.status_code == 200, answer.text
    assert answer.json["up_to_date"] == 1
    assert answer.json["skipped"] == []
    jobs = [browser.get(f"/api/v1/jobs/{job}").json for job in answer.json["queued"]]
    assert [job["study_uid"] for job in jobs] == [new[1], new[0]]
    assert {job["requested_by"] for job in jobs} == {"annotator"}
    assert archived.update(browser).json == answer.json


def test_studies_that_cannot_be_segmented_are_told(
    archived: Archived, browser: Browser
) -> None:
    unsuitable = archived.put(SeriesDescription="T2 FLAIR", ScanningSequence="SE")
    twice = archived.put()
    archived.put(study_uid=twice, PatientID="SOMEBODY")
    answer = archived.update(browser).json
    assert answer["queued"] == []
    told = {one["study_uid"]: one["code"] for one in answer["skipped"]}
    assert told == {unsuitable: "no-suitable-series", twice: "archive-ambiguous"}


def test_same_id_of_another_issuer_is_another_patient(
    archived: Archived, browser: Browser
) -> None:
    archived.put(IssuerOfPatientID="another hospital")
    assert archived.update(browser).json == {
        "queued": [],
        "up_to_date": 1,
        "skipped": [],
    }


def test_patient_without_an_id_has_no_other_studies(
    application: Application, browser: Browser
) -> None:
    with transaction(application.engine) as session:
        visit = add_visit(session, "", date(2024, 1, 5), {"M1": 20.0})
        key = key_of_study(session, visit.study_uid)
    images = make_series(3, PatientID="", SeriesDescription="T1 SE AX +GD")
    application.archive.put(images)
    answer = browser.post(f"/api/v1/patients/{key}/update", json={})
    assert answer.json == {"queued": [], "up_to_date": 1, "skipped": []}


def test_full_queue_is_told_study_by_study(
    tmp_path: Path, empty_database: Path
) -> None:
    application = Application(tmp_path, empty_database, job_queue_limit=1)
    archived = Archived(application)
    archived.put(StudyDate="20240901")
    archived.put(StudyDate="20230501")
    answer = archived.update(application.browser("annotator")).json
    assert len(answer["queued"]) == 1
    assert [one["code"] for one in answer["skipped"]] == ["too-many-requests"]


def test_silent_archive_is_told_as_such(
    archived: Archived, application: Application, browser: Browser
) -> None:
    application.archive.fail_with = MetiaError("archive-unavailable", "It is silent.")
    answer = archived.update(browser)
    assert answer.status_code == 503
    refused(answer, "archive-unavailable")
    assert browser.get("/api/v1/jobs").json["jobs"] == []


# -- what does not get out ---------------------------------------------------------


def test_nothing_of_the_patient_is_in_audit_or_refusals(
    followed: Followed, browser: Browser, reviewer: Browser, log: Any
) -> None:
    requests: list[Callable[[], TestResponse]] = [
        lambda: put_track(browser, followed, "M2", 2, state="absent"),
        lambda: put_track(browser, followed, "M2", 2, state="absent"),
        lambda: sign(reviewer, followed, 1, comment="private words"),
        lambda: browser.get("/api/v1/patients?search=Test"),
        lambda: browser.put(
            f"/api/v1/studies/{followed.visits[0].study_uid}/reading",
            json={**READING, "note": "private words"},
        ),
    ]
    for request in requests:
        answer = request()
        if answer.status_code >= 400:
            assert "Test^" not in answer.text
    kept = json.dumps([vars(entry) for entry in followed.audited()], default=str)
    for secret in ("Test^P1", "private words", "2024-0", "19600102", "1960"):
        assert secret not in kept.replace('"at": "', "")
        assert secret not in log.getvalue()
    assert make_empty_database  # the fixtures' own
