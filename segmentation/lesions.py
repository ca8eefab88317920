"""From a probability map, or from drawn labels, to numbered, measured lesions.

``find_lesions`` promises: 26-connected components of probability >= threshold, largest
first; ``measure_segments``: what a reader drew, voxel for voxel, one lesion a label.
Both: the volume by voxel count (unbiased; holes are not filled, no mesh); the longest
and the perpendicular diameter in the patient's axial plane, holes filled, and the 3-D
diameter (``segmentation.diameters`` has the definitions); every position in LPS
millimetres. Nothing but the order of the slices in `LesionMap.labels` and
`Lesion.slice_index` hangs on how the grid is stored. Pure and safe between threads;
called by the pipeline, corrections, the command line and tests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from errors import MetiaError
from segmentation.diameters import (
    Axis,
    Point,
    axial_axis,
    is_nearly_axial,
    measure_axes,
    measure_extent,
)
from segmentation.measurability import why_not_measurable

Method = Literal["probability-contour", "mask-contour"]
"""Where the contour runs: at the threshold of the probability, or half-way between
voxels inside and outside (0.3 to 0.7 mm longer on a 1 mm grid)."""
TOUCHES_BORDER = "touches-border"
SEVERAL_PARTS = "several-parts"
_PLAUSIBLE_TOTAL_ML = 500.0
"""More lesion than this in one head is a misread image, not disease."""
_MOST_LESIONS = 5000
"""So many components are noise; measuring them would only cost time."""
_ROUNDING = 1e-3
"""Interpolation and float16 may leave probabilities this far outside [0, 1]."""
_MARGIN = 2
"""Voxels around a lesion that its contour needs: one on the grid, two resampled."""
_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Lesion:
    """One component and what was measured of it.

    Attributes
    ----------
    number : int
        From 1; also the value in `LesionMap.labels` and the segment number in the SEG.
        Of ``find_lesions``: largest volume first.
    long_axis_mm, short_axis_mm, diameter_3d_axis_mm : tuple
        End points of the diameters, LPS.
    slice_index : int
        Index on axis 0 of the input nearest to the middle of the long axis, among the
        slices the lesion touches.
    slice_count : int
        How many planes of the grid the lesion touches, of those nearest to axial.
    probability, peak_probability : float
        Mean and maximum over the lesion's voxels; 1 for drawn labels.
    method : str
        How the diameters were measured.
    measurable_reasons : tuple of str
        Codes of ``measurability.REASONS``: why its size makes it not measurable.
    warnings : tuple of str
        Codes of what limits the measurement: ``touches-border``; ``several-parts`` for
        a drawn lesion whose voxels do not all touch, measured across its parts.
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
    diameter_3d_mm: float
    diameter_3d_axis_mm: tuple[Point, Point]
    method: Method
    measurable_reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def measurable(self) -> bool:
        """Whether its size meets RANO-BM."""
        return not self.measurable_reasons


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
        The tilt is above 15 degrees, so diameters were measured on planes resampled to
        the patient's axial plane.
    """

    labels: hd.Volume
    lesions: tuple[Lesion, ...]
    dropped_small: int
    tilt_deg: float = 0.0
    resampled: bool = False


def find_lesions(
    probability: hd.Volume,
    *,
    threshold: float,
    minimum_volume_mm3: float,
    minimum_peak: float = 0.0,
    slice_distance_mm: float | None = None,
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
    minimum_peak : float, optional
        Components without a voxel of this probability are left out. What is found can
        so be decided more strictly than how far it reaches.
    slice_distance_mm : float, optional
        Slice thickness and gap together, which decide on what is measurable; the
        coarsest spacing of the grid where left out.

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
    inside = values >= np.float32(threshold)
    components, count = _number_components(inside)
    where = np.flatnonzero(inside)
    key_of_voxel = components.ravel()[where]
    sizes = np.bincount(key_of_voxel, minlength=count + 1)
    voxel_mm3 = probability.voxel_volume
    # A component of exactly the minimum stays, whatever the last bit of its spacing.
    large = sizes * voxel_mm3 >= minimum_volume_mm3 * (1.0 - 1e-9)
    large[0] = False
    kept = large
    if minimum_peak > threshold:
        kept = np.zeros_like(large)
        kept[key_of_voxel[values.ravel()[where] >= np.float32(minimum_peak)]] = True
        kept &= large
    _refuse_too_much(where.size, values.size, voxel_mm3, int(kept.sum()))
    distance_mm = slice_distance_mm or max(probability.spacing)
    image = _Image(values, components, probability.affine, threshold, distance_mm)
    found = [
        _Component(image, key, voxels)
        for key, voxels in _voxels_of(where, key_of_voxel, kept, values.shape)
    ]
    found.sort(key=lambda component: component.order)
    renumber = np.zeros(count + 1, dtype=np.uint16)
    renumber[[component.key for component in found]] = range(1, len(found) + 1)
    labels = np.zeros(values.shape, dtype=np.uint16)
    labels.ravel()[where] = renumber[key_of_voxel]
    tilt_deg = axial_axis(probability.affine)[1]
    return LesionMap(
        labels=probability.with_array(labels),
        lesions=tuple(
            component.measure(number, voxel_mm3)
            for number, component in enumerate(found, 1)
        ),
        dropped_small=count - int(large.sum()),
        tilt_deg=tilt_deg,
        resampled=not is_nearly_axial(tilt_deg),
    )


def measure_segments(
    labels: hd.Volume,
    *,
    slice_distance_mm: float | None = None,
    numbers: Collection[int] | None = None,
) -> LesionMap:
    """Measure drawn lesions exactly as they were drawn.

    Parameters
    ----------
    labels : highdicom.Volume
        uint16, axes (slice, row, column): 0 background, else the number of a lesion.
        A label is one lesion, of however many parts.
    slice_distance_mm : float, optional
        See ``find_lesions``.
    numbers : collection of int, optional
        Measure only these; all where left out.

    Returns
    -------
    LesionMap
        With `labels` as given; lesions in order of their numbers.
    """
    drawn = np.asarray(labels.array)
    distance_mm = slice_distance_mm or max(labels.spacing)
    where = np.flatnonzero(drawn)
    number_of_voxel = drawn.ravel()[where]
    wanted = np.zeros(int(drawn.max()) + 1, dtype=bool)
    chosen = np.unique(number_of_voxel) if numbers is None else list(numbers)
    wanted[chosen] = True
    image = _Image(
        (drawn > 0).astype(np.float32), drawn, labels.affine, 0.5, distance_mm
    )
    tilt_deg = axial_axis(labels.affine)[1]
    return LesionMap(
        labels=labels,
        lesions=tuple(
            _Component(image, number, voxels).measure(number, labels.voxel_volume)
            for number, voxels in _voxels_of(
                where, number_of_voxel, wanted, drawn.shape
            )
        ),
        dropped_small=0,
        tilt_deg=tilt_deg,
        resampled=not is_nearly_axial(tilt_deg),
    )


def _refuse_no_probabilities(values: NDArray[np.float32]) -> None:
    lowest, highest = float(values.min()), float(values.max())
    # NaN fails every comparison, so it is refused as well.
    if not (lowest >= -_ROUNDING and highest <= 1.0 + _ROUNDING):
        raise MetiaError(
            "prediction-implausible",
            "The model's answer holds values that are no probabilities.",
        )


def _number_components(
    inside: NDArray[np.bool_],
) -> tuple[NDArray[np.int32], int]:
    """Give each 26-connected component a number from 1, 0 elsewhere; count them.

    Only the box around all of them is looked at: lesions fill a small part of an image,
    and this is the one step that would visit every voxel of it many times.
    """
    components = np.zeros(inside.shape, dtype=np.int32)
    spans = [
        np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)
    ]
    if not spans[0].size:
        return components, 0
    box = tuple(slice(span[0], span[-1] + 1) for span in spans)
    components[box], count = ndimage.label(inside[box], _TOUCHING)
    return components, count


def _refuse_too_much(
    voxels: int, of_voxels: int, voxel_mm3: float, components: int
) -> None:
    total_ml = voxels * voxel_mm3 / 1000.0
    if total_ml > _PLAUSIBLE_TOTAL_ML or voxels == of_voxels:
        raise MetiaError(
            "prediction-implausible",
            f"The model marked {total_ml:.0f} ml as lesion.",
            {"lesion_ml": round(total_ml, 1)},
        )
    if components > _MOST_LESIONS:
        raise MetiaError(
            "prediction-implausible",
            f"The model marked {components} separate lesions.",
            {"lesions": components},
        )


def _voxels_of(
    where: NDArray[np.intp],
    key_of_voxel: NDArray[np.integer[Any]],
    wanted: NDArray[np.bool_],
    shape: tuple[int, ...],
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Give each wanted component and the indices (3 x n) of its voxels."""
    keep = wanted[key_of_voxel]
    where, key_of_voxel = where[keep], key_of_voxel[keep]
    order = np.argsort(key_of_voxel, kind="stable")
    indices = np.stack(np.unravel_index(where[order], shape))
    keys, starts = np.unique(key_of_voxel[order], return_index=True)
    if keys.size:
        parts = np.split(indices, starts[1:], axis=1)
        yield from zip(keys.tolist(), parts, strict=True)


@dataclass(frozen=True)
class _Image:
    """What all components share; arrays have axes (slice, row, column)."""

    values: NDArray[np.float32]
    components: NDArray[np.integer[Any]]
    affine: NDArray[np.float64]
    threshold: float
    slice_distance_mm: float


class _Component:
    """One component: its number in the labelling and the indices of its voxels."""

    def __init__(self, image: _Image, key: int, voxels: NDArray[np.intp]) -> None:
        self.key = key
        self._image = image
        self._voxels = voxels
        self._first, self._last = voxels.min(axis=1), voxels.max(axis=1)
        centre = voxels.mean(axis=1)
        x, y, z = image.affine[:3, :3] @ centre + image.affine[:3, 3]
        self.centroid_mm = (float(x), float(y), float(z))

    @property
    def order(self) -> tuple[float, ...]:
        """Largest first; ties by place in the patient (highest, then back, left)."""
        x, y, z = (round(value, 3) for value in self.centroid_mm)
        return -self._voxels.shape[1], -z, -y, -x

    def measure(self, number: int, voxel_mm3: float) -> Lesion:
        """Measure everything about the component."""
        probabilities = self._image.values[tuple(self._voxels)]
        longest, perpendicular, extent, method = self._diameters()
        count = self._voxels.shape[1]
        axial = axial_axis(self._image.affine)[0]
        slice_count = len(np.unique(self._voxels[axial]))
        return Lesion(
            number=number,
            voxel_count=count,
            volume_ml=count * voxel_mm3 / 1000.0,
            longest_diameter_mm=longest.length_mm,
            perpendicular_diameter_mm=perpendicular.length_mm,
            long_axis_mm=longest.ends_mm,
            short_axis_mm=perpendicular.ends_mm,
            slice_index=self._nearest_slice(longest, np.unique(self._voxels[0])),
            slice_count=slice_count,
            probability=float(probabilities.mean(dtype=np.float64)),
            peak_probability=float(probabilities.max()),
            centroid_mm=self.centroid_mm,
            diameter_3d_mm=extent.length_mm,
            diameter_3d_axis_mm=extent.ends_mm,
            method=method,
            measurable_reasons=why_not_measurable(
                longest.length_mm,
                perpendicular.length_mm,
                slice_count,
                self._image.slice_distance_mm,
                touches_border=self._touches_border(),
            ),
            warnings=self._warnings(),
        )

    def _diameters(self) -> tuple[Axis, Axis, Axis, Method]:
        field, affine = self._field()
        threshold = self._image.threshold
        mask = (field >= np.float32(threshold)).astype(np.float32)
        if not np.array_equal(field, mask):
            # A voxel at the threshold itself is inside, so the contour encloses it.
            field = np.where(mask > 0, np.maximum(field, threshold + 1e-6), field)
            longest, perpendicular = measure_axes(field, affine, threshold)
            pixel_mm = np.linalg.norm(affine[:3, :3], axis=0).min()
            if perpendicular.length_mm >= pixel_mm / 2:
                extent = _at_least(measure_extent(field, affine, threshold), longest)
                return longest, perpendicular, extent, "probability-contour"
        # A mask has its edge half-way between voxels. So has a lesion whose level set
        # has no width, because its voxels lie at the threshold.
        longest, perpendicular = measure_axes(mask, affine, 0.5)
        extent = _at_least(measure_extent(mask, affine, 0.5), longest)
        return longest, perpendicular, extent, "mask-contour"

    def _field(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Cut out the probability with a margin, and say where it lies.

        Other components count as 0, and so does all beyond the border of the image.
        """
        start, stop = self._first - _MARGIN, self._last + 1 + _MARGIN
        low, high = np.maximum(start, 0), np.minimum(stop, self._image.values.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        components = self._image.components[box]
        foreign = (components != 0) & (components != self.key)
        field = np.where(foreign, np.float32(0), self._image.values[box])
        beyond = np.stack([low - start, stop - high], axis=1).tolist()
        affine = self._image.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ start
        return np.pad(field, beyond), affine

    def _nearest_slice(self, axis: Axis, slices: NDArray[np.intp]) -> int:
        affine = self._image.affine
        middle_mm = np.mean(axis.ends_mm, axis=0)
        middle = np.linalg.solve(affine[:3, :3], middle_mm - affine[:3, 3])
        return int(slices[np.argmin(np.abs(slices - middle[0]))])

    def _warnings(self) -> tuple[str, ...]:
        found = [TOUCHES_BORDER] if self._touches_border() else []
        box = np.zeros(self._last - self._first + 1, dtype=bool)
        box[tuple(self._voxels - self._first[:, np.newaxis])] = True
        if ndimage.label(box, _TOUCHING)[1] > 1:
            found.append(SEVERAL_PARTS)
        return tuple(found)

    def _touches_border(self) -> bool:
        last = np.array(self._image.values.shape) - 1
        return bool((self._first == 0).any() or (self._last == last).any())


def _at_least(extent: Axis, longest: Axis) -> Axis:
    """Prefer the axial diameter where its finer sampling found a greater length."""
    return max(extent, longest, key=lambda axis: axis.length_mm)
