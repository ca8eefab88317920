"""Exports over HTTP: the right files for the right people, and noted in the audit."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from typing import Any

import nibabel as nib
import numpy as np
import openpyxl
import pypdf
import pytest

from db.audit import entries
from db.engine import reading, transaction
from db.models import LesionRow
from errors import MetiaError
from tests import exported_patients
from tests.exported_patients import StoredVisit, put_visit
from tests.security.application import Application

# Whole dates: four digits alone also stand in UIDs made at random.
SECRETS = ("canary", "例", "示子", "CANARY4711")
SECRETS += ("19010203", "1901-02", "20200101", "2020-01")
FORMS = {
    "csv": "application/zip",
    "csv?table=tu": "text/csv; charset=utf-8",
    "csv?table=tr": "text/csv; charset=utf-8",
    "csv?table=rs": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "fhir": "application/fhir+json",
    "pdf": "application/pdf",
    "pdf?language=fr&images=false": "application/pdf",
}


@pytest.fixture
def stored(application: Application) -> StoredVisit:
    """Give a visit whose images and SEG lie in the archive."""
    return put_visit(application.engine, application.archive)


def _words(form: str, content: bytes) -> str:
    """Give all that can be read in a file."""
    if form.startswith("pdf"):
        pages = pypdf.PdfReader(io.BytesIO(content)).pages
        return " ".join(page.extract_text() for page in pages)
    if form == "xlsx":
        book = openpyxl.load_workbook(io.BytesIO(content))
        return str([list(sheet.values) for sheet in book])
    if form == "csv":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return "".join(archive.read(n).decode("utf-8") for n in archive.namelist())
    return content.decode("utf-8")


def _audit(application: Application) -> list[tuple[str | None, str, dict[str, Any]]]:
    with reading(application.engine) as session:
        found = [one for one in entries(session) if one.action == "export"]
    return [(one.actor, one.subject, one.details) for one in found]


@pytest.mark.parametrize("form", FORMS)
def test_file_has_its_type_a_plain_name_and_an_audit_entry(
    application: Application, stored: StoredVisit, form: str
) -> None:
    browser = application.browser("annotator")
    answer = browser.get(f"/api/v1/patients/{stored.patient_key}/export/{form}")
    assert answer.status_code == 200
    assert answer.content_type == FORMS[form]
    name = answer.headers["Content-Disposition"]
    assert name.startswith(
        f'attachment; filename="metia-patient-{stored.patient_key[:12]}'
    )
    assert name.isascii()
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    ((actor, subject, details),) = _audit(application)
    assert (actor, subject) == ("annotator", f"patient:{stored.patient_key}")
    assert details["identifiers"] is False
    assert details["format"].split("-")[0] == form.partition("?")[0]
    assert details["bytes"] == len(answer.data)
    told = _words(form, answer.data) + str(dict(answer.headers)) + str(details)
    for secret in SECRETS:
        assert secret.casefold() not in told.casefold().replace(
            stored.patient_key, ""
        ), secret
    assert stored.study_uid not in told
    assert stored.series_uid not in told


@pytest.mark.parametrize("form", FORMS)
def test_identifiers_leave_with_the_role_reviewer_only(
    application: Application, stored: StoredVisit, form: str
) -> None:
    joined = "&" if "?" in form else "?"
    address = (
        f"/api/v1/patients/{stored.patient_key}/export/{form}{joined}identifiers=true"
    )
    answer = application.browser("annotator").get(address)
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    assert _audit(application) == []
    answer = application.browser("reviewer").get(address)
    assert answer.status_code == 200
    assert "ZZCANARY4711" in _words(form, answer.data)
    assert _audit(application)[0][2]["identifiers"] is True
    assert "anary" not in str(_audit(application))


def test_report_of_a_study_with_key_images(
    application: Application, stored: StoredVisit
) -> None:
    address = f"/api/v1/studies/{stored.study_uid}/report.pdf"
    assert application.browser("viewer").get(address).status_code == 403
    answer = application.browser("annotator").get(address)
    assert answer.status_code == 200
    assert "visit-01-report.pdf" in answer.headers["Content-Disposition"]
    assert stored.study_uid not in answer.headers["Content-Disposition"]
    (page,) = pypdf.PdfReader(io.BytesIO(answer.data)).pages
    words = page.extract_text()
    assert [image.image.size for image in page.images]
    assert "Target lesions" in words
    assert "UNVERIFIED" in words
    refused = application.browser("annotator").get(f"{address}?identifiers=true")
    assert refused.status_code == 403
    without = application.browser("annotator").get(f"{address}?images=false")
    assert not pypdf.PdfReader(io.BytesIO(without.data)).pages[0].images


def test_report_goes_without_images_that_are_gone(
    application: Application, stored: StoredVisit
) -> None:
    application.archive._files.clear()
    address = f"/api/v1/patients/{stored.patient_key}/export/pdf"
    answer = application.browser("annotator").get(address)
    assert answer.status_code == 200
    words = pypdf.PdfReader(io.BytesIO(answer.data)).pages[0].extract_text()
    assert "could not be read from the archive" in words


def test_archive_that_does_not_answer_is_told_and_tables_do_not_need_it(
    application: Application, stored: StoredVisit
) -> None:
    application.archive.fail_with = MetiaError("archive-unavailable", "No answer.")
    browser = application.browser("annotator")
    base = f"/api/v1/patients/{stored.patient_key}/export"
    for address in (
        f"{base}/pdf",
        f"/api/v1/studies/{stored.study_uid}/report.pdf",
        f"/api/v1/results/{stored.result_id}/export/nifti",
    ):
        answer = browser.get(address)
        assert (answer.status_code, answer.json["code"]) == (503, "archive-unavailable")
    assert _audit(application) == []  # what did not leave is not noted as leaving
    for form in ("csv", "xlsx", "fhir", "pdf?images=false"):
        assert browser.get(f"{base}/{form}").status_code == 200


def test_labels_of_a_result_are_those_of_the_segmentation(
    application: Application, stored: StoredVisit
) -> None:
    address = f"/api/v1/results/{stored.result_id}/export/nifti"
    assert application.browser("viewer").get(address).status_code == 403
    answer = application.browser("annotator").get(address)
    assert answer.status_code == 200
    assert answer.content_type == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        image_name, text_name = archive.namelist()
        image = nib.Nifti1Image.from_bytes(gzip.decompress(archive.read(image_name)))
        told = json.loads(archive.read(text_name))
    labels = np.asarray(image.dataobj)
    assert np.array_equal(
        np.sort(labels, axis=None), np.sort(stored.lesions.labels.array, axis=None)
    )
    assert {label: one["track_label"] for label, one in told["labels"].items()} == {
        "1": "M1",
        "2": "M2",
        "3": "M3",
    }
    assert told["result"]["id"] == stored.result_id
    assert len(told["result"]["model"]["sha256"]) == 64
    everything = json.dumps(told) + image_name + text_name + str(answer.headers)
    for secret in (*SECRETS, stored.study_uid, stored.series_uid):
        assert secret not in everything
    assert _audit(application)[0][1:] == (
        f"result:{stored.result_id}",
        {"format": "nifti", "bytes": len(answer.data)},
    )


def test_rejected_lesion_leaves_nowhere(
    application: Application, stored: StoredVisit
) -> None:
    with transaction(application.engine) as session:
        rows = session.query(LesionRow).filter_by(result_id=stored.result_id)
        next(row for row in rows if row.segment_number == 2).review = "rejected"
    browser = application.browser("annotator")
    answer = browser.get(f"/api/v1/results/{stored.result_id}/export/nifti")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        image_name, text_name = archive.namelist()
        image = nib.Nifti1Image.from_bytes(gzip.decompress(archive.read(image_name)))
        assert set(json.loads(archive.read(text_name))["labels"]) == {"1", "3"}
    assert set(np.unique(np.asarray(image.dataobj))) == {0, 1, 3}
    base = f"/api/v1/patients/{stored.patient_key}/export"
    table = browser.get(f"{base}/csv?table=tr").get_data(as_text=True)
    assert '"M1"' in table
    measured = [line for line in table.splitlines() if '"M2"' in line]
    assert not any('"LDIAM"' in line and '"mm"' in line for line in measured)


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/api/v1/patients/{nobody}/export/csv", 404),
        ("/api/v1/patients/{nobody}/export/pdf", 404),
        ("/api/v1/studies/1.2.3.4/report.pdf", 404),
        ("/api/v1/results/{nobody}/export/nifti", 404),
        ("/api/v1/patients/{key}/export/csv?table=xx", 422),
        ("/api/v1/patients/{key}/export/csv?identifiers=1", 422),
        ("/api/v1/patients/{key}/export/pdf?language=de", 422),
        ("/api/v1/patients/{key}/export/xlsx?rule_set=rano", 422),
        ("/api/v1/patients/{key}/export/fhir?x=1", 422),
        ("/api/v1/patients/{key}/export/docx", 404),
        ("/api/v1/patients/../export/csv", 422),
    ],
)
def test_wrong_requests_are_refused_and_not_noted(
    application: Application, stored: StoredVisit, address: str, status: int
) -> None:
    path = address.format(nobody="0" * 32, key=stored.patient_key)
    assert application.browser("admin").get(path).status_code == status
    assert _audit(application) == []


def test_other_criteria_can_be_asked_for(
    application: Application, stored: StoredVisit
) -> None:
    browser = application.browser("annotator")
    base = f"/api/v1/patients/{stored.patient_key}/export"
    table = browser.get(f"{base}/csv?table=rs&rule_set=recist-1.1")
    assert '"RECIST-1.1"' in table.get_data(as_text=True)
    assert _audit(application)[0][2]["rule_set"] == "recist-1.1"


def test_nothing_of_the_patient_is_logged(
    application: Application, stored: StoredVisit, log: io.StringIO
) -> None:
    browser = application.browser("reviewer")
    base = f"/api/v1/patients/{stored.patient_key}/export"
    for form in FORMS:
        joined = "&" if "?" in form else "?"
        assert browser.get(f"{base}/{form}{joined}identifiers=true").status_code == 200
    browser.get(f"/api/v1/studies/{stored.study_uid}/report.pdf")
    browser.get(f"/api/v1/results/{stored.result_id}/export/nifti")
    logged = log.getvalue()
    assert "/export/" in logged
    for secret in (exported_patients.PATIENT_ID, "canary", "示子", stored.study_uid):
        assert secret not in logged


def test_report_is_stored_once_beside_the_images(
    application: Application, stored: StoredVisit
) -> None:
    address = f"/api/v1/studies/{stored.study_uid}/report"
    for role in ("viewer", "annotator"):
        refused = application.browser(role).post(address, json={})
        assert refused.status_code == 403
    first = application.browser("reviewer").post(address, json={})
    assert first.status_code == 200
    assert first.json["study_uid"] == stored.study_uid
    assert first.json["already_stored"] is False
    again = application.browser("reviewer").post(address, json={"language": "en"})
    assert again.json == {**first.json, "already_stored": True}
    other = application.browser("reviewer").post(address, json={"language": "fr"})
    assert other.json["sop_instance_uid"] != first.json["sop_instance_uid"]
    assert other.json["series_uid"] == first.json["series_uid"]

    made = application.archive.fetch_instance(
        stored.study_uid, first.json["series_uid"], first.json["sop_instance_uid"]
    )
    assert made.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert (made.Modality, made.PatientID) == ("DOC", exported_patients.PATIENT_ID)
    assert str(made.PatientName) == exported_patients.NAME
    content = made.EncapsulatedDocument[: made.EncapsulatedDocumentLength]
    (page,) = pypdf.PdfReader(io.BytesIO(content)).pages
    assert exported_patients.PATIENT_ID in page.extract_text()
    assert len(page.images) > 0
    noted = _audit(application)
    assert len(noted) == 3
    assert noted[0][2]["object"] == other.json["sop_instance_uid"]
    assert exported_patients.PATIENT_ID not in str(noted)


def test_report_that_cannot_be_stored_is_told(
    application: Application, stored: StoredVisit
) -> None:
    browser = application.browser("reviewer")
    for study, body, status in (
        ("1.2.3.4", {}, 404),
        (stored.study_uid, {"language": "de"}, 422),
        (stored.study_uid, {"x": 1}, 422),
    ):
        answer = browser.post(f"/api/v1/studies/{study}/report", json=body)
        assert answer.status_code == status
    application.archive._files.clear()
    answer = browser.post(f"/api/v1/studies/{stored.study_uid}/report", json={})
    assert (answer.status_code, answer.json["code"]) == (404, "study-not-found")
    assert _audit(application) == []
