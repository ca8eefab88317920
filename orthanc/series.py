"""Choice of the post-gadolinium T1 of the head among the series of a study.

``rank_series`` scores every series and says why. Pure, deterministic, and total: no
header, however odd, makes it raise. Reasons are made of fixed codes
(``REASONS``), never of text from a header, which may hold a
name; only ``SeriesCandidate.description`` is such text, and it is for the screen, not
for logs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orthanc.archive import SeriesHeader
from orthanc.classification import SequenceClass, classify
from orthanc.headers import read_facts

REASONS: dict[str, tuple[float, str]] = {
    # code: (effect on the score, text)
    "t1": (40.0, "the description names a T1"),
    "t1-by-parameters": (25.0, "the sequence parameters are those of a T1"),
    "contrast-named": (40.0, "the description names contrast agent"),
    "contrast-implied": (30.0, "the description says it was taken after injection"),
    "contrast-tag": (15.0, "the contrast fields are filled"),
    "head-named": (10.0, "the head is named"),
    "three-dimensional": (10.0, "a 3-D acquisition"),
    "thin-slices": (10.0, "thin slices"),
    "thick-slices": (-10.0, "thick slices"),
    "many-slices": (5.0, "many slices"),
    "few-slices": (-20.0, "few slices"),
    "partial-coverage": (-20.0, "covers only a part of the head"),
    "part-of-head": (-15.0, "a region of the head is named"),
    "body-part-conflict": (-5.0, "the description and the body part disagree"),
    "processed": (-15.0, "filtered or corrected after acquisition"),
    "dixon-phase": (-5.0, "an in-phase or opposed-phase image"),
    "only-after-tag": (-5.0, "only the contrast fields speak of contrast agent"),
    # what makes a series unsuitable: -30 and worse
    "not-mr": (-100.0, "not MR"),
    "not-an-image": (-100.0, "not an MR image object"),
    "colour": (-100.0, "in colour"),
    "localizer": (-80.0, "a localizer"),
    "screenshot": (-90.0, "a screen capture"),
    "subtraction": (-70.0, "a subtraction"),
    "spectroscopy": (-80.0, "spectroscopy"),
    "perfusion": (-80.0, "perfusion"),
    "diffusion": (-80.0, "diffusion"),
    "functional": (-80.0, "functional (echo planar)"),
    "angiography": (-80.0, "angiography"),
    "fieldmap": (-80.0, "a field map or calibration"),
    "map": (-80.0, "a computed map or special technique"),
    "t2star": (-70.0, "T2* or susceptibility"),
    "flair": (-60.0, "FLAIR"),
    "stir": (-60.0, "an inversion recovery other than T1"),
    "t2": (-60.0, "T2"),
    "pd": (-60.0, "proton density"),
    "dixon-fat": (-60.0, "the fat image of a Dixon acquisition"),
    "phase": (-80.0, "phase or other non-magnitude images"),
    "unknown-kind": (-30.0, "the kind of sequence is not recognisable"),
    "no-contrast": (-30.0, "T1 without sign of contrast agent"),
    "before-contrast": (-40.0, "T1 said to be without contrast agent"),
    "not-head": (-80.0, "another part of the body is named"),
    "too-few-slices": (-60.0, "too few slices to be a volume"),
    "reformat": (-30.0, "a reformat or projection of another series"),
    "derived": (-30.0, "derived from other images"),
    "contrast-sibling": (-10.0, "another T1 of this study was taken after contrast"),
}
"""Every reason code with its effect and text; codes are stable, texts may change."""

UNSUITABLE = frozenset(code for code, (effect, _) in REASONS.items() if effect <= -30.0)
"""The reasons any one of which makes a series unsuitable without a person's choice."""


@dataclass(frozen=True)
class Reason:
    """One reason for or against a series.

    Attributes
    ----------
    code : str
        A key of ``REASONS``; the viewer translates by it.
    effect : float
        What it adds to the score.
    text : str
        English, free of patient data.
    """

    code: str
    effect: float
    text: str


@dataclass(frozen=True)
class SeriesCandidate:
    """One series of the study, judged.

    Attributes
    ----------
    description : str
        Series description as stored: free text, for the screen only.
    instance_count : int
        Instances the archive lists.
    score : float
        Sum of the effects of `reasons`.
    suitable : bool
        Whether the service may choose it by itself.
    """

    series_uid: str
    series_number: int | None
    description: str
    modality: str
    instance_count: int
    score: float
    suitable: bool
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class SeriesRanking:
    """Every series of a study, best first."""

    candidates: tuple[SeriesCandidate, ...]

    @property
    def chosen(self) -> SeriesCandidate | None:
        """The series to use, or None where none is suitable."""
        first = next(iter(self.candidates), None)
        return first if first is not None and first.suitable else None

    def refusal_detail(self) -> str:
        """Say in plain words, free of patient data, what was found instead."""
        if not self.candidates:
            return "The study has no series."
        kinds = Counter(_kind_phrase(candidate) for candidate in self.candidates)
        found = ", ".join(
            f"{count} {phrase}"
            for phrase, count in sorted(kinds.items(), key=lambda kv: (-kv[1], kv[0]))
        )
        detail = f"No post-contrast T1 of the head among {len(self.candidates)} series"
        detail += f": {found}."
        if any("T1" in phrase for phrase in kinds):
            detail += " Choose a T1 by hand if you know that contrast agent was given."
        return detail


def rank_series(headers: Sequence[SeriesHeader]) -> SeriesRanking:
    """Rank the series of a study for "post-gadolinium T1 of the head".

    Parameters
    ----------
    headers : sequence of SeriesHeader
        Every series of the study, in any order.

    Returns
    -------
    SeriesRanking
        Suitable series first, then by score, series number and UID.
    """
    judged = [(header, classify(header.sample, header.instance_count))
              for header in headers]  # fmt: skip
    contrast_found = any(
        verdict.kind == "t1" and verdict.contrast for _, verdict in judged
    )
    candidates = [
        _candidate(header, _beside_siblings(verdict, contrast_found))
        for header, verdict in judged
    ]
    return SeriesRanking(tuple(sorted(candidates, key=_order)))


def _beside_siblings(verdict: SequenceClass, contrast_found: bool) -> SequenceClass:
    """Say of a T1 without contrast that the study holds one with contrast."""
    plain_t1 = {"no-contrast", "before-contrast"}.intersection(verdict.codes)
    if plain_t1 and contrast_found:
        return replace(verdict, codes=(*verdict.codes, "contrast-sibling"))
    return verdict


def _candidate(header: SeriesHeader, verdict: SequenceClass) -> SeriesCandidate:
    facts = read_facts(header.sample)
    reasons = tuple(Reason(code, *REASONS[code]) for code in verdict.codes)
    return SeriesCandidate(
        series_uid=header.series_uid,
        series_number=facts.series_number,
        description=facts.series_description,
        modality=facts.modality,
        instance_count=header.instance_count,
        score=sum(reason.effect for reason in reasons),
        suitable=not UNSUITABLE.intersection(verdict.codes),
        reasons=reasons,
    )


def _order(candidate: SeriesCandidate) -> tuple[bool, float, float, str]:
    number = candidate.series_number
    return (
        not candidate.suitable,
        -candidate.score,
        float("inf") if number is None else float(number),
        candidate.series_uid,
    )


_PHRASES = {
    "not-mr": "not MR",
    "not-an-image": "other object",
    "no-contrast": "T1 without sign of contrast",
    "before-contrast": "T1 without contrast",
    "not-head": "series of another part of the body",
    "unknown-kind": "unrecognised sequence",
    "too-few-slices": "series with too few slices",
    "functional": "functional",
    "map": "map",
    "fieldmap": "field map",
    "phase": "phase image",
    "screenshot": "screen capture",
    "t2": "T2",
    "t2star": "T2*",
    "flair": "FLAIR",
    "stir": "STIR",
    "pd": "PD",
    "derived": "derived series",
}


def _kind_phrase(candidate: SeriesCandidate) -> str:
    codes = {reason.code for reason in candidate.reasons}
    code = next((code for code in REASONS if code in codes & UNSUITABLE), "suitable")
    return _PHRASES.get(code, code)
