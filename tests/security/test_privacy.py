"""No name and no identifier of a patient leaves by logs, metrics or errors.

A canary patient is put into the archive and the database; then the whole API is used,
well and badly, and everything it wrote is searched.
"""

from __future__ import annotations

import io
import json

import pytest

from db import audit
from db.engine import reading
from errors import MetiaError
from tests.security.application import CANARY_ID, CANARY_NAME, Application, Browser

CANARIES = (CANARY_NAME, CANARY_ID, "Zzcanary", "zzcanary", "19010203", "Canarytext")
SHOWS_DESCRIPTIONS = "/series"


def _use_everything(
    application: Application, client: Browser, study: str, series: str
) -> list[tuple[str, str]]:
    result = application.record(study, series)
    lesion = client.get(f"/api/v1/results/{result}").json["lesions"][0]["id"]
    answers = [
        client.post("/api/v1/jobs", json={"study_uid": study, "series_uid": series}),
        client.post("/api/v1/jobs", json={"study_uid": study, "series_uid": "1.2"}),
        client.post("/api/v1/jobs", json={"study_uid": study, "model": "none"}),
        client.get("/api/v1/jobs", query_string={"study_uid": study}),
        client.get("/api/v1/jobs", query_string={"PatientName": CANARY_NAME}),
        client.get(f"/api/v1/studies/{study}/results"),
        client.get(f"/api/v1/results/{result}"),
        client.get(f"/api/v1/lesions/{lesion}"),
        client.get(f"/api/v1/studies/{CANARY_ID}/series"),
        client.get(f"/api/v1/{CANARY_NAME}"),
        client.post("/api/v1/jobs", json={"study_uid": CANARY_ID}),
        client.post("/api/v1/jobs", json={"patient": CANARY_NAME}),
        client.post("/api/v1/jobs", data=CANARY_NAME),
        client.get("/api/v1/models"),
        client.get("/api/v1/openapi.json"),
        client.get("/metrics"),
        client.get("/readyz"),
    ]
    ranked = client.get(f"/api/v1/studies/{study}/series")
    assert "Canarytext" in ranked.text  # the documented place for it
    assert "anary4711" not in ranked.text
    assert CANARY_NAME not in ranked.text
    for error in (
        MetiaError("archive-unavailable", "It is silent."),
        RuntimeError(CANARY_NAME),
    ):
        application.archive.fail_with = error  # type: ignore[assignment]
        answers.append(client.get(f"/api/v1/studies/{study}/series"))
        answers.append(client.post("/api/v1/jobs", json={"study_uid": study}))
    return [(answer.request.path, answer.text) for answer in answers]


def test_canary_is_seen_nowhere(application: Application, log: io.StringIO) -> None:
    study, series = application.put_study(SeriesDescription="T1 +GD Canarytext")
    client = application.browser("admin")

    answers = _use_everything(application, client, study, series)

    for address, text in answers:
        for canary in CANARIES:
            assert canary not in text, address
    logged = log.getvalue()
    assert len(logged.splitlines()) > 20
    for canary in (*CANARIES, study, series):
        assert canary not in logged
    with reading(application.engine) as session:
        entries = repr(audit.entries(session))
    for canary in CANARIES:
        assert canary not in entries


def test_log_lines_are_json_with_a_request_id(
    application: Application, log: io.StringIO
) -> None:
    study, _ = application.put_study()
    application.browser("viewer").get(
        f"/api/v1/studies/{study}/series?secret=1",
        headers={"X-Request-ID": "test-4711"},
    )
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    (line,) = [line for line in lines if line["event"] == "request"]
    # A query this route does not know is none of the log's business.
    assert line["route"] == "/api/v1/studies/<uid:study_uid>/series"
    assert line["method"] == "GET"
    assert line["status"] == 200
    assert line["request_id"] == "test-4711"
    assert line["user"] == "viewer"
    assert line["milliseconds"] > 0
    assert "secret" not in log.getvalue()


def test_secrets_are_not_logged(application: Application, log: io.StringIO) -> None:
    password = "a very secret password"
    application.make_user("viewer", "ada", password)
    client = application.stranger()
    answer = client.post(
        "/api/v1/session", json={"username": "ada", "password": password}
    )
    cookie = client.get_cookie("metia_session")
    assert cookie
    client.get("/api/v1/jobs", headers={"Authorization": "Bearer metia_" + "x" * 43})
    logged = log.getvalue()
    for secret in (password, cookie.value, answer.json["csrf_token"], "x" * 43):
        assert secret not in logged


def test_exceptions_of_libraries_are_logged_without_their_message(
    application: Application, log: io.StringIO
) -> None:
    import logging

    try:
        raise ValueError(CANARY_NAME)
    except ValueError:
        logging.getLogger("some.library").exception("It failed")
    (line,) = [json.loads(text) for text in log.getvalue().splitlines()]
    assert line["exception"] == "builtins.ValueError"
    assert CANARY_NAME not in log.getvalue()


@pytest.mark.parametrize("kind", ["html", "script"])
def test_description_stays_text(application: Application, kind: str) -> None:
    text = {"html": "<b>T1</b>", "script": "=cmd|' /C calc'!A0"}[kind]
    study, _ = application.put_study(SeriesDescription=text)
    answer = application.browser("viewer").get(f"/api/v1/studies/{study}/series")
    assert answer.mimetype == "application/json"
    assert answer.json["candidates"][0]["description"] == text
