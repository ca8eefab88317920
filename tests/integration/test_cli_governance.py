"""``metia audit``, and the parts of ``metia db`` that erase."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from db import audit
from db.engine import Engine, database_time, make_engine, transaction
from db.models import PatientRow
from db.patients import find_patients
from settings import get_settings
from tests.command_line import Run, command_line
from tests.contract.sample_rows import add_patient, visit_uid


@pytest.fixture
def metia(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run the command line inside this process, on a database of its own."""
    monkeypatch.setenv("METIA_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("METIA_DATABASE_URL", raising=False)
    # Nobody listens there: an archive that does not answer.
    monkeypatch.setenv("METIA_ARCHIVE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("METIA_ARCHIVE_RETRIES", "0")
    get_settings.cache_clear()

    run = command_line(capsys)
    assert run("db", "upgrade").returncode == 0
    yield run
    get_settings.cache_clear()


@pytest.fixture
def engine(metia: Run) -> Iterator[Engine]:
    engine = make_engine(get_settings().database_url)
    yield engine
    engine.dispose()


def keys(engine: Engine) -> set[str]:
    with transaction(engine) as session:
        return {one.id for one in find_patients(session)[0]}


def age(engine: Engine, key: str, days: float) -> None:
    with transaction(engine) as session:
        row = session.get_one(PatientRow, key)
        row.touched_at = database_time(session) - timedelta(days=days)


def test_patient_is_erased_and_the_archive_left_as_asked(
    metia: Run, engine: Engine
) -> None:
    key, other = add_patient(engine, "phantom-1"), add_patient(engine, "phantom-2")
    done = metia("db", "erase", key, "--keep-archive", "--yes")
    assert done.returncode == 0, done.stderr
    assert keys(engine) == {other}
    assert f"Erased {key}" in done.stdout
    assert visit_uid("phantom-1", 0) in done.stdout
    assert "(kept)" in done.stdout
    assert "phantom-1" not in done.stdout
    told = metia("audit", "export", "--subject", f"patient:{key}")
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [line["action"] for line in lines] == [
        "patient-erase",
        "patient-erase-archive",
    ]
    assert metia("db", "erase", key, "--keep-archive", "--yes").returncode == 2


def test_archive_that_does_not_answer_is_a_failure_after_the_rows_are_gone(
    metia: Run, engine: Engine
) -> None:
    key = add_patient(engine, "phantom-1")
    done = metia("db", "erase", key, "--yes")
    assert done.returncode == 6
    assert "archive-unavailable" in done.stderr
    assert "Still in the archive (archive-unavailable)" in done.stdout
    assert keys(engine) == set()


@pytest.mark.parametrize("answer", ["", "n\n"])
def test_nothing_is_erased_without_a_yes(
    metia: Run, engine: Engine, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    key = add_patient(engine, "phantom-1")
    age(engine, key, 100)
    for asked in (("erase", key), ("retention", "--older-than", "9")):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert metia("db", *asked).returncode == 130
    assert keys(engine) == {key}


def test_retention_erases_who_is_long_untouched(metia: Run, engine: Engine) -> None:
    old, new = add_patient(engine, "phantom-1"), add_patient(engine, "phantom-2")
    age(engine, old, 400)
    age(engine, new, 10)
    asked = ("db", "retention", "--older-than", "365", "--keep-archive")
    dry = metia(*asked, "--dry-run")
    assert dry.returncode == 0
    assert old in dry.stdout
    assert new not in dry.stdout
    assert "1 patients would be erased" in dry.stdout
    assert keys(engine) == {old, new}
    assert metia(*asked, "--yes").returncode == 0
    assert keys(engine) == {new}
    assert "0 patients" in metia(*asked, "--yes").stdout


@pytest.mark.parametrize("days", ["-1", "soon", "nan", "99999999"])
def test_retention_refuses_what_is_no_number_of_days(metia: Run, days: str) -> None:
    assert metia("db", "retention", "--older-than", days, "--yes").returncode == 2


def test_audit_is_written_as_json_lines(
    metia: Run, engine: Engine, tmp_path: Path
) -> None:
    for number in range(3):
        with transaction(engine) as session:
            audit.append(
                session,
                actor=f"ann-{number % 2}",
                action="login",
                subject="user:ann",
                details={"number": number},
            )
    file = tmp_path / "audit.jsonl"
    asked = ("audit", "export", "--actor", "ann-0")
    assert metia(*asked, "--out", str(file)).returncode == 0
    entries = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [entry["details"]["number"] for entry in entries] == [0, 2]
    assert set(entries[0]) == {
        "id", "at", "actor", "action", "subject", "details", "request_id",
    }  # fmt: skip
    day = entries[0]["at"][:10]
    assert len(metia(*asked, "--since", day).stdout.splitlines()) == 2
    assert metia(*asked, "--until", day).stdout == ""
    assert metia(*asked, "--since", "whenever").returncode == 2


def test_export_reads_more_than_a_page(
    metia: Run, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segmentation.cli import audit as command

    monkeypatch.setattr(command, "_PAGE", 2)
    for number in range(5):
        with transaction(engine) as session:
            audit.append(session, actor=None, action="x", subject=f"x:{number}")
    lines = metia("audit", "export", "--action", "x").stdout.splitlines()
    assert [json.loads(line)["subject"] for line in lines] == [
        f"x:{number}" for number in range(5)
    ]
