"""The pure parts under the HTTP API: JSON, identifiers, origins, roles, languages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import CODES, MetiaError
from segmentation.access.login.texts import TEXTS, language_of
from segmentation.access.origins import Source, safe_next, source_of_request
from segmentation.access.passwords import hash_password, is_outdated, verify_password
from segmentation.access.roles import ROLES, includes
from segmentation.access.tokens import (
    csrf_matches,
    csrf_token,
    is_api_token,
    is_session_token,
    new_api_token,
    new_session_token,
)
from segmentation.http.identifiers import is_id, is_uid
from segmentation.http.json_body import parse_json
from segmentation.http.metrics import Metrics, QueueFigures
from segmentation.http.problems import CODE_OF_STATUS


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        value = parse_json(body)
    except MetiaError as error:
        assert error.code == "bad-request"  # noqa: PT017 - either is right
    else:
        assert value == json.loads(body)


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_json)
def test_any_json_is_read_as_it_is(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.text(max_size=80))
def test_uids_are_ascii_digits_and_dots(text: str) -> None:
    if is_uid(text):
        assert set(text) <= set("0123456789.")
        assert len(text) <= 64
        assert not is_uid(text + "\n")
    if is_id(text):
        assert len(text) == 32


@given(st.from_regex(r"[0-2](\.[0-9]+)+", fullmatch=True))
def test_uids_may_have_64_characters(text: str) -> None:
    assert is_uid(text) == (len(text) <= 64)


@given(st.text(max_size=60) | st.text("/\\:.?&=#ab \t\r\n", max_size=20))
def test_next_is_always_a_path_of_ours(target: str) -> None:
    chosen = safe_next(target)
    assert chosen in (target, "/")
    assert chosen.startswith("/")
    assert not chosen.startswith("//")
    assert not set("\\\r\n\t ") & set(chosen)
    assert not chosen.split("?")[0].rstrip("/").endswith("/login")


@pytest.mark.parametrize(
    ("origin", "fetch_site", "host", "source"),
    [
        (None, None, "metia", Source.UNSTATED),
        ("http://metia", None, "metia", Source.OURS),
        ("http://metia", None, "metia:80", Source.OURS),
        ("https://metia", None, "metia:443", Source.OURS),
        ("https://METIA", None, "metia", Source.OURS),
        ("http://metia:8080", None, "metia:8080", Source.OURS),
        ("http://[::1]:8080", None, "[::1]:8080", Source.OURS),
        ("http://metia:8080", None, "metia", Source.FOREIGN),
        ("http://metia", None, "metia:8080", Source.FOREIGN),
        ("http://metia.evil", None, "metia", Source.FOREIGN),
        ("http://evil@metia", None, "metia", Source.FOREIGN),
        ("http://metia:x", None, "metia", Source.FOREIGN),
        ("", None, "metia", Source.FOREIGN),
        (None, "same-origin", "metia", Source.OURS),
        (None, "none", "metia", Source.FOREIGN),
        ("http://metia", "same-site", "metia", Source.FOREIGN),
    ],
)
def test_origins(
    origin: str | None, fetch_site: str | None, host: str, source: Source
) -> None:
    assert source_of_request(origin, fetch_site, host, secure=False) is source


def test_roles_are_a_ladder() -> None:
    assert includes("admin", "viewer")
    assert not includes("viewer", "annotator")
    assert all(includes(role, role) for role in ROLES)
    assert not includes("root", "viewer")
    assert not includes("admin", "root")


def test_passwords_are_hashed_with_argon2id_as_advised() -> None:
    stored = hash_password("correct horse battery")
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert verify_password(stored, "correct horse battery")
    assert not verify_password(stored, "correct horse batterx")
    assert not verify_password(None, "correct horse battery")
    assert not verify_password("no hash", "correct horse battery")
    assert not is_outdated(stored)


def test_tokens_have_their_form_and_are_fresh() -> None:
    assert is_api_token(new_api_token())
    assert is_session_token(new_session_token())
    assert new_session_token() != new_session_token()
    assert not is_api_token(new_api_token() + "\n")


def test_csrf_token_belongs_to_one_session_and_key() -> None:
    token = csrf_token("key", "session")
    assert csrf_matches("key", "session", token)
    assert not csrf_matches("key", "other", token)
    assert not csrf_matches("other", "session", token)
    assert not csrf_matches("key", "session", "\ud800")


@pytest.mark.parametrize(
    ("asked", "accepted", "language"),
    [
        (None, [], "en"),
        (None, ["de-CH", "fr-CH", "en"], "fr"),
        ("FR", ["en"], "fr"),
        ("xx", ["fr"], "fr"),
        ("", ["it"], "en"),
    ],
)
def test_language(asked: str | None, accepted: list[str], language: str) -> None:
    assert language_of(asked, accepted) == language


def test_both_languages_say_the_same_things() -> None:
    assert TEXTS["en"].keys() == TEXTS["fr"].keys()
    assert all(text.strip() for texts in TEXTS.values() for text in texts.values())


def test_codes_of_the_framework_are_known() -> None:
    for status, code in CODE_OF_STATUS.items():
        assert CODES[code].http_status == status


def test_metrics_count_odd_methods_as_one() -> None:
    metrics = Metrics(lambda: QueueFigures({"queued": 2, "failed": 1}, 12.5))
    for method in ("GET", "X" * 50, "Y"):
        metrics.observe(method, "/route", 200, 0.01)
    text = metrics.render().decode()
    assert 'method="OTHER",route="/route",status="200"} 2.0' in text
    assert 'metia_jobs{state="queued"} 2.0' in text
    assert "metia_queue_oldest_seconds 12.5" in text
