"""How far measured diameters and volumes lie from the truth of digital phantoms.

``python -m benchmarks.measurement_error [--json FILE] [--repeats N]`` draws spheres and
ellipsoids of known size at random sub-voxel places as occupancy images (each voxel
holds the share of it that lies inside: what a perfect model would answer), measures
them with ``segmentation.lesions``, and prints bias, spread and largest error. Tests use
the same phantoms. The acquisitions are named after slice spacing x pixel size in mm.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import highdicom as hd
import numpy as np

from benchmarks.machine import describe_machine
from segmentation.lesions import Lesion, find_lesions

DIAMETERS_MM = (3.0, 5.0, 8.0, 10.0, 15.0, 20.0, 30.0)
_SUBDIVISION = 8
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
    Acquisition("axial 6.5 x 0.69", (6.5, 0.6875, 0.6875)),
    Acquisition("oblique 10 deg 1 x 1", (1.0, 1.0, 1.0), tilted(10)),
    Acquisition("oblique 30 deg 1 x 1", (1.0, 1.0, 1.0), tilted(30)),
    Acquisition("sagittal 1 x 1", (1.0, 1.0, 1.0), SAGITTAL),
    Acquisition("sagittal 25 deg 1 x 1", (1.0, 1.0, 1.0), tilted(25, SAGITTAL)),
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


def measure(image: hd.Volume) -> Lesion:
    """Measure the one lesion of a phantom."""
    found = find_lesions(image, threshold=0.5, minimum_volume_mm3=0.0)
    return found.lesions[0]


def sphere_errors(
    acquisition: Acquisition,
    diameter_mm: float,
    repeats: int,
    subdivision: int = _SUBDIVISION,
) -> dict[str, float]:
    """Measure balls at random sub-voxel places.

    Returns
    -------
    dict
        ``longest``, ``perpendicular`` (mm) and ``volume`` (%) with ``_bias``, ``_sd``
        and ``_worst`` (largest absolute error).
    """
    random = np.random.default_rng(0)
    geometry = acquisition.geometry(diameter_mm)
    errors = np.empty((repeats, 3))
    for k in range(repeats):
        place_mm = geometry.affine[:3, :3] @ random.uniform(-0.5, 0.5, 3)
        ball = sphere(place_mm, diameter_mm)
        lesion = measure(occupancy(geometry, ball, subdivision))
        errors[k] = (
            lesion.longest_diameter_mm - diameter_mm,
            lesion.perpendicular_diameter_mm - diameter_mm,
            (lesion.volume_ml * 6000 / np.pi / diameter_mm**3 - 1) * 100,
        )
    return {
        f"{name}_{figure}": round(float(value), 3)
        for name, column in zip(
            ("longest", "perpendicular", "volume"), errors.T, strict=True
        )
        for figure, value in (
            ("bias", column.mean()),
            ("sd", column.std()),
            ("worst", np.abs(column).max()),
        )
    }


def main() -> None:
    """Print the table as Markdown, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    print("| acquisition | diameter mm | longest mm | perpendicular mm | volume % |")
    print("| --- | --- | --- | --- | --- |")
    rows = []
    for acquisition, diameter_mm in itertools.product(ACQUISITIONS, DIAMETERS_MM):
        if diameter_mm < 1.5 * max(acquisition.spacing_mm):
            continue
        row = sphere_errors(acquisition, diameter_mm, options.repeats)
        rows.append({"acquisition": acquisition.name, "diameter_mm": diameter_mm} | row)
        cells = (
            f"{row[f'{name}_bias']:+.2f} ± {row[f'{name}_sd']:.2f}"
            for name in ("longest", "perpendicular", "volume")
        )
        print(f"| {acquisition.name} | {diameter_mm:g} | {' | '.join(cells)} |")
    if options.json:
        report = {"machine": describe_machine(), "rows": rows}
        options.json.write_text(json.dumps(report, indent=2), "utf-8")


if __name__ == "__main__":
    main()
