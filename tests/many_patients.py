"""Fills a database with as many patients, visits and lesions as a large centre has.

Rows are written in bulk, a hundred times faster than one by one, with values that break
no rule; every visit but the first is registered, every lesion followed. For measuring.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, text

from db.encoding import search_key
from db.engine import Engine
from db.models import (
    Base,
    LesionRow,
    ModelRow,
    PatientRow,
    RegistrationRow,
    ResultRow,
    SeriesRow,
    StudyRow,
    TrackMemberRow,
    TrackRow,
)

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_AXIS = [[0.1234567, 1.0, 2.0], [7.6234567, 1.0, 2.0]]
_MATRIX = [[float(row == column) for column in range(4)] for row in range(4)]
_MODEL = "a" * 64
Rows = dict[type[Base], list[dict[str, Any]]]


def fill(engine: Engine, patients: int, visits: int, lesions: int) -> None:
    """Add patients with so many visits of so many lesions each.

    The key of patient number n is ``f"{n:032}"``.
    """
    with engine.begin() as connection:
        connection.execute(
            insert(ModelRow),
            {
                "sha256": _MODEL,
                "name": "net",
                "version": "1",
                "task": "brain-metastases",
                "demonstration": True,
                "promoted": False,
                "created_at": _NOW,
            },
        )
        for number in range(patients):
            for table, rows in _patient(number, visits, lesions).items():
                if rows:
                    connection.execute(insert(table), rows)
        connection.execute(text("ANALYZE"))


def _patient(number: int, visits: int, lesions: int) -> Rows:
    key = f"{number:032}"
    name, patient_id = f"Phantom^Number{number:05}", f"P{number:06}"
    rows: Rows = {
        PatientRow: [
            {
                "id": key,
                "patient_id": patient_id,
                "issuer": "",
                "name": name,
                "created_at": _NOW,
                "touched_at": _NOW,
                "search_key": search_key(name, patient_id),
            }
        ],
        StudyRow: [],
        SeriesRow: [],
        ResultRow: [],
        LesionRow: [],
        TrackRow: [_track(number, one) for one in range(lesions)],
        TrackMemberRow: [],
        RegistrationRow: [],
    }
    for visit in range(visits):
        for table, found in _visit(number, visit, lesions):
            rows[table].append(found)
    return rows


def _visit(
    patient: int, visit: int, lesions: int
) -> Iterator[tuple[type[Base], dict[str, Any]]]:
    study = f"1.2.{patient}.{visit}"
    series = f"{study}.1"
    result = f"{patient:016}{visit:016}"
    yield (
        StudyRow,
        {
            "study_uid": study,
            "patient_key": f"{patient:032}",
            "study_date": f"{2000 + visit}0101",
            "created_at": _NOW,
        },
    )
    yield (
        SeriesRow,
        {
            "series_uid": series,
            "study_uid": study,
            "modality": "MR",
            "created_at": _NOW,
        },
    )
    yield ResultRow, _result(result, series, study)
    for number in range(lesions):
        finding = f"2.25.{patient}.{visit}.{number}"
        yield LesionRow, _lesion(result, finding, number)
        yield (
            TrackMemberRow,
            {
                "study_uid": study,
                "finding_uid": finding,
                "track_id": _track_id(patient, number),
                "relation": "same" if visit else "first",
                "state": "automatic",
                "cost_mm": 1.25,
                "method": "hungarian",
                "at": _NOW,
                "reason": "",
            },
        )
    if visit:
        yield (
            RegistrationRow,
            {
                "id": result,
                "moving_series_uid": series,
                "fixed_series_uid": f"1.2.{patient}.0.1",
                "matrix": _MATRIX,
                "quality": 0.9,
                "accepted": True,
                "reason": "",
                "method": "rigid",
                "created_at": _NOW,
            },
        )


def _result(key: str, series: str, study: str) -> dict[str, Any]:
    return {
        "id": key,
        "identity_sha256": key * 2,
        "series_uid": series,
        "segmentation_series_uid": f"{study}.100",
        "segmentation_sop_uid": f"{study}.101",
        "model_sha256": _MODEL,
        "state": "accepted",
        "inputs_sha256": "b" * 64,
        "instance_count": 160,
        "code_version": "0.1.0",
        "parameters": {"threshold": 0.5, "overlap": 0.25, "window": [128, 128, 128]},
        "device": "cpu",
        "timings_s": {"fetch": 0.3, "predict": 12.5},
        "warnings": [],
        "series_choice": ["the description names a T1"],
        "tilt_deg": 10.0,
        "resampled": True,
        "dropped_small": 1,
        "created_at": _NOW,
        "spacing_mm": [1.0, 1.0, 1.0],
        "slice_thickness_mm": 1.0,
    }


def _lesion(result: str, finding: str, number: int) -> dict[str, Any]:
    return {
        "id": f"{result[8:16]}{result[24:]}{number:016}",
        "result_id": result,
        "segment_number": number + 1,
        "name": f"L{number + 1}",
        "tracking_id": f"L{number + 1}",
        "tracking_uid": finding,
        "finding_uid": finding,
        "colour": [230, 80, 10],
        "voxel_count": 100,
        "volume_ml": 0.1,
        "longest_diameter_mm": 12.5,
        "perpendicular_diameter_mm": 11.25,
        "long_axis_mm": _AXIS,
        "short_axis_mm": _AXIS,
        "centroid_mm": [3.5, 1.1, 2.0],
        "probability": 0.8,
        "peak_probability": 0.99,
        "slice_index": 80,
        "slice_count": 6,
        "sop_instance_uid": f"{finding}.80",
        "warnings": [],
        "diameter_3d_mm": 13.0,
        "diameter_3d_axis_mm": _AXIS,
        "measurable": True,
        "measurable_reasons": [],
    }


def _track(patient: int, number: int) -> dict[str, Any]:
    return {
        "id": _track_id(patient, number),
        "patient_key": f"{patient:032}",
        "tracking_uid": f"2.25.{patient}.0.{number}",
        "label": f"M{number + 1}",
        "kind": "parenchymal",
        "compartment": "cns",
        "revision": 1,
        "created_at": _NOW,
    }


def _track_id(patient: int, number: int) -> str:
    return f"{patient:016}{number:016}"
