"""The routes of the follow-up: patients, their course, and what readers say of it.

Reading needs the role viewer; entering readings, links and events annotator; the plan
and signatures reviewer. Every change answers with the new course, so that no viewer
ever computes one; a change that was made for an older state is refused
(``edit-conflict``). Nothing here decides anything: see ``course_changes``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from db import audit
from db.engine import Session, reading, transaction
from db.patients import find_patients, key_of_study
from segmentation.access.routes import allow, principal
from segmentation.followup import course_changes as changes
from segmentation.followup import course_schemas as out
from segmentation.followup import schemas
from segmentation.followup.course import day_of
from segmentation.followup.course_document import course_document, patient_document
from segmentation.followup.course_rows import load_course
from segmentation.followup.prior_studies import bring_up_to_date
from segmentation.followup.signing import sign, signed_assessments
from segmentation.http.routes import Blueprint, request_id, services
from segmentation.models.choice import default_model
from segmentation.versions.corrections import Reader

blueprint = Blueprint(
    "followup", __name__, url_prefix="/api/v1", description="Follow-up"
)
Course = dict[str, Any]


@blueprint.route("/patients", methods=["GET"])
@blueprint.arguments(schemas.PatientQuery, location="query")
@blueprint.response(200, out.Patients)
def show_patients(query: dict[str, Any]) -> dict[str, Any]:
    """List patients that have a result, by name."""
    with reading(services().engine) as session:
        page, cursor = find_patients(
            session,
            search=query.get("search", ""),
            limit=query["limit"],
            cursor=query.get("cursor"),
        )
    listed = [
        {
            **patient_document(patient),
            "visit_count": patient.visit_count,
            "first_visit": day_of(patient.first_visit),
            "last_visit": day_of(patient.last_visit),
        }
        for patient in page
    ]
    return {"patients": listed, "next_cursor": cursor}


@blueprint.route("/patients/<id:patient_id>/course", methods=["GET"])
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
def show_course(query: dict[str, Any], patient_id: str) -> Course:
    """Give the course of a patient."""
    return _course(patient_id, query)


@blueprint.route("/studies/<uid:study_uid>/course", methods=["GET"])
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
def show_course_of_study(query: dict[str, Any], study_uid: str) -> Course:
    """Give the course of the patient of a study that has a result."""
    with reading(services().engine) as session:
        changes.require_visit(session, study_uid)
        patient_id = key_of_study(session, study_uid)
    return _course(patient_id, query, study_uid)


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
    _write(lambda s: changes.change_plan(s, patient_id, asked, _reader()))
    return _course(patient_id, query)


@blueprint.route("/patients/<id:patient_id>/events", methods=["POST"])
@allow("annotator")
@blueprint.arguments(schemas.EventInput)
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(201, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
def add_event(asked: dict[str, Any], query: dict[str, Any], patient_id: str) -> Course:
    """Note something that happened to the patient."""
    _write(lambda s: changes.add_event(s, patient_id, asked, _reader()))
    return _course(patient_id, query)


@blueprint.route("/patients/<id:patient_id>/events/<id:event_id>", methods=["DELETE"])
@allow("annotator")
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
def remove_event(query: dict[str, Any], patient_id: str, event_id: str) -> Course:
    """Take an event off the time line; the audit keeps it."""
    _write(lambda s: changes.remove_event(s, patient_id, event_id, _reader()))
    return _course(patient_id, query)


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
    key = _write(lambda s: changes.change_reading(s, study_uid, asked, _reader()))
    return _course(key, query, study_uid)


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
    key = _write(
        lambda s: changes.change_track_reading(s, track_id, study_uid, asked, _reader())
    )
    return _course(key, query, study_uid)


@blueprint.route("/tracks/<id:track_id>", methods=["PATCH"])
@allow("annotator")
@blueprint.arguments(schemas.TrackChange)
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def change_track(asked: dict[str, Any], query: dict[str, Any], track_id: str) -> Course:
    """Rename a lesion, or set what it counts as."""
    key = _write(lambda s: changes.change_track(s, track_id, asked, _reader()))
    return _course(key, query)


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
    _write(lambda s: changes.decide_link(s, patient_id, asked, _reader()))
    return _course(patient_id, query, asked["study_uid"])


@blueprint.route("/patients/<id:patient_id>/links/undo", methods=["POST"])
@allow("annotator")
@blueprint.arguments(schemas.UndoInput)
@blueprint.arguments(schemas.CourseQuery, location="query")
@blueprint.response(200, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def undo_link(asked: dict[str, Any], query: dict[str, Any], patient_id: str) -> Course:
    """Take back a decision about a link."""
    wanted = asked["decision_id"]
    _write(lambda s: changes.undo_link(s, patient_id, wanted, _reader()))
    return _course(patient_id, query)


@blueprint.route("/studies/<uid:study_uid>/assessments", methods=["GET"])
@blueprint.response(200, out.SignedAssessments)
@blueprint.alt_response(404, "NOT_FOUND")
def show_assessments(study_uid: str) -> dict[str, Any]:
    """List the signed assessments of a visit, newest first."""
    with reading(services().engine) as session:
        return {"assessments": signed_assessments(session, study_uid)}


@blueprint.route("/studies/<uid:study_uid>/assessments", methods=["POST"])
@allow("reviewer")
@blueprint.arguments(schemas.SignatureInput)
@blueprint.response(201, out.Course)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def sign_assessment(asked: dict[str, Any], study_uid: str) -> Course:
    """Sign the assessment of a visit as it was shown."""
    key = _write(lambda s: sign(s, study_uid, asked, _reader()))
    return _course(key, {"rule_set": asked["rule_set"]}, study_uid)


@blueprint.route("/patients/<id:patient_id>/update", methods=["POST"])
@allow("annotator")
@blueprint.response(200, out.BroughtUpToDate)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(429, "TOO_MANY_REQUESTS")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
def update_patient(patient_id: str) -> dict[str, Any]:
    """Find the patient's other studies in the archive and have them segmented."""
    context = services()
    asked_by = _reader()
    model = default_model(context.settings, context.engine, context.models)
    found = bring_up_to_date(
        context.engine,
        context.archive,
        context.queue,
        patient_id,
        model_name=model.identity.name,
        requested_by=asked_by.name,
    )
    with transaction(context.engine) as session:
        audit.append(
            session,
            actor=asked_by.name,
            action="patient-update",
            subject=f"patient:{patient_id}",
            details={
                "queued": list(found.queued),
                "up_to_date": found.up_to_date,
                "skipped": [one.code for one in found.skipped],
            },
            request_id=asked_by.request_id,
        )
    return vars(found)


def _write(change: Callable[[Session], Any]) -> Any:
    with transaction(services().engine) as session:
        return change(session)


def _course(
    patient_key: str, query: dict[str, Any], study_uid: str | None = None
) -> Course:
    with reading(services().engine) as session:
        rows = load_course(session, patient_key)
    return course_document(rows, query.get("rule_set"), study_uid)


def _reader() -> Reader:
    who = principal()
    return Reader(who.name, who.display_name, request_id())
