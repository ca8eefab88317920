"""An assessment as plain data, for ``--json``, the API and exports.

Lengths in integer tenths of a millimetre, as they were compared; changes as exact
fractions and as percentages with one decimal, rounded half away from zero, so that
-30.0 % may stand beside SD where the exact fraction is just short of the limit. Keys
are stable within a major ``schema_version``. Pure.
"""

from __future__ import annotations

from dataclasses import fields
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

from segmentation.followup.case import Case, Protocol
from segmentation.followup.results import (
    Assessment,
    Band,
    LesionValue,
    Numbers,
    Period,
    VisitAssessment,
    Volumetric,
)
from settings import RESEARCH_NOTICE

SCHEMA_VERSION = "1.0"


def percent(change: Fraction | None) -> str | None:
    """Write a fraction as a percentage with one decimal: ``-31.9 %``."""
    if change is None:
        return None
    exact = Decimal(change.numerator * 1000) / Decimal(change.denominator)
    tenths = exact.quantize(Decimal(1), rounding=ROUND_HALF_UP) / 10
    return f"{tenths:+.1f} %" if tenths else "0.0 %"


def assessment_document(assessment: Assessment, case: Case) -> dict[str, object]:
    """Put an assessment into plain data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "notice": RESEARCH_NOTICE,
        "state": "proposed",
        "case_id": assessment.case,
        "rule_set": {
            "name": assessment.rule_set,
            "version": assessment.rule_version,
        },
        "protocol": protocol_document(case.protocol),
        "periods": [_period(period) for period in assessment.periods],
        "visits": [_visit(visit) for visit in assessment.visits],
    }


def protocol_document(protocol: Protocol) -> dict[str, object]:
    """Give every switch as it was applied, the defaults included."""
    return {entry.name: getattr(protocol, entry.name) for entry in fields(protocol)}


def _period(period: Period) -> dict[str, object]:
    progression = period.progression
    dates = [
        day
        for day in (
            progression.date if progression else None,
            period.extracranial_progression,
        )
        if day is not None
    ]
    return {
        "baseline": period.baseline,
        "baseline_sum_tenths_mm": period.baseline_sum_tenths_mm,
        "targets": list(period.targets),
        "lesions": [
            {
                "lesion": role.lesion,
                "role": role.role,
                "measurable": role.measurable,
                "by_reader": role.by_reader,
                "reasons": list(role.reasons),
            }
            for role in period.roles
        ],
        "best_response": period.best.value if period.best else None,
        "best_response_since": _text(period.best_since),
        "best_response_unconfirmed": (
            period.best_unconfirmed.value if period.best_unconfirmed else None
        ),
        "progression": (
            None
            if progression is None
            else {
                "date": progression.date.isoformat(),
                "declared_at": progression.declared_at,
                "reasons": [
                    {"code": reason.code, "text": reason.text}
                    for reason in progression.reasons
                ],
            }
        ),
        "unconfirmed_progression_date": _text(period.unconfirmed_progression),
        "extracranial_progression_date": _text(period.extracranial_progression),
        "earliest_progression_date": _text(min(dates, default=None)),
    }


def _visit(visit: VisitAssessment) -> dict[str, object]:
    return {
        "visit": visit.visit,
        "date": visit.date.isoformat(),
        "category": visit.category.value,
        "target": visit.target.value,
        "non_target": visit.non_target,
        "new_lesions": list(visit.new_lesions),
        "confirmation": visit.confirmation.value,
        "since": _text(visit.since),
        "confirmed_by": visit.confirmed_by,
        "reasons": [
            {"code": reason.code, "text": reason.text} for reason in visit.reasons
        ],
        "flags": list(visit.flags),
        "numbers": _numbers(visit.numbers) if visit.numbers else None,
        "uncertainty": _band(visit.band) if visit.band else None,
        "volumetric": _volumetric(visit.volumetric) if visit.volumetric else None,
        "extracranial_response": visit.extracranial_response,
    }


def _numbers(numbers: Numbers) -> dict[str, object]:
    return {
        "sum_tenths_mm": numbers.sum_tenths_mm,
        "complete": numbers.complete,
        "baseline_tenths_mm": numbers.baseline_tenths_mm,
        "nadir_tenths_mm": numbers.nadir_tenths_mm,
        "nadir_visit": numbers.nadir_visit,
        "versus_baseline": _text(numbers.versus_baseline),
        "versus_baseline_percent": percent(numbers.versus_baseline),
        "versus_nadir": _text(numbers.versus_nadir),
        "versus_nadir_percent": percent(numbers.versus_nadir),
        "targets": [_value(value) for value in numbers.values],
    }


def _value(value: LesionValue) -> dict[str, object]:
    return {
        "lesions": list(value.lesions),
        "tenths_mm": value.tenths_mm,
        "by_default": value.by_default,
        "baseline_tenths_mm": value.baseline_tenths_mm,
        "nadir_visit_tenths_mm": value.nadir_tenths_mm,
        "smallest_tenths_mm": value.smallest_tenths_mm,
        "problem": value.problem or None,
    }


def _band(band: Band) -> dict[str, object]:
    return {
        "target": [category.value for category in band.target],
        "overall": [category.value for category in band.overall],
        "firm": band.firm,
        "half_width_tenths_mm": band.half_width_tenths_mm,
        "to_progression_tenths_mm": _text(band.to_progression_tenths_mm),
        "to_response_tenths_mm": _text(band.to_response_tenths_mm),
    }


def _volumetric(reading: Volumetric) -> dict[str, object]:
    return {
        "notice": "A reading by volume, not part of the response criteria.",
        "category": reading.category,
        "sum_ml": _millilitres(reading.sum_tenths_mm3),
        "baseline_ml": _millilitres(reading.baseline_tenths_mm3),
        "nadir_ml": _millilitres(reading.nadir_tenths_mm3),
        "versus_baseline_percent": _volume_change(
            reading.sum_tenths_mm3, reading.baseline_tenths_mm3
        ),
        "versus_nadir_percent": _volume_change(
            reading.sum_tenths_mm3, reading.nadir_tenths_mm3
        ),
        "sphere_equivalent_growth": reading.sphere_equivalent_growth,
    }


def _volume_change(now: int, then: int) -> str | None:
    return percent(Fraction(now - then, then)) if then else None


def _millilitres(tenths_mm3: int) -> str:
    return f"{Decimal(tenths_mm3).scaleb(-4):.4f}"


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)
