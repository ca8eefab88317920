"""One lesion over all visits: tracks from findings, registrations and readers' rulings.

``follow`` goes through the visits of a patient by date and links each finding to what
is known from the visits before (``matching`` does one visit). It looks at nothing but
what it is given, so the same visits give the same tracks in whatever order they came.
What a reader ruled always wins; what is not one to one, is far, ambiguous or rests on
no accepted registration waits for the reader. Positions in LPS mm. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from segmentation.followup.matching import (
    CERTAIN_COST_MM,
    Body,
    FloatArray,
    Match,
    Pair,
    match_visit,
)

Key = tuple[str, str]
"""(visit, finding)."""
Relation = Literal["first", "same", "new", "split", "merge", "reappeared"]
State = Literal["automatic", "pending", "confirmed"]
NOT_REGISTERED = "not-registered"
"""Reason of what waits because its visit has no accepted registration."""


@dataclass(frozen=True)
class Finding:
    """A lesion of a visit; `body` in the visit's own coordinates."""

    uid: str
    body: Body


@dataclass(frozen=True)
class VisitFindings:
    """What was found at one visit.

    Attributes
    ----------
    to_baseline : ndarray, shape (4, 4), or None
        Visit LPS mm to baseline LPS mm; None: no registration that may be relied on.
    """

    visit: str
    findings: tuple[Finding, ...]
    to_baseline: FloatArray | None


@dataclass(frozen=True)
class Ruling:
    """What a reader decided about a finding.

    Attributes
    ----------
    action : str
        ``link`` and ``confirm``: it belongs to `track`; ``new``: it continues nothing;
        ``unlink``: it does not belong to `track`.
    number : int
        Place in the order of decisions; given back with each link it determined.
    """

    key: Key
    action: str
    track: str | None
    number: int


@dataclass(frozen=True)
class KnownTrack:
    """A track as it was recorded before.

    Attributes
    ----------
    anchor : str
        The finding it was named after: where that goes, the name goes.
    members : frozenset of Key
        Decide where the anchor is no more.
    """

    id: str
    anchor: str
    members: frozenset[Key]


@dataclass(frozen=True)
class Link:
    """A finding's place in a track.

    Attributes
    ----------
    reasons : tuple of str
        Codes of what makes it wait for the reader, or of what is special about it.
    absorbed : tuple of int
        Of ``merge``: the tracks (indices) that ended in this finding.
    ruling : int or None
        Number of the reader's decision that made it.
    """

    key: Key
    relation: Relation
    state: State
    cost_mm: float | None = None
    reasons: tuple[str, ...] = ()
    absorbed: tuple[int, ...] = ()
    ruling: int | None = None


@dataclass
class Course:
    """One lesion over time, while and after it is put together.

    Attributes
    ----------
    names : set of str
        Ids of recorded tracks that this one stands for.
    body : Body or None
        As last seen, baseline coordinates; None: never at a registered visit.
    last_seen : int
        Place of that visit among the registered ones.
    split_from : int or None
        Index of the track it is a fragment of.
    """

    links: list[Link] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    body: Body | None = None
    last_seen: int = -1
    split_from: int | None = None


def follow(
    visits: Sequence[VisitFindings],
    rulings: Iterable[Ruling] = (),
    known: Sequence[KnownTrack] = (),
) -> list[Course]:
    """Put the findings of all visits into tracks.

    Parameters
    ----------
    visits : sequence of VisitFindings
        By date; the first is the baseline and needs no registration.
    rulings : iterable of Ruling
        Those in force, oldest first.
    known : sequence of KnownTrack
        What rulings speak of.

    Returns
    -------
    list of Course
        In the order in which they first appear; of one visit: largest first.
    """
    follower = _Follower(_Rulings(rulings, visits, known), known)
    for number, visit in enumerate(visits):
        follower.add(visit, is_baseline=number == 0)
    return follower.courses


class _Rulings:
    """The decisions in force, by finding."""

    def __init__(
        self,
        rulings: Iterable[Ruling],
        visits: Sequence[VisitFindings],
        known: Sequence[KnownTrack],
    ) -> None:
        self.placed: dict[Key, Ruling] = {}
        self.fresh: dict[Key, Ruling] = {}
        self.barred: dict[Key, dict[str, Ruling]] = {}
        for ruling in rulings:
            self._take(ruling)
        self.of_track = {
            ruling.track: ruling for ruling in self.placed.values() if ruling.track
        }
        anchors = {track.anchor: track.id for track in known}
        self._home = {
            (visit.visit, finding.uid): anchors[finding.uid]
            for visit in visits
            for finding in visit.findings
            if finding.uid in anchors and (visit.visit, finding.uid) not in self.placed
        }

    def _take(self, ruling: Ruling) -> None:
        key = ruling.key
        if ruling.action in ("link", "confirm") and ruling.track is not None:
            self.placed[key] = ruling
            self.fresh.pop(key, None)
            self.barred.get(key, {}).pop(ruling.track, None)
        elif ruling.action == "unlink" and ruling.track is not None:
            if key in self.placed and self.placed[key].track == ruling.track:
                del self.placed[key]
            self.barred.setdefault(key, {})[ruling.track] = ruling
        elif ruling.action in ("new", "unlink"):
            self.placed.pop(key, None)
            self.fresh[key] = ruling

    def name(self, key: Key) -> str | None:
        """Give the recorded track that a finding belongs to whatever was measured."""
        placed = self.placed.get(key)
        return placed.track if placed is not None else self._home.get(key)

    @property
    def homes(self) -> set[str]:
        """Tracks whose anchor is where it was."""
        return set(self._home.values())


class _Follower:
    """Goes from visit to visit."""

    def __init__(self, rulings: _Rulings, known: Sequence[KnownTrack]) -> None:
        self.courses: list[Course] = []
        self._rulings = rulings
        self._known = {track.id: track for track in known}
        self._registered = 0

    def add(self, visit: VisitFindings, *, is_baseline: bool) -> None:
        """Link the findings of one more visit."""
        matrix = np.eye(4) if is_baseline else visit.to_baseline
        # Largest first; the rest of the order keeps ties from hanging on chance.
        findings = sorted(visit.findings, key=lambda f: (-f.body.volume_mm3, f.uid))
        keys = [(visit.visit, finding.uid) for finding in findings]
        fixed = self._fixed(keys)
        if matrix is None:
            self._add_unregistered(keys, fixed)
            return
        bodies = [finding.body.moved(matrix) for finding in findings]
        old = [n for n, course in enumerate(self.courses) if course.body is not None]
        match = self._match(keys, bodies, old, fixed)
        places = self._place(keys, match, old, fixed, is_baseline=is_baseline)
        for number, body in zip(places, bodies, strict=True):
            self.courses[number].body = body
            self.courses[number].last_seen = self._registered
        self._registered += 1

    def _fixed(self, keys: Sequence[Key]) -> dict[int, int]:
        """Give the findings (index) that readers put into tracks (index) seen before.

        Of two for one track the later decision stands, and a decision goes before the
        finding that the track is named after.
        """
        wanted: dict[int, tuple[int, int]] = {}
        for index, key in enumerate(keys):
            name = self._rulings.name(key)
            course = None if name is None else self._find(name)
            if course is not None:
                placed = self._rulings.placed.get(key)
                rank = placed.number if placed is not None else -1
                wanted[course] = max(wanted.get(course, (-2, -1)), (rank, index))
        return {index: course for course, (_, index) in wanted.items()}

    def _find(self, name: str) -> int | None:
        """Find the course that stands for a recorded track."""
        for number, course in enumerate(self.courses):
            if name in course.names:
                return number
        if name in self._rulings.homes or name not in self._known:
            return None
        members = self._known[name].members
        shares = [
            (sum(link.key in members for link in course.links), -number)
            for number, course in enumerate(self.courses)
        ]
        most, number = max(shares, default=(0, 0))
        return -number if most > 0 else None

    def _match(
        self,
        keys: Sequence[Key],
        bodies: Sequence[Body],
        old: Sequence[int],
        fixed: dict[int, int],
    ) -> Match:
        row_of = {course: row for row, course in enumerate(old)}
        tracks = [body for n in old if (body := self.courses[n].body) is not None]
        forbidden = set()
        for index, key in enumerate(keys):
            barred = {self._find(name) for name in self._rulings.barred.get(key, {})}
            if (
                key in self._rulings.fresh
                or fixed.get(index, old[0] if old else 0) not in row_of
            ):
                barred = set(old)
            forbidden |= {(row_of[n], index) for n in barred if n in row_of}
        return match_visit(
            tracks,
            bodies,
            fixed=[(row_of[n], f) for f, n in fixed.items() if n in row_of],
            forbidden=frozenset(forbidden),
            present=[self.courses[n].last_seen == self._registered - 1 for n in old],
        )

    def _place(
        self,
        keys: Sequence[Key],
        match: Match,
        old: Sequence[int],
        fixed: dict[int, int],
        *,
        is_baseline: bool,
    ) -> list[int]:
        """Write the links of one visit; gives the course of each finding."""
        course_of = {pair.finding: old[pair.track] for pair in match.pairs} | fixed
        pair_of = {pair.finding: pair for pair in match.pairs}
        divided = {old[parent] for parent in match.fragments.values()}
        for index, key in enumerate(keys):
            if index in course_of:
                number = course_of[index]
                absorbed = tuple(
                    old[t] for t, into in match.absorbed.items() if into == index
                )
                link = self._continuing(
                    key, number, pair_of.get(index), absorbed, number in divided
                )
            else:
                parent = match.fragments.get(index)
                split_from = None if parent is None else old[parent]
                number = self._start(split_from)
                course_of[index] = number
                link = self._starting(key, split_from, is_baseline=is_baseline)
            self._append(number, link)
        return [course_of[index] for index in range(len(keys))]

    def _add_unregistered(self, keys: Sequence[Key], fixed: dict[int, int]) -> None:
        """Nothing is linked but what a reader has linked."""
        for index, key in enumerate(keys):
            if index in fixed:
                ruling = self._ruling(key, fixed[index])
                relation: Relation = "same"
                number = fixed[index]
            else:
                ruling = self._rulings.fresh.get(key) or self._rulings.placed.get(key)
                relation, number = "new", self._start(None)
            self._append(
                number,
                Link(
                    key,
                    relation,
                    "pending" if ruling is None else "confirmed",
                    reasons=(NOT_REGISTERED,),
                    ruling=None if ruling is None else ruling.number,
                ),
            )

    def _continuing(
        self,
        key: Key,
        number: int,
        pair: Pair | None,
        absorbed: tuple[int, ...],
        divided: bool,
    ) -> Link:
        course = self.courses[number]
        away = course.body is not None and course.last_seen < self._registered - 1
        ruling = self._ruling(key, number)
        reasons = [
            reason
            for reason, holds in (
                ("merge", bool(absorbed)),
                ("split", divided),
                ("reappeared", away),
                ("far", pair is not None and pair.cost_mm > CERTAIN_COST_MM),
                ("ambiguous", pair is not None and pair.rival),
                ("unlinked", key in self._rulings.barred),
            )
            if holds
        ]
        relation: Relation = "reappeared" if away else "same"
        waiting: State = "pending" if reasons else "automatic"
        return Link(
            key,
            "merge" if absorbed else relation,
            waiting if ruling is None else "confirmed",
            None if pair is None else pair.cost_mm,
            tuple(reasons),
            absorbed,
            None if ruling is None else ruling.number,
        )

    def _starting(self, key: Key, split_from: int | None, *, is_baseline: bool) -> Link:
        rulings = self._rulings
        ruling = rulings.fresh.get(key) or rulings.placed.get(key)
        if ruling is None:
            ruling = next(iter(rulings.barred.get(key, {}).values()), None)
        relation: Relation = "first" if is_baseline else "new"
        reasons: tuple[str, ...] = ()
        if split_from is not None:
            relation, reasons = "split", ("split",)
        waiting: State = "pending" if reasons else "automatic"
        return Link(
            key,
            relation,
            waiting if ruling is None else "confirmed",
            reasons=reasons,
            ruling=None if ruling is None else ruling.number,
        )

    def _ruling(self, key: Key, number: int) -> Ruling | None:
        """Give the decision by which a finding is in a course."""
        placed = self._rulings.placed.get(key)
        if placed is not None and self._is(number, placed.track):
            return placed
        name = self._rulings.name(key)
        if name is not None and name in self.courses[number].names:
            # Its track's name came here before it, by a decision about another finding.
            return self._rulings.of_track.get(name)
        return None

    def _is(self, number: int, name: str | None) -> bool:
        return name is not None and (
            name in self.courses[number].names or self._find(name) in (number, None)
        )

    def _start(self, split_from: int | None) -> int:
        self.courses.append(Course(split_from=split_from))
        return len(self.courses) - 1

    def _append(self, number: int, link: Link) -> None:
        course = self.courses[number]
        course.links.append(link)
        name = self._rulings.name(link.key)
        if name is not None:
            course.names.add(name)
