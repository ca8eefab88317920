"""What nginx is told about the requests it holds (``auth_request``)."""

from __future__ import annotations

import time

import pytest

from segmentation.access.proxied import need_of
from tests.security.application import Application

OURS = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
STUDY = "/dicom-web/studies/1.2.3"


def _ask(client, method: str, address: str, **headers: str):
    return client.get(
        "/api/v1/auth/check",
        headers={"X-Original-Method": method, "X-Original-URI": address, **headers},
    )


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/viewer?StudyInstanceUIDs=1.2.3",
        "/brainmets?StudyInstanceUIDs=1.2.3&x=%2F..%2F",
        "/app.bundle.1a2b.js",
        "/dicom-web/studies?limit=101&offset=0&00100010=*A%5E%2F*",
        STUDY,
        STUDY + "/series/1.2.3.4/instances/1.2.3.5/frames/1,2",
        "/wado?requestType=WADO&studyUID=1.2.3",
        "/api/v1/jobs",
    ],
)
def test_viewers_may_read(application: Application, method: str, address: str) -> None:
    answer = _ask(application.browser("viewer"), method, address)
    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["X-User"] == "viewer"
    assert _ask(application.stranger(), method, address).status_code == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("address", ["/dicom-web/studies", STUDY, "/wado", "/other"])
def test_writing_needs_an_annotator_on_our_page(
    application: Application, method: str, address: str
) -> None:
    annotator = application.browser("annotator")
    assert _ask(annotator, method, address, **OURS).status_code == 204
    only_fetch = {"Sec-Fetch-Site": "same-origin"}
    assert _ask(annotator, method, address, **only_fetch).status_code == 204
    viewer = application.browser("viewer")
    assert _ask(viewer, method, address, **OURS).status_code == 403
    assert _ask(application.stranger(), method, address, **OURS).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:81"},
        {"Origin": "http://localhost@evil.example"},
        {"Origin": "http://localhost/"},
        {"Origin": "ftp://localhost"},
        {"Origin": "http://[::1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {**OURS, "Sec-Fetch-Site": "cross-site"},
        {**OURS, "Origin": "https://evil.example"},
    ],
)
def test_writing_is_refused_to_other_sites(
    application: Application, headers: dict[str, str]
) -> None:
    admin = application.browser("admin")
    answer = _ask(admin, "POST", "/dicom-web/studies", **headers)
    assert (answer.status_code, answer.json["code"]) == (403, "csrf-failed")


def test_scripts_write_with_their_token(application: Application) -> None:
    client = application.stranger()
    for role, status in (("viewer", 403), ("annotator", 204)):
        headers = application.script_headers(role)
        answer = _ask(client, "POST", "/dicom-web/studies", **headers)
        assert answer.status_code == status


def test_https_pages_only_where_set(tmp_path, empty_database) -> None:
    application = Application(tmp_path, empty_database, cookie_secure=True)
    admin = application.browser("admin")
    for origin, status in (("https://localhost", 204), ("http://localhost", 403)):
        answer = _ask(admin, "POST", "/dicom-web/studies", Origin=origin)
        assert answer.status_code == status


@pytest.mark.parametrize(
    "address",
    [
        "/api/v1/../../dicom-web/studies",
        "/api/v1/%2e%2e/%2e%2e/dicom-web/studies",
        "/api/v1/..%2f..%2fdicom-web/studies",
        "/api/v1/..\\..\\dicom-web\\studies",
        "/dicom-web/studies/../servers/x/stow",
        "/dicom-web//servers",
        "//dicom-web/servers",
        "/dicom-web/./servers",
        "/%64icom-web/servers",
        "/dicom-web/%73ervers",
        "/dicom-web/servers",
        "/dicom-web/servers/other/stow",
        "/dicom-web/app/client/index.html",
        "/dicom-web/STUDIES",
        "/dicom-web/studies;x=/../../servers",
        "/dicom-web/studies\n/servers",
        "/dicom-web/studies/\x00",
        "/dicom-web/stud\u0130es",
        "dicom-web/studies",
        "http://x/dicom-web/studies",
        "*",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_ambiguous_addresses_are_for_nobody(method: str, address: str) -> None:
    assert need_of(method, address) is None


@pytest.mark.parametrize("method", ["", None, "TRACE", "CONNECT", "get", "PROPFIND"])
def test_odd_methods_are_for_nobody(method: str | None) -> None:
    assert need_of(method, "/dicom-web/studies") is None


def test_ambiguous_addresses_are_answered(application: Application) -> None:
    admin = application.browser("admin")
    answer = _ask(admin, "GET", "/dicom-web/studies/../servers")
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    assert admin.get("/api/v1/auth/check").status_code == 403
    assert application.stranger().get("/api/v1/auth/check").status_code == 401


def test_long_addresses_take_no_long_thought() -> None:
    began = time.perf_counter()
    need_of("GET", "/a" * 50_000 + "%")
    need_of("GET", "/" + "a" * 100_000 + "%")
    assert time.perf_counter() - began < 0.2


def test_check_is_quick(application: Application) -> None:
    browser = application.browser("viewer")
    _ask(browser, "GET", STUDY)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        assert _ask(browser, "GET", STUDY).status_code == 204
        times.append(time.perf_counter() - began)
    assert min(times) < 0.005  # the others may have waited for a busy machine


def test_check_costs_one_query(application: Application) -> None:
    from sqlalchemy import event

    browser = application.browser("viewer")
    _ask(browser, "GET", STUDY)
    statements: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(application.engine, "before_cursor_execute", note)
    assert _ask(browser, "GET", STUDY).status_code == 204
    queries = [text for text in statements if text.startswith("SELECT")]
    assert len(queries) == 1
    with application.engine.connect() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN " + queries[0], ("x", "2026-01-01")
        ).all()
    assert not [row for row in plan if "SCAN" in row[3]]
