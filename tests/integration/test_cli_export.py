"""``metia export``: every format to a folder, all files or none, and an audit entry."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openpyxl
import pydicom
import pypdf
import pytest

from db.audit import entries
from db.engine import Engine, make_engine, reading
from db.schema import upgrade
from errors import MetiaError
from orthanc.gateway import OrthancArchive
from segmentation.exports.fhir import bundle
from segmentation.exports.report import report
from segmentation.exports.sources import load_patient
from segmentation.exports.tables import make_tables
from segmentation.exports.xlsx import workbook
from settings import get_settings
from tests.command_line import Run, command_line
from tests.course_patients import record_case
from tests.exported_patients import PATIENT_ID, StoredVisit, put_visit
from tests.fake_archive import FakeArchive

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "docs" / "examples" / "rano").glob("*.json"))
SCHEMA = ROOT / "tests" / "fhir" / "fhir-r4-subset.schema.json"
FORMATS = ("csv", "xlsx", "fhir", "pdf", "nifti", "sr", "rtstruct")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Give the service's database, and point the settings at it."""
    monkeypatch.setenv("METIA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("METIA_DATABASE_URL", raising=False)
    (tmp_path / "data").mkdir()
    get_settings.cache_clear()
    made = make_engine(get_settings().database_url)
    upgrade(made)
    yield made
    made.dispose()
    get_settings.cache_clear()


@pytest.fixture
def stored(
    engine: Engine, fake_archive: FakeArchive, monkeypatch: pytest.MonkeyPatch
) -> StoredVisit:
    """Give a visit whose images lie in the archive that the command opens."""
    monkeypatch.setattr(OrthancArchive, "from_settings", lambda _: fake_archive)
    return put_visit(engine, fake_archive)


@pytest.fixture
def metia(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line inside this process."""

    return command_line(capsys)


def _all_formats() -> list[str]:
    return [word for form in FORMATS for word in ("--format", form)]


def _exports(engine: Engine) -> list[dict[str, Any]]:
    with reading(engine) as session:
        return [one.details for one in entries(session) if one.action == "export"]


def test_every_format_of_a_study(
    metia: Run, engine: Engine, stored: StoredVisit, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "out"
    done = metia("export", stored.study_uid, *_all_formats(), "--out", out)
    assert done.returncode == 0, done.stderr
    stem = f"metia-patient-{stored.patient_key[:12]}"
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(
        [
            f"{stem}-tables.zip",
            f"{stem}-tables.xlsx",
            f"{stem}-fhir.json",
            f"{stem}-visit-01-report.pdf",
            f"{stem}-visit-01-labels.zip",
            f"{stem}-visit-01-sr.dcm",
            f"{stem}-visit-01-rtstruct.dcm",
        ]
    )
    assert sorted(done.stdout.split()) == sorted(str(out / name) for name in names)
    assert len(pypdf.PdfReader(out / f"{stem}-visit-01-report.pdf").pages[0].images) > 0
    assert pydicom.dcmread(out / f"{stem}-visit-01-sr.dcm").Modality == "SR"
    structures = pydicom.dcmread(out / f"{stem}-visit-01-rtstruct.dcm")
    assert len(structures.StructureSetROISequence) == 3
    assert sorted(one["format"] for one in _exports(engine)) == sorted(FORMATS)
    assert {one["by"] for one in _exports(engine)} == {"command line"}


def test_identifiers_only_where_asked_for(
    metia: Run, stored: StoredVisit, tmp_path: Path
) -> None:
    for number, more in enumerate(([], ["--identifiers"])):
        out = tmp_path / str(number)
        done = metia(
            "export", stored.patient_key, "--format", "xlsx", "--format", "fhir",
            "--format", "pdf", "--language", "fr", "--out", out, "--json", *more,
        )  # fmt: skip
        files = [Path(path) for path in json.loads(done.stdout)["files"]]
        assert sorted(files) == sorted(out.iterdir())
        book, made, pdf = files
        words = str([list(sheet.values) for sheet in openpyxl.load_workbook(book)])
        page = pypdf.PdfReader(pdf).pages[0].extract_text()
        assert "Suivi des métastases" in page
        for text in (words, made.read_text("utf-8"), page):
            assert (PATIENT_ID in text) is bool(more)


def test_files_that_are_there_are_left_alone(
    metia: Run, engine: Engine, stored: StoredVisit, tmp_path: Path
) -> None:
    arguments = ("export", stored.patient_key, "--format", "fhir", "--out", tmp_path)
    assert metia(*arguments).returncode == 0
    (made,) = tmp_path.glob("*.json")
    made.write_text("mine", "utf-8")
    done = metia(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "output-exists" in done.stderr
    assert made.read_text("utf-8") == "mine"
    assert len(_exports(engine)) == 1
    assert metia(*arguments, "--overwrite").returncode == 0
    assert made.read_text("utf-8") != "mine"


def test_failure_leaves_no_file_and_no_entry(
    metia: Run,
    engine: Engine,
    stored: StoredVisit,
    fake_archive: FakeArchive,
    tmp_path: Path,
) -> None:
    fake_archive.fail_with = MetiaError("archive-unavailable", "No answer.")
    out = tmp_path / "out"
    done = metia("export", stored.patient_key, *_all_formats(), "--out", out)
    assert done.returncode == 6
    assert "archive-unavailable" in done.stderr
    assert not out.exists()
    assert _exports(engine) == []


@pytest.mark.parametrize(
    ("whom", "code"),
    [("0" * 32, "not-found"), ("1.2.3", "not-found"), ("x", "invalid")],
)
def test_nobody_of_that_name(
    metia: Run, stored: StoredVisit, tmp_path: Path, whom: str, code: str
) -> None:
    done = metia("export", whom, "--format", "csv", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert code in done.stderr
    assert not (tmp_path / "out").exists()


def test_unwritable_folder_is_told(
    metia: Run, stored: StoredVisit, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    out = tmp_path / "file" / "out"
    done = metia("export", stored.patient_key, "--format", "csv", "--out", out)
    assert done.returncode == 6
    assert "output-unwritable" in done.stderr


def _worked_cases(engine: Engine) -> Iterator[tuple[str, int, str]]:
    """Record the worked cases; gives their names, numbers of visits and patients."""
    for path in EXAMPLES:
        document = json.loads(path.read_text("utf-8"))
        document["case_id"] = path.stem
        yield (
            path.stem,
            len(document["visits"]),
            record_case(engine, document).patient_key,
        )


def test_every_worked_case_can_leave_in_every_form(engine: Engine) -> None:
    """From the database: states, links and gaps that no hand-made course has."""
    validator = jsonschema.Draft6Validator(json.loads(SCHEMA.read_text("utf-8")))
    for name, visits, key in _worked_cases(engine):
        loaded = load_patient(engine, key, identifiers=True)
        content = loaded.content
        assert len(content.visits) == visits, name
        validator.validate(bundle(content, loaded.provenance))
        book = openpyxl.load_workbook(io.BytesIO(workbook(content)))
        assert len(book.sheetnames) == 4
        made = report(content, provenance=loaded.provenance, language="fr")
        assert len(pypdf.PdfReader(io.BytesIO(made)).pages) == visits, name


# The groups of a UUID are longer than a month.
_DAY = re.compile(r"\b(?:19|20)[0-9]{2}-[0-9]{2}\b")


def test_no_date_of_a_worked_case_leaves_unasked(engine: Engine) -> None:
    for name, _, key in _worked_cases(engine):
        for rule_set in ("rano-bm", "recist-1.1"):
            loaded = load_patient(engine, key, identifiers=False, rule_set=rule_set)
            tables = make_tables(loaded.content)
            told = json.dumps([tables, bundle(loaded.content, loaded.provenance)])
            assert not _DAY.search(told), name
            assert "Test" not in told
