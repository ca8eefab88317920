"""The table of responses: one visit's terms to one category.

A pure function of the target category and the other terms, so that the uncertainty band
can ask it again with other target categories. Progression needs any of its causes,
response and stability need all of their conditions; what fits no column is
indeterminate. Knows nothing of other visits; ``assess`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from segmentation.followup.case import Clinical, NonTarget, Protocol, SteroidChange
from segmentation.followup.reasons import Reason
from segmentation.followup.results import Category
from segmentation.followup.visit_terms import NewLesion, NonTargetState


@dataclass(frozen=True)
class Cause:
    """Something that is progression by itself.

    Attributes
    ----------
    kind : {'target', 'non_target', 'new', 'relapse', 'clinical'}
    since : date
        What progression is dated to.
    """

    kind: str
    since: date
    reason: Reason


@dataclass(frozen=True)
class Terms:
    """All but the target category.

    Attributes
    ----------
    has_target, has_disease : bool
        At baseline.
    steroid_change : SteroidChange or None
        None where the rule set does not look at the patient.
    """

    day: date
    has_target: bool
    has_disease: bool
    non_target: NonTargetState
    new: tuple[NewLesion, ...]
    relapse: Reason | None
    doubtful_relapse: Reason | None
    clinical: Clinical | None
    steroid_change: SteroidChange | None
    steroid_free: bool
    steroid_use_recorded: bool


@dataclass(frozen=True)
class Decision:
    """The category of a visit by itself."""

    category: Category
    reasons: tuple[Reason, ...]
    causes: tuple[Cause, ...] = ()


def decide(
    target: Category, target_reason: Reason | None, terms: Terms, protocol: Protocol
) -> Decision:
    """Apply the table.

    Parameters
    ----------
    target : Category
        ``NOT_APPLICABLE`` where there is no target.
    target_reason : Reason or None
        Why, where it is progression.
    """
    causes = _causes(target, target_reason, terms)
    if causes:
        reasons = tuple(cause.reason for cause in causes)
        return Decision(Category.PD, reasons, tuple(causes))
    if target is Category.NE:
        return Decision(Category.NE, ())
    if terms.doubtful_relapse is not None:
        return Decision(Category.INDETERMINATE, (terms.doubtful_relapse,))
    base, reasons_found = _without_patient(target, terms)
    return _with_patient(base, reasons_found, terms, protocol)


def _causes(target: Category, reason: Reason | None, terms: Terms) -> list[Cause]:
    found = []
    if target is Category.PD:
        why = reason or Reason("target-pd", "The target lesions progressed.")
        found.append(Cause("target", terms.day, why))
    if terms.non_target.status is NonTarget.PROGRESSION:
        why = Reason(
            "non-target-pd",
            "The reader sees unequivocal progression of non-target disease.",
        )
        found.append(Cause("non_target", terms.day, why))
    found += [
        Cause("new", lesion.since, lesion.reasons[0])
        for lesion in terms.new
        if lesion.certain
    ]
    if terms.relapse is not None:
        found.append(Cause("relapse", terms.day, terms.relapse))
    if terms.clinical is Clinical.WORSE_TUMOUR:
        why = Reason("clinical-worse", "The patient is clinically worse, by tumour.")
        found.append(Cause("clinical", terms.day, why))
    return found


def _without_patient(target: Category, terms: Terms) -> tuple[Category, list[Reason]]:
    """Combine target, non-target and equivocal new lesions."""
    open_points = _against_complete(terms)
    if target is Category.NOT_APPLICABLE:
        return _without_target(terms, open_points)
    if target is Category.CR and open_points:
        text = "All targets are gone, but not everything else is: partial response."
        return Category.PR, [Reason("not-complete", text), *open_points]
    if target is Category.CR:
        return Category.CR, []
    if terms.non_target.status is NonTarget.NOT_ASSESSED:
        return target, [_not_assessed()]
    return target, []


def _not_assessed() -> Reason:
    return Reason("non-target-not-assessed", "Non-target disease was not assessed.")


def _against_complete(terms: Terms) -> list[Reason]:
    found = []
    if terms.non_target.status is NonTarget.NEITHER:
        found.append(
            Reason("non-target-persists", "Non-target disease is still there.")
        )
    if terms.non_target.status is NonTarget.NOT_ASSESSED:
        found.append(_not_assessed())
    # An equivocal new lesion explains itself among the flags of the visit.
    return found + [lesion.reasons[0] for lesion in terms.new]


def _without_target(
    terms: Terms, open_points: list[Reason]
) -> tuple[Category, list[Reason]]:
    note = Reason("no-target", "There is no target lesion: non-target disease decides.")
    status = terms.non_target.status
    if not terms.has_disease:
        clean = not open_points
        text = "No disease at baseline" + (" and none now." if clean else ".")
        category = Category.NED if clean else Category.INDETERMINATE
        return category, [Reason("no-disease", text), *open_points]
    if status is NonTarget.NOT_ASSESSED:
        return Category.NE, [note, *open_points]
    if status is NonTarget.NEITHER or open_points:
        stays = Reason("stable-non-target", "Non-target disease: neither gone nor PD.")
        return Category.NON_CR_NON_PD, [note, stays, *open_points]
    return Category.CR, [note]


def _with_patient(
    base: Category, reasons: list[Reason], terms: Terms, protocol: Protocol
) -> Decision:
    """Put steroids and clinical status on top, where the rule set has them."""
    if terms.steroid_change is None or base in (Category.NE, Category.INDETERMINATE):
        return Decision(base, tuple(reasons))
    if terms.steroid_change is SteroidChange.INCREASED:
        return _after_increase(base, reasons, terms, protocol)
    missing = _missing_inputs(terms)
    if missing and protocol.missing_reader_input == "not_evaluable":
        why = Reason(
            "reader-input-missing",
            "Not evaluable: steroids or clinical status are not recorded.",
        )
        return Decision(Category.NE, (why, *missing, *reasons))
    reasons = reasons + missing
    if base is Category.CR and not terms.steroid_free:
        return _complete_on_steroids(reasons, terms, protocol)
    return Decision(base, tuple(reasons))


def _after_increase(
    base: Category, reasons: list[Reason], terms: Terms, protocol: Protocol
) -> Decision:
    choice = protocol.steroid_increase_without_progression
    if choice == "ignore":
        if base is Category.CR and not terms.steroid_free:
            return _complete_on_steroids(reasons, terms, protocol)
        return Decision(base, tuple(reasons))
    why = Reason(
        "steroids-increased",
        f"Imaging alone says {base.value}, but steroids were increased: neither "
        "response nor stable disease, and not progression either.",
    )
    category = Category.INDETERMINATE if choice == "indeterminate" else Category.NE
    return Decision(category, (why, *reasons))


def _missing_inputs(terms: Terms) -> list[Reason]:
    found = []
    if terms.steroid_change is SteroidChange.NOT_RECORDED:
        found.append(
            Reason("steroids-not-recorded", "The change of steroids is not recorded.")
        )
    if terms.clinical is Clinical.NOT_RECORDED:
        found.append(
            Reason("clinical-not-recorded", "The clinical status is not recorded.")
        )
    return found


def _complete_on_steroids(
    reasons: list[Reason], terms: Terms, protocol: Protocol
) -> Decision:
    text = "the patient takes steroids"
    if not terms.steroid_use_recorded:
        text = "it is not recorded that the patient takes no steroids"
    why = Reason("steroids", f"Everything is gone, but {text}: no complete response.")
    if protocol.steroids_at_complete_response == "not_evaluable":
        return Decision(Category.NE, (why, *reasons))
    category = Category.PR if terms.has_target else Category.NON_CR_NON_PD
    return Decision(category, (why, *reasons))
