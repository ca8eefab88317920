"""Small stories of lesions over visits, for tests of matching and tracking."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from segmentation.followup.matching import Body, FloatArray
from segmentation.followup.tracking import Course, Finding, VisitFindings

Vector = tuple[float, float, float]
Ball = tuple[str, tuple[float, float, float], float]
"""Name, centre and diameter in mm, in the head's coordinates."""


def ball(centre: tuple[float, float, float], diameter_mm: float) -> Body:
    return Body(centre, float(np.pi / 6 * diameter_mm**3))


def rod(
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    volume_mm3: float,
) -> Body:
    x, y, z = (float(v) for v in np.mean([start, end], axis=0))
    return Body((x, y, z), volume_mm3, (start, end))


def visit(
    name: str,
    lesions: Iterable[Ball | tuple[str, Body]],
    *,
    moved_by: FloatArray | None = None,
    registered: bool = True,
) -> VisitFindings:
    """Make a visit whose patient lies moved by `moved_by`; findings `visit.name`."""
    motion = np.eye(4) if moved_by is None else moved_by
    findings = []
    for one in lesions:
        body = one[1] if isinstance(one[1], Body) else ball(one[1], one[2])
        findings.append(Finding(f"{name}.{one[0]}", body.moved(motion)))
    matrix = np.linalg.inv(motion) if registered else None
    return VisitFindings(name, tuple(findings), matrix)


def rigid(angles_deg: tuple[float, float, float], shift: object) -> FloatArray:
    from segmentation.phantoms.geometry import rotation_matrix

    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrix(angles_deg)
    matrix[:3, 3] = shift
    return matrix


def told(courses: Iterable[Course]) -> set[tuple[str, ...]]:
    """Say it in words: each course as finding:relation:state in order."""
    return {
        tuple(f"{link.key[1]}:{link.relation}:{link.state}" for link in course.links)
        for course in courses
    }
