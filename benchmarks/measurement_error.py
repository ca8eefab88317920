"""How far measured diameters and volumes lie from the truth of digital phantoms.

``python -m benchmarks.measurement_error [--times N] [--json FILE]`` draws shapes of
known size at random sub-voxel places as occupancy images (each voxel holds the share of
it that lies inside: what a perfect model would answer), measures them with
``segmentation.lesions``, as they are and as the mask that a reader would draw (each
voxel in or out), and prints bias, spread and what storing the grid otherwise changes.
The shapes besides spheres are in ``benchmarks.measurement_shapes``. Tests use the same
phantoms. Acquisitions are named after slice spacing x pixel size in mm.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import highdicom as hd
import numpy as np

from benchmarks.machine import tell
from segmentation.lesions import Lesion, find_lesions, measure_segments

DIAMETERS_MM = (3.0, 5.0, 8.0, 10.0, 15.0, 20.0, 30.0)
FIGURES = ("longest", "perpendicular", "extent", "volume")
"""Of what an error is told: three diameters in mm, the volume in %."""
_SUBDIVISION = 6
"""Each voxel edge is divided into so many parts to find its occupancy."""

Inside = Callable[[np.ndarray], np.ndarray]
"""Takes LPS points (3 x n) in mm and tells which lie inside."""


@dataclass(frozen=True)
class Acquisition:
    """A grid: spacing (slice, row, column) in mm and the directions of its axes.

    Attributes
    ----------
    axes : numpy.ndarray
        3 x 3, columns: unit vectors of slice, row and column in LPS.
    """

    name: str
    spacing_mm: tuple[float, float, float]
    axes: np.ndarray = field(default_factory=lambda: AXIAL)

    def geometry(self, extent_mm: float) -> hd.VolumeGeometry:
        """Return a grid around the origin that holds `extent_mm` in each direction."""
        shape = tuple(int(np.ceil(extent_mm / step)) + 4 for step in self.spacing_mm)
        affine = np.eye(4)
        affine[:3, :3] = self.axes * self.spacing_mm
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        return hd.VolumeGeometry(affine, shape, "PATIENT")


AXIAL = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
SAGITTAL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
CORONAL = np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]])


def tilted(degrees: float, axes: np.ndarray = AXIAL) -> np.ndarray:
    """Turn `axes` about the patient's left-right axis."""
    angle = np.radians(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    return turn @ axes


ACQUISITIONS = (
    Acquisition("axial 1 x 1", (1.0, 1.0, 1.0)),
    Acquisition("axial 1 x 0.5", (1.0, 0.5, 0.5)),
    Acquisition("axial 1.2 x 0.94", (1.2, 0.94, 0.94)),
    Acquisition("axial 1 x 0.7/1.1", (1.0, 0.7, 1.1)),
    Acquisition("axial 3 x 0.9", (3.0, 0.9, 0.9)),
    Acquisition("axial 5 x 0.9", (5.0, 0.9, 0.9)),
    Acquisition("axial 6.5 x 0.69", (6.5, 0.6875, 0.6875)),
    Acquisition("oblique 10 deg 1 x 1", (1.0, 1.0, 1.0), tilted(10)),
    Acquisition("oblique 30 deg 1 x 1", (1.0, 1.0, 1.0), tilted(30)),
    Acquisition("sagittal 1 x 1", (1.0, 1.0, 1.0), SAGITTAL),
    Acquisition("sagittal 25 deg 1 x 1", (1.0, 1.0, 1.0), tilted(25, SAGITTAL)),
    Acquisition("sagittal 3 x 0.9", (3.0, 0.9, 0.9), SAGITTAL),
    Acquisition("coronal 1.5 x 0.9", (1.5, 0.9, 0.9), CORONAL),
)


def occupancy(
    geometry: hd.VolumeGeometry, inside: Inside, subdivision: int = _SUBDIVISION
) -> hd.Volume:
    """Draw a shape: the share of each voxel that lies inside it."""
    offsets = (np.arange(subdivision) + 0.5) / subdivision - 0.5
    centres = np.indices(geometry.spatial_shape).reshape(3, -1).astype(float)
    share = np.zeros(centres.shape[1])
    linear, origin = geometry.affine[:3, :3], geometry.affine[:3, 3:]
    for offset in itertools.product(offsets, repeat=3):
        share += inside(linear @ (centres + np.array([offset]).T) + origin)
    values = (share / subdivision**3).reshape(geometry.spatial_shape)
    return geometry.with_array(values.astype(np.float32))


def ellipsoid(
    centre_mm: Sequence[float],
    semi_axes_mm: Sequence[float],
    turn: np.ndarray | None = None,
) -> Inside:
    """Return the inside of an ellipsoid; `turn` rotates its axes in LPS."""
    inverse = (np.eye(3) if turn is None else turn).T
    centre, semi_axes = np.array([centre_mm]).T, np.array([semi_axes_mm]).T

    def inside(points_mm: np.ndarray) -> np.ndarray:
        return ((inverse @ (points_mm - centre) / semi_axes) ** 2).sum(axis=0) <= 1.0

    return inside


def sphere(centre_mm: Sequence[float], diameter_mm: float) -> Inside:
    """Return the inside of a ball."""
    return ellipsoid(centre_mm, [diameter_mm / 2] * 3)


def measure(image: hd.Volume, *, drawn: bool = False) -> Lesion:
    """Measure the one lesion of a phantom; `drawn`: of its mask, as readers draw."""
    if drawn:
        mask = image.with_array((image.array >= 0.5).astype(np.uint16))
        return measure_segments(mask).lesions[0]
    found = find_lesions(image, threshold=0.5, minimum_volume_mm3=0.0)
    return found.lesions[0]


@dataclass(frozen=True)
class Truth:
    """What a phantom measures."""

    longest_mm: float
    perpendicular_mm: float
    extent_mm: float
    volume_mm3: float

    def errors(self, lesion: Lesion) -> tuple[float, float, float, float]:
        """Give what was measured less what is true, in the order of `FIGURES`."""
        return (
            lesion.longest_diameter_mm - self.longest_mm,
            lesion.perpendicular_diameter_mm - self.perpendicular_mm,
            lesion.diameter_3d_mm - self.extent_mm,
            (lesion.volume_ml * 1000.0 / self.volume_mm3 - 1.0) * 100.0,
        )


def summary(errors: np.ndarray) -> dict[str, float]:
    """Condense errors (n x 4) into ``_bias``, ``_sd`` and ``_worst`` of each figure."""
    return {
        f"{name}_{figure}": round(float(value), 3)
        for name, column in zip(FIGURES, errors.T, strict=True)
        for figure, value in (
            ("bias", column.mean()),
            ("sd", column.std()),
            ("worst", np.abs(column).max()),
        )
    }


def sphere_errors(
    acquisition: Acquisition,
    diameter_mm: float,
    repeats: int,
    subdivision: int = _SUBDIVISION,
    *,
    drawn: bool = False,
) -> dict[str, float]:
    """Measure balls at random sub-voxel places; the figures are those of ``summary``.

    A ball that a mask of half-filled voxels loses altogether (small, on thick slices)
    counts as an error of its whole size.
    """
    random = np.random.default_rng(0)
    geometry = acquisition.geometry(diameter_mm)
    volume_mm3 = np.pi / 6 * diameter_mm**3
    truth = Truth(diameter_mm, diameter_mm, diameter_mm, volume_mm3)
    errors = np.empty((repeats, len(FIGURES)))
    for k in range(repeats):
        place_mm = geometry.affine[:3, :3] @ random.uniform(-0.5, 0.5, 3)
        image = occupancy(geometry, sphere(place_mm, diameter_mm), subdivision)
        if image.array.max() < 0.5:
            errors[k] = (-diameter_mm, -diameter_mm, -diameter_mm, -100.0)
        else:
            errors[k] = truth.errors(measure(image, drawn=drawn))
    return summary(errors)


def sphere_table(repeats: int) -> list[dict[str, object]]:
    """Give the errors on spheres as rows."""
    rows: list[dict[str, object]] = []
    for acquisition, diameter_mm, drawn in itertools.product(
        ACQUISITIONS, DIAMETERS_MM, (False, True)
    ):
        if diameter_mm < 1.5 * max(acquisition.spacing_mm):
            continue
        row = sphere_errors(acquisition, diameter_mm, repeats, drawn=drawn)
        contour = "mask" if drawn else "probability"
        rows.append(
            {
                "acquisition": acquisition.name,
                "diameter_mm": diameter_mm,
                "contour": contour,
            }
            | row
        )
    return rows


def _measure_all(repeats: int) -> dict[str, object]:
    from benchmarks.measurement_shapes import shape_table, storage_spread

    return {
        "spheres": sphere_table(repeats),
        "shapes": shape_table(repeats),
        "largest difference of a length over all 48 ways to store mm": storage_spread(),
    }


if __name__ == "__main__":
    tell(
        "errors of measured lengths in mm and volumes in %, of shapes at random places",
        _measure_all,
        times=10,
    )
