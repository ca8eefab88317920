"""Taking over ``mesures.db``: what a file of the former system holds, and worse files.

The schema is written from its description; the rows are made up: every lesion twice, as
after a repeated press, lesions of a deleted study, and values that cannot be.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from db import audit
from db.engine import Engine, make_engine, reading, transaction
from db.historical import HistoricalMeasurement, list_historical, patients_of_id
from db.outlines import followed_patients
from db.patients import find_patients
from db.studies import Patient, Series, Study, upsert_study
from errors import MetiaError
from segmentation.legacy import old_database
from segmentation.legacy.importing import import_measures
from settings import get_settings
from tests.command_line import command_line
from tests.contract import database_fixtures

database_kind = database_fixtures.database_kind
database_url = database_fixtures.database_url
engine = database_fixtures.engine
postgresql = database_fixtures.postgresql
settings = database_fixtures.settings
sqlite_template = database_fixtures.sqlite_template

SCHEMA = """
CREATE TABLE patient (idPatient INTEGER PRIMARY KEY, nom TEXT, dateNaissance DATE,
    sexe CHAR(1) CHECK (sexe IN ('M', 'F')));
CREATE TABLE etude (StudyInstanceUID TEXT PRIMARY KEY, idPatient INTEGER,
    dateTraitement DATE, FOREIGN KEY(idPatient) REFERENCES patient(idPatient));
CREATE TABLE series (SeriesInstanceUID TEXT PRIMARY KEY, StudyInstanceUID TEXT,
    FOREIGN KEY(StudyInstanceUID) REFERENCES etude(StudyInstanceUID));
CREATE TABLE metastase (id INTEGER PRIMARY KEY AUTOINCREMENT, roiNumber INTEGER,
    SeriesInstanceUID TEXT, nom_metastase TEXT, volume REAL, diametre REAL NULL,
    slideDebut INTEGER, slideFin INTEGER, color TEXT,
    FOREIGN KEY(SeriesInstanceUID) REFERENCES series(SeriesInstanceUID));
"""
LESION = ("GTV_MetIA_1", 1.25, 14.5, 80, 92, "[255   0   0]")
Rows = list[tuple[Any, ...]]


def make_file(
    path: Path,
    lesions: Rows,
    *,
    patients: Rows = [(7, "Zzcanary^One", "1950-01-02", "F")],  # noqa: B006
    studies: Rows = [("1.2.1", 7, "2023-05-06")],  # noqa: B006
    series: Rows = [("1.2.1.9", "1.2.1")],  # noqa: B006
    schema: str = SCHEMA,
) -> Path:
    """Write a file; a lesion is (roiNumber, series, name, volume ... color)."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema)
        for table, rows in (("patient", patients), ("etude", studies),
                            ("series", series)):  # fmt: skip
            for row in rows:
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)
        connection.executemany(
            "INSERT INTO metastase VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", lesions
        )
        connection.commit()
    return path


def measurements(engine: Engine) -> tuple[HistoricalMeasurement, ...]:
    with reading(engine) as session:
        return list_historical(session)


def outcomes(report: Any, table: str = "metastase") -> dict[int, str]:
    return {one.row_id: one.outcome for one in report.verdicts if one.table == table}


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """The file in the repository of the former system had 112 rows for 56 numbers."""
    once = [(n, "1.2.1.9", f"GTV_MetIA_{n}", n / 8, 3.0 + n, n, n + 4, "[ 0 128  64]")
            for n in range(13, 69)]  # fmt: skip
    orphans = [(n, "1.2.99.9", *LESION) for n in range(1, 13)]
    return make_file(tmp_path / "mesures.db", [*once, *once, *orphans])


def test_repeated_and_orphaned_rows_are_left_out(
    engine: Engine,
    sample: Path,
) -> None:
    report = import_measures(engine, sample, actor="ann")
    assert report.counts() == {"imported": 56, "duplicate": 56, "orphan": 12}
    assert len(outcomes(report)) == 124
    duplicate = next(one for one in report.verdicts if one.row_id == 57)
    assert (duplicate.outcome, duplicate.detail) == ("duplicate", "the same as row 1")
    stored = measurements(engine)
    assert len(stored) == 56
    first = stored[0]
    assert (first.study_uid, first.series_uid) == ("1.2.1", "1.2.1.9")
    assert (first.roi_number, first.name) == (13, "GTV_MetIA_13")
    assert (first.volume_ml, first.diameter_mm) == (13 / 8, 16.0)
    assert (first.first_slice, first.last_slice) == (13, 17)
    assert first.study_date == "20230506"
    assert first.colour == (0, 128, 64)
    with reading(engine) as session:
        (patient,) = patients_of_id(session, "7")
        (note,) = audit.entries(session)
        assert (patient.name, patient.birth_date) == ("Zzcanary^One", "19500102")
        assert (patient.sex, patient.id) == ("F", first.patient_key)
        # No result, so no visit: nothing is drawn, linked or counted.
        assert find_patients(session)[0] == ()
        assert [one.id for one in followed_patients(session)] == [patient.id]
    assert (note.actor, note.action) == ("ann", "historical-import")
    assert "anary" not in repr(note)


def test_importing_again_adds_nothing(
    engine: Engine,
    sample: Path,
    tmp_path: Path,
) -> None:
    import_measures(engine, sample)
    before = measurements(engine)
    report = import_measures(engine, sample)
    assert report.counts() == {"already-imported": 56, "duplicate": 56, "orphan": 12}
    assert measurements(engine) == before
    more = make_file(
        tmp_path / "later.db",
        [(13, "1.2.1.9", "GTV_MetIA_13", 13 / 8, 16.0, 13, 17, None),
         (99, "1.2.1.9", *LESION)],
    )  # fmt: skip
    assert import_measures(engine, more).counts() == {
        "already-imported": 1,
        "imported": 1,
    }
    assert len(measurements(engine)) == 57


def test_a_trial_writes_nothing_and_says_the_same(
    engine: Engine,
    sample: Path,
) -> None:
    trial = import_measures(engine, sample, dry_run=True)
    assert measurements(engine) == ()
    with reading(engine) as session:
        assert patients_of_id(session, "7") == ()
        assert audit.entries(session) == ()
    assert import_measures(engine, sample).verdicts == trial.verdicts


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("roiNumber", "one"),
        ("roiNumber", 1.5),
        ("roiNumber", 2**40),
        ("roiNumber", b"\x01"),
        ("volume", "much"),
        ("volume", -0.1),
        ("volume", 10_001.0),
        ("volume", float("inf")),
        ("diametre", "wide"),
        ("diametre", -3.0),
        ("diametre", 1e9),
        ("slideDebut", "first"),
        ("slideFin", b"x"),
    ],
)
def test_a_value_that_cannot_be_costs_its_row_only(
    engine: Engine,
    tmp_path: Path,
    column: str,
    value: object,
) -> None:
    names = ("roiNumber", "series", "nom", "volume", "diametre", "slideDebut",
             "slideFin", "color")  # fmt: skip
    good = (1, "1.2.1.9", *LESION)
    bad = tuple(value if n == column else g for n, g in zip(names, good, strict=True))
    report = import_measures(engine, make_file(tmp_path / "m.db", [bad, good]))
    assert outcomes(report) == {1: "bad-value", 2: "imported"}
    assert next(one.detail for one in report.verdicts if one.row_id == 1
                and one.table == "metastase") == column  # fmt: skip
    assert len(measurements(engine)) == 1


def test_what_is_missing_stays_missing(
    engine: Engine,
    tmp_path: Path,
) -> None:
    rows = [
        (1, "1.2.1.9", None, 0.0, None, None, None, None),
        (2, "1.2.1.9", "x" * 999, None, 4.5, 3, 3, "javascript:alert(1)"),
        (None, "1.2.1.9", "no number", 0.5, 4.5, 3, 3, "[300 0 0]"),
        (4, "1.2.1.9", "nothing", None, None, 3, 3, None),
    ]
    report = import_measures(engine, make_file(tmp_path / "m.db", rows))
    assert outcomes(report) == {
        1: "imported", 2: "imported", 3: "imported", 4: "bad-value",
    }  # fmt: skip
    by_number = {one.roi_number: one for one in measurements(engine)}
    assert by_number[1].volume_ml == 0.0
    assert by_number[1].diameter_mm is None
    assert len(by_number[2].name or "") == 64
    assert {one.colour for one in by_number.values()} == {None}


def test_one_number_with_two_measurements_is_two_lesions(
    engine: Engine,
    tmp_path: Path,
) -> None:
    # A new region got the number of one that had been deleted before.
    rows = [(1, "1.2.1.9", *LESION), (1, "1.2.1.9", "Other", 0.1, 5.0, 3, 5, None)]
    report = import_measures(engine, make_file(tmp_path / "m.db", rows))
    assert outcomes(report) == {1: "imported", 2: "imported"}
    assert [one.detail for one in report.verdicts if one.row_id == 2] == [
        "row 1 has this ROI number with other values"
    ]


def test_rows_whose_parents_are_gone_are_orphans(
    engine: Engine,
    tmp_path: Path,
) -> None:
    path = make_file(
        tmp_path / "m.db",
        [(1, f"1.2.{n}.9", *LESION) for n in range(1, 6)],
        studies=[("1.2.1", 7, "2023-05-06"), ("1.2.2", 8, "2023-05-06"),
                 ("not a uid", 7, None), ("1.2.4", "A12", None),
                 ("1.2.5", 7, "06/05/2023")],
        series=[("1.2.1.9", "1.2.1"), ("1.2.2.9", "1.2.2"), ("1.2.3.9", "not a uid"),
                ("1.2.4.9", "1.2.4"), ("1.2.5.9", "1.2.5"), ("../x", "1.2.1")],
    )  # fmt: skip
    report = import_measures(engine, path)
    assert outcomes(report) == {
        1: "imported", 2: "orphan", 3: "orphan", 4: "orphan", 5: "imported",
    }  # fmt: skip
    assert outcomes(report, "etude") == {
        1: "used", 2: "orphan", 3: "bad-value", 4: "orphan", 5: "used",
    }  # fmt: skip
    assert outcomes(report, "series") == {
        1: "used", 2: "orphan", 3: "orphan", 4: "orphan", 5: "used", 6: "bad-value",
    }  # fmt: skip
    dates = {one.study_uid: one.study_date for one in measurements(engine)}
    assert dates == {"1.2.1": "20230506", "1.2.5": None}


def known_patient(engine: Engine, patient_id: str, **patient: Any) -> str:
    with transaction(engine) as session:
        upsert_study(
            session,
            Patient(patient_id, **patient),
            Study(f"3.{len(patient_id)}"),
            Series(f"3.{len(patient_id)}.1"),
        )
        return patients_of_id(session, patient_id)[0].id


def test_only_exactly_the_same_id_is_the_same_patient(
    engine: Engine,
    tmp_path: Path,
) -> None:
    other = known_patient(engine, "0007")
    same = known_patient(engine, "7", name="As the images say", birth_date="19500102")
    path = make_file(tmp_path / "m.db", [(1, "1.2.1.9", *LESION)])
    report = import_measures(engine, path)
    assert (report.patients_matched, report.patients_new) == (1, 0)
    (stored,) = measurements(engine)
    assert stored.patient_key == same != other
    with reading(engine) as session:
        assert patients_of_id(session, "7")[0].name == "As the images say"


def test_another_date_of_birth_is_another_patient(
    engine: Engine,
    tmp_path: Path,
) -> None:
    known_patient(engine, "7", birth_date="19330303")
    path = make_file(tmp_path / "m.db", [(1, "1.2.1.9", *LESION)])
    report = import_measures(engine, path)
    assert outcomes(report) == {1: "other-patient"}
    assert outcomes(report, "patient") == {1: "other-patient"}
    assert measurements(engine) == ()


# -- files that are not what they should be --------------------------------------------


def refused(engine: Engine, path: Path) -> str:
    with pytest.raises(MetiaError) as caught:
        import_measures(engine, path)
    assert caught.value.code == "input-unreadable"
    assert measurements(engine) == ()
    assert "anary" not in str(caught.value)
    return caught.value.detail


@pytest.fixture
def lite(tmp_path: Path, sqlite_template: Path) -> Iterator[Engine]:
    target = tmp_path / "own.sqlite"
    target.write_bytes(sqlite_template.read_bytes())
    engine = make_engine(f"sqlite:///{target}")
    yield engine
    engine.dispose()


@pytest.mark.parametrize("kept", [0, 10, 100, 3000, 4096, 8192, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_whole(
    lite: Engine, sample: Path, kept: float
) -> None:
    content = sample.read_bytes()
    size = int(len(content) * kept) if isinstance(kept, float) else kept
    sample.write_bytes(content[:size])
    assert refused(lite, sample)


def test_a_damaged_file_is_refused_whole(lite: Engine, sample: Path) -> None:
    content = bytearray(sample.read_bytes())
    for start in range(4096, len(content), 4096):
        content[start : start + 64] = b"\xff" * 64
    sample.write_bytes(content)
    assert refused(lite, sample)


def test_other_files_are_refused(
    lite: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("no database")
    assert refused(lite, tmp_path / "text")
    assert refused(lite, tmp_path)
    assert refused(lite, tmp_path / "missing")
    old = SCHEMA.replace("roiNumber INTEGER,", "").replace("color TEXT,", "")
    path = tmp_path / "older.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(old)
    assert "roiNumber" in refused(lite, path)
    path = tmp_path / "view.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA.replace("CREATE TABLE metastase", "--", 1)
                                 .split("--")[0])  # fmt: skip
        connection.execute(
            "CREATE VIEW metastase AS WITH RECURSIVE n(x) AS "
            "(SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS roiNumber FROM n"
        )
    assert "metastase" in refused(lite, path)
    path = make_file(tmp_path / "good.db", [])
    (tmp_path / "good.db-wal").write_bytes(b"x")
    assert "stop the former system" in refused(lite, path)
    (tmp_path / "good.db-wal").unlink()
    monkeypatch.setattr(old_database, "LARGEST_FILE_BYTES", 100)
    assert "bytes" in refused(lite, path)


def test_the_file_is_left_as_it_was(lite: Engine, sample: Path) -> None:
    sample.chmod(0o400)
    before = sample.read_bytes(), sample.stat().st_mtime_ns
    import_measures(lite, sample)
    assert (sample.read_bytes(), sample.stat().st_mtime_ns) == before
    assert {one.name for one in sample.parent.iterdir()} >= {"mesures.db"}
    assert not list(sample.parent.glob("mesures.db-*"))


# -- the command -----------------------------------------------------------------------


@pytest.fixture
def metia(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("METIA_DATA_DIR", str(data))
    monkeypatch.delenv("METIA_DATABASE_URL", raising=False)
    get_settings.cache_clear()

    run = command_line(capsys)
    assert run("db", "upgrade").returncode == 0
    yield run
    get_settings.cache_clear()


def test_the_command_reports_each_row_and_no_name(metia: Any, sample: Path) -> None:
    command = ("legacy", "import-measures", str(sample))
    trial = metia(*command, "--dry-run")
    assert trial.returncode == 0, trial.stderr
    assert "56 measurements would be imported" in trial.stdout
    assert "Nothing was written." in trial.stdout
    done = metia(*command)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("metastase ") for line in lines) == 124
    assert "patient 1: used (a new patient)" in lines
    assert "metastase 57: duplicate (the same as row 1)" in lines
    assert "metastase 113: orphan (no such series)" in lines
    assert lines[-1].startswith("56 measurements imported, 0 were before")
    assert "anary" not in done.stdout + done.stderr
    again = json.loads(metia(*command, "--json").stdout)
    assert again["counts"]["already-imported"] == 56
    assert len([one for one in again["rows"] if one["table"] == "metastase"]) == 124
    assert set(again["rows"][0]) == {"table", "row", "outcome", "detail"}


def test_the_command_refuses_a_file_with_its_own_exit_code(
    metia: Any, tmp_path: Path
) -> None:
    (tmp_path / "x.db").write_bytes(b"no database")
    done = metia("legacy", "import-measures", str(tmp_path / "x.db"))
    assert done.returncode == 3
    assert "input-unreadable" in done.stderr
