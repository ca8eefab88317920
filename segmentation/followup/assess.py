"""The engine: from a case and a rule set to an assessment of every visit.

Goes through the visits in order of date, whatever order they came in, and computes
everything from the raw readings each time; keeps nothing. The same engine serves every
rule set. Pure and deterministic: equal cases give equal answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from segmentation.followup.case import Case, SteroidUse, Visit
from segmentation.followup.confirmation import (
    Dated,
    best_response,
    complete_response_confirmed,
    held,
)
from segmentation.followup.immunotherapy import Watch
from segmentation.followup.overall import Decision, Terms, decide
from segmentation.followup.periods import periods_of
from segmentation.followup.reasons import Reason
from segmentation.followup.results import (
    Assessment,
    Band,
    Category,
    Confirmation,
    Period,
    Progression,
    VisitAssessment,
    Volumetric,
)
from segmentation.followup.rules import RuleSet
from segmentation.followup.sums import Readings, Sum
from segmentation.followup.target_response import TargetResponse
from segmentation.followup.targets import TargetChoice
from segmentation.followup.visit_terms import VisitTerms
from segmentation.followup.volumetric import volumetric_reading

_QUIET = frozenset(
    {
        "target-cr",
        "target-pr",
        "target-sd",
        "target-pd",
        "target-ne",
        "baseline",
        "before-baseline",
        "confirmed",
        "non-target-derived",
    }
)
"""Reasons that nobody needs to look at twice."""


def assess(case: Case, rules: RuleSet) -> Assessment:
    """Assess every visit of a case.

    Returns
    -------
    Assessment
        Visits in order of date; the last period is the current one.
    """
    spans = periods_of(case)
    first = spans[0][0][0]
    answers = [_before(visit) for visit in case.visits if visit.date < first.date]
    periods = []
    for visits, opening in spans:
        engine = _PeriodEngine(case, rules, visits, opening)
        answers += engine.answers
        periods.append(engine.period)
    return Assessment(
        case=case.id,
        rule_set=rules.name,
        rule_version=rules.version,
        visits=tuple(answers),
        periods=tuple(periods),
    )


def _before(visit: Visit) -> VisitAssessment:
    return VisitAssessment(
        visit=visit.id,
        date=visit.date,
        category=Category.NOT_APPLICABLE,
        target=Category.NOT_APPLICABLE,
        non_target="not_assessed",
        confirmation=Confirmation.NOT_REQUIRED,
        reasons=(Reason("before-baseline", "Before the baseline: not assessed."),),
        extracranial_response=visit.extracranial_response,
    )


@dataclass
class _Progress:
    """What earlier visits of the period left behind."""

    sums: list[Sum]
    dated: list[Dated]
    progression: Progression | None = None
    censored: bool = False


class _PeriodEngine:
    """One baseline and the visits compared with it."""

    def __init__(
        self, case: Case, rules: RuleSet, visits: list[Visit], notes: list[Reason]
    ) -> None:
        self._case, self._rules, self._visits = case, rules, visits
        self._baseline = visits[0]
        self._choice = TargetChoice(case, self._baseline, rules)
        self._targets = [r.lesion for r in self._choice.roles if r.role == "target"]
        self._terms = VisitTerms(case, self._baseline, self._choice.roles, rules)
        self._readings = Readings(case, self._baseline)
        self._watch = Watch(replace(case, immunotherapy_start=self._immunotherapy()))
        first = self._readings.sum_of(self._targets, self._baseline)
        self._state = _Progress([first], [])
        answers = [self._assess(visit) for visit in visits[1:]]
        self.answers = [self._open(notes), *self._with_confirmation(answers)]
        self.period = self._summary()

    def _immunotherapy(self) -> date | None:
        return self._case.immunotherapy_start if self._rules.immunotherapy else None

    def _open(self, notes: list[Reason]) -> VisitAssessment:
        visit = self._baseline
        reasons = [Reason("baseline", "The reference of this period."), *notes]
        if not self._targets:
            reasons.append(Reason("no-target", "No lesion qualifies as a target."))
        reasons += self._choice.reasons
        return VisitAssessment(
            visit=visit.id,
            date=visit.date,
            category=Category.BASELINE,
            target=Category.BASELINE,
            non_target=self._terms.non_target(visit).status.value,
            confirmation=Confirmation.NOT_REQUIRED,
            reasons=tuple(reasons),
            flags=_flags(reasons),
            extracranial_response=visit.extracranial_response,
            volumetric=self._volumetric(self._state.sums[0], []),
        )

    # -- one visit ---------------------------------------------------------------

    def _assess(self, visit: Visit) -> VisitAssessment:
        history = self._state.sums
        now = self._readings.sum_of(self._targets, visit)
        target = (
            TargetResponse(now, history, self._case.protocol, self._rules)
            if self._targets
            else None
        )
        category = target.category if target else Category.NOT_APPLICABLE
        why = target.reasons() if target else []
        terms = self._terms_of(visit)
        decision = self._decide(category, why, terms, now)
        extra: list[Reason] = []
        decision, since = self._settle(visit, decision, terms, now, extra)
        reasons = _unique(
            [*decision.reasons, *extra, *why, *self._context(visit, terms)]
        )
        answer = VisitAssessment(
            visit=visit.id,
            date=visit.date,
            category=decision.category,
            target=category,
            non_target=terms.non_target.status.value,
            confirmation=self._standing(decision, extra),
            reasons=tuple(reasons),
            flags=_flags(reasons),
            numbers=target.numbers() if target else None,
            band=self._band(target, terms) if target else None,
            volumetric=self._volumetric(now, history),
            since=since,
            extracranial_response=visit.extracranial_response,
            new_lesions=tuple(new.lesion for new in terms.new),
        )
        self._state.sums.append(now)
        self._state.dated.append(Dated(visit.id, visit.date, decision.category))
        return answer

    def _terms_of(self, visit: Visit) -> Terms:
        previous = self._visits[self._visits.index(visit) - 1]
        relapse = doubtful = None
        if complete_response_confirmed(self._state.dated, self._case.protocol):
            relapse, doubtful = self._terms.relapse(visit)
        patient = self._rules.patient_terms
        return Terms(
            day=visit.date,
            has_target=bool(self._targets),
            has_disease=bool(self._choice.roles),
            non_target=self._terms.non_target(visit),
            new=tuple(self._terms.new_lesions(visit)),
            relapse=relapse,
            doubtful_relapse=doubtful,
            clinical=visit.clinical if patient else None,
            steroid_change=(
                self._terms.steroid_change(visit, previous) if patient else None
            ),
            steroid_free=self._terms.steroid_free(visit),
            steroid_use_recorded=visit.steroids.use is not SteroidUse.NOT_RECORDED,
        )

    def _decide(
        self, category: Category, why: list[Reason], terms: Terms, now: Sum
    ) -> Decision:
        protocol = self._case.protocol
        treated = any(
            leaf.problem is not None and leaf.problem.code == "local-therapy"
            for leaf in now.leaves.values()
        )
        if protocol.local_therapy == "censor" and (treated or self._state.censored):
            self._state.censored = True
            text = "A target was treated locally: by protocol no visit counts since."
            return Decision(Category.NE, (Reason("censored", text),))
        return decide(category, why[0] if why else None, terms, protocol)

    def _settle(
        self,
        visit: Visit,
        decision: Decision,
        terms: Terms,
        now: Sum,
        extra: list[Reason],
    ) -> tuple[Decision, date | None]:
        """Put progression into its course: unconfirmed, back-dated, or standing."""
        if not decision.causes:
            if decision.category is not Category.NE:
                resolved = self._watch.resolve()
                extra += [resolved] if resolved else []
            return decision, None
        finding = self._watch.look(
            visit.date, decision.causes, now.tenths_mm, terms.new
        )
        if finding.reason is not None:
            extra.append(finding.reason)
        if not finding.confirmed:
            return decision, finding.since
        since = finding.since or visit.date
        if self._state.progression is not None:
            return decision, self._state.progression.date
        if since < visit.date:
            text = f"Progression is dated to {since}, when it was first seen."
            extra.append(Reason("back-dated", text))
        self._state.progression = Progression(since, visit.id, decision.reasons)
        return decision, since

    def _standing(self, decision: Decision, extra: list[Reason]) -> Confirmation:
        codes = {reason.code for reason in extra}
        if "immunotherapy-unconfirmed" in codes:
            return Confirmation.UNCONFIRMED
        if "immunotherapy-confirmed" in codes:
            return Confirmation.CONFIRMED
        return Confirmation.NOT_REQUIRED

    def _context(self, visit: Visit, terms: Terms) -> list[Reason]:
        """Give what is to be known about the visit, whatever its category."""
        found = list(terms.non_target.reasons)
        for lesion in terms.new:
            found += lesion.reasons
        found += [terms.doubtful_relapse] if terms.doubtful_relapse else []
        if self._rules.patient_terms:
            found += self._terms.clinical_reasons(visit)
        for name in self._terms.fused_with_target(visit):
            text = f"{name}, which is no target, has fused with a target: the sum "
            found.append(
                Reason("merge-with-non-target", text + "grew by more than growth.")
            )
        if visit.technique_changed:
            text = "The scan technique changed; sizes may not compare."
            found.append(Reason("technique-changed", text))
        standing = self._state.progression
        if standing is not None and standing.declared_at != visit.id:
            text = f"Progression was declared at {standing.declared_at}."
            found.append(Reason("after-progression", text))
        return found

    def _band(self, target: TargetResponse, terms: Terms) -> Band:
        categories, width = target.band()
        overall: list[Category] = []
        for category in categories:
            decision = self._decide(category, [], terms, target.now)
            if decision.category not in overall:
                overall.append(decision.category)
        to_progression, to_response = target.margins()
        evaluable = target.category is not Category.NE
        return Band(
            target=tuple(categories),
            overall=tuple(overall),
            half_width_tenths_mm=width,
            to_progression_tenths_mm=to_progression if evaluable else None,
            to_response_tenths_mm=to_response if evaluable else None,
        )

    def _volumetric(self, now: Sum, history: list[Sum]) -> Volumetric | None:
        return volumetric_reading(now, history) if self._targets else None

    # -- all visits ----------------------------------------------------------------

    def _with_confirmation(
        self, answers: list[VisitAssessment]
    ) -> list[VisitAssessment]:
        days = self._case.protocol.confirmation_days
        found = []
        for index, answer in enumerate(answers):
            state = held(self._state.dated, index, days)
            if state is None:
                found.append(answer)
                continue
            if not self._case.protocol.confirmation_required:
                found.append(replace(answer, since=state.since))
                continue
            word = f"{answer.category.value} since {state.since}"
            if state.by:
                text = f"{word}, confirmed at {state.by} ({days} days are needed)."
                note, standing = Reason("confirmed", text), Confirmation.CONFIRMED
            else:
                text = f"{word}, not yet confirmed ({days} days are needed)."
                note, standing = Reason("unconfirmed", text), Confirmation.UNCONFIRMED
            reasons = (*answer.reasons, note)
            found.append(
                replace(
                    answer,
                    since=state.since,
                    confirmed_by=state.by,
                    confirmation=standing,
                    reasons=reasons,
                    flags=_flags(list(reasons)),
                )
            )
        return found

    def _summary(self) -> Period:
        progression = self._state.progression
        stop = progression.date if progression else None
        arguments = (self._state.dated, stop, self._baseline.date, self._case.protocol)
        best, since = best_response(*arguments, confirmed=True)
        candidate, _ = best_response(*arguments, confirmed=False)
        elsewhere = [
            v.date for v in self._visits[1:] if v.extracranial_response == "PD"
        ]
        return Period(
            baseline=self._baseline.id,
            roles=self._choice.roles,
            baseline_sum_tenths_mm=self._state.sums[0].tenths_mm,
            best=best,
            best_unconfirmed=candidate,
            best_since=since,
            progression=progression,
            unconfirmed_progression=self._watch.open_since,
            extracranial_progression=min(elsewhere, default=None),
        )


def _unique(reasons: list[Reason]) -> list[Reason]:
    return list(dict.fromkeys(reasons))


def _flags(reasons: list[Reason]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(r.code for r in reasons if r.code not in _QUIET))
