"""The course of a patient as plain data, for the API and exports.

``course_document`` puts together what was recorded, the case made of it and what the
criteria say; the shape is that of ``course_schemas.Course``. Every number that was
compared is shown from the same integers. Pure: one call, no database.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from db.registrations import Registration
from db.results import Lesion
from db.visits import Visit
from segmentation.followup.assess import assess
from segmentation.followup.case import Clinical, SteroidUse
from segmentation.followup.course import LEFT_OUT, PatientCase, day_of, patient_case
from segmentation.followup.course_rows import CourseRows, live_lesions
from segmentation.followup.course_tracks import track_documents
from segmentation.followup.document import protocol_document
from segmentation.followup.figures import percent, rounded
from segmentation.followup.inputs import Inputs, inputs_of
from segmentation.followup.results import (
    Assessment,
    Band,
    Category,
    Confirmation,
    Period,
    VisitAssessment,
    Volumetric,
)
from segmentation.followup.rules import RuleSet, rule_sets
from segmentation.followup.text import CATEGORY_WORDS
from settings import RESEARCH_NOTICE

Document = dict[str, Any]

_CONFIRMED = {
    Confirmation.CONFIRMED: True,
    Confirmation.UNCONFIRMED: False,
    Confirmation.NOT_REQUIRED: None,
}


class CourseView:
    """A patient's course by one set of criteria.

    Parameters
    ----------
    rows : CourseRows
    rule_set : str, optional
        That of the plan where left out.

    Attributes
    ----------
    found : PatientCase
    assessment : Assessment or None
        None where no visit can be assessed.
    inputs : dict
        What each visit of the case rests on.
    """

    def __init__(self, rows: CourseRows, rule_set: str | None = None) -> None:
        self.rows = rows
        self.rules = _rules(rule_set or rows.plan.rule_set)
        self.found: PatientCase = patient_case(rows)
        case = self.found.case
        self.assessment: Assessment | None = assess(case, self.rules) if case else None
        self.inputs: dict[str, Inputs] = inputs_of(case) if case else {}

    def visit_id(self, study_uid: str) -> str | None:
        """Give the visit of the case that a study is; None where it is left out."""
        return self.found.visit_ids.get(study_uid)

    def document(self, current_study_uid: str | None = None) -> Document:
        """Put everything into plain data."""
        rows, found = self.rows, self.found
        return {
            "patient": patient_document(rows.patient),
            "current_study_uid": current_study_uid,
            "rule_set": self.rules.name,
            "rule_sets": [
                {"name": rules.name, "title": rules.title, "version": rules.version}
                for rules in rule_sets().values()
            ],
            "rules_version": self.rules.version,
            "notice": RESEARCH_NOTICE,
            "pending_links": sum(found.sightings.pending.values()),
            "last_decision": rows.decisions[-1] if rows.decisions else None,
            "plan": self._plan(),
            "events": rows.events,
            "visits": [self._visit(visit) for visit in rows.visits],
            "tracks": track_documents(rows, found, self.assessment),
        }

    def _plan(self) -> Document:
        plan = self.rows.plan
        case = self.found.case
        switches = protocol_document(case.protocol) if case else dict(plan.protocol)
        return {**vars(plan), "protocol": switches}

    # -- visits ----------------------------------------------------------------------

    def _visit(self, visit: Visit) -> Document:
        found, result, study = self.found, visit.result, visit.study_uid
        live = live_lesions(result).values()
        left_out = found.left_out.get(study)
        return {
            "study_uid": study,
            "date": day_of(visit.study_date),
            "description": visit.description,
            "series_uid": result.series_uid if result else None,
            "result_id": result.id if result else None,
            "result_state": result.state if result else None,
            "result_revision": result.revision if result else None,
            "result_origin": result.origin if result else None,
            "left_out": (
                {"code": left_out, "text": LEFT_OUT[left_out]} if left_out else None
            ),
            "pending_links": found.sightings.pending[study],
            "unlinked": [_unlinked(one) for one in found.sightings.unlinked[study]],
            "registration": self._registration(visit),
            "reading": self._reading(visit),
            "sum_volume_ml": rounded(sum(one.volume_ml for one in live), 4),
            **self._assessed(study),
            "signed": self._signature(study),
        }

    def _registration(self, visit: Visit) -> Registration | None:
        reference = self.rows.reference
        if visit.result is None or reference is None or visit is reference:
            return None
        return self.rows.registrations.get(visit.result.series_uid)

    def _reading(self, visit: Visit) -> Document:
        reading = visit.reading
        dose = reading.steroid_dose_tenths_mg
        return {
            **vars(reading),
            "steroid_dose_mg": None if dose is None else dose / 10,
            "missing": self._missing(visit),
        }

    def _missing(self, visit: Visit) -> list[str]:
        """Name what the criteria ask for and nobody has said."""
        answer = self._answer(visit.study_uid)
        skipped = (Category.BASELINE, Category.NOT_APPLICABLE)
        if answer is None or answer.category in skipped:
            return []
        missing = []
        if self.rules.patient_terms:
            if visit.reading.steroid_use == SteroidUse.NOT_RECORDED:
                missing.append("steroids")
            if visit.reading.clinical == Clinical.NOT_RECORDED:
                missing.append("clinical")
        if visit.reading.non_target is None:
            missing.append("non_target")
        codes = {reason.code for reason in answer.reasons}
        if "new-lesion-certainty-missing" in codes:
            missing.append("new_lesion_certainty")
        return missing

    # -- what the criteria say ---------------------------------------------------------

    def _answer(self, study_uid: str) -> VisitAssessment | None:
        visit_id = self.visit_id(study_uid)
        if self.assessment is None or visit_id is None:
            return None
        return self.assessment.visit(visit_id)

    def _assessed(self, study_uid: str) -> Document:
        answer = self._answer(study_uid)
        if answer is None or self.assessment is None:
            return _not_assessed()
        period = period_of(self.assessment, answer)
        numbers = answer.numbers
        has_targets = period is not None and bool(period.targets)
        total = complete = None
        if numbers is not None:
            total, complete = numbers.sum_tenths_mm, numbers.complete
        elif period is not None and period.baseline == answer.visit and has_targets:
            total, complete = period.baseline_sum_tenths_mm, True
        return {
            "is_baseline": answer.category is Category.BASELINE,
            "is_nadir": answer.visit == nadir_of(self.assessment),
            "sum_mm": None if total is None else total / 10,
            "sum_complete": bool(complete),
            "change_from_baseline_percent": (
                percent(numbers.versus_baseline) if numbers else None
            ),
            "change_from_nadir_percent": (
                percent(numbers.versus_nadir) if numbers else None
            ),
            "assessment": self._assessment(answer, period),
        }

    def _assessment(self, answer: VisitAssessment, period: Period | None) -> Document:
        best = period.best if period else None
        return {
            "category": answer.category.value,
            "category_text": CATEGORY_WORDS[answer.category],
            "target": answer.target.value,
            "non_target": answer.non_target,
            "new_lesions": list(answer.new_lesions),
            "confirmed": _CONFIRMED[answer.confirmation],
            "since": answer.since,
            "best_response": best.value if best else None,
            "reasons": answer.reasons,
            "flags": answer.flags,
            "uncertainty": _uncertainty(answer.band) if answer.band else None,
            "volumetric": _volumetric(answer.volumetric) if answer.volumetric else None,
            "inputs_sha256": self.inputs[answer.visit].sha256,
        }

    def _signature(self, study_uid: str) -> Document | None:
        signed = self.rows.signed.get((study_uid, self.rules.name))
        if signed is None:
            return None
        return {
            **vars(signed),
            "by": signed.signed_by,
            "at": signed.signed_at,
            "stale": self.is_stale(study_uid, signed.inputs_sha256),
        }

    def is_stale(self, study_uid: str, inputs_sha256: str) -> bool:
        """Tell whether what was signed rests on other inputs than the present ones."""
        present = self.inputs.get(self.visit_id(study_uid) or "")
        return present is None or present.sha256 != inputs_sha256


def course_document(
    rows: CourseRows,
    rule_set: str | None = None,
    current_study_uid: str | None = None,
) -> Document:
    """Give the course of a patient; see `CourseView`."""
    return CourseView(rows, rule_set).document(current_study_uid)


def patient_document(patient: Any) -> Document:
    """Give what the archive says of a patient."""
    return {
        "id": patient.id,
        "patient_id": patient.patient_id,
        "name": patient.name,
        "birth_date": day_of(patient.birth_date),
        "sex": patient.sex,
    }


def period_of(assessment: Assessment, answer: VisitAssessment) -> Period | None:
    """Find the period that a visit belongs to; None before the first baseline."""
    starts = {visit.visit: visit.date for visit in assessment.visits}
    found = None
    for period in assessment.periods:
        if starts[period.baseline] <= answer.date:
            found = period
    return found


def nadir_of(assessment: Assessment) -> str | None:
    """Name the visit with the smallest complete sum of the last period so far."""
    period = assessment.periods[-1]
    if not period.targets:
        return None
    smallest, visit = period.baseline_sum_tenths_mm, period.baseline
    started = False
    for answer in assessment.visits:
        started = started or answer.visit == period.baseline
        numbers = answer.numbers
        known = started and numbers is not None and numbers.complete
        if known and numbers and numbers.sum_tenths_mm < smallest:
            smallest, visit = numbers.sum_tenths_mm, answer.visit
    return visit


def _rules(name: str) -> RuleSet:
    known = rule_sets()
    # A plan may name a rule set that a later version of the product has dropped.
    return known.get(name) or next(iter(known.values()))


def _not_assessed() -> Document:
    return {
        "is_baseline": False,
        "is_nadir": False,
        "sum_mm": None,
        "sum_complete": False,
        "change_from_baseline_percent": None,
        "change_from_nadir_percent": None,
        "assessment": None,
    }


def _unlinked(lesion: Lesion) -> Document:
    return {**vars(lesion), "lesion_id": lesion.id}


def _uncertainty(band: Band) -> Document:
    return {
        "firm": band.firm,
        "target": [category.value for category in band.target],
        "overall": [category.value for category in band.overall],
        "half_width_mm": band.half_width_tenths_mm / 10,
        "to_progression_mm": _margin(band.to_progression_tenths_mm),
        "to_response_mm": _margin(band.to_response_tenths_mm),
    }


def _margin(tenths: Fraction | None) -> float | None:
    return None if tenths is None else float(tenths / 10)


def _volumetric(reading: Volumetric) -> Document:
    return {
        "category": reading.category,
        "sum_ml": reading.sum_tenths_mm3 / 10_000,
        "change_from_baseline_percent": _change(
            reading.sum_tenths_mm3, reading.baseline_tenths_mm3
        ),
        "change_from_nadir_percent": _change(
            reading.sum_tenths_mm3, reading.nadir_tenths_mm3
        ),
        "sphere_equivalent_growth": reading.sphere_equivalent_growth,
        "notice": "A reading by volume, not part of the response criteria.",
    }


def _change(now: int, then: int) -> float | None:
    return percent(Fraction(now - then, then)) if then else None
