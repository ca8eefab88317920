"""Courses of made-up patients, as the API answers them: what writers are tried on.

``three_visits`` is the story most tests tell: three targets that shrink, a signed
response, a non-target lesion, then growth, a lesion that was not imaged and a new one.
``check`` holds an example to the schema of the API, so that it cannot drift from it.
"""

from __future__ import annotations

import copy
from datetime import date, timedelta
from typing import Any

from segmentation.followup.course_schemas import Course
from settings import RESEARCH_NOTICE

Document = dict[str, Any]

FIRST_DAY = date(2024, 1, 8)
COLOURS = ([230, 159, 0], [86, 180, 233], [240, 228, 66], [213, 94, 0], [0, 158, 115])
PATIENT_ID = "EX-0042"
NAME = "Beispiel^Zoë=例^示子"


def hexadecimal(number: int) -> str:
    """Make an identifier as MetIA makes them."""
    return f"{number:032x}"


PATIENT_KEY = hexadecimal(0xABCDEF)


def study_uid(number: int) -> str:
    """Make the UID of the study of a visit."""
    return f"1.2.826.0.1.3680043.2.20240108.{number}"


def patient(**changed: object) -> Document:
    """Make a patient."""
    return {
        "id": PATIENT_KEY,
        "patient_id": PATIENT_ID,
        "name": NAME,
        "birth_date": "1951-02-03",
        "sex": "F",
        **changed,
    }


def reading(**changed: object) -> Document:
    """Make what a reader entered of a visit."""
    return {
        "steroid_use": "none",
        "steroid_change": "stable",
        "steroid_dose_mg": None,
        "clinical": "stable",
        "non_target": None,
        "technique_changed": False,
        "extracranial_response": "not_recorded",
        "note": "",
        "selected_result_id": None,
        "revision": 0,
        "author": None,
        "missing": [],
        **changed,
    }


def assessment(category: str, **changed: object) -> Document:
    """Make what the criteria propose."""
    return {
        "category": category,
        "category_text": category,
        "target": category,
        "non_target": "non_cr_non_pd",
        "new_lesions": [],
        "confirmed": None,
        "since": None,
        "best_response": None,
        "reasons": [],
        "flags": [],
        "uncertainty": None,
        "volumetric": None,
        "inputs_sha256": "c" * 64,
        **changed,
    }


def visit(number: int, day: date | None, **changed: object) -> Document:
    """Make a visit."""
    return {
        "study_uid": study_uid(number),
        "date": day.isoformat() if day else None,
        "description": f"MR head, visit of {NAME.split('=')[0]}",
        "series_uid": f"{study_uid(number)}.1",
        "result_id": hexadecimal(0x1000 + number),
        "result_state": "unverified",
        "result_revision": 1,
        "result_origin": "model",
        "left_out": None,
        "is_baseline": False,
        "is_nadir": False,
        "pending_links": 0,
        "unlinked": [],
        "registration": None,
        "reading": reading(),
        "sum_mm": None,
        "sum_complete": True,
        "sum_volume_ml": 0.0,
        "change_from_baseline_percent": None,
        "change_from_nadir_percent": None,
        "assessment": None,
        "signed": None,
        **changed,
    }


def observation(
    number: int, state: str = "measured", longest_mm: float | None = None, **other: Any
) -> Document:
    """Make what was seen of a lesion at a visit; sizes follow from the longest one."""
    sized = longest_mm is not None and state in ("measured", "too_small")
    size = longest_mm or 0.0
    return {
        "study_uid": study_uid(number),
        "state": state,
        "reason": "",
        "counts": True,
        "lesion_id": hexadecimal(0x2000 + 100 * number + int(size)) if sized else None,
        "finding_uid": f"2.25.{7000 + number}" if sized else None,
        "longest_diameter_mm": size if sized else None,
        "perpendicular_diameter_mm": round(size * 0.75, 1) if sized else None,
        "volume_ml": round(size**3 * 0.0004, 3) if sized else None,
        "slice_count": 6 if sized else None,
        "review": "unverified" if sized else None,
        "measurable": size >= 10 if sized else None,
        "measurable_reasons": [] if size >= 10 else ["longest-diameter"],
        "change_mm": None,
        "change_percent": None,
        "link": None,
        "sop_instance_uid": f"{study_uid(number)}.1.80" if sized else None,
        "frame_number": None,
        "certainty": None,
        "reading": None,
        **other,
    }


def track(number: int, observations: list[Document], **changed: object) -> Document:
    """Make a lesion over time."""
    return {
        "id": hexadecimal(0x3000 + number),
        "label": f"M{number}",
        "tracking_uid": f"2.25.{9000 + number}",
        "role": "target",
        "role_by": "rule",
        "role_reasons": [],
        "kind": "parenchymal",
        "compartment": "cns",
        "progressed_since_treatment": None,
        "colour": list(COLOURS[(number - 1) % len(COLOURS)]),
        "split_from": None,
        "revision": 0,
        "observations": observations,
        **changed,
    }


def course(visits: list[Document], tracks: list[Document], **changed: Any) -> Document:
    """Make a course."""
    return {
        "patient": patient(),
        "current_study_uid": None,
        "rule_set": "rano-bm",
        "rule_sets": [{"name": "rano-bm", "title": "RANO-BM", "version": "1.0"}],
        "rules_version": "1.0",
        "notice": RESEARCH_NOTICE,
        "pending_links": 0,
        "last_decision": None,
        "plan": {
            "treatment_start": None,
            "immunotherapy_start": None,
            "baseline_study_uid": None,
            "rule_set": "rano-bm",
            "protocol": {},
            "resets": [],
            "revision": 0,
        },
        "events": [],
        "visits": visits,
        "tracks": tracks,
        **changed,
    }


def empty_patient() -> Document:
    """Give a patient of whom nothing is left (every result was rejected)."""
    return course([], [])


_PR = [
    {
        "code": "target-pr",
        "text": "The sum of longest diameters, 28.5 mm, is at least 30 % below the "
        "baseline of 47.0 mm.",
    },
    {
        "code": "confirmed",
        "text": "PR since 2024-03-11, confirmed at 2024-06-03 (28 days are needed).",
    },
]
_PD = [
    {
        "code": "target-pd",
        "text": "The sum of longest diameters, at least 38.0 mm, is at least 20 % "
        "above the nadir 28.5 mm of 2024-03-11, and a lesion grew by 13.0 mm "
        "(5.0 mm are needed).",
    },
    {"code": "not-assessed", "text": "M3 has no value: not imaged."},
    {"code": "new-lesion", "text": "M5 (7.0 mm) is new and unequivocal."},
]


def three_visits() -> Document:
    """Give baseline, a signed partial response, and progression."""
    days = [FIRST_DAY, FIRST_DAY + timedelta(63), FIRST_DAY + timedelta(147)]
    visits = [
        visit(
            1,
            days[0],
            is_baseline=True,
            result_state="accepted",
            sum_mm=47.0,
            sum_volume_ml=6.1,
            assessment=assessment(
                "BASELINE",
                target="BASELINE",
                category_text="baseline",
                reasons=[{"code": "baseline", "text": "The reference of this period."}],
            ),
        ),
        visit(
            2,
            days[1],
            is_nadir=True,
            result_state="signed",
            sum_mm=28.5,
            sum_volume_ml=1.4,
            change_from_baseline_percent=-39.4,
            change_from_nadir_percent=-39.4,
            reading=reading(note="Asked Zoë to come earlier."),
            assessment=assessment(
                "PR",
                category_text="PR, partial response",
                confirmed=True,
                since="2024-03-11",
                best_response="PR",
                reasons=_PR,
                uncertainty={
                    "firm": False,
                    "target": ["PR", "SD"],
                    "overall": ["PR", "SD"],
                    "half_width_mm": 2.5,
                    "to_progression_mm": 27.9,
                    "to_response_mm": -4.4,
                },
                volumetric={
                    "category": "volumetric partial response",
                    "sum_ml": 1.2,
                    "change_from_baseline_percent": -70.0,
                    "change_from_nadir_percent": -70.0,
                    "sphere_equivalent_growth": False,
                    "notice": "By volume; beside the criteria.",
                },
            ),
            signed={
                "id": hexadecimal(0x4001),
                "rule_set": "rano-bm",
                "category": "PR",
                "proposed_category": "PR",
                "by": "Dr. Ève Lœwe",
                "at": "2024-03-12T09:30:00+00:00",
                "comment": "Agreed with the board.",
                "stale": False,
            },
        ),
        visit(
            3,
            days[2],
            sum_mm=38.0,
            sum_complete=False,
            sum_volume_ml=4.9,
            pending_links=1,
            reading=reading(steroid_use="pharmacological", steroid_change="increased"),
            assessment=assessment(
                "PD",
                category_text="PD, progressive disease",
                new_lesions=["M5"],
                confirmed=None,
                best_response="PR",
                reasons=_PD,
            ),
        ),
    ]
    tracks = [
        track(
            1,
            [
                observation(1, longest_mm=22.0, review="accepted"),
                observation(2, longest_mm=13.0, change_mm=-9.0, change_percent=-40.9),
                observation(3, longest_mm=26.0, change_mm=13.0, change_percent=18.2),
            ],
        ),
        track(
            2,
            [
                observation(1, longest_mm=14.0),
                observation(2, longest_mm=9.5, change_mm=-4.5, change_percent=-32.1),
                observation(3, longest_mm=12.0, change_mm=2.5, change_percent=-14.3),
            ],
        ),
        track(
            3,
            [
                observation(1, longest_mm=11.0),
                observation(2, longest_mm=6.0, change_mm=-5.0, change_percent=-45.5),
                observation(3, "not_assessed", reason="not_imaged"),
            ],
        ),
        track(
            4,
            [
                observation(1, longest_mm=8.0),
                observation(2, "too_small"),
                observation(3, "absent"),
            ],
            role="non_target",
            kind="dural",
        ),
        track(
            5,
            [
                observation(1, "absent"),
                observation(2, "absent"),
                observation(
                    3,
                    longest_mm=7.0,
                    certainty="unequivocal",
                    link={
                        "state": "pending",
                        "relation": "new",
                        "cost_mm": None,
                        "reason": "one-visit",
                    },
                ),
            ],
            role=None,
            role_by=None,
        ),
    ]
    return course(visits, tracks, pending_links=1)


def stale_signature() -> Document:
    """Give the same, but that the signed visit was changed after it was signed."""
    document = three_visits()
    document["visits"][1]["signed"]["stale"] = True
    return document


def many(visit_count: int = 20, lesion_count: int = 10) -> Document:
    """Give a long course of many lesions."""
    visits = [
        visit(
            number,
            FIRST_DAY + timedelta(56 * (number - 1)),
            is_baseline=number == 1,
            sum_mm=80.0 + number,
            sum_volume_ml=12.0 + number / 10,
            change_from_baseline_percent=None if number == 1 else float(number),
            change_from_nadir_percent=None if number == 1 else float(number),
            assessment=assessment(
                "BASELINE" if number == 1 else "SD",
                best_response="SD",
                reasons=[{"code": "target-sd", "text": "Neither response nor PD."}],
            ),
        )
        for number in range(1, visit_count + 1)
    ]
    tracks = [
        track(
            lesion,
            [
                observation(number, longest_mm=8.0 + lesion + number / 10)
                for number in range(1, visit_count + 1)
            ],
            role="target" if lesion <= 5 else "non_target",
        )
        for lesion in range(1, lesion_count + 1)
    ]
    return course(visits, tracks)


def check(document: Document) -> None:
    """Hold an example to the schema of the API.

    Raises
    ------
    AssertionError
        Where a member is missing, unknown or of another kind.
    """
    faults = Course().validate(copy.deepcopy(document))
    assert not faults, faults
