"""The HTTP plumbing under every route: bodies in, problems out, headers, access log.

``install`` hangs it onto an application. Every error that leaves the service is a
problem document with a stable code; what nobody foresaw becomes ``internal`` and is
logged by type and place only. The access log names routes, never addresses: a path
holds the UIDs of a study. Safe between threads.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import flask
import flask_smorest
import marshmallow as ma
import structlog
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import HTTPException, UnprocessableEntity
from werkzeug.routing import BaseConverter

from errors import CODES, MetiaError
from segmentation.http.identifiers import (
    ID_PATTERN,
    UID_MAX_LENGTH,
    UID_PATTERN,
    is_id,
    is_uid,
)
from segmentation.http.json_body import parse_json
from segmentation.http.logs import describe_exception
from segmentation.http.metrics import Metrics
from segmentation.http.problems import CODE_OF_STATUS, PROBLEM_TYPE, problem
from segmentation.http.services import Services

_log = structlog.stdlib.get_logger("metia.http")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}\Z", re.ASCII)
SERVICES = "metia-services"
"""Name under which an application keeps its ``Services``."""

View = TypeVar("View", bound=Callable[..., Any])

_SHOWN_ERRORS = 20
_RETRY_AFTER_S = 10
_QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics", "/api/v1/auth/check"})

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": with it, browsers send a form with the origin "null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every answer; a page that needs more than this sets its own policy."""


class ProblemSchema(ma.Schema):
    """The shape of every error answer (RFC 9457), besides facts of the occurrence."""

    class Meta:
        """Facts may be added."""

        unknown = ma.INCLUDE

    type = ma.fields.String(required=True)
    title = ma.fields.String(required=True)
    status = ma.fields.Integer(required=True)
    detail = ma.fields.String(required=True)
    code = ma.fields.String(
        required=True, metadata={"description": "Stable; see docs/errors.md."}
    )
    remedy = ma.fields.String(required=True)
    request_id = ma.fields.String(required=True)
    errors = ma.fields.Dict(
        metadata={"description": "Messages by location and field (invalid-input)."}
    )


class StrictParser(FlaskParser):
    """Reads arguments; unknown ones and every oddity of JSON are refused."""

    DEFAULT_UNKNOWN_BY_LOCATION = {  # noqa: RUF012 - the base class has it so
        **FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION,
        "query": ma.RAISE,
    }

    def load_json(self, req: flask.Request, schema: ma.Schema) -> Any:
        """Give the JSON body.

        Raises
        ------
        MetiaError
            ``unsupported-media-type``, ``too-large`` or ``bad-request``.
        """
        body = req.get_data()
        limit = req.max_content_length
        if req.content_length is None and limit and len(body) >= limit:
            # A body in chunks is cut off at the limit without a word.
            raise MetiaError("too-large", f"A body has less than {limit} bytes.")
        if body and req.mimetype != "application/json":
            raise MetiaError(
                "unsupported-media-type", "The body must be application/json."
            )
        return parse_json(body)


class _Keeps(Protocol):
    def __call__(self, view: View) -> View: ...


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """A documented blueprint that reads its arguments strictly."""

    ARGUMENTS_PARSER = StrictParser()

    if TYPE_CHECKING:  # flask-smorest is untyped; its decorators keep the view's type
        route: Callable[..., _Keeps]
        arguments: Callable[..., _Keeps]
        response: Callable[..., _Keeps]
        alt_response: Callable[..., _Keeps]
        doc: Callable[..., _Keeps]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._prepare_doc_cbks.append(_document_errors)


def _document_errors(
    document: dict[str, Any], *_: object, **__: object
) -> dict[str, Any]:
    """Say of every operation that its errors are problem documents."""
    document.setdefault("responses", {})["default"] = "DEFAULT_ERROR"
    return document


class Api(flask_smorest.Api):  # type: ignore[misc]
    """flask-smorest's Api with our error answers."""

    ERROR_SCHEMA = ProblemSchema

    def _register_responses(self) -> None:
        """Describe the error answers, with the content type they really have."""
        for name, phrase in [
            *((status.name, status.phrase) for status in HTTPStatus if status >= 400),
            (self.DEFAULT_ERROR_RESPONSE_NAME, "Any other error."),
        ]:
            content = {PROBLEM_TYPE: {"schema": self.ERROR_SCHEMA}}
            answer = {"description": phrase, "content": content}
            self.spec.components.response(name, answer, lazy=True)

    def handle_http_exception(self, error: HTTPException) -> flask.Response:
        """Answer an error of the framework as a problem document."""
        status = error.code or 500
        fallback = "bad-request" if status < 500 else "internal"
        code = CODE_OF_STATUS.get(status, fallback)
        data = getattr(error, "data", None) or {}
        answer = problem_response(
            MetiaError(code, _detail_of(error, code)), errors=data.get("messages")
        )
        allow = dict(error.get_headers()).get("Allow")
        if allow:
            answer.headers["Allow"] = allow
        return answer


def _detail_of(error: HTTPException, code: str) -> str:
    # Werkzeug's own descriptions are fixed sentences; ours carry no patient data.
    # Only those of routing are replaced, as they speak of "the server".
    if code == "not-found":
        return "Nothing lies at this address."
    return error.description or CODES[code].title


def problem_response(
    error: MetiaError, errors: Mapping[str, Any] | None = None
) -> flask.Response:
    """Answer an error.

    Parameters
    ----------
    error : MetiaError
        The failure. A fact ``retry_after_s`` becomes the ``Retry-After`` header.
    errors : mapping, optional
        Messages by location and field; cut where a caller provoked very many.

    Returns
    -------
    flask.Response
    """
    document = problem(error, request_id(), _shortened(errors) if errors else None)
    answer = flask.make_response(flask.jsonify(document), error.info.http_status)
    answer.mimetype = PROBLEM_TYPE
    if error.code == "not-authenticated":
        answer.headers["WWW-Authenticate"] = 'Bearer realm="MetIA"'
    if error.info.http_status in (429, 503):
        wait_s = error.facts.get("retry_after_s", _RETRY_AFTER_S)
        answer.headers["Retry-After"] = str(wait_s)
    return answer


def _shortened(messages: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    kept = list(messages.items())[:_SHOWN_ERRORS]
    return {
        str(name)[:64]: _shortened(value, depth + 1)
        if isinstance(value, Mapping) and depth < 3
        else value
        for name, value in kept
    }


def services() -> Services:
    """Give what the present application is made of."""
    return cast(Services, flask.current_app.extensions[SERVICES])


def request_id() -> str:
    """Give the id by which the log's lines about this request are found."""
    known = flask.g.get("request_id")
    if known is None:
        sent = flask.request.headers.get("X-Request-ID", "")
        known = flask.g.request_id = (
            sent if _REQUEST_ID.match(sent) else uuid.uuid4().hex
        )
    return str(known)


class _CheckedConverter(BaseConverter):
    """A path part that is refused with 422, not 404, where its form is wrong."""

    regex = "[^/]+"
    accepts: Callable[[str], bool]
    kind: str

    def to_python(self, value: str) -> str:
        if type(self).accepts(value):
            return value
        error = UnprocessableEntity(f"The address holds no valid {self.kind}.")
        error.data = {"messages": {"path": {self.kind: ["Not valid."]}}}  # type: ignore[attr-defined]
        raise error


class UidConverter(_CheckedConverter):
    """The UID of something in the archive."""

    accepts = staticmethod(is_uid)
    kind = "UID"


class IdConverter(_CheckedConverter):
    """An identifier made by us."""

    accepts = staticmethod(is_id)
    kind = "identifier"


def describe_converters(api: Api) -> None:
    """Tell the API's description what the path parts look like."""
    api.register_converter(
        UidConverter,
        lambda _: {
            "type": "string",
            "pattern": UID_PATTERN,
            "maxLength": UID_MAX_LENGTH,
        },
    )
    api.register_converter(
        IdConverter, lambda _: {"type": "string", "pattern": ID_PATTERN}
    )


def install(app: flask.Flask, metrics: Metrics) -> None:
    """Hang error answers, headers, request ids, access log and metrics onto an app.

    Parameters
    ----------
    app : flask.Flask
        The application; its routes may be added before or after.
    metrics : Metrics
        Takes one observation a request.
    """
    app.url_map.converters["uid"] = UidConverter
    app.url_map.converters["id"] = IdConverter
    app.url_map.merge_slashes = False
    app.register_error_handler(MetiaError, _answer_error)
    app.register_error_handler(Exception, _answer_error)
    app.before_request(_begin)

    def end(answer: flask.Response) -> flask.Response:
        return _end(answer, metrics)

    app.after_request(end)
    app.teardown_request(lambda _: structlog.contextvars.clear_contextvars())


def _answer_error(error: Exception) -> flask.Response:
    return problem_response(logged(error))


def logged(error: Exception) -> MetiaError:
    """Log what an administrator must know of an error; gives what may be told of it."""
    if not isinstance(error, MetiaError):
        _log.error("unforeseen", **describe_exception(error))
        return MetiaError("internal", "The request failed for a reason nobody foresaw.")
    if error.info.http_status >= 500:
        _log.warning("failed", code=error.code, detail=error.detail)
    return error


def _begin() -> None:
    flask.g.began = time.perf_counter()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id())


def _end(answer: flask.Response, metrics: Metrics) -> flask.Response:
    request = flask.request
    for name, value in SECURITY_HEADERS.items():
        answer.headers.setdefault(name, value)
    answer.headers["X-Request-ID"] = request_id()
    route = request.url_rule.rule if request.url_rule else "unmatched"
    seconds = time.perf_counter() - flask.g.get("began", time.perf_counter())
    metrics.observe(request.method, route, answer.status_code, seconds)
    quiet = route in _QUIET_ROUTES and answer.status_code < 500
    (_log.debug if quiet else _log.info)(
        "request",
        method=request.method[:16],
        route=route,
        status=answer.status_code,
        milliseconds=round(seconds * 1000, 1),
        user=flask.g.get("user_name"),
    )
    return answer
