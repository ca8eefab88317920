"""The lesions of a patient over time as plain data: one row a lesion, one cell a visit.

Part of ``course_document``. Changes are taken between the integers that were compared.
Pure.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from db.tracks import Track, TrackReading
from db.visits import Visit
from segmentation.dicom.codes import Colour, colour_of
from segmentation.followup.case import State
from segmentation.followup.course import PatientCase
from segmentation.followup.course_rows import CourseRows
from segmentation.followup.figures import percent
from segmentation.followup.results import Assessment, LesionRole
from segmentation.followup.sightings import Sighting, length_tenths

Document = dict[str, Any]
_NUMBER = re.compile(r"[A-Za-z]+([0-9]{1,6})\Z", re.ASCII)


def track_documents(
    rows: CourseRows, found: PatientCase, assessment: Assessment | None
) -> list[Document]:
    """Put the lesions of a patient into plain data, in the order of their labels."""
    roles = {}
    baseline = None
    if assessment is not None:
        period = assessment.periods[-1]
        roles = {role.lesion: role for role in period.roles}
        studies = {visit: study for study, visit in found.visit_ids.items()}
        baseline = studies[period.baseline]
    return [
        {
            **vars(track),
            **_role(track, roles.get(found.names[track.id])),
            "colour": colour_of_track(track, place),
            "split_from": track.split_from,
            "observations": _observations(rows, found, track, baseline),
        }
        for place, track in enumerate(found.tracks)
    ]


def colour_of_track(track: Track, place: int) -> Colour:
    """Give a lesion its colour: M1 the first one, whoever else there is."""
    match = _NUMBER.match(track.label)
    return colour_of(max(int(match.group(1)), 1) if match else place + 1)


def _role(track: Track, role: LesionRole | None) -> Document:
    if role is None:
        by = "reader" if track.role else None
        return {"role": track.role, "role_by": by, "role_reasons": []}
    # A reader's target that cannot be one is the rules' decision.
    by_reader = role.by_reader and track.role == role.role
    return {
        "role": role.role,
        "role_by": "reader" if by_reader else "rule",
        "role_reasons": list(role.reasons),
    }


def _observations(
    rows: CourseRows, found: PatientCase, track: Track, baseline: str | None
) -> list[Document]:
    documents = []
    first = found.sightings.of[track.id, baseline] if baseline else None
    previous: int | None = None
    for visit in rows.visits:
        sighting = found.sightings.of[track.id, visit.study_uid]
        counts = visit.study_uid in found.visit_ids
        value = _value(sighting) if counts else None
        documents.append(
            {
                **_observation(visit, sighting),
                "counts": counts,
                "change_mm": _difference(value, previous),
                "change_percent": _change(value, _value(first) if first else None),
            }
        )
        previous = previous if value is None else value
    return documents


def _observation(visit: Visit, sighting: Sighting) -> Document:
    lesion, member, seen = sighting.lesion, sighting.member, sighting.observation
    measured: Document = dict.fromkeys(
        (
            "longest_diameter_mm",
            "perpendicular_diameter_mm",
            "volume_ml",
            "slice_count",
            "review",
            "measurable",
            "sop_instance_uid",
            "frame_number",
            "finding_uid",
        )
    )
    reasons: list[str] = []
    if lesion is not None:
        measured = {name: getattr(lesion, name) for name in measured}
        longest = length_tenths(lesion.longest_diameter_mm)
        across = min(length_tenths(lesion.perpendicular_diameter_mm), longest)
        measured["longest_diameter_mm"] = longest / 10
        measured["perpendicular_diameter_mm"] = across / 10
        reasons = list(lesion.measurable_reasons)
    return {
        "study_uid": visit.study_uid,
        "state": seen.state.value,
        "reason": seen.reason,
        "lesion_id": lesion.id if lesion else None,
        **measured,
        "measurable_reasons": reasons,
        "link": member,
        "certainty": seen.certainty.value if seen.certainty else None,
        "reading": _reading(sighting.reading) if sighting.reading else None,
    }


def _reading(reading: TrackReading) -> Document:
    return {
        **vars(reading),
        "reason": reading.reason or None,
        "modality": reading.modality or None,
    }


def _value(sighting: Sighting) -> int | None:
    """Give what can be compared: the diameter, nothing where the lesion is gone."""
    if sighting.state is State.ABSENT:
        return 0
    if sighting.state is State.MEASURED:
        return sighting.observation.longest_tenths_mm
    return None


def _difference(value: int | None, previous: int | None) -> float | None:
    if value is None or previous is None or value == previous == 0:
        return None
    return (value - previous) / 10


def _change(value: int | None, first: int | None) -> float | None:
    if value is None or not first:
        return None
    return percent(Fraction(value - first, first))
