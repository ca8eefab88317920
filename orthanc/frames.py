"""Strict reading of where each frame of a series lies and how its values are scaled.

``read_frames`` gives one ``Frame`` for each slice, alike for classic single-frame and
Enhanced multi-frame MR objects, or refuses with a coded reason. Nothing is guessed:
what a volume needs and a header does not say is an error. Pixels are not touched here.
Pure; lengths in mm, patient coordinates LPS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from errors import MetiaError
from orthanc.headers import attempt
from orthanc.pixels import PixelFormat

ENHANCED_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image Storage
        "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image Storage
    }
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice as its header describes it.

    Attributes
    ----------
    instance : int
        Index into the instances given.
    frame_number : int or None
        From 1 within a multi-frame object, None for a single-frame one.
    position_mm : tuple of 3 float
        Centre of the first pixel (LPS).
    orientation : tuple of 6 float
        Direction cosines of a row, then of a column.
    spacing_mm : tuple of 2 float
        Distance between rows, then between columns.
    slope, intercept : float
        Rescale of the stored values.
    """

    instance: int
    frame_number: int | None
    sop_instance_uid: str
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    rows: int
    columns: int
    slope: float
    intercept: float


def read_frames(
    instances: Sequence[Dataset], formats: Sequence[PixelFormat]
) -> list[Frame]:
    """Read the frames of all instances of one series.

    Parameters
    ----------
    instances : sequence of pydicom.Dataset
        Either single-frame MR images, or one multi-frame one.
    formats : sequence of PixelFormat
        Of each instance.

    Returns
    -------
    list of Frame
        In the order of the instances, and of the frames in them.

    Raises
    ------
    MetiaError
        ``volume-no-position``, ``volume-bad-pixels``, ``volume-absurd-geometry``,
        ``volume-mixed-geometry`` or ``volume-duplicate-slice``.
    """
    multiframe = [is_multiframe(instance) for instance in instances]
    if not any(multiframe):
        if any(layout.frames > 1 for layout in formats):
            raise MetiaError(
                "volume-no-position", "The frames of an image have no positions."
            )
        return [
            _read_frame(index, None, instance, formats[index], [instance])
            for index, instance in enumerate(instances)
        ]
    if len(instances) > 1:
        raise MetiaError(
            "volume-mixed-geometry",
            f"The series consists of {len(instances)} objects of which "
            f"{sum(multiframe)} are multi-frame; one multi-frame object is expected.",
        )
    return _read_multiframe(instances[0], formats[0])


def is_multiframe(instance: Dataset) -> bool:
    """Tell whether the geometry lies in functional groups."""
    return (
        str(instance.get("SOPClassUID", "")) in ENHANCED_CLASSES
        or "PerFrameFunctionalGroupsSequence" in instance
    )


def _read_multiframe(instance: Dataset, layout: PixelFormat) -> list[Frame]:
    per_frame = attempt(lambda: instance["PerFrameFunctionalGroupsSequence"].value)
    if not per_frame:
        raise MetiaError("volume-no-position", "The frames have no positions.")
    if len(per_frame) != layout.frames:
        raise MetiaError(
            "volume-bad-pixels",
            f"The object says that it has {layout.frames} frames and describes "
            f"{len(per_frame)}.",
        )
    shared_groups = instance.get("SharedFunctionalGroupsSequence") or [Dataset()]
    shared = shared_groups[0]
    _refuse_several_volumes(per_frame)
    return [
        _read_frame(0, number, instance, layout, _scopes(own, shared, instance))
        for number, own in enumerate(per_frame, start=1)
    ]


def _scopes(own: Dataset, shared: Dataset, instance: Dataset) -> list[Dataset]:
    """Return where to look for a frame's attributes, nearest first."""
    scopes = []
    for keyword in (
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
    ):
        for group in (own, shared):
            items = group.get(keyword)
            if items:
                scopes.append(items[0])
                break
    return [*scopes, instance]


def _refuse_several_volumes(per_frame: Sequence[Dataset]) -> None:
    """Refuse several stacks, time points or echoes in one object."""
    stacks, times, echoes = set(), set(), set()
    for group in per_frame:
        content = (group.get("FrameContentSequence") or [Dataset()])[0]
        stacks.add(content.get("StackID"))
        times.add(content.get("TemporalPositionIndex"))
        echo = (group.get("MREchoSequence") or [Dataset()])[0]
        echoes.add(echo.get("EffectiveEchoTime"))
    if len(stacks) > 1:
        raise MetiaError(
            "volume-mixed-geometry", f"The frames belong to {len(stacks)} stacks."
        )
    for found, what in ((times, "time points"), (echoes, "echo times")):
        if len(found) > 1:
            raise MetiaError(
                "volume-duplicate-slice",
                f"The frames belong to {len(found)} {what}.",
            )


def _read_frame(
    index: int,
    number: int | None,
    instance: Dataset,
    layout: PixelFormat,
    scopes: Sequence[Dataset],
) -> Frame:
    position = _numbers(scopes, "ImagePositionPatient", 3)
    orientation = _numbers(scopes, "ImageOrientationPatient", 6)
    if position is None or orientation is None:
        raise MetiaError(
            "volume-no-position",
            "An image has no readable position or orientation in the patient.",
        )
    spacing = _numbers(scopes, "PixelSpacing", 2)
    if spacing is None:
        raise MetiaError(
            "volume-absurd-geometry", "An image has no readable pixel spacing."
        )
    slope = _numbers(scopes, "RescaleSlope", 1, default=(1.0,))
    intercept = _numbers(scopes, "RescaleIntercept", 1, default=(0.0,))
    if slope is None or intercept is None or slope[0] == 0.0:
        raise MetiaError(
            "volume-bad-pixels", "The rescale slope or intercept cannot be used."
        )
    return Frame(
        instance=index,
        frame_number=number,
        sop_instance_uid=str(instance.get("SOPInstanceUID", "")),
        position_mm=position,
        orientation=orientation,
        spacing_mm=spacing,
        rows=layout.rows,
        columns=layout.columns,
        slope=slope[0],
        intercept=intercept[0],
    )


def _numbers(
    scopes: Sequence[Dataset],
    keyword: str,
    count: int,
    default: tuple[float, ...] | None = None,
) -> tuple[float, ...] | None:
    """Return `count` finite numbers; `default` where absent; None where unusable."""
    for scope in scopes:
        if keyword not in scope:
            continue
        value = attempt(lambda scope=scope: scope[keyword].value)  # type: ignore[misc]
        if value is None or value == "":
            continue
        parts = [value] if count == 1 else value
        numbers = attempt(lambda parts=parts: tuple(map(float, parts)))  # type: ignore[misc]
        usable = numbers is not None and len(numbers) == count
        if usable and all(map(math.isfinite, numbers)):
            return tuple(numbers)
        return None
    return default
