"""Which lesion of a visit is which lesion known from before: one visit at a time.

``match_visit`` assigns findings to tracks one to one (Hungarian, by distance and ratio
of sizes within a gate that grows with the lesion) and then asks, of what is left over,
whether it is a fragment of a known lesion (split) or was swallowed by a grown one
(merge). All positions in one coordinate system, the baseline's, LPS mm. The answer
depends on distances alone: not on the order of the lesions, nor on where the patient
lies. Pure; no database, no images. Figures and limits: ``docs/follow-up.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

FloatArray = NDArray[np.float64]
Vector = tuple[float, float, float]

METHOD = "hungarian-1"
"""Recorded with each link."""
GATE_MM = 5.0
"""Two lesions may lie this far apart, and further by the radius of the larger."""
CERTAIN_COST_MM = 5.0
"""A link that costs more waits for the reader."""
RIVAL_MM = 2.0
"""A second choice that costs hardly more makes a link wait for the reader."""
BODY_MARGIN_MM = 1.5
"""A centre so far outside a body still counts as inside: error of the registration."""


@dataclass(frozen=True)
class Body:
    """Where a lesion lies and how large it is.

    Attributes
    ----------
    centre_mm : tuple of float
        Centroid.
    volume_mm3 : float
    axis_mm : tuple of two points, or None
        Ends of the longest diameter in space; None takes the lesion for a ball.
    """

    centre_mm: Vector
    volume_mm3: float
    axis_mm: tuple[Vector, Vector] | None = None

    @property
    def radius_mm(self) -> float:
        """Of the ball of the same volume."""
        return float(np.cbrt(self.volume_mm3 * 0.75 / np.pi))

    def moved(self, matrix: FloatArray) -> Body:
        """Give the same lesion after the motion `matrix` (4 x 4)."""
        ends = self.axis_mm
        return Body(
            _moved(matrix, self.centre_mm),
            self.volume_mm3,
            ends and (_moved(matrix, ends[0]), _moved(matrix, ends[1])),
        )

    def holds(self, point_mm: Vector) -> bool:
        """Tell whether a point lies in the body, as far as its measures say.

        The body is taken for a rod with round ends along its longest diameter, of the
        thickness that gives its volume; without that diameter for a ball.
        """
        if self.axis_mm is None:
            return _distance(self.centre_mm, point_mm) <= (
                self.radius_mm + BODY_MARGIN_MM
            )
        start, end = (np.asarray(point) for point in self.axis_mm)
        length = float(np.linalg.norm(end - start))
        radius = _rod_radius(self.volume_mm3, length)
        along = (end - start) / length if length > 0 else np.zeros(3)
        offset = np.asarray(point_mm) - start
        place = float(np.clip(offset @ along, radius, max(radius, length - radius)))
        return float(np.linalg.norm(offset - place * along)) <= radius + BODY_MARGIN_MM


def _rod_radius(volume_mm3: float, length_mm: float) -> float:
    """Give the radius of a rod with round ends, `length_mm` with its ends."""
    # V = pi r^2 (L - 2 r) + 4/3 pi r^3 grows with r up to the ball, r = L / 2.
    low, high = 0.0, length_mm / 2
    for _ in range(40):
        middle = (low + high) / 2
        volume = np.pi * middle**2 * (length_mm - 2 * middle / 3)
        low, high = (middle, high) if volume < volume_mm3 else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Pair:
    """A finding and the track it continues.

    Attributes
    ----------
    track, finding : int
        Indices into what was given.
    cost_mm : float
        Distance plus the magnitude of the logarithm of the ratio of the radii.
    rival : bool
        Another finding or track would have fitted almost as well.
    """

    track: int
    finding: int
    cost_mm: float
    rival: bool = False


@dataclass(frozen=True)
class Match:
    """What became of the tracks at one visit.

    Attributes
    ----------
    pairs : tuple of Pair
        One to one.
    fragments : dict
        Finding without a pair -> the track it split from.
    absorbed : dict
        Track without a pair -> the finding that swallowed it.
    """

    pairs: tuple[Pair, ...]
    fragments: dict[int, int]
    absorbed: dict[int, int]


def match_visit(
    tracks: Sequence[Body],
    findings: Sequence[Body],
    *,
    fixed: Sequence[tuple[int, int]] = (),
    forbidden: frozenset[tuple[int, int]] = frozenset(),
    present: Sequence[bool] | None = None,
) -> Match:
    """Assign the findings of a visit to the tracks.

    Parameters
    ----------
    tracks : sequence of Body
        As last seen.
    findings : sequence of Body
    fixed : sequence of (track, finding)
        Pairs that stand, by a reader's decision.
    forbidden : set of (track, finding)
        Pairs that must not be.
    present : sequence of bool, optional
        Whether a track was there at the visit before; only such can split or be
        absorbed. Default: all.

    Returns
    -------
    Match
        ``pairs`` hold the fixed ones too.
    """
    cost, gain = _costs(tracks, findings)
    for pair in forbidden:
        gain[pair] = -np.inf
    fixed_tracks, fixed_findings = {t for t, _ in fixed}, {f for _, f in fixed}
    gain[sorted(fixed_tracks), :] = -np.inf
    gain[:, sorted(fixed_findings)] = -np.inf
    pairs = [*fixed, *_assign(gain)]
    there = [True] * len(tracks) if present is None else list(present)
    fragments, absorbed = _relatives(tracks, findings, dict(pairs), there, forbidden)
    pairs = _largest_goes_on(tracks, findings, pairs, fragments, absorbed, set(fixed))
    return Match(
        tuple(
            Pair(t, f, float(cost[t, f]), _has_rival(cost, gain, t, f))
            for t, f in sorted(pairs)
        ),
        fragments,
        absorbed,
    )


def _costs(
    tracks: Sequence[Body], findings: Sequence[Body]
) -> tuple[FloatArray, FloatArray]:
    """Give cost and gain of every pair, (tracks, findings); no gain beyond the gate.

    The gain is how far below its gate a pair stays, so that one good pair outweighs
    two poor ones: a lesion that went and one that came are not made a wanderer.
    """
    cost = np.empty((len(tracks), len(findings)))
    gain = np.full(cost.shape, -np.inf)
    for t, track in enumerate(tracks):
        for f, finding in enumerate(findings):
            distance = _distance(track.centre_mm, finding.centre_mm)
            ratio = finding.radius_mm / track.radius_mm
            cost[t, f] = distance + abs(float(np.log(ratio)))
            gate = GATE_MM + max(track.radius_mm, finding.radius_mm)
            if distance <= gate:
                gain[t, f] = gate - cost[t, f]
    return cost, gain


def _assign(gain: FloatArray) -> list[tuple[int, int]]:
    """Choose the pairs of most gain altogether; none is made to one's loss."""
    worth = np.where(gain > 0, gain, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return [
        (int(t), int(f)) for t, f in zip(rows, columns, strict=True) if worth[t, f] > 0
    ]


def _has_rival(cost: FloatArray, gain: FloatArray, track: int, finding: int) -> bool:
    """Tell whether another possible pair of either would have cost hardly more."""
    limit = cost[track, finding] + RIVAL_MM
    of_track = (cost[track] <= limit) & (gain[track] > 0)
    of_finding = (cost[:, finding] <= limit) & (gain[:, finding] > 0)
    of_track[finding] = of_finding[track] = False
    return bool(of_track.any() or of_finding.any())


def _relatives(
    tracks: Sequence[Body],
    findings: Sequence[Body],
    pair_of: dict[int, int],
    present: Sequence[bool],
    forbidden: frozenset[tuple[int, int]],
) -> tuple[dict[int, int], dict[int, int]]:
    """Find fragments and absorbed tracks among what has no pair."""
    taken = set(pair_of.values())
    fragments: dict[int, int] = {}
    for f, finding in enumerate(findings):
        parents = [
            (_distance(tracks[t].centre_mm, finding.centre_mm), t)
            for t in pair_of
            if present[t]
            and f not in taken
            and (t, f) not in forbidden
            and tracks[t].holds(finding.centre_mm)
        ]
        if parents:
            fragments[f] = min(parents)[1]
    absorbed: dict[int, int] = {}
    for t, track in enumerate(tracks):
        swallowers = [
            (_distance(track.centre_mm, findings[f].centre_mm), f)
            for f in taken
            if present[t]
            and t not in pair_of
            and (t, f) not in forbidden
            and findings[f].holds(track.centre_mm)
        ]
        if swallowers:
            absorbed[t] = min(swallowers)[1]
    return fragments, absorbed


def _largest_goes_on(
    tracks: Sequence[Body],
    findings: Sequence[Body],
    pairs: list[tuple[int, int]],
    fragments: dict[int, int],
    absorbed: dict[int, int],
    fixed: set[tuple[int, int]],
) -> list[tuple[int, int]]:
    """Let the largest fragment, and the largest parent, carry the track on."""
    chosen = []
    for pair in pairs:
        t, f = pair
        parts = [part for part, parent in fragments.items() if parent == t]
        parents = [track for track, into in absorbed.items() if into == f]
        if pair not in fixed and parts:
            f = max([f, *parts], key=lambda one: findings[one].volume_mm3)
        elif pair not in fixed and parents:
            t = max([t, *parents], key=lambda one: tracks[one].volume_mm3)
        if f != pair[1]:
            del fragments[f]
            fragments[pair[1]] = t
            absorbed.update({track: f for track in parents})
        if t != pair[0]:
            del absorbed[t]
            absorbed[pair[0]] = f
        chosen.append((t, f))
    return chosen


def _distance(one: Vector, other: Vector) -> float:
    return float(np.linalg.norm(np.subtract(one, other)))


def _moved(matrix: FloatArray, point: Vector) -> Vector:
    x, y, z = (float(v) for v in matrix[:3, :3] @ np.asarray(point) + matrix[:3, 3])
    return x, y, z
