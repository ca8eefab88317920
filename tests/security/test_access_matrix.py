"""Who may use which route: every route of the application against every role.

The table is complete by construction: it is compared with the application's own list
of routes, so that a new route fails here until someone has decided who may use it.
"""

from __future__ import annotations

import pytest

from segmentation.access.roles import ROLES
from tests.security.application import Application

UID = "1.2.3"
ID = "0" * 32

NEEDS = {
    ("GET", "/api/v1/session"): "viewer",
    ("POST", "/api/v1/session"): "public",
    ("DELETE", "/api/v1/session"): "viewer",
    ("GET", "/api/v1/auth/check"): "public",  # answers by what nginx asks about
    ("GET", "/api/v1/studies/<uid:study_uid>/series"): "viewer",
    ("GET", "/api/v1/studies/<uid:study_uid>/results"): "viewer",
    ("POST", "/api/v1/studies/<uid:study_uid>/opened"): "viewer",
    ("POST", "/api/v1/jobs"): "annotator",
    ("GET", "/api/v1/jobs"): "viewer",
    ("GET", "/api/v1/jobs/<id:job_id>"): "viewer",
    ("POST", "/api/v1/jobs/<id:job_id>/cancel"): "annotator",
    ("GET", "/api/v1/results/<id:result_id>"): "viewer",
    ("PATCH", "/api/v1/results/<id:result_id>"): "annotator",
    ("POST", "/api/v1/results/<id:result_id>/corrections"): "annotator",
    ("POST", "/api/v1/results/<id:result_id>/restore"): "annotator",
    ("GET", "/api/v1/results/<id:result_id>/versions"): "viewer",
    ("GET", "/api/v1/lesions/<id:lesion_id>"): "viewer",
    ("GET", "/api/v1/models"): "viewer",
    ("GET", "/api/v1/models/<name>"): "viewer",
    ("POST", "/api/v1/models/<name>/verify"): "reviewer",
    ("POST", "/api/v1/models/<name>/promote"): "admin",
    ("POST", "/api/v1/model-rollback"): "admin",
    ("POST", "/api/v1/models"): "admin",
    ("GET", "/api/v1/patients"): "viewer",
    ("GET", "/api/v1/patients/<id:patient_id>/course"): "viewer",
    ("GET", "/api/v1/studies/<uid:study_uid>/course"): "viewer",
    ("PUT", "/api/v1/patients/<id:patient_id>/plan"): "reviewer",
    ("POST", "/api/v1/patients/<id:patient_id>/events"): "annotator",
    ("DELETE", "/api/v1/patients/<id:patient_id>/events/<id:event_id>"): "annotator",
    ("PUT", "/api/v1/studies/<uid:study_uid>/reading"): "annotator",
    ("PUT", "/api/v1/tracks/<id:track_id>/studies/<uid:study_uid>"): "annotator",
    ("PATCH", "/api/v1/tracks/<id:track_id>"): "annotator",
    ("POST", "/api/v1/patients/<id:patient_id>/links"): "annotator",
    ("POST", "/api/v1/patients/<id:patient_id>/links/undo"): "annotator",
    ("GET", "/api/v1/studies/<uid:study_uid>/assessments"): "viewer",
    ("POST", "/api/v1/studies/<uid:study_uid>/assessments"): "reviewer",
    ("POST", "/api/v1/patients/<id:patient_id>/update"): "annotator",
    ("GET", "/api/v1/patients/<id:patient_id>/export/csv"): "annotator",
    ("GET", "/api/v1/patients/<id:patient_id>/export/xlsx"): "annotator",
    ("GET", "/api/v1/patients/<id:patient_id>/export/fhir"): "annotator",
    ("GET", "/api/v1/patients/<id:patient_id>/export/pdf"): "annotator",
    ("GET", "/api/v1/studies/<uid:study_uid>/report.pdf"): "annotator",
    ("POST", "/api/v1/studies/<uid:study_uid>/report"): "reviewer",
    ("GET", "/api/v1/results/<id:result_id>/export/nifti"): "annotator",
    ("GET", "/api/v1/results/<id:result_id>/export/sr"): "annotator",
    ("GET", "/api/v1/results/<id:result_id>/export/rtstruct"): "annotator",
    ("GET", "/api/v1/results/<id:result_id>/export/seg"): "annotator",
    ("POST", "/api/v1/results/<id:result_id>/export"): "annotator",
    ("POST", "/api/v1/studies/<uid:study_uid>/imports"): "annotator",
    ("GET", "/api/v1/patients/<id:patient_id>/historical"): "viewer",
    ("GET", "/api/v1/audit"): "admin",
    ("DELETE", "/api/v1/patients/<id:patient_id>"): "admin",
    ("GET", "/api/v1/users"): "admin",
    ("POST", "/api/v1/users"): "admin",
    ("PATCH", "/api/v1/users/<name>"): "admin",
    ("GET", "/api/v1/tokens"): "viewer",
    ("POST", "/api/v1/tokens"): "viewer",
    ("DELETE", "/api/v1/tokens/<id:token_id>"): "viewer",
    ("GET", "/api/v1/openapi.json"): "viewer",
    ("GET", "/api/v1/docs"): "viewer",
    ("GET", "/login"): "public",
    ("POST", "/login"): "public",
    ("GET", "/healthz"): "public",
    ("GET", "/readyz"): "public",
    ("GET", "/metrics"): "public",
}

LEGACY_NEEDS = {
    ("POST", "/segmentation/<string:study_uid>"): "annotator",
    ("POST", "/rename-roi"): "annotator",
    ("POST", "/delete-roi"): "annotator",
    ("POST", "/uploadDicom"): "annotator",
    ("DELETE", "/delete-study/<string:study_uid>"): "admin",
    ("GET", "/followup-patients"): "viewer",
    ("GET", "/followup-etudes"): "viewer",
    ("GET", "/followup-series"): "viewer",
    ("GET", "/followup-metastases"): "viewer",
}
"""Only with METIA_LEGACY_API; tested in ``test_legacy_access``."""


def _address(rule: str) -> str:
    parts = []
    for part in rule.split("/"):
        if part.startswith("<uid:"):
            part = UID
        elif part.startswith("<id:"):
            part = ID
        elif part.startswith("<"):
            part = "nobody"
        parts.append(part)
    return "/".join(parts)


def test_every_route_is_in_the_table(application: Application) -> None:
    routes = {
        (method, rule.rule)
        for rule in application.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == set(NEEDS)


@pytest.mark.parametrize("need", ROLES)
def test_route_refuses_lesser_roles(application: Application, need: str) -> None:
    routes = [route for route, role in NEEDS.items() if role == need]
    lesser = ROLES[: ROLES.index(need)]
    for role in lesser:
        browser = application.browser(role)
        for method, rule in routes:
            answer = browser.open(_address(rule), method=method, json={})
            assert (answer.status_code, answer.json["code"]) == (403, "forbidden"), (
                f"{role}: {method} {rule}"
            )


@pytest.mark.parametrize("role", ROLES)
def test_route_lets_sufficient_roles_in(application: Application, role: str) -> None:
    for (method, rule), need in NEEDS.items():
        if need == "public" or ROLES.index(role) < ROLES.index(need):
            continue
        answer = application.browser(role).open(_address(rule), method=method, json={})
        assert answer.status_code not in (401, 403), f"{method} {rule}"


def test_strangers_get_nowhere(application: Application) -> None:
    stranger = application.stranger()
    wrong_token = {"Authorization": "Bearer metia_" + "A" * 43}
    wrong_cookie = {"Cookie": "metia_session=" + "A" * 43}
    for (method, rule), need in NEEDS.items():
        if need == "public":
            continue
        for headers in ({}, wrong_token, wrong_cookie):
            answer = stranger.open(
                _address(rule), method=method, json={}, headers=headers
            )
            assert answer.status_code == 401, f"{method} {rule} {headers}"
            assert answer.json["code"] == "not-authenticated"
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_strangers_do_not_learn_which_addresses_there_are(
    application: Application,
) -> None:
    stranger = application.stranger()
    for address in ("/api/v1/nothing", "/api/v1/jobs/not-an-id", "/api/v2/"):
        assert stranger.get(address).status_code == 401
    assert stranger.put("/api/v1/jobs").status_code == 405


def test_every_change_needs_the_csrf_token(application: Application) -> None:
    changes = [
        route
        for route, need in NEEDS.items()
        if route[0] not in ("GET", "HEAD") and need != "public"
    ]
    assert len(changes) >= 7
    for method, rule in changes:
        browser = application.browser("admin")
        right = browser.csrf or ""
        other = application.browser("admin").csrf
        for wrong in ("", "x", right[:-1], right.upper() + "A", other, "é"):
            headers = {"X-CSRF-Token": wrong}
            answer = browser.open(
                _address(rule), method=method, json={}, headers=headers
            )
            assert (answer.status_code, answer.json["code"]) == (403, "csrf-failed"), (
                f"{method} {rule} {wrong!r}"
            )
        for foreign in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost.evil.example"},
            {"Origin": "http://localhost:8080"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
        ):
            answer = browser.open(
                _address(rule), method=method, json={}, headers=foreign
            )
            assert (answer.status_code, answer.json["code"]) == (403, "csrf-failed"), (
                f"{method} {rule} {foreign}"
            )
        answer = browser.open(
            _address(rule),
            method=method,
            json={},
            headers={"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
        )
        assert answer.status_code != 403


def test_tokens_need_no_csrf_token_but_cannot_spread(application: Application) -> None:
    headers = application.script_headers("admin")
    script = application.stranger()
    study, _ = application.put_study()

    made = script.post("/api/v1/jobs", json={"study_uid": study}, headers=headers)
    assert made.status_code == 202

    account = {"name": "new", "role": "admin", "password": "long enough to be one"}
    for method, address, body in (
        ("POST", "/api/v1/tokens", {"name": "successor"}),
        ("POST", "/api/v1/users", account),
        ("PATCH", "/api/v1/users/admin", {"password": "long enough to be one"}),
    ):
        answer = script.open(address, method=method, json=body, headers=headers)
        assert (answer.status_code, answer.json["code"]) == (403, "forbidden"), address
    assert script.get("/api/v1/users", headers=headers).status_code == 200


def test_route_without_a_decision_stops_the_start(application: Application) -> None:
    from segmentation.access.routes import install_guard

    application.app._got_first_request = False
    application.app.add_url_rule("/api/v1/forgotten", view_func=dict, methods=["POST"])
    with pytest.raises(RuntimeError, match="forgotten"):
        install_guard(application.app)


def test_cross_origin_reading_is_never_allowed(application: Application) -> None:
    browser = application.browser("admin")
    for method in ("GET", "OPTIONS"):
        answer = browser.open(
            "/api/v1/session", method=method, headers={"Origin": "https://evil.example"}
        )
        assert not [name for name, _ in answer.headers if "Access-Control" in name]
