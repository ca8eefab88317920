"""What an assessment says: plain frozen data, one entry a visit.

Numbers are exact: sums in integer tenths of a millimetre, changes as fractions. Nothing
here computes; ``document`` and ``text`` put it into words. Pure.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from segmentation.followup.reasons import Reason


class Category(StrEnum):
    """A response, for the target lesions or for the patient."""

    CR = "CR"
    PR = "PR"
    SD = "SD"
    PD = "PD"
    NE = "NE"
    """Not evaluable."""
    NON_CR_NON_PD = "NON_CR_NON_PD"
    """Where there is no target."""
    NED = "NED"
    """No disease at baseline, and none since."""
    INDETERMINATE = "INDETERMINATE"
    """Fits no column of the table: a person decides."""
    BASELINE = "BASELINE"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    """No target, or a visit before baseline."""


class Confirmation(StrEnum):
    """Whether a category stands, as far as is known from all visits together."""

    CONFIRMED = "confirmed"
    UNCONFIRMED = "unconfirmed"
    NOT_REQUIRED = "not_required"


@dataclass(frozen=True)
class LesionRole:
    """What a lesion counts as in one period, and why."""

    lesion: str
    role: str
    measurable: bool
    reasons: tuple[str, ...]
    """Why it is not measurable, or not a target; sentences."""
    by_reader: bool = False


@dataclass(frozen=True)
class LesionValue:
    """A target (or targets fused into one) at a visit.

    Attributes
    ----------
    tenths_mm : int or None
        None: no value; `problem` says why.
    nadir_tenths_mm, smallest_tenths_mm : int or None
        At the visit of the nadir, and the smallest at any visit before this one.
    """

    lesions: tuple[str, ...]
    tenths_mm: int | None
    by_default: bool
    baseline_tenths_mm: int
    nadir_tenths_mm: int | None
    smallest_tenths_mm: int | None
    problem: str = ""


@dataclass(frozen=True)
class Numbers:
    """The sums of one visit.

    Attributes
    ----------
    sum_tenths_mm : int
        Of the targets that have a value.
    complete : bool
        Whether all have one.
    """

    sum_tenths_mm: int
    complete: bool
    baseline_tenths_mm: int
    nadir_tenths_mm: int
    nadir_visit: str
    values: tuple[LesionValue, ...] = ()

    @property
    def versus_baseline(self) -> Fraction | None:
        """Change against baseline, as a fraction of it."""
        return self._change(self.baseline_tenths_mm)

    @property
    def versus_nadir(self) -> Fraction | None:
        """Change against the nadir, as a fraction of it."""
        return self._change(self.nadir_tenths_mm)

    def _change(self, reference: int) -> Fraction | None:
        if not self.complete or reference == 0:
            return None
        return Fraction(self.sum_tenths_mm - reference, reference)


@dataclass(frozen=True)
class Band:
    """Which categories the error of measurement allows.

    Attributes
    ----------
    half_width_tenths_mm : int
        Two standard deviations of a difference of two sums.
    to_progression_tenths_mm, to_response_tenths_mm : Fraction or None
        How far the sum is from the limit: negative below it.
    """

    target: tuple[Category, ...]
    overall: tuple[Category, ...]
    half_width_tenths_mm: int
    to_progression_tenths_mm: Fraction | None
    to_response_tenths_mm: Fraction | None

    @property
    def firm(self) -> bool:
        """Whether only one category is possible."""
        return len(self.overall) <= 1


@dataclass(frozen=True)
class Volumetric:
    """The reading by volume, beside the criteria and never part of them."""

    sum_tenths_mm3: int
    baseline_tenths_mm3: int
    nadir_tenths_mm3: int
    category: str
    sphere_equivalent_growth: bool


@dataclass(frozen=True)
class VisitAssessment:
    """What the rules say of one visit.

    Attributes
    ----------
    since : date or None
        For a response or progression: the date it counts from.
    confirmed_by : str or None
        The visit that confirmed it.
    flags : tuple of str
        Codes of the reasons a person should look at.
    """

    visit: str
    date: datetime.date
    category: Category
    target: Category
    non_target: str
    confirmation: Confirmation
    reasons: tuple[Reason, ...]
    flags: tuple[str, ...] = ()
    numbers: Numbers | None = None
    band: Band | None = None
    volumetric: Volumetric | None = None
    since: datetime.date | None = None
    confirmed_by: str | None = None
    extracranial_response: str = "not_recorded"
    new_lesions: tuple[str, ...] = ()
    """Known at this visit and not gone again, certain or not."""


@dataclass(frozen=True)
class Progression:
    """When disease progressed."""

    date: datetime.date
    declared_at: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Period:
    """From one baseline to the next, or to the end.

    Attributes
    ----------
    best : Category or None
        None where there is no visit after baseline.
    best_unconfirmed : Category or None
        The same, with unconfirmed responses counted.
    """

    baseline: str
    roles: tuple[LesionRole, ...]
    baseline_sum_tenths_mm: int
    best: Category | None
    best_unconfirmed: Category | None
    best_since: datetime.date | None
    progression: Progression | None
    unconfirmed_progression: datetime.date | None
    extracranial_progression: datetime.date | None

    @property
    def targets(self) -> tuple[str, ...]:
        """Ids of the target lesions."""
        return tuple(role.lesion for role in self.roles if role.role == "target")


@dataclass(frozen=True)
class Assessment:
    """Everything: the visits in order of date, and the periods."""

    case: str
    rule_set: str
    rule_version: str
    visits: tuple[VisitAssessment, ...]
    periods: tuple[Period, ...] = field(default=())

    def visit(self, visit_id: str) -> VisitAssessment:
        """Find the answer for a visit."""
        return next(answer for answer in self.visits if answer.visit == visit_id)
