"""Every route does what the documentation says, for who may use it."""

from __future__ import annotations

import pytest
from pydicom.uid import generate_uid

from errors import MetiaError
from segmentation.jobs import Fence
from tests.security.application import Application


def test_session_tells_who_is_logged_in(application: Application) -> None:
    answer = application.browser("annotator").get("/api/v1/session")

    assert answer.status_code == 200
    assert answer.json["user"] == {
        "name": "annotator",
        "display_name": "Annotator",
        "role": "annotator",
    }
    assert len(answer.json["csrf_token"]) == 64


def test_script_has_no_csrf_token(application: Application) -> None:
    headers = application.script_headers("viewer")
    answer = application.stranger().get("/api/v1/session", headers=headers)

    assert answer.status_code == 200
    assert answer.json["csrf_token"] is None


def test_study_is_ranked(application: Application) -> None:
    study, series = application.put_study()
    answer = application.browser("viewer").get(f"/api/v1/studies/{study}/series")

    assert answer.status_code == 200
    assert answer.json["study_uid"] == study
    (candidate,) = answer.json["candidates"]
    assert candidate["series_uid"] == series
    assert candidate["description"] == "T1 SE AX +GD"
    assert {"code", "effect", "text"} == set(candidate["reasons"][0])
    assert answer.json["chosen"] == series
    assert answer.json["refusal"] is None


def test_study_without_suitable_series_is_refused(application: Application) -> None:
    study, _ = application.put_study(SeriesDescription="T2 TSE AX")
    answer = application.browser("viewer").get(f"/api/v1/studies/{study}/series")

    assert answer.status_code == 200
    assert answer.json["chosen"] is None
    assert len(answer.json["candidates"]) == 1
    assert answer.json["refusal"]["code"] == "no-suitable-series"
    assert answer.json["refusal"]["detail"]


@pytest.mark.parametrize("path", ["/series", "/results"])
def test_unknown_study(application: Application, path: str) -> None:
    answer = application.browser("viewer").get(
        f"/api/v1/studies/{generate_uid()}{path}"
    )
    if path == "/series":
        assert (answer.status_code, answer.json["code"]) == (404, "study-not-found")
    else:
        assert (answer.status_code, answer.json) == (200, {"results": []})


def test_job_lives_from_submission_to_cancellation(application: Application) -> None:
    study, _ = application.put_study()
    browser = application.browser("annotator")

    made = browser.post("/api/v1/jobs", json={"study_uid": study})
    assert made.status_code == 202
    job = made.json
    assert made.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    assert job["state"] == "queued"
    assert job["ups_state"] == "SCHEDULED"
    assert job["step"] == "waiting"
    assert job["study_uid"] == study
    assert job["series_uid"] is None
    assert job["requested_by"] == "annotator"
    assert job["model"]
    assert job["queue_position"] == 1
    assert job["error"] is None

    again = browser.post("/api/v1/jobs", json={"study_uid": study})
    assert (again.status_code, again.json["id"]) == (200, job["id"])
    assert again.headers["Location"] == made.headers["Location"]

    read = browser.get(made.headers["Location"])
    assert read.status_code == 200
    assert read.json == job

    cancelled = browser.post(f"/api/v1/jobs/{job['id']}/cancel")
    assert cancelled.status_code == 200
    assert cancelled.json["state"] == "cancelled"
    assert cancelled.json["ups_state"] == "CANCELED"


def test_naming_the_default_model_is_the_same_job(application: Application) -> None:
    study, series = application.put_study()
    browser = application.browser("annotator")
    listed = browser.get("/api/v1/models").json["models"]
    (default,) = [model["name"] for model in listed if model["is_default"]]

    first = browser.post("/api/v1/jobs", json={"study_uid": study})
    second = browser.post("/api/v1/jobs", json={"study_uid": study, "model": default})
    third = browser.post(
        "/api/v1/jobs", json={"study_uid": study, "series_uid": series}
    )

    assert second.json["id"] == first.json["id"]
    assert third.json["id"] != first.json["id"]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"study_uid": "1.2.3"}, 404, "study-not-found"),
        ({"series_uid": "1.2.3"}, 404, "series-not-found"),
        ({"model": "no-such-model"}, 422, "model-unknown"),
        ({"model": "../../etc"}, 422, "invalid-input"),
        ({"priority": 11}, 422, "invalid-input"),
        ({"priority": 0.5}, 422, "invalid-input"),
        ({"colour": "red"}, 422, "invalid-input"),
    ],
)
def test_job_that_makes_no_sense(
    application: Application, change: dict[str, object], status: int, code: str
) -> None:
    study, _ = application.put_study()
    browser = application.browser("annotator")
    answer = browser.post("/api/v1/jobs", json={"study_uid": study, **change})

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert browser.get("/api/v1/jobs").json["jobs"] == []


def test_silent_archive_is_told_at_once(application: Application) -> None:
    study, _ = application.put_study()
    application.archive.fail_with = MetiaError("archive-unavailable", "It is silent.")
    browser = application.browser("annotator")

    answer = browser.post("/api/v1/jobs", json={"study_uid": study})
    assert (answer.status_code, answer.json["code"]) == (503, "archive-unavailable")
    assert browser.get("/api/v1/jobs").status_code == 200


def test_full_queue_is_refused(tmp_path, empty_database) -> None:
    application = Application(tmp_path, empty_database, job_queue_limit=1)
    browser = application.browser("annotator")
    answers = [
        browser.post("/api/v1/jobs", json={"study_uid": application.put_study()[0]})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 429]
    assert answers[1].json["code"] == "too-many-requests"
    assert int(answers[1].headers["Retry-After"]) > 0


def test_jobs_are_paged(application: Application) -> None:
    browser = application.browser("annotator")
    made = [
        browser.post(
            "/api/v1/jobs", json={"study_uid": application.put_study()[0]}
        ).json["id"]
        for _ in range(5)
    ]
    seen: list[str] = []
    query: dict[str, object] = {"limit": 2}
    for _ in range(3):
        page = browser.get("/api/v1/jobs", query_string=query).json
        seen += [job["id"] for job in page["jobs"]]
        query["cursor"] = page["next_cursor"]
    assert seen == made[::-1]
    assert page["next_cursor"] is None
    positions = [
        job["queue_position"] for job in browser.get("/api/v1/jobs").json["jobs"]
    ]
    assert positions == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 201},
        {"limit": "1e2"},
        {"limit": "9" * 5000},
        {"state": "asleep"},
        {"cursor": "x"},
        {"cursor": "AAAA"},
        {"cursor": "\0"},
        {"cursor": "é"},
        {"study_uid": "1.2.3\n"},
        {"order": "up"},
    ],
)
def test_job_list_refuses_odd_queries(
    application: Application, query: dict[str, object]
) -> None:
    answer = application.browser("viewer").get("/api/v1/jobs", query_string=query)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid-input")


def test_polling_costs_nothing_while_nothing_changes(application: Application) -> None:
    study, _ = application.put_study()
    browser = application.browser("annotator")
    address = browser.post("/api/v1/jobs", json={"study_uid": study}).headers[
        "Location"
    ]
    tag = browser.get(address).headers["ETag"]

    same = browser.get(address, headers={"If-None-Match": tag})
    assert (same.status_code, same.data) == (304, b"")

    application.app.extensions["metia-services"].queue.claim("worker")
    changed = browser.get(address, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.json["state"] == "running"
    assert changed.headers["ETag"] != tag


def test_failed_job_says_what_to_do(application: Application) -> None:
    study, _ = application.put_study()
    browser = application.browser("annotator")
    address = browser.post("/api/v1/jobs", json={"study_uid": study}).headers[
        "Location"
    ]
    queue = application.app.extensions["metia-services"].queue
    job = queue.claim("worker")
    queue.fail(
        Fence(job.id, job.attempt, "worker"),
        MetiaError("volume-missing-slice", "Slice 7 of 20 is missing."),
    )
    error = browser.get(address).json["error"]
    assert error == {
        "code": "volume-missing-slice",
        "title": "A slice is missing",
        "detail": "Slice 7 of 20 is missing.",
        "remedy": "Send the complete series to the archive.",
    }
    cancel = browser.post(f"{address}/cancel")
    assert (cancel.status_code, cancel.json["code"]) == (409, "conflict")


def test_job_that_waits_for_the_archive_says_so(application: Application) -> None:
    study, _ = application.put_study()
    browser = application.browser("annotator")
    address = browser.post("/api/v1/jobs", json={"study_uid": study}).headers[
        "Location"
    ]
    queue = application.app.extensions["metia-services"].queue
    job = queue.claim("worker")
    queue.retry(
        Fence(job.id, job.attempt, "worker"),
        MetiaError("archive-unavailable", "It is silent."),
    )
    waiting = browser.get(address).json
    assert waiting["state"] == "queued"
    assert waiting["error"]["code"] == "archive-unavailable"

    cancelled = browser.post(f"{address}/cancel").json
    assert (cancelled["state"], cancelled["error"]) == ("cancelled", None)


def test_results_and_lesions(application: Application) -> None:
    study, series = application.put_study()
    first = application.record(study, series, lesions=0)
    second = application.record(study, series, lesions=2)
    viewer = application.browser("viewer")

    listed = viewer.get(f"/api/v1/studies/{study}/results").json["results"]
    assert [result["id"] for result in listed] == [second, first]
    assert listed[1]["segmentation"] is None
    assert listed[1]["lesions"] == []
    newest = listed[0]
    assert newest == viewer.get(f"/api/v1/results/{second}").json
    assert newest["study_uid"] == study
    assert newest["series_uid"] == series
    assert newest["state"] == "unverified"
    assert newest["lesion_count"] == 2
    assert newest["model"] == {
        "name": "net-a",
        "version": "1.0",
        "sha256": "a" * 64,
        "demonstration": True,
    }
    assert "Research use only" in newest["notice"]
    lesion = newest["lesions"][0]
    assert lesion["long_axis_mm"] == [[0.0, 1.0, 2.0], [7.5, 1.0, 2.0]]
    assert lesion["colour"] == [230, 80, 10]
    assert lesion["warnings"] == ["touches-border"]
    assert newest["series_choice"] == ["the description names a T1"]
    assert (newest["tilt_deg"], newest["resampled"]) == (10.0, False)
    assert newest["dropped_small"] == 1
    alone = viewer.get(f"/api/v1/lesions/{lesion['id']}").json
    assert alone == {**lesion, "result_id": second}


@pytest.mark.parametrize("kind", ["jobs", "results", "lesions"])
def test_unknown_ids(application: Application, kind: str) -> None:
    answer = application.browser("viewer").get(f"/api/v1/{kind}/{'0' * 32}")
    assert (answer.status_code, answer.json["code"]) == (404, "not-found")


def test_models_are_listed_with_one_default(application: Application) -> None:
    models = application.browser("viewer").get("/api/v1/models").json["models"]
    names = [model["name"] for model in models]
    assert "phantom-threshold" in names
    assert [model["is_default"] for model in models].count(True) == 1
    assert all(len(model["sha256"]) == 64 for model in models)


def test_answers_without_login(application: Application) -> None:
    stranger = application.stranger()
    assert stranger.get("/healthz").json == {"status": "alive"}
    answer = stranger.get("/readyz")
    assert (answer.status_code, answer.json) == (503, {"status": "not ready"})

    application.app.extensions["metia-services"].queue.note_worker(
        "worker", ["gpu"], "cpu"
    )
    answer = stranger.get("/readyz")
    assert (answer.status_code, answer.json) == (200, {"status": "ready"})


def test_administrator_sees_what_is_not_ready(application: Application) -> None:
    application.archive.fail_with = MetiaError("archive-unavailable", "It is silent.")
    answer = application.browser("admin").get("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"] == {
        "archive": "archive-unavailable",
        "database": "ok",
        "worker": "not-ready",
    }
    assert "checks" not in application.browser("viewer").get("/readyz").json


def test_metrics_name_routes_and_jobs(application: Application) -> None:
    study, _ = application.put_study()
    browser = application.browser("annotator")
    browser.post("/api/v1/jobs", json={"study_uid": study})
    browser.get(f"/api/v1/studies/{study}/results")

    text = application.stranger().get("/metrics").text
    assert 'metia_jobs{state="queued"} 1.0' in text
    assert "metia_queue_oldest_seconds " in text
    assert 'route="/api/v1/studies/<uid:study_uid>/results",status="200"' in text
    assert study not in text


def test_metrics_are_not_for_those_outside(application: Application) -> None:
    answer = application.stranger().get(
        "/metrics", headers={"X-Forwarded-For": "203.0.113.9"}
    )
    assert answer.status_code == 404


def test_docs_page_needs_nothing_from_elsewhere(application: Application) -> None:
    answer = application.browser("viewer").get("/api/v1/docs")
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "/api/v1/jobs/{job_id}/cancel" in answer.text
    assert 'id="error-volume-missing-slice"' in answer.text
