"""The route by which outlines made elsewhere become a result."""

from __future__ import annotations

from typing import Any

from segmentation.access.routes import allow, principal
from segmentation.http import schemas as common
from segmentation.http.routes import Blueprint, request_id, services
from segmentation.imports.taking import take_over
from segmentation.results_json import result_json
from segmentation.versions.corrections import Reader

blueprint = Blueprint("imports", __name__, url_prefix="/api/v1", description="Imports")


class NewImport(common.Input):
    """An object of the study that shall be taken over."""

    sop_instance_uid = common.Uid(
        required=True, metadata={"description": "Of an RTSTRUCT or SEG of the study."}
    )


@blueprint.route("/studies/<uid:study_uid>/imports", methods=["POST"])
@allow("annotator")
@blueprint.arguments(NewImport)
@blueprint.response(201, common.Result)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@blueprint.alt_response(422, "UNPROCESSABLE_ENTITY")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
@blueprint.alt_response(507, "INSUFFICIENT_STORAGE")
def import_outlines(asked: dict[str, Any], study_uid: str) -> dict[str, Any]:
    """Take the outlines of an RTSTRUCT or foreign SEG over as a result.

    The object must be in the archive, drawn on an MR series of this study. Its
    structures of type GTV (or, where there is none, those that may be lesions by name)
    become lesions; the answer's warnings tell what was left out. Sending the same again
    gives the same result.
    """
    who, context = principal(), services()
    result = take_over(
        context.engine,
        context.archive,
        study_uid,
        asked["sop_instance_uid"],
        Reader(who.name, who.display_name, request_id()),
    )
    return result_json(result)
