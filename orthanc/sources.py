"""Copies of the source headers that derived objects can be made from.

What highdicom copies into a SEG or SR comes from here: no pixel data, texts already
decoded and declared as UTF-8 (so that Japanese, Greek or undeclared character sets do
no harm), missing Type 2 attributes present and empty, unreadable dates blank,
unreadable numbers absent, and positions exactly on the grid of the volume, so that
every frame finds its source image.
The instances given are not changed. Pure.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Sequence
from typing import Any

from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM, format_number_as_ds

from orthanc.dicomweb import is_uid
from orthanc.frames import Frame, is_multiframe
from orthanc.geometry import FloatArray, Grid, regular_positions
from orthanc.headers import attempt, number, texts


def _keywords(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# patient, study, series, equipment, frame of reference
_SERIES_KEYWORDS = _keywords(
    "PatientName PatientID IssuerOfPatientID PatientBirthDate PatientBirthTime "
    "PatientSex PatientAge PatientSize PatientWeight OtherPatientIDs EthnicGroup "
    "PatientComments PatientIdentityRemoved DeidentificationMethod "
    "PregnancyStatus PatientSpeciesDescription StudyInstanceUID StudyDate "
    "StudyTime StudyID StudyDescription AccessionNumber ReferringPhysicianName "
    "Modality SeriesInstanceUID SeriesNumber SeriesDescription ProtocolName "
    "SeriesDate SeriesTime BodyPartExamined PatientPosition Laterality "
    "Manufacturer ManufacturerModelName DeviceSerialNumber SoftwareVersions "
    "InstitutionName StationName FrameOfReferenceUID PositionReferenceIndicator "
)
# alike in all images of a volume
_FORMAT_KEYWORDS = _keywords(
    "SOPClassUID ImageType SliceThickness SpacingBetweenSlices Rows Columns "
    "NumberOfFrames SamplesPerPixel PhotometricInterpretation BitsAllocated "
    "BitsStored HighBit PixelRepresentation LossyImageCompression "
    "LossyImageCompressionRatio LossyImageCompressionMethod"
)
_IMAGE_KEYWORDS = ("SOPInstanceUID", "InstanceNumber")
_REQUIRED_EMPTY = _keywords(
    "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime "
    "StudyID AccessionNumber ReferringPhysicianName "
)
_TEXTS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_DATES = ("PatientBirthDate", "StudyDate", "SeriesDate")
_LENGTHS = ("SliceThickness", "SpacingBetweenSlices", "LossyImageCompressionRatio")
_INTEGER_STRING_LIMIT = 2**31
_TIMES = ("PatientBirthTime", "StudyTime", "SeriesTime")


def source_copies(
    instances: Sequence[Dataset], frames: Sequence[Frame], grid: Grid
) -> tuple[Dataset, ...]:
    """Make the copies.

    Parameters
    ----------
    instances : sequence of pydicom.Dataset
        As read.
    frames : sequence of Frame
        Of `instances`; all of one size, orientation and spacing.
    grid : Grid
        Fitted through them.

    Returns
    -------
    tuple of pydicom.Dataset
        One a slice in the order of axis 0, or the one multi-frame object.
    """
    first = instances[frames[grid.order[0]].instance]
    shared = _series_part(first)
    positions = regular_positions(grid, len(grid.order))
    if is_multiframe(first):
        return (_multiframe_copy(first, shared, frames, grid),)
    shared.ImageOrientationPatient = _decimal(grid.direction.T[[2, 1]].ravel())
    shared.PixelSpacing = _decimal(grid.spacing_mm[1:])
    copies = []
    for index, position in zip(grid.order, positions, strict=True):
        source = _image_part(instances[frames[index].instance], shared)
        source.ImagePositionPatient = _decimal(position)
        copies.append(source)
    return tuple(copies)


def _series_part(instance: Dataset) -> Dataset:
    """Copy what all images of the series have in common, as UTF-8."""
    part = Dataset()
    charset = attempt(lambda: instance.SpecificCharacterSet)
    if charset and attempt(lambda: convert_encodings(charset)):
        part.SpecificCharacterSet = charset
    for keyword in (*_SERIES_KEYWORDS, *_FORMAT_KEYWORDS):
        element = _read(instance, keyword)
        if element is not None:
            part.add(copy.deepcopy(element))
    part.decode()
    _drop_nul(part)
    part.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _DATES:
        _blank_unless(part, keyword, DA)
    for keyword in _TIMES:
        _blank_unless(part, keyword, TM)
    if str(part.get("PatientSex", "")) not in {"M", "F", "O", ""}:
        part.PatientSex = ""
    for keyword in _REQUIRED_EMPTY:
        if part.get(keyword) is None:
            setattr(part, keyword, "")
    _keep_readable_numbers(part)
    part.FrameOfReferenceUID = stated_frame_of_reference(
        instance
    ) or derived_frame_of_reference(instance)
    return part


def _drop_nul(part: Dataset) -> None:
    """Take NUL out of texts: PostgreSQL stores no text that holds one."""
    for element in part:
        if element.VR in _TEXTS and "\0" in str(element.value):
            element.value = str(element.value).replace("\0", "")


def _keep_readable_numbers(part: Dataset) -> None:
    for keyword in _LENGTHS:
        if keyword in part and number(part[keyword].value) is None:
            del part[keyword]
    if "SeriesNumber" in part:
        series_number = number(part.SeriesNumber)
        del part.SeriesNumber
        if series_number is not None and abs(series_number) < _INTEGER_STRING_LIMIT:
            part.SeriesNumber = int(series_number)


def stated_frame_of_reference(instance: Dataset) -> str | None:
    """Return the frame of reference that an image names, or None where it is no UID."""
    named = texts(attempt(lambda: instance.get("FrameOfReferenceUID")))
    return named[0] if len(named) == 1 and is_uid(named[0]) else None


def derived_frame_of_reference(instance: Dataset) -> str:
    """Return the frame of reference of a series that names none; always the same."""
    series_uid = instance.get("SeriesInstanceUID", "")
    name = uuid.uuid5(uuid.NAMESPACE_OID, f"frame-of-reference:{series_uid}")
    return f"2.25.{name.int}"


def _image_part(instance: Dataset, shared: Dataset) -> Dataset:
    # Not copy.copy: pydicom's shares the elements, so the last position would be all's.
    # Dataset.update would make every element anew for every image.
    image = Dataset(dict(shared.items()))
    for keyword in _IMAGE_KEYWORDS:
        element = _read(instance, keyword)
        if element is not None:
            image.add(element)
    return image


def _multiframe_copy(
    instance: Dataset, shared: Dataset, frames: Sequence[Frame], grid: Grid
) -> Dataset:
    """Copy a multi-frame object with only the geometry in its functional groups."""
    image = _image_part(instance, shared)
    orientation, measures, groups = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = _decimal(grid.direction.T[[2, 1]].ravel())
    measures.PixelSpacing = _decimal(grid.spacing_mm[1:])
    measures.SpacingBetweenSlices = format_number_as_ds(grid.spacing_mm[0])
    measures.SliceThickness = _slice_thickness(instance, grid)
    groups.PlaneOrientationSequence = [orientation]
    groups.PixelMeasuresSequence = [measures]
    image.SharedFunctionalGroupsSequence = [groups]
    per_frame = []
    for frame in frames:
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = _decimal(_on_grid(frame, grid))
        group.PlanePositionSequence = [position]
        per_frame.append(group)
    image.PerFrameFunctionalGroupsSequence = per_frame
    return image


def _on_grid(frame: Frame, grid: Grid) -> FloatArray:
    """Return the place in the grid nearest to where a frame says it lies."""
    normal = grid.direction[:, 0]
    distance = float((frame.position_mm - grid.position_mm) @ normal)
    step = round(distance / grid.spacing_mm[0])
    place: FloatArray = grid.position_mm + step * grid.spacing_mm[0] * normal
    return place


def _slice_thickness(instance: Dataset, grid: Grid) -> str:
    for keyword in ("SharedFunctionalGroupsSequence",
                    "PerFrameFunctionalGroupsSequence"):  # fmt: skip
        for group in (instance.get(keyword) or [])[:1]:
            for item in group.get("PixelMeasuresSequence") or []:
                thickness_mm = number(attempt(lambda i=item: i.get("SliceThickness")))  # type: ignore[misc]
                if thickness_mm:
                    return str(format_number_as_ds(thickness_mm))
    return str(format_number_as_ds(grid.spacing_mm[0]))


def _read(instance: Dataset, keyword: str) -> DataElement | None:
    """Return an element, or None where it is absent or its value is broken."""
    element: DataElement | None = attempt(lambda: instance[keyword])
    return element


def _blank_unless(part: Dataset, keyword: str, parse: Any) -> None:
    if keyword not in part:
        return
    try:
        parse(part[keyword].value)
    except (ValueError, TypeError):
        setattr(part, keyword, "")


def _decimal(values: Any) -> list[str]:
    """Format numbers as DICOM decimal strings (at most 16 characters)."""
    return [format_number_as_ds(float(value)) for value in values]
