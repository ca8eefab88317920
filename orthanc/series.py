"""Choice of the post-gadolinium T1 of the head among the series of a study.

``rank_series`` scores every series and says why; ``classify`` looks at one header
alone. Pure, deterministic, and total: no header, however odd, makes them raise.
Reasons are made of fixed codes (``REASONS``) and numbers, never of text from a header,
which may hold a name; only ``SeriesCandidate.description`` is such text, and it is for
the screen, not for logs. Lengths in mm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from orthanc.archive import SeriesHeader
from orthanc.headers import SequenceFacts, read_facts
from orthanc.wording import Wording, read_wording

MR_IMAGE_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.4",  # MR Image Storage
        "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image Storage
        "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image Storage
    }
)
MINIMUM_SLICES = 3
"""Fewest slices from which a gap can be noticed at all."""
WHOLE_HEAD_MM = 90.0
"""Less coverage than this is not a whole head."""

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


@dataclass(frozen=True)
class SequenceClass:
    """What one header alone says about its series.

    Attributes
    ----------
    kind : str or None
        ``t1`` or another key of ``wording.KIND_WORDS``; None where not recognisable.
    contrast : bool or None
        Whether contrast agent was given; None where nothing says so.
    head : bool or None
        True: named; False: another part of the body is named; None: silent.
    codes : tuple of str
        The reasons, keys of ``REASONS``.
    """

    kind: str | None
    contrast: bool | None
    head: bool | None
    codes: tuple[str, ...]


def classify(header: Dataset, instance_count: int = 1) -> SequenceClass:
    """Judge one series by the header of one of its instances.

    Parameters
    ----------
    header : pydicom.Dataset
        Any instance of the series.
    instance_count : int
        How many instances the series has.

    Returns
    -------
    SequenceClass
        Kind, contrast, body part and all reasons.
    """
    facts = read_facts(header)
    words = [
        read_wording(facts.series_description),
        read_wording(facts.protocol_name),
    ]
    kind, kind_code = _kind(facts, words)
    contrast, contrast_codes = _contrast(facts, words, kind)
    head, head_codes = _body(facts, words)
    codes = [
        *_object_codes(facts),
        *([kind_code] if kind_code else []),
        *contrast_codes,
        *head_codes,
        *_origin_codes(facts, words),
        *_extent_codes(facts, instance_count),
    ]
    return SequenceClass(kind, contrast, head, tuple(dict.fromkeys(codes)))


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


def _kind(facts: SequenceFacts, words: list[Wording]) -> tuple[str | None, str | None]:
    """Return the kind of sequence and its reason code: words first, then physics."""
    by_parameters = _kind_by_parameters(facts)
    named = next((said.kind for said in words if said.kind), None)
    if named == "t1":
        if by_parameters in {"t2", "flair", "t2star", "functional", "diffusion"}:
            return by_parameters, by_parameters
        return "t1", "t1"
    if named:
        return named, named
    if by_parameters == "t1":
        return "t1", "t1-by-parameters"
    return by_parameters, by_parameters or "unknown-kind"


def _kind_by_parameters(facts: SequenceFacts) -> str | None:
    """Guess the kind from the sequence itself; None where it is not clear."""
    stated = {
        "T1": "t1",
        "T2": "t2",
        "T2_STAR": "t2star",
        "FLUID_ATTENUATED": "flair",
        "DIFFUSION": "diffusion",
        "PERFUSION": "perfusion",
        "PROTON_DENSITY": "pd",
        "STIR": "stir",
    }.get(facts.acquisition_contrast)
    if stated:
        return stated
    name = facts.sequence_name.lower().lstrip("*")
    if facts.echo_planar or name.startswith(("ep", "ep_")):
        return "functional"
    echo, repetition = facts.echo_time_ms, facts.repetition_time_ms
    inversion = facts.inversion_time_ms or 0.0
    if echo is None or repetition is None:
        return None
    if "GR" in facts.scanning_sequence:
        return _gradient_echo_kind(facts, echo, repetition, inversion)
    if not facts.scanning_sequence & {"SE", "IR"}:
        return None
    if echo > 60:
        return "flair" if inversion >= 1500 else "t2"
    if echo <= 40 and (repetition <= 1300 or 400 <= inversion <= 1300):
        return "t1"
    return "pd" if repetition > 1800 and not inversion else None


def _gradient_echo_kind(
    facts: SequenceFacts, echo: float, repetition: float, inversion: float
) -> str | None:
    if echo > 12 or any(part.startswith("SW") for part in facts.image_type):
        return "t2star"
    spoiled = bool(facts.sequence_variant & {"SP", "MP"})
    if 0 < echo <= 12 and (400 <= inversion <= 1400 or (spoiled and repetition < 400)):
        return "t1"
    return None


def _contrast(
    facts: SequenceFacts, words: list[Wording], kind: str | None
) -> tuple[bool | None, list[str]]:
    said = next((word for word in words if word.contrast is not None), None)
    codes: list[str] = []
    contrast: bool | None = None
    if said is not None and said.contrast:
        contrast = True
        codes.append("contrast-named" if said.strong_contrast else "contrast-implied")
        if facts.contrast_tag:
            codes.append("contrast-tag")
    elif said is not None:
        contrast = False
    elif facts.contrast_tag:
        contrast = True
        codes += ["contrast-tag", "only-after-tag"]
    if kind == "t1" and not contrast:
        codes.append("no-contrast" if contrast is None else "before-contrast")
    return contrast, codes


def _body(facts: SequenceFacts, words: list[Wording]) -> tuple[bool | None, list[str]]:
    """Judge the part of the body: series words, then the tag, then the study words."""
    tag = read_wording(facts.body_part)
    study = read_wording(facts.study_description)
    codes: list[str] = []
    if any(word.part_of_head for word in (*words, tag)):
        codes.append("part-of-head")
    for said in (*words, tag, study):
        if said.head:
            conflict = said is not tag and tag.other_body and not tag.head
            return True, [*codes, "head-named",
                          *(["body-part-conflict"] if conflict else [])]  # fmt: skip
        if said.other_body:
            return False, [*codes, "not-head"]
    return None, codes


def _object_codes(facts: SequenceFacts) -> list[str]:
    if facts.modality != "MR":
        return ["not-mr"]
    codes = []
    if facts.sop_class_uid and facts.sop_class_uid not in MR_IMAGE_CLASSES:
        codes.append("not-an-image")
    colour = facts.photometric and not facts.photometric.startswith("MONOCHROME")
    if colour or (facts.samples_per_pixel or 1) > 1:
        codes.append("colour")
    return codes


def _origin_codes(facts: SequenceFacts, words: list[Wording]) -> list[str]:
    kinds = facts.image_type
    codes = []
    if kinds & {"LOCALIZER", "SCOUT"}:
        codes.append("localizer")
    if kinds & {"SUBTRACT", "SUBTRACTION", "SUB"}:
        codes.append("subtraction")
    if kinds & {"P", "PHASE", "PHASE MAP", "R", "I", "REAL", "IMAGINARY"}:
        codes.append("phase")
    if kinds & {"ADC", "TRACEW", "FA", "DIFFUSION"}:
        codes.append("diffusion")
    if kinds & {"FMRI", "MOSAIC"}:
        codes.append("functional")
    projected = kinds & {"MPR", "REFORMATTED", "PROJECTION IMAGE", "MIP", "MIN_IP",
                         "MINIP", "MAX_IP", "VOLREN", "CSA MPR"}  # fmt: skip
    if projected or any(word.reformat for word in words):
        codes.append("reformat")
    elif "SECONDARY" in kinds or ("DERIVED" in kinds and "PRIMARY" not in kinds):
        codes.append("derived")
    elif "DERIVED" in kinds:
        codes.append("processed")
    return codes


def _extent_codes(facts: SequenceFacts, instance_count: int) -> list[str]:
    slices = max(0, instance_count) * facts.frame_count
    codes = []
    if facts.acquisition_type == "3D":
        codes.append("three-dimensional")
    if slices < MINIMUM_SLICES:
        return [*codes, "too-few-slices"]
    if slices < 10:
        codes.append("few-slices")
    elif slices >= 100:
        codes.append("many-slices")
    thickness = facts.slice_thickness_mm or facts.slice_distance_mm
    distance = facts.slice_distance_mm or facts.slice_thickness_mm
    if thickness and 0 < thickness <= 2.0:
        codes.append("thin-slices")
    elif thickness and thickness > 5.0:
        codes.append("thick-slices")
    if distance and slices * abs(distance) < WHOLE_HEAD_MM:
        codes.append("partial-coverage")
    return codes


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
