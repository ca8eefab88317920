"""The worked cases of the criteria, asked of the database instead of a file.

Every example that ships is stored the way the product stores a patient, and the course
made of the rows must say what the engine says of the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from db.engine import Engine, reading
from segmentation.followup.assess import assess
from segmentation.followup.case_reading import (
    case_from_document,
    case_schema,
    read_case,
)
from segmentation.followup.case_writing import case_document
from segmentation.followup.command import EXAMPLES
from segmentation.followup.course_document import CourseView
from segmentation.followup.course_rows import CourseRows, load_course
from segmentation.followup.course_schemas import Course
from segmentation.followup.rules import rule_sets
from tests.course_patients import record_case

ON_POSTGRESQL = (3, 9, 13, 15, 20, 21, 25, 26, 27, 30, 33, 36)
"""What differs between the databases is not the rules: a choice of them is enough."""
NAMES = sorted(path.stem for path in Path(EXAMPLES).glob("*.json"))


def load(engine: Engine, patient_key: str) -> CourseRows:
    with reading(engine) as session:
        return load_course(session, patient_key)


@pytest.mark.parametrize(
    ("database_kind", "name"),
    [("sqlite", name) for name in NAMES]
    + [("postgresql", f"case-{number:02}") for number in ON_POSTGRESQL],
)
def test_example_comes_out_of_the_database_as_of_the_file(
    engine: Engine, name: str
) -> None:
    text = (Path(EXAMPLES) / f"{name}.json").read_bytes()
    case, document = read_case(text), json.loads(text)
    recorded = record_case(engine, document)
    rows = load(engine, recorded.patient_key)
    for rule_set, rules in rule_sets().items():
        expected = assess(case, rules)
        view = CourseView(rows, rule_set)
        shown = view.document()
        assert Course().validate(json.loads(json.dumps(Course().dump(shown)))) == {}
        by_study = {visit["study_uid"]: visit for visit in shown["visits"]}
        for answer in expected.visits:
            visit = by_study[recorded.studies[answer.visit]]
            told = visit["assessment"]
            assert visit["date"] == answer.date
            assert (told["category"], told["target"]) == (
                answer.category,
                answer.target,
            )
            assert told["non_target"] == answer.non_target
            assert told["since"] == answer.since
            assert set(told["new_lesions"]) == set(answer.new_lesions)
            codes = [reason.code for reason in answer.reasons]
            found = [reason.code for reason in told["reasons"]]
            assert [c for c in found if c != "measurability-assumed"] == [
                c for c in codes if c != "measurability-assumed"
            ]
            if answer.numbers is not None:
                assert visit["sum_mm"] == answer.numbers.sum_tenths_mm / 10
                assert visit["sum_complete"] == answer.numbers.complete
        made = view.assessment
        assert made is not None
        assert [p.best for p in made.periods] == [p.best for p in expected.periods]
        assert [p.targets for p in made.periods] == [
            p.targets for p in expected.periods
        ]


@pytest.mark.parametrize(("database_kind", "name"), [("sqlite", n) for n in NAMES])
def test_case_of_the_database_is_a_case_for_everyone(engine: Engine, name: str) -> None:
    document = json.loads((Path(EXAMPLES) / f"{name}.json").read_bytes())
    view = CourseView(load(engine, record_case(engine, document).patient_key))
    case = view.found.case
    assert case is not None
    written = case_document(case)
    jsonschema.Draft202012Validator(case_schema()).validate(written)
    assert case_from_document(written) == case
    _check_inputs(view)


def _check_inputs(view: CourseView) -> None:
    """What each visit rests on says the same of that visit as the whole does."""
    whole: Any = view.assessment
    for visit, inputs in view.inputs.items():
        part = case_from_document(json.loads(json.dumps(inputs.document)))
        answer = assess(part, view.rules).visit(visit)
        assert answer.category == whole.visit(visit).category
        assert answer.numbers == whole.visit(visit).numbers
