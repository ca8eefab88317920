"""Progression-like imaging under immunotherapy, which must be confirmed (iRANO).

Within the first months of immunotherapy, imaging that would be progression is only a
candidate as long as the patient is not worse by tumour. A later scan confirms it (then
progression is dated to the candidate) or it resolves. Visits are given in order of
date, one `Watch` a period. Pure but for the state of the watch.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from segmentation.followup.case import Case
from segmentation.followup.overall import Cause
from segmentation.followup.reasons import Reason
from segmentation.followup.visit_terms import NewLesion


@dataclass(frozen=True)
class _Candidate:
    since: date
    day: date
    kinds: frozenset[str]
    sum_tenths_mm: int
    new_tenths_mm: dict[str, int]


@dataclass(frozen=True)
class Finding:
    """What the watch says of a visit.

    Attributes
    ----------
    confirmed : bool
        Progression stands.
    since : date or None
        What it is, or would be, dated to.
    """

    confirmed: bool
    since: date | None
    reason: Reason | None = None


class Watch:
    """Follows the candidate of one period."""

    def __init__(self, case: Case) -> None:
        self._protocol = case.protocol
        self._start = case.immunotherapy_start
        self._candidate: _Candidate | None = None
        self._settled = False

    @property
    def open_since(self) -> date | None:
        """The date of an unconfirmed candidate."""
        return None if self._candidate is None else self._candidate.since

    def look(
        self,
        day: date,
        causes: Sequence[Cause],
        sum_tenths_mm: int,
        new: Sequence[NewLesion],
    ) -> Finding:
        """Judge a visit that has causes of progression."""
        certain = {lesion.lesion: lesion.tenths_mm for lesion in new if lesion.certain}
        kinds = frozenset(cause.kind for cause in causes)
        since = min(cause.since for cause in causes)
        if self._settled or not self._applies(day):
            return self._stand(since, None)
        if "clinical" in kinds:
            return self._stand(since, None)
        if self._candidate is None:
            self._candidate = _Candidate(since, day, kinds, sum_tenths_mm, certain)
            return Finding(False, since, _unconfirmed(since))
        grown = self._what_grew(kinds, sum_tenths_mm, certain)
        early = (day - self._candidate.day).days
        if grown and early >= self._protocol.immunotherapy_confirmation_days:
            first = self._candidate.since
            text = f"Confirmed: {grown}. Progression is dated to the first such scan"
            reason = Reason("immunotherapy-confirmed", f"{text}, {first}.")
            return self._stand(first, reason)
        return Finding(
            False, self._candidate.since, _unconfirmed(self._candidate.since)
        )

    def resolve(self) -> Reason | None:
        """Note a visit with evaluable imaging and without causes of progression."""
        if self._candidate is None:
            return None
        since, self._candidate = self._candidate.since, None
        return Reason(
            "immunotherapy-resolved",
            f"The progression-like imaging of {since} is not confirmed.",
        )

    def _stand(self, since: date, reason: Reason | None) -> Finding:
        if self._candidate is not None:
            since = min(since, self._candidate.since)
        self._candidate, self._settled = None, True
        return Finding(True, since, reason)

    def _applies(self, day: date) -> bool:
        if self._start is None or day < self._start:
            return False
        if self._candidate is not None:
            return True
        months = self._protocol.immunotherapy_window_months
        return day <= months_after(self._start, months)

    def _what_grew(
        self, kinds: frozenset[str], sum_tenths_mm: int, new: dict[str, int]
    ) -> str:
        """Say in which way there is more than at the candidate; empty for none."""
        candidate = self._candidate
        assert candidate is not None  # noqa: S101 - asked only with one
        if self._protocol.immunotherapy_confirmation == "persistence":
            return "progression-like imaging is still there"
        least = self._protocol.immunotherapy_growth_tenths_mm
        if set(new) - set(candidate.new_tenths_mm):
            return "there are more new lesions"
        grown = sum(new.values()) - sum(candidate.new_tenths_mm[name] for name in new)
        if grown >= least:
            return "new lesions are bigger"
        if "target" in kinds and sum_tenths_mm - candidate.sum_tenths_mm >= least:
            return "the target lesions are bigger"
        if "non_target" in kinds:
            return "the reader sees unequivocal non-target progression again"
        if kinds - candidate.kinds:
            return "there is progression of another kind as well"
        return ""


def months_after(day: date, months: int) -> date:
    """Give the same day some calendar months later, or the month's last day."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if year > date.max.year:
        return date.max
    last = calendar.monthrange(year, month + 1)[1]
    return date(year, month + 1, min(day.day, last))


def _unconfirmed(since: date) -> Reason:
    return Reason(
        "immunotherapy-unconfirmed",
        f"Progression-like imaging under immunotherapy, first seen {since}: not "
        "confirmed; scan again (in about three months).",
    )
