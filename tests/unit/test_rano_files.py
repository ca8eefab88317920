"""Cases as files: how they are refused, what is documented, the command line."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from errors import MetiaError
from segmentation.cli.main import main
from segmentation.followup.assess import assess
from segmentation.followup.case import Protocol
from segmentation.followup.case_reading import (
    case_from_document,
    case_schema,
    read_case,
)
from segmentation.followup.document import assessment_document
from segmentation.followup.rano_bm import RANO_BM
from segmentation.followup.reasons import CODES, Reason
from segmentation.followup.rules import rule_sets
from tests.rano_cases import (
    Document,
)

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples" / "rano"

# -- reading --------

VALID = json.loads((EXAMPLES / "three-visits.json").read_text())


def set_at(path: str, value: object) -> Document:
    document = copy.deepcopy(VALID)
    place: Any = document
    steps = [int(s) if s.isdigit() else s for s in re.findall(r"[a-z_]+|\d+", path)]
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("visits[1].lesions[0].longest_diameter_tenths_mm", 13.5, "type integer"),
        ("visits[1].lesions[0].longest_diameter_tenths_mm", 0, "at least 1"),
        ("visits[1].lesions[0].state", "gone", "must be one of"),
        ("visits[1].date", "2024-02-30", "not a day of the calendar"),
        ("visits[1].lesions[0].lesion", "Z9", "no such lesion"),
        ("visits[2].lesions[1].into", "Z9", "no such lesion"),
        ("visits[2].lesions[1].into", "L2", "merged into itself"),
        ("visits[1].id", "V1", "listed twice"),
        ("visits[1].date", "2024-01-01", "same date"),
        ("lesions[1].id", "L1", "listed twice"),
        ("lesions[0].split_from", "L1", "fragment of itself"),
        ("lesions[0].split_from", "Z9", "no such lesion"),
        ("visits[0].clinical_status", "unknown", "must be one of"),
        ("schema_version", "2.0", "must be '1.0'"),
        (
            "visits[0].lesions[0].perpendicular_diameter_tenths_mm",
            3000,
            "longer than the longest",
        ),
    ],
)
def test_a_fault_is_named_by_its_path(path: str, value: object, problem: str) -> None:
    with pytest.raises(MetiaError) as caught:
        case_from_document(set_at(path, value))
    assert caught.value.code == "invalid-input"
    assert caught.value.detail.startswith(f"{path}: ")
    assert problem in caught.value.detail


def test_a_volume_that_is_no_number_is_refused() -> None:
    path = "visits[1].lesions[0].volume_ml"
    with pytest.raises(MetiaError) as caught:
        case_from_document(set_at(path, float("nan")))
    assert caught.value.detail == f"{path}: is not a number."
    with pytest.raises(MetiaError):
        read_case(json.dumps(set_at(path, float("nan"))))


def test_unknown_and_missing_members_are_named() -> None:
    for change, detail in (
        ({"patient_name": "x"}, "The case: 'patient_name' is not a documented member."),
        ({"visits": None}, "visits: must be of type array."),
    ):
        with pytest.raises(MetiaError) as caught:
            case_from_document({**VALID, **change})
        assert caught.value.detail == detail
    without = copy.deepcopy(VALID)
    del without["visits"][0]["steroids"]
    with pytest.raises(MetiaError, match="'steroids' is missing"):
        case_from_document(without)


def test_numbers_of_a_wrong_kind_and_members_given_twice_are_refused() -> None:
    for text in ('{"a": 1, "a": 2}', '{"a": NaN}', "{", "[]", b"\xff"):
        with pytest.raises(MetiaError) as caught:
            read_case(text)
        assert caught.value.code == "invalid-input"


def test_the_schema_is_strict_and_documents_every_switch() -> None:
    schema = case_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    switches = schema["$defs"]["protocol"]["properties"]
    defaults = Protocol()
    for name, entry in switches.items():
        assert entry["default"] == getattr(defaults, name), name
    assert set(switches) == set(Protocol.__dataclass_fields__)


def objects(schema: object) -> list[Document]:
    found = []
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            found.append(schema)
        schema = list(schema.values())
    if isinstance(schema, list):
        for entry in schema:
            found += objects(entry)
    return found


def test_no_object_of_the_schema_takes_other_members() -> None:
    for entry in objects(case_schema()):
        if "allOf" not in entry:  # An observation is closed by its state.
            assert entry["additionalProperties"] is False


# -- codes, documents, command line --------


def test_a_reason_needs_a_documented_code() -> None:
    with pytest.raises(KeyError):
        Reason("because", "of it")
    documented = (ROOT / "docs" / "rano-bm.md").read_text()
    assert [code for code in CODES if f"`{code}`" not in documented] == []
    switches = Protocol.__dataclass_fields__
    assert [name for name in switches if f"`{name}`" not in documented] == []


def test_the_case_of_the_documentation_is_assessed() -> None:
    page = (ROOT / "docs" / "rano-bm.md").read_text()
    text = re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0]
    assert assess(read_case(text), RANO_BM).visits[-1].category == "PR"


def test_every_example_says_what_it_shows() -> None:
    for path in EXAMPLES.glob("*.json"):
        document = json.loads(path.read_text())
        assert document["case_id"] == path.stem
        assert document["description"]


def test_the_document_has_the_exact_numbers() -> None:
    subject = read_case((EXAMPLES / "case-01.json").read_bytes())
    document: Any = assessment_document(assess(subject, RANO_BM), subject)
    assert document["rule_set"] == {"name": "rano-bm", "version": "1.0"}
    answer = document["visits"][1]
    assert answer["numbers"]["versus_baseline"] == "-15/47"
    assert answer["numbers"]["versus_baseline_percent"] == "-31.9 %"
    assert answer["uncertainty"]["overall"] == ["PR", "SD"]
    assert answer["reasons"][0]["code"] == "target-pr"
    assert document["periods"][0]["targets"] == ["L1", "L2", "L3"]


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = EXAMPLES / "recist-difference.json"
    assert main(["rano", "assess", str(path)]) == 0
    assert "SD, stable disease" in capsys.readouterr().out
    assert main(["rano", "assess", str(path), "--rules", "recist-1.1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["visits"][1]["category"] == "PD"
    assert main(["rano", "example", "9"]) == 0
    assert json.loads(capsys.readouterr().out)["case_id"] == "case-09"
    assert main(["rano", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == case_schema()
    broken = tmp_path / "case.json"
    broken.write_text(json.dumps(set_at("visits[1].lesions[0].state", "gone")))
    assert main(["rano", "assess", str(broken)]) == 2
    said = capsys.readouterr().err
    assert "visits[1].lesions[0].state: must be one of" in said
    assert main(["rano", "assess", str(tmp_path / "none.json")]) == 2
    assert main(["rano", "example", "77"]) == 2


def test_the_command_line_offers_every_rule_set() -> None:
    from segmentation.followup.command import assess as command

    option = next(p for p in command.params if p.name == "rules_name")
    assert list(option.type.choices) == list(rule_sets())


@pytest.mark.parametrize(
    ("baseline", "detail"),
    [
        ({"visit": "V9"}, "baseline.visit: there is no such visit."),
        (
            {"resets": [{"visit": "V9", "reason": "x"}]},
            "baseline.resets[0].visit: there is no such visit.",
        ),
        (
            {"resets": [{"visit": "V1", "reason": "x"}]},
            "baseline.resets[0].visit: does not come after the baseline.",
        ),
        (
            {"resets": [{"visit": "V3", "reason": "x"}] * 2},
            "baseline.resets[1].visit: this visit is listed twice.",
        ),
    ],
)
def test_a_baseline_that_cannot_be_is_refused(baseline: object, detail: str) -> None:
    with pytest.raises(MetiaError) as caught:
        case_from_document({**VALID, "baseline": baseline})
    assert caught.value.detail == detail


def test_an_unknown_member_is_quoted_in_short() -> None:
    with pytest.raises(MetiaError) as caught:
        case_from_document({**VALID, "x\n" * 100: 1})
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) < 140
