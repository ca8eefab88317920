"""The routes by which a result leaves as DICOM: as a download, or into the archive.

DICOM objects name the patient, as the images in the archive do; every export is in the
audit. One result at a time in memory (``segmentation.versions.turn``).
"""

from __future__ import annotations

from typing import Any, cast

import flask
from marshmallow import fields, validate
from pydicom.dataset import Dataset

from orthanc.archive import StoreReceipt
from orthanc.dicomweb import encode_part10
from segmentation.access.routes import allow
from segmentation.exports.dicom_objects import (
    Format,
    load_material,
    object_of_result,
    store_objects,
)
from segmentation.exports.file_names import result_file
from segmentation.exports.routes import file_response, note_export
from segmentation.http import schemas as common
from segmentation.http.routes import Blueprint, services
from segmentation.versions.turn import turn

blueprint = Blueprint(
    "dicom-exports", __name__, url_prefix="/api/v1", description="Exports as DICOM"
)

DICOM = "application/dicom"
_STORABLE = ("sr", "rtstruct")


class NewExport(common.Input):
    """Objects to be made of a result."""

    formats = fields.List(
        fields.String(validate=validate.OneOf(_STORABLE)),
        required=True,
        validate=validate.Length(min=1, max=len(_STORABLE)),
    )
    store = fields.Boolean(
        truthy={True},
        falsy={False},
        load_default=True,
        metadata={"description": "False: only tell which objects it would be."},
    )


class ExportedObject(common.Output):
    """One object made of a result."""

    format = fields.String(required=True, validate=validate.OneOf(_STORABLE))
    study_uid = common.Uid(required=True)
    series_uid = common.Uid(required=True)
    sop_instance_uid = common.Uid(required=True)
    stored = fields.Boolean(
        required=True, metadata={"description": "It lies in the archive."}
    )
    already_stored = fields.Boolean(
        required=True, metadata={"description": "It lay there before, the same."}
    )


class Exported(common.Output):
    """What was made."""

    objects = fields.List(fields.Nested(ExportedObject), required=True)


def _download(result_id: str, wanted: Format) -> flask.Response:
    context = services()
    with turn():
        material = load_material(context.engine, context.archive, result_id)
        content = encode_part10(object_of_result(material, wanted))
    note_export(f"result:{result_id}", wanted, {"bytes": len(content)})
    return file_response(content, DICOM, result_file(result_id, wanted, "dcm"))


@blueprint.route("/results/<id:result_id>/export/sr", methods=["GET"])
@allow("annotator")
@blueprint.response(200, {"format": "binary", "type": "string"}, content_type=DICOM)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(422, "UNPROCESSABLE_ENTITY")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
def export_sr(result_id: str) -> flask.Response:
    """Give the measurements as a structured report (TID 1500)."""
    return _download(result_id, "sr")


@blueprint.route("/results/<id:result_id>/export/rtstruct", methods=["GET"])
@allow("annotator")
@blueprint.response(200, {"format": "binary", "type": "string"}, content_type=DICOM)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(422, "UNPROCESSABLE_ENTITY")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
def export_rtstruct(result_id: str) -> flask.Response:
    """Give the outlines as an RT structure set, not approved."""
    return _download(result_id, "rtstruct")


@blueprint.route("/results/<id:result_id>/export/seg", methods=["GET"])
@allow("annotator")
@blueprint.response(200, {"format": "binary", "type": "string"}, content_type=DICOM)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(422, "UNPROCESSABLE_ENTITY")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
def export_seg(result_id: str) -> flask.Response:
    """Give the segmentation as it lies in the archive."""
    return _download(result_id, "seg")


@blueprint.route("/results/<id:result_id>/export", methods=["POST"])
@allow("annotator")
@blueprint.arguments(NewExport)
@blueprint.response(200, Exported)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@blueprint.alt_response(422, "UNPROCESSABLE_ENTITY")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
@blueprint.alt_response(507, "INSUFFICIENT_STORAGE")
def export_into_archive(asked: dict[str, Any], result_id: str) -> dict[str, Any]:
    """Make objects of a result and store them in the archive, beside its images.

    The same state of the result makes the same objects: asking again stores nothing
    twice.
    """
    context = services()
    formats = [cast(Format, one) for one in dict.fromkeys(asked["formats"])]
    with turn():
        material = load_material(context.engine, context.archive, result_id)
        objects = [object_of_result(material, one) for one in formats]
        study_uid = material.result.study_uid
        receipts: list[StoreReceipt | None] = [None] * len(objects)
        if asked["store"]:
            receipts = [*store_objects(context.archive, study_uid, objects)]
    note_export(
        f"result:{result_id}",
        "+".join(formats),
        {
            "stored": asked["store"],
            "objects": [str(one.SOPInstanceUID) for one in objects],
        },
    )
    return {
        "objects": [
            _described(format_, made, receipt)
            for format_, made, receipt in zip(formats, objects, receipts, strict=True)
        ]
    }


def _described(
    format_: Format, made: Dataset, receipt: StoreReceipt | None
) -> dict[str, Any]:
    return {
        "format": format_,
        "study_uid": str(made.StudyInstanceUID),
        "series_uid": str(made.SeriesInstanceUID),
        "sop_instance_uid": str(made.SOPInstanceUID),
        "stored": receipt is not None,
        "already_stored": receipt is not None and receipt.already_stored,
    }
