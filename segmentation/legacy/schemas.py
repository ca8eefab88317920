"""The JSON of the former system's routes, field by field, as its front end has them.

Names are that system's own, French and English mixed.
"""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from segmentation.http import schemas as common
from segmentation.versions.schemas import LESION_NAME_PATTERN

_LARGEST_ROI = 2**31 - 1


class Success(ma.Schema):
    """It was done."""

    success = fields.String(required=True)


class Failure(ma.Schema):
    """It was not done, or not all of it."""

    error = fields.String(required=True)


class _Number(common.Whole):
    """A whole number, also one sent as a text of digits, as pages do with keys."""

    def _validated(self, value: Any) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:12])
        return super()._validated(value)


class _Region(ma.Schema):
    class Meta:
        """What else a page sends is of no interest."""

        unknown = ma.EXCLUDE

    serie_instance_uid = common.Uid(
        required=True,
        metadata={"description": "Of the RTSTRUCT, or of the segmentation."},
    )
    study_instance_uid = common.Uid(required=True)
    roi_number = _Number(0, _LARGEST_ROI, required=True)


class RenamedRegion(_Region):
    """A region and its new name."""

    new_name = common.Name(LESION_NAME_PATTERN, required=True)


class DeletedRegion(_Region):
    """A region that shall go."""


class PatientQuery(ma.Schema):
    """Whose studies."""

    idPatient = fields.String(validate=validate.Length(max=256))


class StudyQuery(ma.Schema):
    """The series of which study."""

    idEtude = fields.String(validate=validate.Length(max=256))


class SeriesQuery(ma.Schema):
    """The lesions of which series."""

    idSeries = fields.String(validate=validate.Length(max=256))


class FollowedPatient(ma.Schema):
    """A patient."""

    id = fields.Raw(
        required=True,
        metadata={
            "oneOf": [{"type": "integer"}, {"type": "string"}],
            "description": "PatientID: a number where nothing of it is lost.",
        },
    )
    name = fields.String(required=True, allow_none=True)
    date = fields.String(
        required=True, allow_none=True, metadata={"description": "Of birth."}
    )
    sexe = fields.String(required=True, allow_none=True)


class FollowedStudy(ma.Schema):
    """A study; `id` is the patient's, and left out where one was asked for."""

    id_study = fields.String(required=True)
    id = fields.Raw(
        metadata={"oneOf": [{"type": "integer"}, {"type": "string"}]},
    )
    date = fields.String(required=True, allow_none=True)


class FollowedSeries(ma.Schema):
    """A series of outlines."""

    series_instance_uid = fields.String(required=True)
    study_instance_uid = fields.String(required=True)


class FollowedLesion(ma.Schema):
    """A lesion; `series_instance_uid` is left out where a series was asked for."""

    id = fields.Integer(required=True)
    roiNumber = fields.Integer(required=True, allow_none=True)
    series_instance_uid = fields.String()
    nom_metastase = fields.String(required=True, allow_none=True)
    volume = fields.Float(
        required=True, allow_none=True, metadata={"description": "cm3"}
    )
    diametre = fields.Float(
        required=True, allow_none=True, metadata={"description": "mm"}
    )
    slice_debut = fields.Integer(required=True, allow_none=True)
    slice_fin = fields.Integer(required=True, allow_none=True)
    color = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Such as `[255   0   0]`."},
    )


class HistoricalMeasurement(common.Output):
    """A lesion at one date, as the former system measured it."""

    study_uid = common.Uid(required=True)
    study_date = fields.String(
        required=True, allow_none=True, metadata={"description": "DICOM's DA."}
    )
    series_uid = common.Uid(required=True)
    roi_number = fields.Integer(required=True, allow_none=True)
    name = fields.String(required=True, allow_none=True)
    volume_ml = fields.Float(required=True, allow_none=True)
    diameter_mm = fields.Float(required=True, allow_none=True)
    first_slice = fields.Integer(required=True, allow_none=True)
    last_slice = fields.Integer(required=True, allow_none=True)
    colour = fields.List(fields.Integer(), required=True, allow_none=True)
    imported_at = fields.DateTime(format="iso", required=True)


class HistoricalMeasurements(common.Output):
    """What the former system measured of a patient, by date."""

    measurements = fields.List(fields.Nested(HistoricalMeasurement), required=True)
