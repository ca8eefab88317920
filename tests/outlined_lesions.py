"""Series with lesions on them, for tests of the DICOM objects that outline lesions."""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from orthanc.volume import LoadedSeries, SliceReference
from segmentation.dicom.rtstruct import Structure, build_rtstruct
from segmentation.dicom.sr import ReportedLesion
from segmentation.lesions import LesionMap
from tests.seg_sources import classic_series, enhanced_image


def loaded(geometry: hd.VolumeGeometry, *, enhanced: bool = False) -> LoadedSeries:
    """Give a loaded series without pixels."""
    if enhanced:
        image = enhanced_image(geometry)
        images: tuple[Dataset, ...] = (image,)
        frames = range(1, geometry.spatial_shape[0] + 1)
        slices = tuple(SliceReference(image.SOPInstanceUID, n) for n in frames)
    else:
        images = tuple(classic_series(geometry))
        slices = tuple(SliceReference(one.SOPInstanceUID, None) for one in images)
    blank = np.zeros(geometry.spatial_shape, np.float32)
    return LoadedSeries(geometry.with_array(blank), slices, images, (), {})


def structures(labels: NDArray[np.uint16]) -> list[Structure]:
    """Describe every number among the labels."""
    numbers = [int(n) for n in np.unique(labels) if n]
    return [
        Structure(n, f"M{n}", f"2.25.{n}", (230, 159, 0), "AUTOMATIC") for n in numbers
    ]


def outlined(source: LoadedSeries, labels: NDArray[np.uint16]) -> Dataset:
    """Make the structure set of all labels."""
    return build_rtstruct(source, labels, structures(labels), origin="a test")


def reported(source: LoadedSeries, found: LesionMap) -> list[ReportedLesion]:
    """Describe every lesion for a report."""
    return [
        ReportedLesion(
            label=f"M{one.number}",
            tracking_uid=f"2.25.{one.number}",
            segment_number=one.number,
            longest_diameter_mm=one.longest_diameter_mm,
            perpendicular_diameter_mm=one.perpendicular_diameter_mm,
            volume_ml=one.volume_ml,
            long_axis_mm=one.long_axis_mm,
            short_axis_mm=one.short_axis_mm,
            sop_instance_uid=source.slices[one.slice_index].sop_instance_uid,
            frame_number=source.slices[one.slice_index].frame_number,
            role="target" if one.number == 1 else None,
            diameter_3d_mm=one.diameter_3d_mm,
        )
        for one in found.lesions
    ]


def ball(
    geometry: hd.VolumeGeometry, diameter_mm: float, offset: Sequence[float] = (0, 0, 0)
) -> NDArray[np.uint16]:
    """Draw a ball near the middle of a grid, `offset` in voxels."""
    middle = (np.array(geometry.spatial_shape) - 1) / 2 + offset
    centre_mm = geometry.map_indices_to_reference(middle[np.newaxis])[0]
    indices = np.indices(geometry.spatial_shape).reshape(3, -1).T
    points_mm = geometry.map_indices_to_reference(indices)
    inside = np.linalg.norm(points_mm - centre_mm, axis=1) <= diameter_mm / 2
    return inside.reshape(geometry.spatial_shape).astype(np.uint16)
