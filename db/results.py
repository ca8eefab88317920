"""What analyses found: results with their lesions and everything that determined them.

Recording the same analysis again (a repeated run, a second press) gives the result that
is there and adds nothing. A result without lesions is a result. Axes are end points in
LPS mm. Functions take a ``Session``; the study and series must be known
(``db.studies.upsert_study``).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, joinedload, selectinload

from db.encoding import canonical_hash
from db.engine import database_time
from db.models import LesionRow, ResultRow, SeriesRow
from db.models_registry import ModelRecord, register_model, to_model
from errors import MetiaError

Point = tuple[float, float, float]
Axis = tuple[Point, Point]


@dataclass(frozen=True)
class LesionRecord:
    """One measured lesion, as it is given to be recorded.

    Attributes
    ----------
    segment_number : int
        In the SEG, from 1.
    slice_index : int
        Axis 0 of the input volume, the slice nearest to the long axis.
    sop_instance_uid, frame_number
        The image of that slice; a frame number (from 1) only in multi-frame objects.
    long_axis_mm, short_axis_mm, centroid_mm
        LPS mm.
    warnings : tuple of str
        Codes of what limits the measurement.
    colour : tuple of int
        RGB, 0 to 255.
    """

    segment_number: int
    name: str
    tracking_id: str
    tracking_uid: str
    colour: tuple[int, int, int]
    voxel_count: int
    volume_ml: float
    longest_diameter_mm: float
    perpendicular_diameter_mm: float
    long_axis_mm: Axis
    short_axis_mm: Axis
    centroid_mm: Point
    probability: float
    peak_probability: float
    slice_index: int
    slice_count: int
    sop_instance_uid: str
    frame_number: int | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Lesion(LesionRecord):
    """A recorded lesion."""

    id: str
    result_id: str


@dataclass(frozen=True)
class ResultRecord:
    """One analysis, as it is given to be recorded.

    Attributes
    ----------
    job_id : str or None
        The job that computed it.
    segmentation_series_uid, segmentation_sop_uid : str or None
        The stored SEG; both None for "no lesion found".
    inputs_sha256 : str
        Over the SOP Instance UIDs and pixels that went in, hexadecimal.
    parameters : mapping
        All that determined the answer besides pixels and model.
    warnings : tuple of str
        Free of patient data.
    series_choice : tuple of str
        Why this series was taken; free of patient data.
    tilt_deg : float
        Between the planes measured in and the patient's axial plane.
    resampled : bool
        Whether the probability was resampled to measure in that plane.
    dropped_small : int
        Components left out for their size.
    """

    job_id: str | None
    series_uid: str
    segmentation_series_uid: str | None
    segmentation_sop_uid: str | None
    model: ModelRecord
    inputs_sha256: str
    instance_count: int
    code_version: str
    parameters: Mapping[str, Any]
    device: str
    timings_s: Mapping[str, float]
    warnings: tuple[str, ...]
    series_choice: tuple[str, ...]
    tilt_deg: float
    resampled: bool
    dropped_small: int
    lesions: tuple[LesionRecord, ...]


@dataclass(frozen=True)
class Result:
    """A recorded analysis."""

    id: str
    job_id: str | None
    study_uid: str
    series_uid: str
    segmentation_series_uid: str | None
    segmentation_sop_uid: str | None
    model: ModelRecord
    state: str
    inputs_sha256: str
    instance_count: int
    code_version: str
    parameters: dict[str, Any]
    device: str
    timings_s: dict[str, float]
    warnings: tuple[str, ...]
    series_choice: tuple[str, ...]
    tilt_deg: float
    resampled: bool
    dropped_small: int
    created_at: datetime
    lesions: tuple[Lesion, ...]


def record_result(session: Session, record: ResultRecord) -> str:
    """Store an analysis, or find that it is stored.

    Returns
    -------
    str
        Id of the result.

    Raises
    ------
    MetiaError
        ``invalid-input`` where lesions and SEG do not go together; ``conflict`` where
        the SEG is recorded with other lesions, or a value breaks a rule.
    """
    if bool(record.lesions) != (record.segmentation_sop_uid is not None):
        raise MetiaError(
            "invalid-input", "A result has lesions and a segmentation, or neither."
        )
    known = _find_known(session, record)
    if known is not None:
        if len(known.lesions) != len(record.lesions):
            raise MetiaError(
                "conflict", "This segmentation is recorded with other lesions."
            )
        return known.id
    register_model(session, record.model)
    row = ResultRow(
        id=uuid.uuid4().hex,
        identity_sha256=_identity(record),
        job_id=record.job_id,
        series_uid=record.series_uid,
        segmentation_series_uid=record.segmentation_series_uid,
        segmentation_sop_uid=record.segmentation_sop_uid,
        model_sha256=record.model.sha256,
        state="unverified",
        inputs_sha256=record.inputs_sha256,
        instance_count=record.instance_count,
        code_version=record.code_version,
        parameters=dict(record.parameters),
        device=record.device,
        timings_s=dict(record.timings_s),
        warnings=list(record.warnings),
        series_choice=list(record.series_choice),
        tilt_deg=record.tilt_deg,
        resampled=record.resampled,
        dropped_small=record.dropped_small,
        created_at=database_time(session),
    )
    session.add(row)
    session.flush()
    session.add_all(_lesion_row(row.id, lesion) for lesion in record.lesions)
    session.flush()
    return row.id


def list_results(session: Session, study_uid: str) -> tuple[Result, ...]:
    """List the results of a study, newest first."""
    query = (
        select(ResultRow)
        .join(SeriesRow, SeriesRow.series_uid == ResultRow.series_uid)
        .where(SeriesRow.study_uid == study_uid)
        .order_by(ResultRow.created_at.desc(), ResultRow.id.desc())
        .options(*_everything())
    )
    return tuple(_result(row) for row in session.scalars(query))


def get_result(session: Session, result_id: str) -> Result:
    """Read one result; ``not-found`` where there is none."""
    row = _one(session, ResultRow.id == result_id)
    if row is None:
        raise MetiaError("not-found", "There is no result of this id.")
    return _result(row)


def get_lesion(session: Session, lesion_id: str) -> Lesion:
    """Read one lesion; ``not-found`` where there is none."""
    row = session.get(LesionRow, lesion_id)
    if row is None:
        raise MetiaError("not-found", "There is no lesion of this id.")
    return _lesion(row)


def _find_known(session: Session, record: ResultRecord) -> ResultRow | None:
    if record.segmentation_sop_uid is not None:
        return _one(
            session, ResultRow.segmentation_sop_uid == record.segmentation_sop_uid
        )
    return _one(session, ResultRow.identity_sha256 == _identity(record))


def _identity(record: ResultRecord) -> str:
    return canonical_hash(
        [
            record.series_uid,
            record.model.sha256,
            record.inputs_sha256,
            dict(record.parameters),
            record.segmentation_sop_uid or "",
        ]
    )


def _one(session: Session, condition: ColumnElement[bool]) -> ResultRow | None:
    return session.scalar(select(ResultRow).where(condition).options(*_everything()))


def _everything() -> tuple[Any, ...]:
    return (
        joinedload(ResultRow.series),
        joinedload(ResultRow.model),
        selectinload(ResultRow.lesions),
    )


def _lesion_row(result_id: str, lesion: LesionRecord) -> LesionRow:
    values = {name: getattr(lesion, name) for name in _LESION_FIELDS}
    return LesionRow(id=uuid.uuid4().hex, result_id=result_id, **values)


_LESION_FIELDS = tuple(LesionRecord.__dataclass_fields__)


def _result(row: ResultRow) -> Result:
    return Result(
        id=row.id,
        job_id=row.job_id,
        study_uid=row.series.study_uid,
        series_uid=row.series_uid,
        segmentation_series_uid=row.segmentation_series_uid,
        segmentation_sop_uid=row.segmentation_sop_uid,
        model=to_model(row.model),
        state=row.state,
        inputs_sha256=row.inputs_sha256,
        instance_count=row.instance_count,
        code_version=row.code_version,
        parameters=row.parameters,
        device=row.device,
        timings_s=row.timings_s,
        warnings=tuple(row.warnings),
        series_choice=tuple(row.series_choice),
        tilt_deg=row.tilt_deg,
        resampled=row.resampled,
        dropped_small=row.dropped_small,
        created_at=row.created_at,
        lesions=tuple(_lesion(lesion) for lesion in row.lesions),
    )


def _lesion(row: LesionRow) -> Lesion:
    values = {name: getattr(row, name) for name in _LESION_FIELDS}
    values["colour"] = tuple(row.colour)
    values["warnings"] = tuple(row.warnings)
    values["centroid_mm"] = tuple(row.centroid_mm)
    values["long_axis_mm"] = tuple(tuple(point) for point in row.long_axis_mm)
    values["short_axis_mm"] = tuple(tuple(point) for point in row.short_axis_mm)
    return Lesion(id=row.id, result_id=row.result_id, **values)
