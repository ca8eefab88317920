"""Outlines made elsewhere, as labels on the grid of a series: RTSTRUCT and foreign SEG.

``read_import`` promises labels exactly where the object has them if it was drawn on the
images of the series (any vendor's RTSTRUCT, any BINARY, FRACTIONAL or LABELMAP SEG), or
a refusal (``import-invalid``) that says what is wrong. Nothing is guessed: contours off
the slices are refused, not moved. Pure and safe between threads; called by
``segmentation.exports`` and tests. Axes (slice, row, column), LPS mm. Warnings and
errors hold numbers, never a name from the object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage
from scipy import ndimage

from orthanc.volume import LoadedSeries
from segmentation.dicom.import_regions import AlgorithmType, Region, Regions, invalid
from segmentation.dicom.import_rtstruct import read_structures, referenced_images
from segmentation.dicom.import_seg import read_segments

LABELMAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
_SEG_CLASSES = (SegmentationStorage, LABELMAP_SEGMENTATION_STORAGE)
_OF_DAMAGED_OBJECTS = (
    *(AttributeError, LookupError, TypeError, ValueError, ArithmeticError),
    *(RuntimeError, EOFError),
)
"""What pydicom, highdicom and numpy raise at them, and at unknown compression."""
_MOST_LESIONS = 200
_MOST_ML = 500.0
_TOGETHER_MM = 5.0
"""Parts of one structure that lie nearer to each other than this, or than two and a
half slices (a contour left out), are one lesion; others are lesions of their own."""
_TOGETHER_SLICES = 2.5
_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Imported:
    """What an object outlines, on the grid of a series.

    Attributes
    ----------
    kind : str
        Which kind of object it came from.
    labels : highdicom.Volume
        uint16: 0 background, else a lesion's number, 1 to n, largest first.
    names : tuple of str
        Of the lesions, in order of their numbers; as given in the object, made safe to
        show. They may hold what a person typed: for the screen, not for logs.
    algorithm_types : tuple of str
        How each came about, as the object says.
    warnings : tuple of str
        Sentences free of patient data.
    """

    kind: Literal["RTSTRUCT", "SEG"]
    labels: hd.Volume
    names: tuple[str, ...]
    algorithm_types: tuple[AlgorithmType, ...]
    warnings: tuple[str, ...]


def is_importable(dataset: Dataset) -> bool:
    """Tell whether ``read_import`` reads this kind of object at all."""
    known = (RTStructureSetStorage, *_SEG_CLASSES)
    return str(dataset.get("SOPClassUID", "")) in known


def referenced_series(dataset: Dataset) -> tuple[str, ...]:
    """Return the series that an object was drawn on, the one it names most first.

    Raises
    ------
    MetiaError
        ``import-invalid`` where it is neither RTSTRUCT nor SEG.
    """
    _require_importable(dataset)
    if dataset.SOPClassUID != RTStructureSetStorage:
        series = dataset.get("ReferencedSeriesSequence") or []
        return tuple(str(item.get("SeriesInstanceUID", "")) for item in series)
    listed, named = referenced_images(dataset)
    votes = Counter(listed[image] for image in named if image in listed)
    # Those that no contour names come last, in the order they are listed.
    rest = [one for one in dict.fromkeys(listed.values()) if one not in votes]
    return (*(one for one, _ in votes.most_common()), *rest)


def read_import(dataset: Dataset, source: LoadedSeries) -> Imported:
    """Read the lesions of an RTSTRUCT or SEG onto the grid of a series.

    Parameters
    ----------
    dataset : pydicom.Dataset
        With pixel data, where it is a SEG.
    source : LoadedSeries
        The series it was drawn on.

    Raises
    ------
    MetiaError
        ``import-invalid``, saying what is wrong.
    """
    _require_importable(dataset)
    is_rtstruct = dataset.SOPClassUID == RTStructureSetStorage
    try:
        read = read_structures if is_rtstruct else read_segments
        regions = read(dataset, source)
    except _OF_DAMAGED_OBJECTS as error:
        raise invalid(f"The object is damaged ({type(error).__name__}).") from error
    return _combine(regions, source.volume, "RTSTRUCT" if is_rtstruct else "SEG")


def _require_importable(dataset: Dataset) -> None:
    if not is_importable(dataset):
        raise invalid("The object is neither an RT structure set nor a segmentation.")


def _combine(
    found: Regions, grid: hd.Volume, kind: Literal["RTSTRUCT", "SEG"]
) -> Imported:
    """Put all regions into one label map."""
    parts = [part for region in found.regions for part in _parts(region, grid)]
    parts = [part for part in parts if part.voxels.size]
    if not parts:
        raise invalid("No voxel of the series lies within the outlines.")
    if len(parts) > _MOST_LESIONS:
        raise invalid(f"{len(parts)} separate lesions are not plausible.")
    parts.sort(key=lambda part: -part.voxels.size)
    labels = _paint(parts, grid)
    counts = np.bincount(labels[labels > 0], minlength=len(parts) + 1)
    if counts.sum() * grid.voxel_volume / 1000.0 > _MOST_ML:
        raise invalid(f"More than {_MOST_ML:.0f} ml of lesions are not plausible.")
    kept = [k for k in range(len(parts)) if counts[k + 1]]
    kept.sort(key=lambda k: -int(counts[k + 1]))
    warnings = list(found.warnings)
    if lost := len(parts) - len(kept):
        warnings.append(f"{lost} structures lie wholly within others and were left out")
    shared = sum(parts[k].voxels.size for k in kept) - int(counts.sum())
    if shared:
        warnings.append(
            f"{shared} voxels lie in several structures; the smaller one has them"
        )
    renumbered = np.zeros(len(parts) + 1, np.uint16)
    renumbered[[k + 1 for k in kept]] = np.arange(1, len(kept) + 1)
    return Imported(
        kind=kind,
        labels=grid.with_array(renumbered[labels]),
        names=tuple(parts[k].name for k in kept),
        algorithm_types=tuple(parts[k].algorithm_type for k in kept),
        warnings=tuple(warnings),
    )


def _paint(parts: Sequence[Region], grid: hd.Volume) -> NDArray[np.uint16]:
    """Write the parts, largest first: where two overlap, the smaller one stays."""
    labels = np.zeros(int(np.prod(grid.spatial_shape)), np.uint16)
    for number, part in enumerate(parts, 1):
        labels[part.voxels] = number
    return labels.reshape(grid.spatial_shape)


def _parts(region: Region, grid: hd.Volume) -> list[Region]:
    """Split a region whose parts lie far from each other into lesions."""
    if not region.voxels.size:
        return []
    where = np.stack(np.unravel_index(region.voxels, grid.spatial_shape))
    low = where.min(axis=1)
    mask = np.zeros(where.max(axis=1) - low + 1, dtype=bool)
    mask[tuple(where - low[:, np.newaxis])] = True
    _, count = ndimage.label(mask, _TOUCHING)
    if count == 1:
        return [region]
    apart_mm = max(_TOGETHER_MM, _TOGETHER_SLICES * grid.spacing[0])
    distance_mm = ndimage.distance_transform_edt(~mask, sampling=grid.spacing)
    groups, count = ndimage.label(distance_mm <= apart_mm / 2.0, _TOUCHING)
    of_voxel = groups[tuple(where - low[:, np.newaxis])]
    if count == 1:
        return [region]
    return [
        replace(region, name=f"{region.name} {n}", voxels=region.voxels[of_voxel == n])
        for n in range(1, count + 1)
    ]
