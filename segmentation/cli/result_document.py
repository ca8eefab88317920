"""``result.json``: what a run on files found, as data, checked against its schema.

The members are those of the API's Result and Lesion where both have them (no ids of
the service's database, for there is none); the schema is ``segmentation/
result_schema.json``. UIDs of the images are in it, names and dates of patients never.
Lengths mm, volumes ml, points LPS mm, times s. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from segmentation.lesions import Lesion
from segmentation.pipeline import Analysis, stated_thickness_mm
from settings import RESEARCH_NOTICE, VERSION

SCHEMA_VERSION = "1.1"
SCHEMA_PATH = Path(__file__).resolve().parent.parent / "result_schema.json"


@dataclass(frozen=True)
class InputFacts:
    """Where the image came from.

    Attributes
    ----------
    kind : {'dicom', 'nifti'}
    file_sha256 : str or None
        Of the NIfTI file; None for DICOM, whose pixels are hashed.
    study_uid, series_uid : str or None
        None for NIfTI.
    choice : tuple of str
        Why this series was taken.
    """

    kind: str
    file_sha256: str | None = None
    study_uid: str | None = None
    series_uid: str | None = None
    choice: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def result_document(
    analysis: Analysis,
    facts: InputFacts,
    files: Mapping[str, str],
    timings_s: Mapping[str, float],
) -> dict[str, object]:
    """Put a run into plain data.

    Parameters
    ----------
    files : mapping
        Name and SHA-256 of each file written beside.
    timings_s : mapping
        Seconds a step, of the whole run.
    """
    model, source = analysis.model, analysis.source
    return {
        "schema_version": SCHEMA_VERSION,
        "notice": RESEARCH_NOTICE,
        "state": "unverified",
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": VERSION,
        "input": {
            "kind": facts.kind,
            "study_uid": facts.study_uid,
            "series_uid": facts.series_uid,
            "file_sha256": facts.file_sha256,
            "pixel_sha256": source.facts["pixel_sha256"],
            "shape": list(source.volume.shape),
            "spacing_mm": [round(float(mm), 6) for mm in source.volume.spacing],
            "slice_thickness_mm": stated_thickness_mm(source),
            "choice": list(facts.choice),
        },
        "model": {
            "name": model.name,
            "version": model.version,
            "sha256": model.sha256,
            "demonstration": model.demonstration,
        },
        "segmentation": _segmentation(analysis),
        "parameters": analysis.parameters,
        "device": analysis.prediction.device,
        "lesion_count": len(analysis.lesion_map.lesions),
        "tilt_deg": round(analysis.lesion_map.tilt_deg, 2),
        "resampled": analysis.lesion_map.resampled,
        "dropped_small": analysis.lesion_map.dropped_small,
        "lesions": _lesions(analysis),
        "warnings": [*facts.warnings, *source.warnings, *_model_warnings(analysis)],
        "timings_s": {name: round(s, 3) for name, s in timings_s.items()},
        "files": [
            {"name": name, "sha256": sha256} for name, sha256 in sorted(files.items())
        ],
    }


def _segmentation(analysis: Analysis) -> dict[str, str] | None:
    if analysis.segmentation is None:
        return None
    return {
        "series_uid": analysis.identity.series_uid,
        "sop_instance_uid": analysis.identity.sop_instance_uid,
    }


def _model_warnings(analysis: Analysis) -> list[str]:
    if not analysis.model.demonstration:
        return []
    return ["A demonstration model: it does not find metastases in patients."]


def _lesions(analysis: Analysis) -> list[dict[str, object]]:
    identity = analysis.identity
    return [
        _lesion(analysis, lesion, name, uid, colour)
        for lesion, (name, uid), colour in zip(
            analysis.lesion_map.lesions,
            identity.tracking,
            identity.colours,
            strict=True,
        )
    ]


def _lesion(
    analysis: Analysis,
    lesion: Lesion,
    name: str,
    tracking_uid: str,
    colour: Sequence[int],
) -> dict[str, object]:
    slices = analysis.source.slices
    where = slices[lesion.slice_index] if slices else None
    return {
        "segment_number": lesion.number,
        "name": name,
        "tracking_id": name,
        "tracking_uid": tracking_uid,
        "longest_diameter_mm": round(lesion.longest_diameter_mm, 2),
        "perpendicular_diameter_mm": round(lesion.perpendicular_diameter_mm, 2),
        "diameter_3d_mm": round(lesion.diameter_3d_mm, 2),
        "volume_ml": round(lesion.volume_ml, 4),
        "voxel_count": lesion.voxel_count,
        "probability": round(lesion.probability, 4),
        "peak_probability": round(lesion.peak_probability, 4),
        "slice_index": lesion.slice_index,
        "slice_count": lesion.slice_count,
        "sop_instance_uid": where.sop_instance_uid if where else None,
        "frame_number": where.frame_number if where else None,
        "long_axis_mm": [_point(end) for end in lesion.long_axis_mm],
        "short_axis_mm": [_point(end) for end in lesion.short_axis_mm],
        "diameter_3d_axis_mm": [_point(end) for end in lesion.diameter_3d_axis_mm],
        "centroid_mm": _point(lesion.centroid_mm),
        "method": lesion.method,
        "measurable": lesion.measurable,
        "measurable_reasons": list(lesion.measurable_reasons),
        "colour": list(colour),
        "warnings": list(lesion.warnings),
    }


def _point(values: Sequence[float]) -> list[float]:
    return [round(float(value), 3) for value in values]


@lru_cache(maxsize=1)
def result_schema() -> dict[str, object]:
    """Read the schema that ships."""
    schema: dict[str, object] = json.loads(SCHEMA_PATH.read_text("utf-8"))
    return schema


def check_document(document: Mapping[str, object]) -> None:
    """Raise unless a document is valid by the schema.

    Raises
    ------
    jsonschema.ValidationError
        A fault of this program: its own output does not keep the promise.
    """
    import jsonschema

    schema = result_schema()
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.FormatChecker()
    )
    validator.validate(document)
