"""The worked cases of the RANO-BM notes, by number, from the examples that ship."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from segmentation.followup.assess import assess
from segmentation.followup.case_reading import read_case
from segmentation.followup.document import percent
from segmentation.followup.rano_bm import RANO_BM
from segmentation.followup.recist import RECIST_1_1
from segmentation.followup.results import Assessment, VisitAssessment
from segmentation.followup.rules import RuleSet

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "rano"
FIRST_SCAN = date(2024, 3, 4)


def run(name: str, rules: RuleSet = RANO_BM) -> Assessment:
    return assess(read_case((EXAMPLES / f"{name}.json").read_bytes()), rules)


def codes(visit: VisitAssessment) -> set[str]:
    return {reason.code for reason in visit.reasons}


# case: visit -> target, overall, confirmation, codes that must be among the reasons
EXPECTED: dict[str, dict[str, tuple[str, str, str, set[str]]]] = {
    "case-01": {"V2": ("PR", "PR", "unconfirmed", {"target-pr", "unconfirmed"})},
    "case-02": {
        "V2": ("PR", "PR", "unconfirmed", set()),
        "V3": ("PR", "PR", "unconfirmed", {"unconfirmed"}),
    },
    "case-03": {
        "V2": ("PR", "PR", "confirmed", {"confirmed"}),
        "V3": ("PR", "PR", "confirmed", {"confirmed"}),
    },
    "case-04": {"V2": ("PR", "PR", "unconfirmed", set())},
    "case-05": {"V2": ("SD", "SD", "not_required", set())},
    "case-06": {"V2": ("PD", "PD", "not_required", {"target-pd"})},
    "case-07": {"V2": ("SD", "SD", "not_required", {"five-mm-rule"})},
    "case-08": {"V2": ("SD", "SD", "not_required", {"five-mm-rule"})},
    "case-09": {"V4": ("PD", "PD", "not_required", {"below-baseline"})},
    "case-10": {"V4": ("SD", "SD", "not_required", set())},
    "case-11": {"V2": ("PD", "PD", "not_required", set())},
    "case-12": {"V2": ("CR", "CR", "unconfirmed", set())},
    "case-13": {"V2": ("CR", "PR", "unconfirmed", {"steroids"})},
    "case-14": {"V2": ("CR", "PR", "unconfirmed", {"non-target-persists"})},
    "case-15": {"V2": ("PR", "PR", "unconfirmed", {"default-value"})},
    "case-16": {
        "V2": ("PR", "PR", "unconfirmed", {"default-value", "driven-by-default"})
    },
    "case-17": {"V2": ("PR", "INDETERMINATE", "not_required", {"steroids-increased"})},
    "case-18": {"V2": ("SD", "PD", "not_required", {"new-lesion"})},
    "case-19": {
        "V2": ("SD", "PD", "unconfirmed", {"new-lesion", "immunotherapy-unconfirmed"})
    },
    "case-20": {
        "V2": ("SD", "PD", "unconfirmed", {"immunotherapy-unconfirmed"}),
        "V3": ("SD", "PD", "confirmed", {"immunotherapy-confirmed", "back-dated"}),
    },
    "case-21": {
        "V2": ("SD", "SD", "not_required", {"new-lesion-equivocal"}),
        "V3": ("SD", "PD", "not_required", {"new-lesion", "back-dated"}),
    },
    "case-22": {"V2": ("PR", "PD", "not_required", {"non-target-pd"})},
    "case-23": {"V2": ("SD", "SD", "not_required", set())},
    "case-24": {"V2": ("SD", "PD", "not_required", {"clinical-worse"})},
    "case-25": {"V2": ("PR", "PR", "unconfirmed", {"split"})},
    "case-26": {"V2": ("SD", "SD", "not_required", {"merge"})},
    "case-27": {"V2": ("NE", "NE", "not_required", {"not-assessed", "target-ne"})},
    "case-28": {"V2": ("PD", "PD", "not_required", {"not-assessed", "target-pd"})},
    "case-29": {"V2": ("NE", "NE", "not_required", {"not-assessed"})},
    "case-30": {
        "V3": ("CR", "CR", "confirmed", set()),
        "V4": ("PD", "PD", "not_required", {"relapse"}),
    },
    "case-30-small": {
        "V4": ("PR", "INDETERMINATE", "not_required", {"relapse-below-threshold"})
    },
    "case-31": {"V3": ("SD", "SD", "not_required", {"reappeared"})},
    "case-32": {
        "V2": ("NOT_APPLICABLE", "NON_CR_NON_PD", "not_required", {"no-target"})
    },
    "case-32-thick": {
        "V2": ("NOT_APPLICABLE", "NON_CR_NON_PD", "not_required", {"no-target"})
    },
    "case-33": {"V2": ("SD", "SD", "not_required", set())},
    "case-34": {
        "V2": ("NOT_APPLICABLE", "NON_CR_NON_PD", "not_required", {"no-target"})
    },
    "case-34-small": {"V2": ("SD", "SD", "not_required", set())},
    "case-35": {
        "V2": ("SD", "SD", "not_required", set()),
        "V3": ("NE", "NE", "not_required", {"local-therapy"}),
        "V4": ("NE", "NE", "not_required", {"local-therapy"}),
    },
    "case-36": {"V2": ("SD", "SD", "not_required", set())},
    "case-36-not": {"V2": ("SD", "SD", "not_required", set())},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_worked_case(name: str) -> None:
    answer = run(name)
    for visit_id, (target, overall, confirmation, reasons) in EXPECTED[name].items():
        visit = answer.visit(visit_id)
        assert visit.target == target
        assert visit.category == overall
        assert visit.confirmation == confirmation
        assert reasons <= codes(visit)


def test_every_worked_case_has_its_test() -> None:
    numbers = {int(name.split("-")[1]) for name in EXPECTED}
    assert numbers == set(range(1, 37))
    shipped = {path.stem for path in EXAMPLES.glob("case-*.json")}
    assert shipped == set(EXPECTED)


def change(name: str, visit: str = "V2") -> tuple[str | None, str | None]:
    numbers = run(name).visit(visit).numbers
    assert numbers is not None
    return percent(numbers.versus_baseline), percent(numbers.versus_nadir)


def test_the_percentages_of_the_notes() -> None:
    assert change("case-01") == ("-31.9 %", "-31.9 %")
    assert change("case-04")[0] == "-30.0 %"
    assert change("case-05")[0] == "-29.5 %"
    assert change("case-09", "V4") == ("-20.0 %", "+23.1 %")
    assert change("case-10", "V4") == ("-25.0 %", "+15.4 %")
    assert change("case-11")[1] == "+20.0 %"
    assert change("case-15")[0] == "-83.3 %"
    assert change("case-26")[0] == "-11.1 %"


def test_case_2_counts_from_the_first_scan() -> None:
    assert run("case-02").visit("V3").since == FIRST_SCAN


def test_case_3_is_dated_to_the_first_scan() -> None:
    answer = run("case-03")
    assert answer.visit("V3").since == FIRST_SCAN
    assert answer.visit("V2").confirmed_by == "V3"
    assert (answer.periods[0].best, answer.periods[0].best_since) == ("PR", FIRST_SCAN)


def test_cases_1_and_2_have_no_confirmed_response() -> None:
    for name in ("case-01", "case-02"):
        period = run(name).periods[0]
        assert (period.best, period.best_unconfirmed) == ("SD", "PR")


def test_case_8_is_progression_where_the_5_mm_belong_to_the_sum() -> None:
    assert run("case-08", RECIST_1_1).visit("V2").category == "PD"


def test_what_recist_tells_apart_from_rano_bm() -> None:
    assert run("recist-difference").visit("V2").category == "SD"
    recist = run("recist-difference", RECIST_1_1).visit("V2")
    assert recist.category == "PD"
    assert "target-pd" in codes(recist)


def test_case_10_keeps_its_best_response() -> None:
    period = run("case-10").periods[0]
    assert period.best == "PR"
    assert period.progression is None


def test_case_15_does_not_hang_on_the_default() -> None:
    assert "driven-by-default" not in codes(run("case-15").visit("V2"))


def test_case_19_has_a_candidate_but_no_progression() -> None:
    period = run("case-19").periods[0]
    assert period.progression is None
    assert period.unconfirmed_progression == date(2024, 4, 8)


def test_case_20_dates_progression_to_the_scan_of_case_19() -> None:
    progression = run("case-20").periods[0].progression
    assert progression is not None
    assert (progression.date, progression.declared_at) == (date(2024, 4, 8), "V3")


def test_case_21_dates_progression_to_the_equivocal_scan() -> None:
    progression = run("case-21").periods[0].progression
    assert progression is not None
    assert (progression.date, progression.declared_at) == (FIRST_SCAN, "V3")
    # Stable disease was seen on the very day to which progression is dated.
    assert run("case-21").periods[0].best == "PD"


def test_case_26_links_the_fused_lesions() -> None:
    numbers = run("case-26").visit("V2").numbers
    assert numbers is not None
    (fused,) = numbers.values
    assert fused.lesions == ("L1", "L2")
    assert (fused.tenths_mm, fused.baseline_tenths_mm) == (240, 270)


def test_case_30_keeps_complete_response_as_the_best() -> None:
    period = run("case-30").periods[0]
    assert period.best == "CR"
    assert period.progression is not None


def test_case_32_says_why_each_is_not_measurable() -> None:
    roles = {role.lesion: role for role in run("case-32").periods[0].roles}
    assert {role.role for role in roles.values()} == {"non_target"}
    assert "perpendicular diameter 4.0 mm" in roles["A"].reasons[0]
    assert "seen on 1 slice" in roles["B"].reasons[0]
    assert roles["C"].reasons[0] == "dural"
    (thick,) = run("case-32-thick").periods[0].roles
    assert "below 14.0 mm" in thick.reasons[0]


def test_case_33_takes_the_five_largest() -> None:
    period = run("case-33").periods[0]
    assert period.targets == ("L1", "L2", "L3", "L4", "L5")
    assert period.baseline_sum_tenths_mm == 1010


def test_case_34_depends_on_the_switch() -> None:
    assert run("case-34").periods[0].targets == ()
    assert run("case-34-small").periods[0].targets == ("L1", "L2", "L3")


def test_case_36_reads_volumes_beside_the_criteria() -> None:
    readings = [run(name).visit("V2").volumetric for name in ("case-36", "case-36-not")]
    assert [reading and reading.category for reading in readings] == [
        "volumetric partial response",
        "no volumetric response",
    ]
