"""What became of a database of the first release, on both kinds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from db import audit, schema
from db.engine import Engine, is_postgresql, make_engine, reading, transaction
from db.jobs import JobRequest, enqueue, get_job
from db.patients import find_patients
from db.results import get_lesion, list_results, list_versions
from db.reviews import review_result
from errors import MetiaError

_FIRST = "0001"
_TIME = "2026-01-02 03:04:05.000000"
_PATIENT = {"id": "p" * 32, "patient_id": "phantom-1", "name": "Größe^Phantom"}


@pytest.fixture
def first_release(empty_database_url: str, tmp_path: Path) -> Iterator[Engine]:
    """A database at the schema of the first release, with one row of everything."""
    scripts = tmp_path / "migrations"
    shutil.copytree(Path(schema.__file__).with_name("migrations"), scripts)
    for later in (scripts / "versions").glob("*.py"):
        if not later.name.startswith(_FIRST):
            later.unlink()
    engine = make_engine(empty_database_url)
    schema.upgrade(engine, scripts=scripts)
    assert schema.current(engine) == _FIRST
    _fill(engine)
    yield engine
    engine.dispose()


def _fill(engine: Engine) -> None:
    zone = "+00:00" if is_postgresql(engine) else ""
    now = f"{_TIME}{zone}"
    axis = [[0.0, 1.0, 2.0], [7.5, 1.0, 2.0]]
    rows: list[tuple[str, dict[str, object]]] = [
        ("patient", {**_PATIENT, "created_at": "2025-01-01 00:00:00.000000" + zone}),
        ("patient", {"id": "q" * 32, "created_at": now}),
        ("study", {"study_uid": "1.2.3", "patient_key": "p" * 32, "created_at": now}),
        (
            "series",
            {"series_uid": "1.2.3.1", "study_uid": "1.2.3", "created_at": now},
        ),
        (
            "model",
            {
                "sha256": "a" * 64,
                "name": "net",
                "version": "1",
                "task": "brain-metastases",
                "demonstration": True,
                "promoted": True,
                "created_at": now,
            },
        ),
        ("job", _job("queued", now)),
        *(("result", _result(letter, now)) for letter in "rs"),
        *(("lesion", _lesion(number, axis)) for number in (1, 2)),
        ("job", _job("done", now) | {"state": "succeeded", "result_id": "r" * 32}),
    ]
    with engine.begin() as connection:
        for table, row in rows:
            if table == "job" and row.get("result_id"):
                row["finished_at"] = now
            names = ", ".join(row)
            places = ", ".join(f":{name}" for name in row)
            connection.execute(
                text(f"INSERT INTO {table} ({names}) VALUES ({places})"), row
            )
        connection.execute(
            text("UPDATE result SET job_id = :job WHERE id = :id"),
            {"job": _job("done", now)["id"], "id": "r" * 32},
        )
    with transaction(engine) as session:
        audit.append(session, actor="ann", action="job-submitted", subject="job:x")


def _job(name: str, now: str) -> dict[str, object]:
    return {
        "id": name.ljust(32, "0"),
        "kind": "segmentation",
        "queue": "gpu",
        "priority": 0,
        "state": "queued",
        "step": "waiting",
        "progress": 0.0,
        "attempt": 0,
        "deaths": 0,
        "retries": 0,
        "max_attempts": 3,
        "not_before": now,
        "cancel_requested": False,
        "study_uid": "1.2.3",
        "parameters": "{}",
        "dedupe_key": name,
        "timings_s": "{}",
        "created_at": now,
    }


def _result(letter: str, now: str) -> dict[str, object]:
    return {
        "id": letter * 32,
        "identity_sha256": letter * 64,
        "series_uid": "1.2.3.1",
        "segmentation_series_uid": "2.25.100" if letter == "r" else None,
        "segmentation_sop_uid": "2.25.101" if letter == "r" else None,
        "model_sha256": "a" * 64,
        "state": "unverified",
        "inputs_sha256": "b" * 64,
        "instance_count": 160,
        "code_version": "0.1.0",
        "parameters": '{"threshold": 0.5}',
        "device": "cpu",
        "timings_s": "{}",
        "warnings": "[]",
        "series_choice": "[]",
        "tilt_deg": 1.5,
        "resampled": False,
        "dropped_small": 0,
        "created_at": now,
    }


def _lesion(number: int, axis: list[list[float]]) -> dict[str, object]:
    return {
        "id": str(number) * 32,
        "result_id": "r" * 32,
        "segment_number": number,
        "name": f"L{number}",
        "tracking_id": f"L{number}",
        "tracking_uid": f"2.25.{number}",
        "colour": "[230, 80, 10]",
        "voxel_count": 100,
        "volume_ml": 0.1,
        "longest_diameter_mm": 7.5,
        "perpendicular_diameter_mm": 6.25,
        "long_axis_mm": json.dumps(axis),
        "short_axis_mm": json.dumps(axis),
        "centroid_mm": "[3.5, 1.1, 2.0]",
        "probability": 0.8,
        "peak_probability": 0.99,
        "slice_index": 0,
        "slice_count": 6,
        "sop_instance_uid": "1.2.3.1.80",
        "warnings": "[]",
    }


def test_results_become_first_versions_that_nobody_reviewed(
    first_release: Engine,
) -> None:
    assert schema.upgrade(first_release)
    schema.require_current(first_release)
    with reading(first_release) as session:
        found = {result.id[0]: result for result in list_results(session, "1.2.3")}
        assert set(found) == {"r", "s"}
        for result in found.values():
            assert (result.origin, result.version, result.revision, result.state) == (
                "model", 1, 1, "unverified",
            )  # fmt: skip
            assert (result.predecessor_id, result.author, result.note) == (
                None, None, "",
            )  # fmt: skip
        result = found["r"]
        assert result.model is not None
        assert result.model.promoted
        assert result.parameters == {"threshold": 0.5}
        assert result.job_id == "done".ljust(32, "0")
        assert [lesion.name for lesion in result.lesions] == ["L1", "L2"]
        for lesion in result.lesions:
            assert lesion.finding_uid == lesion.tracking_uid
            assert (lesion.review, lesion.measurable) == ("unverified", None)
            assert (lesion.method, lesion.algorithm_type) == (
                "probability-contour", "AUTOMATIC",
            )  # fmt: skip
            assert lesion.measurable_reasons == ()
            assert lesion.diameter_3d_mm is None
            assert lesion == get_lesion(session, lesion.id)
        assert list_versions(session, result.id) == (result,)


def test_patients_can_be_found_and_count_from_their_last_result(
    first_release: Engine,
) -> None:
    schema.upgrade(first_release)
    with reading(first_release) as session:
        (found,), _ = find_patients(session, search="grosse PHANTOM-1")
    assert found.id == "p" * 32
    assert found.visit_count == 1
    assert found.touched_at.isoformat(" ") == "2026-01-02 03:04:05+00:00"


def test_what_was_there_goes_on_working(first_release: Engine) -> None:
    schema.upgrade(first_release)
    with transaction(first_release) as session:
        job = get_job(session, "queued".ljust(32, "0"))
        assert job.state == "queued"
        asked = JobRequest.follow("p" * 32, "1.2.3")
        new, is_new = enqueue(session, asked, max_attempts=3, now=job.created_at)
        assert is_new
        assert new.kind == "follow"
        review_result(session, "r" * 32, expected_revision=1, state="accepted")
    with reading(first_release) as session:
        assert get_job(session, "done".ljust(32, "0")).result_id == "r" * 32
        assert [one.action for one in audit.entries(session)] == ["job-submitted"]


def test_references_and_rules_hold_after_it(first_release: Engine) -> None:
    schema.upgrade(first_release)
    for broken in (
        "DELETE FROM result",
        "DELETE FROM patient",
        "UPDATE result SET state = 'verified-by-nobody'",
        "UPDATE result SET segmentation_sop_uid = NULL",
        "UPDATE lesion SET volume_ml = -1",
        "UPDATE lesion SET finding_uid = NULL",
        "UPDATE job SET state = 'running'",
        "DELETE FROM audit",
    ):
        with (
            pytest.raises(MetiaError, match="conflict"),
            transaction(first_release) as session,
        ):
            session.execute(text(broken))
