"""Which lesions are targets, from which baseline, and their sum over time."""

from __future__ import annotations

from segmentation.followup.recist import RECIST_1_1
from tests.rano_cases import (
    Document,
    case,
    codes,
    day,
    last,
    run,
    seen,
    state,
    visit,
)

# -- targets and measurability --------


def targets(*observations: Document, **more: object) -> tuple[str, ...]:
    slices = more.pop("slices", 10)
    gap = more.pop("gap", 0)
    first = visit(
        0, 0, *observations, slice_thickness_tenths_mm=slices, slice_gap_tenths_mm=gap
    )
    return run(case(first, **more)).periods[0].targets


def test_measurability_is_inclusive() -> None:
    edge = {"perpendicular_diameter_tenths_mm": 50, "slice_count": 2}
    assert targets(seen("A", 10, **edge)) == ("A",)
    assert targets(seen("A", 9.9, **edge)) == ()
    assert targets(seen("A", 10, **{**edge, "slice_count": 1})) == ()
    narrow = {**edge, "perpendicular_diameter_tenths_mm": 49}
    assert targets(seen("A", 10, **narrow)) == ()


def test_gaps_count_as_slice_thickness() -> None:
    assert targets(seen("A", 12), slices=50, gap=10) == ("A",)
    assert targets(seen("A", 11.9), slices=50, gap=10) == ()
    assert targets(seen("A", 11.9), slices=50) == ("A",)
    off = {"thick_slice_rule": False}
    assert targets(seen("A", 11.9), slices=50, gap=10, protocol=off) == ("A",)


def test_small_lesions_need_the_switch_and_fine_slices() -> None:
    on = {"small_lesions_measurable": True}
    assert targets(seen("A", 5), slices=15, protocol=on) == ("A",)
    assert targets(seen("A", 4.9), slices=15, protocol=on) == ()
    assert targets(seen("A", 5), slices=15, gap=1, protocol=on) == ()
    assert targets(seen("A", 5), slices=15) == ()


def test_what_is_not_recorded_is_assumed_or_not() -> None:
    first = run(case(visit(0, 0, seen("A", 12)))).visits[0]
    assert "measurability-assumed" in codes(first)
    strict = {"missing_measurability": "not_measurable"}
    assert targets(seen("A", 12), protocol=strict) == ()


def test_the_reader_decides_about_targets() -> None:
    sizes = [seen(name, 30 - n) for n, name in enumerate("ABCDEF")]
    assert targets(*sizes) == tuple("ABCDE")
    lesions = [{"id": "F", "role": "target"}, {"id": "A", "role": "non_target"}]
    assert set(targets(*sizes, lesions=lesions)) == set("BCDEF")


def test_a_target_of_the_reader_may_be_small_but_is_flagged() -> None:
    document = case(visit(0, 0, seen("A", 6)), lesions=[{"id": "A", "role": "target"}])
    answer = run(document)
    assert answer.periods[0].targets == ("A",)
    assert "target-not-measurable" in answer.visits[0].flags


def test_a_target_of_the_reader_must_be_measured_at_baseline() -> None:
    lesions = [{"id": "A", "role": "target"}, {"id": "B", "role": "target"}]
    document = case(visit(0, 0, state("A", "too_small")), lesions=lesions)
    answer = run(document)
    assert answer.periods[0].targets == ()
    notes = [r for r in answer.visits[0].reasons if r.code == "target-not-measured"]
    assert [note.text[0] for note in notes] == ["B", "A"]


def test_lesions_treated_before_are_targets_only_after_progression() -> None:
    for status, expected in (
        ("not_progressed_since", ()),
        ("progressed_since", ("A",)),
    ):
        lesions = [{"id": "A", "local_treatment_before_baseline": status}]
        assert targets(seen("A", 20), lesions=lesions) == expected


def test_recist_takes_two_an_organ_and_looks_outside_the_brain() -> None:
    lesions = [
        {
            "id": "X",
            "compartment": "extracranial",
            "organ": "liver",
            "kind": "soft_tissue",
        }
    ]
    document = case(
        visit(0, 0, seen("A", 30), seen("B", 25), seen("C", 20), seen("X", 15)),
        lesions=lesions,
    )
    assert set(run(document, RECIST_1_1).periods[0].targets) == {"A", "B", "X"}
    assert set(run(document).periods[0].targets) == {"A", "B", "C"}


# -- baseline, nadir, order --------


def test_the_baseline_is_the_last_visit_before_treatment() -> None:
    visits = [visit(n, on, seen("A", 20 + n)) for n, on in enumerate((0, 30, 90))]
    answer = run(case(*visits, treatment={"start_date": day(35)}))
    assert [v.category for v in answer.visits] == ["NOT_APPLICABLE", "BASELINE", "SD"]
    assert "baseline-too-old" not in answer.visits[1].flags
    old = run(case(*visits, treatment={"start_date": day(59)}))
    assert "baseline-too-old" in old.visits[1].flags
    late = run(case(*visits[1:], treatment={"start_date": day(0)}))
    assert "baseline-after-treatment-start" in late.visits[0].flags
    same_day = run(case(*visits, treatment={"start_date": day(30)}))
    assert same_day.periods[0].baseline == "V1"
    chosen = run(case(*visits, baseline={"visit": "V0"}))
    assert chosen.periods[0].baseline == "V0"


def test_exactly_28_days_before_treatment_are_allowed() -> None:
    def flags(start: int) -> tuple[str, ...]:
        document = case(
            visit(0, 0, seen("A", 20)), treatment={"start_date": day(start)}
        )
        return run(document).visits[0].flags

    assert "baseline-too-old" not in flags(28)
    assert "baseline-too-old" in flags(29)


def test_an_incomplete_sum_is_no_nadir() -> None:
    gap = state("B", "not_assessed", reason="not_imaged")
    document = case(
        visit(0, 0, seen("A", 20), seen("B", 20)),
        visit(1, 40, seen("A", 12), gap),
        visit(2, 80, seen("A", 19), seen("B", 20)),
    )
    numbers = last(document).numbers
    assert numbers is not None
    assert (numbers.nadir_tenths_mm, numbers.nadir_visit) == (400, "V0")


def test_the_5_mm_are_counted_from_the_visit_of_the_nadir() -> None:
    # Nadir 30 at V2; A was smaller at V1, where the sum was larger.
    document = case(
        visit(0, 0, seen("A", 20), seen("B", 20)),
        visit(1, 40, seen("A", 10), seen("B", 22)),
        visit(2, 80, seen("A", 16), seen("B", 14)),
        visit(3, 120, seen("A", 20), seen("B", 18)),
    )
    answer = last(document)
    assert answer.target == "SD"
    assert answer.numbers is not None
    first = answer.numbers.values[0]
    assert (first.nadir_tenths_mm, first.smallest_tenths_mm) == (160, 100)
    document["protocol"] = {"lesion_growth_reference": "own_minimum"}
    assert last(document).target == "PD"


def test_a_baseline_set_anew_starts_a_new_period() -> None:
    document = case(
        visit(0, 0, seen("A", 20)),
        visit(1, 40, seen("A", 30)),
        visit(2, 80, seen("A", 30), seen("B", 12)),
        visit(3, 120, seen("A", 21), seen("B", 8)),
        baseline={"resets": [{"visit": "V2", "reason": "new line of treatment"}]},
    )
    answer = run(document)
    assert [v.category for v in answer.visits] == ["BASELINE", "PD", "BASELINE", "PR"]
    assert [period.targets for period in answer.periods] == [("A",), ("A", "B")]
    assert answer.periods[0].progression is not None
    assert answer.periods[1].progression is None


# -- lesions that change their shape --------


def test_a_fusion_under_an_id_of_its_own_is_not_new() -> None:
    document = case(
        visit(0, 0, seen("A", 14), seen("B", 13)),
        visit(
            1,
            40,
            state("A", "merged", into="M"),
            state("B", "merged", into="M"),
            seen("M", 24),
        ),
        visit(2, 80, seen("M", 25)),
    )
    answer = run(document)
    assert [v.category for v in answer.visits[1:]] == ["SD", "SD"]
    numbers = answer.visits[-1].numbers
    assert numbers is not None
    assert numbers.sum_tenths_mm == 250


def test_a_fusion_that_grew_is_compared_with_its_parts() -> None:
    def after(size: float) -> str:
        fused = state("B", "merged", into="A")
        return last(
            case(
                visit(0, 0, seen("A", 14), seen("B", 13)),
                visit(1, 40, seen("A", size), fused),
            )
        ).target

    # +20 % of 27 is 32.4 and +5.4 mm; A alone would have grown by more than 5 mm long
    # before that.
    assert after(32.3) == "SD"
    assert after(32.4) == "PD"


def test_a_missing_fragment_is_a_gap() -> None:
    fragments = [{"id": "A1", "split_from": "A"}, {"id": "A2", "split_from": "A"}]
    document = case(
        visit(0, 0, seen("A", 30)),
        visit(1, 40, state("A", "split"), seen("A1", 12), seen("A2", 9)),
        visit(2, 80, seen("A1", 12)),
        lesions=fragments,
    )
    assert last(document).category == "NE"
    document["visits"][2]["lesions"].append(state("A2", "absent"))
    assert last(document).category == "PR"


def test_a_split_may_keep_the_name_of_the_parent() -> None:
    document = case(
        visit(0, 0, seen("A", 30)),
        visit(1, 40, seen("A", 12), seen("A2", 9)),
        lesions=[{"id": "A2", "split_from": "A"}],
    )
    answer = last(document)
    assert answer.numbers is not None
    assert answer.numbers.sum_tenths_mm == 210
    assert "new-lesion-equivocal" not in codes(answer)


def test_a_target_fused_with_a_non_target_is_flagged() -> None:
    document = case(
        visit(0, 0, seen("A", 20), seen("N", 8)),
        visit(1, 40, seen("A", 22), state("N", "merged", into="A")),
    )
    assert "merge-with-non-target" in last(document).flags


def test_fusions_in_a_circle_over_visits_have_no_value() -> None:
    document = case(
        visit(0, 0, seen("A", 20), seen("B", 20)),
        visit(1, 40, state("A", "merged", into="B"), seen("B", 30)),
        visit(2, 80, state("B", "merged", into="A")),
    )
    assert last(document).category == "NE"


def test_growth_to_the_default_value_does_not_meet_the_5_mm_rule() -> None:
    document = case(
        visit(0, 0, seen("A", 20), seen("B", 10)),
        visit(1, 40, seen("A", 20), state("B", "absent")),
        visit(2, 80, seen("A", 20), state("B", "too_small")),
    )
    assert last(document).category == "SD"
    document["protocol"] = {"default_value_counts_as_growth": True}
    answer = last(document)
    assert answer.category == "PD"
    assert "driven-by-default" in codes(answer)


# -- local treatment, radionecrosis --------


def treated(**protocol: object) -> Document:
    return case(
        visit(0, 0, seen("A", 20), seen("B", 15)),
        visit(1, 60, seen("A", 20), seen("B", 15)),
        visit(
            2,
            90,
            seen("A", 45),
            state("B", "locally_treated", date=day(60), modality="surgery"),
        ),
        protocol=protocol,
    )


def test_a_scan_on_the_day_of_treatment_still_counts() -> None:
    assert run(treated()).visits[1].category == "SD"


def test_other_lesions_prove_progression_after_local_treatment_unless_censored() -> (
    None
):
    assert last(treated()).category == "PD"
    censored = last(treated(local_therapy="censor"))
    assert censored.category == "NE"
    assert "censored" in codes(censored)


def test_progression_resting_on_radionecrosis_is_flagged_or_not_evaluable() -> None:
    document = case(
        visit(0, 0, seen("A", 20), seen("B", 15)),
        visit(1, 60, seen("A", 40, radionecrosis_suspected=True), seen("B", 15)),
    )
    answer = last(document)
    assert answer.category == "PD"
    assert {"radionecrosis", "radionecrosis-decides"} <= set(answer.flags)
    document["protocol"] = {"radionecrosis": "not_evaluable"}
    assert last(document).category == "NE"
