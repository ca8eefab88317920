"""The tables for trials: exact cells, nothing that runs, no word of the patient."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentation.exports.cells import csv_cell, looks_like_formula
from segmentation.exports.columns import COLUMNS, TABLE_NAMES
from segmentation.exports.csv_files import csv_archive, csv_text
from segmentation.exports.reading import read_course
from segmentation.exports.tables import make_tables
from segmentation.exports.xlsx import workbook
from tests import course_example

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "exports.md"


def _tables(document: dict[str, Any], identifiers: bool = False) -> dict[str, Any]:
    return make_tables(read_course(document, identifiers=identifiers))


def _read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _find(rows: list[dict[str, Any]], **wanted: object) -> dict[str, Any]:
    found = [row for row in rows if wanted.items() <= row.items()]
    assert len(found) == 1, wanted
    return found[0]


def _sheet(book: openpyxl.Workbook, name: str) -> list[dict[str, Any]]:
    rows = book[name].iter_rows(values_only=True)
    head = next(rows)
    return [dict(zip(head, row, strict=True)) for row in rows]


# -- content ---------------------------------------------------------------------


def test_identification_names_every_lesion_once_where_it_was_first_seen() -> None:
    rows = _tables(course_example.three_visits())["tu"]
    told = [(row["TULNKID"], row["TUORRES"], row["VISITNUM"]) for row in rows]
    assert told == [
        ("M1", "TARGET", 1),
        ("M2", "TARGET", 1),
        ("M3", "TARGET", 1),
        ("M4", "NON-TARGET", 1),
        ("M5", "NEW", 3),
    ]
    assert rows[0] == {
        "STUDYID": "METIA",
        "DOMAIN": "TU",
        "USUBJID": course_example.PATIENT_KEY,
        "TUSEQ": 1,
        "TUREFID": None,
        "TUSPID": course_example.hexadecimal(0x3001),
        "TULNKID": "M1",
        "TUTESTCD": "TUMIDENT",
        "TUTEST": "Tumor Identification",
        "TUORRES": "TARGET",
        "TUSTRESC": "TARGET",
        "TULOC": "BRAIN",
        "TUMETHOD": "MRI",
        "TUEVAL": "INVESTIGATOR",
        "VISITNUM": 1,
        "VISIT": "BASELINE",
        "TUDTC": None,
        "TUDY": 1,
        "XKIND": "parenchymal",
        "XPARENT": None,
        "XCERTAIN": None,
        "XTRKUID": "2.25.9001",
    }
    assert rows[3]["XKIND"] == "dural"
    assert rows[4]["XCERTAIN"] == "unequivocal"


def test_results_give_each_measurement_with_its_unit_and_day() -> None:
    rows = _tables(course_example.three_visits())["tr"]
    found = _find(rows, TRLNKID="M1", VISITNUM=2, TRTESTCD="LDIAM")
    assert found["TRORRES"] == found["TRSTRESN"] == 13.0
    assert (found["TRORRESU"], found["TRDY"], found["VISIT"]) == ("mm", 64, "VISIT 2")
    assert _find(rows, TRLNKID="M1", VISITNUM=2, TRTESTCD="LPERP")["TRSTRESN"] == 9.8
    volume = _find(rows, TRLNKID="M1", VISITNUM=2, TRTESTCD="VOLUME")
    assert (volume["TRSTRESN"], volume["TRSTRESU"]) == (0.879, "mL")
    total = _find(rows, TRTESTCD="SUMLDIAM", VISITNUM=2)
    assert (total["TRSTRESN"], total["TRGRPID"], total["TRLNKID"]) == (
        28.5,
        "TARGET",
        None,
    )
    assert _find(rows, TRTESTCD="PCBSD", VISITNUM=2)["TRSTRESN"] == -39.4
    link = _find(rows, TRLNKID="M5", VISITNUM=3, TRTESTCD="LDIAM")
    assert (link["XLINK"], link["TRGRPID"]) == ("pending", "NEW")


def test_what_was_not_measured_is_not_done_with_its_reason() -> None:
    rows = _tables(course_example.three_visits())["tr"]
    for code in ("TUMSTATE", "LDIAM", "LPERP", "VOLUME"):
        row = _find(rows, TRLNKID="M3", VISITNUM=3, TRTESTCD=code)
        assert (row["TRSTAT"], row["TRREASND"]) == ("NOT DONE", "NOT IMAGED")
        assert row["TRORRES"] is None
        assert row["TRSTRESN"] is None
    small = _find(rows, TRLNKID="M4", VISITNUM=2, TRTESTCD="TUMSTATE")
    assert small["TRORRES"] == "TOO SMALL TO MEASURE"
    value = _find(rows, TRLNKID="M4", VISITNUM=2, TRTESTCD="LDIAM")
    assert (value["TRSTAT"], value["TRREASND"]) == ("NOT DONE", "TOO SMALL TO MEASURE")
    # A sum with a gap is no sum.
    total = _find(rows, TRTESTCD="SUMLDIAM", VISITNUM=3)
    assert (total["TRSTAT"], total["TRSTRESN"]) == ("NOT DONE", None)
    assert not [r for r in rows if r["TRTESTCD"] == "PCBSD" and r["VISITNUM"] == 3]


def test_absent_lesion_measures_nothing_and_a_later_one_is_not_there_before() -> None:
    rows = _tables(course_example.three_visits())["tr"]
    gone = _find(rows, TRLNKID="M4", VISITNUM=3, TRTESTCD="LDIAM")
    assert (gone["TRSTRESN"], gone["TRSTAT"]) == (0.0, None)
    state = _find(rows, TRLNKID="M4", VISITNUM=3, TRTESTCD="TUMSTATE")
    assert state["TRORRES"] == "ABSENT"
    assert {row["VISITNUM"] for row in rows if row["TRLNKID"] == "M5"} == {3}


@pytest.mark.parametrize(
    ("state", "term"),
    [("merged", "MERGED"), ("split", "SPLIT"), ("locally_treated", "LOCALLY TREATED")],
)
def test_lesions_that_carry_no_value_of_their_own(state: str, term: str) -> None:
    document = course_example.three_visits()
    document["tracks"][0]["observations"][2] = course_example.observation(3, state)
    rows = _tables(document)["tr"]
    told = _find(rows, TRLNKID="M1", VISITNUM=3, TRTESTCD="TUMSTATE")
    assert (told["TRORRES"], told["TRSTAT"]) == (term, None)
    value = _find(rows, TRLNKID="M1", VISITNUM=3, TRTESTCD="LDIAM")
    assert (value["TRSTAT"], value["TRREASND"]) == ("NOT DONE", term)


def test_responses_tell_proposal_and_signature_apart() -> None:
    rows = _tables(course_example.three_visits())["rs"]
    first = _find(rows, VISITNUM=1)
    assert (first["RSSTAT"], first["RSREASND"]) == ("NOT DONE", "BASELINE")
    at_two = {
        row["RSTESTCD"]: row["RSORRES"]
        for row in rows
        if row["VISITNUM"] == 2 and row["RSEVAL"] == "SOFTWARE"
    }
    assert at_two == {
        "TRGRESP": "PR",
        "NTRGRESP": "NON-CR/NON-PD",
        "NEWLIND": "N",
        "OVRLRESP": "PR",
        "BESTRESP": "PR",
    }
    proposed = _find(rows, VISITNUM=2, RSTESTCD="OVRLRESP", RSEVAL="SOFTWARE")
    assert (proposed["XCONFIRM"], proposed["XSIGNED"]) == ("Y", "N")
    assert proposed["XREASONS"].startswith("[target-pr] The sum")
    signed = _find(rows, VISITNUM=2, RSEVAL="INVESTIGATOR")
    assert (signed["RSEVALID"], signed["XSIGNED"]) == ("Dr. Ève Lœwe", "Y")
    assert _find(rows, VISITNUM=3, RSTESTCD="NEWLIND")["RSORRES"] == "Y"
    assert {row["RSCAT"] for row in rows} == {"RANO-BM"}
    stale = _tables(course_example.stale_signature())["rs"]
    assert _find(stale, VISITNUM=2, RSEVAL="INVESTIGATOR")["XSIGNED"] == "STALE"


def test_not_evaluable_and_left_out_visits() -> None:
    document = course_example.three_visits()
    document["visits"][1]["assessment"] = course_example.assessment(
        "NE", non_target="not_assessed"
    )
    document["visits"][2] |= {
        "assessment": None,
        "date": None,
        "left_out": {"code": "no-date", "text": "The study has no date."},
    }
    rows = _tables(document)["rs"]
    assert _find(rows, VISITNUM=2, RSTESTCD="NTRGRESP")["RSORRES"] == "NE"
    left_out = _find(rows, VISITNUM=3)
    assert (left_out["RSSTAT"], left_out["RSDY"]) == ("NOT DONE", None)
    assert left_out["RSREASND"] == "The study has no date."


def test_rejected_lesions_leave_with_no_table() -> None:
    document = course_example.three_visits()
    for one in document["tracks"][4]["observations"]:
        one["review"] = "rejected"
    tables = _tables(document)
    assert "M5" not in {row["TULNKID"] for row in tables["tu"]}
    assert "M5" not in {row["TRLNKID"] for row in tables["tr"]}


def test_empty_patient_gives_tables_of_column_names() -> None:
    tables = _tables(course_example.empty_patient())
    assert tables == {"tu": [], "tr": [], "rs": []}
    for name in TABLE_NAMES:
        assert csv_text(name, []).count("\r\n") == 1


def test_long_course_is_complete() -> None:
    tables = _tables(course_example.many(20, 10))
    assert len(tables["tu"]) == 10
    measured = [row for row in tables["tr"] if row["TRTESTCD"] == "LDIAM"]
    assert len(measured) == 200
    for name, rows in tables.items():
        numbers = [row[f"{name.upper()}SEQ"] for row in rows]
        assert numbers == list(range(1, len(rows) + 1))


def test_columns_are_those_that_are_documented() -> None:
    text = DOCUMENTATION.read_text("utf-8")
    for name in TABLE_NAMES:
        for column, meaning in COLUMNS[name].items():
            assert f"| `{column}` | {meaning} |" in text, (name, column)


# -- what may not leave ----------------------------------------------------------


def test_pseudonymous_tables_tell_nothing_of_the_patient() -> None:
    content = read_course(course_example.three_visits(), identifiers=False)
    with zipfile.ZipFile(io.BytesIO(csv_archive(content))) as archive:
        text = "".join(
            archive.read(name).decode("utf-8") for name in archive.namelist()
        )
    book = openpyxl.load_workbook(io.BytesIO(workbook(content)))
    text += str([list(sheet.values) for sheet in book])
    for secret in ("EX-0042", "Beispiel", "示子", "2024", "1951", "1.2.826", "Zoë"):
        assert secret not in text
    assert "Agreed with the board" not in text


def test_identified_tables_have_id_dates_and_comments() -> None:
    tables = _tables(course_example.three_visits(), identifiers=True)
    assert {row["USUBJID"] for rows in tables.values() for row in rows} == {"EX-0042"}
    row = _find(tables["tr"], TRLNKID="M1", VISITNUM=2, TRTESTCD="LDIAM")
    assert (row["TRDTC"], row["TRREFID"]) == ("2024-03-11", course_example.study_uid(2))
    signed = _find(tables["rs"], VISITNUM=2, RSEVAL="INVESTIGATOR")
    assert signed["XREASONS"] == "Agreed with the board."


# -- files -----------------------------------------------------------------------


def test_csv_keeps_numbers_numbers_and_texts_quoted() -> None:
    tables = _tables(course_example.three_visits())
    text = csv_text("tr", tables["tr"])
    line = next(line for line in text.split("\r\n") if '"PCBSD"' in line)
    assert ",-39.4,-39.4,-39.4," in line.replace('"%",', "")
    assert '"METIA"' in line
    for name in TABLE_NAMES:
        rows = _read_csv(csv_text(name, tables[name]))
        assert list(rows[0]) == list(COLUMNS[name])
        assert len(rows) == len(tables[name])


def test_csv_archive_is_the_same_each_time_and_explains_itself() -> None:
    content = read_course(course_example.three_visits(), identifiers=True)
    made = csv_archive(content)
    assert made == csv_archive(content)
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.namelist() == ["README.txt", "tu.csv", "tr.csv", "rs.csv"]
        readme = archive.read("README.txt").decode("utf-8")
        rows = _read_csv(archive.read("rs.csv").decode("utf-8"))
    assert "Research use only" in readme
    assert rows[-1]["USUBJID"] == "EX-0042"
    assert "Dr. Ève Lœwe" in {row["RSEVALID"] for row in rows}


def test_workbook_has_a_sheet_a_table_and_one_that_explains() -> None:
    content = read_course(course_example.three_visits(), identifiers=True)
    book = openpyxl.load_workbook(io.BytesIO(workbook(content)))
    assert book.sheetnames == ["README", "TU", "TR", "RS"]
    assert "Research use only" in book["README"]["A1"].value
    row = _find(_sheet(book, "TR"), TRLNKID="M2", VISITNUM=3, TRTESTCD="LDIAM")
    assert row["TRSTRESN"] == 12
    assert isinstance(row["TRSTRESN"], float | int)
    signed = _find(_sheet(book, "RS"), RSEVAL="INVESTIGATOR")
    assert signed["RSEVALID"] == "Dr. Ève Lœwe"
    empty = read_course(course_example.empty_patient(), identifiers=False)
    assert openpyxl.load_workbook(io.BytesIO(workbook(empty)))["TU"].max_row == 1


FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\u00a0=1",
    "＝1+1",
    "＋1",
    "－1",
    "＠x",
    "\ttext",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_run(text: str) -> None:
    document = course_example.three_visits()
    document["patient"]["patient_id"] = text
    document["visits"][1]["signed"]["by"] = text
    content = read_course(document, identifiers=True)
    rows = _read_csv(csv_text("rs", make_tables(content)["rs"]))
    for cell in (rows[0]["USUBJID"], _find(rows, RSEVAL="INVESTIGATOR")["RSEVALID"]):
        assert cell.startswith("'")
        assert not set(cell) & set("\t\r\n")
    book = openpyxl.load_workbook(io.BytesIO(workbook(content)))
    for sheet in book:
        for line in sheet.iter_rows():
            for cell in line:
                assert cell.data_type != "f"
    marked = [cell for cell in book["RS"]["C"][1:] if cell.quotePrefix]
    assert len(marked) == book["RS"].max_row - 1


@given(st.text(max_size=40))
def test_any_text_is_one_harmless_cell(text: str) -> None:
    written = csv_cell(text)
    assert isinstance(written, str)
    assert not looks_like_formula(written)
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC).writerow([written, 1])
    buffer.getvalue().encode("utf-8")
    assert next(csv.reader(io.StringIO(buffer.getvalue(), newline=""))) == [
        written,
        "1",
    ]


def test_ordinary_texts_and_numbers_stay_as_they_are() -> None:
    for cell in ("M1", "Zoë, 示子", "a=b", "1-2", -39.4, 0, None, "5' tall"):
        assert csv_cell(cell) == cell


@pytest.mark.parametrize("text", ["a\x00b", "a\x0bb", "x" * 40_000, "\ud800", "\ufffe"])
def test_texts_that_a_workbook_cannot_hold_do_not_stop_it(text: str) -> None:
    document = course_example.three_visits()
    document["visits"][1]["signed"]["comment"] = text
    content = read_course(document, identifiers=True)
    openpyxl.load_workbook(io.BytesIO(workbook(content)))
    csv_archive(content)
