"""Whatever is sent, the answer is a problem document with a stable code, no 500."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from errors import CODES
from segmentation.http import problems
from tests.security.application import Application, Browser

ROOT = Path(__file__).parents[2]

BAD_UIDS = [
    "..%2f..%2fetc",
    "%2e%2e",
    "1.2'; drop table job",
    "1.2%0A",
    "1.2%00",
    "1.2%00.3",
    "١.٢",
    "１.２.３",
    "*",
    "1.2.*",
    "1." + "2" * 63,
    "01.2",
    "1..2",
    ".1.2",
    "1.2.",
    "1",
    "3.1",
    "-1.2",
    "1.2 ",
    " 1.2",
    "1.2\\3",
    "1.2a",
    "%ff%fe",
]
BODIES = {
    "empty": (b"", 400),
    "white space": (b"  \n", 400),
    "not JSON": (b"{", 400),
    "two values": (b"{} {}", 400),
    "deep list": (b"[" * 100_000, 400),
    "deep object": (b'{"a":' * 100_000, 400),
    "closed deep list": (b"[" * 100_000 + b"]" * 100_000, 400),
    "deep member": (b'{"study_uid":' + b"[" * 900 + b"]" * 900 + b"}", 422),
    "huge integer": (b'{"study_uid":"1.2.3","priority":' + b"9" * 5000 + b"}", 400),
    "large integer": (b'{"study_uid":"1.2.3","priority":' + b"9" * 400 + b"}", 422),
    "huge float": (b'{"study_uid":"1.2.3","priority":1e999}', 400),
    "NaN": (b'{"study_uid":"1.2.3","priority":NaN}', 400),
    "Infinity": (b'{"study_uid":"1.2.3","priority":-Infinity}', 400),
    "name twice": (b'{"study_uid":"1.2.3","study_uid":"1.2.4"}', 400),
    "bad UTF-8": (b'{"study_uid":"\xff"}', 400),
    "UTF-16": ('{"study_uid":"1.2.3"}'.encode("utf-16"), 400),
    "byte order mark": (b'\xef\xbb\xbf{"study_uid":"1.2.3"}', 400),
    "lone surrogate": (rb'{"study_uid":"\ud800"}', 400),
    "surrogate in a name": (rb'{"\udfff":1}', 400),
    "NUL": (rb'{"study_uid":"1.2\u0000"}', 422),
    "newline": (rb'{"study_uid":"1.2.3\n"}', 422),
    "list": (b"[]", 422),
    "null": (b"null", 422),
    "text": (b'"1.2.3"', 422),
    "number": (b"1", 422),
    "UID as number": (b'{"study_uid":1.2}', 422),
    "UID as list": (b'{"study_uid":["1.2.3"]}', 422),
    "null UID": (b'{"study_uid":null}', 422),
    "boolean priority": (b'{"study_uid":"1.2.3","priority":true}', 422),
    "text priority": (b'{"study_uid":"1.2.3","priority":"1"}', 422),
    "unknown member": (b'{"study_uid":"1.2.3","__proto__":{}}', 422),
    "many members": (
        json.dumps({f"m{n}": n for n in range(50_000)}).encode(),
        422,
    ),
    "too large": (b'{"study_uid":"' + b"1" * 1_000_000 + b'"}', 413),
}


def check_problem(answer, *statuses: int) -> dict[str, object]:
    """Check that an answer is a problem document of one of the statuses."""
    assert answer.status_code in statuses, answer.text[:500]
    assert answer.mimetype == problems.PROBLEM_TYPE
    document = answer.json
    assert document["status"] == answer.status_code
    assert CODES[document["code"]].http_status == answer.status_code
    assert document["title"] == CODES[document["code"]].title
    assert document["remedy"] == CODES[document["code"]].remedy
    assert document["type"].endswith(f"#error-{document['code']}")
    assert document["detail"]
    assert document["request_id"] == answer.headers["X-Request-ID"]
    return document


@pytest.fixture
def browser(application: Application) -> Browser:
    """Give a browser in which an administrator is logged in."""
    return application.browser("admin")


@pytest.mark.parametrize("uid", BAD_UIDS)
def test_bad_uid_goes_no_further(application: Application, uid: str) -> None:
    class Forbidden:
        def series_headers(self, study_uid: str) -> None:
            raise AssertionError("the archive was asked")

    application.app.extensions["metia-archive"] = Forbidden()
    browser = application.browser("viewer")
    for kind in ("series", "results"):
        answer = browser.get(f"/api/v1/studies/{uid}/{kind}")
        # A decoded slash makes it another address, which does not exist.
        check_problem(answer, *((404,) if "%2f" in uid else (422,)))


@pytest.mark.parametrize("uid", BAD_UIDS)
@pytest.mark.parametrize("member", ["study_uid", "series_uid"])
def test_bad_uid_in_a_body(browser: Browser, member: str, uid: str) -> None:
    body = {"study_uid": "1.2.3", member: uid}
    document = check_problem(browser.post("/api/v1/jobs", json=body), 422)
    assert document["errors"] == {"json": {member: ["Not valid."]}}


def test_old_uid_with_leading_zeros_can_be_referred_to(
    application: Application,
) -> None:
    study, _ = application.put_study(StudyInstanceUID="1.2.840.113619.957.078")
    browser = application.browser("annotator")
    assert browser.get(f"/api/v1/studies/{study}/series").status_code == 200


@pytest.mark.parametrize(
    "text", ["x", "A" * 32, "0" * 31, "0" * 33, "%00", "0" * 32 + "%0A", "..", "*"]
)
def test_bad_ids(browser: Browser, text: str) -> None:
    for kind in ("jobs", "results", "lesions"):
        check_problem(browser.get(f"/api/v1/{kind}/{text}"), 422)


@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies(browser: Browser, name: str) -> None:
    body, status = BODIES[name]
    answer = browser.post("/api/v1/jobs", data=body, content_type="application/json")
    document = check_problem(answer, status)
    assert len(answer.data) < 5_000
    if status == 422:
        assert document["errors"]


@pytest.mark.parametrize(
    "address", ["/api/v1/jobs", "/api/v1/session", "/api/v1/users", "/api/v1/tokens"]
)
@pytest.mark.parametrize("name", ["deep list", "huge integer", "bad UTF-8", "list"])
def test_bad_bodies_everywhere(browser: Browser, address: str, name: str) -> None:
    body, status = BODIES[name]
    answer = browser.post(address, data=body, content_type="application/json")
    check_problem(answer, status)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application/merge-patch+json",
        "",
        "é",
        "application/json, text/plain",
    ],
)
def test_wrong_content_type(browser: Browser, content_type: str) -> None:
    answer = browser.post(
        "/api/v1/jobs", data=b'{"study_uid":"1.2.3"}', content_type=content_type
    )
    check_problem(answer, 415)


def test_charset_is_tolerated(browser: Browser) -> None:
    answer = browser.post(
        "/api/v1/jobs",
        data=b'{"study_uid":"1.2.3"}',
        content_type="application/json; charset=utf-8",
    )
    check_problem(answer, 404)


@pytest.mark.parametrize(
    "method", ["TRACE", "PUT", "DELETE", "PATCH", "GARBAGE", "CONNECT"]
)
def test_unknown_methods_name_the_known_ones(browser: Browser, method: str) -> None:
    answer = browser.open("/api/v1/jobs", method=method)
    check_problem(answer, 405)
    allowed = {name.strip() for name in answer.headers["Allow"].split(",")}
    assert allowed == {"GET", "HEAD", "OPTIONS", "POST"}


def test_options_and_head(browser: Browser) -> None:
    answer = browser.options("/api/v1/jobs")
    assert answer.status_code == 200
    assert "POST" in answer.headers["Allow"]
    answer = browser.head("/api/v1/jobs")
    assert (answer.status_code, answer.data) == (200, b"")


@pytest.mark.parametrize(
    "address",
    ["/nothing", "/api/v1/", "/api/v1//jobs", "/api/v1/jobs/", "//api/v1/jobs", "/é"],
)
def test_unknown_addresses(browser: Browser, address: str) -> None:
    document = check_problem(browser.get(address), 404)
    assert document["code"] == "not-found"


@pytest.mark.parametrize("name", ["..", "%00", "a%0Ab", "é", "a" * 5000, "%ff"])
def test_odd_user_names_in_the_address(browser: Browser, name: str) -> None:
    answer = browser.patch(f"/api/v1/users/{name}", json={"role": "viewer"})
    check_problem(answer, 404, 422)


@pytest.mark.parametrize(
    "header",
    [
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer " + "x" * 5000},
        {"Authorization": "Bearer metia_é"},
        {"Cookie": "metia_session=%00"},
        {"Cookie": "metia_session=" + "x" * 5000},
        {"Cookie": "metia_session=é"},
        {"Cookie": ";;;=;"},
        {"Authorization": "Basic !!!"},
    ],
)
def test_odd_credentials(application: Application, header: dict[str, str]) -> None:
    answer = application.stranger().get("/api/v1/jobs", headers=header)
    check_problem(answer, 401)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("abc-123.DEF_4", True),
        ("short", False),
        ("x" * 65, False),
        ("with space", False),
        ('"quoted""', False),
        ("é" * 9, False),
    ],
)
def test_request_id_is_taken_over_if_sane(
    application: Application, sent: str, kept: bool
) -> None:
    answer = application.stranger().get("/healthz", headers={"X-Request-ID": sent})
    assert (answer.headers["X-Request-ID"] == sent) is kept
    assert 8 <= len(answer.headers["X-Request-ID"]) <= 64


def test_foreign_host_is_refused_where_hosts_are_set(
    tmp_path: Path, empty_database: Path
) -> None:
    application = Application(
        tmp_path, empty_database, allowed_hosts=("metia.example",)
    )
    client = application.stranger()
    assert client.get("/healthz", headers={"Host": "metia.example"}).status_code == 200
    check_problem(client.get("/healthz", headers={"Host": "evil.example"}), 400)


def test_unforeseen_failure_is_a_problem_too(
    application: Application,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
    log: io.StringIO,
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("Zzcanary^Patient")

    monkeypatch.setattr(application.archive, "series_headers", fail)
    answer = browser.get("/api/v1/studies/1.2.3/series")
    document = check_problem(answer, 500)
    assert document["code"] == "internal"
    assert "Zzcanary" not in answer.text
    logged = log.getvalue()
    assert "Zzcanary" not in logged
    lines = [json.loads(line) for line in logged.splitlines()]
    (line,) = [line for line in lines if line["event"] == "unforeseen"]
    assert line["exception"] == "builtins.ZeroDivisionError"
    assert line["request_id"] == document["request_id"]
    assert any("rank_study" in place for place in line["places"])


def test_every_answer_carries_the_security_headers(
    application: Application, browser: Browser
) -> None:
    for answer in (
        browser.get("/api/v1/jobs"),
        browser.get("/api/v1/docs"),
        browser.get("/api/v1/nothing"),
        browser.post("/api/v1/jobs", data=b"{"),
        application.stranger().get("/login"),
        application.stranger().get("/api/v1/jobs"),
        application.stranger().get("/healthz"),
    ):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert len(answer.headers.getlist("Content-Security-Policy")) == 1


def test_facts_never_replace_standard_members() -> None:
    from errors import MetiaError

    error = MetiaError("conflict", "It is so.", {"status": 200, "lesions": 3})
    document = problems.problem(error, "id")
    assert document["status"] == 409
    assert document["lesions"] == 3


def test_reference_of_codes_is_up_to_date() -> None:
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    assert page == problems.error_reference(), (
        "run `flask --app api errors-reference docs/errors.md`"
    )
    assert all(f"| `{code}` |" in page for code in CODES)
