"""Tables of what the archive holds (patients, studies, series) and of the models.

Rows are made by ``db.studies`` and ``db.models_registry``. See ``db.models`` for the
rules of all tables.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    String,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables_base import Base, BigId, length


class PatientRow(Base):
    """A patient as the archive names one; nothing about it is required."""

    __tablename__ = "patient"
    __table_args__ = (
        Index(
            "uq_patient_identity",
            "patient_id",
            "issuer",
            unique=True,
            sqlite_where=text("patient_id IS NOT NULL"),
            postgresql_where=text("patient_id IS NOT NULL"),
        ),
        Index("ix_patient_search", "search_key", "id"),
        Index("ix_patient_touched_at", "touched_at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    patient_id: Mapped[str | None]
    issuer: Mapped[str] = mapped_column(server_default="")
    name: Mapped[str | None]
    birth_date: Mapped[str | None]
    sex: Mapped[str | None]
    created_at: Mapped[datetime]
    search_key: Mapped[str] = mapped_column(server_default="")
    """Name and id as ``db.encoding.search_key`` folds them."""
    touched_at: Mapped[datetime]
    """When anything about the patient was last written; retention counts from it."""
    erasing: Mapped[bool] = mapped_column(server_default=text("false"))
    """Only inside the transaction that erases: lets go what is append-only."""


class StudyRow(Base):
    """One study; its date and time are DICOM's own texts (DA, TM)."""

    __tablename__ = "study"
    __table_args__ = (length("study_uid", 1, 64),)

    study_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    patient_key: Mapped[str] = mapped_column(ForeignKey("patient.id"), index=True)
    study_date: Mapped[str | None]
    study_time: Mapped[str | None]
    description: Mapped[str | None]
    accession_number: Mapped[str | None]
    created_at: Mapped[datetime]


class SeriesRow(Base):
    """One series that was analysed."""

    __tablename__ = "series"
    __table_args__ = (length("series_uid", 1, 64),)

    series_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    study_uid: Mapped[str] = mapped_column(ForeignKey("study.study_uid"), index=True)
    series_number: Mapped[int | None] = mapped_column(BigInteger)
    modality: Mapped[str | None]
    description: Mapped[str | None]
    instance_count: Mapped[int | None]
    created_at: Mapped[datetime]


class ModelRow(Base):
    """A model that was used or promoted; its hash is its identity."""

    __tablename__ = "model"
    __table_args__ = (
        CheckConstraint("length(sha256) = 64", name="sha256_length"),
        Index(
            "uq_model_promoted",
            "task",
            unique=True,
            sqlite_where=text("promoted"),
            postgresql_where=text("promoted"),
        ),
    )

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    version: Mapped[str]
    task: Mapped[str]
    demonstration: Mapped[bool]
    promoted: Mapped[bool]
    created_at: Mapped[datetime]


class PromotionRow(Base):
    """That a model was promoted; the last one of a task is the promoted one."""

    __tablename__ = "promotion"

    id: Mapped[int] = mapped_column(BigId, Identity(always=True), primary_key=True)
    sha256: Mapped[str] = mapped_column(
        String(64), ForeignKey("model.sha256"), index=True
    )
    actor: Mapped[str | None]
    at: Mapped[datetime]
