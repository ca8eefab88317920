"""What highdicom must know of the source images to draw on their planes.

``match_planes`` finds, for each slice of a grid, the source image (or frame of the one
Enhanced image) that lies there, and makes header-only stand-ins of the sources. Real
headers do not fit highdicom as they are: Enhanced MR keeps the orientation per frame,
orientations differ in the last digit, Type 2 attributes are absent; and highdicom warns
with the patient's name in the text. The stand-ins carry no patient data.
Pure; called by ``segmentation.dicom.seg``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset

from segmentation.dicom.uids import derive_uid

_COPIED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_BLANK = (
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
_ORIENTATION_TOLERANCE = 1e-2


@dataclass(frozen=True)
class SourcePlanes:
    """The planes of a grid as highdicom's Segmentation takes them.

    Attributes
    ----------
    images : list of pydicom.Dataset
        Stand-ins of the source images: one a slice, or one Enhanced image.
    positions : list of highdicom.PlanePositionSequence
        One a slice of the grid (axis 0), exactly as in the source.
    """

    images: list[Dataset]
    positions: list[hd.PlanePositionSequence]
    orientation: hd.PlaneOrientationSequence
    measures: hd.PixelMeasuresSequence


@dataclass(frozen=True)
class _Plane:
    """Geometry of one source image or frame."""

    position_mm: list[float]
    orientation: list[float]
    pixel_spacing_mm: list[float]
    thickness_mm: float


def match_planes(
    source_images: Sequence[Dataset], grid: hd.Volume | hd.VolumeGeometry
) -> SourcePlanes:
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
    planes = (
        _frames(first) if enhanced else [_classic_plane(one) for one in source_images]
    )
    chosen = _nearest(planes, grid, (int(first.Rows), int(first.Columns)))
    measures = hd.PixelMeasuresSequence(
        pixel_spacing=chosen[0].pixel_spacing_mm,
        slice_thickness=chosen[0].thickness_mm or grid.spacing_between_slices,
        spacing_between_slices=grid.spacing_between_slices,
    )
    orientation = hd.PlaneOrientationSequence("PATIENT", chosen[0].orientation)
    images = (
        [_enhanced_stand_in(first, planes, orientation, measures)]
        if enhanced
        else [
            _classic_stand_in(one, plane, chosen[0].orientation, measures)
            for one, plane in zip(source_images, planes, strict=True)
        ]
    )
    return SourcePlanes(
        images=images,
        positions=[
            hd.PlanePositionSequence("PATIENT", one.position_mm) for one in chosen
        ],
        orientation=orientation,
        measures=measures,
    )


def _nearest(
    planes: Sequence[_Plane],
    grid: hd.Volume | hd.VolumeGeometry,
    matrix: tuple[int, int],
) -> list[_Plane]:
    """Return the plane of each slice, and refuse planes that are not the grid's."""
    slices = grid.spatial_shape[0]
    indices = np.zeros((slices, 3))
    indices[:, 0] = np.arange(slices)
    wanted_mm = grid.map_indices_to_reference(indices)
    positions_mm = np.array([plane.position_mm for plane in planes])
    distances_mm = np.linalg.norm(wanted_mm[:, np.newaxis] - positions_mm, axis=2)
    nearest = distances_mm.argmin(axis=1)
    chosen = [planes[k] for k in nearest]
    if (
        matrix != tuple(grid.spatial_shape[1:])
        or distances_mm.min(axis=1).max() > min(grid.spacing) / 2
        or len(set(nearest.tolist())) != slices
        or not _parallel(chosen, grid)
    ):
        raise ValueError("the source images do not lie on the grid of the label map")
    return chosen


def _parallel(planes: Sequence[_Plane], grid: hd.Volume | hd.VolumeGeometry) -> bool:
    return all(
        np.allclose(
            plane.orientation, grid.direction_cosines, atol=_ORIENTATION_TOLERANCE
        )
        and np.allclose(plane.pixel_spacing_mm, grid.pixel_spacing, rtol=1e-3)
        for plane in planes
    )


def _classic_plane(image: Dataset) -> _Plane:
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


def _stand_in(image: Dataset) -> Dataset:
    header = Dataset()
    for keyword in _COPIED:
        if keyword in image:
            header.add(image[keyword])
    for keyword in _BLANK:
        setattr(header, keyword, "")
    # Type 1 in the SEG although some sources lack it: images of one series share one.
    header.FrameOfReferenceUID = image.get("FrameOfReferenceUID") or derive_uid(
        "frame-of-reference", str(image.SeriesInstanceUID)
    )
    header.PositionReferenceIndicator = image.get("PositionReferenceIndicator", "")
    return header


def _classic_stand_in(
    image: Dataset,
    plane: _Plane,
    orientation: list[float],
    measures: hd.PixelMeasuresSequence,
) -> Dataset:
    header = _stand_in(image)
    header.ImagePositionPatient = list(image.ImagePositionPatient)
    header.ImageOrientationPatient = orientation
    header.PixelSpacing = measures[0].PixelSpacing
    header.SliceThickness = measures[0].SliceThickness
    header.SpacingBetweenSlices = measures[0].SpacingBetweenSlices
    return header


def _enhanced_stand_in(
    image: Dataset,
    planes: Sequence[_Plane],
    orientation: hd.PlaneOrientationSequence,
    measures: hd.PixelMeasuresSequence,
) -> Dataset:
    header = _stand_in(image)
    shared = Dataset()
    shared.PlaneOrientationSequence = orientation
    shared.PixelMeasuresSequence = measures
    header.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for plane in planes:
        frame = Dataset()
        frame.PlanePositionSequence = hd.PlanePositionSequence(
            "PATIENT", plane.position_mm
        )
        frames.append(frame)
    header.PerFrameFunctionalGroupsSequence = frames
    header.NumberOfFrames = len(frames)
    return header
