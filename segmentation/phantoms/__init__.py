"""Synthetic heads with exactly known lesions, as arrays and as DICOM.

For tests, for the sample study and for the demonstration model. Nothing here stems
from a person. Units: mm, LPS; axes (slice, row, column).
"""

from segmentation.phantoms.geometry import Grid, Pose
from segmentation.phantoms.head import Head, make_head, random_lesions, sample_head
from segmentation.phantoms.lesions import LesionSpec, LesionTruth

__all__ = [
    "Grid",
    "Head",
    "LesionSpec",
    "LesionTruth",
    "Pose",
    "make_head",
    "random_lesions",
    "sample_head",
]
