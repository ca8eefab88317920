"""What one header says about its series: kind, contrast, body part, extent.

``classify`` judges a header by itself; ``orthanc.series`` ranks a whole study by it and
``orthanc.volume`` refuses by it. Pure and total: no header makes it raise. The codes it
gives are keys of ``orthanc.series.REASONS``. Lengths in mm, times in ms.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from orthanc.geometry import MINIMUM_SLICES
from orthanc.headers import SequenceFacts, read_facts
from orthanc.wording import Wording, read_wording

MR_IMAGE_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.4",  # MR Image Storage
        "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image Storage
        "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image Storage
    }
)
_DIXON_PHASES = frozenset(
    {"IN_PHASE", "OPP_PHASE", "OUT_PHASE", "OUT_OF_PHASE", "IP", "OP"}
)
WHOLE_HEAD_MM = 90.0
"""Less coverage than this is not a whole head."""


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
    parts = {word.dixon_part for word in words}
    if kinds & {"FAT", "F", "FAT_FRACTION", "FF"} or "fat" in parts:
        codes.append("dixon-fat")
    elif kinds & _DIXON_PHASES or "phase" in parts:
        codes.append("dixon-phase")
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
