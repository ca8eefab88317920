"""Which responses held long enough, and what the best response is.

A response is confirmed when a later visit, at least the required days after the first,
shows it again, with nothing worse between; visits that are not evaluable neither
confirm nor interrupt. A complete response confirms a partial one, not the other way
round. Works on the finished list of categories, so the order in which visits arrived
cannot matter. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from segmentation.followup.case import Protocol
from segmentation.followup.results import Category

_AT_LEAST = {
    Category.CR: frozenset({Category.CR}),
    Category.PR: frozenset({Category.CR, Category.PR}),
}
_RANK = (
    Category.CR,
    Category.PR,
    Category.SD,
    Category.NON_CR_NON_PD,
    Category.NED,
    Category.PD,
    Category.INDETERMINATE,
    Category.NE,
)


@dataclass(frozen=True)
class Dated:
    """A visit reduced to its date and category."""

    visit: str
    day: date
    category: Category


@dataclass(frozen=True)
class Held:
    """How long a response held.

    Attributes
    ----------
    since : date
        Of the first visit in a row that shows it.
    by : str or None
        The visit that confirmed it; None: unconfirmed.
    """

    since: date
    by: str | None


def held(visits: Sequence[Dated], index: int, days: int) -> Held | None:
    """Say how a response held around a visit; None for what is no response.

    Parameters
    ----------
    visits : sequence of Dated
        In order of date, after baseline.
    """
    accepted = _AT_LEAST.get(visits[index].category)
    if accepted is None:
        return None
    first = index
    for place in range(index - 1, -1, -1):
        if visits[place].category in accepted:
            first = place
        elif visits[place].category is not Category.NE:
            break
    for later in visits[first + 1 :]:
        if later.category in accepted:
            if (later.day - visits[first].day).days >= days:
                return Held(visits[first].day, later.visit)
        elif later.category is not Category.NE:
            break
    return Held(visits[first].day, None)


def complete_response_confirmed(visits: Sequence[Dated], protocol: Protocol) -> bool:
    """Whether any complete response among these visits is confirmed by them."""
    for index, visit in enumerate(visits):
        if visit.category is not Category.CR:
            continue
        state = held(visits, index, protocol.confirmation_days)
        if not protocol.confirmation_required or (state is not None and state.by):
            return True
    return False


def best_response(
    visits: Sequence[Dated],
    progressed_on: date | None,
    baseline: date,
    protocol: Protocol,
    *,
    confirmed: bool,
) -> tuple[Category | None, date | None]:
    """Give the best category before progression, and since when.

    Parameters
    ----------
    confirmed : bool
        Whether responses must be confirmed; unconfirmed ones then count as stable.
    """
    found: list[tuple[Category, date]] = []
    for index, visit in enumerate(visits):
        if progressed_on is not None and visit.day >= progressed_on:
            continue
        category, day = visit.category, visit.day
        state = held(visits, index, protocol.confirmation_days)
        if state is not None:
            day = state.since
            category = _credited(visits, index, state, protocol, confirmed=confirmed)
            day = visit.day if category is Category.SD else day
        if category is Category.PD:
            continue  # Not confirmed: it counts as nothing yet.
        if category is Category.SD:
            waited = (visit.day - baseline).days
            if waited < protocol.stable_disease_min_days:
                category = Category.NE
        found.append((category, day))
    if progressed_on is not None:
        found.append((Category.PD, progressed_on))
    if not found:
        return (Category.NE, None) if visits else (None, None)
    return min(found, key=lambda entry: (_RANK.index(entry[0]), entry[1]))


def _credited(
    visits: Sequence[Dated],
    index: int,
    state: Held,
    protocol: Protocol,
    *,
    confirmed: bool,
) -> Category:
    """Give what a response counts as for the best one."""
    category = visits[index].category
    if not confirmed or not protocol.confirmation_required or state.by:
        return category
    if category is Category.CR:
        # An unconfirmed complete response may still confirm a partial one.
        as_partial = [
            Dated(v.visit, v.day, Category.PR if i == index else v.category)
            for i, v in enumerate(visits)
        ]
        partial = held(as_partial, index, protocol.confirmation_days)
        if partial is not None and partial.by:
            return Category.PR
    return Category.SD
