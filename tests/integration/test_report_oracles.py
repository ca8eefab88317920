"""Reports judged by others: dciodvfy, DCMTK and poppler read what we wrote."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from segmentation.exports.encapsulated import encapsulate
from segmentation.exports.reading import read_course
from segmentation.exports.report import report
from tests import course_example, exported_patients
from tests.fake_archive import FakeArchive
from tests.seg_sources import classic_series, grid


def tool(name: str) -> str:
    """Find a program; skip where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (make setup-dev)")
    return path


def _pdf() -> bytes:
    document = course_example.three_visits()
    return report(read_course(document, identifiers=True), language="fr")


def _image(charset: str = "ISO_IR 192", name: str = exported_patients.NAME) -> Dataset:
    image = classic_series(grid((4, 16, 16)))[0]
    image.SpecificCharacterSet = charset
    image.PatientName = name
    # As an archive gives it: texts are bytes of that character set.
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, image, implicit_vr=False, little_endian=True)
    return pydicom.dcmread(io.BytesIO(buffer.getvalue()), force=True)


@pytest.mark.parametrize("odd", [False, True])
def test_encapsulated_report_is_valid_and_comes_out_whole(
    tmp_path: Path, odd: bool
) -> None:
    pdf = _pdf()
    pdf += b"\n" if (len(pdf) % 2 == 1) != odd else b""
    path = tmp_path / "report.dcm"
    made = encapsulate(pdf, _image(), title="MetIA", verified=odd)
    made.save_as(path, enforce_file_format=True)
    judged = subprocess.run(
        [tool("dciodvfy"), str(path)], capture_output=True, text=True, check=False
    )
    assert (judged.stdout + judged.stderr).split() == ["EncapsulatedPDF"]
    out = tmp_path / "out.pdf"
    subprocess.run([tool("dcm2pdf"), str(path), str(out)], check=True)
    assert out.read_bytes().rstrip(b"\0") == pdf
    assert str(made.PatientName) == exported_patients.NAME
    assert made.VerificationFlag == ("VERIFIED" if odd else "UNVERIFIED")


def test_same_report_is_the_same_object() -> None:
    image, pdf = _image(), _pdf()
    one, other = (
        encapsulate(pdf, image, title="MetIA", verified=False) for _ in range(2)
    )
    assert one.SOPInstanceUID == other.SOPInstanceUID
    changed = encapsulate(pdf + b"\n", image, title="MetIA", verified=False)
    assert changed.SOPInstanceUID != one.SOPInstanceUID
    assert changed.SeriesInstanceUID == one.SeriesInstanceUID


@pytest.mark.parametrize("charset", ["ISO_IR 100", "nonsense", ""])
def test_other_character_sets_become_utf8(tmp_path: Path, charset: str) -> None:
    name = "Müller^Jörg" if charset == "ISO_IR 100" else "Mueller^Joerg"
    archive = FakeArchive()
    made = encapsulate(_pdf(), _image(charset, name), title="MetIA", verified=False)
    archive.put([made])
    read = archive.fetch_instance(
        made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID
    )
    assert read.SpecificCharacterSet == "ISO_IR 192"
    assert str(read.PatientName) == name


def test_poppler_finds_every_word_and_every_font_embedded(tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(_pdf())
    text = subprocess.run(
        [tool("pdftotext"), "-layout", str(path), "-"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for told in ("Beispiel, Zoë / 例, 示子", "Signé", "réponse partielle", "−39,4"):
        assert told in text
    assert text.count("Réservé à la recherche") == 6
    fonts = subprocess.run(
        [tool("pdffonts"), str(path)], capture_output=True, text=True, check=True
    ).stdout.splitlines()[2:]
    assert len(fonts) == 3
    for font in fonts:
        assert font.split()[-5] == "yes", font
