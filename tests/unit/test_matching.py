"""Which lesion is which from one visit to the next, and what waits for the reader."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.lining_up import measure_matching
from segmentation.followup.matching import Body, match_visit
from tests.lesion_courses import ball, rod


def _pairs(match):
    return {(pair.track, pair.finding) for pair in match.pairs}


def test_what_stays_where_it_was_is_the_same():
    at = [(0, 0, 0), (30, 0, 0), (0, 40, 0)]
    match = match_visit([ball(p, 10) for p in at], [ball(p, 8) for p in reversed(at)])
    assert _pairs(match) == {(0, 2), (1, 1), (2, 0)}
    assert all(pair.cost_mm < 0.3 for pair in match.pairs)
    assert not any(pair.rival for pair in match.pairs)


def test_the_gate_grows_with_the_larger_lesion():
    assert not match_visit([ball((0, 0, 0), 4)], [ball((8, 0, 0), 4)]).pairs
    # A large lesion that shrank to one side is still the same.
    assert match_visit([ball((0, 0, 0), 30)], [ball((9, 0, 0), 14)]).pairs


def test_one_that_went_and_one_that_came_are_not_a_wanderer():
    # Pairing all four would cost two poor links in place of one perfect one.
    tracks = [ball((0, 0, 0), 6), ball((7, 0, 0), 6)]
    findings = [ball((7, 0, 0), 6), ball((14.5, 0, 0), 6)]
    assert _pairs(match_visit(tracks, findings)) == {(1, 0)}


def test_a_second_choice_nearly_as_good_is_told():
    findings = [ball((0, -3.2, 0), 6), ball((0, 3.6, 0), 6)]
    (pair,) = match_visit([ball((0, 0, 0), 6)], findings).pairs
    assert pair.finding == 0
    assert pair.rival
    far = [ball((0, -3.2, 0), 6), ball((0, 12, 0), 6)]
    (pair,) = match_visit([ball((0, 0, 0), 6)], far).pairs
    assert not pair.rival


def test_fragments_belong_to_what_fell_apart_and_the_largest_goes_on():
    whole = rod((-10, 0, 0), (10, 0, 0), 2500.0)
    parts = [ball((-7, 0, 0), 6), ball((6, 0, 0), 9)]
    match = match_visit([whole], parts)
    assert _pairs(match) == {(0, 1)}
    assert match.fragments == {0: 0}
    assert _pairs(match_visit([whole], parts[::-1])) == {(0, 0)}


def test_what_comes_beside_a_lesion_is_no_fragment():
    match = match_visit(
        [ball((0, 0, 0), 12)], [ball((0, 0, 0), 12), ball((11, 0, 0), 5)]
    )
    assert not match.fragments


def test_what_a_grown_lesion_holds_was_absorbed_and_the_larger_goes_on():
    apart = [ball((-6, 0, 0), 8), ball((6, 0, 0), 10)]
    fused = rod((-11, 0, 0), (12, 0, 0), 1300.0)
    match = match_visit(apart, [fused])
    assert _pairs(match) == {(1, 0)}
    assert match.absorbed == {0: 0}
    assert match_visit(apart[::-1], [fused]).absorbed == {1: 0}


def test_what_vanished_beside_a_lesion_was_not_absorbed():
    match = match_visit(
        [ball((0, 0, 0), 12), ball((13, 0, 0), 4)], [ball((0, 0, 0), 12)]
    )
    assert not match.absorbed


def test_three_may_become_one():
    tracks = [ball((x, 0, 0), 8 + x / 10) for x in (-9, 0, 9)]
    match = match_visit(tracks, [rod((-14, 0, 0), (14, 0, 0), 1500.0)])
    assert _pairs(match) == {(2, 0)}
    assert match.absorbed == {0: 0, 1: 0}


def test_what_was_not_there_at_the_visit_before_is_neither_split_nor_absorbed():
    apart = [ball((-6, 0, 0), 8), ball((6, 0, 0), 10)]
    fused = rod((-11, 0, 0), (12, 0, 0), 1300.0)
    assert not match_visit(apart, [fused], present=[False, True]).absorbed


def test_a_readers_pairs_stand_and_forbidden_ones_do_not_come_about():
    tracks = [ball((0, 0, 0), 8), ball((30, 0, 0), 8)]
    findings = [ball((0, 0, 0), 8), ball((30, 0, 0), 8)]
    crossed = match_visit(tracks, findings, fixed=[(0, 1)])
    assert (0, 1) in _pairs(crossed)
    assert (1, 1) not in _pairs(crossed)
    assert _pairs(match_visit(tracks, findings, forbidden=frozenset({(0, 0)}))) == {
        (1, 1)
    }


def test_nothing_to_match_is_no_failure():
    assert match_visit([], []).pairs == ()
    assert match_visit([ball((0, 0, 0), 5)], []).pairs == ()
    assert match_visit([], [ball((0, 0, 0), 5)]).pairs == ()


@pytest.mark.parametrize("length", [10.0, 14.0, 25.0])
def test_a_rod_has_the_volume_it_is_given(length):
    body = Body((0, 0, 0), 400.0, ((-length / 2, 0, 0), (length / 2, 0, 0)))
    # Measured by asking many points, without the margin that a centre is granted.
    from segmentation.followup import matching

    random = np.random.default_rng(1)
    half = np.array([length / 2, 8, 8])
    points = random.uniform(-half, half, (40_000, 3))
    margin = matching.BODY_MARGIN_MM
    try:
        matching.BODY_MARGIN_MM = 0.0
        inside = sum(body.holds(tuple(point)) for point in points)
    finally:
        matching.BODY_MARGIN_MM = margin
    assert inside / len(points) * np.prod(2 * half) == pytest.approx(400.0, rel=0.06)


@pytest.mark.parametrize(("error_mm", "least"), [(0.1, 0.998), (1.5, 0.998), (3, 0.99)])
def test_simulated_patients_are_matched(error_mm, least):
    figures = measure_matching(120, error_mm)
    assert figures["f1"] >= least
    # A wrong link that does not even wait for the reader is the worst that can be.
    assert figures["wrong_and_not_waiting"] < 0.002
