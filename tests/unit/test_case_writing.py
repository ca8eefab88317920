"""A case and its document are the same thing: what is written reads back equal."""

from __future__ import annotations

import json

import jsonschema
import pytest

from segmentation.followup.case_reading import (
    case_from_document,
    case_schema,
    read_case,
)
from segmentation.followup.case_writing import case_document
from segmentation.followup.command import EXAMPLES
from tests.rano_cases import case, day, seen, state, visit

FULL = case(
    visit(1, 0, seen("A", 20.0, perpendicular_diameter_tenths_mm=150, slice_count=9,
                     volume_ml=0.1234, touches_border=True),
          seen("B", 12.0), state("C", "too_small", certainty="equivocal"),
          slice_thickness_tenths_mm=10, slice_gap_tenths_mm=2, technique_changed=True,
          series_note="the one with fat suppression", non_target="non_cr_non_pd",
          extracranial_response="SD"),
    visit(2, 40, state("A", "split"), seen("A1", 7.0), seen("A2", 8.0),
          state("B", "merged", into="C"),
          seen("C", 9.0, certainty="unequivocal", projections=2,
               reappearance="tumour", radionecrosis_suspected=True),
          steroids={"use": "pharmacological", "dexamethasone_tenths_mg_per_day": 0},
          clinical_status="worse_other_cause"),
    visit(3, 80, state("C", "locally_treated", date=day(70), modality="surgery"),
          state("B", "not_assessed", reason="link_pending"), state("A", "absent")),
    lesions=[
        {"id": "A", "kind": "solid_nodule", "role": "target"},
        {"id": "A1", "split_from": "A"},
        {"id": "A2", "split_from": "A"},
        {"id": "B", "role": "non_target",
         "local_treatment_before_baseline": "not_progressed_since"},
        {"id": "C", "compartment": "extracranial", "organ": "liver"},
    ],
    description="everything at once",
    protocol={"max_targets": 3, "measurement_sd_tenths_mm": 0,
              "confirmation_required": False},
    treatment={"start_date": day(1), "immunotherapy_start_date": day(2)},
    baseline={"visit": "V1", "resets": [{"visit": "V2", "reason": "new drug"}]},
)  # fmt: skip


def test_what_is_written_reads_back_equal() -> None:
    read = case_from_document(FULL)
    written = case_document(read)
    jsonschema.Draft202012Validator(case_schema()).validate(written)
    assert case_from_document(written) == read
    assert case_document(case_from_document(written)) == written


def test_nothing_is_lost_of_the_document() -> None:
    written = case_document(case_from_document(FULL))
    assert written["protocol"] == FULL["protocol"]
    assert written["lesions"] == FULL["lesions"]
    assert written["baseline"] == FULL["baseline"]
    second = written["visits"][1]
    assert second["steroids"]["dexamethasone_tenths_mg_per_day"] == 0
    for before, after in zip(FULL["visits"], written["visits"], strict=True):
        assert before == after


@pytest.mark.parametrize("volume_ml", [0.0001, 0.0003, 1.1, 0.0647, 123.4567])
def test_volumes_read_back_equal(volume_ml: float) -> None:
    read = case_from_document(case(visit(1, 0, seen("A", 12.0, volume_ml=volume_ml))))
    text = json.dumps(case_document(read))
    assert read_case(text) == read


def test_examples_that_ship_read_back_equal() -> None:
    examples = sorted(EXAMPLES.glob("*.json"))
    assert examples
    for example in examples:
        read = read_case(example.read_bytes())
        assert case_from_document(case_document(read)) == read, example.name
