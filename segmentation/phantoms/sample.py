"""The sample patient: three visits, three months apart, with known lesions.

Loaded by the local stack so that there is something to segment and to follow at once.
The target lesions shrink (partial response), then one grows and a new one appears
(progression); one small lesion goes, and two grow into one. Each time the head lies
otherwise, on another grid, with other noise. Deterministic; about 3 s and 200 MB a
visit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from segmentation.phantoms.dicom import (
    Visit,
    dicom_series,
    localizer_series,
    write_images,
)
from segmentation.phantoms.geometry import FloatArray, Grid, Pose, Vector
from segmentation.phantoms.head import Head, make_head
from segmentation.phantoms.lesions import LesionSpec

VISITS = (1, 2, 3)
_SEED = 20

_LESIONS: dict[str, LesionSpec] = {
    "anterior": LesionSpec(
        (-33, -34, 20), (12.5, 11, 11.5), (10, 20, 35), "ring", 0.62, 11.0
    ),
    "parietal": LesionSpec(
        (36, 36, 22), (7.5, 8.5, 8), (0, 15, -25), "ring", 0.55, 8.0
    ),
    "cerebellar": LesionSpec.ball((-24, 44, -46), 12.0, "ring"),
    "temporal": LesionSpec.ball((46, 6, -14), 9.0),
    "frontal": LesionSpec.ball((24, -50, 16), 6.0),
    "superior": LesionSpec.ball((-42, 24, 30), 6.0),
    "inferior": LesionSpec.ball((-42, 34, 26), 5.5),
    "occipital": LesionSpec.ball((-22, 58, 8), 4.0),
    "new": LesionSpec.ball((20, -14, 42), 7.0),
}
"""As at the first visit at which each is there, in the head's coordinates."""


class _Plan(NamedTuple):
    """How one visit differs from the others.

    Attributes
    ----------
    sizes : dict
        Of each lesion that is there: how many times as large as in `_LESIONS`.
    tilt_deg : tuple of float
        Of the slices.
    noise : float
        See ``make_head``.
    """

    date: str
    sizes: dict[str, float]
    pose: Pose
    tilt_deg: Vector
    shape: tuple[int, int, int]
    spacing_mm: Vector
    noise: float


_PLANS: dict[int, _Plan] = {
    1: _Plan(
        "20250110",
        {
            "anterior": 1, "parietal": 1, "cerebellar": 1, "temporal": 1,
            "frontal": 1, "superior": 1, "inferior": 1, "occipital": 1,
        },
        Pose((4.0, -2.0, 3.0), (2.0, -3.0, 1.0)),
        (-11.0, 2.0, 1.5),
        (160, 256, 256),
        (1.2, 0.9375, 0.9375),
        9.0,
    ),
    2: _Plan(
        "20250411",
        {
            "anterior": 0.6, "parietal": 0.65, "cerebellar": 0.65, "temporal": 1.05,
            "superior": 0.9, "inferior": 0.95, "occipital": 1,
        },
        Pose((-3.0, 3.0, -5.0)),
        (-8.0, -1.0, 2.0),
        (168, 264, 248),
        (1.15, 0.95, 0.95),
        11.0,
    ),
    3: _Plan(
        "20250711",
        {
            "anterior": 0.64, "parietal": 1.3, "cerebellar": 0.65, "temporal": 1.1,
            "superior": 2, "inferior": 2.1, "occipital": 1, "new": 1,
        },
        Pose((6.0, 1.0, 7.0), (-4.0, 5.0, -6.0)),
        (-5.0, 1.0, -2.0),
        (176, 240, 240),
        (1.1, 1.0, 1.0),
        8.0,
    ),
}  # fmt: skip
FUSED: dict[int, tuple[tuple[str, ...], ...]] = {3: (("superior", "inferior"),)}
"""Lesions that have grown into one, by visit; the first is the larger before."""


class SampleStudy(NamedTuple):
    """A visit that is not drawn yet: its UID, and what draws its images."""

    study_uid: str
    make: Callable[[], list[Dataset]]


@dataclass(frozen=True)
class SampleVisit:
    """One visit of the sample patient.

    Attributes
    ----------
    names : tuple of str
        What the lesions are called over all visits, in the order of the head's.
    pose : Pose
        How the head lies.
    images : tuple of Dataset
        Every image of the study: scout, T2, T1 without and T1 with contrast.
    post_contrast : Head
        The head of the series to segment, with the truth about its lesions.
    """

    number: int
    study_uid: str
    post_contrast_series_uid: str
    names: tuple[str, ...]
    pose: Pose
    images: tuple[Dataset, ...]
    post_contrast: Head


def sample_study(visit: int = 1) -> SampleStudy:
    """Name one visit of the sample patient; the images are drawn when asked for.

    Parameters
    ----------
    visit : {1, 2, 3}
    """
    return SampleStudy(
        study_uid=_study(visit).study_uid,
        make=lambda: list(draw_sample_visit(visit).images),
    )


def _study(visit: int) -> Visit:
    return Visit(key=f"sample-{visit}", date=_PLANS[visit].date)


def draw_sample_visit(
    visit: int = 1, *, only_post_contrast: bool = False
) -> SampleVisit:
    """Draw one visit of the sample patient, with its truth.

    Parameters
    ----------
    visit : {1, 2, 3}
    only_post_contrast : bool
        Leave out the other series of the study, which take half of the time.
    """
    study, plan = _study(visit), _PLANS[visit]
    lesions = [_LESIONS[name].scaled(size) for name, size in plan.sizes.items()]
    images: list[Dataset] = []
    if not only_post_contrast:
        images += localizer_series(study, seed=_SEED, pose=plan.pose)
        thick = Grid((30, 256, 256), (5.0, 0.9375, 0.9375), "axial", plan.tilt_deg)
        for number, contrast in ((2, "T2"), (3, "T1-pre")):
            head = make_head(
                thick, lesions, pose=plan.pose, contrast=contrast, seed=_SEED
            )
            images += dicom_series(head, visit=study, series_number=number)
    post = make_head(
        Grid(plan.shape, plan.spacing_mm, "axial", plan.tilt_deg),
        lesions,
        pose=plan.pose,
        seed=_SEED,
        noise=plan.noise,
        noise_seed=_SEED + visit,
    )
    target = dicom_series(post, visit=study, series_number=5)
    return SampleVisit(
        number=visit,
        study_uid=study.study_uid,
        post_contrast_series_uid=target[0].SeriesInstanceUID,
        names=tuple(plan.sizes),
        pose=plan.pose,
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


def motion_between(visit: int, reference: int = 1) -> FloatArray:
    """Give the true motion of a visit's coordinates into those of another (4 x 4)."""
    there, here = _PLANS[reference].pose.affine, _PLANS[visit].pose.affine
    matrix: FloatArray = there @ np.linalg.inv(here)
    return matrix


def truth_document(visit: SampleVisit) -> dict[str, object]:
    """Say as plain data (for JSON) what is true of the visit's lesions.

    ``name`` is the same for one lesion at all visits; ``fused`` lists the lesions that
    are one on the image; matrices are 4 x 4, LPS mm.
    """
    return {
        "study_uid": visit.study_uid,
        "series_uid": visit.post_contrast_series_uid,
        "date": _PLANS[visit.number].date,
        "head_to_patient": visit.pose.affine.tolist(),
        "to_first_visit": motion_between(visit.number).tolist(),
        "fused": [list(names) for names in FUSED.get(visit.number, ())],
        "lesions": [
            {"name": name, **asdict(lesion)}
            for name, lesion in zip(
                visit.names, visit.post_contrast.lesions, strict=True
            )
        ],
    }
