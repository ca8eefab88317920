"""What only the reader can say: new and non-target lesions, steroids, the patient."""

from __future__ import annotations

from datetime import timedelta

import pytest

from segmentation.followup.recist import RECIST_1_1
from segmentation.followup.results import VisitAssessment
from tests.rano_cases import (
    FIRST_DAY,
    case,
    last,
    run,
    seen,
    state,
    visit,
)


# -- new and non-target lesions --------
def new(certainty: str | None = None, **more: object) -> VisitAssessment:
    entry = seen("X", 6, **({"certainty": certainty} if certainty else {}), **more)
    return last(case(visit(0, 0, seen("A", 20)), visit(1, 60, seen("A", 20), entry)))


def test_only_the_reader_makes_a_new_lesion_certain() -> None:
    assert new("unequivocal").category == "PD"
    assert new("not_tumour").category == "SD"
    unsaid = new()
    assert unsaid.category == "SD"
    assert "new-lesion-certainty-missing" in unsaid.flags
    one = new("unequivocal", projections=1)
    assert one.category == "SD"
    assert "new-lesion-one-projection" in one.flags


def test_an_equivocal_lesion_that_was_gone_is_not_dated_back_to() -> None:
    document = case(
        visit(0, 0, seen("A", 20)),
        visit(1, 40, seen("A", 20), seen("X", 2, certainty="equivocal")),
        visit(2, 80, seen("A", 20), state("X", "absent")),
        visit(3, 120, seen("A", 20), seen("X", 6, certainty="unequivocal")),
    )
    progression = run(document).periods[0].progression
    assert progression is not None
    assert progression.date == FIRST_DAY + timedelta(days=120)


def test_an_equivocal_lesion_stands_against_complete_response() -> None:
    document = case(
        visit(0, 0, seen("A", 20)),
        visit(1, 60, state("A", "absent"), seen("X", 2, certainty="equivocal")),
    )
    assert last(document).category == "PR"


def test_non_target_growth_is_never_progression_by_itself() -> None:
    document = case(
        visit(0, 0, seen("A", 20), seen("N", 5)),
        visit(1, 60, seen("A", 20), seen("N", 50)),
    )
    assert last(document).category == "SD"


def test_the_reader_cannot_call_gone_what_is_recorded_as_visible() -> None:
    document = case(
        visit(0, 0, seen("A", 20), seen("N", 5)),
        visit(
            1, 60, state("A", "absent"), seen("N", 5), non_target="complete_response"
        ),
    )
    answer = last(document)
    assert answer.category == "PR"
    assert "non-target-contradiction" in answer.flags


def test_non_target_disease_not_assessed_forbids_complete_response_only() -> None:
    first = visit(0, 0, seen("A", 20), seen("N", 5))
    assert last(case(first, visit(1, 60, state("A", "absent")))).category == "PR"
    assert last(case(first, visit(1, 60, seen("A", 20)))).category == "SD"


def test_no_disease_at_baseline() -> None:
    first = visit(0, 0)
    assert last(case(first, visit(1, 60))).category == "NED"
    found = seen("X", 6, certainty="unequivocal")
    assert last(case(first, visit(1, 60, found))).category == "PD"


def test_non_target_disease_alone_can_be_gone() -> None:
    first = visit(0, 0, seen("N", 6))
    assert last(case(first, visit(1, 60, state("N", "absent")))).category == "CR"


# -- steroids and the patient --------


def on_steroids(use: str, *, size: float = 0, **more: object) -> VisitAssessment:
    entry = state("A", "absent") if size == 0 else seen("A", size)
    protocol = more.pop("protocol", {})
    document = case(
        visit(0, 0, seen("A", 20), steroids={"use": "none"}),
        visit(1, 60, entry, steroids={"use": use, **more}),
        protocol=protocol,
    )
    return last(document)


def test_replacement_steroids_allow_complete_response_unless_switched_off() -> None:
    assert on_steroids("physiological").category == "CR"
    off = {"cr_allows_physiological_steroids": False}
    assert on_steroids("physiological", protocol=off).category == "PR"


def test_steroids_not_recorded_forbid_complete_response() -> None:
    answer = on_steroids("not_recorded")
    assert answer.category == "PR"
    assert {"steroids", "steroids-not-recorded"} <= set(answer.flags)


def test_an_increase_is_derived_from_the_doses() -> None:
    dose = {"dexamethasone_tenths_mg_per_day": 40}
    assert on_steroids("pharmacological", size=10, **dose).category == "INDETERMINATE"
    before = {"steroids": {"use": "not_recorded"}}
    first, none = visit(0, 0, seen("A", 20), **before), {"use": "none"}
    later = visit(1, 60, seen("A", 20), steroids=none)
    # Whatever was taken before, taking none is no increase.
    assert "steroids-not-recorded" not in last(case(first, later)).flags
    stated = {**dose, "change": "stable"}
    assert on_steroids("pharmacological", size=10, **stated).category == "PR"


def test_a_dose_stands_over_the_word_that_there_is_none() -> None:
    dose = {"dexamethasone_tenths_mg_per_day": 80}
    stated = on_steroids("none", **dose, change="stable")
    assert (stated.category, "steroids" in stated.flags) == ("PR", True)
    assert on_steroids("none", size=10, **dose).category == "INDETERMINATE"
    nothing = {"dexamethasone_tenths_mg_per_day": 0}
    assert on_steroids("none", **nothing).category == "CR"


@pytest.mark.parametrize("before", ["none", "physiological"])
def test_beginning_steroids_is_an_increase_whatever_the_dose(before: str) -> None:
    first = visit(0, 0, seen("A", 20), steroids={"use": before})
    later = visit(1, 60, seen("A", 10), steroids={"use": "pharmacological"})
    answer = last(case(first, later))
    assert answer.category == "INDETERMINATE"
    assert "steroids-increased" in answer.flags
    unknown = visit(0, 0, seen("A", 20), steroids={"use": "not_recorded"})
    answer = last(case(unknown, later))
    assert (answer.category, "steroids-not-recorded" in answer.flags) == ("PR", True)


@pytest.mark.parametrize(
    ("choice", "category"),
    [("indeterminate", "INDETERMINATE"), ("not_evaluable", "NE"), ("ignore", "PR")],
)
def test_what_an_increase_means_is_a_switch(choice: str, category: str) -> None:
    protocol = {"steroid_increase_without_progression": choice}
    answer = on_steroids(
        "pharmacological", size=10, change="increased", protocol=protocol
    )
    assert answer.category == category


def test_an_increase_never_hides_progression() -> None:
    answer = on_steroids("pharmacological", size=30, change="increased")
    assert answer.category == "PD"


def test_the_clinical_state_counts_by_its_cause() -> None:
    for status, category in (
        ("worse_due_to_tumour", "PD"),
        ("worse_other_cause", "SD"),
        ("not_recorded", "SD"),
    ):
        document = case(
            visit(0, 0, seen("A", 20)),
            visit(1, 60, seen("A", 20), clinical_status=status),
        )
        assert last(document).category == category
        assert last(document, RECIST_1_1).category == "SD"
    document["protocol"] = {"missing_reader_input": "not_evaluable"}
    assert last(document).category == "NE"


def test_a_changed_technique_is_flagged() -> None:
    later = visit(1, 60, seen("A", 20), technique_changed=True)
    answer = last(case(visit(0, 0, seen("A", 20)), later))
    assert (answer.category, answer.flags) == ("SD", ("technique-changed",))


def test_progression_outside_the_brain_is_carried_along_only() -> None:
    answer = run(
        case(
            visit(0, 0, seen("A", 20)),
            visit(1, 60, seen("A", 20), extracranial_response="PD"),
        )
    )
    (period,) = answer.periods
    assert answer.visits[-1].category == "SD"
    assert period.progression is None
    assert period.extracranial_progression == FIRST_DAY + timedelta(days=60)
