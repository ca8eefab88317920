"""What the follow-up takes in over HTTP, field by field (out: ``course_schemas``).

Checks form only: whether a visit or a track exists and belongs to the patient is for
``course_changes``. The switches of the protocol come from the schema that ships with
the engine. Days are ISO 8601, doses in mg, and a request names the revision it saw.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from segmentation.followup.case import (
    Certainty,
    Clinical,
    Compartment,
    Kind,
    NonTarget,
    Role,
    State,
    SteroidChange,
    SteroidUse,
)
from segmentation.followup.case_reading import case_schema
from segmentation.followup.rules import rule_sets
from segmentation.http.schemas import Id, Input, Name, Text, Uid, Whole

NOTE_PATTERN = r"^[^\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029]*$"
LABEL_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,31}$"
EVENT_KINDS = (
    "surgery",
    "radiosurgery",
    "radiotherapy",
    "systemic_therapy",
    "immunotherapy",
    "steroids",
    "clinical",
    "other",
)
MODALITIES = ("radiosurgery", "radiotherapy", "surgery", "ablation", "other")
NOT_ASSESSED_REASONS = (
    "not_imaged",
    "image_quality",
    "artefact",
    "no_contrast",
    "not_read",
    "other",
)
RESPONSES = ("CR", "PR", "SD", "NON_CR_NON_PD", "PD", "NE", "not_recorded")
SIGNED_CATEGORIES = (
    "CR",
    "PR",
    "SD",
    "PD",
    "NE",
    "NON_CR_NON_PD",
    "NED",
    "INDETERMINATE",
    "BASELINE",
)
LINK_ACTIONS = ("link", "new", "unlink", "confirm")
READER_STATES = tuple(state.value for state in State if state is not State.MEASURED)
MOST = 2**31 - 1
REVISION = {"description": "The one that was shown; 0 where nothing was entered yet."}
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z", re.ASCII)


class Day(fields.Date):
    """A day of the calendar, written YYYY-MM-DD and in no other way."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(value, str) or not _DAY.match(value):
            raise ma.ValidationError("Not valid.")
        return super()._deserialize(value, *args, **kwargs)


class Number(fields.Float):
    """A number of JSON; no text that looks like one."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ma.ValidationError("Not a valid number.")
        return super()._deserialize(value, *args, **kwargs)


class Truth(fields.Boolean):
    """True or false, and nothing that merely looks like it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(truthy={True}, falsy={False}, **options)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(value, bool):
            raise ma.ValidationError("Not a valid boolean.")
        return super()._deserialize(value, *args, **kwargs)


class Note(fields.String):
    """Free text of a person; lines may be broken."""

    def __init__(self, longest: int, shortest: int = 0, **options: Any) -> None:
        said = {"pattern": NOTE_PATTERN, **options.pop("metadata", {})}
        rules = [
            validate.Length(min=shortest, max=longest),
            validate.Regexp(NOTE_PATTERN.removesuffix("$") + r"\Z"),
        ]
        super().__init__(validate=rules, metadata=said, **options)


def said(text: str) -> dict[str, str]:
    """Describe a member, for the API's description."""
    return {"description": text}


def choice(kind: Iterable[Any], **options: Any) -> fields.String:
    """One of the values of an enumeration (or of some texts)."""
    values = [getattr(value, "value", value) for value in kind]
    return fields.String(validate=validate.OneOf(values), **options)


def maybe(**options: Any) -> dict[str, Any]:
    """Options of a member that is always there and may be null."""
    return {"required": True, "allow_none": True, **options}


def _protocol_fields() -> dict[str, fields.Field[Any]]:
    """Give the switches of the protocol, from the schema that ships with the engine."""
    definitions = case_schema()["$defs"]
    made: dict[str, fields.Field[Any]] = {}
    for name, entry in definitions["protocol"]["properties"].items():
        rule = definitions["tenths_mm"] | entry if "$ref" in entry else entry
        note = said(entry.get("description", ""))
        if "enum" in rule:
            made[name] = choice(rule["enum"], metadata=note)
        elif rule["type"] == "boolean":
            made[name] = Truth(metadata=note)
        else:
            made[name] = Whole(rule["minimum"], rule["maximum"], metadata=note)
    return made


class ProtocolBase(Input):
    """Switches of the response criteria; those left out have their defaults."""


Protocol = ProtocolBase.from_dict(_protocol_fields(), name="ProtocolSwitches")


# -- queries ---------------------------------------------------------------------


class PatientQuery(Input):
    """Which patients to list."""

    search = Text(64)
    limit = fields.Integer(load_default=50, validate=validate.Range(min=1, max=200))
    cursor = Text(400, 1)


class CourseQuery(Input):
    """By which criteria; left out: those of the patient's plan."""

    rule_set = choice(rule_sets())


# -- what a reader enters --------------------------------------------------------


class ResetInput(Input):
    """A visit at which the comparison starts anew."""

    study_uid = Uid(required=True)
    reason = Text(500, 1, required=True)


class PlanInput(Input):
    """The plan of a patient, whole: what is left out is taken back."""

    revision = Whole(0, MOST, required=True, metadata=REVISION)
    treatment_start = Day(load_default=None, allow_none=True)
    immunotherapy_start = Day(
        load_default=None,
        allow_none=True,
        metadata=said("Switches the handling of pseudo-progression on."),
    )
    baseline_study_uid = Uid(
        load_default=None,
        allow_none=True,
        metadata=said(
            "Null: the last visit not after the start of treatment, else the earliest."
        ),
    )
    rule_set = choice(rule_sets(), required=True)
    protocol = fields.Nested(Protocol, load_default=dict)
    resets = fields.List(
        fields.Nested(ResetInput),
        load_default=list,
        validate=validate.Length(max=20),
    )


class EventInput(Input):
    """Something that happened to the patient, to be shown on the time line."""

    date = Day(required=True)
    kind = choice(EVENT_KINDS, required=True)
    text = Text(500, load_default="")
    track_id = Id(load_default=None, allow_none=True)


class ReadingInput(Input):
    """What only a reader knows of a visit, whole: it replaces what was there."""

    revision = Whole(0, MOST, required=True, metadata=REVISION)
    steroid_use = choice(SteroidUse, required=True)
    steroid_change = choice(
        SteroidChange, **maybe(metadata=said("Null: derived from the doses."))
    )
    steroid_dose_mg = Number(
        **maybe(
            validate=validate.Range(min=0, max=200),
            metadata=said("Dexamethasone equivalent a day, to 0.1 mg."),
        ),
    )
    clinical = choice(Clinical, required=True)
    non_target = choice(
        NonTarget,
        **maybe(
            metadata=said(
                "Null: derived from the lesions. Progression comes from here only."
            )
        ),
    )
    technique_changed = Truth(required=True)
    extracranial_response = choice(RESPONSES, load_default="not_recorded")
    note = Note(2000, load_default="")
    selected_result_id = Id(
        load_default=None,
        allow_none=True,
        metadata=said("The result to assess; null: the newest that is not rejected."),
    )


class TrackReadingInput(Input):
    """What a reader says of one lesion at one visit, whole."""

    revision = Whole(0, MOST, required=True, metadata=said("Of the track."))
    state = choice(
        READER_STATES,
        load_default=None,
        allow_none=True,
        metadata=said("Null: as measured and linked."),
    )
    reason = choice(
        NOT_ASSESSED_REASONS,
        load_default=None,
        allow_none=True,
        metadata=said("Asked for with not_assessed."),
    )
    into_track_id = Id(
        load_default=None, allow_none=True, metadata=said("Asked for with merged.")
    )
    treated_on = Day(
        load_default=None,
        allow_none=True,
        metadata=said("Asked for with locally_treated; not after the visit."),
    )
    modality = choice(
        MODALITIES,
        load_default=None,
        allow_none=True,
        metadata=said("Asked for with locally_treated."),
    )
    radionecrosis_suspected = Truth(load_default=False)
    certainty = choice(
        Certainty,
        load_default=None,
        allow_none=True,
        metadata=said("Of a new lesion: whether it is certainly one."),
    )
    projections = Whole(1, 3, load_default=None, allow_none=True)
    reappearance = choice(
        ("tumour", "not_tumour", "undetermined"),
        load_default=None,
        allow_none=True,
        metadata=said("Of something small at an old site after complete response."),
    )


class TrackChange(Input):
    """What shall become different of a lesion; what is left out stays."""

    revision = Whole(0, MOST, required=True, metadata=said("Of the track."))
    label = Name(
        LABEL_PATTERN, metadata=said("Stands in reasons and reports; once a patient.")
    )
    role = choice(Role, allow_none=True, metadata=said("Null: chosen by the rules."))
    kind = choice(Kind)
    compartment = choice(Compartment)
    progressed_since_treatment = Truth(
        allow_none=True,
        metadata=said("Null: not treated locally before the baseline."),
    )


class LinkInput(Input):
    """A reader's decision about which lesion a finding is."""

    study_uid = Uid(required=True)
    finding_uid = Uid(metadata=said("Or lesion_id; one of the two."))
    lesion_id = Id(metadata=said("Of any version of the visit's result."))
    action = choice(
        LINK_ACTIONS,
        required=True,
        metadata=said(
            "link: it is the lesion of track_id; new: it is a lesion of its own; "
            "unlink: it belongs to none of those it is linked to; "
            "confirm: the proposed link is right."
        ),
    )
    track_id = Id(
        load_default=None, allow_none=True, metadata=said("Asked for with link.")
    )


class UndoInput(Input):
    """The decision about a link to take back: the latest in force."""

    decision_id = Whole(
        1,
        MOST,
        load_default=None,
        allow_none=True,
        metadata=said("The latest, as it was shown; null: whichever is the latest."),
    )


class SignatureInput(Input):
    """The signature under the assessment of a visit, as it was shown."""

    rule_set = choice(rule_sets(), required=True)
    category = choice(
        SIGNED_CATEGORIES,
        load_default=None,
        allow_none=True,
        metadata=said("Null: the proposed one. Another one asks for a comment."),
    )
    comment = Note(2000, load_default="")
    inputs_sha256 = Name(
        r"^[0-9a-f]{64}$", required=True, metadata=said("Of the assessment shown.")
    )
