"""The nine routes that the front end of the former system calls, and what it left.

The nine lie at the root of the origin and exist only with ``METIA_LEGACY_API``. Their
JSON is that system's: ``{"success"}`` or ``{"error"}``, and the tables of its follow-up
page. Login, roles and audit are ours: an API token, or the session of a browser on our
origin (its page sends no CSRF token, so the browser's word on the origin counts). What
is done differently on purpose stands in ``docs/replacing-the-old-system.md``. The
measurements of the former system are listed by a route of the API that always exists.
"""

from __future__ import annotations

from typing import Any

import flask
from werkzeug.exceptions import HTTPException

from db import audit
from db.engine import reading, transaction
from db.historical import list_historical
from db.patients import get_patient
from db.results import Result
from errors import MetiaError
from segmentation.access.routes import allow, principal, without_csrf_token
from segmentation.http.identifiers import is_uid
from segmentation.http.routes import Blueprint, logged, request_id, services
from segmentation.jobs import Job
from segmentation.legacy import follow_up, schemas
from segmentation.legacy.deleting import delete_study as delete_everywhere
from segmentation.legacy.regions import Region, change_region, current_result, show
from segmentation.legacy.shapes import (
    message_of,
    message_of_code,
    reason_of,
    status_of,
)
from segmentation.legacy.upload import Upload, store_files
from segmentation.legacy.waiting import wait_for_end, waiting_place
from segmentation.models.choice import default_model
from segmentation.versions.corrections import Reader
from segmentation.versions.review import LesionChange

blueprint = Blueprint("legacy", __name__, description="The former front end's routes")
history = Blueprint(
    "historical",
    __name__,
    url_prefix="/api/v1",
    description="Measurements of the former system",
)

LARGEST_UPLOAD = 512_000_000
"""Bytes of one request; nginx holds to the same."""
_MOST_FILES = 2000
_MOST_IN_MEMORY = 1_000_000
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files[]"],
                    "properties": {
                        "files[]": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            }
        },
    }
}


def _answer_error(error: Exception) -> flask.Response:
    told = logged(error)
    return _failure(message_of(told), status_of(told.info.http_status))


def _answer_http_exception(error: HTTPException) -> flask.Response:
    return _failure(error.description or error.name, status_of(error.code or 500))


def _failure(message: str, status: int) -> flask.Response:
    answer = flask.make_response(flask.jsonify({"error": message}), status)
    if status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="MetIA"'
    return answer


blueprint.register_error_handler(MetiaError, _answer_error)
blueprint.register_error_handler(Exception, _answer_error)
blueprint.register_error_handler(HTTPException, _answer_http_exception)


@blueprint.route("/segmentation/<string:study_uid>", methods=["POST"])
@allow("annotator")
@without_csrf_token
@blueprint.response(200, schemas.Success)
@blueprint.alt_response(404, schema=schemas.Failure)
@blueprint.alt_response(500, schema=schemas.Failure)
@blueprint.alt_response(503, schema=schemas.Failure)
@blueprint.alt_response(504, schema=schemas.Failure)
def segment(study_uid: str) -> dict[str, str] | flask.Response:
    """Segment a study, wait for the end, and store the outlines as an RTSTRUCT."""
    _require_uid(study_uid)
    context = services()
    context.archive.series_headers(study_uid)
    job = _submit(study_uid)
    limit_s = context.settings.legacy_wait_s
    with waiting_place():
        ended = wait_for_end(context.queue, job.id, limit_s)
    if ended is None:
        return _failure(
            f"The segmentation is not done after {limit_s:.0f} s. "
            "It goes on; try again later to have its outlines.",
            504,
        )
    if ended.state == "cancelled":
        return _failure("The segmentation was cancelled.", 409)
    if ended.state == "failed" or ended.result_id is None:
        code = ended.error_code or "internal"
        status = 404 if code == "study-not-found" else 500
        return _failure(message_of_code(code, ended.error_detail), status)
    return {"success": _show_current(study_uid)}


def _submit(study_uid: str) -> Job:
    context, who = services(), principal()
    model = default_model(context.settings, context.engine, context.models)
    job, created = context.queue.submit(
        study_uid, None, model.identity.name, requested_by=who.name
    )
    if created:
        with transaction(context.engine) as session:
            audit.append(
                session,
                actor=who.name,
                action="job-submit",
                subject=f"job:{job.id}",
                request_id=request_id(),
            )
    return job


def _show_current(study_uid: str) -> str:
    """Store the outlines of the result that counts; says what there is to see."""
    context = services()
    result = current_result(context.engine, study_uid)
    if result is None:
        return "The segmentation is done; a reader has rejected its result."
    if not show(context.engine, context.archive, result, _reader()):
        return "The segmentation is done: no lesion was found."
    return f"The segmentation is done: {len(result.lesions)} lesion(s)."


@blueprint.route("/rename-roi", methods=["POST"])
@allow("annotator")
@without_csrf_token
@blueprint.arguments(schemas.RenamedRegion)
@blueprint.response(200, schemas.Success)
@blueprint.alt_response(400, schema=schemas.Failure)
@blueprint.alt_response(404, schema=schemas.Failure)
@blueprint.alt_response(409, schema=schemas.Failure)
@blueprint.alt_response(500, schema=schemas.Failure)
@blueprint.alt_response(503, schema=schemas.Failure)
def rename_region(asked: dict[str, Any]) -> dict[str, str]:
    """Rename a lesion: a new version of its result."""
    name = asked["new_name"]
    return _change(asked, lambda lesion: LesionChange(lesion, name=name), "renamed")


@blueprint.route("/delete-roi", methods=["POST"])
@allow("annotator")
@without_csrf_token
@blueprint.arguments(schemas.DeletedRegion)
@blueprint.response(200, schemas.Success)
@blueprint.alt_response(400, schema=schemas.Failure)
@blueprint.alt_response(404, schema=schemas.Failure)
@blueprint.alt_response(409, schema=schemas.Failure)
@blueprint.alt_response(500, schema=schemas.Failure)
@blueprint.alt_response(503, schema=schemas.Failure)
def delete_region(asked: dict[str, Any]) -> dict[str, str]:
    """Delete a lesion: a new version of its result without it."""
    return _change(asked, lambda lesion: LesionChange(lesion, deleted=True), "deleted")


def _change(asked: dict[str, Any], change: Any, done: str) -> dict[str, str]:
    context, reader = services(), _reader()
    region = Region(
        asked["study_instance_uid"], asked["serie_instance_uid"], asked["roi_number"]
    )
    result = change_region(context.engine, context.archive, region, change, reader)
    text = f"The lesion is {done} (version {result.version}). {_show(result)}"
    return {"success": text.strip()}


def _show(result: Result) -> str:
    """Store the outlines of a result that is recorded; says why, where it cannot.

    What was asked for is done by then, and must not be told as if it had failed.
    """
    context = services()
    try:
        show(context.engine, context.archive, result, _reader())
    except MetiaError as error:
        return f"Its outlines could not be stored: {message_of(logged(error))}"
    return ""


@blueprint.route("/uploadDicom", methods=["POST"])
@allow("annotator")
@without_csrf_token
@blueprint.doc(**_FORM)
@blueprint.response(200, schemas.Success)
@blueprint.alt_response(400, schema=schemas.Failure)
@blueprint.alt_response(413, schema=schemas.Failure)
@blueprint.alt_response(500, schema=schemas.Failure)
@blueprint.alt_response(503, schema=schemas.Failure)
def upload() -> dict[str, str] | flask.Response:
    """Store DICOM files, and measure the outlines (RTSTRUCT) among them."""
    request, context = flask.request, services()
    request.max_content_length = LARGEST_UPLOAD
    # Also what the parser holds of a file before it writes it to the disk.
    request.max_form_memory_size = _MOST_IN_MEMORY
    request.max_form_parts = _MOST_FILES
    files = request.files.getlist("files[]")
    if not files:
        return _failure("The form has no file under `files[]`.", 400)
    done = store_files(
        context.engine, context.archive, (one.stream for one in files), _reader()
    )
    _note_upload(done)
    told = " ".join([_tell(done, len(files)), *map(_show, done.measured)]).strip()
    if done.refused:
        worst = max(one.error.info.http_status for one in done.refused)
        return _failure(told, 500 if worst >= 500 else 400)
    return {"success": told}


def _note_upload(done: Upload) -> None:
    with transaction(services().engine) as session:
        audit.append(
            session,
            actor=principal().name,
            action="upload",
            subject="archive",
            details={
                "stored": done.stored,
                "already_stored": done.already_stored,
                "refused": [one.error.code for one in done.refused],
                "measured": [one.id for one in done.measured],
            },
            request_id=request_id(),
        )


def _tell(done: Upload, count: int) -> str:
    """Say of every file what became of it, by its place among those sent."""
    parts = [f"{done.stored} of {count} file(s) stored."]
    if done.already_stored:
        parts.append(f"{done.already_stored} were in the archive before.")
    parts += [
        f"File {one.file_number} is not stored: {reason_of(one.error)}"
        for one in done.refused
    ]
    if done.measured:
        parts.append(f"Outlines measured: {len(done.measured)} object(s).")
    parts += [
        f"The outlines of file {one.file_number} are not measured: "
        f"{reason_of(one.error)}"
        for one in done.unmeasured
    ]
    return " ".join(parts)


@blueprint.route("/delete-study/<string:study_uid>", methods=["DELETE"])
@allow("admin")
@without_csrf_token
@blueprint.response(200, schemas.Success)
@blueprint.alt_response(404, schema=schemas.Failure)
@blueprint.alt_response(409, schema=schemas.Failure)
@blueprint.alt_response(500, schema=schemas.Failure)
@blueprint.alt_response(503, schema=schemas.Failure)
def delete_study(study_uid: str) -> dict[str, str]:
    """Delete exactly this study, its images and its results."""
    _require_uid(study_uid)
    context = services()
    delete_everywhere(
        context.engine,
        context.archive,
        study_uid,
        actor=principal().name,
        request_id=request_id(),
    )
    return {"success": "The study is deleted."}


@blueprint.route("/followup-patients", methods=["GET"])
@blueprint.response(200, schemas.FollowedPatient(many=True))
def show_patients() -> list[dict[str, Any]]:
    """List the patients who are followed."""
    with reading(services().engine) as session:
        return follow_up.list_patients(session)


@blueprint.route("/followup-etudes", methods=["GET"])
@blueprint.arguments(schemas.PatientQuery, location="query")
@blueprint.response(200, schemas.FollowedStudy(many=True))
@blueprint.alt_response(400, schema=schemas.Failure)
def show_studies(asked: dict[str, str]) -> list[dict[str, Any]]:
    """List the studies of a patient, or all."""
    with reading(services().engine) as session:
        return follow_up.list_studies(session, asked.get("idPatient"))


@blueprint.route("/followup-series", methods=["GET"])
@blueprint.arguments(schemas.StudyQuery, location="query")
@blueprint.response(200, schemas.FollowedSeries(many=True))
@blueprint.alt_response(400, schema=schemas.Failure)
def show_series(asked: dict[str, str]) -> list[dict[str, Any]]:
    """List the series of outlines of a study, or all."""
    with reading(services().engine) as session:
        return follow_up.list_series(session, asked.get("idEtude"))


@blueprint.route("/followup-metastases", methods=["GET"])
@blueprint.arguments(schemas.SeriesQuery, location="query")
@blueprint.response(200, schemas.FollowedLesion(many=True))
@blueprint.alt_response(400, schema=schemas.Failure)
def show_lesions(asked: dict[str, str]) -> list[dict[str, Any]]:
    """List the lesions of a series of outlines, or all."""
    with reading(services().engine) as session:
        return follow_up.list_lesions(session, asked.get("idSeries"))


@history.route("/patients/<id:patient_id>/historical", methods=["GET"])
@history.response(200, schemas.HistoricalMeasurements)
@history.alt_response(404, "NOT_FOUND")
def show_historical(patient_id: str) -> dict[str, Any]:
    """List what the former system measured of a patient, by date.

    For looking at only: without a place in the head, these are neither linked to
    lesions nor counted in any sum or response.
    """
    with reading(services().engine) as session:
        get_patient(session, patient_id)
        return {"measurements": list_historical(session, patient_key=patient_id)}


def _require_uid(text: str) -> None:
    if not is_uid(text):
        raise MetiaError("study-not-found", "It is not a study's UID.")


def _reader() -> Reader:
    who = principal()
    return Reader(who.name, who.display_name, request_id())
