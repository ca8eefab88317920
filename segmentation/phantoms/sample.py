"""The sample patient: two visits, three months apart, with known lesions.

Loaded by the local stack so that there is something to segment at once. Between the
visits some lesions shrink, one grows, one appears, one goes, and the head lies a
little otherwise. Deterministic; about 3 s and 200 MB a visit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset

from segmentation.phantoms.dicom import (
    Visit,
    dicom_series,
    localizer_series,
    write_images,
)
from segmentation.phantoms.geometry import Grid, Pose, Vector
from segmentation.phantoms.head import Head, make_head
from segmentation.phantoms.lesions import LesionSpec

VISITS = (1, 2)
_SEED = 20
_SHAPE = (160, 256, 256)

_ANTERIOR = LesionSpec(
    (-33, -34, 20), (12.5, 11, 11.5), (10, 20, 35), "ring", 0.62, 11.0
)
_PARIETAL = LesionSpec((36, 36, 22), (7.5, 8.5, 8), (0, 15, -25), "ring", 0.55, 8.0)
_TEMPORAL = LesionSpec.ball((46, 6, -14), 9.0)
_CEREBELLAR = LesionSpec.ball((-24, 44, -46), 12.0, "ring")
_FRONTAL = LesionSpec.ball((24, -50, 16), 6.0)
_OCCIPITAL = LesionSpec.ball((-22, 58, 8), 4.0)
_RIGHT_PARIETAL = LesionSpec.ball((-42, 24, 30), 5.0)
_NEW = LesionSpec.ball((20, -14, 42), 7.0)

_LESIONS: dict[int, tuple[LesionSpec, ...]] = {
    1: (
        _ANTERIOR, _PARIETAL, _CEREBELLAR, _TEMPORAL, _FRONTAL, _RIGHT_PARIETAL,
        _OCCIPITAL,
    ),
    2: (
        _ANTERIOR.scaled(0.68), _PARIETAL.scaled(1.3), _CEREBELLAR.scaled(0.7),
        _TEMPORAL, _NEW, _RIGHT_PARIETAL.scaled(0.9), _OCCIPITAL,
    ),
}  # fmt: skip
_DATES = {1: "20250110", 2: "20250411"}
_POSES = {1: Pose((4.0, -2.0, 3.0), (2.0, -3.0, 1.0)), 2: Pose((-3.0, 3.0, -5.0))}
_TILT: dict[int, Vector] = {1: (-11.0, 2.0, 1.5), 2: (-8.0, -1.0, 2.0)}


class SampleStudy(NamedTuple):
    """A visit that is not drawn yet: its UID, and what draws its images."""

    study_uid: str
    make: Callable[[], list[Dataset]]


@dataclass(frozen=True)
class SampleVisit:
    """One visit of the sample patient.

    Attributes
    ----------
    images : tuple of Dataset
        Every image of the study: scout, T2, T1 without and T1 with contrast.
    post_contrast : Head
        The head of the series to segment, with the truth about its lesions.
    """

    study_uid: str
    post_contrast_series_uid: str
    images: tuple[Dataset, ...]
    post_contrast: Head


def sample_study(visit: int = 1) -> SampleStudy:
    """Name one visit of the sample patient; the images are drawn when asked for.

    Parameters
    ----------
    visit : {1, 2}
    """
    return SampleStudy(
        study_uid=_study(visit).study_uid,
        make=lambda: list(draw_sample_visit(visit).images),
    )


def _study(visit: int) -> Visit:
    return Visit(key=f"sample-{visit}", date=_DATES[visit])


def draw_sample_visit(visit: int = 1) -> SampleVisit:
    """Draw one visit of the sample patient, with its truth.

    Parameters
    ----------
    visit : {1, 2}
    """
    study = _study(visit)
    pose, tilt, lesions = _POSES[visit], _TILT[visit], _LESIONS[visit]
    thick = Grid((30, 256, 256), (5.0, 0.9375, 0.9375), "axial", tilt)
    images = localizer_series(study, seed=_SEED, pose=pose)
    for number, contrast in ((2, "T2"), (3, "T1-pre")):
        head = make_head(thick, lesions, pose=pose, contrast=contrast, seed=_SEED)
        images += dicom_series(head, visit=study, series_number=number)
    grid = Grid(_SHAPE, (1.2, 0.9375, 0.9375), "axial", tilt)
    post = make_head(grid, lesions, pose=pose, seed=_SEED)
    target = dicom_series(post, visit=study, series_number=5)
    return SampleVisit(
        study_uid=study.study_uid,
        post_contrast_series_uid=target[0].SeriesInstanceUID,
        images=(*images, *target),
        post_contrast=post,
    )


def write_sample_visit(folder: Path, visit: int = 1) -> SampleVisit:
    """Draw one visit and write its images below `folder`, one subfolder a series."""
    drawn = draw_sample_visit(visit)
    by_series: dict[int, list[Dataset]] = {}
    for image in drawn.images:
        by_series.setdefault(int(image.SeriesNumber), []).append(image)
    for number, images in by_series.items():
        write_images(folder / f"series-{number}", images)
    return drawn


def truth_document(visit: SampleVisit) -> dict[str, object]:
    """Say as plain data (for JSON) what is true of the visit's lesions."""
    return {
        "study_uid": visit.study_uid,
        "series_uid": visit.post_contrast_series_uid,
        "lesions": [asdict(lesion) for lesion in visit.post_contrast.lesions],
    }
