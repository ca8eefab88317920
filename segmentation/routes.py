"""The routes of jobs, results and lesions.

Submitting asks the archive whether the study (and the series, where one is chosen) is
there, so that a wrong UID is told at once and not minutes later by a failed job; an
archive that does not answer is told as such (503) and nothing is queued. Reading a
job's state costs indexed queries only: viewers poll it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import flask
from werkzeug import Response

from db import audit
from db.engine import reading, transaction
from db.jobs import (
    Job,
    get_job,
    list_jobs,
    queue_position,
    queue_positions,
    ups_state,
)
from db.results import Lesion, get_lesion, get_result, list_results
from errors import CODES, MetiaError
from orthanc.archive import Archive
from segmentation.access.routes import allow, principal
from segmentation.http import schemas
from segmentation.http.routes import Blueprint, request_id, services
from segmentation.models.choice import default_model
from segmentation.models.registry import ModelFolder
from segmentation.results_json import result_json

jobs = Blueprint("jobs", __name__, url_prefix="/api/v1/jobs", description="Jobs")
results = Blueprint("results", __name__, url_prefix="/api/v1", description="Results")

_LOCATION = {
    "Location": {"description": "Address of the job.", "schema": {"type": "string"}}
}
_ETAG = {"ETag": {"description": "Changes with it.", "schema": {"type": "string"}}}
_IF_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "required": False,
    "schema": {"type": "string"},
}


@jobs.route("", methods=["POST"])
@allow("annotator")
@jobs.arguments(schemas.NewJob)
@jobs.response(202, schemas.Job, headers=_LOCATION)
@jobs.alt_response(
    200, schema=schemas.Job, headers=_LOCATION, description="Already active."
)
@jobs.alt_response(404, "NOT_FOUND")
@jobs.alt_response(429, "TOO_MANY_REQUESTS")
@jobs.alt_response(502, "BAD_GATEWAY")
@jobs.alt_response(503, "SERVICE_UNAVAILABLE")
def submit_job(asked: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Ask for the segmentation of a study.

    Answers 202 with a new job, or 200 with the one that is already waiting or running
    for the same series and model.
    """
    context = services()
    name = asked.get("model")
    model = context.models.get(name) if name else _default_model()
    series_uid = asked.get("series_uid")
    _require_series(context.archive, asked["study_uid"], series_uid)
    who = principal()
    job, created = context.queue.submit(
        asked["study_uid"],
        series_uid,
        model.identity.name,
        priority=asked["priority"],
        requested_by=who.name,
    )
    if created:
        _note("job-submit", job.id)
    where = {"Location": flask.url_for("jobs.show_job", job_id=job.id)}
    return _job(job, context.queue.position(job)), 202 if created else 200, where


def _note(action: str, job_id: str) -> None:
    with transaction(services().engine) as session:
        audit.append(
            session,
            actor=principal().name,
            action=action,
            subject=f"job:{job_id}",
            request_id=request_id(),
        )


def _default_model() -> ModelFolder:
    context = services()
    return default_model(context.settings, context.engine, context.models)


def _require_series(archive: Archive, study_uid: str, series_uid: str | None) -> None:
    headers = archive.series_headers(study_uid)
    if series_uid and all(header.series_uid != series_uid for header in headers):
        raise MetiaError("series-not-found", "The study has no series of this UID.")


@jobs.route("", methods=["GET"])
@jobs.arguments(schemas.JobQuery, location="query")
@jobs.response(200, schemas.Jobs)
def show_jobs(query: dict[str, Any]) -> dict[str, Any]:
    """List jobs, newest first."""
    with reading(services().engine) as session:
        page, cursor = list_jobs(
            session,
            state=query.get("state"),
            study_uid=query.get("study_uid"),
            limit=query["limit"],
            cursor=query.get("cursor"),
        )
        places = queue_positions(session, page)
    listed = [_job(job, places.get(job.id)) for job in page]
    return {"jobs": listed, "next_cursor": cursor}


@jobs.route("/<id:job_id>", methods=["GET"])
@jobs.doc(parameters=[_IF_NONE_MATCH])
@jobs.response(200, schemas.Job, headers=_ETAG)
@jobs.alt_response(304, description="Unchanged since.", success=True)
@jobs.alt_response(404, "NOT_FOUND")
def show_job(job_id: str) -> Response:
    """Tell how far a job is."""
    with reading(services().engine) as session:
        job = get_job(session, job_id)
        place = queue_position(session, job)
    answer = flask.jsonify(schemas.Job().dump(_job(job, place)))
    answer.set_etag(hashlib.sha256(answer.get_data()).hexdigest()[:32])
    return answer.make_conditional(flask.request)


@jobs.route("/<id:job_id>/cancel", methods=["POST"])
@allow("annotator")
@jobs.response(200, schemas.Job)
@jobs.alt_response(404, "NOT_FOUND")
@jobs.alt_response(409, "CONFLICT")
def cancel_job(job_id: str) -> dict[str, Any]:
    """Stop a job; a running one stops within seconds."""
    queue = services().queue
    job = queue.cancel(job_id)
    _note("job-cancel", job_id)
    return _job(job, queue.position(job))


def _job(job: Job, place: int | None = None) -> dict[str, Any]:
    error = None
    # Of a waiting job: why its last try was put off.
    if job.error_code and job.state in ("failed", "queued"):
        info = CODES.get(job.error_code, CODES["internal"])
        error = {
            "code": job.error_code,
            "title": info.title,
            "detail": job.error_detail or info.title,
            "remedy": info.remedy,
        }
    return {
        **vars(job),
        "model": job.model_name,
        "ups_state": ups_state(job.state),
        "error": error,
        "queue_position": place,
    }


@results.route("/studies/<uid:study_uid>/results", methods=["GET"])
@results.response(200, schemas.Results)
def show_results(study_uid: str) -> dict[str, Any]:
    """List the results of a study, newest first."""
    with reading(services().engine) as session:
        found = list_results(session, study_uid)
    return {"results": [result_json(result) for result in found]}


@results.route("/results/<id:result_id>", methods=["GET"])
@results.response(200, schemas.Result)
@results.alt_response(404, "NOT_FOUND")
def show_result(result_id: str) -> dict[str, Any]:
    """Give one result."""
    with reading(services().engine) as session:
        return result_json(get_result(session, result_id))


@results.route("/lesions/<id:lesion_id>", methods=["GET"])
@results.response(200, schemas.LesionWithResult)
@results.alt_response(404, "NOT_FOUND")
def show_lesion(lesion_id: str) -> Lesion:
    """Give one lesion."""
    with reading(services().engine) as session:
        return get_lesion(session, lesion_id)
