"""The audit's export and the erasure of a patient, asked over HTTP."""

from __future__ import annotations

import copy
import io
from datetime import UTC, datetime, timedelta

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from db import audit
from db.engine import reading, transaction
from db.patients import key_of_study
from errors import MetiaError
from tests.fake_archive import FakeArchive
from tests.security.application import CANARY_ID, CANARY_NAME, Application


def note(application: Application, count: int = 5) -> None:
    for number in range(count):
        with transaction(application.engine) as session:
            audit.append(
                session,
                actor="ann" if number % 2 else None,
                action="result-review",
                subject=f"result:{number % 3}",
                details={"before": {"number": number}},
                request_id=f"request-{number}",
            )


def ask(application: Application, role: str = "admin", **query: object) -> dict:  # type: ignore[type-arg]
    answer = application.browser(role).get("/api/v1/audit", query_string=query)
    assert answer.status_code == 200, answer.json
    return dict(answer.json)


# -- audit ---------------------------------------------------------------------


def test_audit_is_told_oldest_first_with_everything(application: Application) -> None:
    note(application, 2)
    told = ask(application, action="result-review")
    assert told["next_cursor"] is None
    first, second = told["entries"]
    assert (first["actor"], second["actor"]) == (None, "ann")
    assert first["details"] == {"before": {"number": 0}}
    assert first["subject"] == "result:0"
    assert first["request_id"] == "request-0"
    assert datetime.fromisoformat(first["at"]).utcoffset() == timedelta(0)


def test_pages_give_each_entry_once_while_others_come(
    application: Application,
) -> None:
    note(application, 7)
    seen, cursor = [], "0"
    while cursor is not None:
        page = ask(application, action="result-review", limit=2, cursor=cursor)
        seen += [entry["details"]["before"]["number"] for entry in page["entries"]]
        cursor = page["next_cursor"]
        if len(seen) == 2:
            note(application, 1)
    assert seen == [0, 1, 2, 3, 4, 5, 6, 0]


def test_entries_are_chosen_by_actor_subject_and_time(
    application: Application,
) -> None:
    note(application, 6)
    found = ask(application, actor="ann", subject="result:0")["entries"]
    assert [one["details"]["before"]["number"] for one in found] == [3]
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    for since, until, expected in (
        (now - hour, now + hour, 6),
        (now + hour, now + 2 * hour, 0),
        (now - 2 * hour, now - hour, 0),
    ):
        told = ask(
            application,
            action="result-review",
            since=since.isoformat(),
            until=until.isoformat(),
        )
        assert len(told["entries"]) == expected


@pytest.mark.parametrize(
    "query",
    [
        {"since": "yesterday"},
        {"since": "2026-01-01"},
        {"since": "2026-01-01T00:00:00"},
        {"since": "2026-13-01T00:00:00Z"},
        {"until": "2026-01-01T25:00:00Z"},
        {"limit": "0"},
        {"limit": "5001"},
        {"cursor": "abc"},
        {"cursor": "-1"},
        {"cursor": "9" * 19},
        {"actor": "a\nb"},
        {"actor": "a" * 129},
        {"colour": "blue"},
    ],
)
def test_bad_query_is_refused(application: Application, query: dict[str, str]) -> None:
    answer = application.browser("admin").get("/api/v1/audit", query_string=query)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid-input")


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59"]
)
def test_moments_at_the_ends_of_time_are_taken(
    application: Application, moment: str
) -> None:
    for name in ("since", "until"):
        ask(application, **{name: moment})


# -- erasure -------------------------------------------------------------------


def own_object(application: Application, study_uid: str, **other: str) -> Dataset:
    """Put an object into the study that says MetIA wrote it."""
    series = application.archive.series_headers(study_uid)[0]
    image = application.archive.fetch_series(study_uid, series.series_uid)[0]
    own = copy.deepcopy(image)
    own.SeriesInstanceUID = generate_uid()
    own.SOPInstanceUID = own.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    own.ManufacturerModelName = "MetIA"
    own.Modality = "SEG"
    for keyword, value in other.items():
        setattr(own, keyword, value)
    application.archive.put([own])
    return own


@pytest.fixture
def study(application: Application) -> tuple[str, str]:
    study_uid, series_uid = application.put_study()
    application.record(study_uid, series_uid)
    return study_uid, series_uid


def key_of(application: Application, study_uid: str) -> str:
    with reading(application.engine) as session:
        return key_of_study(session, study_uid)


def erase(application: Application, key: str, **query: str):  # type: ignore[no-untyped-def]
    return application.browser("admin").delete(
        f"/api/v1/patients/{key}", query_string=query
    )


def test_erasure_takes_rows_and_own_series_and_leaves_the_scanners(
    application: Application, study: tuple[str, str]
) -> None:
    study_uid, series_uid = study
    seg = own_object(application, study_uid)
    report_object = own_object(application, study_uid, Modality="SR")
    foreign = own_object(application, study_uid, ManufacturerModelName="Other")
    key = key_of(application, study_uid)
    answer = erase(application, key)
    assert answer.status_code == 200
    told = answer.json
    assert told["patient_id"] == key
    assert told["rows"]["result"] == 1
    assert told["rows"]["patient"] == 1
    assert told["study_uids"] == [study_uid]
    assert set(told["deleted_series"]) == {
        str(seg.SeriesInstanceUID),
        str(report_object.SeriesInstanceUID),
    }
    assert told["remaining"] == []
    left = application.archive.series_headers(study_uid)
    assert {header.series_uid for header in left} == {
        series_uid,
        str(foreign.SeriesInstanceUID),
    }
    browser = application.browser("viewer")
    assert browser.get(f"/api/v1/studies/{study_uid}/results").json["results"] == []
    assert erase(application, key).status_code == 404


def test_jobs_of_an_erased_patient_are_listed_without_him(
    application: Application, study: tuple[str, str]
) -> None:
    browser = application.browser("annotator")
    job = browser.post("/api/v1/jobs", json={"study_uid": study[0]}).json
    erase(application, key_of(application, study[0]))
    told = browser.get(f"/api/v1/jobs/{job['id']}").json
    assert (told["study_uid"], told["series_uid"]) == ("2.25.0", None)
    assert told["state"] == "cancelled"
    assert told["error"] is None
    assert browser.get("/api/v1/jobs").json["jobs"] == [told]


def test_erasure_is_audited_without_a_trace_of_the_patient(
    application: Application, study: tuple[str, str], log: io.StringIO
) -> None:
    key = key_of(application, study[0])
    erase(application, key)
    entries = ask(application, subject=f"patient:{key}")["entries"]
    assert [one["action"] for one in entries] == [
        "patient-erase",
        "patient-erase-archive",
    ]
    assert {one["actor"] for one in entries} == {"admin"}
    assert all(one["request_id"] for one in entries)
    for trace in (CANARY_ID, CANARY_NAME, "19010203", study[0]):
        assert trace not in str(entries)
        assert trace not in log.getvalue()


def test_archive_that_does_not_answer_is_named_series_by_series(
    application: Application, study: tuple[str, str]
) -> None:
    study_uid, _ = study
    key = key_of(application, study_uid)
    application.archive.fail_with = MetiaError("archive-unavailable", "Off.")
    told = erase(application, key).json
    assert told["deleted_series"] == []
    (left,) = told["remaining"]
    assert left["code"] == "archive-unavailable"
    assert left["study_uid"] == study_uid
    assert left["series_uid"] is not None
    assert told["rows"]["patient"] == 1
    entry = ask(application, action="patient-erase-archive")["entries"][0]
    assert entry["details"]["remaining"] == [left]


def test_series_that_cannot_be_deleted_is_named(
    application: Application,
    study: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study_uid, _ = study
    seg = own_object(application, study_uid)

    def refuse(*_: object) -> None:
        raise MetiaError("archive-denied", "No.")

    monkeypatch.setattr(FakeArchive, "delete_series", refuse)
    told = erase(application, key_of(application, study_uid)).json
    assert told["remaining"] == [
        {
            "study_uid": study_uid,
            "series_uid": str(seg.SeriesInstanceUID),
            "code": "archive-denied",
        }
    ]


def test_archive_can_be_kept(application: Application, study: tuple[str, str]) -> None:
    study_uid, _ = study
    own_object(application, study_uid)
    before = len(application.archive.series_headers(study_uid))
    told = erase(application, key_of(application, study_uid), keep_archive="true").json
    assert [one["code"] for one in told["remaining"]] == ["kept"]
    assert len(application.archive.series_headers(study_uid)) == before


def test_study_that_the_archive_has_no_more_leaves_nothing(
    application: Application,
) -> None:
    study_uid, series_uid = generate_uid(), generate_uid()
    application.record(study_uid, series_uid)
    told = erase(application, key_of(application, study_uid)).json
    assert (told["deleted_series"], told["remaining"]) == ([], [])


def test_unknown_patient_is_not_found(application: Application) -> None:
    answer = erase(application, "0" * 32)
    assert (answer.status_code, answer.json["code"]) == (404, "not-found")
    assert ask(application, action="patient-erase")["entries"] == []
