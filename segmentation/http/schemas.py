"""The JSON of the API: what is taken in and what is given out, field by field.

The description under ``/api/v1/openapi.json``, and with it the viewer's TypeScript
types, is made from these. Lengths in mm, volumes in ml, points in patient coordinates
(LPS, mm), times in seconds, dates as ISO 8601 in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from segmentation.access.passwords import MAX_LENGTH, MIN_LENGTH
from segmentation.access.roles import ROLES
from segmentation.http.identifiers import (
    ID_PATTERN,
    UID_MAX_LENGTH,
    UID_PATTERN,
    is_id,
    is_uid,
)
from segmentation.measurability import REASONS

MODEL_NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
USER_NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{1,63}$"
TEXT_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
JOB_STATES = ("queued", "running", "succeeded", "failed", "cancelled")
RESULT_STATES = ("unverified", "accepted", "edited", "rejected", "signed")
ORIGINS = ("model", "reader", "import")
REVIEWS = ("unverified", "accepted", "rejected")
METHODS = ("probability-contour", "mask-contour")
ALGORITHM_TYPES = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")


def _only(accepts: Callable[[str], object]) -> Callable[[str], None]:
    def validator(value: str) -> None:
        if not accepts(value):
            raise ma.ValidationError("Not valid.")

    return validator


class Uid(fields.String):
    """The UID of something in the archive."""

    def __init__(self, **options: Any) -> None:
        metadata = {
            "pattern": UID_PATTERN,
            "maxLength": UID_MAX_LENGTH,
            **options.pop("metadata", {}),
        }
        super().__init__(metadata=metadata, validate=_only(is_uid), **options)


class Id(fields.String):
    """An identifier made by us."""

    def __init__(self, **options: Any) -> None:
        metadata = {"pattern": ID_PATTERN, **options.pop("metadata", {})}
        super().__init__(metadata=metadata, validate=_only(is_id), **options)


class Name(fields.String):
    """A name of a given pattern, ASCII."""

    def __init__(self, pattern: str, **options: Any) -> None:
        # A newline before the end would satisfy Python's $; fullmatch is strict.
        full = re.compile(pattern.removesuffix("$"), re.ASCII).fullmatch
        metadata = {"pattern": pattern, **options.pop("metadata", {})}
        super().__init__(metadata=metadata, validate=_only(full), **options)


class Text(fields.String):
    """Free text for people: bounded, without control characters."""

    def __init__(self, longest: int, shortest: int = 0, **options: Any) -> None:
        super().__init__(
            validate=[
                validate.Length(min=shortest, max=longest),
                _only(re.compile(TEXT_PATTERN.removesuffix("$")).fullmatch),
            ],
            metadata={"pattern": TEXT_PATTERN},
            **options,
        )


class Whole(fields.Integer):
    """A whole number; ``3.0`` is one in JSON, ``"3"`` and ``true`` are none."""

    def __init__(self, low: int, high: int, **options: Any) -> None:
        limits = validate.Range(min=low, max=high)
        super().__init__(strict=True, validate=limits, **options)

    def _validated(self, value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return super()._validated(value)


class Password(fields.String):
    """A password; never given out."""

    def __init__(self, shortest: int = 1, longest: int = 1024, **options: Any) -> None:
        length = validate.Length(min=shortest, max=longest)
        super().__init__(load_only=True, validate=length, **options)


class Output(ma.Schema):
    """An answer: every member is always there."""


class Input(ma.Schema):
    """A request: unknown members are refused."""

    class Meta:
        """What marshmallow does with unknown members."""

        unknown = ma.RAISE


def _point(**options: Any) -> fields.List[Any]:
    return fields.List(
        fields.Float(), validate=validate.Length(equal=3), required=True, **options
    )


def _axis(**options: Any) -> fields.List[Any]:
    return fields.List(
        _point(), validate=validate.Length(equal=2), required=True, **options
    )


def _text(**options: Any) -> fields.String:
    return fields.String(required=True, **options)


def _moment(**options: Any) -> fields.DateTime:
    return fields.DateTime(format="iso", required=True, **options)


# -- session and users ---------------------------------------------------------


class Login(Input):
    """Who logs in."""

    username = Text(64, 1, required=True)
    password = Password(required=True)


class User(Output):
    """Someone who may log in, as that person may see it."""

    name = _text()
    display_name = _text()
    role = _text(validate=validate.OneOf(ROLES))


class Session(Output):
    """The present session."""

    user = fields.Nested(User, required=True)
    csrf_token = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "Send as X-CSRF-Token with changes; null for API tokens."
        },
    )


class Account(User):
    """A user as an administrator sees it."""

    disabled = fields.Boolean(required=True)
    created_at = _moment()


class Accounts(Output):
    """All users."""

    users = fields.List(fields.Nested(Account), required=True)


class NewAccount(Input):
    """A user to be made."""

    name = Name(USER_NAME_PATTERN, required=True)
    display_name = Text(128, load_default="")
    role = fields.String(required=True, validate=validate.OneOf(ROLES))
    password = Password(MIN_LENGTH, MAX_LENGTH, required=True)


class AccountChange(Input):
    """What shall become different of a user."""

    display_name = Text(128)
    role = fields.String(validate=validate.OneOf(ROLES))
    password = Password(MIN_LENGTH, MAX_LENGTH)
    disabled = fields.Boolean(truthy={True}, falsy={False})


class NewToken(Input):
    """An API token to be made."""

    name = Text(64, 1, required=True)
    days = Whole(1, 366, load_default=90)


class Token(Output):
    """An API token, without its secret."""

    id = Id(required=True)
    name = _text()
    created_at = _moment()
    expires_at = _moment()
    last_used_at = _moment(allow_none=True)


class MadeToken(Token):
    """An API token just made."""

    token = _text(metadata={"description": "The secret; shown this once."})


class Tokens(Output):
    """One's own API tokens."""

    tokens = fields.List(fields.Nested(Token), required=True)


# -- jobs ----------------------------------------------------------------------


class NewJob(Input):
    """What shall be segmented."""

    study_uid = Uid(required=True)
    series_uid = Uid(
        allow_none=True, metadata={"description": "Null: the best series is chosen."}
    )
    model = Name(
        MODEL_NAME_PATTERN,
        allow_none=True,
        metadata={"description": "Null: the default model."},
    )
    priority = Whole(-10, 10, load_default=0)


class JobError(Output):
    """Why a job failed, or, while it waits, why its last try was put off."""

    code = _text()
    title = _text()
    detail = _text()
    remedy = _text()


class Job(Output):
    """One piece of work and how far it is."""

    id = Id(required=True)
    kind = _text()
    state = _text(validate=validate.OneOf(JOB_STATES))
    ups_state = _text(
        validate=validate.OneOf(["SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"])
    )
    step = _text()
    progress = fields.Float(required=True, validate=validate.Range(min=0, max=1))
    attempt = fields.Integer(required=True)
    max_attempts = fields.Integer(required=True)
    study_uid = Uid(required=True)
    series_uid = Uid(required=True, allow_none=True)
    model = fields.String(required=True, allow_none=True)
    priority = fields.Integer(required=True)
    cancel_requested = fields.Boolean(required=True)
    error = fields.Nested(JobError, required=True, allow_none=True)
    result_id = Id(required=True, allow_none=True)
    timings_s = fields.Dict(keys=fields.String(), values=fields.Float(), required=True)
    created_at = _moment()
    started_at = _moment(allow_none=True)
    finished_at = _moment(allow_none=True)
    queue_position = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "1 is next; null where the job does not wait."},
    )
    requested_by = fields.String(required=True, allow_none=True)


class JobQuery(Input):
    """Which jobs to list."""

    state = fields.String(validate=validate.OneOf(JOB_STATES))
    study_uid = Uid()
    limit = fields.Integer(load_default=50, validate=validate.Range(min=1, max=200))
    cursor = Text(200, 1)


class Jobs(Output):
    """A page of jobs, newest first."""

    jobs = fields.List(fields.Nested(Job), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


# -- results -------------------------------------------------------------------


class Segmentation(Output):
    """Where the SEG object lies."""

    series_uid = Uid(required=True)
    sop_instance_uid = Uid(required=True)


class ResultModel(Output):
    """The model that made a result."""

    name = _text()
    version = _text()
    sha256 = _text()
    demonstration = fields.Boolean(required=True)


class Lesion(Output):
    """One lesion with its measurements."""

    id = Id(required=True)
    segment_number = fields.Integer(required=True)
    name = _text()
    tracking_id = _text()
    tracking_uid = Uid(required=True)
    longest_diameter_mm = fields.Float(required=True)
    perpendicular_diameter_mm = fields.Float(required=True)
    volume_ml = fields.Float(required=True)
    diameter_3d_mm = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "Largest distance of two points of the surface."},
    )
    diameter_3d_axis_mm = _axis(allow_none=True)
    probability = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "Null for what a reader drew."},
    )
    peak_probability = fields.Float(required=True, allow_none=True)
    slice_count = fields.Integer(
        required=True, metadata={"description": "Axial slices it is seen on."}
    )
    measurable = fields.Boolean(
        required=True,
        allow_none=True,
        metadata={"description": "By its size; null where nobody has judged it."},
    )
    measurable_reasons = fields.List(
        fields.String(validate=validate.OneOf(REASONS)),
        required=True,
        metadata={"description": "Why not."},
    )
    method = _text(
        validate=validate.OneOf(METHODS),
        metadata={"description": "What the diameters were measured on."},
    )
    algorithm_type = _text(
        validate=validate.OneOf(ALGORITHM_TYPES),
        metadata={"description": "Who drew it: model, model and reader, reader."},
    )
    review = _text(validate=validate.OneOf(REVIEWS))
    finding_uid = Uid(
        required=True,
        metadata={"description": "Of the lesion in all versions of this visit."},
    )
    sop_instance_uid = Uid(required=True)
    frame_number = fields.Integer(required=True, allow_none=True)
    long_axis_mm = _axis()
    short_axis_mm = _axis()
    centroid_mm = _point()
    colour = fields.List(
        fields.Integer(), validate=validate.Length(equal=3), required=True
    )
    voxel_count = fields.Integer(required=True)
    warnings = fields.List(
        fields.String(),
        required=True,
        metadata={
            "description": "What limits the measurement: touches-border; several-parts."
        },
    )


class LesionWithResult(Lesion):
    """A lesion and the result it belongs to."""

    result_id = Id(required=True)


class Result(Output):
    """What one job found, or a reader's version of it."""

    id = Id(required=True)
    job_id = Id(required=True, allow_none=True)
    study_uid = Uid(required=True)
    series_uid = Uid(required=True)
    segmentation = fields.Nested(
        Segmentation,
        required=True,
        allow_none=True,
        metadata={"description": "Null where no lesion was found."},
    )
    model = fields.Nested(
        ResultModel,
        required=True,
        allow_none=True,
        metadata={"description": "Null where no model took part (imports)."},
    )
    origin = _text(validate=validate.OneOf(ORIGINS))
    state = _text(validate=validate.OneOf(RESULT_STATES))
    revision = fields.Integer(
        required=True,
        metadata={"description": "Name it with a change; raised by every one."},
    )
    version = fields.Integer(required=True)
    predecessor_id = Id(required=True, allow_none=True)
    author = fields.String(required=True, allow_none=True)
    note = _text()
    signed_by = fields.String(required=True, allow_none=True)
    signed_at = _moment(allow_none=True)
    created_at = _moment()
    spacing_mm = _point(
        allow_none=True, metadata={"description": "Between slices, rows, columns."}
    )
    slice_thickness_mm = fields.Float(required=True, allow_none=True)
    lesion_count = fields.Integer(required=True)
    lesions = fields.List(fields.Nested(Lesion), required=True)
    warnings = fields.List(fields.String(), required=True)
    series_choice = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "Why this series was taken."},
    )
    tilt_deg = fields.Float(
        required=True,
        metadata={"description": "Between the slices and the patient's axial plane."},
    )
    resampled = fields.Boolean(
        required=True,
        metadata={"description": "Whether it was resampled to measure in that plane."},
    )
    dropped_small = fields.Integer(
        required=True,
        metadata={"description": "Components left out for their size."},
    )
    parameters = fields.Dict(keys=fields.String(), required=True)
    timings_s = fields.Dict(keys=fields.String(), values=fields.Float(), required=True)
    device = _text()
    code_version = _text()
    notice = _text()


class Results(Output):
    """The results of a study, newest first."""

    results = fields.List(fields.Nested(Result), required=True)


class Model(Output):
    """A model that jobs may ask for."""

    name = _text()
    version = _text()
    sha256 = _text()
    kind = _text()
    task = _text()
    description = _text()
    demonstration = fields.Boolean(required=True)
    is_default = fields.Boolean(required=True)


class Models(Output):
    """All models."""

    models = fields.List(fields.Nested(Model), required=True)
