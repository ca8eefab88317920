"""A measured lesion as the database keeps it, whoever outlined it.

Pure; called where results are recorded: by the runner for a model's, by
``segmentation.versions`` for a reader's.
"""

from __future__ import annotations

from db.results import LesionRecord, Point
from orthanc.volume import LoadedSeries, SliceReference
from segmentation.dicom.seg import Segment
from segmentation.lesions import Lesion


def lesion_record(
    lesion: Lesion,
    segment: Segment,
    image: SliceReference,
    *,
    finding_uid: str = "",
    drawn: bool = False,
) -> LesionRecord:
    """Put what was measured and how the lesion is named side by side.

    Parameters
    ----------
    image : SliceReference
        Where it is seen best, of ``lesion.slice_index``.
    finding_uid : str
        The tracking UID it was born with; empty: the one it has.
    drawn : bool
        A reader drew it: it is accepted by that, and no model says how probable it is.
    """
    return LesionRecord(
        segment_number=lesion.number,
        name=segment.label,
        tracking_id=segment.tracking_id,
        tracking_uid=segment.tracking_uid,
        colour=segment.colour,
        voxel_count=lesion.voxel_count,
        volume_ml=lesion.volume_ml,
        longest_diameter_mm=lesion.longest_diameter_mm,
        perpendicular_diameter_mm=lesion.perpendicular_diameter_mm,
        long_axis_mm=lesion.long_axis_mm,
        short_axis_mm=lesion.short_axis_mm,
        centroid_mm=lesion.centroid_mm,
        probability=None if drawn else lesion.probability,
        peak_probability=None if drawn else lesion.peak_probability,
        slice_index=lesion.slice_index,
        slice_count=lesion.slice_count,
        sop_instance_uid=image.sop_instance_uid,
        frame_number=image.frame_number,
        warnings=lesion.warnings,
        finding_uid=finding_uid or segment.tracking_uid,
        review="accepted" if drawn else "unverified",
        diameter_3d_mm=lesion.diameter_3d_mm,
        diameter_3d_axis_mm=lesion.diameter_3d_axis_mm,
        measurable=lesion.measurable,
        measurable_reasons=lesion.measurable_reasons,
        method=lesion.method,
        algorithm_type=segment.algorithm_type,
    )


def spacing_mm(source: LoadedSeries) -> Point:
    """Give the distances of voxel centres along (slice, row, column)."""
    slice_mm, row_mm, column_mm = source.volume.spacing
    return slice_mm, row_mm, column_mm
