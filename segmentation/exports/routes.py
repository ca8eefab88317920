"""The routes by which results leave: files for trials, reports, archives and research.

Every export needs at least the role annotator and leaves an entry in the audit: who
took what, of whom, in which form. Files are pseudonymous unless ``identifiers=true``,
which needs the role reviewer. File names hold no patient data. A file is made in memory
and bounded by what a course can hold (key images are limited in number); what needs
images is made one at a time (``segmentation.versions.turn``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import flask

from db import audit
from db.engine import transaction
from errors import MetiaError
from orthanc.archive import StoreReceipt
from segmentation.access.roles import includes
from segmentation.access.routes import allow, principal
from segmentation.exports import schemas
from segmentation.exports.csv_files import csv_archive, csv_text
from segmentation.exports.fhir import bundle
from segmentation.exports.file_names import patient_file, result_file, visit_file
from segmentation.exports.sources import (
    PatientCourse,
    load_nifti,
    load_patient,
    load_study,
    make_report,
    store_report,
)
from segmentation.exports.tables import make_tables
from segmentation.exports.xlsx import workbook
from segmentation.http.routes import Blueprint, request_id, services
from segmentation.versions.turn import turn

blueprint = Blueprint("exports", __name__, url_prefix="/api/v1", description="Exports")

ZIP = "application/zip"
CSV = "text/csv"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FHIR = "application/fhir+json"
PDF = "application/pdf"
FILE = {"type": "string", "format": "binary"}


def file_response(content: bytes, media_type: str, name: str) -> flask.Response:
    """Answer a file that a browser saves under `name`."""
    answer = flask.Response(content, content_type=media_type)
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


def _load(patient_id: str, query: Mapping[str, Any]) -> PatientCourse:
    require_identifiers(query["identifiers"])
    return load_patient(
        services().engine,
        patient_id,
        identifiers=query["identifiers"],
        rule_set=query.get("rule_set"),
    )


def _leave(
    course: PatientCourse, form: str, content: bytes, media_type: str, name: str
) -> flask.Response:
    """Note an export of a patient's course, then answer it."""
    subject = course.content.subject
    details = {
        "identifiers": subject.identified,
        "rule_set": course.content.rule_set,
        "visits": 1 if course.asked else len(course.content.visits),
        "bytes": len(content),
    }
    note_export(f"patient:{subject.key}", form, details)
    return file_response(content, media_type, name)


@blueprint.route("/patients/<id:patient_id>/export/csv", methods=["GET"])
@allow("annotator")
@blueprint.arguments(schemas.CsvQuery, location="query")
@blueprint.response(200, FILE, content_type=ZIP)
@blueprint.doc(
    responses={"200": {"content": {ZIP: {"schema": FILE}, CSV: {"schema": FILE}}}}
)
@blueprint.alt_response(404, "NOT_FOUND")
def export_csv(query: dict[str, Any], patient_id: str) -> flask.Response:
    """Give the course of a patient as CSV: a ZIP of all tables, or one table."""
    course = _load(patient_id, query)
    table = query.get("table")
    if table is None:
        name = patient_file(patient_id, "tables", "zip")
        return _leave(course, "csv", csv_archive(course.content), ZIP, name)
    text = csv_text(table, make_tables(course.content)[table])
    name = patient_file(patient_id, table, "csv")
    content = text.encode("utf-8")
    return _leave(course, f"csv-{table}", content, f"{CSV}; charset=utf-8", name)


@blueprint.route("/patients/<id:patient_id>/export/xlsx", methods=["GET"])
@allow("annotator")
@blueprint.arguments(schemas.ExportQuery, location="query")
@blueprint.response(200, FILE, content_type=XLSX)
@blueprint.alt_response(404, "NOT_FOUND")
def export_xlsx(query: dict[str, Any], patient_id: str) -> flask.Response:
    """Give the course of a patient as a workbook."""
    course = _load(patient_id, query)
    name = patient_file(patient_id, "tables", "xlsx")
    return _leave(course, "xlsx", workbook(course.content), XLSX, name)


@blueprint.route("/patients/<id:patient_id>/export/fhir", methods=["GET"])
@allow("annotator")
@blueprint.arguments(schemas.ExportQuery, location="query")
@blueprint.response(200, {"type": "object"}, content_type=FHIR)
@blueprint.alt_response(404, "NOT_FOUND")
def export_fhir(query: dict[str, Any], patient_id: str) -> flask.Response:
    """Give the course of a patient as a FHIR R4 bundle."""
    course = _load(patient_id, query)
    made = bundle(course.content, course.provenance)
    content = json.dumps(made, ensure_ascii=False, allow_nan=False).encode("utf-8")
    name = patient_file(patient_id, "fhir", "json")
    return _leave(course, "fhir", content, FHIR, name)


@blueprint.route("/patients/<id:patient_id>/export/pdf", methods=["GET"])
@allow("annotator")
@blueprint.arguments(schemas.ReportQuery, location="query")
@blueprint.response(200, FILE, content_type=PDF)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
def export_pdf(query: dict[str, Any], patient_id: str) -> flask.Response:
    """Give the report of a patient: a page a visit."""
    course = _load(patient_id, query)
    return _report(course, query, patient_file(patient_id, "report", "pdf"))


@blueprint.route("/studies/<uid:study_uid>/report.pdf", methods=["GET"])
@allow("annotator")
@blueprint.arguments(schemas.ReportQuery, location="query")
@blueprint.response(200, FILE, content_type=PDF)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
def show_report(query: dict[str, Any], study_uid: str) -> flask.Response:
    """Give the report of one visit, beside the visits before."""
    require_identifiers(query["identifiers"])
    course = load_study(
        services().engine,
        study_uid,
        identifiers=query["identifiers"],
        rule_set=query.get("rule_set"),
    )
    key, number = course.content.subject.key, course.asked or 1
    return _report(course, query, visit_file(key, number, "report", "pdf"))


def _report(
    course: PatientCourse, query: Mapping[str, Any], name: str
) -> flask.Response:
    with turn():
        content = make_report(
            services().archive, course, query["language"], pictures=query["images"]
        )
    return _leave(course, "pdf", content, PDF, name)


@blueprint.route("/studies/<uid:study_uid>/report", methods=["POST"])
@allow("reviewer")
@blueprint.arguments(schemas.ReportOrder)
@blueprint.response(200, schemas.StoredReport)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
@blueprint.alt_response(507, "INSUFFICIENT_STORAGE")
def put_report_into_archive(asked: dict[str, Any], study_uid: str) -> StoreReceipt:
    """Store the report of a visit in the archive (Encapsulated PDF), beside its images.

    It names the patient. The same report is stored once.
    """
    context = services()
    course = load_study(context.engine, study_uid, identifiers=True)
    with turn():
        receipt = store_report(context.archive, course, asked["language"])
    note_export(
        f"patient:{course.content.subject.key}",
        "pdf",
        {"identifiers": True, "stored": True, "object": receipt.sop_instance_uid},
    )
    return receipt


@blueprint.route("/results/<id:result_id>/export/nifti", methods=["GET"])
@allow("annotator")
@blueprint.response(200, FILE, content_type=ZIP)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(422, "UNPROCESSABLE_ENTITY")
@blueprint.alt_response(502, "BAD_GATEWAY")
@blueprint.alt_response(503, "SERVICE_UNAVAILABLE")
def export_nifti(result_id: str) -> flask.Response:
    """Give the labels of a result as NIfTI, with a JSON text, in a ZIP."""
    context = services()
    with turn():
        content = load_nifti(context.engine, context.archive, result_id)
    note_export(f"result:{result_id}", "nifti", {"bytes": len(content)})
    return file_response(content, ZIP, result_file(result_id, "labels", "zip"))
