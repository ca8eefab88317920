"""Reads the structures of an RTSTRUCT that may be lesions, as voxels of a grid.

Any vendor's: holes drawn by a channel, as outlines of their own or by exclusive or;
outlines off their plane by rounding; several series in one object. A voxel belongs to a
structure whose outline holds its centre. Refuses what does not lie on the slices. Pure;
called by ``segmentation.dicom.imports`` alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from orthanc.volume import LoadedSeries
from segmentation.dicom.contours import Points, fill
from segmentation.dicom.import_regions import (
    Region,
    Regions,
    algorithm_type,
    invalid,
    shown_name,
)

LESION_TYPES = frozenset({"GTV"})
"""Interpreted types that are lesions; where an object has one, nothing else is read."""
_OTHER_TYPES = frozenset(
    {
        *("EXTERNAL", "PTV", "CTV", "TREATED_VOLUME", "IRRAD_VOLUME", "BOLUS"),
        *("AVOIDANCE", "ORGAN", "MARKER", "REGISTRATION", "ISOCENTER", "CAVITY"),
        *("CONTRAST_AGENT", "BRACHY_CHANNEL", "BRACHY_ACCESSORY", "BRACHY_SRC_APP"),
        *("BRACHY_CHNL_SHLD", "SUPPORT", "FIXATION", "DOSE_REGION", "CONTROL"),
        "DOSE_MEASUREMENT",
    }
)
# Names of structures without a type. "_" is a space by then, so that it ends a word.
_WITH_MARGIN = re.compile(r"\b[pci]tv|\b(?:minus|without|sub)\b|\bbrain ?-", re.I)
_LESION_NAME = re.compile(r"\bgtv|\bmets?\b|\bmetast|\blesion|\btumou?r|\bnodule", re.I)
_ORGAN_NAME = re.compile(
    r"\b(?:brain|cerebr|cerebell|hippocamp|ventricle|skull|bone|scalp|skin|body|extern|"
    r"patient|couch|table|mask|eye|globe|lens|optic|chiasm|cochlea|pituit|hypophys|"
    r"lacrimal|parotid|spinal|cord|isodose|avoid|nerve|retina|cornea|o?edema|bolus)",
    re.I,
)
_OFF_SLICE_MM, _OFF_SLICE = 0.2, 0.25
"""How far a corner may lie off its slice, in millimetres and in slice distances: what
rounding does, and the jitter of slices that the loader allows."""
_MOST_CORNERS = 5_000_000
_CLOSED = {"CLOSED_PLANAR": False, "CLOSEDPLANAR_XOR": True, "CLOSED_PLANAR_XOR": True}
"""Geometric types that enclose something, and whether by exclusive or."""


@dataclass
class _Tally:
    """What was left out, to be told in one sentence each."""

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, what: str) -> None:
        self.counts[what] += 1

    def sentences(self) -> tuple[str, ...]:
        return tuple(f"{count} {what}" for what, count in self.counts.items())


def referenced_images(dataset: Dataset) -> tuple[dict[str, str], list[str]]:
    """Return which series each listed image is of, and the images contours name.

    A series that is listed without images stands under its own UID.
    """
    listed: dict[str, str] = {}
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            for series in study.get("RTReferencedSeriesSequence") or []:
                uid = str(series.get("SeriesInstanceUID", ""))
                listed[uid] = uid
                for image in series.get("ContourImageSequence") or []:
                    listed[str(image.get("ReferencedSOPInstanceUID", ""))] = uid
    named = [
        image
        for item in dataset.get("ROIContourSequence") or []
        for contour in item.get("ContourSequence") or []
        for image in _images_of(contour)
    ]
    return listed, named


def _images_of(contour: Dataset) -> list[str]:
    return [
        str(image.get("ReferencedSOPInstanceUID", ""))
        for image in contour.get("ContourImageSequence") or []
    ]


def read_structures(dataset: Dataset, source: LoadedSeries) -> Regions:
    """Read all structures that may be lesions.

    Raises
    ------
    MetiaError
        ``import-invalid`` where there is none, or one does not lie on the slices.
    """
    tally = _Tally()
    contours = {
        int(item.ReferencedROINumber): list(item.get("ContourSequence") or [])
        for item in dataset.get("ROIContourSequence") or []
    }
    structures = _wanted(dataset, contours, tally)
    own_images = {one.sop_instance_uid for one in source.slices}
    regions: list[Region] = []
    for roi in structures:
        closed = _closed(contours[int(roi.ROINumber)])
        if not closed:
            tally.add("structures without a closed outline were left out")
            continue
        if _is_elsewhere(roi, closed, own_images, source):
            tally.add("structures drawn on another series were left out")
            continue
        voxels = _voxels(closed, source, tally)
        if voxels.size == 0:
            tally.add("structures enclose no voxel centre and were left out")
        name = shown_name(roi.get("ROIName"), len(regions) + 1)
        made = algorithm_type(roi.get("ROIGenerationAlgorithm"))
        regions.append(Region(name, voxels, made))
    if not regions:
        raise invalid("None of its structures can be read as a lesion of this series.")
    return Regions(tuple(regions), tally.sentences())


def _wanted(
    dataset: Dataset, contours: dict[int, list[Dataset]], tally: _Tally
) -> list[Dataset]:
    """Choose the structures that may be lesions, by type, and without one by name."""
    types = {
        int(item.ReferencedROINumber): str(item.get("RTROIInterpretedType") or "")
        for item in dataset.get("RTROIObservationsSequence") or []
    }
    drawn = [
        roi
        for roi in dataset.get("StructureSetROISequence") or []
        if contours.get(int(roi.ROINumber))
    ]
    if not drawn:
        raise invalid("The structure set has no contours.")

    def type_of(roi: Dataset) -> str:
        return types.get(int(roi.ROINumber), "").strip().upper()

    lesions = [roi for roi in drawn if type_of(roi) in LESION_TYPES]
    if not lesions:
        lesions = [
            roi
            for roi in drawn
            if type_of(roi) not in _OTHER_TYPES
            and _may_name_lesion(str(roi.get("ROIName") or ""))
        ]
    if not lesions:
        known = sorted({type_of(roi) for roi in drawn} & _OTHER_TYPES)
        kinds = ", ".join(known) or "organs, by their names"
        raise invalid(f"None of its {len(drawn)} structures is a lesion: {kinds}.")
    for _ in range(len(drawn) - len(lesions)):
        tally.add("structures are no lesions (organs, targets with margin ...)")
    return lesions


def _may_name_lesion(name: str) -> bool:
    words = name.replace("_", " ")
    if _WITH_MARGIN.search(words):
        return False
    return bool(_LESION_NAME.search(words)) or not _ORGAN_NAME.search(words)


def _closed(contours: Iterable[Dataset]) -> list[Dataset]:
    return [
        contour
        for contour in contours
        if str(contour.get("ContourGeometricType", "")).upper() in _CLOSED
        and contour.get("ContourData")
    ]


def _is_elsewhere(
    roi: Dataset, contours: Sequence[Dataset], own: set[str], source: LoadedSeries
) -> bool:
    """Tell whether a structure was drawn on images or in a space of another series."""
    named = {image for contour in contours for image in _images_of(contour)}
    if named & own:
        return False
    frame = str(roi.get("ReferencedFrameOfReferenceUID", ""))
    same_space = not frame or frame == str(source.volume.frame_of_reference_uid)
    # Other images of the same space: fine where the planes are the same.
    if same_space and named:
        where = np.concatenate([_indices(contour, source) for contour in contours])
        return _off_slice(where[:, 0], source)
    return not same_space


def _off_slice(slices: NDArray[np.float64], source: LoadedSeries) -> bool:
    nearest = np.rint(slices)
    last = source.volume.spatial_shape[0] - 1
    outside = (nearest < 0) | (nearest > last)
    allowed = min(_OFF_SLICE, _OFF_SLICE_MM / source.volume.spacing[0])
    return bool((np.abs(slices - nearest) > allowed).any() or outside.any())


def _indices(contour: Dataset, source: LoadedSeries) -> NDArray[np.float64]:
    """Return the corners of a contour as indices (n x 3: slice, row, column)."""
    numbers = np.array(contour.ContourData, dtype=np.float64).ravel()
    if numbers.size % 3 or not np.isfinite(numbers).all():
        raise invalid("A contour has coordinates that are no points.")
    points_mm = numbers.reshape(-1, 3)
    indices: NDArray[np.float64] = source.volume.map_reference_to_indices(points_mm)
    return indices


def _voxels(
    contours: Sequence[Dataset], source: LoadedSeries, tally: _Tally
) -> NDArray[np.intp]:
    """Fill the contours of one structure, slice by slice."""
    on_slice: dict[tuple[int, bool], list[Points]] = defaultdict(list)
    corners = 0
    for contour in contours:
        indices = _indices(contour, source)
        corners += len(indices)
        if corners > _MOST_CORNERS:
            raise invalid(f"A structure has more than {_MOST_CORNERS} corners.")
        nearest = np.rint(indices[:, 0].mean())
        if _off_slice(indices[:, 0], source) or np.ptp(np.rint(indices[:, 0])):
            raise invalid(
                "A contour does not lie on a slice of the series (another plane, "
                "another series, or moved)."
            )
        exclusive = _CLOSED[str(contour.ContourGeometricType).upper()]
        on_slice[int(nearest), exclusive].append(indices[:, 1:])
    rows, columns = source.volume.spatial_shape[1:]
    filled: dict[int, NDArray[np.bool_]] = {}
    for (index, exclusive), polygons in on_slice.items():
        mask = fill(polygons, (rows, columns), exclusive=exclusive)
        filled[index] = filled.get(index, False) | mask
    drawn = sorted(filled)
    if drawn and drawn[-1] - drawn[0] + 1 > len(drawn):
        tally.add("structures skip slices; nothing was filled in between")
    flat = [
        np.flatnonzero(mask) + index * rows * columns for index, mask in filled.items()
    ]
    return np.concatenate(flat) if flat else np.zeros(0, np.intp)
