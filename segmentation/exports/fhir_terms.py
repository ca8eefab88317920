"""Coded terms and units of the FHIR export, and how our own words map onto them.

SNOMED CT and NCIt codes are those of our DICOM objects; where no code was found that
says the same, a concept is text alone, never a code that nearly fits. Constants and
pure functions that give fresh JSON values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Json = dict[str, Any]

SCT = "http://snomed.info/sct"
LOINC = "http://loinc.org"
NCIT = "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl"
UCUM = "http://unitsofmeasure.org"
DICOM_UID = "urn:dicom:uid"
DICOM_MODALITY = "http://dicom.nema.org/resources/ontology/DCM"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"

EVIDENCE_TYPE = (
    "http://hl7.org/fhir/us/mcode/StructureDefinition/"
    "mcode-cancer-disease-status-evidence-type"
)
"""mCODE's extension: what a disease status rests on."""

RESPONSES: Final[Mapping[str, str]] = {
    "CR": "C4870",
    "PR": "C18058",
    "SD": "C18213",
    "PD": "C35571",
    "NE": "C62222",
}
"""NCIt's codes of overall responses; there is none for the others."""

TRENDS: Final[Mapping[str, tuple[str, str]]] = {
    "CR": ("268910001", "Patient's condition improved (finding)"),
    "PR": ("268910001", "Patient's condition improved (finding)"),
    "SD": ("359746009", "Patient's condition stable (finding)"),
    "PD": ("271299001", "Patient's condition worsened (finding)"),
    "NE": ("709137006", "Patient condition undetermined (finding)"),
    "INDETERMINATE": ("709137006", "Patient condition undetermined (finding)"),
}
"""mCODE's terms of a cancer disease status, SNOMED CT."""


def coding(system: str, code: str, display: str | None = None) -> Json:
    """Make a Coding."""
    made = {"system": system, "code": code}
    return made | {"display": display} if display else made


def concept(text: str, *codings: Json) -> Json:
    """Make a CodeableConcept; without codings it is text alone."""
    return {"coding": list(codings), "text": text} if codings else {"text": text}


def quantity(value: float, unit: str) -> Json:
    """Make a Quantity whose unit is a UCUM code."""
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def absent(code: str, text: str) -> Json:
    """Say why there is no value; `code` of HL7's data-absent-reason."""
    return concept(text, coding(f"{_TERMINOLOGY}/data-absent-reason", code))


def tag(notice: str) -> Json:
    """Mark a resource as made for research."""
    return coding("urn:metia:notice", "research-use-only", notice)


LONG_AXIS = concept("Long axis", coding(SCT, "103339001", "Long axis"))
SHORT_AXIS = concept("Short axis", coding(SCT, "103340004", "Short axis"))
VOLUME = concept("Volume", coding(SCT, "118565006", "Volume"))
BRAIN = concept("Brain", coding(SCT, "12738006", "Brain structure"))
METASTASIS = concept(
    "Metastasis", coding(SCT, "14799000", "Neoplasm, metastatic (secondary)")
)
IMAGING = concept("Imaging", coding(SCT, "363679005", "Imaging"))
IMAGING_CATEGORY = concept(
    "Imaging", coding(f"{_TERMINOLOGY}/observation-category", "imaging", "Imaging")
)
RADIOLOGY = concept("Radiology", coding(f"{_TERMINOLOGY}/v2-0074", "RAD", "Radiology"))
MEDICAL_RECORD = concept(
    "Patient ID", coding(f"{_TERMINOLOGY}/v2-0203", "MR", "Medical record number")
)
PSEUDONYMISED = coding(
    f"{_TERMINOLOGY}/v3-ObservationValue", "PSEUDED", "pseudonymized"
)
MR = coding(DICOM_MODALITY, "MR", "Magnetic Resonance")


def disease_status() -> Json:
    """Give the code of the disease status, as mCODE has it."""
    return concept("Cancer disease status", coding(LOINC, "97509-4"))


def criteria(rule_set: str, version: str) -> Json:
    """Name the criteria; NCIt has RANO, and nothing for its form of metastases."""
    codings = [coding(NCIT, "C114879", "RANO")] if rule_set == "rano-bm" else []
    return concept(f"{rule_set.upper()}, rule set version {version}", *codings)


def response(category: str, text: str) -> Json:
    """Give a category: its NCIt code, its trend, and our words."""
    codings = []
    if category in RESPONSES:
        codings.append(coding(NCIT, RESPONSES[category]))
    if category in TRENDS:
        codings.append(coding(SCT, *TRENDS[category]))
    return concept(text, *codings)
