"""The routes of the follow-up: patients, their course, and what readers say of it.

Reading needs the role viewer; entering readings, links and events annotator; the plan
and signatures reviewer. Every change answers with the new course, so that no viewer
ever computes one; a change that was made for an older state is refused
(``edit-conflict``). Nothing here decides anything: see ``course_changes``.
"""

from __future__ import annotations

from typing import Any

from errors import MetiaError
from segmentation.access.routes import allow
from segmentation.followup import course_schemas as out
from segmentation.followup import schemas
from segmentation.http.routes import Blueprint

blueprint = Blueprint(
    "followup", __name__, url_prefix="/api/v1", description="Follow-up"
)
Course = dict[str, Any]


@blueprint.route("/patients", methods=["GET"])
@blueprint.arguments(schemas.PatientQuery, location="query")
@blueprint.response(200, out.Patients)
def show_patients(query: dict[str, Any]) -> dict[str, Any]:
    """List patients that have a result, by name."""
    raise _not_yet()


@blueprint.route("/patients/<id:patient_id>/course", methods=["GET"])
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
def show_course(query: dict[str, Any], patient_id: str) -> Course:
    """Give the course of a patient."""
    raise _not_yet()


@blueprint.route("/studies/<uid:study_uid>/course", methods=["GET"])
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
def show_course_of_study(query: dict[str, Any], study_uid: str) -> Course:
    """Give the course of the patient of a study that has a result."""
    raise _not_yet()


@blueprint.route("/patients/<id:patient_id>/plan", methods=["PUT"])
@allow("reviewer")
@blueprint.arguments(schemas.PlanInput)
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def change_plan(
    asked: dict[str, Any], query: dict[str, Any], patient_id: str
) -> Course:
    """Set treatment, baseline and criteria of a patient."""
    raise _not_yet()


@blueprint.route("/patients/<id:patient_id>/events", methods=["POST"])
@allow("annotator")
@blueprint.arguments(schemas.EventInput)
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(201, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
def add_event(asked: dict[str, Any], query: dict[str, Any], patient_id: str) -> Course:
    """Note something that happened to the patient."""
    raise _not_yet()


@blueprint.route("/patients/<id:patient_id>/events/<id:event_id>", methods=["DELETE"])
@allow("annotator")
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
def remove_event(query: dict[str, Any], patient_id: str, event_id: str) -> Course:
    """Take an event off the time line; the audit keeps it."""
    raise _not_yet()


@blueprint.route("/studies/<uid:study_uid>/reading", methods=["PUT"])
@allow("annotator")
@blueprint.arguments(schemas.ReadingInput)
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def change_reading(
    asked: dict[str, Any], query: dict[str, Any], study_uid: str
) -> Course:
    """Enter what only a reader knows of a visit."""
    raise _not_yet()


@blueprint.route("/tracks/<id:track_id>/studies/<uid:study_uid>", methods=["PUT"])
@allow("annotator")
@blueprint.arguments(schemas.TrackReadingInput)
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def change_track_reading(
    asked: dict[str, Any], query: dict[str, Any], track_id: str, study_uid: str
) -> Course:
    """Say what became of a lesion at a visit."""
    raise _not_yet()


@blueprint.route("/tracks/<id:track_id>", methods=["PATCH"])
@allow("annotator")
@blueprint.arguments(schemas.TrackChange)
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def change_track(asked: dict[str, Any], query: dict[str, Any], track_id: str) -> Course:
    """Rename a lesion, or set what it counts as."""
    raise _not_yet()


@blueprint.route("/patients/<id:patient_id>/links", methods=["POST"])
@allow("annotator")
@blueprint.arguments(schemas.LinkInput)
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def decide_link(
    asked: dict[str, Any], query: dict[str, Any], patient_id: str
) -> Course:
    """Decide which lesion a finding is."""
    raise _not_yet()


@blueprint.route("/patients/<id:patient_id>/links/undo", methods=["POST"])
@allow("annotator")
@blueprint.arguments(schemas.UndoInput)
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def undo_link(asked: dict[str, Any], query: dict[str, Any], patient_id: str) -> Course:
    """Take back a decision about a link."""
    raise _not_yet()


@blueprint.route("/studies/<uid:study_uid>/assessments", methods=["GET"])
@blueprint.response(200, out.SignedAssessments)
@blueprint.alt_response(404, "NOT_FOUND")
def show_assessments(study_uid: str) -> dict[str, Any]:
    """List the signed assessments of a visit, newest first."""
    raise _not_yet()


@blueprint.route("/studies/<uid:study_uid>/assessments", methods=["POST"])
@allow("reviewer")
@blueprint.arguments(schemas.SignatureInput)
@blueprint.response(201, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def sign_assessment(asked: dict[str, Any], study_uid: str) -> Course:
    """Sign the assessment of a visit as it was shown."""
    raise _not_yet()


@blueprint.route("/patients/<id:patient_id>/update", methods=["POST"])
@allow("annotator")
@blueprint.response(200, out.BroughtUpToDate)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(429, "TOO_MANY_REQUESTS")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
def bring_up_to_date(patient_id: str) -> dict[str, Any]:
    """Find the patient's other studies in the archive and have them segmented."""
    raise _not_yet()


def _not_yet() -> MetiaError:
    return MetiaError("not-ready", "The follow-up is being built.")
