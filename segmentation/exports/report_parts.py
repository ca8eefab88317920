"""The parts of a report's page: category, reasons, lesion table, curves, key images.

Each function makes the flowables of one part from the course's content; ``report``
puts them onto pages. All texts of people and archives pass ``typeface.markup``, so that
none is read as markup and every character has a font. Lengths on paper in points. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reportlab.platypus import Flowable, KeepTogether, Paragraph, Spacer, Table

from segmentation.exports.chart import Curve, Level, Point, chart, on_paper
from segmentation.exports.content import CourseContent, Observation, Track, Visit
from segmentation.exports.pictures import KeyImage
from segmentation.exports.report_images import key_images
from segmentation.exports.report_styles import (
    BODY,
    BULLET,
    CATEGORY,
    CELL,
    FONT,
    HEAD,
    NUMBER,
    RULE,
    SMALL,
    TITLE,
    WIDTH,
)
from segmentation.exports.report_words import Words
from segmentation.exports.typeface import markup
from segmentation.followup.case import State


def visit_parts(
    course: CourseContent,
    visit: Visit,
    images: Sequence[KeyImage] | None,
    words: Words,
) -> Iterator[Flowable]:
    """Give the parts of a visit's page, from top to bottom.

    Parameters
    ----------
    images : sequence of KeyImage or None
        None where they could not be read, which the page then says.
    """
    yield from _category(visit, words)
    yield from _reasons(course, visit, words)
    yield from _reader_inputs(visit, words)
    yield from _lesion_table(course, visit, words)
    yield KeepTogether(
        [Paragraph(words.over_time, TITLE), _curves(course, visit, words)]
    )
    yield from key_images(images, words)


# -- what holds ------------------------------------------------------------------


def _category(visit: Visit, words: Words) -> Iterator[Flowable]:
    found = visit.assessment
    if found is None:
        why = visit.left_out or ""
        yield Paragraph(f"{words.not_assessed}. {markup(why)}", CATEGORY)
        return
    category = visit.category or found.category
    kind = words.signed_category if visit.signed else words.proposed_category
    text = _category_words(category, words)
    if found.confirmed is not None and category == found.category:
        text += f", {words.confirmed if found.confirmed else words.unconfirmed}"
    if category == "BASELINE" and not visit.signed:  # nothing is proposed by that
        kind, text = words.visit, words.categories[category]
    yield Paragraph(words.named(kind, text), CATEGORY)
    more = []
    if category != found.category:
        proposed = _category_words(found.category, words)
        more.append(words.named(words.proposed_was, proposed))
    if found.best_response:
        best = _category_words(found.best_response, words)
        more.append(words.named(words.best, best))
    if len(found.alternatives) > 1:
        more.append(words.named(words.alternatives, " / ".join(found.alternatives)))
    if found.volumetric and found.volumetric != "baseline":
        more.append(words.named(words.by_volume, words.value(found.volumetric)))
    yield Paragraph(" &nbsp;·&nbsp; ".join([*_sum(visit, words), *more]), BODY)


def _category_words(category: str, words: Words) -> str:
    text = words.categories.get(category, "")
    plain = category.replace("_", "-")
    if category in ("BASELINE", "NOT_APPLICABLE", "INDETERMINATE", "NON_CR_NON_PD"):
        return text or plain
    return f"{plain}, {text}" if text else plain


def _sum(visit: Visit, words: Words) -> Iterator[str]:
    if visit.sum_mm is not None:
        least = "" if visit.sum_complete else f"{words.at_least} "
        size = f"{words.number(visit.sum_mm)} mm"
        yield "<b>" + words.named(words.sum_of_targets, least + size) + "</b>"
    for change, against in (
        (visit.change_from_baseline_percent, words.against_baseline),
        (visit.change_from_nadir_percent, words.against_nadir),
    ):
        if change is not None:
            yield f"{words.percent(change)} {against}"
    yield words.named(words.volume_of_all, words.number(visit.sum_volume_ml, 2) + " ml")


def _reasons(course: CourseContent, visit: Visit, words: Words) -> Iterator[Flowable]:
    signature, found = visit.signature, visit.assessment
    labels = [track.label for track in course.tracks]
    if found is not None and found.reasons:
        yield Spacer(0, 3)
        for reason in found.reasons:
            text = markup(words.reason(reason.code, reason.text, labels))
            yield Paragraph(text, BULLET, bulletText="\N{BULLET}")
    if signature is not None and signature.comment:
        comment = markup(signature.comment)
        yield Paragraph(words.strong(words.comment, comment), BODY)
    if visit.pending_links:
        text = words.pending_links.format(count=visit.pending_links)
        yield Paragraph(f"<b>{text}</b>", BODY)


def _reader_inputs(visit: Visit, words: Words) -> Iterator[Flowable]:
    reading = visit.reading
    steroids = words.value(reading["steroid_use"])
    if reading["steroid_change"] not in (None, "not_recorded"):
        steroids += f" ({words.value(reading['steroid_change'])})"
    if reading["steroid_dose_mg"] is not None:
        steroids += f", {words.number(float(reading['steroid_dose_mg']))} mg"
    parts = [
        words.named(words.steroids, steroids),
        words.named(words.clinical, words.value(reading["clinical"])),
        words.named(words.non_target, words.value(reading["non_target"])),
    ]
    if reading["technique_changed"]:
        parts.append(words.technique_changed)
    yield Paragraph(words.named(words.reader, "; ".join(parts)), SMALL)
    if reading["note"]:
        yield Paragraph(words.named(words.note, markup(reading["note"])), SMALL)


_LEAST_VOLUME_ML = 0.01

# -- lesions ---------------------------------------------------------------------

_WIDTHS = (42.0, 46, 74, 46, 36, 40, 46, 44, 46, 46, 57)


def _lesion_table(
    course: CourseContent, visit: Visit, words: Words
) -> Iterator[Flowable]:
    rows = [
        _row(course, track, one, visit, words)
        for track in course.tracks
        if (one := track.at(visit.number)) is not None
        and (track.first_visit or visit.number + 1) <= visit.number
    ]
    yield Paragraph(words.lesions, TITLE)
    if not rows:
        yield Paragraph(words.no_lesions, BODY)
        return
    units = ("", "", "", "mm", "mm", "ml", "mm", "mm", "mm", "%", "")
    head = [
        Paragraph(
            f"<b>{name}</b>" + (f"<br/>{unit}" if unit else ""),
            NUMBER if unit else CELL,
        )
        for name, unit in zip(words.columns, units, strict=True)
    ]
    widths = [width * WIDTH / sum(_WIDTHS) for width in _WIDTHS]
    table = Table([head, *rows], colWidths=widths, repeatRows=1)
    table.setStyle(
        [
            FONT,
            ("BACKGROUND", (0, 0), (-1, 0), HEAD),
            ("LINEBELOW", (0, 0), (-1, -1), 0.4, RULE),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
            ("LEFTPADDING", (0, 0), (-1, -1), 3),
            ("RIGHTPADDING", (0, 0), (-1, -1), 3),
            ("TOPPADDING", (0, 0), (-1, -1), 1.5),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
        ]
    )
    yield table


def _row(
    course: CourseContent, track: Track, one: Observation, visit: Visit, words: Words
) -> list[Flowable]:
    before = _before(track, visit.number)
    reference = _reference(course, track, visit)
    numbers = (
        _length(one, words),
        _number(one.perpendicular_diameter_mm, words),
        _volume(one, words),
        _length(before, words) if before else "",
        "" if one.change_mm is None else words.number(one.change_mm, sign=True),
        _length(reference, words) if reference else "",
        ""
        if one.change_percent is None or visit.is_baseline
        else words.number(one.change_percent, sign=True),
    )
    return [
        Paragraph(f"{_swatch(track)} <b>{markup(track.label)}</b>", CELL),
        Paragraph(words.roles.get(track.role or "", words.new), CELL),
        Paragraph(_state(one, words), CELL),
        *(Paragraph(text, NUMBER) for text in numbers),
        Paragraph(words.value(one.review) if one.review else "", CELL),
    ]


def _swatch(track: Track) -> str:
    colour = on_paper(track.colour)
    return f'<font color="{colour.hexval().replace("0x", "#")}">\N{BLACK SQUARE}</font>'


def _state(one: Observation, words: Words) -> str:
    parts = [words.states[one.state]]
    if one.state == State.NOT_ASSESSED and one.reason:
        parts.append(words.value(one.reason))
    if one.state == State.MEASURED and one.measurable is False:
        parts.append(words.not_measurable)
    if one.certainty:
        parts.append(words.certainties[one.certainty])
    if one.link_state == "pending":
        parts.append(f"<b>{words.pending}</b>")
    return ", ".join(part for part in parts if part)


def _length(one: Observation, words: Words) -> str:
    if one.state == State.ABSENT:
        return words.number(0.0)
    return _number(one.longest_diameter_mm, words)


def _volume(one: Observation, words: Words) -> str:
    if one.volume_ml is not None and 0 < one.volume_ml < _LEAST_VOLUME_ML:
        return f"&lt; {words.number(_LEAST_VOLUME_ML, 2)}"
    return _number(one.volume_ml, words, 2)


def _number(value: float | None, words: Words, digits: int = 1) -> str:
    return "" if value is None else words.number(value, digits)


def _before(track: Track, visit: int) -> Observation | None:
    """Give the last visit before that has a value."""
    earlier = [
        one
        for one in track.observations
        if one.visit < visit
        and (one.longest_diameter_mm is not None or one.state == State.ABSENT)
    ]
    first = track.first_visit
    return earlier[-1] if earlier and first is not None and first < visit else None


def _reference(course: CourseContent, track: Track, visit: Visit) -> Observation | None:
    number = baseline_number(course, visit)
    if number is None or number >= visit.number:
        return None
    one = track.at(number)
    return one if one and one.longest_diameter_mm is not None else None


def baseline_number(course: CourseContent, visit: Visit) -> int | None:
    """Give the number of the baseline that a visit is compared with."""
    numbers = [
        one.number
        for one in course.visits
        if one.is_baseline and one.number <= visit.number
    ]
    return numbers[-1] if numbers else None


# -- curves ----------------------------------------------------------------------


def _curves(course: CourseContent, visit: Visit, words: Words) -> Table:
    sums = Curve("", (40, 60, 90), tuple(_sum_point(one) for one in course.visits))
    size = (WIDTH / 2 - 6, 132.0)
    left = chart(
        words.sum_chart,
        words.days_axis,
        [sums],
        levels=_levels(course, visit, words),
        marked_day=visit.day,
        size=size,
    )
    right = chart(
        words.lesion_chart,
        words.days_axis,
        [_track_curve(course, track) for track in course.tracks],
        marked_day=visit.day,
        size=size,
    )
    table = Table([[left, right]], colWidths=[WIDTH / 2, WIDTH / 2])
    table.setStyle([FONT, ("LEFTPADDING", (0, 0), (-1, -1), 0)])
    return table


def _sum_point(visit: Visit) -> Point | None:
    if visit.day is None or visit.sum_mm is None or visit.left_out:
        return None
    return Point(visit.day, visit.sum_mm, open_mark=not visit.sum_complete)


def _levels(course: CourseContent, visit: Visit, words: Words) -> list[Level]:
    """Give the limits that held for a visit: of its baseline and of the nadir then."""
    start = baseline_number(course, visit)
    if start is None:
        return []
    sums = [
        one.sum_mm
        for one in course.visits[start - 1 : max(visit.number - 1, start)]
        if one.sum_mm is not None and one.sum_complete and not one.left_out
    ]
    baseline = course.visit(start).sum_mm
    levels = []
    if baseline:
        levels.append(Level(words.response_line, 0.7 * baseline, False))
    if sums and min(sums) > 0:
        levels.append(Level(words.progression_line, 1.2 * min(sums), True))
    return levels


def _track_curve(course: CourseContent, track: Track) -> Curve:
    points: list[Point | None] = []
    for visit in course.visits:
        one, day = track.at(visit.number), visit.day
        if one is None or day is None:
            continue
        value = 0.0 if one.state == State.ABSENT else one.longest_diameter_mm
        early = visit.number < (track.first_visit or 0)
        points.append(None if value is None or early else Point(day, value))
    return Curve(track.label, track.colour, tuple(points))
