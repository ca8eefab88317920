"""Instances of one series to a validated volume, or a refusal in words.

``load_series`` is the only door from DICOM images to numbers. It accepts MR, classic
or Enhanced multi-frame, in any order, and gives a float32 ``highdicom.Volume`` (axes
slice, row, column; LPS affine; rescaled values) or raises a ``MetiaError`` with a
``volume-*`` code. Tolerances are the constants of ``orthanc.geometry``. Pure: no
network, no state; the instances given are not changed. Error texts hold counts and
millimetres, never a name or identifier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from errors import MetiaError
from orthanc import geometry
from orthanc.cautions import cautions
from orthanc.classification import MR_IMAGE_CLASSES, classify
from orthanc.frames import Frame, read_frames
from orthanc.headers import attempt, texts
from orthanc.pixels import IntegerArray, decode, read_formats
from orthanc.sources import (
    derived_frame_of_reference,
    source_copies,
    stated_frame_of_reference,
)

_ONE_OF_EACH = {
    "StudyInstanceUID": "studies",
    "SeriesInstanceUID": "series",
    "PatientID": "patients",
    "FrameOfReferenceUID": "frames of reference",
}


@dataclass(frozen=True)
class SliceReference:
    """The image that a slice of the volume comes from.

    Attributes
    ----------
    frame_number : int or None
        From 1; None for a classic single-frame image.
    """

    sop_instance_uid: str
    frame_number: int | None


@dataclass(frozen=True)
class LoadedSeries:
    """A series ready for prediction.

    Attributes
    ----------
    volume : highdicom.Volume
        float32, axes (slice, row, column), LPS affine.
    slices : tuple of SliceReference
        One per index of axis 0.
    source_images : tuple of pydicom.Dataset
        What highdicom's Segmentation takes as ``source_images``: headers without
        pixels, texts as UTF-8, in the order of axis 0; one for a multi-frame object.
    warnings : tuple of str
        Sentences free of patient data.
    facts : dict
        Provenance: shape, spacing, tilt, jitter, transfer syntaxes, pixel hash ...
    """

    volume: hd.Volume
    slices: tuple[SliceReference, ...]
    source_images: tuple[Dataset, ...]
    warnings: tuple[str, ...]
    facts: dict[str, object]


def load_series(
    instances: Sequence[Dataset], *, require_head_t1: bool = True
) -> LoadedSeries:
    """Build the volume of one series.

    Parameters
    ----------
    instances : sequence of pydicom.Dataset
        All instances of one series, with pixel data, in any order.
    require_head_t1 : bool
        Refuse what its header says is not a T1 of the head. False where a person chose
        the series; it still has to be MR and a regular volume.

    Returns
    -------
    LoadedSeries
        The volume and what is needed to refer to its sources.

    Raises
    ------
    MetiaError
        With one of the ``volume-*`` codes.
    """
    if not instances:
        raise MetiaError("volume-empty", "There are no images.")
    warnings: list[str] = []
    _check_objects(instances)
    if require_head_t1:
        warnings += _check_head_t1(instances)
    formats = read_formats(instances)
    frames = read_frames(instances, formats)
    direction = geometry.check_uniform(frames)
    groups = geometry.same_place(frames, direction[:, 0])
    pixels = [
        decode(instance, layout)
        for instance, layout in zip(instances, formats, strict=True)
    ]
    order = _one_of_each_place(frames, groups, pixels, warnings)
    grid = geometry.fit_grid(frames, order)
    array = _rescaled(frames, grid.order, pixels)
    digest = _digest(frames, grid.order, pixels)
    reference = stated_frame_of_reference(instances[0])
    if reference is None:
        warnings.append("The images name no frame of reference; one was derived.")
        reference = derived_frame_of_reference(instances[0])
    warnings += cautions(array, grid, instances[0])
    volume = hd.Volume.from_components(
        array,
        position=grid.position_mm.tolist(),
        direction=grid.direction.ravel().tolist(),
        spacing=grid.spacing_mm,
        coordinate_system="PATIENT",
        frame_of_reference_uid=reference,
    )
    return LoadedSeries(
        volume=volume,
        slices=tuple(
            SliceReference(frames[index].sop_instance_uid, frames[index].frame_number)
            for index in grid.order
        ),
        source_images=source_copies(instances, frames, grid),
        warnings=tuple(warnings),
        facts=_facts(instances, grid, array, digest),
    )


def _check_objects(instances: Sequence[Dataset]) -> None:
    """Refuse what is not MR images of one series of one patient."""
    for instance in instances:
        if _text(instance, "Modality") != "MR":
            raise MetiaError("volume-not-mr", "The images are not MR.")
        if _text(instance, "SamplesPerPixel") not in ("", "1"):
            raise MetiaError("volume-colour", "The images are not grey-scale.")
        if _text(instance, "SOPClassUID") not in MR_IMAGE_CLASSES:
            raise MetiaError(
                "volume-not-mr", "The objects are not MR images (captures, maps ...)."
            )
        if "MOSAIC" in _text(instance, "ImageType"):
            raise MetiaError(
                "volume-mosaic", "Each image is a mosaic of many small slices."
            )
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
            if len(texts(attempt(lambda i=instance, k=keyword: i.get(k)))) > 1:  # type: ignore[misc]
                raise MetiaError(
                    "volume-mixed-geometry",
                    f"An image names several {_ONE_OF_EACH[keyword]}.",
                )
    for keyword, what in _ONE_OF_EACH.items():
        found = {_text(instance, keyword) for instance in instances}
        if len(found) > 1:
            raise MetiaError(
                "volume-mixed-geometry", f"The images come from {len(found)} {what}."
            )


def _text(instance: Dataset, keyword: str) -> str:
    value = attempt(lambda: instance.get(keyword))
    return "" if value is None else str(value)


def _check_head_t1(instances: Sequence[Dataset]) -> list[str]:
    """Refuse what says it is no T1 of the head; warn of what does not say."""
    verdict = classify(instances[len(instances) // 2], len(instances))
    if verdict.head is False:
        raise MetiaError(
            "volume-not-head-t1", "The header names another part of the body."
        )
    if verdict.kind not in ("t1", None):
        raise MetiaError(
            "volume-not-head-t1", f"The header says that this is {verdict.kind}, no T1."
        )
    warnings = []
    if verdict.kind is None:
        warnings.append("The header does not say what kind of sequence this is.")
    if not verdict.contrast:
        warnings.append("The header does not say that contrast agent was given.")
    return warnings


def _one_of_each_place(
    frames: Sequence[Frame],
    groups: Sequence[Sequence[int]],
    pixels: Sequence[IntegerArray],
    warnings: list[str],
) -> list[int]:
    """Drop copies of a slice that are identical; refuse differing ones."""
    order, copies, conflicts = [], 0, 0
    for group in groups:
        ranked = sorted(group, key=lambda index: _identity(frames[index]))
        order.append(ranked[0])
        for other in ranked[1:]:
            if _same_image(frames[ranked[0]], frames[other], pixels):
                copies += 1
            else:
                conflicts += 1
    if conflicts:
        raise MetiaError(
            "volume-duplicate-slice",
            f"{conflicts} of {len(frames)} images lie where another, different one "
            f"lies ({len(groups)} places).",
            {"duplicates": conflicts},
        )
    if copies:
        warnings.append(f"{copies} images were there twice, identical; one was used.")
    return order


def _identity(frame: Frame) -> tuple[str, int]:
    return frame.sop_instance_uid, frame.frame_number or 0


def _same_image(one: Frame, other: Frame, pixels: Sequence[IntegerArray]) -> bool:
    same_place = np.allclose(one.position_mm, other.position_mm, atol=1e-3)
    scale = (one.slope, one.intercept) == (other.slope, other.intercept)
    return same_place and scale and np.array_equal(
        _stored(one, pixels), _stored(other, pixels)
    )  # fmt: skip


def _stored(frame: Frame, pixels: Sequence[IntegerArray]) -> IntegerArray:
    stored: IntegerArray = pixels[frame.instance][(frame.frame_number or 1) - 1]
    return stored


def _digest(
    frames: Sequence[Frame], order: Sequence[int], pixels: Sequence[IntegerArray]
) -> str:
    """Hash the slices in the order of axis 0.

    Over shape, stored values (little endian), slope and intercept of each slice, so
    that it does not depend on the compression.
    """
    first = frames[order[0]]
    shape = (len(order), first.rows, first.columns)
    digest = hashlib.sha256(str(shape).encode())
    for frame_index in order:
        frame = frames[frame_index]
        stored = _stored(frame, pixels)
        little_endian = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
        digest.update(np.ascontiguousarray(little_endian).data)
        digest.update(f"{frame.slope!r} {frame.intercept!r}".encode())
    return digest.hexdigest()


def _rescaled(
    frames: Sequence[Frame], order: Sequence[int], pixels: Sequence[IntegerArray]
) -> NDArray[np.float32]:
    """Stack the slices, each with its own slope and intercept; refuse odd values."""
    first = frames[order[0]]
    array = np.empty((len(order), first.rows, first.columns), dtype=np.float32)
    # Slice by slice, while it is in the processor's cache.
    low, high = np.empty(len(order)), np.empty(len(order))
    with np.errstate(over="ignore", invalid="ignore"):
        for index, frame_index in enumerate(order):
            frame = frames[frame_index]
            stored = _stored(frame, pixels)
            if (frame.slope, frame.intercept) == (1.0, 0.0):
                array[index] = stored
            else:
                array[index] = stored * frame.slope + frame.intercept
            low[index], high[index] = array[index].min(), array[index].max()
    lowest, highest = float(low.min()), float(high.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise MetiaError("volume-bad-pixels", "Some values are not finite numbers.")
    if lowest == highest:
        raise MetiaError("volume-bad-pixels", "Every pixel has the same value.")
    return array


def _facts(
    instances: Sequence[Dataset],
    grid: geometry.Grid,
    array: NDArray[np.float32],
    digest: str,
) -> dict[str, object]:
    syntaxes = {
        str(getattr(instance, "file_meta", Dataset()).get("TransferSyntaxUID", ""))
        for instance in instances
    }
    return {
        "shape": list(array.shape),
        "spacing_mm": list(grid.spacing_mm),
        "position_jitter_mm": grid.jitter_mm,
        "drift_mm": grid.drift_mm,
        "tilt_deg": grid.tilt_deg,
        "instance_count": len(instances),
        "transfer_syntaxes": sorted(syntaxes),
        "pixel_sha256": digest,
    }
