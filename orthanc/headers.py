"""Tolerant reading of what a DICOM header says about its sequence.

For choosing among series only: a missing, empty, multi-valued or broken value is read
as "not said" and never raises. Looks through the functional groups of Enhanced
multi-frame objects. What a volume is built from is read strictly, in
``orthanc.frames``. Pure; times in ms, lengths in mm.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException

NO_AGENT = frozenset({"", "no", "none", "n", "non", "nein", "0", "na", "n/a", "false",
                      "sans", "ohne", "without", "unknown", "nil", "-"})  # fmt: skip

_CONTRAST_TAGS = (
    "ContrastBolusAgent",
    "ContrastBolusIngredient",
    "ContrastBolusStartTime",
    "ContrastBolusVolume",
    "ContrastBolusTotalDose",
    "ContrastFlowRate",
)


@dataclass(frozen=True)
class SequenceFacts:
    """What one header says about the series it is of (None or empty: not said)."""

    modality: str
    sop_class_uid: str
    image_type: frozenset[str]
    scanning_sequence: frozenset[str]
    sequence_variant: frozenset[str]
    sequence_name: str
    acquisition_contrast: str
    acquisition_type: str
    echo_time_ms: float | None
    repetition_time_ms: float | None
    inversion_time_ms: float | None
    slice_thickness_mm: float | None
    slice_distance_mm: float | None
    frame_count: int
    echo_planar: bool
    photometric: str
    samples_per_pixel: int | None
    body_part: str
    series_description: str
    protocol_name: str
    study_description: str
    series_number: int | None
    contrast_tag: bool | None


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the header itself, then the items of its first functional groups."""
    yield dataset
    for keyword in (
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
    ):
        first = _first_item(dataset, keyword)
        if not isinstance(first, Dataset):
            continue
        for tag in list(first.keys()):
            item = _first_item(first, tag)
            if isinstance(item, Dataset):
                yield item


_UNREADABLE = (
    ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError,
    NotImplementedError, struct.error, BytesLengthException,
)  # fmt: skip
"""What pydicom raises, on access, for values that are not what their VR says."""


def _first_item(dataset: Dataset, tag: Any) -> Any:
    return attempt(lambda: dataset[tag].value[0])


def attempt(read: Callable[[], Any]) -> Any:
    """Return what `read` gives, or None where a value cannot be made sense of."""
    try:
        return read()
    except _UNREADABLE:
        return None


def _value(dataset: Dataset, keyword: str) -> Any:
    return attempt(lambda: dataset.get(keyword))


def texts(value: Any) -> list[str]:
    """Return the non-empty texts of a value, single or multiple."""
    if value is None:
        return []
    if isinstance(value, bytes):
        return [value.decode("ascii", "replace").strip()]
    if isinstance(value, str):
        parts = value.split("\\")
    else:
        try:
            parts = [str(part) for part in value]
        except TypeError:
            parts = [str(value)]
    return [part.strip("\0 ") for part in parts if part and part.strip("\0 ")]


def number(value: Any) -> float | None:
    """Return the first finite number of a value."""
    for text in texts(value):
        try:
            result = float(text)
        except ValueError:
            continue
        if math.isfinite(result):
            return result
    return None


def _whole(value: Any) -> int | None:
    result = number(value)
    return int(result) if result is not None and abs(result) < 2**53 else None


def _contrast_tag(items: list[Dataset]) -> bool | None:
    """Return whether the contrast tags say that agent was given (None: silent)."""
    said: bool | None = None
    for item in items:
        if attempt(lambda item=item: len(item["ContrastBolusAgentSequence"].value)):  # type: ignore[misc]
            return True
        for keyword in _CONTRAST_TAGS:
            for text in texts(_value(item, keyword)):
                absent = text.casefold() in NO_AGENT or number(text) == 0.0
                if not absent:
                    return True
                said = False
    return said


def read_facts(dataset: Dataset) -> SequenceFacts:
    """Read a header, broken or not.

    Parameters
    ----------
    dataset : pydicom.Dataset
        Header of one instance.

    Returns
    -------
    SequenceFacts
        What it says.
    """
    items = list(_items(dataset))

    def first(*keywords: str) -> Any:
        for keyword in keywords:
            for item in items:
                value = _value(item, keyword)
                if texts(value):
                    return value
        return None

    def text(*keywords: str) -> str:
        return " ".join(texts(first(*keywords)))

    def words(*keywords: str) -> frozenset[str]:
        return frozenset(part.upper() for part in texts(first(*keywords)))

    image_type = words("ImageType") | words("FrameType")
    sequence = words("ScanningSequence")
    return SequenceFacts(
        modality=text("Modality").upper(),
        sop_class_uid=text("SOPClassUID"),
        image_type=image_type,
        scanning_sequence=sequence | _enhanced_sequence(text("EchoPulseSequence")),
        sequence_variant=words("SequenceVariant"),
        sequence_name=text("SequenceName", "PulseSequenceName"),
        acquisition_contrast=text("AcquisitionContrast").upper(),
        acquisition_type=text("MRAcquisitionType").upper(),
        echo_time_ms=number(first("EchoTime", "EffectiveEchoTime")),
        repetition_time_ms=number(first("RepetitionTime")),
        inversion_time_ms=number(first("InversionTime", "InversionTimes")),
        slice_thickness_mm=number(first("SliceThickness")),
        slice_distance_mm=number(first("SpacingBetweenSlices")),
        frame_count=max(1, _whole(first("NumberOfFrames")) or 1),
        echo_planar="EP" in sequence or text("EchoPlanarPulseSequence") == "YES",
        photometric=text("PhotometricInterpretation").upper(),
        samples_per_pixel=_whole(first("SamplesPerPixel")),
        body_part=text("BodyPartExamined"),
        series_description=text("SeriesDescription"),
        protocol_name=text("ProtocolName"),
        study_description=text("StudyDescription", "RequestedProcedureDescription"),
        series_number=_whole(first("SeriesNumber")),
        contrast_tag=_contrast_tag(items),
    )


def _enhanced_sequence(echo_pulse_sequence: str) -> frozenset[str]:
    """Translate Echo Pulse Sequence (0018,9008) into Scanning Sequence terms."""
    return {
        "GRADIENT": frozenset({"GR"}),
        "SPIN": frozenset({"SE"}),
        "BOTH": frozenset({"SE", "GR"}),
    }.get(echo_pulse_sequence.upper(), frozenset())
