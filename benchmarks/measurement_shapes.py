"""Phantoms that are no spheres, and how far their measurements lie from the truth.

Rings, ellipsoids tilted out of the slices, lesions on one slice: each with what an
error-free reader would measure in the patient's axial plane. Called by
``benchmarks.measurement_error`` and by tests.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np

from benchmarks.measurement_error import (
    AXIAL,
    SAGITTAL,
    Acquisition,
    Inside,
    Truth,
    ellipsoid,
    measure,
    occupancy,
    sphere,
    summary,
    tilted,
)

_FINE = Acquisition("axial 1 x 1", (1.0, 1.0, 1.0))
_OBLIQUE = Acquisition("oblique 30 deg 1 x 1", (1.0, 1.0, 1.0), tilted(30))
_OF_SAGITTAL = Acquisition("sagittal 1 x 1", (1.0, 1.0, 1.0), SAGITTAL)
_THICK = tuple(
    Acquisition(f"axial {mm:g} x 0.9", (mm, 0.9, 0.9), AXIAL) for mm in (3.0, 5.0)
)


@dataclass(frozen=True)
class Shape:
    """A shape around the origin, and what it measures."""

    name: str
    inside: Inside
    truth: Truth
    reach_mm: float


def ring(outer_mm: float, wall_mm: float) -> Shape:
    """Return a ball with a hole: its diameters are those of the full ball."""
    hole_mm = outer_mm - 2 * wall_mm
    whole, hole = sphere((0, 0, 0), outer_mm), sphere((0, 0, 0), hole_mm)
    volume_mm3 = np.pi / 6 * (outer_mm**3 - hole_mm**3)
    return Shape(
        f"ring {outer_mm:g} mm, wall {wall_mm:g} mm",
        lambda at: whole(at) & ~hole(at),
        Truth(outer_mm, outer_mm, outer_mm, volume_mm3),
        outer_mm,
    )


def tilted_ellipsoid(degrees: float, long_mm: float = 20, wide_mm: float = 10) -> Shape:
    """Return an ellipsoid whose long axis leaves the axial plane by some degrees."""
    angle = np.radians(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    section_mm = 1 / np.hypot(cosine / long_mm, sine / wide_mm)
    return Shape(
        f"ellipsoid {long_mm:g} x {wide_mm:g} mm, tilted {degrees:g} deg",
        ellipsoid((0, 0, 0), [long_mm / 2, wide_mm / 2, wide_mm / 2], turn),
        Truth(section_mm, wide_mm, long_mm, np.pi / 6 * long_mm * wide_mm**2),
        long_mm,
    )


def disc(diameter_mm: float, height_mm: float) -> Shape:
    """Return a flat cylinder along the patient's axis; on one slice where it is low."""

    def inside(at: np.ndarray) -> np.ndarray:
        across = np.hypot(at[0], at[1]) <= diameter_mm / 2
        return across & (np.abs(at[2]) <= height_mm / 2)

    return Shape(
        f"disc {diameter_mm:g} mm, {height_mm:g} mm high",
        inside,
        Truth(
            diameter_mm,
            diameter_mm,
            float(np.hypot(diameter_mm, height_mm)),
            np.pi / 4 * diameter_mm**2 * height_mm,
        ),
        diameter_mm,
    )


CASES: tuple[tuple[Shape, Acquisition], ...] = (
    *((ring(size, wall), _FINE) for size, wall in ((12.0, 3.0), (20.0, 2.0))),
    (ring(20.0, 3.0), _OF_SAGITTAL),
    *((tilted_ellipsoid(degrees), _FINE) for degrees in (10, 20, 30, 45)),
    *((tilted_ellipsoid(degrees), _OBLIQUE) for degrees in (10, 45)),
    *((tilted_ellipsoid(30), thick) for thick in _THICK),
    *((disc(12.0, thick.spacing_mm[0]), thick) for thick in (_FINE, *_THICK)),
)


def shape_errors(
    shape: Shape, acquisition: Acquisition, repeats: int, *, drawn: bool = False
) -> dict[str, float]:
    """Measure a shape at random sub-voxel places; see ``measurement_error.summary``.

    A one-slice disc stays in the middle of its slice: anywhere else it lies on two.
    """
    random = np.random.default_rng(0)
    geometry = acquisition.geometry(shape.reach_mm)
    flat = shape.name.startswith("disc")
    errors = []
    for _ in range(repeats):
        shift = random.uniform(-0.5, 0.5, 3)
        if flat:
            shift[0] = 0.5 * (1 - geometry.spatial_shape[0] % 2)
        place_mm = (geometry.affine[:3, :3] @ shift)[:, np.newaxis]
        image = _shifted(geometry, shape.inside, place_mm)
        errors.append(shape.truth.errors(measure(image, drawn=drawn)))
    return summary(np.array(errors))


def _shifted(
    geometry: hd.VolumeGeometry, inside: Inside, place_mm: np.ndarray
) -> hd.Volume:
    return occupancy(geometry, lambda at: inside(at - place_mm))


def shape_table(repeats: int) -> list[dict[str, object]]:
    """Give the errors on shapes as rows."""
    rows: list[dict[str, object]] = []
    for (shape, acquisition), drawn in itertools.product(CASES, (False, True)):
        row = shape_errors(shape, acquisition, repeats, drawn=drawn)
        contour = "mask" if drawn else "probability"
        names = {"shape": shape.name, "acquisition": acquisition.name}
        rows.append({**names, "contour": contour, **row})
    return rows


def storage_spread() -> float:
    """Measure one oblique lesion in all 48 ways to store its grid.

    Returns
    -------
    float
        Largest difference of any length, mm.
    """
    acquisition = Acquisition("", (3.0, 0.9, 1.1), tilted(25, SAGITTAL))
    shape = tilted_ellipsoid(30)
    image = occupancy(acquisition.geometry(shape.reach_mm), shape.inside)
    found = []
    for order, n in itertools.product(itertools.permutations(range(3)), range(4)):
        for flips in itertools.combinations(range(3), n):
            found += [_lengths(_stored(image, order, flips))]
    return float(np.ptp(np.array(found), axis=0).max())


def _stored(image: hd.Volume, order: Sequence[int], flips: Sequence[int]) -> hd.Volume:
    turned = image.permute_spatial_axes(list(order))
    return turned.flip_spatial(list(flips)) if flips else turned


def _lengths(image: hd.Volume) -> list[float]:
    return [
        length
        for drawn in (False, True)
        for lesion in [measure(image, drawn=drawn)]
        for length in (
            lesion.longest_diameter_mm,
            lesion.perpendicular_diameter_mm,
            lesion.diameter_3d_mm,
        )
    ]
