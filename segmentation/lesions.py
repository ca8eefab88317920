"""From a probability map to numbered, measured lesions.

``find_lesions`` promises: 26-connected components of probability >= threshold, largest
first; the volume by voxel count (unbiased; holes are not filled, no mesh); the longest
and the perpendicular diameter in the patient's axial plane (``segmentation.diameters``
has the definition); every position in LPS millimetres. Nothing but the order of the
slices in `LesionMap.labels` and `Lesion.slice_index` hangs on how the grid is stored.
Pure and safe between threads; called by the pipeline, the command line and tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from errors import MetiaError
from segmentation.diameters import (
    NATIVE_TILT_DEG,
    Axis,
    Point,
    axial_axis,
    measure_axes,
)

TOUCHES_BORDER = "touches-border"
_PLAUSIBLE_TOTAL_ML = 500.0
"""More lesion than this in one head is a misread image, not disease."""
_ROUNDING = 1e-3
"""Interpolation and float16 may leave probabilities this far outside [0, 1]."""
_TOUCHING = np.ones((3, 3, 3), dtype=bool)

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Lesion:
    """One component and what was measured of it.

    Attributes
    ----------
    number : int
        1 to n, largest volume first; also the value in `LesionMap.labels` and the
        segment number in the SEG.
    long_axis_mm, short_axis_mm : tuple
        End points of the two diameters, LPS.
    slice_index : int
        Index on axis 0 of the input nearest to the middle of the long axis, among the
        slices the lesion touches.
    slice_count : int
        How many slices of the input (axis 0) the lesion touches.
    probability, peak_probability : float
        Mean and maximum over the lesion's voxels.
    warnings : tuple of str
        Codes of what limits the measurement: ``touches-border``.
    """

    number: int
    voxel_count: int
    volume_ml: float
    longest_diameter_mm: float
    perpendicular_diameter_mm: float
    long_axis_mm: tuple[Point, Point]
    short_axis_mm: tuple[Point, Point]
    slice_index: int
    slice_count: int
    probability: float
    peak_probability: float
    centroid_mm: Point
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LesionMap:
    """All lesions of one image.

    Attributes
    ----------
    labels : highdicom.Volume
        uint16 on the grid of the input: 0 background, else the lesion's number.
    dropped_small : int
        Components left out because they were smaller than the minimum.
    tilt_deg : float
        Angle between the grid's most axial planes and the patient's axial plane.
    resampled : bool
        Diameters were measured on planes resampled to the patient's axial plane, since
        the tilt is above ``NATIVE_TILT_DEG``.
    """

    labels: hd.Volume
    lesions: tuple[Lesion, ...]
    dropped_small: int
    tilt_deg: float = 0.0
    resampled: bool = False


def find_lesions(
    probability: hd.Volume, *, threshold: float, minimum_volume_mm3: float
) -> LesionMap:
    """Separate and measure the lesions of a probability map.

    Parameters
    ----------
    probability : highdicom.Volume
        Axes (slice, row, column), values in [0, 1]; a binary mask is welcome too.
    threshold : float
        Probability from which a voxel belongs to a lesion, in (0, 1].
    minimum_volume_mm3 : float
        Components with less volume are left out.

    Returns
    -------
    LesionMap
        Without lesions where no component is large enough.

    Raises
    ------
    ValueError
        If `threshold` is outside (0, 1] or the volume has channels.
    MetiaError
        ``prediction-implausible`` for values that are no probabilities (NaN, infinite,
        outside [0, 1]), or for more lesion than a head can hold.
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError("the threshold must lie in (0, 1]")
    if probability.number_of_channel_dimensions:
        raise ValueError("the probability map must have one value a voxel")
    values = np.asarray(probability.array, dtype=np.float32)
    _refuse_no_probabilities(values)
    components, numbers = _components(values, threshold)
    voxel_mm3 = probability.voxel_volume
    counts = np.bincount(components[components > 0], minlength=numbers + 1)
    _refuse_too_much(int(counts.sum()), values.size, voxel_mm3)
    boxes = ndimage.find_objects(components, numbers)
    # A component of exactly the minimum stays, whatever the last bit of its spacing.
    large = [
        k
        for k in range(1, numbers + 1)
        if counts[k] * voxel_mm3 >= minimum_volume_mm3 * (1 - 1e-9)
    ]
    found = [
        _Component(values, components, boxes[k - 1], k, probability.affine)
        for k in large
    ]
    found.sort(key=lambda one: one.order)
    if len(found) > np.iinfo(np.uint16).max:
        raise MetiaError("prediction-implausible", "The model marked too many lesions.")
    renumber = np.zeros(numbers + 1, dtype=np.uint16)
    for number, component in enumerate(found, 1):
        renumber[component.key] = number
    _, tilt_deg = axial_axis(probability.affine)
    return LesionMap(
        labels=probability.with_array(renumber[components]),
        lesions=tuple(
            component.measure(number, threshold, voxel_mm3)
            for number, component in enumerate(found, 1)
        ),
        dropped_small=numbers - len(large),
        tilt_deg=tilt_deg,
        resampled=tilt_deg > NATIVE_TILT_DEG,
    )


def _refuse_no_probabilities(values: NDArray[np.float32]) -> None:
    lowest, highest = float(values.min()), float(values.max())
    if not (-_ROUNDING <= lowest and highest <= 1.0 + _ROUNDING):  # also for NaN
        raise MetiaError(
            "prediction-implausible",
            "The model's answer holds values that are no probabilities.",
        )


def _refuse_too_much(voxels: int, of_voxels: int, voxel_mm3: float) -> None:
    total_ml = voxels * voxel_mm3 / 1000.0
    if total_ml > _PLAUSIBLE_TOTAL_ML or voxels == of_voxels:
        raise MetiaError(
            "prediction-implausible",
            f"The model marked {total_ml:.0f} ml as lesion.",
            {"lesion_ml": round(total_ml, 1)},
        )


def _components(
    values: NDArray[np.float32], threshold: float
) -> tuple[NDArray[np.int32], int]:
    labels, count = ndimage.label(values >= np.float32(threshold), _TOUCHING)
    return labels, int(count)


class _Component:
    """One component in its bounding box."""

    def __init__(
        self,
        values: NDArray[np.float32],
        components: NDArray[np.int32],
        box: Box,
        key: int,
        affine: NDArray[np.float64],
    ) -> None:
        self.key = key
        self._box = box
        self._shape = values.shape
        self._affine = affine
        self._values = values
        self._components = components
        inside = np.stack(np.nonzero(components[box] == key))
        self._voxels = inside + [[side.start] for side in box]
        centre = self._voxels.mean(axis=1)
        self.centroid_mm = _point(affine[:3, :3] @ centre + affine[:3, 3])

    @property
    def order(self) -> tuple[float, ...]:
        """Largest first; ties by position in the patient (head, back, left first)."""
        x, y, z = (round(value, 3) for value in self.centroid_mm)
        return -self._voxels.shape[1], -z, -y, -x

    def measure(self, number: int, threshold: float, voxel_mm3: float) -> Lesion:
        """Measure everything about the component."""
        probabilities = self._values[tuple(self._voxels)]
        longest, perpendicular = self._axes(threshold)
        slices = np.unique(self._voxels[0])
        count = self._voxels.shape[1]
        return Lesion(
            number=number,
            voxel_count=count,
            volume_ml=count * voxel_mm3 / 1000.0,
            longest_diameter_mm=longest.length_mm,
            perpendicular_diameter_mm=perpendicular.length_mm,
            long_axis_mm=longest.ends_mm,
            short_axis_mm=perpendicular.ends_mm,
            slice_index=self._nearest_slice(longest, slices),
            slice_count=len(slices),
            probability=float(probabilities.mean(dtype=np.float64)),
            peak_probability=float(probabilities.max()),
            centroid_mm=self.centroid_mm,
            warnings=(TOUCHES_BORDER,) if self._touches_border() else (),
        )

    def _axes(self, threshold: float) -> tuple[Axis, Axis]:
        field, affine = self._field(threshold)
        mask = (field >= np.float32(threshold)).astype(np.float32)
        if not np.array_equal(field, mask):
            longest, perpendicular = measure_axes(field, affine, threshold)
            spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
            if perpendicular.length_mm >= spacing_mm.min() / 2:
                return longest, perpendicular
        # A mask has its edge half-way between voxels. So has a lesion whose level set
        # has no width, because its voxels lie at the threshold itself.
        return measure_axes(mask, affine, 0.5)

    def _field(
        self, threshold: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Cut out the box with a margin of one voxel, without other components.

        Beyond the border of the image the probability counts as 0.
        """
        outer = tuple(
            slice(max(side.start - 1, 0), min(side.stop + 1, size))
            for side, size in zip(self._box, self._shape, strict=True)
        )
        components = self._components[outer]
        field = np.where(components == self.key, self._values[outer], 0.0)
        np.copyto(field, self._values[outer], where=components == 0)
        pad = [
            (cut.start - side.start + 1, side.stop + 1 - cut.stop)
            for cut, side in zip(outer, self._box, strict=True)
        ]
        affine = self._affine.copy()
        start = [side.start - 1 for side in self._box]
        affine[:3, 3] += affine[:3, :3] @ start
        return np.pad(field, pad).astype(np.float32, copy=False), affine

    def _nearest_slice(self, axis: Axis, slices: NDArray[Any]) -> int:
        middle_mm = np.mean(axis.ends_mm, axis=0)
        middle = np.linalg.solve(self._affine[:3, :3], middle_mm - self._affine[:3, 3])
        return int(slices[np.argmin(np.abs(slices - middle[0]))])

    def _touches_border(self) -> bool:
        return any(
            side.start == 0 or side.stop == size
            for side, size in zip(self._box, self._shape, strict=True)
        )


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = map(float, values)
    return x, y, z
