"""Rows that tests of the database need, with values that break no rule."""

from __future__ import annotations

import zlib
from dataclasses import replace

from db.engine import Engine, reading, transaction
from db.models_registry import ModelRecord
from db.patients import key_of_study
from db.results import LesionRecord, Result, ResultRecord, record_result
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
    job_id: str | None = None,
    lesions: int | tuple[LesionRecord, ...] = 2,
    **other: object,
) -> ResultRecord:
    if isinstance(lesions, int):
        lesions = tuple(make_lesion(number + 1) for number in range(lesions))
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
        lesions=lesions,
    )
    return replace(record, **other)  # type: ignore[arg-type]


def add_patient(engine: Engine, name: str = "phantom-1", visits: int = 1) -> str:
    """Add a patient with visits that have a result of two lesions each.

    Study UIDs are ``1.2.<hash of the name>.<number>``; see `visit_uid`.

    Returns
    -------
    str
        Key of the patient's row.
    """
    for number in range(visits):
        add_visit(engine, name, number)
    with reading(engine) as session:
        return key_of_study(session, visit_uid(name, 0))


def visit_uid(name: str, number: int) -> str:
    return f"1.2.{zlib.crc32(name.encode())}.{number + 1}"


def add_visit(
    engine: Engine, name: str, number: int, lesions: int = 2, **other: object
) -> str:
    """Add a visit of a patient with a result; gives the result's id."""
    study_uid = visit_uid(name, number)
    with transaction(engine) as session:
        upsert_study(
            session,
            Patient(patient_id=name),
            Study(study_uid, study_date=f"{2010 + number}0101"),
            Series(f"{study_uid}.1", modality="MR", instance_count=160),
        )
        return record_result(
            session, make_visit_record(study_uid, lesions=lesions, **other)
        )


def make_visit_record(
    study_uid: str, lesions: int = 2, letter: str = "a", **other: object
) -> ResultRecord:
    """Make the result of a visit; `letter` tells several results of it apart."""
    place = f"{study_uid.removeprefix('1.2.')}.{ord(letter)}"
    found = [
        replace(
            make_lesion(number + 1),
            tracking_uid=f"2.25.{place}.{number + 1}",
            finding_uid=f"2.25.{place}.{number + 1}",
        )
        for number in range(lesions)
    ]
    return make_record(
        series_uid=f"{study_uid}.1",
        segmentation_series_uid=f"2.25.{place}.100" if lesions else None,
        segmentation_sop_uid=f"2.25.{place}.101" if lesions else None,
        model=make_model(letter),
        **({"lesions": tuple(found)} | other),
    )


def make_version(before: Result, letter: str, **other: object) -> ResultRecord:
    """Make a reader's next version of a result, with a SEG of its own."""
    known = {name: getattr(before, name) for name in ResultRecord.__dataclass_fields__}
    lesions = tuple(
        LesionRecord(
            **{name: getattr(one, name) for name in LesionRecord.__dataclass_fields__}
        )
        for one in before.lesions
    )
    new = {
        "lesions": tuple(replace(one, method="mask-contour") for one in lesions),
        "segmentation_sop_uid": f"{before.segmentation_sop_uid}.{ord(letter)}",
        "origin": "reader",
        "author": f"reader-{letter}",
        "predecessor_id": before.id,
        "state": None,
        "job_id": None,
    }
    return ResultRecord(**(known | new | other))
