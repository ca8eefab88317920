"""Tables of a patient's course: readings of visits, plan, events, assessments.

An assessment is a signed document and append-only: triggers of the migrations refuse
every change, and its deletion unless its patient is being erased. Rows are made by
``db.visits``, ``db.plans`` and ``db.assessments``. See ``db.models`` for the rules of
all tables.
"""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from db.tables_base import Base, length, one_of, unique_where

STEROID_USES = ("none", "physiological", "pharmacological", "not_recorded")
STEROID_CHANGES = ("stable", "decreased", "increased", "not_recorded")
CLINICAL_STATES = (
    "stable",
    "better",
    "worse_due_to_tumour",
    "worse_other_cause",
    "not_recorded",
)
NON_TARGETS = (
    "none",
    "complete_response",
    "non_cr_non_pd",
    "unequivocal_progression",
    "not_assessed",
)
EXTRACRANIAL_RESPONSES = (
    "CR",
    "PR",
    "SD",
    "NON_CR_NON_PD",
    "PD",
    "NE",
    "not_recorded",
)


class VisitReadingRow(Base):
    """What a reader says of a visit as a whole."""

    __tablename__ = "visit_reading"
    __table_args__ = (
        one_of("steroid_use", STEROID_USES),
        one_of("steroid_change", STEROID_CHANGES),
        CheckConstraint(
            "steroid_dose_tenths_mg >= 0 AND steroid_dose_tenths_mg <= 100000",
            name="steroid_dose_tenths_mg",
        ),
        one_of("clinical", CLINICAL_STATES),
        one_of("non_target", NON_TARGETS),
        one_of("extracranial_response", EXTRACRANIAL_RESPONSES),
        CheckConstraint("revision >= 1", name="revision"),
        CheckConstraint("length(author) >= 1", name="author"),
    )

    study_uid: Mapped[str] = mapped_column(
        ForeignKey("study.study_uid"), primary_key=True
    )
    selected_result_id: Mapped[str | None] = mapped_column(
        ForeignKey("result.id"), index=True
    )
    steroid_use: Mapped[str]
    steroid_change: Mapped[str | None]
    steroid_dose_tenths_mg: Mapped[int | None]
    clinical: Mapped[str]
    non_target: Mapped[str | None]
    technique_changed: Mapped[bool]
    extracranial_response: Mapped[str]
    note: Mapped[str]
    revision: Mapped[int]
    author: Mapped[str]
    updated_at: Mapped[datetime.datetime]


class CoursePlanRow(Base):
    """By which rules and from which baseline a patient is followed."""

    __tablename__ = "course_plan"
    __table_args__ = (
        length("rule_set", 1, 64),
        CheckConstraint("revision >= 1", name="revision"),
        CheckConstraint("length(author) >= 1", name="author"),
    )

    patient_key: Mapped[str] = mapped_column(ForeignKey("patient.id"), primary_key=True)
    treatment_start: Mapped[datetime.date | None]
    immunotherapy_start: Mapped[datetime.date | None]
    baseline_study_uid: Mapped[str | None] = mapped_column(
        ForeignKey("study.study_uid"), index=True
    )
    rule_set: Mapped[str]
    protocol: Mapped[dict[str, Any]]
    resets: Mapped[list[Any]]
    revision: Mapped[int]
    author: Mapped[str]
    updated_at: Mapped[datetime.datetime]


class CourseEventRow(Base):
    """Something that happened to a patient on a day, such as a treatment."""

    __tablename__ = "course_event"
    __table_args__ = (
        length("kind", 1, 64),
        CheckConstraint("length(author) >= 1", name="author"),
        Index("ix_course_event_patient", "patient_key", "date"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    patient_key: Mapped[str] = mapped_column(ForeignKey("patient.id"))
    date: Mapped[datetime.date]
    kind: Mapped[str]
    text: Mapped[str]
    track_id: Mapped[str | None] = mapped_column(ForeignKey("track.id"), index=True)
    author: Mapped[str]
    created_at: Mapped[datetime.datetime]


class AssessmentRow(Base):
    """A signed assessment of a visit with everything it was made from."""

    __tablename__ = "assessment"
    __table_args__ = (
        length("rule_set", 1, 64),
        length("rules_version", 1, 64),
        length("category", 1, 64),
        length("proposed_category", 1, 64),
        CheckConstraint("length(inputs_sha256) = 64", name="inputs_sha256_length"),
        CheckConstraint("length(signed_by) >= 1", name="signed_by"),
        # Of a visit and rule set there is one line of assessments, each replacing one.
        unique_where(
            "uq_assessment_first", "supersedes_id IS NULL", "study_uid", "rule_set"
        ),
        unique_where(
            "uq_assessment_successor", "supersedes_id IS NOT NULL", "supersedes_id"
        ),
        Index("ix_assessment_study", "study_uid", "signed_at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    patient_key: Mapped[str] = mapped_column(ForeignKey("patient.id"), index=True)
    study_uid: Mapped[str] = mapped_column(ForeignKey("study.study_uid"))
    rule_set: Mapped[str]
    rules_version: Mapped[str]
    proposed_category: Mapped[str]
    category: Mapped[str]
    comment: Mapped[str]
    case_json: Mapped[dict[str, Any]]
    document_json: Mapped[dict[str, Any]]
    inputs_sha256: Mapped[str] = mapped_column(String(64))
    supersedes_id: Mapped[str | None] = mapped_column(ForeignKey("assessment.id"))
    signed_by: Mapped[str]
    signed_at: Mapped[datetime.datetime]
