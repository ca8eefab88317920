"""What was found: results in their versions, with all that determined them.

Recording the same analysis again (a repeated run, a second press) gives the result that
is there and adds nothing. A result without lesions is a result. Content never changes:
a reader's edit is a new version with a predecessor, and a version has one successor at
most (states and reviews: ``db.reviews``). Axes are end points in LPS mm. Functions take
a ``Session``; the study and series must be known (``db.studies.upsert_study``).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, joinedload, selectinload

from db.encoding import canonical_hash
from db.engine import database_time
from db.models import LesionRow, ResultRow, SeriesRow
from db.models_registry import ModelRecord, register_model, to_model
from db.patients import touch_series
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
    probability, peak_probability : float or None
        None where no model gave one.
    finding_uid : str
        The tracking UID that the lesion had when it was first seen at this visit, kept
        over versions; empty: it is seen for the first time.
    review : {'unverified', 'accepted', 'rejected'}
        A rejected lesion counts nowhere.
    measurable : bool or None
        By RANO-BM's rules; None where it was not determined.
    measurable_reasons : tuple of str
        Codes of why not.
    method : {'probability-contour', 'mask-contour'}
        What the diameters were measured on.
    algorithm_type : {'AUTOMATIC', 'SEMIAUTOMATIC', 'MANUAL'}
        DICOM's Segment Algorithm Type.
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
    probability: float | None
    peak_probability: float | None
    slice_index: int
    slice_count: int
    sop_instance_uid: str
    frame_number: int | None
    warnings: tuple[str, ...]
    finding_uid: str = ""
    review: str = "unverified"
    diameter_3d_mm: float | None = None
    diameter_3d_axis_mm: Axis | None = None
    measurable: bool | None = None
    measurable_reasons: tuple[str, ...] = ()
    method: str = "probability-contour"
    algorithm_type: str = "AUTOMATIC"


@dataclass(frozen=True, kw_only=True)
class Lesion(LesionRecord):
    """A recorded lesion; its `finding_uid` is never empty."""

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
    model : ModelRecord or None
        None only of an import.
    origin : {'model', 'reader', 'import'}
        Who drew it: an edited version is a reader's.
    predecessor_id : str or None
        The result of which this is the next version.
    author : str or None
        Name of the user; required unless a model made it.
    spacing_mm : tuple of float or None
        Between voxel centres along slice, row, column.
    state : str or None
        None: ``edited`` where a reader made it, else ``unverified``.
    """

    job_id: str | None
    series_uid: str
    segmentation_series_uid: str | None
    segmentation_sop_uid: str | None
    model: ModelRecord | None
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
    origin: str = "model"
    predecessor_id: str | None = None
    author: str | None = None
    note: str = ""
    spacing_mm: Point | None = None
    slice_thickness_mm: float | None = None
    segmentation_label: str | None = None
    state: str | None = None


@dataclass(frozen=True)
class Result:
    """A recorded analysis or a reader's version of one.

    Attributes
    ----------
    state : {'unverified', 'accepted', 'edited', 'rejected', 'signed'}
    version : int
        Place in its chain of versions, from 1.
    revision : int
        Raised by every change of state or review; a write names the one it saw.
    """

    id: str
    job_id: str | None
    study_uid: str
    series_uid: str
    segmentation_series_uid: str | None
    segmentation_sop_uid: str | None
    model: ModelRecord | None
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
    origin: str
    predecessor_id: str | None
    version: int
    revision: int
    author: str | None
    note: str
    spacing_mm: Point | None
    slice_thickness_mm: float | None
    segmentation_label: str | None
    signed_by: str | None
    signed_at: datetime | None


def record_result(
    session: Session, record: ResultRecord, *, expected_revision: int | None = None
) -> str:
    """Store an analysis or a version, or find that it is stored.

    Parameters
    ----------
    session : Session
    record : ResultRecord
    expected_revision : int, optional
        Of the predecessor, as the maker of the new version saw it.

    Returns
    -------
    str
        Id of the result.

    Raises
    ------
    MetiaError
        ``invalid-input`` where lesions and SEG, or the version and its predecessor, do
        not go together; ``edit-conflict`` where the predecessor has been changed or
        succeeded meanwhile; ``conflict`` where the SEG is recorded with other lesions,
        or a value breaks a rule.
    """
    if bool(record.lesions) != (record.segmentation_sop_uid is not None):
        raise MetiaError(
            "invalid-input", "A result has lesions and a segmentation, or neither."
        )
    touch_series(session, record.series_uid)
    known = _find_known(session, record)
    if known is not None:
        if len(known.lesions) != len(record.lesions):
            raise MetiaError(
                "conflict", "This segmentation is recorded with other lesions."
            )
        return known.id
    if record.model is not None:
        register_model(session, record.model)
    row = _result_row(record)
    row.created_at = database_time(session)
    if record.predecessor_id is not None:
        before = lock_head(session, record.predecessor_id, expected_revision)
        _require_same_study(session, before, record.series_uid)
        row.version = before.version + 1
    session.add(row)
    session.flush()
    session.add_all(_lesion_row(row.id, lesion) for lesion in record.lesions)
    session.flush()
    return row.id


def lock_head(
    session: Session, result_id: str, expected_revision: int | None
) -> ResultRow:
    """Hold a result until the transaction ends, sure that nobody has changed it.

    For modules of ``db``. The row stays locked, so whoever comes second sees what the
    first has done.

    Raises
    ------
    MetiaError
        ``not-found``; ``edit-conflict`` with ``current_result_id`` and
        ``current_revision`` where it has a successor or another revision.
    """
    row = session.scalar(
        select(ResultRow)
        .where(ResultRow.id == result_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise MetiaError("not-found", "There is no result of this id.")
    head = head_of(session, row)
    if head.id != row.id or expected_revision not in (None, row.revision):
        raise MetiaError(
            "edit-conflict",
            "There is a newer version of this result."
            if head.id != row.id
            else "The result was changed meanwhile.",
            {"current_result_id": head.id, "current_revision": head.revision},
        )
    return row


def head_of(session: Session, row: ResultRow) -> ResultRow:
    """Follow a chain of versions to its last; for modules of ``db``."""
    while True:
        after = session.scalar(
            select(ResultRow)
            .where(ResultRow.predecessor_id == row.id)
            .execution_options(populate_existing=True)
        )
        if after is None:
            return row
        row = after


def list_versions(session: Session, result_id: str) -> tuple[Result, ...]:
    """List the chain of versions that a result belongs to, the first one first.

    Raises
    ------
    MetiaError
        ``not-found``.
    """
    row = session.get(ResultRow, result_id)
    if row is None:
        raise MetiaError("not-found", "There is no result of this id.")
    newest = head_of(session, row)
    chain = [newest.id]
    before = newest.predecessor_id
    while before is not None:
        chain.append(before)
        before = session.get_one(ResultRow, before).predecessor_id
    found = get_results(session, chain)
    return tuple(found[one] for one in reversed(chain))


def list_results(session: Session, study_uid: str) -> tuple[Result, ...]:
    """List the results of a study, newest first."""
    query = (
        select(ResultRow)
        .join(SeriesRow, SeriesRow.series_uid == ResultRow.series_uid)
        .where(SeriesRow.study_uid == study_uid)
        .order_by(ResultRow.created_at.desc(), ResultRow.id.desc())
        .options(*_everything())
    )
    return tuple(to_result(row) for row in session.scalars(query))


def get_result(session: Session, result_id: str) -> Result:
    """Read one result; ``not-found`` where there is none."""
    row = _one(session, ResultRow.id == result_id)
    if row is None:
        raise MetiaError("not-found", "There is no result of this id.")
    return to_result(row)


def get_results(session: Session, result_ids: Iterable[str]) -> dict[str, Result]:
    """Read several results, by id; ids of none are left out."""
    query = select(ResultRow).where(ResultRow.id.in_(list(result_ids)))
    rows = session.scalars(query.options(*_everything()))
    return {row.id: to_result(row) for row in rows}


def get_lesion(session: Session, lesion_id: str) -> Lesion:
    """Read one lesion; ``not-found`` where there is none."""
    row = session.get(LesionRow, lesion_id)
    if row is None:
        raise MetiaError("not-found", "There is no lesion of this id.")
    return _lesion(row)


def _find_known(session: Session, record: ResultRecord) -> ResultRow | None:
    if record.segmentation_sop_uid is not None and record.predecessor_id is None:
        return _one(
            session, ResultRow.segmentation_sop_uid == record.segmentation_sop_uid
        )
    return _one(session, ResultRow.identity_sha256 == _identity(record))


def _identity(record: ResultRecord) -> str:
    content: list[Any] = [
        record.series_uid,
        record.model.sha256 if record.model else "",
        record.inputs_sha256,
        dict(record.parameters),
        record.segmentation_sop_uid or "",
    ]
    if record.origin != "model":
        content += [record.origin, record.predecessor_id or ""]
    return canonical_hash(content)


def _require_same_study(session: Session, before: ResultRow, series_uid: str) -> None:
    """Keep a chain of versions within one visit."""
    studies = set(
        session.scalars(
            select(SeriesRow.study_uid).where(
                SeriesRow.series_uid.in_((before.series_uid, series_uid))
            )
        )
    )
    if len(studies) > 1:
        raise MetiaError("invalid-input", "A version belongs to the study before it.")


def _result_row(record: ResultRecord) -> ResultRow:
    """Copy what is given; version 1, to be recorded now."""
    made_by_reader = record.origin == "reader"
    return ResultRow(
        id=uuid.uuid4().hex,
        identity_sha256=_identity(record),
        job_id=record.job_id,
        series_uid=record.series_uid,
        segmentation_series_uid=record.segmentation_series_uid,
        segmentation_sop_uid=record.segmentation_sop_uid,
        model_sha256=record.model.sha256 if record.model else None,
        state=record.state or ("edited" if made_by_reader else "unverified"),
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
        origin=record.origin,
        predecessor_id=record.predecessor_id,
        version=1,
        revision=1,
        author=record.author,
        note=record.note,
        spacing_mm=list(record.spacing_mm) if record.spacing_mm else None,
        slice_thickness_mm=record.slice_thickness_mm,
        segmentation_label=record.segmentation_label,
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
    values["finding_uid"] = lesion.finding_uid or lesion.tracking_uid
    return LesionRow(id=uuid.uuid4().hex, result_id=result_id, **values)


_LESION_FIELDS = tuple(LesionRecord.__dataclass_fields__)


def to_result(row: ResultRow) -> Result:
    """Copy a row into what leaves this package; for modules of ``db``."""
    return Result(
        id=row.id,
        job_id=row.job_id,
        study_uid=row.series.study_uid,
        series_uid=row.series_uid,
        segmentation_series_uid=row.segmentation_series_uid,
        segmentation_sop_uid=row.segmentation_sop_uid,
        model=to_model(row.model) if row.model else None,
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
        origin=row.origin,
        predecessor_id=row.predecessor_id,
        version=row.version,
        revision=row.revision,
        author=row.author,
        note=row.note,
        spacing_mm=_point(row.spacing_mm) if row.spacing_mm else None,
        slice_thickness_mm=row.slice_thickness_mm,
        segmentation_label=row.segmentation_label,
        signed_by=row.signed_by,
        signed_at=row.signed_at,
    )


def _lesion(row: LesionRow) -> Lesion:
    values = {name: getattr(row, name) for name in _LESION_FIELDS}
    values["colour"] = tuple(row.colour)
    values["warnings"] = tuple(row.warnings)
    values["measurable_reasons"] = tuple(row.measurable_reasons)
    values["centroid_mm"] = _point(row.centroid_mm)
    values["long_axis_mm"] = _axis(row.long_axis_mm)
    values["short_axis_mm"] = _axis(row.short_axis_mm)
    axis_3d = row.diameter_3d_axis_mm
    values["diameter_3d_axis_mm"] = _axis(axis_3d) if axis_3d else None
    return Lesion(id=row.id, result_id=row.result_id, **values)


def _point(stored: list[Any]) -> Point:
    first, second, third = stored
    return first, second, third


def _axis(stored: list[Any]) -> Axis:
    return _point(stored[0]), _point(stored[1])
