"""DICOM Segmentation objects of the lesions: write one, and read its voxels back.

``build_segmentation`` promises one segment a lesion, coded and tracked, on exactly the
planes of the source, valid by dciodvfy, with every UID derived from what determines the
content (``identify``): the same run makes the same object but for dates and times.
``segments_as_labels`` puts the voxels of a SEG back onto a grid. Pure and safe between
threads. Called by the pipeline, the command line and tests; volumes have axes (slice,
row, column) and LPS affines.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from segmentation.dicom import codes
from segmentation.dicom.source_planes import match_planes, patient_and_study
from segmentation.dicom.uids import derive_uid
from segmentation.lesions import LesionMap
from segmentation.models.predictor import ModelIdentity
from settings import RESEARCH_NOTICE, VERSION

AlgorithmType = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]
"""Who drew a segment: the model, the model and then a reader, a reader."""
_MADE_BY: dict[AlgorithmType, str] = {
    "AUTOMATIC": "proposed by AI, unverified.",
    "SEMIAUTOMATIC": "proposed by AI, outline changed by a reader.",
    "MANUAL": "drawn by a reader.",
}
LABEL_SET_VERSION = "brain-metastases-1"
"""Changes when segments come to mean something else (codes, order, numbering)."""
MANUFACTURER = "MetIA"
CONTENT_LABEL = "METASTASES"
_LONG_TEXT = 10_240
_SERIES_NUMBERS_FROM = 9000
"""Added to the source's series number, so that results stand last and together."""

_OFF_SLICE_VOXELS, _OFF_PIXEL_VOXELS, _OFF_STEP = 0.25, 0.45, 1e-3
"""How far a frame may lie from the grid, across and along it, and a pixel's step from
a whole one: slices of real series jitter and drift."""

# At INFO highdicom logs the UIDs of what it reads: patient data, in a log.
logging.getLogger("highdicom").setLevel(logging.WARNING)


@dataclass(frozen=True)
class SegmentationIdentity:
    """What names a segmentation before it is built.

    Attributes
    ----------
    tracking : tuple
        Tracking ID and tracking UID of each lesion, in order of their numbers.
    colours : tuple
        RGB, 0 to 255, of each lesion.
    """

    series_uid: str
    sop_instance_uid: str
    tracking: tuple[tuple[str, str], ...]
    colours: tuple[codes.Colour, ...]


def identify(
    source_series_uid: str,
    model: ModelIdentity,
    parameters: Mapping[str, object],
    lesion_count: int,
) -> SegmentationIdentity:
    """Derive the UIDs, tracking identifiers and colours of a segmentation.

    Parameters
    ----------
    source_series_uid : str
        Series that was segmented.
    model : ModelIdentity
        Only its hash counts: it covers name and version.
    parameters : Mapping
        All else that determined the content; plain JSON values.
    lesion_count : int
        May be 0: the UIDs then identify the result "no lesion".

    Raises
    ------
    TypeError
        If a parameter is no plain JSON value, and so has no stable text.
    """
    what = (
        source_series_uid,
        model.sha256,
        json.dumps(parameters, sort_keys=True, separators=(",", ":")),
        LABEL_SET_VERSION,
    )
    numbers = range(1, lesion_count + 1)
    return SegmentationIdentity(
        series_uid=derive_uid("seg-series", *what),
        sop_instance_uid=derive_uid("seg-instance", *what),
        tracking=tuple(
            (f"Metastasis {n}", derive_uid("seg-lesion", *what, str(n)))
            for n in numbers
        ),
        colours=tuple(codes.colour_of(n) for n in numbers),
    )


def build_segmentation(
    source_images: Sequence[Dataset],
    lesion_map: LesionMap,
    model: ModelIdentity,
    identity: SegmentationIdentity,
    parameters: Mapping[str, object],
) -> hd.seg.Segmentation:
    """Build the SEG of all lesions of one series.

    Parameters
    ----------
    source_images : Sequence of pydicom.Dataset
        The classic images (in any order) or the one Enhanced image; pixels not needed.
    lesion_map : LesionMap
        On the grid of the source, with at least one lesion.
    model : ModelIdentity
        Goes into the algorithm identification.
    identity : SegmentationIdentity
        From ``identify`` with the same model and parameters.
    parameters : Mapping
        Recorded as algorithm parameters.

    Returns
    -------
    highdicom.seg.Segmentation
        BINARY where a frame fills whole bytes. Elsewhere FRACTIONAL with maximum 1:
        OHIF draws 1-bit frames that start within a byte in the wrong place.

    Raises
    ------
    ValueError
        If there is no lesion (a SEG needs a segment; "no lesion" is a result without
        object), if `identity` is of another number of lesions, or if the source images
        do not lie on the grid of the labels.
    """
    count = len(lesion_map.lesions)
    if count != len(identity.tracking):
        raise ValueError("the identity was made for another number of lesions")
    algorithm = describe_algorithm(model, parameters)
    tracked = zip(identity.tracking, identity.colours, strict=True)
    segments = [
        describe_segment(number, Segment(name, name, uid, colour), algorithm)
        for number, ((name, uid), colour) in enumerate(tracked, 1)
    ]
    header = Header(
        series_uid=identity.series_uid,
        sop_instance_uid=identity.sop_instance_uid,
        series_number=series_number(source_images[0]),
        series_description=_series_description(model),
        content_description="Brain metastases proposed by AI. Research use only.",
        creator="MetIA^AI",
        device_serial_number=model.sha256[:64],  # the model is what differs
    )
    return draw(source_images, lesion_map.labels, segments, header)


@dataclass(frozen=True)
class Header:
    """What one SEG says of itself as a whole."""

    series_uid: str
    sop_instance_uid: str
    series_number: int
    series_description: str
    content_description: str
    creator: str
    device_serial_number: str


@dataclass(frozen=True)
class Segment:
    """What one segment says of itself; `label` is its name for people."""

    label: str
    tracking_id: str
    tracking_uid: str
    colour: codes.Colour
    algorithm_type: AlgorithmType = "AUTOMATIC"


def draw(
    source_images: Sequence[Dataset],
    labels: hd.Volume,
    segments: Sequence[hd.seg.SegmentDescription],
    header: Header,
) -> hd.seg.Segmentation:
    """Draw the SEG of a label map on the planes of its source.

    `labels` lie on the grid of the source: 0 background, else one of the numbers 1 to n
    of the n `segments`; each has voxels.
    """
    if not segments:
        raise ValueError("no lesion, so there is nothing to write a SEG of")
    first = source_images[0]
    planes = match_planes(source_images, labels)
    whole_bytes = labels.shape[1] * labels.shape[2] % 8 == 0
    now = datetime.now().astimezone()
    segmentation = hd.seg.Segmentation(
        source_images=planes.images,
        pixel_array=labels.array.astype(np.uint8 if len(segments) < 256 else np.uint16),
        segmentation_type="BINARY" if whole_bytes else "FRACTIONAL",
        fractional_type="OCCUPANCY",
        max_fractional_value=1,
        segment_descriptions=segments,
        series_instance_uid=header.series_uid,
        series_number=header.series_number,
        sop_instance_uid=header.sop_instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="MetIA",
        software_versions=VERSION,
        device_serial_number=header.device_serial_number,
        content_label=CONTENT_LABEL,
        content_description=header.content_description,
        content_creator_name=header.creator,
        series_description=header.series_description,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        plane_positions=planes.positions,
        plane_orientation=planes.orientation,
        pixel_measures=planes.measures,
        omit_empty_frames=True,
        specific_character_set="ISO_IR 192",
        content_date=now.date(),
        content_time=now.time(),
        series_date=now.date(),
        series_time=now.time(),
    )
    segmentation.copy_patient_and_study_information(patient_and_study(first))
    _fix_dimension_uid(segmentation, header.sop_instance_uid)
    return segmentation


def describe_algorithm(
    model: ModelIdentity, parameters: Mapping[str, object]
) -> hd.AlgorithmIdentificationSequence:
    """Say which model drew a segment, and with which parameters."""
    return hd.AlgorithmIdentificationSequence(
        name=long_string(model.name),
        version=long_string(model.version),
        family=codes.ARTIFICIAL_INTELLIGENCE,
        source=MANUFACTURER,
        parameters=_algorithm_parameters(model, parameters),
    )


def describe_segment(
    number: int,
    segment: Segment,
    algorithm: hd.AlgorithmIdentificationSequence | None,
) -> hd.seg.SegmentDescription:
    """Describe one segment; what a reader drew has no algorithm."""
    manual = segment.algorithm_type == "MANUAL"
    described = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=long_string(segment.label),
        segmented_property_category=codes.ABNORMAL_STRUCTURE,
        segmented_property_type=codes.METASTASIS,
        algorithm_type=segment.algorithm_type,
        algorithm_identification=None if manual else algorithm,
        tracking_id=segment.tracking_id,
        tracking_uid=segment.tracking_uid,
        anatomic_regions=[codes.BRAIN],
        display_color=hd.color.CIELabColor.from_rgb(*segment.colour),
    )
    made = _MADE_BY[segment.algorithm_type]
    described.SegmentDescription = f"Metastasis {made} {RESEARCH_NOTICE}"
    return described


def _algorithm_parameters(
    model: ModelIdentity, parameters: Mapping[str, object]
) -> dict[str, str]:
    """Write the parameters as texts that fit a DICOM Long Text together."""
    texts = {"sha256": model.sha256}
    room = _LONG_TEXT - len(f"sha256={model.sha256}")
    for name, value in sorted(parameters.items()):
        text = json.dumps(value, sort_keys=True)[:256]
        room -= len(f",{name}={text}")
        if room < 0:
            break
        texts[name] = text
    return texts


def long_string(text: str, longest: int = 64) -> str:
    """Make `text` fit a DICOM Long String: one line, no backslash.

    64 bytes of UTF-8 and not characters, as the standard has it: some programs count
    bytes.
    """
    line = " ".join(text.replace("\\", "/").split()).encode("utf-8")[:longest]
    return line.decode("utf-8", "ignore").strip() or "unnamed"


def _series_description(model: ModelIdentity) -> str:
    kind = "demonstration" if model.demonstration else "AI"
    return f"MetIA metastases, {kind}, research use only"


def series_number(source: Dataset) -> int:
    """Give the number of a result's series: after all others, in their order."""
    number = source.get("SeriesNumber") or 0
    return _SERIES_NUMBERS_FROM + max(min(int(number), 1_000_000), 0)


def _fix_dimension_uid(
    segmentation: hd.seg.Segmentation, sop_instance_uid: str
) -> None:
    """Replace the one UID highdicom draws at random."""
    uid = derive_uid("dimensions", sop_instance_uid)
    for item in (
        *segmentation.DimensionOrganizationSequence,
        *segmentation.DimensionIndexSequence,
    ):
        item.DimensionOrganizationUID = uid


def segments_as_labels(
    segmentation: Dataset, grid: hd.Volume | hd.VolumeGeometry
) -> NDArray[np.uint16]:
    """Read the voxels of a SEG back onto a grid.

    Each frame goes where its own position and orientation say; the grid may be stored
    in another order of axes or directions than the frames.

    Parameters
    ----------
    segmentation : pydicom.Dataset
        A BINARY or FRACTIONAL SEG with segments that do not overlap.
    grid : highdicom.Volume
        Where its planes lie.

    Returns
    -------
    numpy.ndarray
        uint16, axes (slice, row, column) of `grid`: segment number, or 0.

    Raises
    ------
    ValueError
        If segments overlap, or frames do not lie on the grid.
    """
    labels = np.zeros(grid.spatial_shape, dtype=np.uint16)
    pixels = segmentation.pixel_array
    pixels = pixels.reshape(-1, *pixels.shape[-2:])
    half = int(segmentation.get("MaximumFractionalValue", 1)) // 2
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    frames = segmentation.PerFrameFunctionalGroupsSequence
    of_frame, rows, columns = _marked(pixels > half)
    ends = np.searchsorted(of_frame, np.arange(len(pixels)), side="right")
    begun = 0
    for frame, end in zip(frames, ends, strict=True):
        start, steps = frame_place(frame, shared, grid)
        identification = functional_group(
            frame, shared, "SegmentIdentificationSequence"
        )
        here = slice(begun, end)
        where = np.stack([rows[here], columns[here]], axis=1) @ steps + start
        begun = end
        if not ((where >= 0) & (where < labels.shape)).all():
            raise ValueError("the SEG's frames do not lie on the grid")
        voxels = tuple(where.T)
        if labels[voxels].any():
            raise ValueError("segments of the SEG overlap")
        labels[voxels] = identification.ReferencedSegmentNumber
    return labels


def _marked(frames: NDArray[np.bool_]) -> tuple[NDArray[np.intp], ...]:
    """Give frame, row and column of each marked pixel, in order of the frames.

    As ``np.nonzero``, which takes several times as long in three dimensions as in one.
    """
    return np.unravel_index(np.flatnonzero(frames), frames.shape)


def frame_place(
    frame: Dataset, shared: Dataset, grid: hd.Volume | hd.VolumeGeometry
) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return the grid's index of a frame's first pixel, and the steps (2 x 3) along.

    A step down the rows comes first, one along the columns second.
    """
    position = functional_group(
        frame, shared, "PlanePositionSequence"
    ).ImagePositionPatient
    cosines = functional_group(
        frame, shared, "PlaneOrientationSequence"
    ).ImageOrientationPatient
    spacing = functional_group(frame, shared, "PixelMeasuresSequence").PixelSpacing
    to_index = grid.inverse_affine[:3, :3]
    along_row, down_column = np.array(cosines, float).reshape(2, 3)
    steps_mm = np.stack(
        [down_column * float(spacing[0]), along_row * float(spacing[1])]
    )
    start = to_index @ np.array(position, float) + grid.inverse_affine[:3, 3]
    steps = steps_mm @ to_index.T
    whole_start, whole_steps = np.rint(start).astype(int), np.rint(steps).astype(int)
    across = ~whole_steps.any(axis=0)
    off_by = np.where(across, _OFF_SLICE_VOXELS, _OFF_PIXEL_VOXELS)
    if (np.abs(start - whole_start) > off_by).any() or (
        np.abs(steps - whole_steps) > _OFF_STEP
    ).any():
        raise ValueError("the SEG's frames do not lie on the grid")
    return whole_start, whole_steps


def functional_group(frame: Dataset, shared: Dataset, keyword: str) -> Dataset:
    """Return the item of a functional group, the frame's own or the shared one."""
    item: Dataset = (frame if keyword in frame else shared)[keyword].value[0]
    return item
