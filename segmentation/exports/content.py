"""What leaves of a patient's course: the values that all writers of exports take.

Made by ``segmentation.exports.reading``, which leaves out what may not leave: what is
not in here no writer can give away. Lengths mm, volumes ml, days as CDISC counts them
(the baseline is day 1, there is no day 0). Frozen; safe between threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from segmentation.followup.case import State


@dataclass(frozen=True)
class Subject:
    """Whom it is about.

    Attributes
    ----------
    key : str
        MetIA's own key; says nothing to who has no access to MetIA.
    identified : bool
        Whether the others may be told; all are None where not.
    """

    key: str
    identified: bool
    patient_id: str | None = None
    name: str | None = None
    birth_date: date | None = None
    sex: str | None = None

    @property
    def shown_id(self) -> str:
        """The patient ID where it may be told, else the key."""
        return self.patient_id or self.key


@dataclass(frozen=True)
class Reason:
    """Why: a stable code of ``segmentation.followup.reasons`` and a sentence."""

    code: str
    text: str


@dataclass(frozen=True)
class Assessment:
    """What the criteria propose for a visit.

    Attributes
    ----------
    confirmed : bool or None
        None where nothing needs confirmation.
    alternatives : tuple of str
        Categories that the error of measurement allows; one where the answer is firm.
    """

    category: str
    category_text: str
    target: str
    non_target: str
    new_lesions: tuple[str, ...]
    confirmed: bool | None
    best_response: str | None
    reasons: tuple[Reason, ...]
    alternatives: tuple[str, ...]
    volumetric: str | None


@dataclass(frozen=True)
class Signature:
    """Who stands for a category.

    Attributes
    ----------
    at : datetime or None
        UTC; None where dates do not leave.
    stale : bool
        The inputs have changed since.
    """

    category: str
    proposed_category: str
    by: str
    at: datetime | None
    day: int | None
    comment: str
    stale: bool


@dataclass(frozen=True)
class Visit:
    """One study of the patient.

    Attributes
    ----------
    number : int
        From 1, in order of time.
    day : int or None
        1 is the day of the baseline; None where the study has no date.
    date, study_uid, series_uid, description
        None where identifiers do not leave.
    left_out : str or None
        Why the visit is not assessed.
    """

    number: int
    day: int | None
    date: date | None
    study_uid: str | None
    series_uid: str | None
    description: str | None
    result_id: str | None
    result_state: str | None
    result_origin: str | None
    is_baseline: bool
    is_nadir: bool
    pending_links: int
    left_out: str | None
    reading: Mapping[str, Any]
    sum_mm: float | None
    sum_complete: bool
    sum_volume_ml: float
    change_from_baseline_percent: float | None
    change_from_nadir_percent: float | None
    assessment: Assessment | None
    signature: Signature | None

    @property
    def signed(self) -> bool:
        """Whether a signature stands and its inputs are still the same."""
        return self.signature is not None and not self.signature.stale

    @property
    def category(self) -> str | None:
        """What holds: the signed category, else the proposed one."""
        if self.signature is not None and not self.signature.stale:
            return self.signature.category
        return self.assessment.category if self.assessment else None


@dataclass(frozen=True)
class Observation:
    """One lesion at one visit.

    Attributes
    ----------
    counts : bool
        Whether it takes part in the assessment.
    """

    visit: int
    state: str
    reason: str
    counts: bool
    lesion_id: str | None
    longest_diameter_mm: float | None
    perpendicular_diameter_mm: float | None
    volume_ml: float | None
    review: str | None
    measurable: bool | None
    measurable_reasons: tuple[str, ...]
    change_mm: float | None
    change_percent: float | None
    link_state: str | None
    relation: str | None
    certainty: str | None
    into_track_id: str | None


@dataclass(frozen=True)
class Track:
    """One lesion over time; `role` is None where it was not there at baseline."""

    id: str
    label: str
    tracking_uid: str
    role: str | None
    kind: str
    colour: tuple[int, int, int]
    split_from: str | None
    observations: tuple[Observation, ...]

    def at(self, visit: int) -> Observation | None:
        """Find what was seen at a visit."""
        return next((one for one in self.observations if one.visit == visit), None)

    @property
    def first_visit(self) -> int | None:
        """Number of the visit at which it was first seen."""
        return next((one.visit for one in self.observations if is_seen(one)), None)


@dataclass(frozen=True)
class Provenance:
    """What made the result of a visit; the model's fields are None of an import.

    Attributes
    ----------
    origin : {'model', 'reader', 'import'}
    """

    origin: str
    code_version: str
    model_name: str | None = None
    model_version: str | None = None
    model_sha256: str | None = None
    demonstration: bool = False


@dataclass(frozen=True)
class CourseContent:
    """All that leaves about one patient; visits in order of time."""

    subject: Subject
    rule_set: str
    rules_version: str
    notice: str
    visits: tuple[Visit, ...]
    tracks: tuple[Track, ...]

    def visit(self, number: int) -> Visit:
        """Give a visit by its number."""
        return self.visits[number - 1]


_NOT_SEEN = frozenset({State.ABSENT, State.NOT_ASSESSED})


def is_seen(observation: Observation) -> bool:
    """Tell whether the lesion was visible (measured, too small, merged ...)."""
    return observation.state not in _NOT_SEEN
