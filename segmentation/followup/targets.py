"""Which lesions are measurable at baseline, and which of them become targets.

Promises: the reader's choice stands; free places go to the largest measurable lesions
(longest diameter, then perpendicular, then id); everything else that is there is
non-target; each lesion gets its reasons in words. Pure.
"""

from __future__ import annotations

from segmentation.followup.case import (
    Case,
    Kind,
    Lesion,
    Observation,
    Protocol,
    Role,
    State,
    Visit,
)
from segmentation.followup.reasons import Reason, millimetres
from segmentation.followup.results import LesionRole
from segmentation.followup.rules import RuleSet
from segmentation.measurability import (
    PERPENDICULAR,
    SLICES,
    Limits,
    least_longest_tenths_mm,
    size_shortfalls,
)

_KIND_TEXT = {
    Kind.CYSTIC_ONLY: "cystic only",
    Kind.DURAL: "dural",
    Kind.BONE: "in bone",
    Kind.LEPTOMENINGEAL: "leptomeningeal",
    Kind.ILL_DEFINED: "cannot be delimited reproducibly",
}


def least_diameter(visit: Visit, protocol: Protocol, rules: RuleSet) -> int:
    """Give the least longest diameter of a measurable lesion, in tenths of a mm."""
    return least_longest_tenths_mm(
        visit.slice_distance_tenths_mm,
        thick_slice_rule=protocol.thick_slice_rule,
        small_lesions=rules.small_lesions and protocol.small_lesions_measurable,
    )


def why_not_measurable(
    lesion: Lesion, visit: Visit, protocol: Protocol, rules: RuleSet
) -> tuple[list[str], bool]:
    """Say why a lesion is not measurable at a visit.

    Returns
    -------
    reasons : list of str
        Empty for a measurable lesion.
    assumed : bool
        Something that was not recorded was taken as met.
    """
    seen = visit.observations.get(lesion.id)
    if seen is None or seen.state is not State.MEASURED:
        state = "not listed" if seen is None else seen.state.value.replace("_", " ")
        return [f"not measured at baseline ({state})"], False
    if not _has_value(seen, protocol):
        return ["radiation necrosis suspected, which by protocol has no value"], False
    assert seen.longest_tenths_mm is not None  # noqa: S101 - measured
    limits = Limits(
        least_diameter(visit, protocol, rules),
        rules.least_perpendicular_tenths_mm,
        rules.least_slices,
    )
    reasons = [_KIND_TEXT[lesion.kind]] if lesion.kind in rules.non_measurable else []
    reasons += _short_sides(seen, limits)
    if seen.touches_border:
        reasons.append("goes on outside the image")
    unknown = _not_recorded(seen, limits)
    if protocol.missing_measurability == "assume_met":
        return reasons, bool(unknown) and not reasons
    return reasons + unknown, False


def _has_value(seen: Observation, protocol: Protocol) -> bool:
    suspected = seen.radionecrosis_suspected and protocol.radionecrosis != "flag"
    return seen.state is State.MEASURED and not suspected


def _short_sides(seen: Observation, limits: Limits) -> list[str]:
    longest, across = seen.longest_tenths_mm or 0, seen.perpendicular_tenths_mm
    short = size_shortfalls(longest, across, seen.slice_count, limits)
    texts = {
        PERPENDICULAR: f"perpendicular diameter {millimetres(across or 0)} is below "
        f"{millimetres(limits.perpendicular_tenths_mm)}",
        SLICES: f"seen on {seen.slice_count} slice, {limits.slices} are needed",
    }
    of_longest = (
        f"longest diameter {millimetres(longest)} "
        f"is below {millimetres(limits.longest_tenths_mm)}"
    )
    return [texts.get(code, of_longest) for code in short]


def _not_recorded(seen: Observation, limits: Limits) -> list[str]:
    missing = []
    if limits.perpendicular_tenths_mm and seen.perpendicular_tenths_mm is None:
        missing.append("perpendicular diameter not recorded")
    if limits.slices and seen.slice_count is None:
        missing.append("number of slices not recorded")
    return missing


class TargetChoice:
    """Chooses the targets of one period.

    Attributes
    ----------
    roles : tuple of LesionRole
        In order of the case; only lesions that are there at baseline.
    reasons : tuple of Reason
        For the baseline visit.
    """

    def __init__(self, case: Case, baseline: Visit, rules: RuleSet) -> None:
        self._case, self._baseline, self._rules = case, baseline, rules
        self._notes: list[Reason] = []
        self._why: dict[str, list[str]] = {}
        self._measurable: set[str] = set()
        present = [
            lesion
            for lesion in case.lesions.values()
            if lesion.compartment in rules.compartments
            and (seen := baseline.observations.get(lesion.id)) is not None
            and (seen.visible or seen.state is State.LOCALLY_TREATED)
        ]
        for lesion in case.lesions.values():
            if lesion.role is Role.TARGET and self._is_missing(lesion, present):
                self._note("target-not-measured", lesion)
        assumed = [lesion.id for lesion in present if self._judge(lesion)]
        targets = self._choose(present)
        self._note_assumed([name for name in assumed if name in targets])
        self.roles = tuple(self._role(lesion, targets) for lesion in present)
        self.reasons = tuple(self._notes)

    def _is_missing(self, lesion: Lesion, present: list[Lesion]) -> bool:
        return lesion.compartment in self._rules.compartments and lesion not in present

    def _judge(self, lesion: Lesion) -> bool:
        reasons, assumed = why_not_measurable(
            lesion, self._baseline, self._case.protocol, self._rules
        )
        if not reasons:
            self._measurable.add(lesion.id)
        if self._treated_before(lesion):
            reasons.append("treated locally before, not known to have progressed since")
        self._why[lesion.id] = reasons
        return assumed

    def _treated_before(self, lesion: Lesion) -> bool:
        if lesion.progressed_since_treatment is not None:
            return not lesion.progressed_since_treatment
        # After the baseline was set anew, also what was treated during the study.
        return any(
            seen.treated_on is not None and seen.treated_on <= self._baseline.date
            for visit in self._case.visits
            if (seen := visit.observations.get(lesion.id)) is not None
        )

    def _choose(self, present: list[Lesion]) -> set[str]:
        limit = self._rules.targets_per_organ(self._case.protocol)
        chosen: set[str] = set()
        count: dict[str, int] = {}
        ordered = sorted(present, key=self._order)
        wanted = [lesion for lesion in ordered if lesion.role is Role.TARGET]
        free = [lesion for lesion in ordered if lesion.role is None]
        for lesion in wanted + free:
            if not self._eligible(lesion):
                continue
            if len(chosen) == self._case.protocol.max_targets:
                self._why[lesion.id].append("all places for targets are taken")
            elif count.get(lesion.organ, 0) == limit:
                self._why[lesion.id].append(f"{limit} targets of this organ are enough")
                if lesion.role is Role.TARGET:
                    self._note("target-over-organ-limit", lesion)
            else:
                chosen.add(lesion.id)
                count[lesion.organ] = count.get(lesion.organ, 0) + 1
        return chosen

    def _order(self, lesion: Lesion) -> tuple[int, int, str]:
        seen = self._baseline.observations[lesion.id]
        return (
            -(seen.longest_tenths_mm or 0),
            -(seen.perpendicular_tenths_mm or 0),
            lesion.id,
        )

    def _eligible(self, lesion: Lesion) -> bool:
        if lesion.role is not Role.TARGET:
            return not self._why[lesion.id]
        seen = self._baseline.observations[lesion.id]
        if not _has_value(seen, self._case.protocol):
            self._note("target-not-measured", lesion)
            return False
        if self._why[lesion.id]:
            self._note("target-not-measurable", lesion)
        return True

    def _role(self, lesion: Lesion, targets: set[str]) -> LesionRole:
        reasons = self._why[lesion.id]
        if lesion.role is Role.NON_TARGET:
            reasons = [*reasons, "set by the reader"]
        return LesionRole(
            lesion=lesion.id,
            role=(Role.TARGET if lesion.id in targets else Role.NON_TARGET).value,
            measurable=lesion.id in self._measurable,
            reasons=tuple(reasons),
            by_reader=lesion.role is not None,
        )

    def _note(self, code: str, lesion: Lesion) -> None:
        texts = {
            "target-over-organ-limit": "is one target too many of its organ and left "
            "out",
            "target-not-measured": "was set as a target, but is not measured at "
            "baseline and cannot be one",
            "target-not-measurable": "is a target by the reader's choice: "
            + "; ".join(self._why.get(lesion.id, [])),
        }
        self._notes.append(Reason(code, f"{lesion.id} {texts[code]}."))

    def _note_assumed(self, names: list[str]) -> None:
        if names:
            self._notes.append(
                Reason(
                    "measurability-assumed",
                    f"{', '.join(names)}: perpendicular diameter or number of slices "
                    "is not recorded and was taken as sufficient.",
                )
            )
