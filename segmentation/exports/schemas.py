"""What the export routes take as query; see ``segmentation.http.schemas``."""

from __future__ import annotations

from marshmallow import fields, validate

from segmentation.exports.columns import TABLE_NAMES
from segmentation.exports.report import LANGUAGES
from segmentation.followup.rules import rule_sets
from segmentation.http.schemas import Input, Output, Uid


def _flag(default: bool, text: str) -> fields.Boolean:
    return fields.Boolean(
        truthy={"true"},
        falsy={"false"},
        load_default=default,
        metadata={"description": text},
    )


class ExportQuery(Input):
    """What may leave, and by which criteria."""

    identifiers = _flag(
        False,
        "Whether patient ID, name, dates, archive UIDs and texts of readers leave; "
        "needs the role reviewer.",
    )
    rule_set = fields.String(
        validate=validate.OneOf(sorted(rule_sets())),
        metadata={"description": "Left out: the criteria of the patient's plan."},
    )


class CsvQuery(ExportQuery):
    """Which table."""

    table = fields.String(
        validate=validate.OneOf(TABLE_NAMES),
        metadata={"description": "Left out: a ZIP of all."},
    )


class ReportQuery(ExportQuery):
    """How the report is written."""

    language = fields.String(
        load_default="en", validate=validate.OneOf(sorted(LANGUAGES))
    )
    images = _flag(True, "Whether key images are read from the archive.")


class ReportOrder(Input):
    """How the report that goes into the archive is written."""

    language = fields.String(
        load_default="en", validate=validate.OneOf(sorted(LANGUAGES))
    )


class StoredReport(Output):
    """Where the report lies in the archive."""

    study_uid = Uid(required=True)
    series_uid = Uid(required=True)
    sop_instance_uid = Uid(required=True)
    already_stored = fields.Boolean(
        required=True, metadata={"description": "It lay there before, the same."}
    )
