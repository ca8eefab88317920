"""The guard before every route, the session, and the check nginx asks for.

Nothing is open unless marked ``public``. Reading needs the role viewer unless ``allow``
names another; a route that changes something must name one, or the application does
not start. Requests that carry the session cookie and change something must also prove
that our own page sent them (CSRF token and origin). API tokens are not sent by browsers
on their own and need no such proof. One indexed query finds who asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import structlog
from werkzeug.exceptions import MethodNotAllowed

from errors import MetiaError
from segmentation.access import users
from segmentation.access.identity import Principal
from segmentation.access.origins import Source, source_of_request
from segmentation.access.proxied import need_of
from segmentation.access.roles import Role, includes
from segmentation.access.tokens import csrf_matches, csrf_token
from segmentation.http import schemas
from segmentation.http.routes import Blueprint, View, request_id, services

COOKIE = "metia_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

blueprint = Blueprint(
    "session", __name__, url_prefix="/api/v1", description="Session and access"
)


def allow(role: Role) -> Callable[[View], View]:
    """Mark a view: only who has at least this role may use it."""

    def mark(view: View) -> View:
        view.metia_role = role  # type: ignore[attr-defined]
        return view

    return mark


def public(view: View) -> View:
    """Mark a view: anyone may use it, logged in or not."""
    view.metia_role = "public"  # type: ignore[attr-defined]
    return view


def without_csrf_token(view: View) -> View:
    """Mark a view for pages of ours that know no CSRF token.

    The browser's own word that the request comes from our origin is asked for instead;
    a request that says nothing of where it comes from is refused.
    """
    view.metia_without_csrf_token = True  # type: ignore[attr-defined]
    return view


def install_guard(app: flask.Flask) -> None:
    """Put the guard before every route.

    Raises
    ------
    RuntimeError
        Where a route that changes something says nothing of who may use it. Call this
        after all routes are there.
    """
    for rule in app.url_map.iter_rules():
        changes = (rule.methods or set()) - SAFE_METHODS
        if changes and role_of_view(app.view_functions[rule.endpoint]) is None:
            raise RuntimeError(f"{rule} says nothing of who may {changes} it")
    app.before_request(_guard)


def role_of_view(view: Callable[..., Any]) -> str | None:
    """Give what a view was marked with; None where it was not."""
    return getattr(view, "metia_role", None)


def _guard() -> None:
    request = flask.request
    if request.url_rule is None:
        # A stranger need not learn which addresses there are.
        wrong_method = isinstance(request.routing_exception, MethodNotAllowed)
        if request.path.startswith("/api/") and not wrong_method:
            _require("viewer")
        return
    view = flask.current_app.view_functions[request.url_rule.endpoint]
    role = role_of_view(view) or "viewer"
    if role == "public":
        return
    who = _require(role)
    if request.method not in SAFE_METHODS and who.session_token:
        by_origin = getattr(view, "metia_without_csrf_token", False)
        _require_own_page(who.session_token, by_origin=by_origin)


def _require(role: str) -> Principal:
    who = optional_principal()
    if who is None:
        raise MetiaError("not-authenticated", "Nobody is logged in.")
    if not includes(who.role, role):
        raise MetiaError("forbidden", f"This needs the role {role}.")
    return who


def _require_own_page(session_token: str, *, by_origin: bool) -> None:
    if by_origin and request_source() is Source.OURS:
        return
    sent = flask.request.headers.get("X-CSRF-Token", "")
    key = services().settings.require_secret_key()
    if request_source() is Source.FOREIGN or not csrf_matches(key, session_token, sent):
        raise MetiaError(
            "csrf-failed", "The request lacks this session's X-CSRF-Token."
        )


def request_source() -> Source:
    """Judge whether our own page sent the present request."""
    headers = flask.request.headers
    return source_of_request(
        headers.get("Origin"),
        headers.get("Sec-Fetch-Site"),
        flask.request.host,
        secure=services().settings.cookie_secure,
    )


def optional_principal() -> Principal | None:
    """Give who asks, or None; looked up once a request.

    Raises
    ------
    MetiaError
        ``not-authenticated`` where a bearer token was sent that is not valid: a script
        must learn so, rather than go on as somebody else.
    """
    if "principal" not in flask.g:
        flask.g.principal = _find_principal()
        who = flask.g.principal
        flask.g.user_name = who.name if who else None
        structlog.contextvars.bind_contextvars(user=flask.g.user_name)
    found: Principal | None = flask.g.principal
    return found


def _find_principal() -> Principal | None:
    engine = services().engine
    kind, _, secret = flask.request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer":
        who = users.principal_of_token(engine, secret.strip())
        if who is None:
            raise MetiaError("not-authenticated", "The API token is not valid.")
        return who
    cookie = flask.request.cookies.get(COOKIE)
    return users.principal_of_session(engine, cookie) if cookie else None


def principal() -> Principal:
    """Give who asks, on a route that is not public."""
    who = optional_principal()
    if who is None:
        raise MetiaError("not-authenticated", "Nobody is logged in.")
    return who


def require_browser_session() -> Principal:
    """Give who asks, refusing API tokens.

    A stolen token can so neither make itself a successor nor change a password.
    """
    who = principal()
    if who.session_token is None:
        raise MetiaError("forbidden", "This needs a browser session, not a token.")
    return who


def set_session_cookie(answer: flask.Response, token: str) -> None:
    """Give the browser its session."""
    settings = services().settings
    answer.set_cookie(
        COOKIE,
        token,
        max_age=round(settings.session_hours * 3600),
        path="/",
        secure=settings.cookie_secure,
        httponly=True,
        samesite="Strict",
    )


def log_in(credentials: dict[str, str]) -> tuple[Principal, str]:
    """Log somebody in; ends the session the browser had, so that none is carried over.

    Raises
    ------
    MetiaError
        ``not-authenticated`` or ``too-many-requests``.
    """
    context = services()
    return users.log_in(
        context.engine,
        context.identity,
        credentials,
        address=flask.request.remote_addr or "",
        session_hours=context.settings.session_hours,
        former_session=flask.request.cookies.get(COOKIE),
        request_id=request_id(),
    )


@blueprint.route("/session", methods=["GET"])
@blueprint.response(200, schemas.Session)
def show_session() -> dict[str, Any]:
    """Tell who is logged in, and the CSRF token of the session."""
    return _session(principal())


@blueprint.route("/session", methods=["POST"])
@public
@blueprint.arguments(schemas.Login)
@blueprint.response(200, schemas.Session)
@blueprint.alt_response(401, "UNAUTHORIZED")
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(429, "TOO_MANY_REQUESTS")
def begin_session(login: dict[str, str]) -> flask.Response:
    """Log in with name and password; sets the session cookie."""
    if request_source() is Source.FOREIGN:
        raise MetiaError("csrf-failed", "Another site sent this login.")
    who, token = log_in(login)
    answer = flask.jsonify(schemas.Session().dump(_session(who)))
    set_session_cookie(answer, token)
    return answer


@blueprint.route("/session", methods=["DELETE"])
@allow("viewer")
@blueprint.response(204)
def end_session() -> flask.Response:
    """Log out: the session is gone on the server, too."""
    who = require_browser_session()
    users.log_out(services().engine, who, request_id())
    answer = flask.Response(status=204)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
    return answer


def _session(who: Principal) -> dict[str, Any]:
    token = None
    if who.session_token:
        key = services().settings.require_secret_key()
        token = csrf_token(key, who.session_token)
    return {"user": vars(who), "csrf_token": token}


@blueprint.route("/auth/check", methods=["GET"])
@public
@blueprint.response(204)
@blueprint.alt_response(401, "UNAUTHORIZED")
@blueprint.alt_response(403, "FORBIDDEN")
def check_access() -> flask.Response:
    """Tell nginx whether the request it holds may pass (``auth_request``)."""
    headers = flask.request.headers
    need = need_of(headers.get("X-Original-Method"), headers.get("X-Original-URI"))
    who = _require(need.role if need else "viewer")
    if need is None:
        raise MetiaError("forbidden", "Nobody may ask this through the proxy.")
    if need.writes and who.session_token and request_source() is not Source.OURS:
        raise MetiaError("csrf-failed", "Only our own pages may write images.")
    return flask.Response(status=204, headers={"X-User": who.name})
