"""What governance takes in and gives out over HTTP, field by field.

Nothing of it names a patient: the audit holds ids, codes and counts, an erasure its
report. Times are ISO 8601 with a time zone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from segmentation.http.schemas import Id, Input, Output, Text, Uid

CURSOR_PATTERN = r"^[0-9]{1,18}$"
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})\Z",
    re.ASCII,
)


class Moment(fields.AwareDateTime):
    """A moment, ISO 8601 with its time zone."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> datetime:
        if not isinstance(value, str) or not _MOMENT.match(value):
            raise ma.ValidationError("Not valid: write 2026-01-31T12:00:00Z.")
        try:
            moment: datetime = super()._deserialize(value, *args, **kwargs)
            return moment.astimezone(UTC)
        except ValueError as error:
            raise ma.ValidationError("Not valid.") from error
        except OverflowError:
            # A moment of the year 1 or 9999 whose year is another in UTC.
            return (datetime.min if moment.year == 1 else datetime.max).replace(
                tzinfo=UTC
            )


class AuditQuery(Input):
    """Which entries of the audit are wanted: of exactly this actor, subject, action."""

    since = Moment(metadata={"description": "From this moment on."})
    until = Moment(metadata={"description": "Before this moment."})
    actor = Text(128)
    subject = Text(200)
    action = Text(64)
    limit = fields.Integer(load_default=500, validate=validate.Range(min=1, max=5000))
    cursor = fields.String(
        validate=validate.Regexp(CURSOR_PATTERN + r"\Z"),
        metadata={
            "pattern": CURSOR_PATTERN,
            "description": "`next_cursor` of the page before.",
        },
    )


class AuditEntry(Output):
    """One thing that was done."""

    id = fields.Integer(required=True)
    at = fields.AwareDateTime(required=True)
    actor = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Null for the system and the command line."},
    )
    action = fields.String(required=True)
    subject = fields.String(required=True)
    details = fields.Dict(keys=fields.String(), required=True)
    request_id = fields.String(required=True, allow_none=True)


class AuditPage(Output):
    """Entries, oldest first."""

    entries = fields.List(fields.Nested(AuditEntry), required=True)
    next_cursor = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Null where no entry is left."},
    )


class ErasureQuery(Input):
    """How far an erasure goes."""

    keep_archive = fields.Boolean(
        load_default=False,
        metadata={"description": "Leave what MetIA wrote into the archive."},
    )


class RemainingSeries(Output):
    """A series of MetIA's that is still in the archive."""

    study_uid = Uid(required=True)
    series_uid = Uid(
        required=True,
        allow_none=True,
        metadata={"description": "Null: the archive did not tell."},
    )
    code = fields.String(
        required=True, metadata={"description": "Why; `kept` where it was asked for."}
    )


class ErasureReport(Output):
    """What was erased, and what was not."""

    patient_id = Id(required=True)
    rows = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "Removed, by table; jobs are emptied instead."},
    )
    study_uids = fields.List(
        Uid(),
        required=True,
        metadata={"description": "Their images are still in the archive."},
    )
    deleted_series = fields.List(Uid(), required=True)
    remaining = fields.List(fields.Nested(RemainingSeries), required=True)
