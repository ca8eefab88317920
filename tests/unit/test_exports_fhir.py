"""The FHIR bundle: valid by the official R4 schema, and saying what the course says.

Two judges: HL7's own JSON schema of R4 (cut down to our resources), which refuses
unknown members, and ``fhir.resources`` (R4B), which knows what is required.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fhir.resources.R4B.bundle import Bundle

from segmentation.exports.content import Provenance
from segmentation.exports.fhir import bundle
from segmentation.exports.reading import read_course
from tests import course_example

SCHEMA = Path(__file__).parents[1] / "fhir" / "fhir-r4-subset.schema.json"
EXAMPLES = {
    "three visits": course_example.three_visits,
    "stale signature": course_example.stale_signature,
    "empty patient": course_example.empty_patient,
    "many": course_example.many,
}
MADE_BY = Provenance("model", "0.1.0", "unetr", "1.0", "a" * 64)


def _bundle(document: dict[str, Any], identifiers: bool = False) -> dict[str, Any]:
    made = bundle(
        read_course(document, identifiers=identifiers),
        {1: MADE_BY, 2: MADE_BY, 3: Provenance("import", "0.1.0")},
    )
    return json.loads(json.dumps(made, allow_nan=False))


def _resources(made: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    found = (entry["resource"] for entry in made["entry"])
    return [resource for resource in found if resource["resourceType"] == kind]


def _component(resource: dict[str, Any], name: str) -> dict[str, Any]:
    found = [one for one in resource["component"] if one["code"]["text"] == name]
    assert len(found) == 1, name
    return found[0]


def _measurement(made: dict[str, Any], label: str, visit: int) -> dict[str, Any]:
    lesion = next(
        one
        for one in _resources(made, "BodyStructure")
        if one["description"].startswith(f"{label},")
    )
    study = _resources(made, "ImagingStudy")[visit - 1]["id"]
    return next(
        one
        for one in _resources(made, "Observation")
        if one.get("focus", [{}])[0].get("reference") == f"urn:uuid:{lesion['id']}"
        and one["derivedFrom"][0]["reference"] == f"urn:uuid:{study}"
    )


@pytest.mark.parametrize("identifiers", [False, True])
@pytest.mark.parametrize("name", EXAMPLES)
def test_bundle_is_valid(name: str, identifiers: bool) -> None:
    document = EXAMPLES[name]()
    course_example.check(document)
    made = _bundle(document, identifiers)
    jsonschema.validate(made, json.loads(SCHEMA.read_text("utf-8")))
    Bundle.model_validate(made)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_reference_leads_somewhere(name: str) -> None:
    made = _bundle(EXAMPLES[name]())
    known = {
        entry["fullUrl"]: entry["resource"]["resourceType"] for entry in made["entry"]
    }
    assert len(known) == len(made["entry"])

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if "reference" in value:
                assert known[value["reference"]] == value["type"]
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(made)


def test_lesion_carries_codes_units_and_identity() -> None:
    made = _bundle(course_example.three_visits())
    one = _measurement(made, "M1", 2)
    assert _component(one, "Long axis") == {
        "code": {
            "coding": [
                {
                    "system": "http://snomed.info/sct",
                    "code": "103339001",
                    "display": "Long axis",
                }
            ],
            "text": "Long axis",
        },
        "valueQuantity": {
            "value": 13.0,
            "unit": "mm",
            "system": "http://unitsofmeasure.org",
            "code": "mm",
        },
    }
    short, volume = _component(one, "Short axis"), _component(one, "Volume")
    assert short["code"]["coding"][0]["code"] == "103340004"
    assert short["valueQuantity"]["value"] == 9.8
    assert volume["code"]["coding"][0]["code"] == "118565006"
    assert volume["valueQuantity"] == {
        "value": 0.879,
        "unit": "mL",
        "system": "http://unitsofmeasure.org",
        "code": "mL",
    }
    lesion = _resources(made, "BodyStructure")[0]
    assert lesion["identifier"] == [
        {"system": "urn:dicom:uid", "value": "urn:oid:2.25.9001"}
    ]


def test_status_follows_signing() -> None:
    for document, statuses in (
        (course_example.three_visits(), ["preliminary", "final", "preliminary"]),
        (course_example.stale_signature(), ["preliminary", "amended", "preliminary"]),
    ):
        made = _bundle(document)
        reports = _resources(made, "DiagnosticReport")
        assert [report["status"] for report in reports] == statuses
        assert _measurement(made, "M1", 2)["status"] == statuses[1]
        assert _measurement(made, "M1", 3)["status"] == "preliminary"
    signed = _resources(_bundle(course_example.three_visits()), "DiagnosticReport")[1]
    assert signed["resultsInterpreter"] == [{"display": "Dr. Ève Lœwe"}]
    assert "Signed: PR, partial response." in signed["conclusion"]
    stale = _resources(_bundle(course_example.stale_signature()), "DiagnosticReport")[1]
    assert "resultsInterpreter" not in stale
    assert "Changed since it was signed" in stale["conclusion"]
    assert "Proposed, unverified: PR" in stale["conclusion"]


def test_signed_category_stands_before_the_proposed_one() -> None:
    document = course_example.three_visits()
    document["visits"][1]["signed"]["category"] = "SD"
    made = _bundle(document)
    report = _resources(made, "DiagnosticReport")[1]
    codes = [one["code"] for one in report["conclusionCode"][0]["coding"]]
    assert codes == ["C18213", "359746009"]
    status = next(
        one
        for one in _resources(made, "Observation")
        if one.get("extension") and one["status"] == "final"
    )
    assert _component(status, "Proposed category")["valueString"] == "PR"


def test_disease_status_is_coded_where_it_fits_and_text_elsewhere() -> None:
    made = _bundle(course_example.three_visits())
    found = [one for one in _resources(made, "Observation") if "extension" in one]
    assert [one["code"].get("coding", [{}])[0].get("code") for one in found] == [
        None,
        "97509-4",
        "97509-4",
    ]
    assert "coding" not in found[0]["valueCodeableConcept"]
    assert found[2]["valueCodeableConcept"]["coding"][0]["code"] == "C35571"
    assert found[2]["method"]["coding"][0]["code"] == "C114879"


def test_what_was_not_assessed_has_a_reason_and_no_value() -> None:
    made = _bundle(course_example.three_visits())
    one = _measurement(made, "M3", 3)
    assert one["dataAbsentReason"]["text"] == "not imaged"
    assert "valueCodeableConcept" not in one
    assert "valueQuantity" not in _component(one, "Long axis")
    small = _measurement(made, "M4", 2)
    assert small["valueCodeableConcept"]["text"] == "Too small to measure"


def test_pseudonymous_bundle_tells_nothing_of_the_patient() -> None:
    text = json.dumps(_bundle(course_example.three_visits()), ensure_ascii=False)
    for secret in ("EX-0042", "Beispiel", "示子", "2024", "1951", "1.2.826", "Zoë"):
        assert secret not in text
    assert '"PSEUDED"' in text


def test_identified_bundle_tells_what_was_asked_for() -> None:
    made = _bundle(course_example.three_visits(), identifiers=True)
    patient = _resources(made, "Patient")[0]
    assert patient["birthDate"] == "1951-02-03"
    assert patient["gender"] == "female"
    assert patient["name"] == [{"text": "Beispiel, Zoë / 例, 示子"}]
    assert [one["value"] for one in patient["identifier"]] == [
        course_example.PATIENT_KEY,
        "EX-0042",
    ]
    report = _resources(made, "DiagnosticReport")[1]
    assert report["effectiveDateTime"] == "2024-03-11"
    assert report["issued"] == "2024-03-12T09:30:00+00:00"
    assert "PSEUDED" not in json.dumps(made)


def test_same_course_gives_the_same_bundle_and_the_same_patient() -> None:
    document = course_example.three_visits()
    assert _bundle(document) == _bundle(document)
    patients = [
        _resources(_bundle(document, identifiers), "Patient")[0]["id"]
        for identifiers in (False, True)
    ]
    assert patients[0] == patients[1]


def test_every_resource_says_research_use() -> None:
    made = _bundle(course_example.three_visits())
    for entry in [{"resource": made}, *made["entry"]]:
        tags = entry["resource"]["meta"]["tag"]
        assert "Research use only" in tags[0]["display"]


def test_the_judges_do_judge() -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    unknown = _bundle(course_example.three_visits())
    unknown["entry"][3]["resource"]["diameter"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(unknown, schema)
    incomplete = _bundle(course_example.three_visits())
    del _resources(incomplete, "DiagnosticReport")[0]["status"]
    with pytest.raises(ValueError, match="status"):
        Bundle.model_validate(incomplete)
