"""Short ways to write a response case in a test: diameters in mm, days as numbers."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from segmentation.followup.assess import assess
from segmentation.followup.case_reading import case_from_document
from segmentation.followup.rano_bm import RANO_BM
from segmentation.followup.results import Assessment, VisitAssessment
from segmentation.followup.rules import RuleSet

Document = dict[str, Any]
NO_STEROIDS = {"use": "none", "change": "stable"}
FIRST_DAY = date(2024, 1, 1)


def day(number: int) -> str:
    return (FIRST_DAY + timedelta(days=number)).isoformat()


def seen(lesion: str, millimetres: float, **more: object) -> Document:
    return {
        "lesion": lesion,
        "state": "measured",
        "longest_diameter_tenths_mm": round(millimetres * 10),
        **more,
    }


def state(lesion: str, name: str, **more: object) -> Document:
    return {"lesion": lesion, "state": name, **more}


def visit(number: int, on: int, *observations: Document, **more: object) -> Document:
    return {
        "id": f"V{number}",
        "date": day(on),
        "steroids": NO_STEROIDS,
        "clinical_status": "stable",
        "lesions": list(observations),
        **more,
    }


def case(*visits: Document, **more: object) -> Document:
    names = {o["lesion"] for v in visits for o in v["lesions"]}
    lesions = more.pop("lesions", [])
    assert isinstance(lesions, list)
    described = {entry["id"] for entry in lesions}
    return {
        "schema_version": "1.0",
        "case_id": "P",
        "lesions": [*lesions, *({"id": n} for n in sorted(names - described))],
        "visits": list(visits),
        **more,
    }


def run(document: Document, rules: RuleSet = RANO_BM) -> Assessment:
    return assess(case_from_document(document), rules)


def last(document: Document, rules: RuleSet = RANO_BM) -> VisitAssessment:
    return run(document, rules).visits[-1]


def codes(answer: VisitAssessment) -> set[str]:
    return {reason.code for reason in answer.reasons}
