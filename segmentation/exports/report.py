"""The PDF report of a patient's course: a page a visit, and more only where it is full.

Every page says that it is for research, whether and by whom it is signed, whom and
which visit it is about, what made it, and which of how many pages it is. Fonts are
embedded. The same input gives the same bytes: no time of writing is in them. reportlab
is used here and in the parts, nowhere else. Pure.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    NextPageTemplate,
    PageBreak,
    PageTemplate,
    Paragraph,
)

from segmentation.exports.content import CourseContent, Provenance, Subject, Visit
from segmentation.exports.pictures import KeyImage
from segmentation.exports.report_english import ENGLISH
from segmentation.exports.report_french import FRENCH
from segmentation.exports.report_parts import visit_parts
from segmentation.exports.report_styles import FAINT, INK, RULE, WIDTH
from segmentation.exports.report_words import Words
from segmentation.exports.typeface import BOLD, REGULAR, markup, printable, register
from settings import VERSION

_WIDTH, _HEIGHT = A4
_MARGIN = (_WIDTH - WIDTH) / 2
_HEADER, _FOOTER = 96.0, 44.0
Language = Literal["en", "fr"]
LANGUAGES: Mapping[Language, Words] = {"en": ENGLISH, "fr": FRENCH}

_NOTICE = HexColor(0xB3261E)
_OPEN, _DONE, _STALE = HexColor(0xB26A00), HexColor(0x1B7F4D), HexColor(0xB3261E)
_LINE = ParagraphStyle(
    "line", fontName=REGULAR, fontSize=8, leading=10.5, textColor=INK
)
_FOOT = ParagraphStyle("foot", parent=_LINE, fontSize=6, leading=7.5, textColor=FAINT)


def report(
    course: CourseContent,
    *,
    language: Language = "en",
    provenance: Mapping[int, Provenance] | None = None,
    images: Mapping[int, Sequence[KeyImage] | None] | None = None,
    visits: Sequence[int] | None = None,
) -> bytes:
    """Write the report.

    Parameters
    ----------
    provenance : mapping of int to Provenance, optional
        What made the result of each visit, by its number.
    images : mapping of int to sequence of KeyImage, optional
        By number of the visit; None in place of those that could not be read.
    visits : sequence of int, optional
        Numbers of the visits to report; all where left out.

    Returns
    -------
    bytes
        A PDF; of a patient without visits, one page that says so.
    """
    register()
    words = LANGUAGES[language]
    wanted = [course.visit(number) for number in visits or ()]
    if visits is None:
        wanted = list(course.visits)
    pages = [_Page(course, visit, provenance or {}, words) for visit in wanted]
    if not pages:
        pages = [_Page(course, None, {}, words)]
    story: list[Flowable] = []
    for index, page in enumerate(pages):
        story += [NextPageTemplate(page.name)]
        story += [PageBreak()] if index else []
        if page.visit is None:
            story.append(Paragraph(words.no_visits, _LINE))
            continue
        found = (images or {}).get(page.visit.number, ())
        story += visit_parts(course, page.visit, found, words)
    buffer = io.BytesIO()
    template: Any = BaseDocTemplate(
        buffer,
        pagesize=A4,
        title=words.title,
        author="MetIA",
        subject=words.notice,
        creator=f"MetIA {VERSION}",
        lang=language,
        initialFontName=REGULAR,
        invariant=1,
    )
    template.addPageTemplates([page.template() for page in pages])
    template.build(story, canvasmaker=_numbering(words))
    return buffer.getvalue()


def _numbering(words: Words) -> type[Any]:
    """Make a canvas that knows how many pages there are when it numbers them."""

    class Numbered(Canvas):  # type: ignore[misc]  # reportlab has no types
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._kept: list[dict[str, Any]] = []

        def showPage(self) -> None:
            self._kept.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for kept in self._kept:
                self.__dict__.update(kept)
                text = words.page.format(page=self._pageNumber, pages=len(self._kept))
                self.setFont(REGULAR, 7)
                self.setFillColor(INK)
                self.drawRightString(_WIDTH - _MARGIN, 20, text)
                super().showPage()
            super().save()

    return Numbered


class _Page:
    """What stands above and below the parts of a visit."""

    def __init__(
        self,
        course: CourseContent,
        visit: Visit | None,
        provenance: Mapping[int, Provenance],
        words: Words,
    ) -> None:
        self.visit = visit
        self._course = course
        self._words = words
        self._made_by = provenance.get(visit.number) if visit else None
        self.name = f"visit-{visit.number if visit else 0}"
        self._count = 0

    def template(self) -> PageTemplate:
        frame = Frame(
            _MARGIN,
            _FOOTER,
            WIDTH,
            _HEIGHT - _HEADER - _FOOTER,
            leftPadding=0,
            rightPadding=0,
            topPadding=2,
            bottomPadding=0,
        )
        return PageTemplate(id=self.name, frames=[frame], onPage=self._draw)

    def _draw(self, canvas: Any, _: object) -> None:
        self._count += 1
        canvas.saveState()
        self._draw_head(canvas)
        self._draw_foot(canvas)
        canvas.restoreState()

    def _draw_head(self, canvas: Any) -> None:
        words, top = self._words, _HEIGHT - 34
        canvas.setFillColor(INK)
        canvas.setFont(BOLD, 12)
        canvas.drawString(_MARGIN, top, "MetIA")
        canvas.setFont(REGULAR, 10)
        canvas.drawString(_MARGIN + 44, top, words.title)
        canvas.setFillColor(_NOTICE)
        canvas.setFont(BOLD, 8.5)
        canvas.drawString(_MARGIN, top - 14, words.notice)
        _stamp(canvas, *self._state(), top=top - 12)
        for number, line in enumerate((self._patient_line(), self._visit_line())):
            text = Paragraph(line, _LINE)
            text.wrap(WIDTH, 30)
            text.drawOn(canvas, _MARGIN, top - 36 - 13 * number)
        canvas.setStrokeColor(RULE)
        canvas.setLineWidth(0.8)
        canvas.line(_MARGIN, top - 54, _WIDTH - _MARGIN, top - 54)

    def _state(self) -> tuple[str, Color]:
        words, visit = self._words, self.visit
        signature = visit.signature if visit else None
        if visit is None or signature is None:
            accepted = visit is not None and visit.result_state == "accepted"
            return (words.accepted if accepted else words.unverified), _OPEN
        text = words.stale if signature.stale else words.signed
        when = ""
        if signature.at is not None:
            when = f", {words.moment(signature.at)}"
        elif signature.day is not None:
            when = f", {words.day} {signature.day}"
        by = signature.by + when
        return text.format(by=by), _STALE if signature.stale else _DONE

    def _patient_line(self) -> str:
        words, subject = self._words, self._course.subject
        if not subject.identified:
            return words.strong(words.key, subject.key) + f" ({words.pseudonymous})"
        parts = [words.strong(words.patient, _name(subject, words))]
        if subject.patient_id:
            parts.append(words.strong(words.patient_id, markup(subject.patient_id)))
        if subject.birth_date:
            parts.append(words.strong(words.born, words.day_of(subject.birth_date)))
        if subject.sex:
            parts.append(words.strong(words.sex, markup(subject.sex)))
        return " &nbsp; ".join(parts)

    def _visit_line(self) -> str:
        words, visit = self._words, self.visit
        if visit is None:
            return ""
        when, count = words.no_date, len(self._course.visits)
        if visit.day is not None:
            when = f"{words.day} {visit.day}"
        if visit.date is not None:
            when = f"{words.day_of(visit.date)} ({when})"
        parts = [words.strong(f"{words.visit} {visit.number}/{count}", when)]
        if visit.is_baseline:
            parts.append(f"<b>{words.baseline}</b>")
        if visit.description:
            parts.append(markup(visit.description[:80]))
        if self._count > 1:
            parts.append(f"({words.continued})")
        return " &nbsp; ".join(parts)

    def _draw_foot(self, canvas: Any) -> None:
        canvas.setStrokeColor(RULE)
        canvas.setLineWidth(0.5)
        canvas.line(_MARGIN, _FOOTER - 6, _WIDTH - _MARGIN, _FOOTER - 6)
        text = Paragraph(self._provenance_line(), _FOOT)
        _, height = text.wrap(WIDTH - 80, 30)
        text.drawOn(canvas, _MARGIN, _FOOTER - 9 - height)

    def _provenance_line(self) -> str:
        words, made_by, course = self._words, self._made_by, self._course
        parts = []
        if made_by is not None and made_by.model_name:
            parts.append(
                words.made_with.format(
                    name=markup(made_by.model_name),
                    version=markup(made_by.model_version or ""),
                    sha256=(made_by.model_sha256 or "")[:12],
                )
            )
        if made_by is not None:
            parts += [words.demonstration] if made_by.demonstration else []
            parts += [words.made_by_reader] if made_by.origin == "reader" else []
            parts += [words.imported] if made_by.origin == "import" else []
            parts.append(words.code.format(version=markup(made_by.code_version)))
        else:
            parts.append(words.code.format(version=VERSION))
        name = course.rule_set.upper()
        parts.append(words.rules.format(name=name, version=course.rules_version))
        return " · ".join([*parts, words.notice])


def _stamp(canvas: Any, text: str, colour: Color, *, top: float) -> None:
    """Draw the state in a box at the right, as wide as it has to be."""
    text = _fitting(text)
    width = canvas.stringWidth(text, BOLD, 8) + 14
    left = _WIDTH - _MARGIN - width
    canvas.setFillColor(colour)
    canvas.roundRect(left, top, width, 16, 3, stroke=0, fill=1)
    canvas.setFillColor(white)
    canvas.setFont(BOLD, 8)
    canvas.drawCentredString(left + width / 2, top + 5, text)


def _fitting(text: str, longest: int = 64) -> str:
    """Shorten the name of who signed, should it be very long."""
    return (
        text
        if len(text) <= longest
        else text[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )


def _name(subject: Subject, words: Words) -> str:
    """Give the name in every script that can be printed, and say if one cannot."""
    groups = (subject.name or "").split(" / ")
    kept, left_out = printable(groups)
    text = " / ".join(kept)[:120]
    return markup(text) + (f" {words.name_incomplete}" if left_out else "")
