"""What the former system left in the database, and the erasure of one study."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from db.engine import Engine, database_time, reading, transaction
from db.erasure import StudyErasure, erase_study
from db.historical import HistoricalRecord, list_historical, record_historical
from db.jobs import JobRequest, enqueue, get_job
from db.outlines import (
    Outline,
    outlines_of_results,
    outlines_of_series,
    result_of_segmentation,
    save_outlines,
)
from db.patients import find_patients
from db.results import list_results
from db.visits import iterate_followed, iterate_visits, load_visits
from errors import MetiaError
from settings import Settings
from tests.contract.sample_rows import add_patient, add_visit, visit_uid
from tests.contract.test_database_patients import (
    everything,
    fill_patient,
    patient_key,
    record_former,
    rows,
)

FORMER = HistoricalRecord("9.1", "20200102", "9.1.2", 3, "GTV", 0.5, 9.0, 4, 7)


def record(engine: Engine, key: str, *records: HistoricalRecord) -> None:
    with transaction(engine) as session:
        record_historical(
            session, key, "phantom-1", records, source_sha256="b" * 64, by="ann"
        )


def test_erasing_a_study_takes_all_of_it_and_nothing_of_the_others(
    engine: Engine, settings: Settings
) -> None:
    for write in fill_patient(engine, "phantom-1", settings).values():
        write()  # type: ignore[operator]
    gone, kept = visit_uid("phantom-1", 0), visit_uid("phantom-1", 1)
    add_visit(engine, "phantom-1", 1)
    add_patient(engine, "phantom-2")
    key = patient_key(engine, "phantom-1")
    with transaction(engine) as session:
        result_id = list_results(session, gone)[0].id
        record_former(session, key, gone, result_id)
        job, _ = enqueue(
            session,
            JobRequest(gone, None, "net", {}, "segmentation", "gpu", 0, "ann"),
            max_attempts=3,
            now=database_time(session),
        )
    record(engine, key, FORMER)
    with reading(engine) as session:
        before = load_visits(session, key)
    audited = rows(engine)["audit"]
    with transaction(engine) as session:
        assert erase_study(session, gone) == StudyErasure(True, (key,))
    left = everything(engine)
    assert gone not in left.replace(kept, "")
    assert result_id not in left
    assert rows(engine)["audit"] == audited
    with reading(engine) as session:
        after = load_visits(session, key)
        assert [one.study_uid for one in after] == [kept]
        assert after == tuple(one for one in before if one.study_uid == kept)
        assert get_job(session, job.id).state == "cancelled"
        assert [one.study_uid for one in list_historical(session)] == ["9.1"]
        assert len(find_patients(session)[0]) == 2
    with transaction(engine) as session:
        assert erase_study(session, gone) == StudyErasure(False, ())
        # What the former system measured is left: so is the patient.
        assert erase_study(session, kept) == StudyErasure(True, (key,))
        assert erase_study(session, "9.1") == StudyErasure(True, ())
    with reading(engine) as session:
        assert [one.patient_id for one in find_patients(session)[0]] == ["phantom-2"]
    assert key not in everything(engine)


def test_assessments_stay_append_only_after_an_erasure(
    engine: Engine, settings: Settings
) -> None:
    for write in fill_patient(engine, "phantom-1", settings).values():
        write()  # type: ignore[operator]
    add_visit(engine, "phantom-1", 1)
    with transaction(engine) as session:
        erase_study(session, visit_uid("phantom-1", 1))
    with pytest.raises(MetiaError), transaction(engine) as session:
        session.execute(text("DELETE FROM assessment"))


def test_measurements_are_recorded_once_and_found_by_each_of_their_keys(
    engine: Engine,
) -> None:
    key = add_patient(engine, "phantom-1")
    record(engine, key, FORMER)
    with pytest.raises(MetiaError, match="conflict"):
        record(engine, key, FORMER)
    with reading(engine) as session:
        for asked in (
            {},
            {"patient_key": key},
            {"study_uid": "9.1"},
            {"series_uid": "9.1.2"},
        ):
            (found,) = list_historical(session, **asked)  # type: ignore[arg-type]
            assert found.identity("phantom-1") == FORMER.identity("phantom-1")
            assert (found.colour, found.patient_key) == (None, key)
        assert list_historical(session, study_uid="9.2") == ()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("volume_ml", -1.0),
        ("volume_ml", 10_001.0),
        ("diameter_mm", 1001.0),
        ("study_uid", ""),
        ("series_uid", "1" * 65),
    ],
)
def test_absurd_measurements_are_refused_by_the_database(
    engine: Engine, column: str, value: object
) -> None:
    key = add_patient(engine, "phantom-1")
    record(engine, key, FORMER)
    with pytest.raises(MetiaError, match=r"conflict|invalid-input"):
        record(engine, key, replace(FORMER, roi_number=4, **{column: value}))


def test_outlines_mean_what_was_stored_last(engine: Engine) -> None:
    add_patient(engine, "phantom-1")
    with reading(engine) as session:
        (result,) = list_results(session, visit_uid("phantom-1", 0))
    first = Outline("9.1.3", 1, result.id, "2.25.1", 3, 9)
    second = Outline("9.1.4", 2, result.id, "2.25.1", 4, 9)
    for outline in (first, first, second):
        with transaction(engine) as session:
            save_outlines(session, [outline])
    with reading(engine) as session:
        assert outlines_of_series(session, "9.1.3") == (first,)
        assert outlines_of_results(session, [result.id]) == {result.id: (second,)}
        assert outlines_of_results(session, []) == {}
        series = result.segmentation_series_uid or ""
        assert result_of_segmentation(session, series) == result.id
        assert result_of_segmentation(session, "9.1.3") is None


def test_everybodys_visits_are_those_of_each(engine: Engine) -> None:
    keys = [add_patient(engine, f"phantom-{n}", visits=n) for n in range(1, 4)]
    with reading(engine) as session:
        found = list(iterate_visits(session))
        for key in keys:
            mine = {one.study_uid: one for owner, one in found if owner == key}
            expected = {one.study_uid: one for one in load_visits(session, key)}
            assert mine == expected
    assert len(found) == 6
    with reading(engine) as session:
        listed = {one.study_uid: one for one in iterate_followed(session)}
    assert listed.keys() == {one.study_uid for _, one in found}
    for key, visit in found:
        one = listed[visit.study_uid]
        assert (one.patient_key, one.study_date) == (key, visit.study_date)
        assert visit.result is not None
        assert one.result_id == visit.result.id
        assert one.segmentation_series_uid == visit.result.segmentation_series_uid
