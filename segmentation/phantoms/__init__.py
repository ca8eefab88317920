"""Synthetic heads with exactly known lesions, as arrays and as DICOM.

For tests, for the sample study and for the demonstration model. Nothing here stems
from a person. Units: mm, LPS; axes (slice, row, column).
"""

from segmentation.phantoms.dicom import (
    Visit,
    dicom_series,
    localizer_series,
    write_dicom_series,
    write_images,
)
from segmentation.phantoms.geometry import Grid, Pose
from segmentation.phantoms.head import Head, make_head, random_lesions, sample_head
from segmentation.phantoms.lesions import LesionSpec, LesionTruth
from segmentation.phantoms.sample import (
    FUSED,
    VISITS,
    SampleStudy,
    SampleVisit,
    draw_sample_visit,
    motion_between,
    sample_study,
    truth_document,
    write_sample_visit,
)

__all__ = [
    "FUSED",
    "VISITS",
    "Grid",
    "Head",
    "LesionSpec",
    "LesionTruth",
    "Pose",
    "SampleStudy",
    "SampleVisit",
    "Visit",
    "dicom_series",
    "draw_sample_visit",
    "localizer_series",
    "make_head",
    "motion_between",
    "random_lesions",
    "sample_head",
    "sample_study",
    "truth_document",
    "write_dicom_series",
    "write_images",
    "write_sample_visit",
]
