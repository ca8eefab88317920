"""The former front end's routes behind our door: roles, origins, hostile input, logs.

Their errors are ``{"error": ...}``, so the tests of the other routes do not fit them.
"""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from api import create_app
from segmentation.access.roles import ROLES
from settings import Settings
from tests.fake_archive import FakeArchive
from tests.security.application import (
    CANARY_ID,
    CANARY_NAME,
    SECRET,
    Application,
    make_empty_database,
)
from tests.security.test_access_matrix import LEGACY_NEEDS, NEEDS
from tests.small_series import make_series

OURS = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def legacy(tmp_path: Path, empty_database: Path) -> Application:
    return Application(tmp_path, empty_database, legacy_api=True, legacy_wait_s=0.01)


def address(rule: str) -> str:
    return rule.replace("<string:study_uid>", "1.2.3")


def test_every_route_is_in_the_tables(legacy: Application) -> None:
    routes = {
        (method, rule.rule)
        for rule in legacy.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == set(NEEDS) | set(LEGACY_NEEDS)


@pytest.mark.parametrize("role", ROLES)
def test_roles_are_enforced(legacy: Application, role: str) -> None:
    for (method, rule), need in LEGACY_NEEDS.items():
        browser = legacy.browser(role)
        browser.csrf = None
        answer = browser.open(address(rule), method=method, json={}, headers=OURS)
        if ROLES.index(role) < ROLES.index(need):
            assert answer.status_code == 403, f"{role}: {method} {rule}"
            assert list(answer.json) == ["error"]
        else:
            assert answer.status_code not in (401, 403), f"{role}: {method} {rule}"
        script = legacy.stranger().open(
            address(rule), method=method, json={}, headers=legacy.script_headers(role)
        )
        assert script.status_code == answer.status_code


def test_strangers_get_nowhere(legacy: Application) -> None:
    wrong = ({}, OURS, {"Authorization": "Bearer metia_" + "A" * 43})
    for method, rule in LEGACY_NEEDS:
        for headers in wrong:
            answer = legacy.stranger().open(
                address(rule), method=method, json={}, headers=headers
            )
            assert answer.status_code == 401, f"{method} {rule}"
            assert list(answer.json) == ["error"]
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_session_counts_only_from_our_own_origin(legacy: Application) -> None:
    changes = [route for route in LEGACY_NEEDS if route[0] != "GET"]
    for method, rule in changes:
        browser = legacy.browser("admin")
        token, browser.csrf = browser.csrf, None
        for foreign in (
            {},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:3000"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
            {"X-CSRF-Token": "x"},
            {"X-CSRF-Token": token, "Origin": "https://evil.example"},
        ):
            answer = browser.open(
                address(rule), method=method, json={}, headers=foreign
            )
            assert answer.status_code == 403, f"{method} {rule} {foreign}"
            assert list(answer.json) == ["error"]
        for ours in (
            {"Sec-Fetch-Site": "same-origin"},
            {"Origin": "http://localhost"},
            {"X-CSRF-Token": token},
        ):
            answer = browser.open(address(rule), method=method, json={}, headers=ours)
            assert answer.status_code != 403, f"{method} {rule} {ours}"


def test_other_routes_still_need_the_csrf_token(legacy: Application) -> None:
    browser = legacy.browser("admin")
    browser.csrf = None
    answer = browser.post("/api/v1/jobs", json={"study_uid": "1.2.3"}, headers=OURS)
    assert (answer.status_code, answer.json["code"]) == (403, "csrf-failed")


def test_no_patient_in_logs_audit_or_answers(
    legacy: Application, log: io.StringIO
) -> None:
    images = make_series(3, PatientName=CANARY_NAME, PatientID=CANARY_ID)
    legacy.archive.put(images)
    study, series = (
        str(images[0].StudyInstanceUID),
        str(images[0].SeriesInstanceUID),
    )
    legacy.record(study, series)
    script = legacy.script_headers("admin")
    page = legacy.stranger()
    file = {"files[]": (io.BytesIO(b"no image"), f"{CANARY_NAME}.dcm")}
    region = {
        "serie_instance_uid": series,
        "study_instance_uid": study,
        "roi_number": 1,
        "new_name": CANARY_NAME,
    }
    answers = [
        page.post(f"/segmentation/{study}", headers=script),
        page.post(f"/segmentation/{CANARY_ID}", headers=script),
        page.post("/uploadDicom", data=file, headers=script),
        page.post("/rename-roi", json=region, headers=script),
        page.post("/rename-roi", json={"roi_number": CANARY_NAME}, headers=script),
        page.get(f"/followup-etudes?idPatient={CANARY_ID}x", headers=script),
        page.get(f"/followup-patients/{CANARY_ID}", headers=script),
        page.delete(f"/delete-study/{CANARY_ID}", headers=script),
        page.delete(f"/delete-study/{study}", headers=script),
    ]
    from db import audit
    from db.engine import reading

    with reading(legacy.engine) as session:
        noted = repr(audit.entries(session))
    written = "\n".join([log.getvalue(), noted, *(one.text for one in answers)])
    for canary in (CANARY_NAME, CANARY_ID, "anary"):
        assert canary not in written


def test_a_body_too_large_is_refused(
    legacy: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segmentation.legacy import routes

    script = legacy.script_headers("annotator")
    monkeypatch.setattr(routes, "LARGEST_UPLOAD", 2000)
    form = {"files[]": (io.BytesIO(bytes(3000)), "x.dcm")}
    answer = legacy.stranger().post("/uploadDicom", data=form, headers=script)
    assert answer.status_code == 413
    assert list(answer.json) == ["error"]
    answer = legacy.stranger().post(
        "/rename-roi", data=b"x" * 2_000_000, headers=script
    )
    assert answer.status_code in (400, 413)


def test_reading_goes_on_while_others_wait(
    tmp_path: Path, empty_database: Path
) -> None:
    legacy = Application(tmp_path, empty_database, legacy_api=True, legacy_wait_s=3)
    study, _ = legacy.put_study()
    script = legacy.script_headers("annotator")
    threads = [
        threading.Thread(
            target=lambda: legacy.stranger().post(
                f"/segmentation/{study}", headers=script
            )
        )
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    try:
        answer = legacy.stranger().get("/followup-patients", headers=script)
        assert answer.status_code == 200
    finally:
        for thread in threads:
            thread.join()


# -- generated requests ----------------------------------------------------------------


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Application:
    folder = tmp_path_factory.mktemp("fuzzed")
    application = Application(
        folder, make_empty_database(folder), legacy_api=True, legacy_wait_s=0.01
    )
    study, series = application.put_study()
    application.record(study, series)
    return application


def _load() -> Any:
    """Describe the nine routes, without what credentials they take: those are ours."""
    app = create_app(
        Settings(secret_key=SECRET, legacy_api=True),
        archive=FakeArchive(),
    )
    api = app.extensions["flask-smorest"]["apis"][""]["ext_obj"]
    found = json.loads(json.dumps(api.spec.to_dict()))
    paths = [rule.replace("<string:study_uid>", "{study_uid}")
             for _, rule in LEGACY_NEEDS]  # fmt: skip
    found["paths"] = {path: found["paths"][path] for path in paths}
    del found["security"], found["components"]["securitySchemes"]
    return schemathesis.openapi.from_dict(found)


schema = _load()


@schema.parametrize()
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_routes_keep_to_their_description(case: Any, target: Application) -> None:
    # UIDs out of the air are not found, and files out of the air are not images.
    unsayable = ["positive_data_acceptance", "negative_data_rejection"]
    response = case.call_and_validate(
        app=target.app,
        headers=target.script_headers("admin"),
        excluded_checks=[schemathesis.checks.CHECKS.get_one(one) for one in unsayable],
    )
    assert response.status_code not in (401, 403)
