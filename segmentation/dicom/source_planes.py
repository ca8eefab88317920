"""What highdicom must know of the source images to draw on their planes.

``match_planes`` finds, for each slice of a grid, the source image (or frame of the one
Enhanced image) that lies there, and makes header-only stand-ins of the sources. Real
headers do not fit highdicom as they are: Enhanced MR keeps the orientation per frame,
orientations differ in the last digit, Type 2 attributes are absent; and highdicom warns
with the patient's name in the text. The stand-ins carry no patient data.
``patient_and_study`` gives the header whose patient and study attributes may be copied.
Pure; called by ``segmentation.dicom.seg``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

from segmentation.dicom.uids import derive_uid

_OF_SERIES = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "PositionReferenceIndicator",
)
_OF_IMAGE = ("SOPClassUID", "SOPInstanceUID")
WHOSE_AND_WHEN = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""Attributes that every object has, empty where the source is silent."""
_STRICT = frozenset({"AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"})
"""Value representations with a form that a value can break."""
_ORIENTATION_TOLERANCE = 1e-2
_SPACING_TOLERANCE = 1e-3

Grid = hd.Volume | hd.VolumeGeometry


@dataclass(frozen=True)
class SourcePlanes:
    """The planes of a grid as highdicom's Segmentation takes them.

    Attributes
    ----------
    images : list of pydicom.Dataset
        Stand-ins of the source images: one a slice of the grid (axis 0), or the one
        Enhanced image.
    positions : list of highdicom.PlanePositionSequence or None
        One a slice of the grid, exactly as in the source; None where `images` say it.
    """

    images: list[Dataset]
    positions: list[hd.PlanePositionSequence] | None
    orientation: hd.PlaneOrientationSequence
    measures: hd.PixelMeasuresSequence


@dataclass(frozen=True)
class _Plane:
    """Geometry of one source image or frame."""

    position_mm: list[float]
    orientation: list[float]
    pixel_spacing_mm: list[float]
    thickness_mm: float


def match_planes(source_images: Sequence[Dataset], grid: Grid) -> SourcePlanes:
    """Find the source image or frame of every slice of `grid`.

    Parameters
    ----------
    source_images : Sequence of pydicom.Dataset
        The classic images of one series in any order, or one Enhanced image.
    grid : highdicom.Volume
        Axes (slice, row, column), on the planes of the source.

    Raises
    ------
    ValueError
        If the source images do not lie on the grid.
    """
    first = source_images[0]
    enhanced = "PerFrameFunctionalGroupsSequence" in first
    planes = _frames(first) if enhanced else [_classic(one) for one in source_images]
    nearest = _nearest(planes, grid, (int(first.Rows), int(first.Columns)))
    reference = planes[nearest[0]]
    orientation = hd.PlaneOrientationSequence("PATIENT", reference.orientation)
    measures = hd.PixelMeasuresSequence(
        pixel_spacing=reference.pixel_spacing_mm,
        slice_thickness=reference.thickness_mm or grid.spacing_between_slices,
        spacing_between_slices=grid.spacing_between_slices,
    )
    header = _common_header(first, grid)
    if enhanced:
        positions = [
            hd.PlanePositionSequence("PATIENT", one.position_mm) for one in planes
        ]
        image = _enhanced(first, header, positions, orientation, measures)
        chosen = [positions[k] for k in nearest]
        return SourcePlanes([image], chosen, orientation, measures)
    header.update(measures[0])
    header.ImageOrientationPatient = reference.orientation
    images = [_stand_in(source_images[k], header) for k in nearest]
    for image, k in zip(images, nearest, strict=True):
        image.add(source_images[k]["ImagePositionPatient"])
    return SourcePlanes(images, None, orientation, measures)


def slice_thickness_mm(source_images: Sequence[Dataset]) -> float | None:
    """Give the thickness the images state, of the first; None where they do not."""
    first = source_images[0]
    if "PerFrameFunctionalGroupsSequence" in first:
        return _frames(first)[0].thickness_mm or None
    return _thickness_mm(first) or None


def patient_and_study(image: Dataset) -> Dataset:
    """Return the root attributes of `image` without those whose values are malformed.

    Names and numbers that identify are kept as they are. A malformed age, date, code or
    the like would make every object we derive as invalid as the source.
    """
    header = Dataset()
    for tag in image.keys():  # noqa: SIM118 - iterating would convert every element
        if tag.group <= 0x0040 and not tag.is_private:
            element = image[tag]
            if element.VR not in _STRICT or _well_formed(element):
                header.add(element)
    if header.get("PatientSex", "") not in ("", "F", "M", "O"):
        header.PatientSex = ""
    return header


def _well_formed(element: DataElement) -> bool:
    values = element.value if element.VM > 1 else [element.value]
    if element.VR in ("DS", "IS"):  # pydicom leaves what is no number as text
        return not any(isinstance(value, str) and value for value in values)
    try:
        for value in values:
            validate_value(element.VR, value, config.RAISE)
    except ValueError:
        return False
    return True


def _nearest(
    planes: Sequence[_Plane], grid: Grid, matrix: tuple[int, int]
) -> list[int]:
    """Return which plane each slice lies on; refuse planes that are not the grid's."""
    slices = grid.spatial_shape[0]
    indices = np.zeros((slices, 3))
    indices[:, 0] = np.arange(slices)
    wanted_mm = grid.map_indices_to_reference(indices)
    positions_mm = np.array([plane.position_mm for plane in planes])
    distances_mm = np.linalg.norm(wanted_mm[:, np.newaxis] - positions_mm, axis=2)
    nearest: list[int] = distances_mm.argmin(axis=1).tolist()
    orientations = np.array([planes[k].orientation for k in nearest])
    spacings_mm = np.array([planes[k].pixel_spacing_mm for k in nearest])
    turned = np.abs(orientations - grid.direction_cosines).max()
    stretched = np.abs(spacings_mm / grid.pixel_spacing - 1.0).max()
    if (
        matrix != tuple(grid.spatial_shape[1:])
        or distances_mm.min(axis=1).max() > min(grid.spacing) / 2
        or len(set(nearest)) != slices
        or turned > _ORIENTATION_TOLERANCE
        or stretched > _SPACING_TOLERANCE
    ):
        raise ValueError("the source images do not lie on the grid of the label map")
    return nearest


def _classic(image: Dataset) -> _Plane:
    return _Plane(
        _floats(image.ImagePositionPatient),
        _floats(image.ImageOrientationPatient),
        _floats(image.PixelSpacing),
        _thickness_mm(image),
    )


def _frames(image: Dataset) -> list[_Plane]:
    shared = image.get("SharedFunctionalGroupsSequence") or [Dataset()]

    def macro(frame: Dataset, keyword: str) -> Dataset:
        item: Dataset = (frame.get(keyword) or shared[0][keyword].value)[0]
        return item

    return [
        _Plane(
            _floats(macro(frame, "PlanePositionSequence").ImagePositionPatient),
            _floats(macro(frame, "PlaneOrientationSequence").ImageOrientationPatient),
            _floats(macro(frame, "PixelMeasuresSequence").PixelSpacing),
            _thickness_mm(macro(frame, "PixelMeasuresSequence")),
        )
        for frame in image.PerFrameFunctionalGroupsSequence
    ]


def _thickness_mm(measures: Dataset) -> float:
    return max(float(measures.get("SliceThickness") or 0.0), 0.0)


def _floats(values: Any) -> list[float]:
    return [float(value) for value in values]


def _common_header(image: Dataset, grid: Grid) -> Dataset:
    """Make a header of what all images of the series share."""
    header = Dataset()
    for keyword in WHOSE_AND_WHEN:
        setattr(header, keyword, "")
    for keyword in _OF_SERIES:
        if keyword in image:
            header.add(image[keyword])
    # Type 1 in the SEG although some sources lack it; the loader then derives one.
    header.FrameOfReferenceUID = (
        image.get("FrameOfReferenceUID")
        or grid.frame_of_reference_uid
        or derive_uid("frame-of-reference", str(image.SeriesInstanceUID))
    )
    return header


def _stand_in(image: Dataset, common: Dataset) -> Dataset:
    header = Dataset({element.tag: element for element in common})
    for keyword in _OF_IMAGE:
        header.add(image[keyword])
    return header


def _enhanced(
    image: Dataset,
    common: Dataset,
    positions: Sequence[hd.PlanePositionSequence],
    orientation: hd.PlaneOrientationSequence,
    measures: hd.PixelMeasuresSequence,
) -> Dataset:
    header = _stand_in(image, common)
    shared = Dataset()
    shared.PlaneOrientationSequence = orientation
    shared.PixelMeasuresSequence = measures
    header.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for position in positions:
        frame = Dataset()
        frame.PlanePositionSequence = position
        frames.append(frame)
    header.PerFrameFunctionalGroupsSequence = frames
    header.NumberOfFrames = len(frames)
    return header
