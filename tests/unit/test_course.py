"""From rows to case and course: every edge of what may and may not be concluded."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from segmentation.followup.case import State
from segmentation.followup.course import PatientCase, day_of, patient_case
from segmentation.followup.course_document import CourseView, course_document
from segmentation.followup.course_rows import CourseRows
from segmentation.followup.course_schemas import Course
from segmentation.followup.figures import percent, rounded
from segmentation.followup.sightings import length_tenths, volume_tenths
from tests.course_rows import day, patient, scan, study


def states(rows: CourseRows, name: str) -> list[str]:
    """What is known of a lesion, visit by visit: the state, or why there is none."""
    found = patient_case(rows)
    track = next(t.id for t in rows.tracks.tracks if t.label == name)
    seen = [found.sightings.of[track, v.study_uid].observation for v in rows.visits]
    return [one.reason or one.state.value for one in seen]


def visits_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    return document["visits"]


def categories(rows: CourseRows, rule_set: str | None = None) -> list[str | None]:
    return [
        visit["assessment"] and visit["assessment"]["category"]
        for visit in visits_of(course_document(rows, rule_set))
    ]


def case_of(rows: CourseRows) -> PatientCase:
    found = patient_case(rows)
    assert found.case is not None
    return found


# -- lengths -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length_mm", "tenths"),
    [
        (7.25, 73),  # exactly half: up
        (7.15, 72),  # as a double just above
        (10.35, 104),  # as a double just below, but a person wrote a half
        (10.349999, 103),
        (0.04, 1),  # what is there is never nothing
        (0.0, 1),
        (31.2, 312),
        (26.0 * 1.2, 312),
        (14.1 + 1e-13, 141),
        (99.95, 1000),
    ],
)
def test_lengths_become_tenths_halves_up(length_mm: float, tenths: int) -> None:
    assert length_tenths(length_mm) == tenths


@pytest.mark.parametrize(
    ("volume_ml", "tenths"),
    [(0.0001, 1), (0.00015, 2), (0.00001, 1), (1.00005, 10001), (12.3456, 123456)],
)
def test_volumes_become_tenths_of_a_cubic_millimetre(
    volume_ml: float, tenths: int
) -> None:
    assert volume_tenths(volume_ml) == tenths


def test_perpendicular_is_never_longer_than_the_longest() -> None:
    rows = patient(
        scan(1, A={"longest_mm": 12.2499999, "perpendicular_diameter_mm": 12.25})
    )
    (visit,) = case_of(rows).case.visits  # type: ignore[union-attr]
    seen = visit.observations["A"]
    assert seen.longest_tenths_mm == seen.perpendicular_tenths_mm == 122


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("20240229", date(2024, 2, 29)),
        ("2024.02.29", date(2024, 2, 29)),
        ("2024-02-29", date(2024, 2, 29)),
        (" 20240229 ", date(2024, 2, 29)),
        ("20230229", None),
        ("00000000", None),
        ("2024", None),
        ("", None),
        (None, None),
        ("20240229x", None),
        ("٢٠٢٤٠٢٢٩", None),
    ],
)
def test_dates_are_read_or_not_known(text: str | None, when: date | None) -> None:
    assert day_of(text) == when


def test_percentages_are_rounded_once_halves_away_from_zero() -> None:
    from fractions import Fraction

    assert percent(Fraction(-1, 2000)) == -0.1
    assert percent(Fraction(1, 2000)) == 0.1
    assert percent(Fraction(-3, 10)) == -30.0
    assert percent(None) is None
    assert rounded(0.00005, 4) == 0.0001
    assert math.copysign(1, percent(Fraction(0)) or 0.0) == 1


# -- a lesion without a finding ----------------------------------------------------


def test_lesion_without_a_finding_is_gone_where_the_visit_is_registered() -> None:
    rows = patient(scan(1, A=20.0, B=15.0), scan(2, A=20.0))
    assert states(rows, "B") == ["measured", "absent"]


def test_lesion_is_never_silently_gone_where_the_visit_is_not_registered() -> None:
    rows = patient(scan(1, A=20.0, B=15.0), scan(2, A=20.0), unregistered=(2,))
    assert states(rows, "B") == ["measured", "not_registered"]
    assert categories(rows) == ["BASELINE", "NE"]


def test_registration_that_was_not_tried_yet_is_none() -> None:
    rows = patient(scan(1, A=20.0), scan(2))
    rows = replace(rows, registrations={})
    assert states(rows, "A") == ["measured", "not_registered"]
    shown = visits_of(course_document(rows))[1]
    assert shown["registration"] is None


def test_first_visit_needs_no_registration() -> None:
    rows = patient(scan(1, A=20.0), scan(2, A=20.0, B=12.0))
    assert states(rows, "B") == ["absent", "measured"]


def test_lesion_is_not_gone_while_a_link_of_the_visit_waits() -> None:
    rows = patient(scan(1, A=20.0, B=15.0), scan(2, A=20.0, C=4.0), pending=((2, "C"),))
    assert states(rows, "B") == ["measured", "link_pending"]
    assert states(rows, "C") == ["absent", "link_pending"]
    shown = course_document(rows)
    assert shown["pending_links"] == 1
    assert [visit["pending_links"] for visit in visits_of(shown)] == [0, 1]
    assert categories(rows)[1] == "NE"


def test_lesion_is_not_gone_while_a_finding_belongs_to_nothing() -> None:
    rows = patient(scan(1, A=20.0, B=15.0), scan(2, A=20.0, C=4.0), unlinked=("C",))
    assert states(rows, "B") == ["measured", "link_pending"]
    (finding,) = visits_of(course_document(rows))[1]["unlinked"]
    assert finding["longest_diameter_mm"] == 4.0


def test_pending_link_measures_nothing_yet() -> None:
    rows = patient(scan(1, A=20.0), scan(2, A=10.0), pending=((2, "A"),))
    assert states(rows, "A") == ["measured", "link_pending"]
    (track,) = course_document(rows)["tracks"]
    cell = track["observations"][1]
    # It is shown, so that the reader can decide, but does not count.
    assert (cell["longest_diameter_mm"], cell["change_mm"]) == (10.0, None)
    assert cell["link"].state == "pending"


def test_visit_without_lesions_is_a_visit() -> None:
    rows = patient(scan(1, A=20.0), scan(2))
    assert states(rows, "A") == ["measured", "absent"]
    assert categories(rows)[1] != "NE"


def test_lesion_that_comes_back_keeps_its_line() -> None:
    rows = patient(scan(1, A=20.0, B=12.0), scan(2, A=20.0), scan(3, A=20.0, B=6.0))
    assert states(rows, "B") == ["measured", "absent", "measured"]
    codes = [
        reason.code
        for reason in visits_of(course_document(rows))[2]["assessment"]["reasons"]
    ]
    assert "reappeared" in codes


# -- rejected ----------------------------------------------------------------------


def test_rejected_lesion_counts_nowhere() -> None:
    rejected = {"longest_mm": 30.0, "review": "rejected"}
    rows = patient(scan(1, A=20.0, B=rejected), scan(2, A=20.0, B=rejected))
    shown = course_document(rows)
    assert [track["label"] for track in shown["tracks"]] == ["A"]
    assert [visit["sum_mm"] for visit in visits_of(shown)] == [20.0, 20.0]
    assert visits_of(shown)[0]["sum_volume_ml"] == pytest.approx(4.16)
    assert visits_of(shown)[0]["unlinked"] == []
    case = case_of(rows).case
    assert case is not None
    assert set(case.lesions) == {"A"}


def test_lesion_rejected_at_one_visit_is_gone_there() -> None:
    rows = patient(
        scan(1, A=20.0, B=12.0),
        scan(2, A=20.0, B={"longest_mm": 12.0, "review": "rejected"}),
    )
    assert states(rows, "B") == ["measured", "absent"]


def test_rejected_finding_that_waited_for_its_link_waits_no_more() -> None:
    rows = patient(
        scan(1, A=20.0, B=12.0),
        scan(2, A=20.0, C={"longest_mm": 12.0, "review": "rejected"}),
        pending=((2, "C"),),
    )
    assert states(rows, "B") == ["measured", "absent"]


# -- too small ---------------------------------------------------------------------


def test_lesion_thinner_than_the_slices_are_apart_is_too_small() -> None:
    thick = {"spacing_mm": (5.5, 0.9, 0.9), "slice_thickness_mm": 5.0}
    rows = patient(scan(1, A=20.0, B=12.0), scan(2, A=20.0, B=4.2, result=thick))
    assert states(rows, "B") == ["measured", "too_small"]
    fine = patient(scan(1, A=20.0, B=12.0), scan(2, A=20.0, B=4.2))
    assert states(fine, "B") == ["measured", "measured"]


def test_default_value_never_makes_a_lesion_smaller() -> None:
    thick = {"spacing_mm": (7.0, 0.9, 0.9), "slice_thickness_mm": 6.0}
    rows = patient(scan(1, A=20.0), scan(2, A=6.0, result=thick))
    assert states(rows, "A") == ["measured", "measured"]


def test_reader_says_too_small() -> None:
    rows = patient(
        scan(1, A=20.0),
        scan(2, A=6.0),
        readings={("A", 2): {"state": "too_small"}},
    )
    assert states(rows, "A") == ["measured", "too_small"]
    assert visits_of(course_document(rows))[1]["sum_mm"] == 5.0


# -- what a reader says ------------------------------------------------------------


def test_reader_stands_over_what_was_measured() -> None:
    rows = patient(
        scan(1, A=20.0, B=15.0),
        scan(2, A=20.0, B=15.0),
        readings={
            ("A", 2): {"state": "absent"},
            ("B", 2): {"state": "not_assessed", "reason": "artefact"},
        },
    )
    assert states(rows, "A") == ["measured", "absent"]
    assert states(rows, "B") == ["measured", "artefact"]
    cell = course_document(rows)["tracks"][0]["observations"][1]
    assert (cell["state"], cell["longest_diameter_mm"]) == ("absent", 20.0)


def test_reader_says_that_a_lesion_is_gone_at_an_unregistered_visit() -> None:
    rows = patient(
        scan(1, A=20.0),
        scan(2),
        unregistered=(2,),
        readings={("A", 2): {"state": "absent"}},
    )
    assert states(rows, "A") == ["measured", "absent"]


def test_local_treatment_is_for_good() -> None:
    rows = patient(
        scan(1, A=20.0),
        scan(2, A=18.0),
        scan(3, A=16.0),
        readings={
            ("A", 2): {
                "state": "locally_treated",
                "treated_on": date(2024, 1, 20),
                "modality": "radiosurgery",
            }
        },
    )
    assert states(rows, "A") == ["measured", "locally_treated", "measured"]
    assert categories(rows) == ["BASELINE", "NE", "NE"]


def test_fused_lesions_stay_fused() -> None:
    rows = patient(
        scan(1, A=20.0, B=12.0),
        scan(2, A=30.0),
        scan(3, A=31.0),
        scan(4, A=20.0, B=9.0),
        readings={("B", 2): {"state": "merged", "into": "A"}},
    )
    assert states(rows, "B") == ["measured", "merged", "merged", "measured"]
    # 20 + 12 -> 30: together no growth.
    assert visits_of(course_document(rows))[1]["sum_mm"] == 30.0


def test_lesion_that_ended_in_another_has_fused_once_a_reader_confirms() -> None:
    def rows(state: str) -> CourseRows:
        plain = patient(scan(1, A=20.0, B=12.0), scan(2, A=30.0), scan(3, A=31.0))
        b = next(t.id for t in plain.tracks.tracks if t.label == "B")
        members = tuple(
            replace(m, relation="merge", state=state, reason=f"far merge:{b}")
            if m.study_uid == study(2)
            else m
            for m in plain.tracks.members
        )
        return replace(plain, tracks=replace(plain.tracks, members=members))

    assert states(rows("confirmed"), "B") == ["measured", "merged", "merged"]
    assert visits_of(course_document(rows("confirmed")))[2]["sum_mm"] == 31.0
    assert states(rows("pending"), "B") == ["measured", "link_pending", "link_pending"]


def test_fragments_take_the_place_of_a_lesion() -> None:
    rows = patient(
        scan(1, A=20.0),
        scan(2, A1=8.0, A2=7.0),
        scan(3, A1=8.0),
        tracks={"A": {}, "A1": {"split_from": "A"}, "A2": {"split_from": "A"}},
    )
    assert states(rows, "A") == ["measured", "split", "split"]
    assert [visit["sum_mm"] for visit in visits_of(course_document(rows))] == [
        20.0,
        15.0,
        8.0,
    ]


def test_lesion_that_lost_a_piece_and_then_went_is_gone() -> None:
    rows = patient(
        scan(1, A=20.0),
        scan(2, A=12.0, A1=7.0),
        scan(3, A1=7.0),
        tracks={"A": {}, "A1": {"split_from": "A"}},
    )
    assert states(rows, "A") == ["measured", "measured", "absent"]
    assert visits_of(course_document(rows))[2]["sum_mm"] == 7.0


def test_fragment_that_waits_splits_nothing_yet() -> None:
    rows = patient(
        scan(1, A=20.0),
        scan(2, A1=8.0),
        tracks={"A": {}, "A1": {"split_from": "A"}},
        pending=((2, "A1"),),
    )
    assert states(rows, "A") == ["measured", "link_pending"]


def test_split_that_waits_stays_open_at_later_visits() -> None:
    rows = patient(
        scan(1, A=20.0),
        scan(2, A1=8.0),
        scan(3, A1=8.0),
        tracks={"A": {}, "A1": {"split_from": "A"}},
        pending=((2, "A1"),),
    )
    assert states(rows, "A") == ["measured", "link_pending", "link_pending"]
    assert categories(rows)[2] == "NE"


def test_nothing_is_derived_that_only_a_reader_knows() -> None:
    rows = patient(scan(1, A=20.0), scan(2, A=20.0, B=30.0))
    case = case_of(rows).case
    assert case is not None
    for visit in case.visits:
        assert visit.steroids.use == "not_recorded"
        assert visit.steroids.change is None
        assert visit.clinical == "not_recorded"
        assert visit.non_target is None
        assert all(seen.certainty is None for seen in visit.observations.values())
    second = visits_of(course_document(rows))[1]
    assert second["reading"]["missing"] == [
        "steroids",
        "clinical",
        "non_target",
        "new_lesion_certainty",
    ]
    # A lesion that is new, however large, is no progression until a reader says so.
    assert second["assessment"]["category"] == "SD"
    assert second["assessment"]["new_lesions"] == ["B"]
    certain = patient(
        scan(1, A=20.0),
        scan(2, A=20.0, B=30.0),
        readings={("B", 2): {"certainty": "unequivocal"}},
    )
    assert categories(certain)[1] == "PD"


def test_baseline_asks_nothing_of_the_reader() -> None:
    (first,) = visits_of(course_document(patient(scan(1, A=20.0))))
    assert first["reading"]["missing"] == []


# -- targets -----------------------------------------------------------------------


def test_roles_are_the_rules_until_a_reader_sets_them() -> None:
    plain = course_document(patient(scan(1, A=20.0, B=6.0), scan(2, A=20.0, B=6.0)))
    assert [(t["role"], t["role_by"]) for t in plain["tracks"]] == [
        ("target", "rule"),
        ("non_target", "rule"),
    ]
    assert "below 10.0 mm" in plain["tracks"][1]["role_reasons"][0]
    chosen = course_document(
        patient(
            scan(1, A=20.0, B=6.0),
            scan(2, A=20.0, B=6.0),
            tracks={"A": {"role": "non_target"}, "B": {"role": "target"}},
        )
    )
    assert [(t["role"], t["role_by"]) for t in chosen["tracks"]] == [
        ("non_target", "reader"),
        ("target", "reader"),
    ]
    assert visits_of(chosen)[0]["sum_mm"] == 6.0


def test_lesion_that_is_new_has_no_role() -> None:
    shown = course_document(patient(scan(1, A=20.0), scan(2, A=20.0, B=12.0)))
    assert shown["tracks"][1]["role"] is None


def test_lesion_at_the_border_of_the_image_is_no_target() -> None:
    cut = {"longest_mm": 20.0, "warnings": ("touches-border",)}
    shown = course_document(patient(scan(1, A=cut, B=12.0)))
    assert [track["role"] for track in shown["tracks"]] == ["non_target", "target"]
    assert shown["tracks"][0]["role_reasons"] == ["goes on outside the image"]


def test_thick_slices_ask_for_longer_lesions() -> None:
    thick = {"spacing_mm": (7.0, 0.9, 0.9), "slice_thickness_mm": 6.0}
    shown = course_document(patient(scan(1, A=13.9, B=14.0, result=thick)))
    assert [track["role"] for track in shown["tracks"]] == ["non_target", "target"]


def test_kind_of_a_lesion_decides() -> None:
    rows = patient(scan(1, A=20.0, B=15.0), tracks={"A": {"kind": "dural"}})
    assert course_document(rows)["tracks"][0]["role"] == "non_target"


# -- visits ------------------------------------------------------------------------


def test_visits_may_come_in_any_order() -> None:
    first, second, third = scan(1, A=20.0), scan(2, A=12.0), scan(3, A=25.0)
    expected = course_document(patient(first, second, third))
    for order in ((third, first, second), (second, third, first)):
        assert course_document(patient(*order)) == expected
    assert [visit["is_nadir"] for visit in visits_of(expected)] == [False, True, False]
    assert [visit["is_baseline"] for visit in visits_of(expected)] == [
        True,
        False,
        False,
    ]


def test_study_without_a_date_is_shown_and_left_out() -> None:
    rows = patient(scan(1, A=20.0), scan(2, "", A=40.0), scan(3, A=20.0))
    shown = visits_of(course_document(rows))
    assert [visit["study_uid"] for visit in shown] == [study(1), study(3), study(2)]
    assert shown[2]["date"] is None
    assert shown[2]["left_out"]["code"] == "no-date"
    assert shown[2]["assessment"] is None
    assert [
        o["counts"] for o in course_document(rows)["tracks"][0]["observations"]
    ] == [
        True,
        True,
        False,
    ]


def test_of_two_studies_of_one_day_the_last_is_assessed() -> None:
    rows = patient(
        scan(1, A=20.0),
        scan(2, "20240301", time="0900", A=20.0),
        scan(3, "20240301", time="1400", A=10.0),
    )
    shown = visits_of(course_document(rows))
    assert [visit["left_out"] and visit["left_out"]["code"] for visit in shown] == [
        None,
        "same-day",
        None,
    ]
    named = patient(*rows.visits, plan={"baseline_study_uid": study(2)})
    shown = visits_of(course_document(named))
    assert shown[1]["is_baseline"]
    assert shown[2]["left_out"]["code"] == "same-day"
    assert shown[0]["assessment"]["category"] == "NOT_APPLICABLE"


def test_visit_whose_results_are_all_rejected_is_left_out() -> None:
    rows = patient(scan(1, A=20.0), scan(2, rejected=True), scan(3, A=20.0))
    shown = visits_of(course_document(rows))
    assert shown[1]["left_out"]["code"] == "all-rejected"
    assert (shown[1]["result_id"], shown[1]["series_uid"]) == (None, None)
    assert states(rows, "A") == ["measured", "not_read", "measured"]


def test_patient_without_any_visit_to_assess() -> None:
    rows = patient(scan(1, "", A=20.0), scan(2, rejected=True))
    shown = course_document(rows)
    assert patient_case(rows).case is None
    assert [visit["assessment"] for visit in visits_of(shown)] == [None, None]
    assert shown["tracks"][0]["role"] is None
    assert _valid(shown)


def test_baseline_is_the_plans_else_the_last_before_treatment_else_the_first() -> None:
    scans = [scan(number, A=20.0) for number in (1, 2, 3)]

    def baseline(**plan: Any) -> list[bool]:
        shown = course_document(patient(*scans, plan=plan))
        return [visit["is_baseline"] for visit in visits_of(shown)]

    assert baseline() == [True, False, False]
    assert baseline(treatment_start=date(2024, 2, 10)) == [False, True, False]
    assert baseline(baseline_study_uid=study(3)) == [False, False, True]
    # A baseline that is no visit any more is none.
    assert baseline(baseline_study_uid="1.2.99") == [True, False, False]


def test_resets_start_anew_and_those_before_the_baseline_do_nothing() -> None:
    scans = [scan(1, A=20.0), scan(2, A=30.0), scan(3, A=30.0)]
    resets = ({"study_uid": study(2), "reason": "new drug"},)
    shown = visits_of(course_document(patient(*scans, plan={"resets": resets})))
    assert [visit["is_baseline"] for visit in shown] == [True, True, False]
    assert shown[2]["change_from_baseline_percent"] == 0.0
    early = {"resets": resets, "baseline_study_uid": study(3)}
    shown = visits_of(course_document(patient(*scans, plan=early)))
    assert [visit["is_baseline"] for visit in shown] == [False, False, True]


def test_both_rule_sets_answer() -> None:
    rows = patient(scan(1, A=14.0, B=14.0), scan(2, A=17.0, B=17.0))
    assert categories(rows) == ["BASELINE", "SD"]
    assert categories(rows, "recist-1.1") == ["BASELINE", "PD"]
    planned = patient(*rows.visits, plan={"rule_set": "recist-1.1"})
    assert course_document(planned)["rule_set"] == "recist-1.1"
    unknown = patient(*rows.visits, plan={"rule_set": "of-another-version"})
    assert course_document(unknown)["rule_set"] == "rano-bm"


# -- figures -----------------------------------------------------------------------


def test_figures_of_a_course() -> None:
    rows = patient(
        scan(1, A=20.0, B=10.0, reading={"steroid_use": "none"}),
        scan(2, A=13.0, B=8.0),
        scan(3, A=16.0),
    )
    shown = course_document(rows, current_study_uid=study(3))
    second, third = visits_of(shown)[1:]
    assert shown["current_study_uid"] == study(3)
    assert (second["sum_mm"], second["change_from_baseline_percent"]) == (21.0, -30.0)
    assert second["assessment"]["category"] == "PR"
    assert second["assessment"]["confirmed"] is True
    assert second["assessment"]["best_response"] == "PR"
    assert third["change_from_nadir_percent"] == -23.8
    a, b = shown["tracks"]
    assert [cell["change_mm"] for cell in a["observations"]] == [None, -7.0, 3.0]
    assert [cell["change_percent"] for cell in a["observations"]] == [0.0, -35.0, -20.0]
    assert [cell["change_mm"] for cell in b["observations"]] == [None, -2.0, -8.0]
    assert b["observations"][2]["change_percent"] == -100.0
    assert b["observations"][2]["state"] == State.ABSENT
    assert second["assessment"]["volumetric"]["category"] != ""
    assert _valid(shown)


def test_change_is_against_the_last_visit_with_a_value() -> None:
    rows = patient(
        scan(1, A=20.0, B=15.0),
        scan(2, B=15.0),
        scan(3, A=24.0, B=15.0),
        readings={("A", 2): {"state": "not_assessed", "reason": "artefact"}},
    )
    cells = course_document(rows)["tracks"][0]["observations"]
    assert [cell["change_mm"] for cell in cells] == [None, None, 4.0]


def test_incomplete_sum_says_so() -> None:
    rows = patient(
        scan(1, A=20.0, B=15.0),
        scan(2, A=20.0),
        unregistered=(2,),
    )
    second = visits_of(course_document(rows))[1]
    assert (second["sum_mm"], second["sum_complete"]) == (20.0, False)
    assert second["change_from_baseline_percent"] is None


def test_label_that_is_no_id_of_a_case_is_replaced() -> None:
    rows = patient(scan(1, A=20.0), tracks={"A": {"label": "left, near the ventricle"}})
    found = case_of(rows)
    assert list(found.names.values()) == [rows.tracks.tracks[0].id]
    assert course_document(rows)["tracks"][0]["label"] == "left, near the ventricle"


# -- what is signed ----------------------------------------------------------------


def hashes(rows: CourseRows) -> dict[str, str]:
    view = CourseView(rows)
    return {visit: inputs.sha256 for visit, inputs in view.inputs.items()}


def test_later_visit_leaves_the_inputs_of_earlier_ones() -> None:
    two = patient(scan(1, A=20.0), scan(2, A=20.0))
    three = patient(scan(1, A=20.0), scan(2, A=20.0), scan(3, A=20.0, B=12.0))
    before, after = hashes(two), hashes(three)
    assert {visit: after[visit] for visit in before} == before


@pytest.mark.parametrize(
    "changed",
    [
        {"tracks": {"A": {"role": "non_target"}}},
        {"tracks": {"A": {"kind": "dural"}}},
        {"plan": {"treatment_start": date(2024, 1, 2)}},
        {"plan": {"protocol": {"max_targets": 2}}},
        {"readings": {("A", 2): {"state": "too_small"}}},
        {"readings": {("A", 1): {"radionecrosis_suspected": True}}},
        {"pending": ((2, "A"),)},
    ],
)
def test_every_input_changes_the_hash(changed: dict[str, Any]) -> None:
    scans = (scan(1, A=20.0, B=12.0), scan(2, A=20.0, B=12.0), scan(3, A=20.0, B=12.0))
    before, after = hashes(patient(*scans)), hashes(patient(*scans, **changed))
    for number in (2, 3):
        assert before[day(number).isoformat()] != after[day(number).isoformat()]


def test_reading_of_a_visit_changes_its_hash_and_those_of_later_ones() -> None:
    def scans(**reading: str) -> CourseRows:
        return patient(
            scan(1, A=20.0), scan(2, A=20.0, reading=reading), scan(3, A=20.0)
        )

    before, after = hashes(scans()), hashes(scans(clinical="stable"))
    assert [before[visit] == after[visit] for visit in sorted(before)] == [
        True,
        False,
        False,
    ]
    # What is no input of the criteria makes nothing stale.
    assert hashes(scans(note="seen with the surgeon")) == before


def test_treatment_that_is_dated_back_changes_earlier_visits() -> None:
    scans = (scan(1, A=20.0), scan(2, A=20.0), scan(3, A=20.0))
    treated = {"state": "locally_treated", "modality": "surgery"}

    def with_treatment(when: date) -> CourseRows:
        return patient(*scans, readings={("A", 3): {**treated, "treated_on": when}})

    plain = hashes(patient(*scans))
    late = with_treatment(date(2024, 2, 15))
    early = with_treatment(date(2024, 1, 15))
    second = day(2).isoformat()
    assert hashes(late)[second] == plain[second]
    assert hashes(early)[second] != plain[second]
    assert categories(early)[1] == "NE"


def _valid(document: dict[str, Any]) -> bool:
    dumped = json.loads(json.dumps(Course().dump(document)))
    return Course().validate(dumped) == {}
