"""The PDF report, read back: its words, pages, fonts, and what it must never hold."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pypdf
import pytest
from reportlab.graphics.shapes import Circle, Line, PolyLine

from segmentation.exports.chart import Curve, Point, chart
from segmentation.exports.content import Provenance
from segmentation.exports.pictures import TILE, KeyImage
from segmentation.exports.reading import read_course
from segmentation.exports.report import report
from segmentation.exports.report_english import ENGLISH
from segmentation.exports.report_french import FRENCH
from segmentation.exports.report_reasons import FRENCH_REASONS
from segmentation.exports.typeface import FONTS, markup, printable
from segmentation.followup.case import State
from segmentation.followup.reasons import CODES
from segmentation.followup.results import Category
from tests import course_example

MADE_BY = Provenance("model", "0.1.0", "unetr", "1.4", "0123456789abcdef" * 4, True)


def _image(label: str = "M1", tilted: bool = False) -> KeyImage:
    return KeyImage(
        label,
        (230, 159, 0),
        np.tile(np.arange(TILE, dtype=np.uint8) + len(label + "x" * tilted), (TILE, 1)),
        (((0.4, 0.4), (0.6, 0.4), (0.5, 0.6), (0.4, 0.4)),),
        ((0.4, 0.4), (0.6, 0.6)),
        ((0.6, 0.4), (0.4, 0.6)),
        0.2,
        ("R", "L", "A", "P"),
        tilted,
    )


def _pdf(
    document: dict[str, Any], *, identifiers: bool = True, **options: Any
) -> pypdf.PdfReader:
    content = read_course(document, identifiers=identifiers)
    made_by = {visit.number: MADE_BY for visit in content.visits}
    made = report(content, **({"provenance": made_by} | options))
    return pypdf.PdfReader(io.BytesIO(made))


def _texts(pdf: pypdf.PdfReader) -> list[str]:
    return [
        " ".join(page.extract_text().replace("\u00a0", " ").split())
        for page in pdf.pages
    ]


def _named(name: str, **options: Any) -> str:
    document = course_example.three_visits()
    document["patient"]["name"] = name
    return _texts(_pdf(document, visits=[1], **options))[0]


# -- pages -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "pages", "language"),
    [
        (course_example.three_visits(), 3, "en"),
        (course_example.three_visits(), 3, "fr"),
        (course_example.many(20, 10), 20, "en"),
        (course_example.empty_patient(), 1, "fr"),
    ],
    ids=["three visits", "in French", "20 visits of 10 lesions", "empty patient"],
)
def test_page_a_visit_each_of_which_says_what_it_is(
    document: dict[str, Any], pages: int, language: str
) -> None:
    images = {visit: [_image(f"M{n}") for n in range(1, 6)] for visit in range(1, 21)}
    texts = _texts(_pdf(document, language=language, images=images))
    assert len(texts) == pages
    words = ENGLISH if language == "en" else FRENCH
    for number, text in enumerate(texts, 1):
        assert text.count(words.notice) == 2  # above and below
        assert words.page.format(page=number, pages=pages) in text
        assert "EX-0042" in text
        assert words.title in text


def test_visit_with_very_many_lesions_goes_on_with_the_same_header() -> None:
    texts = _texts(_pdf(course_example.many(1, 70)))
    assert len(texts) > 1
    for text in texts:
        assert "Research use only" in text
        assert "EX-0042" in text
        assert "Visit 1/1" in text
    assert "continued" in texts[1]
    assert "continued" not in texts[0]
    assert all(f"M{number} " in " ".join(texts) for number in range(1, 71))


def test_one_visit_alone() -> None:
    texts = _texts(_pdf(course_example.three_visits(), visits=[2]))
    assert len(texts) == 1
    assert "Visit 2/3: 2024-03-11 (day 64)" in texts[0]
    assert "Page 1 of 1" in texts[0]


# -- words -----------------------------------------------------------------------


def test_english_page_tells_category_numbers_and_reasons() -> None:
    _, signed, last = _texts(_pdf(course_example.three_visits()))
    assert "SIGNED by Dr. Ève Lœwe, 2024-03-12 09:30 UTC" in signed
    assert "Signed: PR, partial response, confirmed" in signed
    assert "Sum of targets: 28.5 mm" in signed
    assert "−39.4 % against baseline" in signed
    assert "is at least 30 % below the baseline of 47.0 mm" in signed
    assert "Within the error of measurement: PR / SD" in signed
    assert "Comment: Agreed with the board." in signed
    assert "M1 target 13.0 9.8 0.88 22.0 −9.0 22.0 −40.9" in signed
    assert "UNVERIFIED" in last
    assert "Proposed: PD, progressive disease" in last
    assert "Sum of targets: at least 38.0 mm" in last
    assert "M3 target not assessed, not imaged 6.0 11.0" in last
    for told in ("M5 new", "certain", "not measurable", "link to be"):
        assert told in last
    assert "wait for a reader: 1" in last
    assert "pharmacological dose (increased)" in last
    assert "baseline −30 %" in last
    assert "nadir +20 %" in last


def test_french_page_writes_french_numbers_dates_and_reasons() -> None:
    _, signed, last = _texts(_pdf(course_example.three_visits(), language="fr"))
    assert "SIGNÉ par Dr. Ève Lœwe, 12/03/2024 09:30 UTC" in signed
    assert "Signé : PR, réponse partielle, confirmée" in signed
    assert "Somme des cibles : 28,5 mm" in signed
    assert "−39,4 % par rapport à la référence" in signed
    assert "La somme est d'au plus 70 % de la référence." in signed
    assert "Une lésion est sans valeur à cette visite. (M3)" in last
    assert "The sum" not in signed + last


def test_stale_signature_is_said_and_the_proposal_stands() -> None:
    page = _texts(_pdf(course_example.stale_signature()))[1]
    assert "CHANGED SINCE SIGNED by Dr. Ève Lœwe" in page
    assert "Proposed: PR, partial response" in page
    assert "SIGNED by" not in page.replace("CHANGED SINCE SIGNED by", "")


def test_signed_against_the_proposal_names_both() -> None:
    document = course_example.three_visits()
    document["visits"][1]["signed"]["category"] = "SD"
    page = _texts(_pdf(document))[1]
    assert "Signed: SD, stable disease" in page
    assert "the criteria proposed: PR, partial response" in page


def test_page_names_what_made_it() -> None:
    page = _texts(_pdf(course_example.three_visits()))[0]
    assert "Model unetr 1.4, SHA-256 0123456789ab ·" in page
    assert "does not find metastases in patients" in page
    assert "criteria RANO-BM, rule set 1.0" in page
    for origin, told in (("import", "imported"), ("reader", "edited by a reader")):
        made_by = {1: Provenance(origin, "0.1.0")}
        document = course_example.three_visits()
        assert told in _texts(_pdf(document, visits=[1], provenance=made_by))[0]


def test_every_word_the_engine_can_say_has_a_translation() -> None:
    assert set(FRENCH_REASONS) == set(CODES)
    for words in (ENGLISH, FRENCH):
        assert set(words.categories) == {category.value for category in Category}
        assert set(words.states) == {state.value for state in State}
        assert len(words.columns) == 11
    assert set(ENGLISH.values) == set(FRENCH.values)


# -- whom ------------------------------------------------------------------------


def test_pseudonymous_report_tells_nothing_of_the_patient() -> None:
    pdf = _pdf(course_example.three_visits(), identifiers=False, images={1: [_image()]})
    text = " ".join(_texts(pdf)) + str(pdf.metadata)
    for secret in ("EX-0042", "Beispiel", "示子", "2024", "1951", "1.2.826", "Zoë"):
        assert secret not in text
    assert course_example.PATIENT_KEY in text
    assert "day 64" in text


@pytest.mark.parametrize("language", ["en", "fr"])
def test_document_information_never_names_the_patient(language: str) -> None:
    pdf = _pdf(course_example.three_visits(), language=language)
    told = str(pdf.metadata) + str(pdf.xmp_metadata)
    assert "Beispiel" not in told
    assert "EX-0042" not in told
    assert str(pdf.trailer["/Root"]["/Lang"]) == language


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Müller^Jörg", "Müller, Jörg"),
        ("Łukasz^Żółć^Ą", "Łukasz, Żółć Ą"),
        ("Иванов^Пётр", "Иванов, Пётр"),
        ("Παπαδόπουλος^Γιώργος", "Παπαδόπουλος, Γιώργος"),
        (
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            "Yamada, Tarou / 山田, 太郎 / やまだ, たろう",
        ),
        ("Hong^Gildong=洪^吉洞=홍^길동", "Hong, Gildong / 洪, 吉洞 / 홍, 길동"),
        ("Zhang^XiaoDong=张^小东", "Zhang, XiaoDong / 张, 小东"),
        ("髙﨑^惠", "髙﨑, 惠"),
        ("O'Neil & <b>Sons</b>^A", "O'Neil & <b>Sons</b>, A"),
    ],
)
def test_names_come_out_as_they_are(name: str, shown: str) -> None:
    text = _named(name)
    assert shown in text
    assert ENGLISH.name_incomplete not in text


@pytest.mark.parametrize("script", ["محمد^علي", "כהן^דוד", "สมชาย^ใจดี", "शर्मा^राम"])
def test_name_that_cannot_be_printed_is_said_to_be_left_out(script: str) -> None:
    text = _named(f"Latin^Name={script}")
    assert "Latin, Name" in text
    assert ENGLISH.name_incomplete in text
    alone = _named(script, language="fr")
    assert FRENCH.name_incomplete.split()[-1] in alone
    assert script[:2] not in alone


@pytest.mark.parametrize("name", [None, "", "^", "=", "A" * 3000, "=^=^", "\u202ea"])
def test_odd_names_do_not_stop_the_report(name: str | None) -> None:
    document = course_example.three_visits()
    document["patient"]["name"] = name
    assert len(_pdf(document).pages) == 3


def test_long_texts_and_missing_dates_do_not_stop_the_report() -> None:
    document = course_example.three_visits()
    document["patient"]["patient_id"] = "9" * 300
    document["visits"][1]["signed"] |= {"by": "N" * 300, "comment": "c " * 1000}
    document["visits"][0]["reading"]["note"] = "<para>&amp;\n" * 150
    document["visits"][2] |= {"date": None, "assessment": None}
    document["visits"][2]["left_out"] = {"code": "no-date", "text": "It has no date."}
    texts = _texts(_pdf(document))
    assert "Not assessed. It has no date." in texts[-1]
    assert "no date" in texts[-1]


# -- fonts and images ------------------------------------------------------------


def test_every_font_is_embedded() -> None:
    document = course_example.three_visits()
    pdf = _pdf(document, images={1: [_image()], 2: None})
    names = set()
    for page in pdf.pages:
        for font in page["/Resources"]["/Font"].values():
            font = font.get_object()
            assert "/FontFile2" in font["/FontDescriptor"].get_object()
            names.add(str(font["/BaseFont"]).split("+")[1])
    assert names == {"DejaVuSans", "DejaVuSans-Bold", "WenQuanYiMicroHei"}


def test_fonts_come_with_their_licences() -> None:
    listed = (FONTS / "README.md").read_text("utf-8")
    for file in FONTS.glob("*.ttf"):
        assert f"`{file.name}`" in listed
    assert "Apache License" in (FONTS / "LICENSE-Apache-2.0.txt").read_text("utf-8")
    assert "Bitstream Vera" in (FONTS / "LICENSE-DejaVu.txt").read_text("utf-8")


def test_key_images_are_in_the_page_or_said_to_be_missing() -> None:
    images = {1: [_image("M1"), _image("M2", tilted=True)], 2: None, 3: []}
    pdf = _pdf(course_example.three_visits(), images=images)
    one, two, three = _texts(pdf)
    assert [len(page.images) for page in pdf.pages] == [2, 0, 0]
    assert ENGLISH.tilted in one
    assert ENGLISH.no_images in two
    assert ENGLISH.no_images not in one + three
    assert ENGLISH.key_images not in three
    picture = pdf.pages[0].images[0].image
    assert picture.size == (TILE, TILE)
    assert picture.mode == "L"


def test_same_course_gives_the_same_file() -> None:
    content = read_course(course_example.three_visits(), identifiers=True)
    assert report(content) == report(content)


def test_markup_marks_what_has_no_font() -> None:
    assert markup("a & b") == "a &amp; b"
    assert markup("山田 A") == '<font name="MetIA-CJK">山田</font> A'
    assert markup("x\u0627") == "x\N{REPLACEMENT CHARACTER}"
    assert printable(["Zoë", "שלום"]) == (["Zoë"], True)


def test_very_small_volume_is_not_written_as_none() -> None:
    document = course_example.three_visits()
    document["tracks"][0]["observations"][0]["volume_ml"] = 0.0004
    assert "22.0 16.5 < 0.01" in _texts(_pdf(document, visits=[1]))[0]


def test_curve_of_one_visit_draws_no_line_that_was_not_measured() -> None:
    curve = Curve("M1", (230, 159, 0), (Point(1, 10.0),))
    drawing = chart("Sum", "day", [curve])
    assert not [shape for shape in drawing.contents if isinstance(shape, PolyLine)]
    dot = next(shape for shape in drawing.contents if isinstance(shape, Circle))
    leaders = [
        shape
        for shape in drawing.contents
        if isinstance(shape, Line) and shape.strokeWidth == 0.3
    ]
    assert all(abs(line.x2 - dot.cx) < 20 for line in leaders)


def test_curve_has_a_gap_where_nothing_was_measured() -> None:
    points = (Point(1, 10.0), None, Point(90, 12.0), Point(120, 13.0))
    drawing = chart("Sum", "day", [Curve("M1", (1, 2, 3), points)])
    lines = [shape for shape in drawing.contents if isinstance(shape, PolyLine)]
    assert [len(line.points) for line in lines] == [4]
    assert len([s for s in drawing.contents if isinstance(s, Circle)]) == 3
