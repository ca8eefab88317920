"""An assessment in lines of text, for a terminal.

One block a visit: the category, the numbers, the reasons in words with their codes, and
what the error of measurement leaves open. The same facts as ``document``. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from segmentation.followup.document import percent
from segmentation.followup.reasons import millimetres
from segmentation.followup.results import (
    Assessment,
    Category,
    Confirmation,
    Numbers,
    Period,
    VisitAssessment,
)
from settings import RESEARCH_NOTICE

CATEGORY_WORDS = {
    Category.CR: "CR, complete response",
    Category.PR: "PR, partial response",
    Category.SD: "SD, stable disease",
    Category.PD: "PD, progressive disease",
    Category.NE: "NE, not evaluable",
    Category.NON_CR_NON_PD: "non-CR/non-PD",
    Category.NED: "no evidence of disease",
    Category.INDETERMINATE: "indeterminate: a person decides",
    Category.BASELINE: "baseline",
    Category.NOT_APPLICABLE: "not assessed",
}


def assessment_text(assessment: Assessment, title: str) -> str:
    """Write an assessment for people."""
    return "\n".join(_lines(assessment, title)) + "\n"


def _lines(assessment: Assessment, title: str) -> Iterator[str]:
    yield f"{title} (rules version {assessment.rule_version}), case {assessment.case}"
    yield RESEARCH_NOTICE + " Proposed; a reader decides."
    starts = {period.baseline: period for period in assessment.periods}
    for visit in assessment.visits:
        yield ""
        yield from _visit(visit)
        if visit.visit in starts:
            yield from _lesions(starts[visit.visit])
    for period in assessment.periods:
        yield ""
        yield from _summary(period)


def _visit(visit: VisitAssessment) -> Iterator[str]:
    standing = ""
    if visit.confirmation is not Confirmation.NOT_REQUIRED:
        standing = f", {visit.confirmation.value}"
    since = f", since {visit.since}" if visit.since else ""
    words = CATEGORY_WORDS[visit.category]
    yield f"{visit.visit}  {visit.date}  {words}{standing}{since}"
    if visit.numbers is not None:
        yield from _numbers(visit.numbers)
    for reason in visit.reasons:
        yield f"    - {reason.text} [{reason.code}]"
    band = visit.band
    if band is not None and not band.firm:
        names = " or ".join(category.value for category in band.overall)
        yield (
            f"    ~ within the error of measurement (sum "
            f"+/- {millimetres(band.half_width_tenths_mm)}): {names}"
        )
    volume = visit.volumetric
    if volume is not None and volume.category != "baseline":
        growth = "; grown like a sphere by 20 % of diameter"
        yield (
            f"    by volume (beside the criteria): {volume.category}"
            f"{growth if volume.sphere_equivalent_growth else ''}"
        )


def _numbers(numbers: Numbers) -> Iterator[str]:
    total = millimetres(numbers.sum_tenths_mm)
    if not numbers.complete:
        total = f"at least {total}"
    parts = [f"sum {total}"]
    for name, reference, change in (
        ("baseline", numbers.baseline_tenths_mm, numbers.versus_baseline),
        (
            f"nadir ({numbers.nadir_visit})",
            numbers.nadir_tenths_mm,
            numbers.versus_nadir,
        ),
    ):
        words = percent(change)
        parts.append(f"{name} {millimetres(reference)}{f' ({words})' if words else ''}")
    yield "    " + "; ".join(parts)
    values = []
    for value in numbers.values:
        size = "?" if value.tenths_mm is None else millimetres(value.tenths_mm)
        mark = "*" if value.by_default else ""
        values.append(f"{'+'.join(value.lesions)} {size}{mark}")
    yield "    " + ", ".join(values)


def _lesions(period: Period) -> Iterator[str]:
    for role in period.roles:
        why = f": {'; '.join(role.reasons)}" if role.reasons else ""
        name = "target" if role.role == "target" else "non-target"
        yield f"    {role.lesion} {name}{why}"


def _summary(period: Period) -> Iterator[str]:
    best = period.best.value if period.best else "none yet"
    since = f" (since {period.best_since})" if period.best_since else ""
    yield f"From {period.baseline} on: best response {best}{since}"
    if period.best_unconfirmed is not period.best and period.best_unconfirmed:
        yield f"    with unconfirmed responses: {period.best_unconfirmed.value}"
    if period.progression is not None:
        yield (
            f"    progression on {period.progression.date}, declared at "
            f"{period.progression.declared_at}"
        )
    elif period.unconfirmed_progression is not None:
        yield f"    progression of {period.unconfirmed_progression} not confirmed yet"
    else:
        yield "    no progression"
    if period.extracranial_progression is not None:
        yield f"    outside the brain: progression on {period.extracranial_progression}"
