"""Routes about the service: is it alive, is it ready, its figures, its description.

``/healthz`` says only that the process answers. ``/readyz`` looks at the database, the
archive and the workers, and tells details to administrators alone. ``/metrics`` is for
the inside: a request that came through the proxy does not see it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import flask

from errors import CODES, MetiaError
from segmentation.access.roles import includes
from segmentation.access.routes import optional_principal, public
from segmentation.http.metrics import CONTENT_TYPE
from segmentation.http.routes import services

blueprint = flask.Blueprint("service", __name__, template_folder="templates")


@blueprint.get("/healthz")
@public
def show_health() -> dict[str, str]:
    """Say that this process answers."""
    return {"status": "alive"}


@blueprint.get("/readyz")
@public
def show_readiness() -> tuple[dict[str, Any], int]:
    """Say whether jobs can be taken and worked on."""
    context = services()
    faults: dict[str, str | None] = {"archive": context.archive_health.failure()}
    if context.broker_health is not None:
        faults["broker"] = context.broker_health.failure()
    try:
        faults["worker"] = None if context.queue.workers() else "not-ready"
        faults["database"] = None
    except MetiaError as error:
        faults["database"] = error.code
        faults["worker"] = "not-ready"
    ready = not any(faults.values())
    answer: dict[str, Any] = {"status": "ready" if ready else "not ready"}
    who = None if faults["database"] else optional_principal()
    if who is not None and includes(who.role, "admin"):
        answer["checks"] = {name: fault or "ok" for name, fault in faults.items()}
    return answer, 200 if ready else 503


@blueprint.get("/metrics")
@public
def show_metrics() -> flask.Response:
    """Give the metrics in Prometheus' text format."""
    if "X-Forwarded-For" in flask.request.headers:
        raise MetiaError("not-found", "Nothing lies at this address.")
    body = services().metrics.render()
    return flask.Response(body, content_type=CONTENT_TYPE)


@blueprint.get("/api/v1/openapi.json")
def show_openapi() -> flask.Response:
    """Give the machine-readable description of the API (OpenAPI 3.1)."""
    return flask.jsonify(_description())


@blueprint.get("/api/v1/docs")
def show_docs() -> flask.Response:
    """Give the description of the API as a page; it needs nothing from elsewhere."""
    nonce = secrets.token_urlsafe(16)
    page = flask.render_template(
        "docs.html", api=_description(), codes=CODES, nonce=nonce, resolve=_resolve
    )
    answer = flask.make_response(page)
    answer.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return answer


def _description() -> dict[str, Any]:
    api = flask.current_app.extensions["flask-smorest"]["apis"][""]["ext_obj"]
    description: dict[str, Any] = api.spec.to_dict()
    return description


def _resolve(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow one ``$ref`` of the description."""
    while "$ref" in part:
        found: Any = _description()
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        part = found
    return part
