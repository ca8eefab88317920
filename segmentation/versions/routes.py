"""The routes by which readers change results: correct, review, restore, list versions.

A correction is one multipart form: its description as JSON and its labels as gzip. The
form is bounded before it is read, and held to exactly two parts. Everything else is in
``segmentation.versions``; this web process never loads torch.
"""

from __future__ import annotations

from typing import Any

import flask
import marshmallow as ma
from werkzeug.exceptions import UnprocessableEntity

from db.engine import reading
from db.results import Result, list_versions
from errors import MetiaError
from orthanc.volume import SliceReference
from segmentation.access.routes import allow, principal
from segmentation.http import schemas as common
from segmentation.http.json_body import parse_json
from segmentation.http.routes import Blueprint, request_id, services
from segmentation.results_json import result_json
from segmentation.versions import schemas
from segmentation.versions.corrections import (
    Correction,
    Reader,
    SentSegment,
    correct,
    restore,
)
from segmentation.versions.review import LesionChange, change_result

blueprint = Blueprint(
    "versions", __name__, url_prefix="/api/v1", description="Versions of results"
)

LARGEST_BODY = 8_000_000
_LARGEST_DESCRIPTION = 1_000_000
_PARTS = {"description", "labels"}
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": schemas.CorrectionForm,
                "encoding": {
                    "description": {"contentType": "application/json"},
                    "labels": {"contentType": "application/gzip"},
                },
            }
        },
    }
}


@blueprint.route("/results/<id:result_id>/corrections", methods=["POST"])
@allow("annotator")
@blueprint.doc(**_FORM)
@blueprint.response(201, common.Result)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@blueprint.alt_response(413, "REQUEST_ENTITY_TOO_LARGE")
@blueprint.alt_response(415, "UNSUPPORTED_MEDIA_TYPE")
@blueprint.alt_response(422, "UNPROCESSABLE_ENTITY")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
@blueprint.alt_response(507, "INSUFFICIENT_STORAGE")
def correct_result(result_id: str) -> dict[str, Any]:
    """Save an edited label map as a new version of a result.

    The version before stays as it is. Where somebody was faster, the answer is 409
    `edit-conflict` with `current_result_id` and `current_revision`; sent again with
    `keep_both`, the correction is kept beside the other version.
    """
    description, labels = _read_form()
    sent = _load(description)
    context = services()
    result = correct(
        context.engine, context.archive, result_id, sent, labels, _reader()
    )
    return result_json(result)


def _read_form() -> tuple[bytes, bytes]:
    """Read the two parts of the form, each as a file or as a field."""
    request = flask.request
    if request.mimetype != "multipart/form-data":
        raise MetiaError(
            "unsupported-media-type", "The body must be multipart/form-data."
        )
    request.max_content_length = LARGEST_BODY
    request.max_form_memory_size = _LARGEST_DESCRIPTION
    request.max_form_parts = 2 * len(_PARTS)  # enough to say what is too many
    names = [name for name, _ in request.form.items(multi=True)]
    names += [name for name, _ in request.files.items(multi=True)]
    if sorted(names) != sorted(_PARTS):
        raise MetiaError(
            "bad-request", "The form must have the parts `description` and `labels`."
        )
    description, labels = (_part(name) for name in sorted(_PARTS))
    if len(description) > _LARGEST_DESCRIPTION:
        raise MetiaError("too-large", "The description is too long.")
    return description, labels


def _part(name: str) -> bytes:
    if name in flask.request.form:
        return flask.request.form[name].encode("utf-8", "replace")
    content: bytes = flask.request.files[name].read()
    return content


def _load(description: bytes) -> Correction:
    try:
        sent = schemas.Correction().load(parse_json(description))
    except ma.ValidationError as fault:
        error = UnprocessableEntity("The description is not valid.")
        messages = {"description": fault.messages}
        error.data = {"messages": messages}  # type: ignore[attr-defined]
        raise error from fault
    return Correction(
        revision=sent["revision"],
        images=tuple(SliceReference(**image) for image in sent["images"]),
        rows=sent["rows"],
        columns=sent["columns"],
        segments=tuple(SentSegment(**segment) for segment in sent["segments"]),
        keep_both=sent["keep_both"],
        note=sent["note"],
    )


@blueprint.route("/results/<id:result_id>", methods=["PATCH"])
@allow("annotator")
@blueprint.arguments(schemas.ResultChange)
@blueprint.response(200, common.Result)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
@blueprint.alt_response(507, "INSUFFICIENT_STORAGE")
def review_result(asked: dict[str, Any], result_id: str) -> dict[str, Any]:
    """Accept or reject a result or its lesions, name or delete lesions.

    A new name or a deletion makes a new version, which is answered; without either the
    answer is the result itself with its next revision.
    """
    context = services()
    result = change_result(
        context.engine,
        context.archive,
        result_id,
        revision=asked["revision"],
        state=asked.get("state"),
        lesions=tuple(LesionChange(**change) for change in asked["lesions"]),
        note=asked["note"],
        reader=_reader(),
    )
    return result_json(result)


@blueprint.route("/results/<id:result_id>/restore", methods=["POST"])
@allow("annotator")
@blueprint.arguments(schemas.Restoring)
@blueprint.response(201, common.Result)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def restore_result(asked: dict[str, Any], result_id: str) -> dict[str, Any]:
    """Undo: make an earlier version the newest again, as a version of its own."""
    return result_json(
        restore(
            services().engine,
            result_id,
            asked["revision"],
            asked["version_id"],
            _reader(),
        )
    )


@blueprint.route("/results/<id:result_id>/versions", methods=["GET"])
@blueprint.response(200, schemas.Versions)
@blueprint.alt_response(404, "NOT_FOUND")
def show_versions(result_id: str) -> dict[str, Any]:
    """List all versions of a result, the first one first."""
    with reading(services().engine) as session:
        found: tuple[Result, ...] = list_versions(session, result_id)
    return {"versions": [result_json(one) for one in found]}


def _reader() -> Reader:
    who = principal()
    return Reader(who.name, who.display_name, request_id())
