"""Tables of one lesion over time: tracks, their findings, links, registrations.

A *finding* is a lesion of a visit whatever the version of the result, known by its
``finding_uid``; a *track* is one lesion of a patient over all visits. Members are
recomputed; readings and decisions are a reader's and never are. Rows are made by
``db.tracks`` and ``db.registrations``. See ``db.models`` for the rules of all tables.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables_base import Base, BigId, length, one_of, within

TRACK_ROLES = ("target", "non_target")
LESION_KINDS = (
    "parenchymal",
    "solid_nodule",
    "cystic_only",
    "dural",
    "bone",
    "leptomeningeal",
    "ill_defined",
    "soft_tissue",
)
COMPARTMENTS = ("cns", "extracranial")
RELATIONS = ("first", "same", "new", "split", "merge", "reappeared")
MEMBER_STATES = ("automatic", "pending", "confirmed")
READING_STATES = (
    "too_small",
    "absent",
    "not_assessed",
    "merged",
    "split",
    "locally_treated",
)
CERTAINTIES = ("unequivocal", "equivocal", "not_tumour")
REAPPEARANCES = ("tumour", "not_tumour", "undetermined")
LINK_ACTIONS = ("link", "new", "unlink", "confirm")


class TrackRow(Base):
    """One lesion of a patient over time."""

    __tablename__ = "track"
    __table_args__ = (
        one_of("role", TRACK_ROLES),
        one_of("kind", LESION_KINDS),
        one_of("compartment", COMPARTMENTS),
        length("tracking_uid", 1, 64),
        length("label", 1, 64),
        CheckConstraint("split_from <> id", name="split_from"),
        CheckConstraint("revision >= 1", name="revision"),
        UniqueConstraint("tracking_uid"),
        UniqueConstraint("patient_key", "label"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    patient_key: Mapped[str] = mapped_column(ForeignKey("patient.id"))
    tracking_uid: Mapped[str] = mapped_column(String(64))
    label: Mapped[str] = mapped_column(String(64))
    role: Mapped[str | None]
    kind: Mapped[str]
    compartment: Mapped[str]
    split_from: Mapped[str | None] = mapped_column(ForeignKey("track.id"), index=True)
    progressed_since_treatment: Mapped[bool | None]
    revision: Mapped[int]
    created_at: Mapped[datetime]


class TrackMemberRow(Base):
    """Which track a finding belongs to: a finding to one, a track to one a visit."""

    __tablename__ = "track_member"
    __table_args__ = (
        one_of("relation", RELATIONS),
        one_of("state", MEMBER_STATES),
        length("finding_uid", 1, 64),
        CheckConstraint("cost_mm >= 0 AND cost_mm <= 100000", name="cost_mm"),
        UniqueConstraint("track_id", "study_uid"),
    )

    study_uid: Mapped[str] = mapped_column(
        ForeignKey("study.study_uid"), primary_key=True
    )
    finding_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    track_id: Mapped[str] = mapped_column(ForeignKey("track.id"))
    relation: Mapped[str]
    state: Mapped[str]
    cost_mm: Mapped[float | None]
    method: Mapped[str]
    by: Mapped[str | None]
    at: Mapped[datetime]
    reason: Mapped[str]


class TrackReadingRow(Base):
    """What a reader says of a track at a visit."""

    __tablename__ = "track_reading"
    __table_args__ = (
        one_of("state", READING_STATES),
        one_of("certainty", CERTAINTIES),
        one_of("reappearance", REAPPEARANCES),
        CheckConstraint("projections >= 1", name="projections"),
        CheckConstraint("into_track_id <> track_id", name="into_track_id"),
        CheckConstraint(
            "(state IS NOT NULL AND state = 'merged') = (into_track_id IS NOT NULL)",
            name="merged",
        ),
        CheckConstraint(
            "state IS NULL OR state <> 'locally_treated'"
            " OR (treated_on IS NOT NULL AND length(modality) >= 1)",
            name="treated",
        ),
        CheckConstraint(
            "state IS NULL OR state <> 'not_assessed' OR length(reason) >= 1",
            name="not_assessed",
        ),
        CheckConstraint("length(author) >= 1", name="author"),
    )

    track_id: Mapped[str] = mapped_column(ForeignKey("track.id"), primary_key=True)
    study_uid: Mapped[str] = mapped_column(
        ForeignKey("study.study_uid"), primary_key=True, index=True
    )
    state: Mapped[str | None]
    reason: Mapped[str]
    into_track_id: Mapped[str | None] = mapped_column(
        ForeignKey("track.id"), index=True
    )
    treated_on: Mapped[date | None]
    modality: Mapped[str]
    radionecrosis_suspected: Mapped[bool]
    certainty: Mapped[str | None]
    projections: Mapped[int | None]
    reappearance: Mapped[str]
    author: Mapped[str]
    updated_at: Mapped[datetime]


class LinkDecisionRow(Base):
    """What a reader decided about a finding's track; undone, never changed."""

    __tablename__ = "link_decision"
    __table_args__ = (
        one_of("action", LINK_ACTIONS),
        length("finding_uid", 1, 64),
        CheckConstraint(
            "action <> 'link' OR track_id IS NOT NULL", name="link_has_track"
        ),
        CheckConstraint("length(by) >= 1", name="by"),
        CheckConstraint("(undone_by IS NULL) = (undone_at IS NULL)", name="undone"),
        Index("ix_link_decision_patient", "patient_key", "id"),
    )

    id: Mapped[int] = mapped_column(BigId, Identity(always=True), primary_key=True)
    patient_key: Mapped[str] = mapped_column(ForeignKey("patient.id"))
    study_uid: Mapped[str] = mapped_column(ForeignKey("study.study_uid"), index=True)
    finding_uid: Mapped[str] = mapped_column(String(64))
    action: Mapped[str]
    track_id: Mapped[str | None] = mapped_column(ForeignKey("track.id"), index=True)
    by: Mapped[str]
    at: Mapped[datetime]
    undone_by: Mapped[str | None]
    undone_at: Mapped[datetime | None]


class RegistrationRow(Base):
    """The rigid motion from one series into another, in LPS mm."""

    __tablename__ = "registration"
    __table_args__ = (
        UniqueConstraint("moving_series_uid", "fixed_series_uid"),
        CheckConstraint("moving_series_uid <> fixed_series_uid", name="two_series"),
        CheckConstraint(
            "NOT accepted OR matrix IS NOT NULL", name="accepted_has_matrix"
        ),
        # Refuses what is no number.
        within("quality", "-1000000", "1000000"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    moving_series_uid: Mapped[str] = mapped_column(ForeignKey("series.series_uid"))
    fixed_series_uid: Mapped[str] = mapped_column(
        ForeignKey("series.series_uid"), index=True
    )
    matrix: Mapped[list[Any] | None]
    quality: Mapped[float | None]
    accepted: Mapped[bool]
    reason: Mapped[str]
    method: Mapped[str]
    created_at: Mapped[datetime]
