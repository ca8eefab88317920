"""What a result and a lesion are, as plain values: given to be recorded, and recorded.

Made by the pipeline and by corrections, read by everyone; ``db.results`` stores and
gives them and exports these names. Axes are end points in LPS mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from db.models_registry import ModelRecord

Point = tuple[float, float, float]
Axis = tuple[Point, Point]


@dataclass(frozen=True)
class LesionRecord:
    """One measured lesion, as it is given to be recorded.

    Attributes
    ----------
    segment_number : int
        In the SEG, from 1.
    slice_index : int
        Axis 0 of the input volume, the slice nearest to the long axis.
    sop_instance_uid, frame_number
        The image of that slice; a frame number (from 1) only in multi-frame objects.
    long_axis_mm, short_axis_mm, centroid_mm
        LPS mm.
    warnings : tuple of str
        Codes of what limits the measurement.
    colour : tuple of int
        RGB, 0 to 255.
    probability, peak_probability : float or None
        None where no model gave one.
    finding_uid : str
        The tracking UID that the lesion had when it was first seen at this visit, kept
        over versions; empty: it is seen for the first time.
    review : {'unverified', 'accepted', 'rejected'}
        A rejected lesion counts nowhere.
    measurable : bool or None
        By RANO-BM's rules; None where it was not determined.
    measurable_reasons : tuple of str
        Codes of why not.
    method : {'probability-contour', 'mask-contour'}
        What the diameters were measured on.
    algorithm_type : {'AUTOMATIC', 'SEMIAUTOMATIC', 'MANUAL'}
        DICOM's Segment Algorithm Type.
    """

    segment_number: int
    name: str
    tracking_id: str
    tracking_uid: str
    colour: tuple[int, int, int]
    voxel_count: int
    volume_ml: float
    longest_diameter_mm: float
    perpendicular_diameter_mm: float
    long_axis_mm: Axis
    short_axis_mm: Axis
    centroid_mm: Point
    probability: float | None
    peak_probability: float | None
    slice_index: int
    slice_count: int
    sop_instance_uid: str
    frame_number: int | None
    warnings: tuple[str, ...]
    finding_uid: str = ""
    review: str = "unverified"
    diameter_3d_mm: float | None = None
    diameter_3d_axis_mm: Axis | None = None
    measurable: bool | None = None
    measurable_reasons: tuple[str, ...] = ()
    method: str = "probability-contour"
    algorithm_type: str = "AUTOMATIC"


@dataclass(frozen=True, kw_only=True)
class Lesion(LesionRecord):
    """A recorded lesion; its `finding_uid` is never empty."""

    id: str
    result_id: str


@dataclass(frozen=True)
class ResultRecord:
    """One analysis, as it is given to be recorded.

    Attributes
    ----------
    job_id : str or None
        The job that computed it.
    segmentation_series_uid, segmentation_sop_uid : str or None
        The stored SEG; both None for "no lesion found".
    inputs_sha256 : str
        Over the SOP Instance UIDs and pixels that went in, hexadecimal.
    parameters : mapping
        All that determined the answer besides pixels and model.
    warnings : tuple of str
        Free of patient data.
    series_choice : tuple of str
        Why this series was taken; free of patient data.
    tilt_deg : float
        Between the planes measured in and the patient's axial plane.
    resampled : bool
        Whether the probability was resampled to measure in that plane.
    dropped_small : int
        Components left out for their size.
    model : ModelRecord or None
        None only of an import.
    origin : {'model', 'reader', 'import'}
        Who drew it: an edited version is a reader's.
    predecessor_id : str or None
        The result of which this is the next version.
    author : str or None
        Name of the user; required unless a model made it.
    spacing_mm : tuple of float or None
        Between voxel centres along slice, row, column.
    state : str or None
        None: ``edited`` where a reader made it, else ``unverified``.
    """

    job_id: str | None
    series_uid: str
    segmentation_series_uid: str | None
    segmentation_sop_uid: str | None
    model: ModelRecord | None
    inputs_sha256: str
    instance_count: int
    code_version: str
    parameters: Mapping[str, Any]
    device: str
    timings_s: Mapping[str, float]
    warnings: tuple[str, ...]
    series_choice: tuple[str, ...]
    tilt_deg: float
    resampled: bool
    dropped_small: int
    lesions: tuple[LesionRecord, ...]
    origin: str = "model"
    predecessor_id: str | None = None
    author: str | None = None
    note: str = ""
    spacing_mm: Point | None = None
    slice_thickness_mm: float | None = None
    segmentation_label: str | None = None
    state: str | None = None


@dataclass(frozen=True)
class Result:
    """A recorded analysis or a reader's version of one.

    Attributes
    ----------
    state : {'unverified', 'accepted', 'edited', 'rejected', 'signed'}
    version : int
        Place in its chain of versions, from 1.
    revision : int
        Raised by every change of state or review; a write names the one it saw.
    """

    id: str
    job_id: str | None
    study_uid: str
    series_uid: str
    segmentation_series_uid: str | None
    segmentation_sop_uid: str | None
    model: ModelRecord | None
    state: str
    inputs_sha256: str
    instance_count: int
    code_version: str
    parameters: dict[str, Any]
    device: str
    timings_s: dict[str, float]
    warnings: tuple[str, ...]
    series_choice: tuple[str, ...]
    tilt_deg: float
    resampled: bool
    dropped_small: int
    created_at: datetime
    lesions: tuple[Lesion, ...]
    origin: str
    predecessor_id: str | None
    version: int
    revision: int
    author: str | None
    note: str
    spacing_mm: Point | None
    slice_thickness_mm: float | None
    segmentation_label: str | None
    signed_by: str | None
    signed_at: datetime | None
