"""The tables: patients' studies, jobs, results with their lesions, people, audit.

Only modules of ``db`` use these classes; everyone else gets frozen dataclasses. What
must always hold is enforced here by the database (checks, foreign keys, partial unique
indexes); the audit's triggers are in the migrations. A change here needs a migration: a
test compares both. Lengths in mm, volumes in ml, points in LPS mm, times in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from db.encoding import UtcDateTime

JOB_STATES = ("queued", "running", "succeeded", "failed", "cancelled")
ROLES = ("viewer", "annotator", "reviewer", "admin")

_Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_BigId = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """Names every constraint, so that migrations and error messages can name it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - read once by SQLAlchemy
        datetime: UtcDateTime(),
        dict[str, Any]: _Json,
        list[Any]: _Json,
        float: Double(),
        str: Text(),
    }


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _within(column: str, low: str, high: str) -> CheckConstraint:
    # Two-sided on purpose: PostgreSQL takes NaN for greater than every number.
    return CheckConstraint(f"{column} >= {low} AND {column} <= {high}", name=column)


def _length(column: str, low: int, high: int) -> CheckConstraint:
    # SQLite ignores the length of VARCHAR.
    return CheckConstraint(
        f"length({column}) BETWEEN {low} AND {high}", name=f"{column}_length"
    )


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
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    patient_id: Mapped[str | None]
    issuer: Mapped[str] = mapped_column(server_default="")
    name: Mapped[str | None]
    birth_date: Mapped[str | None]
    sex: Mapped[str | None]
    created_at: Mapped[datetime]


class StudyRow(Base):
    """One study; its date and time are DICOM's own texts (DA, TM)."""

    __tablename__ = "study"
    __table_args__ = (_length("study_uid", 1, 64),)

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
    __table_args__ = (_length("series_uid", 1, 64),)

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


_ACTIVE = text("state IN ('queued', 'running') AND NOT cancel_requested")
_QUEUED = text("state = 'queued'")
_RUNNING = text("state = 'running'")


class JobRow(Base):
    """One piece of work; see ``db.jobs`` for the life of a job."""

    __tablename__ = "job"
    __table_args__ = (
        _one_of("state", JOB_STATES),
        _within("progress", "0", "1"),
        _within("priority", "-100", "100"),
        _length("study_uid", 1, 64),
        _length("series_uid", 1, 64),
        CheckConstraint("attempt >= 0", name="attempt"),
        CheckConstraint("deaths >= 0 AND deaths <= max_attempts", name="deaths"),
        CheckConstraint("retries >= 0", name="retries"),
        CheckConstraint("max_attempts >= 1", name="max_attempts"),
        CheckConstraint(
            "state <> 'running' OR (owner IS NOT NULL AND lease_until IS NOT NULL "
            "AND started_at IS NOT NULL AND attempt >= 1)",
            name="running_has_owner",
        ),
        CheckConstraint(
            "state = 'running' OR lease_until IS NULL", name="only_running_has_lease"
        ),
        CheckConstraint(
            "(state IN ('succeeded', 'failed', 'cancelled')) "
            "= (finished_at IS NOT NULL)",
            name="finished_at",
        ),
        CheckConstraint(
            "(state = 'succeeded') = (result_id IS NOT NULL)", name="result"
        ),
        CheckConstraint("state <> 'failed' OR error_code IS NOT NULL", name="error"),
        CheckConstraint(
            "state <> 'queued' OR NOT cancel_requested", name="queued_not_cancelled"
        ),
        Index(
            "uq_job_active",
            "dedupe_key",
            unique=True,
            sqlite_where=_ACTIVE,
            postgresql_where=_ACTIVE,
        ),
        Index(
            "ix_job_waiting",
            text("priority DESC"),
            "created_at",
            "id",
            # What a claim asks of a row, so that it reads the index alone.
            "queue",
            "not_before",
            "state",
            sqlite_where=_QUEUED,
            postgresql_where=_QUEUED,
        ),
        Index(
            "ix_job_lease",
            "lease_until",
            sqlite_where=_RUNNING,
            postgresql_where=_RUNNING,
        ),
        Index("ix_job_created", "created_at", "id"),
        Index("ix_job_study", "study_uid", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str]
    queue: Mapped[str]
    priority: Mapped[int]
    state: Mapped[str]
    step: Mapped[str]
    progress: Mapped[float]
    attempt: Mapped[int]
    deaths: Mapped[int]
    retries: Mapped[int]
    max_attempts: Mapped[int]
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    not_before: Mapped[datetime]
    cancel_requested: Mapped[bool]
    study_uid: Mapped[str] = mapped_column(String(64))
    series_uid: Mapped[str | None] = mapped_column(String(64))
    model_name: Mapped[str | None]
    parameters: Mapped[dict[str, Any]]
    requested_by: Mapped[str | None]
    dedupe_key: Mapped[str] = mapped_column(String(64))
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]
    result_id: Mapped[str | None] = mapped_column(
        # Job and result point at each other: the second table made adds this one.
        ForeignKey("result.id", use_alter=True),
        index=True,
    )
    timings_s: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class WorkerRow(Base):
    """A worker process that is, or was lately, alive."""

    __tablename__ = "worker"

    owner: Mapped[str] = mapped_column(primary_key=True)
    queues: Mapped[list[Any]]
    device: Mapped[str]
    started_at: Mapped[datetime]
    last_seen: Mapped[datetime]


class ResultRow(Base):
    """What one analysis of one series found, and everything that determined it."""

    __tablename__ = "result"
    __table_args__ = (
        _one_of("state", ("unverified",)),
        _length("segmentation_series_uid", 1, 64),
        _length("segmentation_sop_uid", 1, 64),
        CheckConstraint("instance_count >= 1", name="instance_count"),
        CheckConstraint(
            "(segmentation_series_uid IS NULL) = (segmentation_sop_uid IS NULL)",
            name="segmentation",
        ),
        CheckConstraint("length(inputs_sha256) = 64", name="inputs_sha256_length"),
        _within("tilt_deg", "0", "90"),
        CheckConstraint("dropped_small >= 0", name="dropped_small"),
        UniqueConstraint("segmentation_sop_uid"),
        UniqueConstraint("identity_sha256"),
        Index("ix_result_series", "series_uid", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    identity_sha256: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"), index=True)
    series_uid: Mapped[str] = mapped_column(ForeignKey("series.series_uid"))
    segmentation_series_uid: Mapped[str | None] = mapped_column(String(64))
    segmentation_sop_uid: Mapped[str | None] = mapped_column(String(64))
    model_sha256: Mapped[str] = mapped_column(ForeignKey("model.sha256"), index=True)
    state: Mapped[str]
    inputs_sha256: Mapped[str] = mapped_column(String(64))
    instance_count: Mapped[int]
    code_version: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    device: Mapped[str]
    timings_s: Mapped[dict[str, Any]]
    warnings: Mapped[list[Any]]
    series_choice: Mapped[list[Any]]
    tilt_deg: Mapped[float]
    resampled: Mapped[bool]
    dropped_small: Mapped[int]
    created_at: Mapped[datetime]

    series: Mapped[SeriesRow] = relationship(viewonly=True)
    model: Mapped[ModelRow] = relationship(viewonly=True)
    lesions: Mapped[list[LesionRow]] = relationship(
        order_by="LesionRow.segment_number", viewonly=True
    )


class LesionRow(Base):
    """One lesion of one result, measured."""

    __tablename__ = "lesion"
    __table_args__ = (
        UniqueConstraint("result_id", "segment_number"),
        UniqueConstraint("result_id", "tracking_uid"),
        CheckConstraint("segment_number >= 1", name="segment_number"),
        CheckConstraint("voxel_count >= 1", name="voxel_count"),
        CheckConstraint("slice_count >= 1", name="slice_count"),
        CheckConstraint("slice_index >= 0", name="slice_index"),
        CheckConstraint("frame_number >= 1", name="frame_number"),
        CheckConstraint("volume_ml > 0 AND volume_ml <= 10000", name="volume_ml"),
        CheckConstraint(
            "longest_diameter_mm > 0 AND longest_diameter_mm <= 1000",
            name="longest_diameter_mm",
        ),
        # The last digits of two equal diameters may differ.
        CheckConstraint(
            "perpendicular_diameter_mm >= 0 "
            "AND perpendicular_diameter_mm <= longest_diameter_mm + 0.000001",
            name="perpendicular_diameter_mm",
        ),
        _within("probability", "0", "1"),
        _within("peak_probability", "0", "1"),
        _length("tracking_uid", 1, 64),
        _length("sop_instance_uid", 1, 64),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    result_id: Mapped[str] = mapped_column(ForeignKey("result.id"))
    segment_number: Mapped[int]
    name: Mapped[str]
    tracking_id: Mapped[str]
    tracking_uid: Mapped[str] = mapped_column(String(64), index=True)
    colour: Mapped[list[Any]]
    voxel_count: Mapped[int]
    volume_ml: Mapped[float]
    longest_diameter_mm: Mapped[float]
    perpendicular_diameter_mm: Mapped[float]
    long_axis_mm: Mapped[list[Any]]
    short_axis_mm: Mapped[list[Any]]
    centroid_mm: Mapped[list[Any]]
    probability: Mapped[float]
    peak_probability: Mapped[float]
    slice_index: Mapped[int]
    slice_count: Mapped[int]
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
    frame_number: Mapped[int | None]
    warnings: Mapped[list[Any]]


class UserRow(Base):
    """A person who can log in; never deleted, so that records keep their meaning."""

    __tablename__ = "app_user"
    __table_args__ = (_one_of("role", ROLES), _length("name", 1, 64))

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    display_name: Mapped[str]
    role: Mapped[str]
    password_hash: Mapped[str | None]
    active: Mapped[bool]
    created_at: Mapped[datetime]


class SessionRow(Base):
    """A login; of its token only the hash is kept."""

    __tablename__ = "user_session"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_name: Mapped[str] = mapped_column(ForeignKey("app_user.name"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class TokenRow(Base):
    """An API token of a script; of the token only the hash is kept."""

    __tablename__ = "api_token"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_name: Mapped[str] = mapped_column(ForeignKey("app_user.name"), index=True)
    label: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class AuditRow(Base):
    """Who did what; triggers refuse every change and deletion."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_at", "at"),
        Index("ix_audit_subject", "subject"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(_BigId, Identity(always=True), primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str | None]
    action: Mapped[str]
    subject: Mapped[str]
    details: Mapped[dict[str, Any]]
    request_id: Mapped[str | None]
