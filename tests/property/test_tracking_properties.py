"""Lesions are followed the same whatever the order, the place and the pose."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segmentation.followup.tracking import Course, VisitFindings, follow
from tests.lesion_courses import rigid, told, visit

coordinates = st.tuples(*[st.integers(-60, 60).map(float)] * 3)
diameters = st.integers(4, 24).map(float)
angles = st.tuples(*[st.integers(-25, 25).map(float)] * 3)
shifts = st.tuples(*[st.integers(-40, 40).map(float)] * 3)


@st.composite
def patients(draw: st.DrawFn) -> list[VisitFindings]:
    """Visits of arbitrary lesions, some of which are followed, registered or not."""
    lesions = draw(st.lists(st.tuples(coordinates, diameters), max_size=6))
    visits = []
    for number in range(draw(st.integers(1, 4))):
        seen = []
        for index, (centre, diameter) in enumerate(lesions):
            if draw(st.booleans()):
                shift = draw(st.tuples(*[st.integers(-4, 4).map(float)] * 3))
                at = tuple(np.add(centre, shift))
                # A tenth more for each keeps two from being equally large.
                seen.append((str(index), at, diameter + 0.1 * index))
        visits.append(visit(str(number), seen, registered=draw(st.integers(0, 5)) > 0))
    return visits


def _exactly(courses: list[Course]) -> list[list[object]]:
    return [
        [(x.key, x.relation, x.state, x.reasons, x.absorbed) for x in course.links]
        for course in courses
    ]


@settings(deadline=None, max_examples=150)
@given(patients(), st.randoms(use_true_random=False))
def test_the_order_of_lesions_does_not_matter(visits, random):
    shuffled = [
        VisitFindings(
            one.visit,
            tuple(random.sample(one.findings, len(one.findings))),
            one.to_baseline,
        )
        for one in visits
    ]
    assert _exactly(follow(shuffled)) == _exactly(follow(visits))


@settings(deadline=None, max_examples=150)
@given(patients(), st.lists(st.tuples(angles, shifts), min_size=4, max_size=4))
def test_how_the_patient_lies_does_not_matter(visits, motions):
    moved = []
    first = rigid(*motions[0])
    for one, motion in zip(visits, motions, strict=False):
        matrix = rigid(*motion)
        moved.append(
            VisitFindings(
                one.visit,
                tuple(type(f)(f.uid, f.body.moved(matrix)) for f in one.findings),
                None
                if one.to_baseline is None
                else first @ one.to_baseline @ np.linalg.inv(matrix),
            )
        )
    before, after = follow(visits), follow(moved)
    # Rounding may turn around a tie; whole numbers of millimetres make them common.
    costs = [
        [link.cost_mm for link in course.links if link.cost_mm] for course in before
    ]
    if told(before) != told(after):
        assert _has_tie(visits), costs
    else:
        for one, other in zip(before, after, strict=True):
            for x, y in zip(one.links, other.links, strict=True):
                assert (x.cost_mm is None) == (y.cost_mm is None)
                assert x.cost_mm is None or abs(x.cost_mm - y.cost_mm) < 1e-6


def _has_tie(visits: list[VisitFindings]) -> bool:
    """Tell whether the answer hangs on the last digit: a little noise changes it."""
    random = np.random.default_rng(0)
    answers = set()
    for _ in range(12):
        nudged = [
            VisitFindings(
                one.visit,
                tuple(
                    type(f)(
                        f.uid,
                        f.body.moved(rigid((0, 0, 0), random.normal(0, 1e-9, 3))),
                    )
                    for f in one.findings
                ),
                one.to_baseline,
            )
            for one in visits
        ]
        answers.add(frozenset(told(follow(nudged))))
    return len(answers) > 1


@settings(deadline=None, max_examples=150)
@given(patients())
def test_every_finding_has_one_place_and_a_track_one_finding_a_visit(visits):
    courses = follow(visits)
    keys = [link.key for course in courses for link in course.links]
    assert sorted(keys) == sorted(
        (one.visit, finding.uid) for one in visits for finding in one.findings
    )
    for number, course in enumerate(courses):
        seen = [link.key[0] for link in course.links]
        assert seen == sorted(set(seen))
        assert course.split_from is None or course.split_from != number
        for link in course.links[1:]:
            assert link.relation in ("same", "merge", "reappeared")
        if course.split_from is not None:
            assert course.links[0].state == "pending"


@settings(deadline=None, max_examples=60)
@given(patients())
def test_what_is_not_registered_is_linked_by_nobody(visits):
    unregistered = {one.visit for one in visits[1:] if one.to_baseline is None}
    for course in follow(visits):
        for link in course.links:
            if link.key[0] in unregistered:
                assert len(course.links) == 1
                assert link.state == "pending"
