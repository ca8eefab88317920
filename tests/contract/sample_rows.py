"""Rows that tests of the database need, with values that break no rule."""

from __future__ import annotations

from dataclasses import replace

from db.engine import Engine, transaction
from db.models_registry import ModelRecord
from db.results import LesionRecord, ResultRecord
from db.studies import Patient, Series, Study, upsert_study

STUDY_UID = "1.2.3"
SERIES_UID = "1.2.3.1"


def add_study(
    engine: Engine, study_uid: str = STUDY_UID, series_uid: str = SERIES_UID
) -> None:
    with transaction(engine) as session:
        upsert_study(
            session,
            Patient(patient_id="phantom-1"),
            Study(study_uid),
            Series(series_uid, modality="MR", instance_count=160),
        )


def make_model(letter: str = "a") -> ModelRecord:
    return ModelRecord(f"net-{letter}", "1.0", letter * 64, demonstration=True)


def make_lesion(number: int = 1) -> LesionRecord:
    return LesionRecord(
        segment_number=number,
        name=f"L{number}",
        tracking_id=f"L{number}",
        tracking_uid=f"2.25.{number}",
        colour=(230, 80, 10),
        voxel_count=100,
        volume_ml=0.1,
        longest_diameter_mm=7.5,
        perpendicular_diameter_mm=6.25,
        long_axis_mm=((0.0, 1.0, 2.0), (7.5, 1.0, 2.0)),
        short_axis_mm=((3.0, -2.0, 2.0), (3.0, 4.25, 2.0)),
        centroid_mm=(3.5, 1.1, 2.0),
        probability=0.8,
        peak_probability=0.99,
        slice_index=0,
        slice_count=6,
        sop_instance_uid="1.2.3.1.80",
        frame_number=None,
        warnings=("touches-border",),
        finding_uid=f"2.25.{number}",
    )


def make_record(
    job_id: str | None = None, lesions: int = 2, **other: object
) -> ResultRecord:
    record = ResultRecord(
        job_id=job_id,
        series_uid=SERIES_UID,
        segmentation_series_uid="2.25.100" if lesions else None,
        segmentation_sop_uid="2.25.101" if lesions else None,
        model=make_model(),
        inputs_sha256="b" * 64,
        instance_count=160,
        code_version="0.1.0",
        parameters={"threshold": 0.5},
        device="cpu",
        timings_s={"predict": 1.25},
        warnings=("a slice is thick",),
        series_choice=("the description names a T1",),
        tilt_deg=10.0,
        resampled=False,
        dropped_small=1,
        lesions=tuple(make_lesion(number + 1) for number in range(lesions)),
    )
    return replace(record, **other)  # type: ignore[arg-type]
