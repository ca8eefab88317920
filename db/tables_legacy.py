"""Tables for the former system: its measurements, and outlines for its front end.

Historical measurements have no place in the patient, so they are kept apart from
results and never compared with them. Outlines tell which lesion a number in an RTSTRUCT
series means, whatever versions came after. Rows are made by ``db.historical`` and
``db.outlines``. See ``db.models`` for the rules of all tables.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables_base import Base, BigId, length, within


class HistoricalMeasurementRow(Base):
    """One lesion at one date, as the former system measured it."""

    __tablename__ = "historical_measurement"
    __table_args__ = (
        length("study_uid", 1, 64),
        length("series_uid", 1, 64),
        within("volume_ml", "0", "10000"),
        within("diameter_mm", "0", "1000"),
        CheckConstraint("length(source_sha256) = 64", name="source_sha256_length"),
        UniqueConstraint("identity_sha256"),
    )

    id: Mapped[int] = mapped_column(BigId, Identity(always=True), primary_key=True)
    identity_sha256: Mapped[str] = mapped_column(String(64))
    patient_key: Mapped[str] = mapped_column(ForeignKey("patient.id"), index=True)
    study_uid: Mapped[str] = mapped_column(String(64), index=True)
    study_date: Mapped[str | None]
    series_uid: Mapped[str] = mapped_column(String(64), index=True)
    roi_number: Mapped[int | None] = mapped_column(BigInteger)
    name: Mapped[str | None]
    volume_ml: Mapped[float | None]
    diameter_mm: Mapped[float | None]
    first_slice: Mapped[int | None] = mapped_column(BigInteger)
    last_slice: Mapped[int | None] = mapped_column(BigInteger)
    colour: Mapped[list[Any] | None]
    source_sha256: Mapped[str] = mapped_column(String(64))
    imported_by: Mapped[str | None]
    imported_at: Mapped[datetime]


class OutlineRow(Base):
    """Which lesion a region of an RTSTRUCT series in the archive outlines."""

    __tablename__ = "outline"
    __table_args__ = (
        length("series_uid", 1, 64),
        length("finding_uid", 1, 64),
        CheckConstraint("roi_number >= 1", name="roi_number"),
        CheckConstraint("first_slice >= 1", name="first_slice"),
        CheckConstraint("last_slice >= first_slice", name="last_slice"),
    )

    series_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    roi_number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    result_id: Mapped[str] = mapped_column(ForeignKey("result.id"), index=True)
    finding_uid: Mapped[str] = mapped_column(String(64))
    first_slice: Mapped[int]
    last_slice: Mapped[int]
    stored_at: Mapped[datetime]
