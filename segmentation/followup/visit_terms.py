"""Everything about a visit that is not a target lesion: what only a reader can say.

Non-target disease, new lesions, relapse after complete response, steroids and clinical
status, each reduced to what the table of responses asks, with its reasons. Progression
of non-target disease and the certainty of new lesions are taken from the reader and
never derived from measurements. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from segmentation.followup.case import (
    Case,
    Certainty,
    Clinical,
    NonTarget,
    State,
    SteroidChange,
    Steroids,
    SteroidUse,
    Visit,
)
from segmentation.followup.reasons import Reason, millimetres
from segmentation.followup.results import LesionRole
from segmentation.followup.rules import RuleSet
from segmentation.followup.sums import Readings


@dataclass(frozen=True)
class NewLesion:
    """A lesion that was not there at baseline, as known at a visit.

    Attributes
    ----------
    since : date
        First seen, without having been gone in between.
    tenths_mm : int
        At this visit, or when last seen; 0 where never measured.
    """

    lesion: str
    certain: bool
    since: date
    tenths_mm: int
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class NonTargetState:
    """Non-target disease at a visit."""

    status: NonTarget
    reasons: tuple[Reason, ...] = ()

    @property
    def gone(self) -> bool:
        """Whether it does not stand against a complete response."""
        return self.status in (NonTarget.NONE, NonTarget.COMPLETE_RESPONSE)


class VisitTerms:
    """Reads what is not about targets, for the visits of one period."""

    def __init__(
        self,
        case: Case,
        baseline: Visit,
        roles: Sequence[LesionRole],
        rules: RuleSet,
    ) -> None:
        self._case, self._baseline, self._rules = case, baseline, rules
        self._readings = Readings(case, baseline)
        self._targets = {role.lesion for role in roles if role.role == "target"}
        self._non_targets = [r.lesion for r in roles if r.role == "non_target"]
        self._known = self._targets | set(self._non_targets)

    # -- non-target ------------------------------------------------------------

    def non_target(self, visit: Visit) -> NonTargetState:
        """Give the state of non-target disease: the reader's, else derived."""
        states = [self._presence(name, visit) for name in self._non_targets]
        visible = [n for n, s in zip(self._non_targets, states, strict=True) if s]
        if visit.non_target is None:
            return self._derived(visible, unknown=None in states)
        stated = visit.non_target
        says_gone = stated in (NonTarget.NONE, NonTarget.COMPLETE_RESPONSE)
        if says_gone and visible:
            text = f"The reader says non-target disease is gone, but {visible[0]} is "
            text += "recorded as visible; it counts as still there."
            return NonTargetState(
                NonTarget.NEITHER, (Reason("non-target-contradiction", text),)
            )
        return NonTargetState(stated)

    def _derived(self, visible: list[str], *, unknown: bool) -> NonTargetState:
        if not self._non_targets:
            return NonTargetState(NonTarget.NONE)
        if visible:
            status, text = NonTarget.NEITHER, f"{', '.join(visible)} still visible"
        elif unknown:
            text = "not every non-target lesion was assessed"
            return NonTargetState(
                NonTarget.NOT_ASSESSED,
                (Reason("non-target-not-assessed", f"Here {text}."),),
            )
        else:
            status, text = NonTarget.COMPLETE_RESPONSE, "all non-target lesions gone"
        reason = Reason(
            "non-target-derived",
            f"The reader gave no non-target state; from the lesions: {text}.",
        )
        return NonTargetState(status, (reason,))

    def _presence(self, lesion: str, visit: Visit) -> bool | None:
        """Whether a lesion is there; None where that is unknown."""
        found: bool | None = False
        for name in sorted(self._readings.leaves(lesion, visit)):
            if name in self._targets:
                continue  # Fused into a target, where it is counted.
            seen = self._readings.observation(name, visit)
            if seen is not None and seen.visible:
                return True
            if seen is None or seen.state is not State.ABSENT:
                found = None
        return found

    def fused_with_target(self, visit: Visit) -> list[str]:
        """Give the non-target lesions that a target has taken in."""
        carriers: set[str] = set()
        for target in self._targets:
            carriers |= self._readings.leaves(target, visit)
        return [
            name
            for name in self._non_targets
            if self._readings.leaves(name, visit) & carriers
        ]

    # -- new lesions -------------------------------------------------------------

    def new_lesions(self, visit: Visit) -> list[NewLesion]:
        """Give the new lesions known at a visit and not gone again."""
        found = []
        for lesion in self._case.lesions.values():
            if lesion.compartment not in self._rules.compartments:
                continue
            if lesion.id in self._known or self._is_part_of_known(lesion.id, visit):
                continue
            state = self._follow(lesion.id, visit)
            if state is not None:
                found.append(state)
        return found

    def _is_part_of_known(self, lesion: str, visit: Visit) -> bool:
        """Whether it is a fragment, or the fusion, of lesions of the baseline."""
        parent = self._case.lesions[lesion].split_from
        while parent is not None:
            if parent in self._known:
                return True
            parent = self._case.lesions[parent].split_from
        return any(
            observation.into == lesion
            and (
                observation.lesion in self._known
                or self._is_fragment_of_known(observation.lesion)
            )
            for other in self._case.visits
            if self._baseline.date < other.date <= visit.date
            for observation in other.observations.values()
        )

    def _is_fragment_of_known(self, lesion: str) -> bool:
        parent = self._case.lesions[lesion].split_from
        while parent is not None:
            if parent in self._known:
                return True
            parent = self._case.lesions[parent].split_from
        return False

    def _follow(self, lesion: str, until: Visit) -> NewLesion | None:
        """Follow one new lesion from baseline to a visit."""
        since: date | None = None
        certainty: Certainty | None = None
        tenths_mm, projections = 0, 0
        for visit in self._case.visits:
            seen = visit.observations.get(lesion)
            if seen is None or not self._baseline.date < visit.date <= until.date:
                continue
            if seen.state is State.ABSENT or seen.certainty is Certainty.NOT_TUMOUR:
                since, certainty, projections = None, None, 0
            elif seen.visible or seen.state is State.LOCALLY_TREATED:
                since = since or visit.date
                certainty = seen.certainty or certainty
                projections = max(projections, seen.projections or 0)
                tenths_mm = seen.longest_tenths_mm or tenths_mm
        if since is None:
            return None
        one_only = certainty is Certainty.UNEQUIVOCAL and projections == 1
        certain = certainty is Certainty.UNEQUIVOCAL and not one_only
        reasons = self._new_reasons(lesion, certain, certainty, one_only, tenths_mm)
        return NewLesion(lesion, certain, since, tenths_mm, reasons)

    def _new_reasons(
        self,
        lesion: str,
        certain: bool,
        certainty: Certainty | None,
        one_only: bool,
        tenths_mm: int,
    ) -> tuple[Reason, ...]:
        size = f" ({millimetres(tenths_mm)})" if tenths_mm else ""
        if certain:
            found = [Reason("new-lesion", f"{lesion}{size} is new and unequivocal.")]
        else:
            found = [
                Reason(
                    "new-lesion-equivocal",
                    f"{lesion}{size} may be new: scan again before deciding.",
                )
            ]
        if certainty is None:
            found.append(
                Reason(
                    "new-lesion-certainty-missing",
                    f"Nobody has said whether {lesion} is certainly new; it counts as "
                    "equivocal.",
                )
            )
        if one_only:
            found.append(
                Reason(
                    "new-lesion-one-projection",
                    f"{lesion} is seen in one projection only; two are needed.",
                )
            )
        at_baseline = self._baseline.observations.get(lesion)
        if at_baseline is not None and at_baseline.state is State.NOT_ASSESSED:
            found.append(
                Reason(
                    "new-lesion-baseline-unknown",
                    f"{lesion} was not assessed at baseline and may have been there.",
                )
            )
        return tuple(found)

    # -- relapse -------------------------------------------------------------------

    def relapse(self, visit: Visit) -> tuple[Reason | None, Reason | None]:
        """Look for baseline lesions that are back after a complete response.

        Returns
        -------
        certain, doubtful : Reason or None
            Relapse; and something small of which the reader has not said what it is.
        """
        certain = doubtful = None
        limit = self._case.protocol.relapse_tenths_mm
        for name in self._names_at_old_sites(visit):
            seen = self._readings.observation(name, visit)
            if seen is None or not seen.visible or seen.reappearance == "not_tumour":
                continue
            size = seen.longest_tenths_mm or 0
            text = millimetres(size) if size else "too small to measure"
            if size >= limit or seen.reappearance == "tumour":
                certain = certain or Reason(
                    "relapse",
                    f"{name} is back ({text}) after a confirmed complete response.",
                )
            else:
                doubtful = doubtful or Reason(
                    "relapse-below-threshold",
                    f"{name} ({text}) is at an old site after a confirmed complete "
                    f"response, below {millimetres(limit)}: the reader decides.",
                )
        return certain, doubtful

    def _names_at_old_sites(self, visit: Visit) -> list[str]:
        names: set[str] = set()
        for lesion in self._known:
            names |= self._readings.leaves(lesion, visit)
        return sorted(names)

    # -- patient -------------------------------------------------------------------

    def steroid_change(self, visit: Visit, previous: Visit) -> SteroidChange:
        """Give the change of steroids: the reader's, else from the doses."""
        now = visit.steroids
        if now.change is not None:
            return now.change
        if self._case.protocol.steroid_reference == "previous_visit":
            before = previous.steroids
        else:
            before = self._baseline.steroids
        dose, reference = _dose(now), _dose(before)
        if dose == reference and dose is not None:
            return SteroidChange.STABLE
        if dose == 0:  # Whatever it was before, it was not less.
            return SteroidChange.DECREASED if reference else SteroidChange.STABLE
        if dose is None and reference == 0 and now.use is SteroidUse.PHARMACOLOGICAL:
            return SteroidChange.INCREASED  # However much it is, it was none.
        if dose is None or reference is None:
            return SteroidChange.NOT_RECORDED
        return SteroidChange.INCREASED if dose > reference else SteroidChange.DECREASED

    def steroid_free(self, visit: Visit) -> bool:
        """Whether steroids do not stand against a complete response."""
        use = visit.steroids.use
        allowed = self._case.protocol.cr_allows_physiological_steroids
        if use is SteroidUse.NONE:
            return not visit.steroids.dose_tenths_mg  # A dose contradicts "none".
        return allowed and use is SteroidUse.PHYSIOLOGICAL

    @staticmethod
    def clinical_reasons(visit: Visit) -> list[Reason]:
        """Explain the clinical status where it matters."""
        if visit.clinical is Clinical.WORSE_TUMOUR:
            return [
                Reason("clinical-worse", "The patient is clinically worse, by tumour.")
            ]
        if visit.clinical is Clinical.NOT_RECORDED:
            return [
                Reason("clinical-not-recorded", "The clinical status is not recorded.")
            ]
        return []


def _dose(steroids: Steroids) -> int | None:
    """Give a comparable dose; replacement counts as none."""
    if steroids.use is SteroidUse.PHYSIOLOGICAL:
        return 0
    if steroids.use is SteroidUse.NONE:
        return steroids.dose_tenths_mg or 0
    return steroids.dose_tenths_mg
