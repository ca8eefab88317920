"""``/login``: a form that works without scripts, in English and French.

The form is bound to a cookie of its own, so that no other site can log somebody in
here (login CSRF). After the login the browser goes to ``?next=``, which can only be a
path of this origin. Safe between threads.
"""

from __future__ import annotations

import math
import secrets
from typing import Any
from urllib.parse import quote, urlencode

import flask

from errors import MetiaError
from segmentation.access.login.texts import TEXTS, language_of
from segmentation.access.origins import Source, safe_next
from segmentation.access.routes import (
    log_in,
    optional_principal,
    public,
    request_source,
    set_session_cookie,
)
from segmentation.access.tokens import (
    csrf_matches,
    csrf_token,
    is_session_token,
    new_session_token,
)
from segmentation.http.routes import services

FORM_COOKIE = "metia_login"
_FORM = "login form "
"""Keeps the tokens of forms apart from those of sessions."""

blueprint = flask.Blueprint("login", __name__, template_folder="templates")


@blueprint.get("/login")
@public
def show_login() -> flask.typing.ResponseReturnValue:
    """Show the form, or go on where somebody is logged in already."""
    target = _target()
    try:
        if optional_principal() is not None:
            return flask.redirect(target, 303)
    except MetiaError as error:
        if error.info.http_status >= 500:
            return _page(target, error="unavailable", status=503)
    came_from_elsewhere = flask.request.headers.get("Sec-Fetch-Site") == "cross-site"
    if came_from_elsewhere and "again" not in flask.request.args:
        # The strict cookie does not travel with a link from another site, but it does
        # with the step from here to here: try that before asking for the password.
        return _page(target, continue_to=_address(again="1", next=target))
    return _page(target)


@blueprint.post("/login")
@public
def submit_login() -> flask.typing.ResponseReturnValue:
    """Take the form; on success go to where the visitor wanted."""
    form = flask.request.form
    target = _target()
    username = form.get("username", "")[:64]
    cookie = flask.request.cookies.get(FORM_COOKIE, "")
    key = services().settings.require_secret_key()
    if (
        request_source() is Source.FOREIGN
        or not is_session_token(cookie)
        or not csrf_matches(key, _FORM + cookie, form.get("csrf_token", ""))
    ):
        return _page(target, username=username, error="expired", status=403)
    try:
        _, token = log_in({"username": username, "password": form.get("password", "")})
    except MetiaError as error:
        return _failed(target, username, error)
    answer = flask.redirect(target, 303)
    set_session_cookie(answer, token)  # type: ignore[arg-type]
    answer.delete_cookie(FORM_COOKIE, path="/login", httponly=True, samesite="Strict")
    return answer


def _failed(target: str, username: str, error: MetiaError) -> flask.Response:
    if error.code == "too-many-requests":
        wait_s = float(str(error.facts.get("retry_after_s", 60)))
        answer = _page(
            target,
            username=username,
            error="throttled",
            status=429,
            minutes=math.ceil(wait_s / 60),
        )
        answer.headers["Retry-After"] = str(math.ceil(wait_s))
        return answer
    if error.info.http_status >= 500:
        return _page(target, username=username, error="unavailable", status=503)
    return _page(target, username=username, error="wrong", status=401)


def _target() -> str:
    # nginx sends visitors here with `?next=` and their address as it was, so that an
    # ampersand in its query would end the parameter: it is taken to the very end.
    raw = flask.request.query_string.decode("latin-1")
    before, _, rest = raw.partition("next=/")
    if "?" in rest and (not before or before.endswith("&")):
        return safe_next(f"/{rest}")
    return safe_next(flask.request.args.get("next"))


def _language() -> str:
    return language_of(
        flask.request.args.get("lang"), list(flask.request.accept_languages.values())
    )


def _address(**parameters: str) -> str:
    asked = flask.request.args.get("lang")
    if asked and "lang" not in parameters:
        parameters = {"lang": _language(), **parameters}
    return "/login?" + urlencode(parameters, quote_via=quote, safe="")


def _page(
    target: str,
    *,
    username: str = "",
    error: str | None = None,
    status: int = 200,
    continue_to: str | None = None,
    **numbers: Any,
) -> flask.Response:
    texts = TEXTS[_language()]
    nonce = secrets.token_urlsafe(16)
    cookie = flask.request.cookies.get(FORM_COOKIE, "")
    if not is_session_token(cookie):
        cookie = new_session_token()
    settings = services().settings
    page = flask.render_template(
        "login.html",
        texts=texts,
        language=_language(),
        nonce=nonce,
        csrf_token=csrf_token(settings.require_secret_key(), _FORM + cookie),
        action=_address(next=target),
        other_language_url=_address(lang=texts["other_code"], next=target),
        username=username,
        error=texts[error].format(**numbers) if error else None,
        continue_to=continue_to,
    )
    answer = flask.make_response(page, status)
    answer.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    answer.headers["Vary"] = "Accept-Language, Cookie"
    answer.set_cookie(
        FORM_COOKIE,
        cookie,
        path="/login",
        secure=settings.cookie_secure,
        httponly=True,
        samesite="Strict",
    )
    return answer
