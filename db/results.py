"""What was found: results in their versions, with all that determined them.

Recording the same analysis again (a repeated run, a second press) gives the result that
is there and adds nothing. A result without lesions is a result. Content never changes:
a reader's edit is a new version with a predecessor, and a version has one successor at
most (states and reviews: ``db.reviews``). Axes are end points in LPS mm. Functions take
a ``Session``; the study and series must be known (``db.studies.upsert_study``).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, joinedload, selectinload

from db.encoding import canonical_hash
from db.engine import database_time
from db.models import LesionRow, ResultRow, SeriesRow
from db.models_registry import register_model, to_model
from db.patients import touch_series
from db.result_records import (
    Axis,
    Lesion,
    LesionRecord,
    Point,
    Result,
    ResultRecord,
)
from errors import MetiaError

__all__ = [
    "Axis",
    "Lesion",
    "LesionRecord",
    "Point",
    "Result",
    "ResultRecord",
    "get_lesion",
    "get_result",
    "get_results",
    "list_results",
    "list_versions",
    "record_result",
]


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
        # A restored version shows the same object.
        return _one(
            session,
            (ResultRow.segmentation_sop_uid == record.segmentation_sop_uid)
            & ResultRow.predecessor_id.is_(None),
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
