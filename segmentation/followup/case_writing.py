"""Writes a case as the document that ``case_reading`` takes: one text for one case.

What leaves its default is written and nothing else, so that equal cases give equal
documents and a signed case can be checked by anyone with ``./metia rano assess``. Pure.
"""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import Any

from segmentation.followup.case import (
    Case,
    Compartment,
    Kind,
    Lesion,
    Observation,
    Protocol,
    State,
    Steroids,
    Visit,
)

SCHEMA_VERSION = "1.0"
_TREATED_BEFORE = {True: "progressed_since", False: "not_progressed_since"}


def case_document(case: Case) -> dict[str, Any]:
    """Put a case into plain data, valid by ``case_schema.json``.

    Returns
    -------
    dict
        ``case_reading.case_from_document`` makes an equal case of it.
    """
    treatment = _given(
        start_date=_day(case.treatment_start),
        immunotherapy_start_date=_day(case.immunotherapy_start),
    )
    baseline = _given(visit=case.baseline, resets=[vars(r) for r in case.resets])
    return {
        "schema_version": SCHEMA_VERSION,
        "case_id": case.id,
        **_given(
            description=case.description,
            protocol=_protocol(case.protocol),
            treatment=treatment,
            baseline=baseline,
        ),
        "lesions": [_lesion(lesion) for lesion in case.lesions.values()],
        "visits": [_visit(visit) for visit in case.visits],
    }


def _given(**members: Any) -> dict[str, Any]:
    """Leave out what says nothing."""
    return {
        name: value
        for name, value in members.items()
        if value is not None and value is not False and value not in ("", [], {})
    }


def _day(day: Any) -> str | None:
    return None if day is None else day.isoformat()


def _protocol(protocol: Protocol) -> dict[str, Any]:
    return {
        entry.name: value
        for entry in fields(protocol)
        if (value := getattr(protocol, entry.name)) != entry.default
    }


def _lesion(lesion: Lesion) -> dict[str, Any]:
    elsewhere = lesion.compartment is not Compartment.CNS
    kind = lesion.kind
    return {
        "id": lesion.id,
        **_given(
            kind=None if kind is Kind.PARENCHYMAL else kind.value,
            compartment=lesion.compartment.value if elsewhere else None,
            organ=lesion.organ if elsewhere or lesion.organ != "brain" else None,
            role=lesion.role.value if lesion.role else None,
            split_from=lesion.split_from,
            local_treatment_before_baseline=(
                None
                if lesion.progressed_since_treatment is None
                else _TREATED_BEFORE[lesion.progressed_since_treatment]
            ),
        ),
    }


def _visit(visit: Visit) -> dict[str, Any]:
    extracranial = visit.extracranial_response
    return {
        "id": visit.id,
        "date": visit.date.isoformat(),
        "steroids": _steroids(visit.steroids),
        "clinical_status": visit.clinical.value,
        **_given(
            slice_thickness_tenths_mm=visit.slice_thickness_tenths_mm,
            slice_gap_tenths_mm=visit.slice_gap_tenths_mm or None,
            technique_changed=visit.technique_changed,
            series_note=visit.series_note,
            non_target=visit.non_target.value if visit.non_target else None,
            extracranial_response=(
                None if extracranial == "not_recorded" else extracranial
            ),
        ),
        "lesions": [_observation(seen) for seen in visit.observations.values()],
    }


def _steroids(steroids: Steroids) -> dict[str, Any]:
    dose = steroids.dose_tenths_mg
    written: dict[str, Any] = {"use": steroids.use.value}
    if steroids.change is not None:
        written["change"] = steroids.change.value
    if dose is not None:  # No dose is 0, which says something.
        written["dexamethasone_tenths_mg_per_day"] = dose
    return written


def _observation(seen: Observation) -> dict[str, Any]:
    written = {
        "lesion": seen.lesion,
        "state": seen.state.value,
        **_given(
            longest_diameter_tenths_mm=seen.longest_tenths_mm,
            perpendicular_diameter_tenths_mm=seen.perpendicular_tenths_mm,
            slice_count=seen.slice_count,
            touches_border=seen.touches_border,
            volume_ml=_millilitres(seen.volume_tenths_mm3),
            into=seen.into,
            date=_day(seen.treated_on),
            modality=seen.modality,
            radionecrosis_suspected=seen.radionecrosis_suspected,
            certainty=seen.certainty.value if seen.certainty else None,
            projections=seen.projections,
        ),
    }
    if seen.state is State.NOT_ASSESSED:
        written["reason"] = seen.reason
    if seen.reappearance != "undetermined":
        written["reappearance"] = seen.reappearance
    return written


def _millilitres(tenths_mm3: int | None) -> float | None:
    # A decimal of four places and its float have the same shortest text.
    return None if tenths_mm3 is None else float(Decimal(tenths_mm3).scaleb(-4))
