"""Finding, keeping and erasing patients, on both kinds of database."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, inspect, select, text, update

from db import audit
from db.ahead import note_opened
from db.assessments import sign_assessment
from db.engine import (
    Engine,
    Session,
    database_time,
    is_postgresql,
    reading,
    transaction,
)
from db.erasure import erase_patient
from db.historical import HistoricalRecord, record_historical
from db.jobs import JobRequest, enqueue, get_job
from db.links import DecisionRecord, add_decision
from db.models import Base, PatientRow
from db.outlines import Outline, save_outlines
from db.patients import find_patients, get_patient, untouched_patients
from db.plans import EventRecord, PlanRecord, add_event, save_plan
from db.registrations import RegistrationRecord, save_registration
from db.results import get_result, record_result
from db.reviews import review_result, sign_result
from db.studies import Patient, Series, Study, upsert_study
from db.tracks import (
    Member,
    TrackReadingRecord,
    TrackRecord,
    new_track_id,
    save_track_reading,
    save_tracks,
)
from db.visits import VisitReadingRecord, save_reading, select_result
from errors import MetiaError
from segmentation.jobs import Fence, JobQueue
from settings import Settings
from tests.contract.sample_rows import (
    add_patient,
    add_visit,
    make_version,
    make_visit_record,
    visit_uid,
)
from tests.contract.test_database_course import make_assessment

# -- finding -------------------------------------------------------------------

NAMES = {
    "7": "Müller^Jörg",
    "8": "Muller^Anna",
    "100%": "Percent^Case",
    "1_0": "Underline^Case",
    "10": "Œuvre^Élodie",
    "11": "Yamada^Tarou=山田^太郎",
    "12": None,
}


@pytest.fixture
def names(engine: Engine) -> None:
    for number, (patient_id, name) in enumerate(NAMES.items()):
        with transaction(engine) as session:
            study = f"1.2.{number + 1}"
            upsert_study(
                session,
                Patient(patient_id, name=name, birth_date="19700101", sex="O"),
                Study(study, study_date="20260102"),
                Series(f"{study}.1"),
            )
            record_result(session, make_visit_record(study))


def ids(engine: Engine, **asked: object) -> list[str | None]:
    with reading(engine) as session:
        return [one.patient_id for one in find_patients(session, **asked)[0]]  # type: ignore[arg-type]


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("", ["12", "8", "7", "10", "100%", "1_0", "11"]),
        ("MULLER", ["8", "7"]),
        ("müller", ["8", "7"]),
        ("jörg muller", ["7"]),
        ("muller^jorg", ["7"]),
        ("élodie", ["10"]),
        ("OEUVRE", ["10"]),
        ("太郎", ["11"]),
        ("100%", ["100%"]),
        ("0%", ["100%"]),
        ("%", ["100%"]),
        ("_", ["1_0"]),
        ("1_", ["1_0"]),
        ("\\", []),
        ("' OR 1=1 --", []),
        ("nobody", []),
        ("12", ["12"]),
        ("  muller   7 ", ["7"]),
    ],
)
def test_patients_are_found_by_words_of_name_and_id(
    engine: Engine, search: str, expected: list[str]
) -> None:
    assert ids(engine, search=search) == expected


@pytest.mark.usefixtures("names")
def test_pages_give_each_patient_once(engine: Engine) -> None:
    found: list[str | None] = []
    cursor = None
    with reading(engine) as session:
        for _ in range(4):
            page, cursor = find_patients(session, limit=2, cursor=cursor)
            found += [one.patient_id for one in page]
    assert cursor is None
    assert found == ids(engine)
    with reading(engine) as session:
        page, cursor = find_patients(session, limit=7)
        assert (len(page), cursor) == (7, None)
        with pytest.raises(MetiaError, match="invalid-input"):
            find_patients(session, cursor="0" * 32)


@pytest.mark.usefixtures("names")
def test_page_marker_tells_nothing_of_a_patient(engine: Engine) -> None:
    with reading(engine) as session:
        page, cursor = find_patients(session, limit=3)
    assert cursor == page[-1].id


def test_patients_of_one_name_are_all_listed(engine: Engine) -> None:
    for number in range(5):
        with transaction(engine) as session:
            study = f"1.2.{number + 1}"
            upsert_study(
                session, Patient(name="Same"), Study(study), Series(f"{study}.1")
            )
            record_result(session, make_visit_record(study))
    seen: set[str] = set()
    cursor = None
    with reading(engine) as session:
        for _ in range(5):
            page, cursor = find_patients(session, limit=1, cursor=cursor)
            seen |= {one.id for one in page}
    assert (len(seen), cursor) == (5, None)


def test_summary_counts_visits_with_results(engine: Engine) -> None:
    key = add_patient(engine, "phantom-1", visits=3)
    add_visit(engine, "phantom-1", 1, letter="b")  # two results, one visit
    with transaction(engine) as session:
        for patient_id, study in (("phantom-1", "1.9.1"), ("phantom-9", "1.9.2")):
            upsert_study(
                session,
                Patient(patient_id),
                Study(study, study_date="20990101"),
                Series(f"{study}.1"),
            )
    with reading(engine) as session:
        (found,), _ = find_patients(session)
        assert (found.id, found.visit_count) == (key, 3)
        assert (found.first_visit, found.last_visit) == ("20100101", "20120101")
        record = get_patient(session, key)
        assert record.patient_id == "phantom-1"
        with pytest.raises(MetiaError, match="not-found"):
            get_patient(session, "0" * 32)


# -- retention -----------------------------------------------------------------


def age(engine: Engine, key: str, days: float) -> None:
    with transaction(engine) as session:
        row = session.get_one(PatientRow, key)
        row.touched_at = database_time(session) - timedelta(days=days)


def untouched(engine: Engine, days: float) -> set[str]:
    with reading(engine) as session:
        return {one.id for one in untouched_patients(session, days=days)}


def test_untouched_patients_are_told_by_age(engine: Engine) -> None:
    old, new = add_patient(engine, "old"), add_patient(engine, "new")
    age(engine, old, 100)
    assert untouched(engine, 99) == {old}
    assert untouched(engine, 101) == set()
    assert untouched(engine, 0) == {old, new}


def test_everything_written_about_a_patient_counts(
    engine: Engine, settings: Settings
) -> None:
    fill = fill_patient(engine, "phantom-1", settings)
    for name, write in fill.items():
        key = patient_key(engine, "phantom-1")
        age(engine, key, 100)
        write()
        assert untouched(engine, 50) == set(), name


# -- erasure -------------------------------------------------------------------


def patient_key(engine: Engine, name: str) -> str:
    with reading(engine) as session:
        query = select(PatientRow.id).where(PatientRow.patient_id == name)
        return session.scalars(query).one()


def fill_patient(engine: Engine, name: str, settings: Settings) -> dict[str, object]:
    """Add a patient with visits; give what writes a row of each other kind."""
    key = add_patient(engine, name, visits=2)
    study, series = visit_uid(name, 0), f"{visit_uid(name, 0)}.1"
    result_id = add_visit(engine, name, 0)
    track, other = (
        TrackRecord(new_track_id(), f"2.25.{abs(hash((name, n)))}", f"M{n}")
        for n in (1, 2)
    )

    def writing(write):  # type: ignore[no-untyped-def]
        def run() -> None:
            with transaction(engine) as session:
                write(session)

        return run

    def version(session) -> None:  # type: ignore[no-untyped-def]
        record_result(session, make_version(get_result(session, result_id), "b"))

    def review(session) -> None:  # type: ignore[no-untyped-def]
        review_result(session, result_id, expected_revision=1, state="accepted")

    def sign(session) -> None:  # type: ignore[no-untyped-def]
        sign_result(session, result_id, expected_revision=2, by="ann")

    def tracks(session) -> None:  # type: ignore[no-untyped-def]
        members = [Member(study, track.tracking_uid, track.id, "first")]
        fragment = TrackRecord(
            new_track_id(), f"{track.tracking_uid}.1", "M3", split_from=track.id
        )
        save_tracks(session, key, [track, other, fragment], members)

    return {
        "review": writing(review),
        "signature": writing(sign),
        "version": writing(version),
        "visit reading": writing(
            lambda session: save_reading(
                session, study, VisitReadingRecord(), expected_revision=0, by="ann"
            )
        ),
        "selection": writing(
            lambda session: select_result(
                session, study, result_id, expected_revision=1, by="ann"
            )
        ),
        "tracks": writing(tracks),
        "track reading": writing(
            lambda session: save_track_reading(
                session,
                track.id,
                study,
                TrackReadingRecord(state="merged", into_track_id=other.id),
                expected_revision=1,
                by="ann",
            )
        ),
        "decision": writing(
            lambda session: add_decision(
                session, key, DecisionRecord(study, "2.25.1", "link", other.id), by="a"
            )
        ),
        "registration": writing(
            lambda session: save_registration(
                session,
                RegistrationRecord(
                    f"{visit_uid(name, 1)}.1", series, None, None, False, "x", "y"
                ),
            )
        ),
        "plan": writing(
            lambda session: save_plan(
                session,
                key,
                PlanRecord(baseline_study_uid=study),
                expected_revision=0,
                by="ann",
            )
        ),
        "event": writing(
            lambda session: add_event(
                session,
                key,
                EventRecord(date(2026, 1, 1), "surgery", track_id=track.id),
                by="ann",
            )
        ),
        "assessment": writing(
            lambda session: sign_assessment(
                session, make_assessment(study_uid=study), by="ann"
            )
        ),
        "second assessment": writing(
            lambda session: sign_assessment(
                session, make_assessment(study_uid=study), by="ann"
            )
        ),
    }


def rows(engine: Engine) -> dict[str, int]:
    with reading(engine) as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        }


def everything(engine: Engine) -> str:
    """All that any table holds, as one text."""
    found = []
    with reading(engine) as session:
        for table in Base.metadata.sorted_tables:
            found += [repr(row) for row in session.execute(select(table))]
    return "\n".join(found)


def finished_job(engine: Engine, queue: JobQueue, study: str, result_id: str) -> str:
    queue.submit(study, f"{study}.1", parameters={"study": study}, priority=9)
    job = queue.claim("worker-1", ["gpu"])
    assert job is not None
    queue.complete(Fence(job.id, job.attempt, "worker-1"), lambda _: result_id)
    with transaction(engine) as session:
        session.execute(
            text("UPDATE result SET job_id = :job WHERE id = :id"),
            {"job": job.id, "id": result_id},
        )
    return job.id


def test_erasure_leaves_nothing_of_one_patient_and_all_of_another(
    engine: Engine, settings: Settings
) -> None:
    queue = JobQueue(engine, settings)
    fill = fill_patient(engine, "phantom-1", settings)
    for write in fill.values():
        write()  # type: ignore[operator]
    study = visit_uid("phantom-1", 0)
    add_patient(engine, "phantom-2", visits=2)
    others = rows_of_other(engine)
    result_id = add_visit(engine, "phantom-1", 1)
    done = finished_job(engine, queue, study, result_id)
    queue.submit(study, f"{study}.1", requested_by="ann")
    running = queue.claim("worker-1")
    key = patient_key(engine, "phantom-1")
    with transaction(engine) as session:
        asked = JobRequest.follow(key, study)
        waiting, _ = enqueue(session, asked, max_attempts=3, now=database_time(session))
        audit.append(session, actor="ann", action="login", subject="user:ann")
        record_former(session, key, study, result_id)
        note_opened(session, study, database_time(session))
    before = rows(engine)
    of_nobody = {"app_user", "user_session", "api_token", "worker", "promotion",
                 "arrival", "arrival_feed"}  # fmt: skip
    assert all(before[table] for table in before if table not in of_nobody), before
    with transaction(engine) as session:
        erased = erase_patient(session, key)
    after = rows(engine)
    for table, count in erased.counts.items():
        if table != "job":
            assert before[table] - after[table] == count, table
            assert count, table
    assert erased.counts["job"] == 3
    assert erased.study_uids == (study, visit_uid("phantom-1", 1))
    assert len(erased.segmentations) == 3
    assert {one.study_uid for one in erased.segmentations} == set(erased.study_uids)
    assert after["audit"] == before["audit"]
    assert after["job"] == before["job"]
    assert rows_of_other(engine) == others
    left = everything(engine)
    for trace in ("phantom-1", key, *erased.study_uids):
        assert trace not in left
    with reading(engine) as session:
        assert get_job(session, done).state == "succeeded"
        assert get_job(session, waiting.id).state == "cancelled"
        assert running is not None
        assert get_job(session, running.id).state == "cancelled"
    with pytest.raises(MetiaError, match="job-superseded"):
        queue.complete(
            Fence(running.id, running.attempt, "worker-1"), lambda _: "never"
        )
    with pytest.raises(MetiaError, match="not-found"), transaction(engine) as session:
        erase_patient(session, key)


def record_former(session: Session, key: str, study: str, result_id: str) -> None:
    """Add what the former system measured, and outlines for its front end."""
    former = HistoricalRecord(study, None, "9.8.7", 1, "GTV", 0.5, 9.0, 1, 4)
    record_historical(
        session, key, "phantom-1", [former], source_sha256="a" * 64, by=None
    )
    save_outlines(session, [Outline("9.8.7.6", 1, result_id, "2.25.1", 1, 4)])


def rows_of_other(engine: Engine) -> list[str]:
    key = patient_key(engine, "phantom-2")
    traces = (key, *(visit_uid("phantom-2", number) for number in range(2)))
    return sorted(
        line
        for line in everything(engine).splitlines()
        if any(trace in line for trace in traces)
    )


def test_erased_patient_is_not_in_the_file_any_more(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    if is_postgresql(engine):
        return  # its files are the server's, and its VACUUM's
    fill = fill_patient(engine, "phantom-1", settings)
    for write in fill.values():
        write()  # type: ignore[operator]
    with transaction(engine) as session:
        key = session.scalars(select(PatientRow.id)).one()
        session.execute(update(PatientRow).values(name="Canary^Name"))
    traces = (b"Canary^Name", b"phantom-1", visit_uid("phantom-1", 0).encode())
    engine.dispose()  # the last to close it brings the file up to date
    file = tmp_path / "metia.sqlite"
    assert all(trace in file.read_bytes() for trace in traces)
    with transaction(engine) as session:
        erase_patient(session, key)
    engine.dispose()
    assert not any(trace in file.read_bytes() for trace in traces)


def test_erased_patient_can_come_back(engine: Engine) -> None:
    key = add_patient(engine, "phantom-1")
    with transaction(engine) as session:
        erase_patient(session, key)
    assert rows(engine)["result"] == 0
    assert add_patient(engine, "phantom-1") != key


def test_failed_erasure_leaves_everything(engine: Engine, settings: Settings) -> None:
    key = add_patient(engine, "phantom-1")
    before = everything(engine)

    def erase_and_fail() -> None:
        with transaction(engine) as session:
            erase_patient(session, key)
            raise MetiaError("internal", "on purpose")

    with pytest.raises(MetiaError, match="internal"):
        erase_and_fail()
    assert everything(engine) == before


def test_erasure_knows_every_table(engine: Engine) -> None:
    """A new table that refers to a patient, study or result must be thought of here."""
    inspector = inspect(engine)
    pointing = {
        table
        for table in inspector.get_table_names()
        for key in inspector.get_foreign_keys(table)
        if key["referred_table"] in {"patient", "study", "series", "result", "track"}
    }
    key = add_patient(engine, "phantom-1")
    with transaction(engine) as session:
        counts = erase_patient(session, key).counts
    assert pointing <= set(counts)
    assert is_postgresql(engine) or "patient" in counts
