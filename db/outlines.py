"""Which lesion a numbered region of an RTSTRUCT series means, for the former front end.

That front end names a lesion by series and number, and goes on doing so after the
result has had new versions; this keeps the number's meaning. Also lists the patients it
shows. Functions take a ``Session``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from db.engine import database_time
from db.models import (
    HistoricalMeasurementRow,
    OutlineRow,
    PatientRow,
    ResultRow,
    SeriesRow,
    StudyRow,
)
from db.patients import PatientRecord, to_patient

_MOST_ASKED = 500


@dataclass(frozen=True)
class Outline:
    """One region of an RTSTRUCT.

    Attributes
    ----------
    finding_uid : str
        Of the lesion, the same in all versions of the result.
    first_slice, last_slice : int
        Places in the order of slices, from 1.
    """

    series_uid: str
    roi_number: int
    result_id: str
    finding_uid: str
    first_slice: int
    last_slice: int


def save_outlines(session: Session, outlines: Sequence[Outline]) -> None:
    """Note the regions of one series, in place of what was noted of it before."""
    now = database_time(session)
    for series_uid in {one.series_uid for one in outlines}:
        session.execute(
            delete(OutlineRow)
            .where(OutlineRow.series_uid == series_uid)
            .execution_options(synchronize_session=False)
        )
    session.add_all(OutlineRow(**vars(one), stored_at=now) for one in outlines)
    session.flush()


def outlines_of_series(session: Session, series_uid: str) -> tuple[Outline, ...]:
    """List the regions of a series; none where it was not stored for that front end."""
    query = select(OutlineRow).where(OutlineRow.series_uid == series_uid)
    return tuple(map(_outline, session.scalars(query.order_by(OutlineRow.roi_number))))


def result_of_segmentation(session: Session, series_uid: str) -> str | None:
    """Give the id of the newest result whose SEG lies in a series; None: no result's.

    A restored version shows the SEG of the version that it restores.
    """
    return session.scalar(
        select(ResultRow.id)
        .where(ResultRow.segmentation_series_uid == series_uid)
        .order_by(ResultRow.created_at.desc(), ResultRow.id)
        .limit(1)
    )


def outlines_of_results(
    session: Session, result_ids: Iterable[str]
) -> dict[str, tuple[Outline, ...]]:
    """List the regions stored last of each of these results, by its id."""
    ids = list(result_ids)
    found: dict[str, dict[str, list[Outline]]] = {}
    for start in range(0, len(ids), _MOST_ASKED):
        query = (
            select(OutlineRow)
            .where(OutlineRow.result_id.in_(ids[start : start + _MOST_ASKED]))
            .order_by(OutlineRow.stored_at, OutlineRow.series_uid)
        )
        for row in session.scalars(query):
            series = found.setdefault(row.result_id, {})
            series.setdefault(row.series_uid, []).append(_outline(row))
    return {key: tuple(list(series.values())[-1]) for key, series in found.items()}


def followed_patients(session: Session) -> tuple[PatientRecord, ...]:
    """List the patients with a result or a historical measurement, by name."""
    results = (
        select(StudyRow.patient_key)
        .join(SeriesRow, SeriesRow.study_uid == StudyRow.study_uid)
        .join(ResultRow, ResultRow.series_uid == SeriesRow.series_uid)
    )
    historical = select(HistoricalMeasurementRow.patient_key)
    rows = session.scalars(
        select(PatientRow)
        .where(or_(PatientRow.id.in_(results), PatientRow.id.in_(historical)))
        .order_by(PatientRow.search_key, PatientRow.id)
    )
    return tuple(to_patient(row) for row in rows)


def _outline(row: OutlineRow) -> Outline:
    names = Outline.__dataclass_fields__
    return Outline(**{name: getattr(row, name) for name in names})
