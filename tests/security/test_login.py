"""Logging in and out, by the API and by the page; sessions, tokens and throttling."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from urllib.parse import quote

import pytest

from db import audit
from db import users as rows
from db.engine import database_time, reading, transaction
from segmentation.access import throttle, users
from segmentation.access.tokens import hash_token
from tests.security.application import Application, Browser

PASSWORD = "correct horse battery staple"


@pytest.fixture
def people(application: Application) -> Application:
    """Give an application with a user ``ada`` who has a password."""
    application.make_user("annotator", "ada", PASSWORD)
    return application


def _log_in(client: Browser, password: str = PASSWORD, name: str = "ada", **headers):
    return client.post(
        "/api/v1/session",
        json={"username": name, "password": password},
        headers=headers,
    )


def _cookie(client: Browser) -> str | None:
    cookie = client.get_cookie("metia_session")
    return cookie.value if cookie else None


def _page(client: Browser, query: str = "") -> dict[str, str]:
    """Open the login page; gives the form's hidden field."""
    answer = client.get("/login" + query)
    assert answer.status_code == 200
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', answer.text)
    assert found
    return {"csrf_token": found[1]}


# -- by the API ----------------------------------------------------------------


def test_login_gives_a_strict_cookie(people: Application) -> None:
    client = people.stranger()
    answer = _log_in(client)

    assert answer.status_code == 200
    assert answer.json["user"]["name"] == "ada"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie
    assert client.get("/api/v1/session").json == answer.json
    client.csrf = answer.json["csrf_token"]
    assert client.delete("/api/v1/session").status_code == 204


def test_cookie_is_secure_behind_https(tmp_path, empty_database) -> None:
    application = Application(tmp_path, empty_database, cookie_secure=True)
    application.make_user("viewer", "ada", PASSWORD)
    answer = _log_in(application.stranger())
    assert "Secure" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("name", "password"),
    [("ada", "wrong"), ("nobody", PASSWORD), ("ada", PASSWORD * 40), ("Ada", PASSWORD)],
)
def test_wrong_login_tells_nothing(
    people: Application, name: str, password: str
) -> None:
    client = people.stranger()
    answer = _log_in(client, password, name)
    expected = "invalid-input" if len(password) > 1024 else "not-authenticated"
    assert answer.json["code"] == expected
    assert _cookie(client) is None
    if expected == "not-authenticated":
        assert answer.json["detail"] == "User name or password is not right."


def test_unknown_user_takes_as_long_as_a_known_one(
    slow_hashing: None, people: Application
) -> None:
    def seconds(name: str) -> float:
        times = []
        for _ in range(4):
            began = time.perf_counter()
            assert _log_in(people.stranger(), "wrong", name).status_code == 401
            times.append(time.perf_counter() - began)
        return min(times)

    seconds("warm-up")
    known, unknown = seconds("ada"), seconds("nobody")
    assert 0.5 < known / unknown < 2


def test_database_holds_no_secret(people: Application) -> None:
    client = people.stranger()
    client.csrf = _log_in(client).json["csrf_token"]
    token = client.post("/api/v1/tokens", json={"name": "script"}).json["token"]
    people.engine.dispose()
    content = b"".join(
        path.read_bytes() for path in people.settings.data_dir.glob("metia.sqlite*")
    )
    assert (_cookie(client) or "?").encode() not in content
    assert token.encode() not in content
    assert PASSWORD.encode() not in content
    assert hash_token(token).encode() in content


def test_login_never_keeps_a_given_session(people: Application) -> None:
    planted = "A" * 43
    client = people.stranger()
    client.set_cookie("metia_session", planted)
    _log_in(client)
    first = _cookie(client)
    assert first not in (None, planted)

    _log_in(client)
    second = _cookie(client)
    assert second != first
    client.set_cookie("metia_session", first or "")
    assert client.get("/api/v1/session").status_code == 401


def test_logout_ends_the_session_on_the_server(people: Application) -> None:
    client = people.stranger()
    client.csrf = _log_in(client).json["csrf_token"]
    stolen = _cookie(client)
    assert client.delete("/api/v1/session").status_code == 204
    assert _cookie(client) is None

    thief = people.stranger()
    thief.set_cookie("metia_session", stolen or "")
    assert thief.get("/api/v1/session").status_code == 401


def test_session_ends_by_itself(people: Application) -> None:
    client = people.stranger()
    token = "B" * 43
    with transaction(people.engine) as session:
        rows.open_session(
            session,
            user_name="ada",
            token_hash=hash_token(token),
            lifetime=timedelta(seconds=0),
        )
    client.set_cookie("metia_session", token)
    assert client.get("/api/v1/session").status_code == 401


@pytest.mark.parametrize(
    "change", [{"disabled": True}, {"role": "viewer"}, {"password": PASSWORD + "!"}]
)
def test_change_of_a_user_ends_sessions(
    people: Application, change: dict[str, object]
) -> None:
    client = people.stranger()
    _log_in(client)
    headers = people.script_headers("annotator")
    admin = people.browser("admin")

    answer = admin.patch("/api/v1/users/ada", json=change)
    assert answer.status_code == 200
    assert client.get("/api/v1/session").status_code == 401
    assert people.stranger().get("/api/v1/session", headers=headers).status_code == 200
    again = _log_in(client, str(change.get("password", PASSWORD)))
    assert again.status_code == (401 if "disabled" in change else 200)


def test_disabling_silences_tokens(application: Application) -> None:
    headers = application.script_headers("annotator")
    client = application.stranger()
    assert client.get("/api/v1/jobs", headers=headers).status_code == 200
    application.browser("admin").patch(
        "/api/v1/users/annotator", json={"disabled": True}
    )
    assert client.get("/api/v1/jobs", headers=headers).status_code == 401


def test_expired_token_is_refused(application: Application) -> None:
    browser = application.browser("viewer")
    made = browser.post("/api/v1/tokens", json={"name": "script", "days": 1}).json
    headers = {"Authorization": f"Bearer {made['token']}"}
    client = application.stranger()
    assert client.get("/api/v1/jobs", headers=headers).status_code == 200
    (listed,) = browser.get("/api/v1/tokens").json["tokens"]
    assert listed["last_used_at"] is not None
    assert "token" not in listed

    with transaction(application.engine) as session:
        now = database_time(session)
        rows.create_token(
            session,
            user_name="viewer",
            label="old",
            token_hash=hash_token("metia_" + "C" * 43),
            expires_at=now - timedelta(seconds=1),
        )
    headers = {"Authorization": "Bearer metia_" + "C" * 43}
    assert client.get("/api/v1/jobs", headers=headers).status_code == 401


def test_tokens_are_ones_own(application: Application) -> None:
    mine = application.browser("viewer")
    made = mine.post("/api/v1/tokens", json={"name": "script"}).json
    other = application.browser("admin")
    assert other.get("/api/v1/tokens").json == {"tokens": []}
    assert other.delete(f"/api/v1/tokens/{made['id']}").status_code == 404
    assert mine.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert (
        application.stranger().get("/api/v1/jobs", headers=headers).status_code == 401
    )


def test_wrong_token_is_not_covered_by_a_right_cookie(
    application: Application,
) -> None:
    browser = application.browser("viewer")
    headers = {"Authorization": "Bearer metia_wrong"}
    assert browser.get("/api/v1/session", headers=headers).status_code == 401


def test_last_administrator_stays(application: Application) -> None:
    admin = application.browser("admin")
    for change in ({"disabled": True}, {"role": "viewer"}):
        answer = admin.patch("/api/v1/users/admin", json=change)
        assert (answer.status_code, answer.json["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    "password", ["short", "a" * 12, "abababababab", "x" * 11, "1234" * 300]
)
def test_weak_passwords_are_refused(application: Application, password: str) -> None:
    account = {"name": "eve", "role": "viewer", "password": password}
    answer = application.browser("admin").post("/api/v1/users", json=account)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid-input")


@pytest.mark.parametrize(
    "name", ["", "A", "a", "Ada", "a b", "a/b", "é" * 3, "ada\n", "-ada", "a" * 65]
)
def test_odd_user_names_are_refused(application: Application, name: str) -> None:
    account = {"name": name, "role": "viewer", "password": PASSWORD}
    answer = application.browser("admin").post("/api/v1/users", json=account)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid-input")


def test_new_user_can_log_in(application: Application) -> None:
    account = {"name": "eve", "role": "reviewer", "password": PASSWORD}
    admin = application.browser("admin")
    made = admin.post("/api/v1/users", json=account)
    assert made.status_code == 201
    assert "password" not in made.text
    assert admin.post("/api/v1/users", json=account).status_code == 409
    answer = _log_in(application.stranger(), name="eve")
    assert answer.json["user"] == {
        "name": "eve",
        "display_name": "eve",
        "role": "reviewer",
    }


def test_first_administrator_is_made_once(application: Application) -> None:
    password = users.ensure_first_admin(application.engine)
    assert password is not None
    assert users.ensure_first_admin(application.engine) is None
    answer = _log_in(application.stranger(), password, "admin")
    assert answer.json["user"]["role"] == "admin"


# -- throttling ----------------------------------------------------------------


def test_guessing_is_slowed_down(people: Application) -> None:
    client = people.stranger()
    for _ in range(throttle.LIMIT_USER_AND_ADDRESS):
        assert _log_in(client, "wrong").status_code == 401
    answer = _log_in(client)
    assert (answer.status_code, answer.json["code"]) == (429, "too-many-requests")
    assert 800 < int(answer.headers["Retry-After"]) <= 900

    elsewhere = people.stranger()
    elsewhere.environ_base["REMOTE_ADDR"] = "192.0.2.7"
    assert _log_in(elsewhere).status_code == 200
    assert _log_in(client).status_code == 429
    # Another user at the same address is not kept out.
    people.make_user("viewer", "bob", PASSWORD)
    assert _log_in(client, name="bob").status_code == 200


def test_right_password_forgives_earlier_slips(people: Application) -> None:
    client = people.stranger()
    for _ in range(3):
        for _ in range(throttle.LIMIT_USER_AND_ADDRESS - 1):
            assert _log_in(client, "wrong").status_code == 401
        assert _log_in(client).status_code == 200


def test_throttling_is_shared_by_all_processes(people: Application, tmp_path) -> None:
    from api import create_app

    other = create_app(people.settings, archive=people.archive)
    for number in range(throttle.LIMIT_USER_AND_ADDRESS):
        app = (people.app, other)[number % 2]
        assert _log_in(app.test_client(), "wrong").status_code == 401
    assert _log_in(other.test_client()).status_code == 429


def test_address_that_tries_many_users_is_slowed_down(people: Application) -> None:
    with transaction(people.engine) as session:
        for number in range(throttle.LIMIT_ADDRESS):
            throttle.admit_attempt(session, f"user{number}", "127.0.0.1", "test")
    assert _log_in(people.stranger()).status_code == 429


def test_user_tried_from_many_addresses_is_protected(people: Application) -> None:
    with transaction(people.engine) as session:
        for number in range(throttle.LIMIT_USER):
            throttle.admit_attempt(session, "ada", f"192.0.2.{number}", "test")
    assert _log_in(people.stranger()).status_code == 429


def test_attempts_are_forgotten_in_time(
    people: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = people.stranger()
    for _ in range(throttle.LIMIT_USER_AND_ADDRESS):
        _log_in(client, "wrong")
    monkeypatch.setattr(throttle, "WINDOW", timedelta(0))
    assert _log_in(client).status_code == 200


def test_audit_tells_who_did_what(people: Application) -> None:
    client = people.stranger()
    _log_in(client, "wrong")
    _log_in(client, "wrong", "my-secret-typed-here")
    client.csrf = _log_in(client).json["csrf_token"]
    study, _ = people.put_study()
    job = client.post("/api/v1/jobs", json={"study_uid": study}).json["id"]
    client.post("/api/v1/jobs", json={"study_uid": study})
    client.post(f"/api/v1/jobs/{job}/cancel")
    client.delete("/api/v1/session")
    admin = people.browser("admin")
    admin.patch("/api/v1/users/ada", json={"role": "viewer"})

    with reading(people.engine) as session:
        entries = audit.entries(session)[::-1]
    told = [
        (entry.actor, entry.action, entry.subject)
        for entry in entries
        if not entry.subject.startswith("login:")
    ]
    assert told == [
        (None, "login-failed", "user:ada"),
        (None, "login-failed", "user:unknown"),
        ("ada", "login", "user:ada"),
        ("ada", "job-submit", f"job:{job}"),
        ("ada", "job-cancel", f"job:{job}"),
        ("ada", "logout", "user:ada"),
        ("admin", "user-change", "user:ada"),
    ]
    assert all(entry.request_id for entry in entries)
    assert "my-secret-typed-here" not in repr(entries)


# -- by the page ---------------------------------------------------------------


def test_page_logs_in_and_goes_on(people: Application) -> None:
    client = people.stranger()
    target = "/viewer?StudyInstanceUIDs=1.2.3&mode=x"
    form = _page(client, f"?next={quote(target, safe='')}")
    form |= {"username": "ada", "password": PASSWORD}
    answer = client.post(f"/login?next={quote(target, safe='')}", data=form)

    assert (answer.status_code, answer.headers["Location"]) == (303, target)
    assert client.get("/api/v1/session").json["user"]["name"] == "ada"
    assert client.get_cookie("metia_login", path="/login") is None
    again = client.get(f"/login?next={quote(target, safe='')}")
    assert (again.status_code, again.headers["Location"]) == (303, target)


def test_page_takes_the_address_as_nginx_writes_it(people: Application) -> None:
    client = people.browser("viewer")
    target = "/viewer?StudyInstanceUIDs=1.2.3&mode=x&next=/y"
    assert client.get(f"/login?next={target}").headers["Location"] == target


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/\n/evil.example",
        "/%0d%0aSet-Cookie:x=1/\r\nX: y",
        "///evil.example",
        "evil.example",
        "",
        "/login",
        "/login?next=/login",
        "/é",
    ],
)
def test_page_leads_nowhere_else(people: Application, target: str) -> None:
    client = people.browser("viewer")
    for asked in (quote(target, safe=""), quote(target, safe="/:?=&")):
        answer = client.get(f"/login?next={asked}")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")


@pytest.mark.parametrize("header", ["Origin", "Sec-Fetch-Site", None])
def test_page_is_not_filled_in_by_other_sites(
    people: Application, header: str | None
) -> None:
    client = people.stranger()
    form = _page(client) | {"username": "ada", "password": PASSWORD}
    if header is None:
        other = people.stranger()  # has another cookie
        _page(other)
        answer = other.post("/login", data=form)
    else:
        answer = client.post("/login", data=form, headers={header: "cross-site"})
    assert answer.status_code == 403
    assert "expired" in answer.text
    assert _cookie(client) is None


def test_page_refuses_login_without_its_cookie(people: Application) -> None:
    form = {"username": "ada", "password": PASSWORD, "csrf_token": "0" * 64}
    assert people.stranger().post("/login", data=form).status_code == 403
    assert people.stranger().post("/login").status_code == 403


def test_page_shows_errors_in_the_visitors_language(people: Application) -> None:
    client = people.stranger()
    french = {"Accept-Language": "fr-CH, fr;q=0.9, en;q=0.8"}
    form = _page(client) | {"username": "<b>ada</b>", "password": "wrong"}
    answer = client.post("/login", data=form, headers=french)
    assert answer.status_code == 401
    assert 'lang="fr"' in answer.text
    assert "incorrect" in answer.text
    assert 'role="alert"' in answer.text
    assert "<b>ada</b>" not in answer.text
    assert 'lang="en"' in client.get("/login?lang=en", headers=french).text
    assert 'lang="en"' in client.get("/login?lang=xx").text


def test_page_says_how_long_to_wait(people: Application) -> None:
    client = people.stranger()
    for _ in range(throttle.LIMIT_USER_AND_ADDRESS + 1):
        form = _page(client) | {"username": "ada", "password": "wrong"}
        answer = client.post("/login", data=form)
    assert answer.status_code == 429
    assert "Wait 15 min" in answer.text


def test_page_is_strict_about_what_it_loads(people: Application) -> None:
    answer = people.stranger().get("/login")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "script" not in answer.text
    assert "Research use only" in answer.text
    nonce = re.search(r"nonce-([^']+)", policy)
    assert nonce
    assert f'nonce="{nonce[1]}"' in answer.text
    # Browsers that never name the referrer send forms with the origin "null".
    assert answer.headers["Referrer-Policy"] == "same-origin"


def test_link_from_another_site_does_not_ask_for_the_password_again(
    people: Application,
) -> None:
    stranger = people.stranger()
    first = stranger.get(
        "/login?next=/viewer", headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert first.status_code == 200
    found = re.search(r'content="0; url=([^"]+)"', first.text)
    assert found
    onward = found[1].replace("&amp;", "&")
    assert onward == "/login?again=1&next=%2Fviewer"
    # The step from here to here carries the strict cookie.
    logged_in = people.browser("viewer").get(onward)
    assert logged_in.headers["Location"] == "/viewer"
    assert "<form" in stranger.get(onward).text
