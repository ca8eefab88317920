"""The routes by which results leave: files for trials, reports, archives and research.

Every export needs at least the role annotator and leaves an entry in the audit: who
took what, of whom, in which form. Files are pseudonymous unless ``identifiers=true``,
which needs the role reviewer. File names hold no patient data.
"""

from __future__ import annotations

from collections.abc import Mapping

import flask

from db import audit
from db.engine import transaction
from errors import MetiaError
from segmentation.access.roles import includes
from segmentation.access.routes import allow, principal
from segmentation.exports.file_names import result_file
from segmentation.exports.sources import load_nifti
from segmentation.http.routes import Blueprint, request_id, services

blueprint = Blueprint("exports", __name__, url_prefix="/api/v1", description="Exports")

ZIP = "application/zip"


def file_response(content: bytes, media_type: str, name: str) -> flask.Response:
    """Answer a file that a browser saves under `name`."""
    answer = flask.Response(content, mimetype=media_type)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def note_export(subject: str, form: str, details: Mapping[str, object]) -> None:
    """Put an export into the audit; `details` hold no patient data."""
    with transaction(services().engine) as session:
        audit.append(
            session,
            actor=principal().name,
            action="export",
            subject=subject,
            details={"format": form, **details},
            request_id=request_id(),
        )


def require_identifiers(wanted: bool) -> None:
    """Refuse who may not take a patient's identity out.

    Raises
    ------
    MetiaError
        ``forbidden``.
    """
    if wanted and not includes(principal().role, "reviewer"):
        raise MetiaError("forbidden", "Identifiers leave only with the role reviewer.")


@blueprint.route("/results/<id:result_id>/export/nifti", methods=["GET"])
@allow("annotator")
@blueprint.response(200, {"format": "binary", "type": "string"}, content_type=ZIP)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(422, "UNPROCESSABLE_ENTITY")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
def export_nifti(result_id: str) -> flask.Response:
    """Give the labels of a result as NIfTI, with a JSON text, in a ZIP."""
    context = services()
    content = load_nifti(context.engine, context.archive, result_id)
    note_export(f"result:{result_id}", "nifti", {"bytes": len(content)})
    return file_response(content, ZIP, result_file(result_id, "labels", "zip"))
