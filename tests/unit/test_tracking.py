"""Lesions over all visits: relations, what waits, and that readers decide."""

from __future__ import annotations

import pytest

from segmentation.followup.tracking import KnownTrack, Ruling, follow
from tests.lesion_courses import rigid, rod, told, visit

A, B, C = (0.0, 0.0, 0.0), (40.0, 0.0, 0.0), (0.0, 40.0, 10.0)
TURN = rigid((8, -5, 12), (9, -4, 14))
BACK = rigid((-6, 3, -9), (-5, 8, 2))


def _known(**anchors):
    """Tracks as recorded: id, the finding it was named after."""
    return [
        KnownTrack(name, anchor, frozenset({(anchor.split(".")[0], anchor)}))
        for name, anchor in anchors.items()
    ]


def _rule(finding, action, track=None, number=1):
    return Ruling((finding.split(".")[0], finding), action, track, number)


def test_lesions_are_followed_through_visits_that_lie_otherwise():
    courses = follow(
        [
            visit("1", [("a", A, 20), ("b", B, 8)]),
            visit("2", [("b", B, 9), ("a", A, 14)], moved_by=TURN),
            visit("3", [("a", A, 16), ("b", B, 10)], moved_by=BACK),
        ]
    )
    assert told(courses) == {
        ("1.a:first:automatic", "2.a:same:automatic", "3.a:same:automatic"),
        ("1.b:first:automatic", "2.b:same:automatic", "3.b:same:automatic"),
    }
    assert courses[0].links[0].key == ("1", "1.a")  # the largest comes first


def test_new_gone_and_back_again():
    courses = follow(
        [
            visit("1", [("a", A, 12), ("b", B, 8)]),
            visit("2", [("a", A, 12), ("n", C, 6)]),
            visit("3", [("a", A, 12), ("b", B, 7)]),
        ]
    )
    assert told(courses) == {
        ("1.a:first:automatic", "2.a:same:automatic", "3.a:same:automatic"),
        ("1.b:first:automatic", "3.b:reappeared:pending"),
        ("2.n:new:automatic",),
    }


def test_what_fell_apart_and_what_grew_together_waits():
    whole = rod((-10, 0, 0), (10, 0, 0), 2500.0)
    parts = [("large", (6.0, 0, 0), 9), ("small", (-7.0, 0, 0), 6)]
    courses = follow(
        [visit("1", [("a", whole)]), visit("2", parts), visit("3", [("a", whole)])]
    )
    assert told(courses) == {
        ("1.a:first:automatic", "2.large:same:pending", "3.a:merge:pending"),
        ("2.small:split:pending",),
    }
    assert courses[1].split_from == 0
    assert courses[0].links[-1].absorbed == (1,)
    assert "split" in courses[0].links[1].reasons


def test_what_is_far_or_ambiguous_waits():
    far = follow([visit("1", [("a", A, 12)]), visit("2", [("a", (7.0, 0, 0), 12)])])
    assert told(far) == {("1.a:first:automatic", "2.a:same:pending")}
    assert far[0].links[1].reasons == ("far",)
    two = [("x", (0.0, -4.7, 0), 6), ("y", (0.0, 6.2, 0), 6)]
    (course, other) = follow([visit("1", [("a", A, 6)]), visit("2", two)])
    assert course.links[1].reasons == ("ambiguous",)
    assert other.links[0].relation == "new"


def test_without_a_registration_nothing_is_linked():
    unregistered = visit("2", [("a", A, 12)], registered=False)
    courses = follow(
        [visit("1", [("a", A, 12)]), unregistered, visit("3", [("a", A, 12)])]
    )
    assert told(courses) == {
        # Not gone in between either: nobody knows.
        ("1.a:first:automatic", "3.a:same:automatic"),
        ("2.a:new:pending",),
    }
    (waiting,) = (course.links[0] for course in courses if len(course.links) == 1)
    assert waiting.reasons == ("not-registered",)


def test_a_visit_without_lesions_counts():
    courses = follow([visit("1", []), visit("2", [("a", A, 6)])])
    assert told(courses) == {("2.a:new:automatic",)}
    gone = follow(
        [visit("1", [("a", A, 6)]), visit("2", []), visit("3", [("a", A, 6)])]
    )
    assert told(gone) == {("1.a:first:automatic", "3.a:reappeared:pending")}


# -- readers -------------------------------------------------------------------


def test_a_reader_links_what_is_out_of_reach():
    visits = [visit("1", [("a", A, 12)]), visit("2", [("a", (25.0, 0, 0), 12)])]
    rulings = [_rule("2.a", "link", "T", number=7)]
    (course,) = follow(visits, rulings, _known(T="1.a"))
    assert told([course]) == {("1.a:first:automatic", "2.a:same:confirmed")}
    assert course.links[1].ruling == 7


def test_a_reader_takes_the_place_of_what_was_matched():
    visits = [
        visit("1", [("a", A, 12)]),
        visit("2", [("a", A, 12), ("other", (25.0, 0, 0), 12)]),
    ]
    courses = follow(visits, [_rule("2.other", "link", "T")], _known(T="1.a"))
    assert told(courses) == {
        ("1.a:first:automatic", "2.other:same:confirmed"),
        # Where the lesion was, something still is: a fragment, for the reader to say.
        ("2.a:split:pending",),
    }


def test_of_two_decisions_for_one_place_the_later_stands():
    visits = [
        visit("1", [("a", A, 12)]),
        visit("2", [("x", (25.0, 0, 0), 12), ("y", (0, 25.0, 0), 12)]),
    ]
    rulings = [_rule("2.x", "link", "T", 1), _rule("2.y", "link", "T", 2)]
    courses = follow(visits, rulings, _known(T="1.a"))
    assert ("1.a:first:automatic", "2.y:same:confirmed") in told(courses)


def test_a_reader_says_that_it_is_new_and_it_goes_on_from_there():
    visits = [visit(n, [("a", A, 12)]) for n in "123"]
    courses = follow(visits, [_rule("2.a", "new")], _known(T="1.a"))
    assert [len(course.links) for course in courses] in ([1, 2], [2, 1])
    links = {link.key[1]: link for course in courses for link in course.links}
    assert (links["2.a"].relation, links["2.a"].state) == ("new", "confirmed")


def test_unlinked_is_not_linked_to_that_track_again_but_may_be_to_another():
    visits = [
        visit("1", [("a", A, 8), ("b", (9.0, 0, 0), 8)]),
        visit("2", [("x", (3.0, 0, 0), 8)]),
    ]
    known = _known(T="1.a", U="1.b")
    rulings = [_rule("2.x", "unlink", "T")]
    courses = follow(visits, rulings, known)
    assert told(courses) == {
        ("1.a:first:automatic",),
        ("1.b:first:automatic", "2.x:same:pending"),
    }
    # Linked again later, it is there again.
    rulings.append(_rule("2.x", "link", "T", 2))
    assert ("1.a:first:automatic", "2.x:same:confirmed") in told(
        follow(visits, rulings, known)
    )


def test_a_confirmed_merge_stays_one():
    whole = rod((-11, 0, 0), (12, 0, 0), 1300.0)
    visits = [
        visit("1", [("x", (-6.0, 0, 0), 8), ("y", (6.0, 0, 0), 10)]),
        visit("2", [("m", whole)]),
    ]
    courses = follow(visits, [_rule("2.m", "confirm", "Y")], _known(X="1.x", Y="1.y"))
    assert told(courses) == {
        ("1.y:first:automatic", "2.m:merge:confirmed"),
        ("1.x:first:automatic",),
    }
    (merged,) = (course.links[1] for course in courses if len(course.links) == 2)
    assert merged.absorbed


def test_a_reader_links_at_a_visit_that_could_not_be_registered():
    visits = [
        visit("1", [("a", A, 12)]),
        visit("2", [("a", A, 12)], registered=False),
        visit("3", [("a", A, 12)]),
    ]
    courses = follow(visits, [_rule("2.a", "link", "T")], _known(T="1.a"))
    assert told(courses) == {
        ("1.a:first:automatic", "2.a:same:confirmed", "3.a:same:automatic")
    }


def test_a_decision_made_before_an_earlier_visit_came_still_holds():
    # Decided when visit 2 was the first; the track is named after its finding.
    later = [visit("2", [("a", A, 12)]), visit("3", [("far", (30.0, 0, 0), 12)])]
    rulings = [_rule("3.far", "link", "T")]
    known = _known(T="2.a")
    assert told(follow(later, rulings, known)) == {
        ("2.a:first:automatic", "3.far:same:confirmed")
    }
    courses = follow([visit("1", [("a", A, 12)]), *later], rulings, known)
    assert told(courses) == {
        ("1.a:first:automatic", "2.a:same:automatic", "3.far:same:confirmed")
    }


def test_a_finding_put_into_a_track_that_begins_later_begins_it():
    visits = [
        visit("1", [("x", A, 12)]),
        visit("2", [("t", (30.0, 0, 0), 12)]),
    ]
    courses = follow(visits, [_rule("1.x", "link", "T")], _known(T="2.t"))
    (course,) = courses
    assert [link.key[1] for link in course.links] == ["1.x", "2.t"]
    assert {link.state for link in course.links} == {"confirmed"}


def test_where_the_anchor_is_gone_most_members_decide():
    known = [
        KnownTrack("T", "0.gone", frozenset({("1", "1.a"), ("2", "2.a")})),
    ]
    visits = [
        visit("1", [("a", A, 12), ("b", B, 12)]),
        visit("2", [("far", (0.0, 0.0, 30.0), 12)]),
    ]
    courses = follow(visits, [_rule("2.far", "link", "T")], known)
    assert ("1.a:first:automatic", "2.far:same:confirmed") in told(courses)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_same_input_gives_the_same_courses(count):
    visits = [
        visit(str(n), [(str(i), (i * 20.0, 0, 0), 8) for i in range(count)])
        for n in range(4)
    ]
    assert told(follow(visits)) == told(follow(visits))
    assert len(follow(visits)) == count
