"""What must hold for the response criteria whatever the readings are."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from errors import MetiaError
from segmentation.followup.assess import assess
from segmentation.followup.case import (
    Case,
    Clinical,
    Lesion,
    Observation,
    State,
    SteroidChange,
    Steroids,
    SteroidUse,
    Visit,
)
from segmentation.followup.case_reading import (
    case_from_document,
    case_schema,
    read_case,
)
from segmentation.followup.document import assessment_document
from segmentation.followup.rano_bm import RANO_BM
from segmentation.followup.recist import RECIST_1_1
from segmentation.followup.results import Assessment, Category
from segmentation.followup.rules import RuleSet
from segmentation.followup.text import assessment_text

Document = dict[str, Any]
QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
FIRST_DAY = date(2024, 1, 1)
WORSE = [
    Category.CR,
    Category.PR,
    Category.SD,
    Category.NON_CR_NON_PD,
    Category.INDETERMINATE,
    Category.PD,
]


def day(number: int) -> str:
    return (FIRST_DAY + timedelta(days=number)).isoformat()


def measured(lesion: str, tenths: int, **more: object) -> Document:
    return {
        "lesion": lesion,
        "state": "measured",
        "longest_diameter_tenths_mm": tenths,
        **more,
    }


def visit(number: int, observations: list[Document], **more: object) -> Document:
    return {
        "id": f"V{number}",
        "date": day(number * 40),
        "steroids": {"use": "none", "change": "stable"},
        "clinical_status": "stable",
        "lesions": observations,
        **more,
    }


def case_of(*sums: Sequence[int], **more: object) -> Document:
    """A case of measured targets: one sequence of tenths of a millimetre a visit."""
    return {
        "schema_version": "1.0",
        "case_id": "P",
        "lesions": [{"id": f"L{n}"} for n in range(len(sums[0]))],
        "visits": [
            visit(number, [measured(f"L{n}", t) for n, t in enumerate(values)])
            for number, values in enumerate(sums)
        ],
        **more,
    }


def run(document: Document, rules: RuleSet = RANO_BM) -> Assessment:
    return assess(case_from_document(document), rules)


def last_target(*sums: Sequence[int], rules: RuleSet = RANO_BM) -> str:
    """Assess measured targets without the way through JSON, which takes longer."""
    steroids = Steroids(SteroidUse.NONE, SteroidChange.STABLE)
    case = Case(
        id="P",
        lesions={f"L{n}": Lesion(f"L{n}") for n in range(len(sums[0]))},
        visits=tuple(
            Visit(
                id=f"V{number}",
                date=FIRST_DAY + timedelta(days=number * 40),
                observations={
                    f"L{n}": Observation(f"L{n}", State.MEASURED, tenths)
                    for n, tenths in enumerate(values)
                },
                steroids=steroids,
                clinical=Clinical.STABLE,
            )
            for number, values in enumerate(sums)
        ),
    )
    return assess(case, rules).visits[-1].target.value


# -- exactness ---------------------------------------------------------------------


def test_every_nadir_from_25_to_150_mm_progresses_at_20_percent_and_not_before() -> (
    None
):
    for nadir in range(250, 1501):
        limit = -(-nadir * 6 // 5)
        assert last_target([nadir], [limit]) == "PD", nadir
        assert last_target([nadir], [limit - 1]) == "SD", nadir


def test_every_baseline_from_10_to_150_mm_responds_at_30_percent_and_not_before() -> (
    None
):
    for baseline in range(100, 1501):
        limit = baseline * 7 // 10
        assert last_target([baseline], [limit]) == "PR", baseline
        assert last_target([baseline], [limit + 1]) == "SD", baseline


@pytest.mark.parametrize(("growth", "category"), [(49, "SD"), (50, "PD")])
def test_the_5_mm_rule_is_inclusive_and_per_lesion(growth: int, category: str) -> None:
    answer = run(case_of([100, 100], [100 + growth, 100]))
    assert answer.visits[-1].target == category
    # Together 5 mm, each less: progression for RECIST, not for RANO-BM.
    both = case_of([100, 100], [125, 125])
    assert run(both).visits[-1].target == "SD"
    assert run(both, RECIST_1_1).visits[-1].target == "PD"


sizes = st.integers(1, 600)
large = st.integers(100, 600)


@st.composite
def measured_cases(draw: st.DrawFn) -> Document:
    count = draw(st.integers(1, 5))
    baseline = draw(st.lists(large, min_size=count, max_size=count))
    later = draw(
        st.lists(
            st.lists(sizes, min_size=count, max_size=count), min_size=1, max_size=4
        )
    )
    return case_of(baseline, *later)


@QUICK
@given(measured_cases())
def test_agrees_with_the_rules_in_decimal(document: Document) -> None:
    values = [
        [Decimal(o["longest_diameter_tenths_mm"]) / 10 for o in v["lesions"]]
        for v in document["visits"]
    ]
    answer = run(document)
    for index in range(1, len(values)):
        before, now = values[:index], values[index]
        nadir = min(before, key=sum)
        if sum(now) >= sum(nadir) * Decimal("1.2") and any(
            a - b >= 5 for a, b in zip(now, nadir, strict=True)
        ):
            expected = "PD"
        elif sum(now) <= sum(values[0]) * Decimal("0.7"):
            expected = "PR"
        else:
            expected = "SD"
        assert answer.visits[index].target == expected


# -- monotone ----------------------------------------------------------------------


@QUICK
@given(measured_cases(), st.data())
def test_a_larger_target_never_improves_the_category(
    document: Document, data: st.DataObject
) -> None:
    last = document["visits"][-1]["lesions"]
    which = data.draw(st.integers(0, len(last) - 1))
    state = data.draw(st.sampled_from(["measured", "absent", "too_small"]))
    if state != "measured":
        last[which] = {"lesion": last[which]["lesion"], "state": state}
    size = {"absent": 0, "too_small": 50}.get(
        state, last[which].get("longest_diameter_tenths_mm")
    )
    larger = copy.deepcopy(document)
    larger["visits"][-1]["lesions"][which] = measured(
        f"L{which}", data.draw(st.integers(max(size, 1), 700))
    )
    for rules in (RANO_BM, RECIST_1_1):
        before, after = run(document, rules), run(larger, rules)
        assert WORSE.index(before.visits[-1].target) <= WORSE.index(
            after.visits[-1].target
        )
        assert WORSE.index(before.visits[-1].category) <= WORSE.index(
            after.visits[-1].category
        )


@QUICK
@given(measured_cases(), st.data())
def test_a_gap_gives_not_evaluable_unless_progression_is_proved(
    document: Document, data: st.DataObject
) -> None:
    last = document["visits"][-1]["lesions"]
    which = data.draw(st.integers(0, len(last) - 1))
    whole = run(document).visits[-1]
    last[which] = {
        "lesion": f"L{which}",
        "state": "not_assessed",
        "reason": "not_imaged",
    }
    gap = run(document).visits[-1]
    assert gap.category in (Category.NE, Category.PD)
    # Whatever the missing lesion was, progression proved without it stays.
    if gap.category is Category.PD:
        assert whole.category is Category.PD
    del last[which]
    assert run(document).visits[-1].category is gap.category


@QUICK
@given(measured_cases())
def test_the_band_holds_the_answer(document: Document) -> None:
    for answer in run(document).visits[1:]:
        assert answer.band is not None
        assert answer.target in answer.band.target
        assert answer.category in answer.band.overall
    document["protocol"] = {"measurement_sd_tenths_mm": 0}
    assert all(v.band and v.band.firm for v in run(document).visits[1:])


# -- anything at all ---------------------------------------------------------------

VALID = jsonschema.Draft202012Validator(case_schema())
NAMES = ["A", "B", "C", "D", "E", "F", "G"]
names = st.sampled_from(NAMES)


def optional(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries({}, optional=members)


def merged_into(lesion: str) -> st.SearchStrategy[Document]:
    """Into a later lesion; seldom into any, which may make a circle."""
    later = NAMES[NAMES.index(lesion) + 1 :] or ["A"]
    into = st.sampled_from(later * 20 + NAMES)
    return st.fixed_dictionaries({"state": st.just("merged"), "into": into})


def observation(lesion: str) -> st.SearchStrategy[Document]:
    common = {
        "certainty": st.sampled_from(["unequivocal", "equivocal", "not_tumour"]),
        "projections": st.integers(1, 3),
        "reappearance": st.sampled_from(["tumour", "not_tumour", "undetermined"]),
        "radionecrosis_suspected": st.booleans(),
        "volume_ml": st.floats(0.001, 100) | st.integers(1, 50),
    }
    states: list[st.SearchStrategy[Document]] = [
        st.fixed_dictionaries(
            {
                "state": st.just("measured"),
                "longest_diameter_tenths_mm": st.integers(1, 500),
            },
            optional={**common, "slice_count": st.integers(1, 20)},
        ),
        st.fixed_dictionaries({"state": st.just("too_small")}, optional=common),
        st.just({"state": "absent"}),
        merged_into(lesion),
        st.just({"state": "split"}),
        st.just({"state": "not_assessed", "reason": "image_quality"}),
        st.fixed_dictionaries(
            {
                "state": st.just("locally_treated"),
                "date": st.sampled_from([day(0), day(0), day(40)]),
                "modality": st.sampled_from(["surgery", "radiosurgery"]),
            }
        ),
    ]
    return st.one_of(states[0], states[0], *states).map(
        lambda entry: {"lesion": lesion, **entry}
    )


def visits(number: int) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries(
        {
            "id": st.just(f"V{number}"),
            "date": st.integers(0, 30).map(lambda n: day(number * 31 + n)),
            "steroids": st.fixed_dictionaries(
                {
                    "use": st.sampled_from(
                        ["none", "none", "physiological", "pharmacological"]
                    )
                },
                optional={
                    "change": st.sampled_from(["stable", "increased", "not_recorded"]),
                    "dexamethasone_tenths_mg_per_day": st.integers(0, 160),
                },
            ),
            "clinical_status": st.sampled_from(
                ["stable", "stable", "better", "worse_due_to_tumour", "not_recorded"]
            ),
            "lesions": st.lists(names, unique=True).flatmap(
                lambda chosen: st.tuples(*map(observation, chosen)).map(list)
            ),
        },
        optional={
            "non_target": st.sampled_from(
                ["none", "complete_response", "non_cr_non_pd", "not_assessed"]
            ),
            "slice_thickness_tenths_mm": st.integers(5, 80),
            "slice_gap_tenths_mm": st.integers(0, 20),
            "technique_changed": st.booleans(),
            "extracranial_response": st.sampled_from(["PD", "SD"]),
        },
    )


def lesions(name: str) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries(
        {"id": st.just(name)},
        optional={
            "role": st.sampled_from(["target", "non_target"]),
            "kind": st.sampled_from(["parenchymal", "dural", "cystic_only"]),
            "split_from": st.sampled_from([*NAMES[: NAMES.index(name)] * 20, name]),
            "local_treatment_before_baseline": st.sampled_from(
                ["progressed_since", "not_progressed_since"]
            ),
        },
    )


PROTOCOLS = optional(
    small_lesions_measurable=st.booleans(),
    max_targets=st.integers(1, 5),
    default_value_counts_as_growth=st.booleans(),
    lesion_growth_reference=st.sampled_from(["nadir_visit", "own_minimum"]),
    steroids_at_complete_response=st.sampled_from(
        ["partial_response", "not_evaluable"]
    ),
    steroid_increase_without_progression=st.sampled_from(
        ["indeterminate", "not_evaluable", "ignore"]
    ),
    steroid_reference=st.sampled_from(["baseline", "previous_visit"]),
    missing_reader_input=st.sampled_from(["assume_stable", "not_evaluable"]),
    missing_measurability=st.sampled_from(["assume_met", "not_measurable"]),
    local_therapy=st.sampled_from(["not_evaluable", "censor"]),
    radionecrosis=st.sampled_from(["flag", "not_evaluable"]),
    confirmation_required=st.booleans(),
    immunotherapy_confirmation=st.sampled_from(["growth", "persistence"]),
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Any case that is valid by the schema, and mostly consistent as well."""
    count = draw(st.integers(1, 6))
    document: Document = {
        "schema_version": "1.0",
        "case_id": "P",
        "lesions": [draw(lesions(name)) for name in NAMES],
        "visits": [draw(visits(number)) for number in range(count)],
        "protocol": draw(PROTOCOLS),
        "treatment": draw(
            optional(
                start_date=st.integers(0, 60).map(day),
                immunotherapy_start_date=st.integers(0, 60).map(day),
            )
        ),
        "baseline": draw(
            optional(
                visit=st.sampled_from(["V0"]),
                resets=st.lists(
                    st.sampled_from([f"V{n}" for n in range(1, max(count, 2))]).map(
                        lambda name: {"visit": name, "reason": "new treatment"}
                    ),
                    max_size=1,
                ),
            )
        ),
    }
    if draw(st.booleans()):
        for entry in document["lesions"]:
            entry.pop("split_from", None)
    return document


def fault_of(document: Document) -> MetiaError | None:
    """What the reader says against a document; any other exception is a failure."""
    try:
        case_from_document(document)
    except MetiaError as error:
        fault = error
    else:
        return None
    assert fault.code == "invalid-input"
    return fault


ANYTHING = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck)
)


@ANYTHING
@given(documents(), st.randoms(use_true_random=False))
def test_any_valid_case_is_assessed_alike_in_any_order(
    document: Document, random: Any
) -> None:
    VALID.validate(document)
    assume(fault_of(document) is None)
    case = case_from_document(document)
    shuffled = copy.deepcopy(document)
    random.shuffle(shuffled["visits"])
    for entry in shuffled["visits"]:
        random.shuffle(entry["lesions"])
    for rules in (RANO_BM, RECIST_1_1):
        answer = assess(case, rules)
        assert answer == assess(case, rules)
        assert answer == assess(read_case(json.dumps(shuffled)), rules)
        written = assessment_document(answer, case)
        assert json.loads(json.dumps(written)) == written
        assert assessment_text(answer, rules.title)
        check_consistency(answer)


def check_consistency(answer: Assessment) -> None:
    dates = [entry.date for entry in answer.visits]
    assert dates == sorted(dates)
    for entry in answer.visits:
        if entry.category is Category.CR:
            assert entry.target in (Category.CR, Category.NOT_APPLICABLE)
        if entry.target is Category.PD:
            assert entry.category in (Category.PD, Category.NE)
        if entry.numbers is not None and not entry.numbers.complete:
            assert entry.target in (Category.NE, Category.PD)
            assert entry.category in (Category.NE, Category.PD)
        if entry.band is not None:
            assert entry.category in entry.band.overall
        assert entry.reasons
    for period in answer.periods:
        assert len(period.targets) <= 5
        assert period.baseline_sum_tenths_mm > 0 or not period.targets
        if period.progression is not None:
            assert answer.visit(period.progression.declared_at).category == "PD"


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@ANYTHING
@given(documents(), st.data())
def test_a_damaged_case_is_refused_in_one_sentence(
    document: Document, data: st.DataObject
) -> None:
    place: Any = document
    while isinstance(place, dict | list) and place:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(junk)
            break
        place = place[key]
    fault = fault_of(document)
    assert fault is None or "\n" not in fault.detail


@QUICK
@given(st.binary(max_size=40) | st.text(max_size=40) | junk.map(json.dumps))
@example(b"\xff\xfe{")
@example("[" * 100_000)
@example('{"a": 1, "a": 2}')
@example('{"schema_version": NaN}')
@example("1" * 5000)
def test_no_text_makes_the_reader_fall(text: str | bytes) -> None:
    with pytest.raises(MetiaError) as caught:
        read_case(text)
    assert caught.value.code == "invalid-input"
