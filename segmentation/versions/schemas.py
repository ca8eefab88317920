"""The JSON of versions: corrections, reviews, restoring.

See ``segmentation.http.schemas`` for units and for what a result looks like.
"""

from __future__ import annotations

from marshmallow import fields, validate

from segmentation.http.schemas import (
    REVIEWS,
    Id,
    Input,
    Name,
    Output,
    Result,
    Text,
    Uid,
)
from segmentation.http.schemas import Whole as _Whole

_LARGEST_SIDE = 4096
_MOST_IMAGES = 4096
_MOST_SEGMENTS = 1000
_LONGEST_NOTE = 1000
_CONTROLS = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
LESION_NAME_PATTERN = rf"^[^ {_CONTROLS}][^{_CONTROLS}]{{0,63}}$"
"""What people call a lesion: not blank, no control characters."""
REVISION = (1, 2**31 - 1)


class _Revision(_Whole):
    """The revision of the result that the reader saw."""

    def __init__(self) -> None:
        super().__init__(*REVISION, required=True)


def _truth() -> fields.Boolean:
    return fields.Boolean(truthy={True}, falsy={False}, load_default=False)


class ImageReference(Input):
    """An image that labels belong to."""

    sop_instance_uid = Uid(required=True)
    frame_number = _Whole(
        1,
        100_000,
        allow_none=True,
        load_default=None,
        metadata={"description": "Null (or 1) for an image of one frame."},
    )


class SentSegment(Input):
    """What one number among the labels is."""

    number = _Whole(1, 65_535, required=True)
    lesion_id = Id(
        allow_none=True,
        load_default=None,
        metadata={"description": "The lesion it continues; null for a new one."},
    )
    name = Name(LESION_NAME_PATTERN, required=True)


class Correction(Input):
    """A label map and what is in it."""

    revision = _Revision()
    images = fields.List(
        fields.Nested(ImageReference),
        required=True,
        validate=validate.Length(min=1, max=_MOST_IMAGES),
        metadata={"description": "All images of the series, in order of the labels."},
    )
    rows = _Whole(1, _LARGEST_SIDE, required=True)
    columns = _Whole(1, _LARGEST_SIDE, required=True)
    segments = fields.List(
        fields.Nested(SentSegment),
        required=True,
        validate=validate.Length(max=_MOST_SEGMENTS),
        metadata={"description": "Lesions that are left out are deleted."},
    )
    keep_both = _truth()
    note = Text(_LONGEST_NOTE, load_default="")


class CorrectionForm(Input):
    """The two parts of a correction."""

    description = fields.Nested(Correction, required=True)
    labels = fields.Raw(
        required=True,
        metadata={
            "type": "string",
            "format": "binary",
            "description": "gzip of uint8 or little-endian uint16, in C order "
            "(image, row, column): 0, or the number of a segment.",
        },
    )


class LesionChange(Input):
    """What shall become different of one lesion."""

    id = Id(required=True)
    review = fields.String(
        validate=validate.OneOf(REVIEWS),
        metadata={"description": "A rejected lesion counts nowhere."},
    )
    name = Name(LESION_NAME_PATTERN)
    deleted = _truth()


class ResultChange(Input):
    """What a reader says of a result. Names and deletions make a new version."""

    revision = _Revision()
    state = fields.String(
        validate=validate.OneOf(["unverified", "accepted", "rejected"])
    )
    lesions = fields.List(
        fields.Nested(LesionChange),
        load_default=list,
        validate=validate.Length(max=_MOST_SEGMENTS),
    )
    note = Text(_LONGEST_NOTE, load_default="")


class Restoring(Input):
    """Which earlier version shall come back."""

    revision = _Revision()
    version_id = Id(
        allow_none=True,
        load_default=None,
        metadata={"description": "Null: the version before."},
    )


class Versions(Output):
    """All versions of a result, the first one first."""

    versions = fields.List(fields.Nested(Result), required=True)
