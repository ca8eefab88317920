"""Tables of the work to be done: jobs and the processes that do them.

Rows are made and changed by ``db.jobs``, ``db.job_life`` and ``db.workers``. See
``db.models`` for the rules of all tables.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables_base import Base, length, one_of, within

JOB_STATES = ("queued", "running", "succeeded", "failed", "cancelled")
ERASED = "2.25.0"
"""Stands for the study of a job whose patient was erased: a UID that none can have."""

_ACTIVE = text("state IN ('queued', 'running') AND NOT cancel_requested")
_QUEUED = text("state = 'queued'")
_RUNNING = text("state = 'running'")


class JobRow(Base):
    """One piece of work; see ``db.jobs`` for the life of a job."""

    __tablename__ = "job"
    __table_args__ = (
        one_of("state", JOB_STATES),
        within("progress", "0", "1"),
        within("priority", "-100", "100"),
        length("study_uid", 1, 64),
        length("series_uid", 1, 64),
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
        # A job of another kind writes no result; an erased one has lost its own.
        CheckConstraint(
            "(state = 'succeeded' AND kind = 'segmentation' AND study_uid <> '2.25.0')"
            " = (result_id IS NOT NULL)",
            name="result",
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
            "queue",
            text("priority DESC"),
            "created_at",
            "id",
            # What a claim asks of a row, so that it reads the index alone.
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
    published_at: Mapped[datetime | None]
    """When a broker was last told of it; NULL: nobody was since it came to wait."""


class WorkerRow(Base):
    """A worker process that is, or was lately, alive."""

    __tablename__ = "worker"

    owner: Mapped[str] = mapped_column(primary_key=True)
    queues: Mapped[list[Any]]
    device: Mapped[str]
    started_at: Mapped[datetime]
    last_seen: Mapped[datetime]
