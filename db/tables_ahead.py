"""Tables of what is done before anyone asks: arrivals in the archive, studies opened.

Rows are made and changed by ``db.ahead``. An arrival goes by the archive's own name of
the study, so that no identifier of the study itself is kept of those never looked at.
See ``db.models`` for the rules of all tables.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables_base import Base, length

_PENDING = text("pending")


class ArrivalFeedRow(Base):
    """How far the archive's list of changes has been read, and by whom: one row."""

    __tablename__ = "arrival_feed"
    __table_args__ = (
        CheckConstraint("sequence >= 0", name="sequence"),
        CheckConstraint("(owner IS NULL) = (lease_until IS NULL)", name="owner"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    sequence: Mapped[int] = mapped_column(BigInteger)
    mark: Mapped[str]
    """What the archive said of the change at `sequence`: another text, another log."""
    caught_up_at: Mapped[datetime | None]
    """When the log was last read to its end; None before the first time."""


class ArrivalRow(Base):
    """A study in which something has arrived."""

    __tablename__ = "arrival"
    __table_args__ = (
        length("archive_id", 1, 64),
        length("decided", 64, 64),
        CheckConstraint("tries >= 0", name="tries"),
        Index(
            "ix_arrival_pending",
            "not_before",
            "archive_id",
            sqlite_where=_PENDING,
            postgresql_where=_PENDING,
        ),
        Index("ix_arrival_noticed", "noticed_at"),
    )

    archive_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    pending: Mapped[bool]
    noticed_at: Mapped[datetime]
    not_before: Mapped[datetime]
    tries: Mapped[int]
    decided: Mapped[str | None] = mapped_column(String(64))
    """Hash of the series, its images and the model that were last decided about."""


class OpenedStudyRow(Base):
    """A study that somebody has just opened; forgotten within minutes."""

    __tablename__ = "opened_study"
    __table_args__ = (length("study_uid", 1, 64),)

    study_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    opened_at: Mapped[datetime] = mapped_column(index=True)
