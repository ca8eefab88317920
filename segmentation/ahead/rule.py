"""Which studies are segmented without a press: the rule, and what it says of a study.

The rule narrows what the service would choose by itself: a study without a suitable
series never matches, whatever the settings allow. Patterns are shell wildcards (``*``
and ``?``), compared without regard to case; a list that is empty allows everything.
Pure; verdicts are fixed codes, never text of a header.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Literal

from orthanc.archive import SeriesHeader
from orthanc.headers import attempt, read_facts, texts
from orthanc.series import SeriesCandidate, rank_series
from settings import Settings

Refusal = Literal[
    "no-suitable-series",
    "modality",
    "description",
    "body-part",
    "station",
    "age",
    "sender",
]

_TOMORROW = timedelta(days=1)
"""How far ahead of ours the clock of a scanner may be."""


@dataclass(frozen=True)
class Rule:
    """What a study must be like.

    Attributes
    ----------
    descriptions, body_parts, stations, senders : tuple of str
        Patterns, one of which must match: any description of study, series or
        protocol; the body part; the scanner's station name; the AE title that sent it.
    modalities : tuple of str
    max_age_days : int
        Since the study date; 0 is any age.
    """

    modalities: tuple[str, ...] = ("MR",)
    descriptions: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    stations: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    max_age_days: int = 7

    @classmethod
    def from_settings(cls, settings: Settings) -> Rule:
        """Read the rule of this installation."""
        return cls(
            modalities=settings.zero_click_modalities,
            descriptions=settings.zero_click_descriptions,
            body_parts=settings.zero_click_body_parts,
            stations=settings.zero_click_stations,
            senders=settings.zero_click_senders,
            max_age_days=settings.zero_click_max_age_days,
        )


def judge(
    rule: Rule,
    headers: Sequence[SeriesHeader],
    sender_of: Callable[[str], str],
    today: date,
) -> SeriesCandidate | Refusal:
    """Tell which series of a study to segment, or why none.

    Parameters
    ----------
    rule : Rule
    headers : sequence of SeriesHeader
        Every series of the study.
    sender_of : Callable
        Gives the AE title that sent a series; asked only where the rule wants it.
    today : date
    """
    chosen = rank_series(headers).chosen
    if chosen is None:
        return "no-suitable-series"
    (header,) = [one for one in headers if one.series_uid == chosen.series_uid]
    facts = read_facts(header.sample)
    described = (facts.study_description, facts.series_description, facts.protocol_name)
    station = " ".join(texts(attempt(lambda: header.sample.get("StationName"))))
    checks: tuple[tuple[Refusal, Sequence[str], Iterable[str]], ...] = (
        ("modality", rule.modalities, (facts.modality,)),
        ("description", rule.descriptions, described),
        ("body-part", rule.body_parts, (facts.body_part,)),
        ("station", rule.stations, (station,)),
    )
    for refusal, patterns, values in checks:
        if patterns and not _matches(patterns, values):
            return refusal
    if rule.max_age_days and not _is_recent(header, today, rule.max_age_days):
        return "age"
    if rule.senders and not _matches(rule.senders, [sender_of(chosen.series_uid)]):
        return "sender"
    return chosen


def _matches(patterns: Iterable[str], values: Iterable[str]) -> bool:
    folded = [value.casefold().strip() for value in values]
    return any(
        fnmatchcase(value, pattern.casefold())
        for pattern in patterns
        for value in folded
    )


def _is_recent(header: SeriesHeader, today: date, days: int) -> bool:
    stated = texts(attempt(lambda: header.sample.get("StudyDate")))
    try:
        taken = datetime.strptime(stated[0], "%Y%m%d").date()
    except (IndexError, ValueError):
        return False  # nothing says that it is new
    return today - timedelta(days=days) <= taken <= today + _TOMORROW
