"""Signing: a reader puts a name to the assessment of a visit as it was shown.

The request names the hash of the inputs it saw; whatever has changed since is told
(``edit-conflict``), never signed over. What is kept is the case, the whole answer of
the rules to it, and what the reader made of it; a later signature supersedes, none is
ever changed. The visit's result is signed with it. Takes a writing ``Session``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db import audit
from db.assessments import (
    AssessmentRecord,
    get_assessment,
    list_assessments,
    sign_assessment,
)
from db.engine import Session
from db.patients import key_of_study
from db.results import Result
from db.reviews import review_result
from errors import MetiaError
from segmentation.followup.assess import assess
from segmentation.followup.case_reading import case_from_document
from segmentation.followup.course_changes import hold_patient_of, require_visit
from segmentation.followup.course_document import CourseView
from segmentation.followup.course_rows import load_course
from segmentation.followup.document import assessment_document
from segmentation.followup.results import Category, VisitAssessment
from segmentation.versions.corrections import Reader, summary
from segmentation.versions.review import sign as sign_result

_SIGNABLE = frozenset({"unverified", "accepted", "edited"})


def sign(
    session: Session, study_uid: str, asked: Mapping[str, Any], reader: Reader
) -> str:
    """Sign the assessment of a visit; gives the patient's key.

    Parameters
    ----------
    session : Session
    study_uid : str
    asked : mapping
        As ``schemas.SignatureInput``.
    reader : Reader

    Raises
    ------
    MetiaError
        ``not-found``; ``conflict`` where the visit is not assessed; ``edit-conflict``
        where the inputs are not those the reader saw; ``invalid-input`` where another
        category than the proposed one has no comment.
    """
    patient_key = hold_patient_of(session, study_uid)
    view = CourseView(load_course(session, patient_key), asked["rule_set"])
    answer = _answer(view, study_uid)
    inputs = view.inputs[answer.visit]
    if inputs.sha256 != asked["inputs_sha256"]:
        raise MetiaError(
            "edit-conflict",
            "What the assessment rests on was changed meanwhile.",
            {"current_inputs_sha256": inputs.sha256},
        )
    category = asked["category"] or answer.category.value
    comment = asked["comment"].strip()
    if category != answer.category.value and not comment:
        raise MetiaError(
            "invalid-input", "Another category than the proposed one needs a comment."
        )
    case = case_from_document(inputs.document)
    document = assessment_document(assess(case, view.rules), case)
    made = sign_assessment(
        session,
        AssessmentRecord(
            study_uid=study_uid,
            rule_set=view.rules.name,
            rules_version=view.rules.version,
            proposed_category=answer.category.value,
            category=category,
            comment=comment,
            case_json=inputs.document,
            document_json={**document, "signed_by_user": reader.name},
            inputs_sha256=inputs.sha256,
        ),
        by=reader.display_name or reader.name,
    )
    audit.append(
        session,
        actor=reader.name,
        action="assessment-sign",
        subject=f"patient:{patient_key}",
        details={
            "assessment": made.id,
            "rule_set": made.rule_set,
            "rules_version": made.rules_version,
            "before": made.supersedes_id,
            "proposed": made.proposed_category,
            "category": made.category,
            "inputs_sha256": made.inputs_sha256,
        },
        request_id=reader.request_id,
    )
    _sign_result(session, study_uid, reader)
    return patient_key


def _answer(view: CourseView, study_uid: str) -> VisitAssessment:
    visit_id = view.visit_id(study_uid)
    if visit_id is None or view.assessment is None:
        raise MetiaError("conflict", "This visit takes no part in the assessment.")
    answer = view.assessment.visit(visit_id)
    if answer.category is Category.NOT_APPLICABLE:
        raise MetiaError("conflict", "Visits before the baseline are not assessed.")
    return answer


def _sign_result(session: Session, study_uid: str, reader: Reader) -> None:
    """Sign the result that was assessed; the signature accepts it, too."""
    result: Result | None = require_visit(session, study_uid).result
    if result is None or result.state not in _SIGNABLE:
        return  # Signed before: by an assessment that this one supersedes.
    revision = result.revision
    if result.state == "unverified":
        change = review_result(
            session, result.id, expected_revision=revision, state="accepted"
        )
        audit.append(
            session,
            actor=reader.name,
            action="result-review",
            subject=f"result:{result.id}",
            details={"before": summary(change.before), "after": summary(change.after)},
            request_id=reader.request_id,
        )
        revision = change.after.revision
    sign_result(session, result.id, revision=revision, reader=reader)


def signed_assessments(session: Session, study_uid: str) -> list[dict[str, Any]]:
    """List the signatures under a visit's assessments, newest first.

    Raises
    ------
    MetiaError
        ``not-found`` where the study has no result.
    """
    require_visit(session, study_uid)
    view = CourseView(load_course(session, key_of_study(session, study_uid)))
    found = []
    for listed in list_assessments(session, study_uid):
        signed = get_assessment(session, listed.id)
        found.append(
            {
                **vars(signed),
                "by": signed.signed_by,
                "at": signed.signed_at,
                "stale": view.is_stale(study_uid, signed.inputs_sha256),
                "case": signed.case_json,
                "document": signed.document_json,
            }
        )
    return found
