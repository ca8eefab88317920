"""The response of the target lesions, in integers, with its reasons and its band.

The order is fixed: not evaluable unless the assessed lesions prove progression;
complete response; progression (20 % above nadir and the 5 mm rule of the rule set);
partial response (30 % below baseline); stable. `Comparison` says what is compared,
`category_of` decides, and the same function decides for the uncertainty band and for
"what if". Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isqrt

from segmentation.followup.case import Protocol
from segmentation.followup.reasons import Reason, millimetres
from segmentation.followup.results import Category, LesionValue, Numbers
from segmentation.followup.rules import (
    LEAST_GROWTH_TENTHS_MM,
    MEASURABLE_TENTHS_MM,
    PROGRESSION,
    RESPONSE,
    RuleSet,
    reaches,
    within,
)
from segmentation.followup.sums import Sum, groups


@dataclass(frozen=True)
class Comparison:
    """All that the response of target lesions hangs on.

    Attributes
    ----------
    known, baseline, nadir : int
        Sums; `known` is a lower bound unless `complete`.
    growth : int
        What the 5 mm rule looks at: the most any lesion grew, or the sum.
    """

    known: int
    complete: bool
    baseline: int
    nadir: int
    growth: int


def category_of(facts: Comparison) -> Category:
    """Decide, in the order of the criteria."""
    progressed = (
        reaches(facts.known, PROGRESSION, facts.nadir)
        and facts.growth >= LEAST_GROWTH_TENTHS_MM
    )
    if not facts.complete:
        return Category.PD if progressed else Category.NE
    if facts.known == 0:
        return Category.CR
    if progressed:
        return Category.PD
    if within(facts.known, RESPONSE, facts.baseline):
        return Category.PR
    return Category.SD


class TargetResponse:
    """The target lesions of one visit against baseline and nadir.

    Parameters
    ----------
    history : sequence of Sum
        Baseline first, then every visit before this one.
    """

    def __init__(
        self,
        now: Sum,
        history: Sequence[Sum],
        protocol: Protocol,
        rules: RuleSet,
    ) -> None:
        self.now, self.baseline = now, history[0]
        self._history, self._protocol, self._rules = history, protocol, rules
        # The earliest of equal sums; the baseline is always complete.
        self.nadir = min(
            (entry for entry in history if entry.complete),
            key=lambda entry: entry.tenths_mm,
        )
        self.facts = self._compare(now)
        self.category = category_of(self.facts)

    def _compare(self, now: Sum) -> Comparison:
        return Comparison(
            known=now.tenths_mm,
            complete=now.complete,
            baseline=self.baseline.tenths_mm,
            nadir=self.nadir.tenths_mm,
            growth=self._growth(now),
        )

    def _growth(self, now: Sum) -> int:
        if self._rules.growth_of == "sum":
            return now.tenths_mm - self.nadir.tenths_mm
        defaults = self._protocol.default_value_counts_as_growth
        return max(
            now.known_of(group, defaults=defaults) - reference
            for group in groups(now, self.nadir)
            if (reference := self._reference(group)) is not None
        )

    def _reference(self, group: tuple[str, ...]) -> int | None:
        if self._protocol.lesion_growth_reference == "own_minimum":
            return self._smallest(group)
        return self.nadir.value_of(group)

    def _smallest(self, group: tuple[str, ...]) -> int:
        values = [entry.value_of(group) for entry in self._history]
        return min(value for value in values if value is not None)

    def numbers(self) -> Numbers:
        """Give the sums and the value of each target."""
        return Numbers(
            sum_tenths_mm=self.facts.known,
            complete=self.facts.complete,
            baseline_tenths_mm=self.facts.baseline,
            nadir_tenths_mm=self.facts.nadir,
            nadir_visit=self.nadir.visit.id,
            values=tuple(self._value(g) for g in groups(self.now, self.nadir)),
        )

    def _value(self, group: tuple[str, ...]) -> LesionValue:
        leaves = self.now.leaves_of(group)
        problems = [leaf.problem.text for leaf in leaves if leaf.problem]
        baseline = self.baseline.value_of(group)
        assert baseline is not None  # noqa: S101 - targets are measured at baseline
        return LesionValue(
            lesions=group,
            tenths_mm=self.now.value_of(group),
            by_default=any(leaf.by_default for leaf in leaves),
            baseline_tenths_mm=baseline,
            nadir_tenths_mm=self.nadir.value_of(group),
            smallest_tenths_mm=self._smallest(group),
            problem=" ".join(problems),
        )

    def reasons(self) -> list[Reason]:
        """Explain the category; the deciding step first."""
        facts = self.facts
        found = [self._main_reason()]
        crossed = reaches(facts.known, PROGRESSION, facts.nadir) and facts.known > 0
        grown = facts.growth >= LEAST_GROWTH_TENTHS_MM
        if crossed and facts.nadir > 0 and not grown and facts.complete:
            found.append(self._five_mm_reason())
        if self.category is Category.PD and facts.known < facts.baseline:
            found.append(
                Reason(
                    "below-baseline",
                    f"The sum is below baseline ({millimetres(facts.baseline)}), "
                    "but progression is counted from the nadir.",
                )
            )
        found += [leaf.problem for leaf in self.now.leaves.values() if leaf.problem]
        return found + self._flags()

    def _five_mm_reason(self) -> Reason:
        what = "no lesion" if self._rules.growth_of == "lesion" else "not the sum"
        return Reason(
            "five-mm-rule",
            f"The sum is at least 20 % above nadir, but {what} grew by 5.0 mm or more "
            f"(most: {millimetres(self.facts.growth)}).",
        )

    def _main_reason(self) -> Reason:
        facts = self.facts
        total = millimetres(facts.known)
        base, nadir = millimetres(facts.baseline), millimetres(facts.nadir)
        nadir = f"nadir {nadir} of {self.nadir.visit.id}"
        match self.category:
            case Category.CR:
                return Reason("target-cr", "All target lesions are gone (sum 0.0 mm).")
            case Category.PD:
                part = "" if facts.complete else " already without the missing ones"
                return Reason(
                    "target-pd",
                    f"The sum of longest diameters, {total}{part}, is at least 20 % "
                    f"above the {nadir}, and "
                    f"{'a lesion' if self._rules.growth_of == 'lesion' else 'the sum'} "
                    f"grew by {millimetres(facts.growth)} (5.0 mm are needed).",
                )
            case Category.PR:
                return Reason(
                    "target-pr",
                    f"The sum of longest diameters, {total}, is at least 30 % below "
                    f"the baseline of {base}.",
                )
            case Category.NE:
                return Reason(
                    "target-ne",
                    f"The lesions with a value add up to {total}, which does not "
                    f"prove progression from the {nadir}; others have no value.",
                )
            case _:
                return Reason(
                    "target-sd",
                    f"The sum of longest diameters, {total}, is neither 30 % below "
                    f"the baseline of {base} nor progression from the {nadir}.",
                )

    def _flags(self) -> list[Reason]:
        found: list[Reason] = []
        defaults = [leaf.lesion for leaf in self.now.leaves.values() if leaf.by_default]
        if defaults:
            value = millimetres(self._protocol.too_small_value_tenths_mm)
            found.append(
                Reason(
                    "default-value",
                    f"{', '.join(defaults)}: too small to measure, counted as {value}.",
                )
            )
            if self._differs_with(1) or self._differs_with(MEASURABLE_TENTHS_MM - 1):
                found.append(
                    Reason(
                        "driven-by-default",
                        "With another value below 10 mm in place of the default, "
                        "the target response would be another.",
                    )
                )
        return found + self._necrosis_flags() + self._shape_flags()

    def _differs_with(self, tenths_mm: int) -> bool:
        other = self._compare(self.now.with_defaults(tenths_mm))
        return category_of(other) is not self.category

    def _necrosis_flags(self) -> list[Reason]:
        suspects = [leaf.lesion for leaf in self.now.leaves.values() if leaf.necrosis]
        suspects = [name for name in suspects if not self.now.leaves[name].problem]
        if not suspects:
            return []
        found = [
            Reason(
                "radionecrosis",
                f"{', '.join(suspects)}: radiation necrosis is suspected; adjudicate.",
            )
        ]
        if self.category is Category.PD:
            without = self._compare(self.now.without_necrosis())
            if category_of(without) is not Category.PD:
                found.append(
                    Reason(
                        "radionecrosis-decides",
                        "Without the lesion suspected of radiation necrosis this "
                        "would not be progression.",
                    )
                )
        return found

    def _shape_flags(self) -> list[Reason]:
        found: list[Reason] = []
        for group in groups(self.now, self.now):
            names = [leaf.lesion for leaf in self.now.leaves_of(group)]
            if len(group) > 1:
                found.append(
                    Reason(
                        "merge",
                        f"{' and '.join(group)} have fused; they are compared "
                        "together.",
                    )
                )
            if len(names) > 1:
                found.append(
                    Reason("split", f"{' + '.join(names)} are added for {group[0]}.")
                )
        back = [
            group
            for group in groups(self.now, self.now)
            if (self.now.value_of(group) or 0) > 0 and self._was_gone(group)
        ]
        found += [
            Reason("reappeared", f"{', '.join(group)} had been gone and is back.")
            for group in back
        ]
        return found

    def _was_gone(self, group: tuple[str, ...]) -> bool:
        before = [entry.value_of(group) for entry in self._history]
        assessed = [value for value in before if value is not None]
        return assessed[-1] == 0

    def band(self) -> tuple[list[Category], int]:
        """Give the categories within the error of measurement.

        Returns
        -------
        categories : list of Category
            Worst last; only this one where the targets are gone or not evaluable.
        half_width : int
            Of the sum, in tenths of a millimetre.
        """
        sd, count = self._protocol.measurement_sd_tenths_mm, len(self._measured())
        if not count or not self.facts.complete:
            return [self.category], 0
        # Two standard deviations of a difference, rounded up: 2 sd sqrt(2 n).
        width, single = _ceil_sqrt(8 * sd * sd * count), _ceil_sqrt(8 * sd * sd)
        if self._rules.growth_of == "sum":
            single = width
        found = set()
        for shift in range(-width, width + 1):
            known = max(self.facts.known + shift, 1)
            for growth in (-single, 0, single):
                moved = replace(
                    self.facts, known=known, growth=self.facts.growth + growth
                )
                found.add(category_of(moved))
        order = [Category.PR, Category.SD, Category.PD]
        return [category for category in order if category in found], width

    def _measured(self) -> list[str]:
        return [
            leaf.lesion
            for leaf in self.now.leaves.values()
            if (leaf.tenths_mm or 0) > 0
        ]

    def margins(self) -> tuple[Fraction, Fraction]:
        """Give how far the sum is from 120 % of nadir and from 70 % of baseline."""
        return (
            Fraction(*PROGRESSION) * self.facts.nadir - self.facts.known,
            self.facts.known - Fraction(*RESPONSE) * self.facts.baseline,
        )


def _ceil_sqrt(value: int) -> int:
    root = isqrt(value)
    return root if root * root == value else root + 1
