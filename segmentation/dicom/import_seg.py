"""Reads the segments of a foreign SEG that may be lesions, as voxels of a grid.

BINARY, FRACTIONAL (at half of its maximum) and LABELMAP; segments may overlap. Frames
on the planes and pixels of the grid are taken voxel by voxel; a SEG on another grid of
the same space is brought over by the nearest voxel, with a warning. Pure; called by
``segmentation.dicom.imports`` alone.
"""

from __future__ import annotations

from collections import defaultdict

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from orthanc.volume import LoadedSeries
from segmentation.dicom.import_regions import (
    Region,
    Regions,
    algorithm_type,
    invalid,
    shown_name,
)
from segmentation.dicom.seg import frame_place, functional_group

_LESION_TYPES = frozenset(
    {
        "14799000",  # Neoplasm, Secondary
        "108369006",  # Neoplasm
        "86049000",  # Neoplasm, Primary
        "4147007",  # Mass
        "52988006",  # Lesion
        "C113842",  # Enhancing Lesion (NCIt)
        "M-80006",  # Neoplasm, Metastatic (SRT)
        "M-80003",  # Neoplasm, Primary (SRT)
        "M-8FFFF",  # Neoplasm (SRT)
        "M-03000",  # Mass (SRT)
        "M-01100",  # Lesion (SRT)
    }
)
_OTHER_TYPES = frozenset(
    {"79654002", "6574001", "M-36300", "M-54000", "C0013604"}  # oedema, necrosis
)
_ANATOMY = frozenset({"123037004", "T-D000A", "91723000", "T-D0050"})
"""Categories: anatomical structure. "Tissue" is what viewers write by default."""

Voxels = dict[int, list[NDArray[np.intp]]]


def read_segments(dataset: Dataset, source: LoadedSeries) -> Regions:
    """Read all segments that may be lesions.

    Raises
    ------
    MetiaError
        ``import-invalid`` where there is none, or it is of another space.
    """
    _require_same_space(dataset, source)
    segments = _wanted(dataset)
    warnings = []
    described = [int(item.SegmentNumber) for item in dataset.SegmentSequence]
    left_out = sum(number > 0 for number in described) - len(segments)
    if left_out:
        warnings.append(f"{left_out} segments are no lesions (anatomy, oedema ...)")
    try:
        voxels = _by_frames(dataset, source)
    except _OtherGridError:
        voxels = _resampled(dataset, source, list(segments))
        warnings.append(
            "The segmentation is on another grid; each voxel took the nearest value."
        )
    regions = tuple(
        Region(
            shown_name(segment.get("SegmentLabel"), number),
            np.unique(np.concatenate(voxels[number])),
            algorithm_type(segment.get("SegmentAlgorithmType")),
        )
        for number, segment in segments.items()
        if any(part.size for part in voxels.get(number, ()))
    )
    if not regions:
        raise invalid("Its segments are empty.")
    return Regions(regions, tuple(warnings))


class _OtherGridError(Exception):
    """The frames do not lie on the planes and pixels of the grid."""


def _require_same_space(dataset: Dataset, source: LoadedSeries) -> None:
    same = dataset.get("FrameOfReferenceUID") == source.volume.frame_of_reference_uid
    series_uid = source.source_images[0].SeriesInstanceUID
    named = any(
        item.get("SeriesInstanceUID") == series_uid
        for item in dataset.get("ReferencedSeriesSequence") or []
    )
    if not (same or named):
        raise invalid("The segmentation is of another space than the series.")


def _wanted(dataset: Dataset) -> dict[int, Dataset]:
    """Choose the segments that may be lesions, by their codes."""
    segments = {
        int(item.SegmentNumber): item
        for item in dataset.get("SegmentSequence") or []
        # A LABELMAP may describe its background as segment 0.
        if int(item.SegmentNumber) > 0
    }
    if not segments:
        raise invalid("The segmentation has no segments.")

    def code(item: Dataset, keyword: str) -> str:
        concepts = item.get(keyword) or [Dataset()]
        return str(concepts[0].get("CodeValue", ""))

    kind, category = (
        "SegmentedPropertyTypeCodeSequence",
        "SegmentedPropertyCategoryCodeSequence",
    )
    lesions = {n: s for n, s in segments.items() if code(s, kind) in _LESION_TYPES}
    if not lesions:
        lesions = {
            n: s
            for n, s in segments.items()
            if code(s, kind) not in _OTHER_TYPES and code(s, category) not in _ANATOMY
        }
    if not lesions:
        raise invalid(f"None of its {len(segments)} segments is a lesion.")
    return lesions


def _by_frames(dataset: Dataset, source: LoadedSeries) -> Voxels:
    """Take every frame where it lies on the grid."""
    grid = source.volume
    pixels = dataset.pixel_array
    pixels = pixels.reshape(-1, *pixels.shape[-2:])
    kind = str(dataset.get("SegmentationType", "BINARY")).upper()
    half = float(dataset.get("MaximumFractionalValue") or 1) / 2.0
    shared = dataset.SharedFunctionalGroupsSequence[0]
    voxels: Voxels = defaultdict(list)
    frames = dataset.PerFrameFunctionalGroupsSequence
    for frame, plane in zip(frames, pixels, strict=True):
        try:
            start, steps = frame_place(frame, shared, grid)
        except ValueError as error:
            raise _OtherGridError from error
        if kind == "LABELMAP":
            numbers = np.unique(plane[plane > 0]).tolist()
            masks = [(int(number), plane == number) for number in numbers]
        else:
            item = functional_group(frame, shared, "SegmentIdentificationSequence")
            limit = half if kind == "FRACTIONAL" else 0.5
            # At half and above; two voxels of equal doubt are treated alike.
            masks = [(int(item.ReferencedSegmentNumber), plane >= limit)]
        for number, mask in masks:
            where = np.argwhere(mask) @ steps + start
            # Of a frame that reaches beyond the series, what lies in it is taken.
            inside = ((where >= 0) & (where < grid.spatial_shape)).all(axis=1)
            flat = np.ravel_multi_index(tuple(where[inside].T), grid.spatial_shape)
            if flat.size:
                voxels[number].append(flat)
    return voxels


def _resampled(dataset: Dataset, source: LoadedSeries, wanted: list[int]) -> Voxels:
    """Look up, for every voxel of the grid, the nearest voxel of the segmentation."""
    segmentation = hd.seg.Segmentation.from_dataset(dataset)
    grid = source.volume
    slices, rows, columns = grid.spatial_shape
    plane = np.indices((1, rows, columns)).reshape(3, -1).T
    voxels: Voxels = {}
    for number in wanted:
        volume = segmentation.get_volume(
            segment_numbers=[number], combine_segments=False, rescale_fractional=True
        )
        values = volume.array[..., 0] if volume.array.ndim == 4 else volume.array
        voxels[number] = []
        for index in range(slices):  # one at a time: the coordinates take the memory
            points_mm = grid.map_indices_to_reference(np.add(plane, (index, 0, 0)))
            where = np.rint(volume.map_reference_to_indices(points_mm)).astype(np.intp)
            inside = np.flatnonzero(((where >= 0) & (where < values.shape)).all(axis=1))
            marked = values[tuple(where[inside].T)] >= 0.5
            voxels[number].append(inside[marked] + index * rows * columns)
    return voxels
