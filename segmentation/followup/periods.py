"""Where a comparison begins: the baseline, and the visits at which it starts anew.

Cuts the visits of a case into periods, each beginning with its baseline, and says what
is to be said about the choice. Pure.
"""

from __future__ import annotations

from datetime import date

from segmentation.followup.case import Case, Visit
from segmentation.followup.reasons import Reason


def baseline_of(case: Case) -> Visit:
    """Find the first baseline: designated, else by the start of treatment."""
    if case.baseline is not None:
        return next(visit for visit in case.visits if visit.id == case.baseline)
    if case.treatment_start is None:
        return case.visits[0]
    before = [visit for visit in case.visits if visit.date <= case.treatment_start]
    return before[-1] if before else case.visits[0]


def periods_of(case: Case) -> list[tuple[list[Visit], list[Reason]]]:
    """Cut the visits at the baseline and at its re-settings."""
    by_id = {visit.id: visit for visit in case.visits}
    notes: list[Reason] = []
    start = case.treatment_start
    baseline = baseline_of(case)
    if start is not None:
        notes = _timing_notes(case, baseline, start)
    reasons = {baseline.date: notes}
    for reset in case.resets:
        text = f"The comparison starts anew at {reset.visit}: {reset.reason}"
        reasons[by_id[reset.visit].date] = [Reason("baseline-reset", text)]
    days = sorted(reasons)
    ends = [*days[1:], None]
    return [
        (
            [v for v in case.visits if v.date >= day and (not end or v.date < end)],
            reasons[day],
        )
        for day, end in zip(days, ends, strict=True)
    ]


def _timing_notes(case: Case, baseline: Visit, start: date) -> list[Reason]:
    if baseline.date > start:
        text = "The baseline lies after the start of treatment."
        return [Reason("baseline-after-treatment-start", text)]
    days, most = (start - baseline.date).days, case.protocol.baseline_max_days
    if days > most:
        text = f"The baseline is {days} days before treatment; {most} are allowed."
        return [Reason("baseline-too-old", text)]
    return []
