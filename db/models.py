"""The tables, all of them, as the modules of queries import them.

Only modules of ``db`` use these classes; everyone else gets frozen dataclasses. What
must always hold is enforced by the database itself (checks, foreign keys, partial
unique indexes); the triggers that keep audit and assessments append-only are in the
migrations. A change of a table needs a migration: a test compares both. A column that
came later stands last, where ``ALTER TABLE`` puts it.
"""

from __future__ import annotations

from db.tables_ahead import ArrivalFeedRow, ArrivalRow, OpenedStudyRow
from db.tables_archive import (
    ModelRow,
    PatientRow,
    PromotionRow,
    SeriesRow,
    StudyRow,
)
from db.tables_base import Base
from db.tables_course import (
    AssessmentRow,
    CourseEventRow,
    CoursePlanRow,
    VisitReadingRow,
)
from db.tables_followup import (
    LinkDecisionRow,
    RegistrationRow,
    TrackMemberRow,
    TrackReadingRow,
    TrackRow,
)
from db.tables_jobs import ERASED, JOB_STATES, JobRow, WorkerRow
from db.tables_legacy import HistoricalMeasurementRow, OutlineRow
from db.tables_people import ROLES, AuditRow, SessionRow, TokenRow, UserRow
from db.tables_results import LesionRow, ResultRow

__all__ = [
    "ERASED",
    "JOB_STATES",
    "ROLES",
    "ArrivalFeedRow",
    "ArrivalRow",
    "AssessmentRow",
    "AuditRow",
    "Base",
    "CourseEventRow",
    "CoursePlanRow",
    "HistoricalMeasurementRow",
    "JobRow",
    "LesionRow",
    "LinkDecisionRow",
    "ModelRow",
    "OpenedStudyRow",
    "OutlineRow",
    "PatientRow",
    "PromotionRow",
    "RegistrationRow",
    "ResultRow",
    "SeriesRow",
    "SessionRow",
    "StudyRow",
    "TokenRow",
    "TrackMemberRow",
    "TrackReadingRow",
    "TrackRow",
    "UserRow",
    "VisitReadingRow",
    "WorkerRow",
]
