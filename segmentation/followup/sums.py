"""The values of target lesions at each visit, and their sum.

Promises: fused lesions count once and fragments count together; a lesion without a
value makes the sum a lower bound and says why; two visits are compared in groups of
targets that have ever been one, so that a fusion is no growth. Integer tenths of a
millimetre throughout. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from segmentation.followup.case import Case, Observation, State, Visit
from segmentation.followup.reasons import Reason

_GONE_INTO_OTHERS = (State.MERGED, State.SPLIT)
_NOT_YET_THERE = (State.ABSENT, State.NOT_ASSESSED)


@dataclass(frozen=True)
class Leaf:
    """One thing that was measured, or should have been.

    Attributes
    ----------
    tenths_mm : int or None
        None: no value, and `problem` says why.
    """

    lesion: str
    tenths_mm: int | None
    by_default: bool = False
    necrosis: bool = False
    problem: Reason | None = None
    volume_tenths_mm3: int | None = None


@dataclass(frozen=True)
class Sum:
    """All targets at one visit.

    Attributes
    ----------
    leaves : dict
        By id; what is fused is here once.
    of : dict
        Which leaves each target consists of at this visit.
    """

    visit: Visit
    leaves: dict[str, Leaf]
    of: dict[str, frozenset[str]]

    @property
    def tenths_mm(self) -> int:
        """The sum of what has a value."""
        return sum(leaf.tenths_mm or 0 for leaf in self.leaves.values())

    @property
    def complete(self) -> bool:
        """Whether every target has a value."""
        return all(leaf.tenths_mm is not None for leaf in self.leaves.values())

    def leaves_of(self, targets: Iterable[str]) -> list[Leaf]:
        """Give what some targets consist of, each leaf once."""
        names = sorted(frozenset().union(*(self.of[target] for target in targets)))
        return [self.leaves[name] for name in names]

    def value_of(self, targets: Iterable[str]) -> int | None:
        """Give the sum of some targets; None where one has no value."""
        values = [leaf.tenths_mm for leaf in self.leaves_of(targets)]
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    def known_of(self, targets: Iterable[str], *, defaults: bool) -> int:
        """Give what is known of some targets, with or without default values."""
        return sum(
            leaf.tenths_mm or 0
            for leaf in self.leaves_of(targets)
            if defaults or not leaf.by_default
        )

    def with_defaults(self, tenths_mm: int) -> Sum:
        """Give the same sum with another default value."""
        return self._with(lambda leaf: leaf.by_default, tenths_mm)

    def without_necrosis(self) -> Sum:
        """Give the same sum without the lesions suspected of radionecrosis."""
        return self._with(lambda leaf: leaf.necrosis, None)

    def _with(self, which: Callable[[Leaf], bool], tenths_mm: int | None) -> Sum:
        leaves = {
            name: replace(leaf, tenths_mm=tenths_mm) if which(leaf) else leaf
            for name, leaf in self.leaves.items()
        }
        return replace(self, leaves=leaves)


def groups(now: Sum, then: Sum) -> list[tuple[str, ...]]:
    """Put targets that are one thing at either visit together, in the case's order."""
    found: list[tuple[set[str], set[str]]] = []
    for target in now.of:
        targets, leaves = {target}, set(now.of[target] | then.of[target])
        for other in [entry for entry in found if entry[1] & leaves]:
            targets |= other[0]
            leaves |= other[1]
            found.remove(other)
        found.append((targets, leaves))
    order = {target: place for place, target in enumerate(now.of)}
    sets = [tuple(sorted(targets, key=order.__getitem__)) for targets, _ in found]
    return sorted(sets, key=lambda targets: order[targets[0]])


class Readings:
    """The readings of a case as seen from one baseline."""

    def __init__(self, case: Case, baseline: Visit) -> None:
        self._case, self._baseline = case, baseline
        self._fragments: dict[str, list[str]] = {}
        for lesion in case.lesions.values():
            if lesion.split_from is not None:
                self._fragments.setdefault(lesion.split_from, []).append(lesion.id)
        self._first_seen = {name: self._first(name) for name in case.lesions}
        self._treated: dict[str, tuple[date, str]] = self._local_therapies()

    def _first(self, lesion: str) -> date | None:
        for visit in self._case.visits:
            seen = visit.observations.get(lesion)
            if seen is not None and seen.state not in _NOT_YET_THERE:
                return visit.date
        return None

    def _local_therapies(self) -> dict[str, tuple[date, str]]:
        """Find the first local treatment of each lesion since baseline."""
        found: dict[str, tuple[date, str]] = {}
        for visit in self._case.visits:
            for seen in visit.observations.values():
                day = seen.treated_on
                if day is None or day <= self._baseline.date:
                    continue
                if seen.lesion not in found or day < found[seen.lesion][0]:
                    found[seen.lesion] = (day, seen.modality)
        return found

    def observation(self, lesion: str, visit: Visit) -> Observation | None:
        """Give what was seen; a fusion or a split, once seen, goes on by itself."""
        seen = visit.observations.get(lesion)
        if seen is not None:
            return seen
        for earlier in reversed(self._case.visits):
            if earlier.date < visit.date and lesion in earlier.observations:
                before = earlier.observations[lesion]
                return before if before.state in _GONE_INTO_OTHERS else None
        return None

    def fragments(self, lesion: str, visit: Visit) -> list[str]:
        """Give the fragments seen by then; those there at baseline stand alone."""
        return [
            name
            for name in self._fragments.get(lesion, ())
            if (first := self._first_seen[name]) is not None
            and self._baseline.date < first <= visit.date
        ]

    def leaves(self, lesion: str, visit: Visit) -> frozenset[str]:
        """Give the lesions that carry the measurement of a lesion at a visit."""
        found: set[str] = set()
        self._collect(lesion, visit, found, set())
        # Empty only for a circle of fusions, which leaves the lesion without a value.
        return frozenset(found or {lesion})

    def _collect(
        self, lesion: str, visit: Visit, found: set[str], visited: set[str]
    ) -> None:
        if lesion in visited:
            return
        visited.add(lesion)
        seen = self.observation(lesion, visit)
        fragments = self.fragments(lesion, visit)
        if seen is not None and seen.into is not None:
            self._collect(seen.into, visit, found, visited)
        elif not (fragments and (seen is None or seen.state is State.SPLIT)):
            found.add(lesion)
        for fragment in fragments:
            self._collect(fragment, visit, found, visited)

    def leaf(self, lesion: str, visit: Visit) -> Leaf:
        """Give the value of one lesion."""
        treated = self._treated.get(lesion)
        seen = self.observation(lesion, visit)
        if seen is not None and seen.state is State.LOCALLY_TREATED:
            treated = treated or (visit.date, seen.modality)
        elif treated is not None and treated[0] >= visit.date:
            treated = None
        if treated is not None:
            text = f"{lesion} was treated locally ({treated[1]})"
            return Leaf(
                lesion,
                None,
                problem=Reason("local-therapy", f"{text}; it has no value since."),
            )
        if seen is None:
            return _without(lesion, "it is not listed at this visit")
        return self._value(seen)

    def _value(self, seen: Observation) -> Leaf:
        protocol = self._case.protocol
        necrosis = seen.radionecrosis_suspected
        if necrosis and protocol.radionecrosis == "not_evaluable":
            problem = Reason(
                "radionecrosis",
                f"{seen.lesion} has no value: radiation necrosis is suspected.",
            )
            return Leaf(seen.lesion, None, necrosis=True, problem=problem)
        volume = seen.volume_tenths_mm3
        match seen.state:
            case State.MEASURED:
                return Leaf(
                    seen.lesion,
                    seen.longest_tenths_mm,
                    necrosis=necrosis,
                    volume_tenths_mm3=volume,
                )
            case State.TOO_SMALL:
                return Leaf(
                    seen.lesion,
                    protocol.too_small_value_tenths_mm,
                    by_default=True,
                    necrosis=necrosis,
                    volume_tenths_mm3=volume,
                )
            case State.ABSENT:
                return Leaf(seen.lesion, 0, volume_tenths_mm3=0)
            case State.NOT_ASSESSED:
                return _without(seen.lesion, seen.reason.replace("_", " "))
            case State.SPLIT:
                return _without(seen.lesion, "it fell apart and no fragment is listed")
            case _:
                return _without(seen.lesion, "its fusions form a circle")

    def sum_of(self, targets: Sequence[str], visit: Visit) -> Sum:
        """Add up the targets at a visit."""
        of = {target: self.leaves(target, visit) for target in targets}
        names = sorted(frozenset().union(*of.values()))
        return Sum(visit, {name: self.leaf(name, visit) for name in names}, of)


def _without(lesion: str, why: str) -> Leaf:
    return Leaf(
        lesion, None, problem=Reason("not-assessed", f"{lesion} has no value: {why}.")
    )
