"""A course as one FHIR R4 Bundle (type collection).

Patient, one ImagingStudy a visit, one BodyStructure a lesion (its identity over time,
by the DICOM tracking UID), one Observation a lesion and visit, one for the disease
status and one DiagnosticReport a visit. Statuses follow signing: preliminary, final,
and amended where something changed after it was signed. The same course gives the same
bundle; references are UUIDs within it. Lengths mm, volumes mL (UCUM). Pure.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from segmentation.exports import fhir_terms as terms
from segmentation.exports.content import (
    CourseContent,
    Observation,
    Provenance,
    Subject,
    Track,
    Visit,
)
from segmentation.exports.fhir_terms import Json
from segmentation.followup.case import State
from settings import VERSION

_NAMESPACE = uuid.UUID("0c7d6f0e-3a51-5b0c-9a68-1f5b8f0a6c11")
_GENDERS = {"M": "male", "F": "female", "O": "other"}
_SOFTWARE = "urn:metia"
_STATES = {
    State.MEASURED: "Measured",
    State.TOO_SMALL: "Too small to measure",
    State.ABSENT: "Absent",
    State.MERGED: "Merged with another lesion",
    State.SPLIT: "Split into fragments",
    State.LOCALLY_TREATED: "Locally treated",
}
_STALE = "Changed since it was signed; not signed again."


def bundle(
    course: CourseContent, provenance: Mapping[int, Provenance] | None = None
) -> Json:
    """Make the bundle of a course.

    Parameters
    ----------
    provenance : mapping of int to Provenance, optional
        What made the result of each visit, by the number of the visit.

    Returns
    -------
    dict
        FHIR R4 JSON; a patient without visits gives a bundle of the Patient alone.
    """
    writer = _Writer(course, provenance or {})
    meta: Json = {"tag": [terms.tag(course.notice)]}
    if not course.subject.identified:
        meta["security"] = [terms.PSEUDONYMISED]
    return {
        "resourceType": "Bundle",
        "meta": meta,
        "language": "en",
        "type": "collection",
        "entry": [
            {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource}
            for resource in writer.resources()
        ],
    }


class _Writer:
    def __init__(
        self, course: CourseContent, provenance: Mapping[int, Provenance]
    ) -> None:
        self._course = course
        self._provenance = provenance
        self._patient = self._id("patient", course.subject.key)

    def resources(self) -> Iterator[Json]:
        yield self._patient_resource(self._course.subject)
        devices = {self._device_id(one): one for one in self._provenance.values()}
        for identifier, made_by in devices.items():
            yield self._resource("Device", identifier) | _device(made_by)
        for track in self._course.tracks:
            yield self._body_structure(track)
        for visit in self._course.visits:
            yield from self._visit(visit)

    def _visit(self, visit: Visit) -> Iterator[Json]:
        yield self._imaging_study(visit)
        members = []
        for track in self._course.tracks:
            one = track.at(visit.number)
            first = track.first_visit
            if one is None or first is None or visit.number < first:
                continue
            made = self._lesion(track, one, visit)
            members.append(made["id"])
            yield made
        if visit.assessment is not None:
            status = self._status(visit, members)
            members.append(status["id"])
            yield status
        yield self._report(visit, members)

    def _patient_resource(self, subject: Subject) -> Json:
        identifiers: list[Json] = [
            {"system": f"{_SOFTWARE}:patient-key", "value": subject.key}
        ]
        made = self._resource("Patient", self._patient)
        if subject.patient_id:
            identifiers.append(
                {"type": terms.MEDICAL_RECORD, "value": subject.patient_id}
            )
        made["identifier"] = identifiers
        if subject.name:
            made["name"] = [{"text": subject.name}]
        if subject.sex:
            made["gender"] = _GENDERS.get(subject.sex.upper(), "unknown")
        if subject.birth_date:
            made["birthDate"] = subject.birth_date.isoformat()
        return made

    def _body_structure(self, track: Track) -> Json:
        return self._resource("BodyStructure", self._id("lesion", track.id)) | {
            "identifier": [
                {
                    "system": terms.DICOM_UID,
                    "value": f"urn:oid:{track.tracking_uid}",
                }
            ],
            "active": True,
            "morphology": terms.METASTASIS,
            "location": terms.BRAIN,
            "description": f"{track.label}, {track.kind.replace('_', ' ')}",
            "patient": self._subject(),
        }

    def _imaging_study(self, visit: Visit) -> Json:
        identifiers: list[Json] = [
            {
                "system": f"{_SOFTWARE}:visit",
                "value": f"{self._course.subject.key}/{visit.number}",
            }
        ]
        if visit.study_uid:
            identifiers.append(
                {"system": terms.DICOM_UID, "value": f"urn:oid:{visit.study_uid}"}
            )
        made = self._resource("ImagingStudy", self._study_id(visit)) | {
            "identifier": identifiers,
            "status": "available",
            "modality": [terms.MR],
            "subject": self._subject(),
        }
        if visit.date:
            made["started"] = visit.date.isoformat()
        if visit.series_uid:
            made["series"] = [{"uid": visit.series_uid, "modality": terms.MR}]
        return made

    def _lesion(self, track: Track, one: Observation, visit: Visit) -> Json:
        name = f"{track.id}/{visit.number}"
        made = self._observation("measurement", name, visit) | {
            "code": terms.concept("Measurement of a brain metastasis"),
            "focus": [_reference("BodyStructure", self._id("lesion", track.id))],
            "bodySite": terms.BRAIN,
        }
        if one.state == State.NOT_ASSESSED:
            why = (one.reason or "not stated").replace("_", " ")
            made["dataAbsentReason"] = terms.absent("not-performed", why)
        else:
            made["valueCodeableConcept"] = terms.concept(_STATES[State(one.state)])
        made["component"] = [*_sizes(one), *_texts(track, one), *_study_day(visit)]
        return made

    def _status(self, visit: Visit, members: list[str]) -> Json:
        found = visit.assessment
        assert found is not None  # noqa: S101 - narrows for mypy
        category, text = _standing(visit)
        made = self._observation("status", str(visit.number), visit) | {
            "extension": [
                {"url": terms.EVIDENCE_TYPE, "valueCodeableConcept": terms.IMAGING}
            ],
            "code": (
                terms.disease_status()
                if category in terms.TRENDS
                else terms.concept("Response by the criteria")
            ),
            "valueCodeableConcept": terms.response(category, text),
            "method": terms.criteria(self._course.rule_set, self._course.rules_version),
            "component": [*_figures(visit), *_study_day(visit)],
        }
        if members:
            made["hasMember"] = [_reference("Observation", one) for one in members]
        notes = [{"text": f"[{one.code}] {one.text}"} for one in found.reasons]
        made["note"] = made.get("note", []) + notes
        return {name: value for name, value in made.items() if value}

    def _report(self, visit: Visit, members: list[str]) -> Json:
        made = self._resource("DiagnosticReport", self._id("report", visit.number)) | {
            "identifier": [
                {
                    "system": f"{_SOFTWARE}:report",
                    "value": f"{self._course.subject.key}/{visit.number}",
                }
            ],
            "status": _status_code(visit),
            "category": [terms.RADIOLOGY],
            "code": terms.concept("Follow-up of brain metastases on MRI"),
            "subject": self._subject(),
            "imagingStudy": [_reference("ImagingStudy", self._study_id(visit))],
            "conclusion": self._conclusion(visit),
        }
        if visit.date:
            made["effectiveDateTime"] = visit.date.isoformat()
        if members:
            made["result"] = [_reference("Observation", one) for one in members]
        if visit.assessment is not None:
            made["conclusionCode"] = [terms.response(*_standing(visit))]
        signature = visit.signature
        if signature is not None and not signature.stale:
            made["resultsInterpreter"] = [{"display": signature.by}]
            if signature.at is not None:
                made["issued"] = signature.at.isoformat(timespec="seconds")
        return made

    def _conclusion(self, visit: Visit) -> str:
        if visit.assessment is None:
            standing = visit.left_out or "Not assessed."
        else:
            kind = "Signed" if visit.signed else "Proposed, unverified"
            standing = f"{kind}: {_standing(visit)[1]}."
        signature = visit.signature
        parts = [self._course.notice, standing]
        if signature is not None and signature.stale:
            parts.append(_STALE)
        if signature is not None and signature.comment:
            parts.append(signature.comment)
        parts += (
            [one.text for one in visit.assessment.reasons] if visit.assessment else []
        )
        return " ".join(parts)

    def _observation(self, kind: str, name: str, visit: Visit) -> Json:
        """Begin an Observation with what all have."""
        made = self._resource("Observation", self._id(kind, name)) | {
            "status": _status_code(visit),
            "category": [terms.IMAGING_CATEGORY],
            "subject": self._subject(),
            "derivedFrom": [_reference("ImagingStudy", self._study_id(visit))],
        }
        if visit.date:
            made["effectiveDateTime"] = visit.date.isoformat()
        if visit.signature is not None and visit.signature.stale:
            made["note"] = [{"text": _STALE}]
        made_by = self._provenance.get(visit.number)
        if made_by is not None:
            made["device"] = _reference("Device", self._device_id(made_by))
        return made

    def _resource(self, kind: str, identifier: str) -> Json:
        return {
            "resourceType": kind,
            "id": identifier,
            "meta": {"tag": [terms.tag(self._course.notice)]},
        }

    def _subject(self) -> Json:
        return _reference("Patient", self._patient)

    def _study_id(self, visit: Visit) -> str:
        return self._id("study", visit.number)

    def _device_id(self, made_by: Provenance) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"device/{made_by}"))

    def _id(self, kind: str, name: object) -> str:
        whole = f"{self._course.subject.key}/{kind}/{name}"
        return str(uuid.uuid5(_NAMESPACE, whole))


def _device(made_by: Provenance) -> Json:
    name = made_by.model_name or f"MetIA ({made_by.origin})"
    versions = [
        ("code", made_by.code_version),
        ("model", made_by.model_version),
        ("model SHA-256", made_by.model_sha256),
        ("export", VERSION),
    ]
    return {
        "deviceName": [{"name": name, "type": "model-name"}],
        "type": terms.concept("Software that segments and measures"),
        "version": [
            {"type": terms.concept(kind), "value": value}
            for kind, value in versions
            if value
        ],
    }


def _reference(kind: str, identifier: str) -> Json:
    return {"reference": f"urn:uuid:{identifier}", "type": kind}


def _status_code(visit: Visit) -> str:
    if visit.signature is None:
        return "preliminary"
    return "amended" if visit.signature.stale else "final"


def _standing(visit: Visit) -> tuple[str, str]:
    """Give the category that holds, and its words."""
    found = visit.assessment
    assert found is not None  # noqa: S101 - narrows for mypy
    category = visit.category or found.category
    same = category == found.category
    return category, found.category_text if same else category


def _sizes(one: Observation) -> Iterator[Json]:
    sizes = (
        (terms.LONG_AXIS, one.longest_diameter_mm, "mm"),
        (terms.SHORT_AXIS, one.perpendicular_diameter_mm, "mm"),
        (terms.VOLUME, one.volume_ml, "mL"),
    )
    for code, value, unit in sizes:
        if value is not None:
            yield {"code": code, "valueQuantity": terms.quantity(value, unit)}
        elif one.state in (State.MEASURED, State.TOO_SMALL, State.NOT_ASSESSED):
            reason = terms.absent("not-performed", one.state.replace("_", " "))
            yield {"code": code, "dataAbsentReason": reason}


def _texts(track: Track, one: Observation) -> Iterator[Json]:
    group = track.role or "new"
    yield _text("Role", group.replace("_", "-"))
    if one.review:
        yield _text("Review", one.review)
    if one.link_state:
        yield _text("Link to earlier visits", one.link_state)
    if one.certainty:
        yield _text("Certainty of a new lesion", one.certainty)


def _figures(visit: Visit) -> Iterator[Json]:
    found = visit.assessment
    figures: list[tuple[str, float | None, str]] = [
        ("Sum of longest diameters of the targets", visit.sum_mm, "mm"),
        ("Change against baseline", visit.change_from_baseline_percent, "%"),
        ("Change against nadir", visit.change_from_nadir_percent, "%"),
        ("Volume of all lesions", visit.sum_volume_ml, "mL"),
    ]
    for name, value, unit in figures:
        if value is not None:
            yield {
                "code": terms.concept(name),
                "valueQuantity": terms.quantity(value, unit),
            }
    if not visit.sum_complete:
        yield _text("Sum", "incomplete: a target has no value")
    if found is None:
        return
    words: list[tuple[str, str | None]] = [
        ("Target response", found.target),
        ("Non-target response", found.non_target),
        ("New lesions", ", ".join(found.new_lesions)),
        ("Best response", found.best_response),
        ("Proposed category", found.category),
        ("Within the error of measurement", " or ".join(found.alternatives)),
        ("Reading by volume, beside the criteria", found.volumetric),
    ]
    for name, text in words:
        if text:
            yield _text(name, text)
    if found.confirmed is not None:
        yield {
            "code": terms.concept("Response confirmed"),
            "valueBoolean": found.confirmed,
        }


def _study_day(visit: Visit) -> Iterator[Json]:
    if visit.day is not None:
        yield {
            "code": terms.concept("Day of the study (the baseline is day 1)"),
            "valueInteger": visit.day,
        }


def _text(name: str, text: str) -> Json:
    made: dict[str, Any] = {"code": terms.concept(name), "valueString": text}
    return made
