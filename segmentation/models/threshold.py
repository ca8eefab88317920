"""The demonstration model ``phantom-threshold``: bright, compact, therefore a lesion.

Made for the project's synthetic heads, where lesions are the brightest compact things,
over twice as bright as the brain. It cannot find metastases in patients and says so
in its manifest. The probability is the partial-volume fraction between a lesion's
plateau and its surroundings, so that the 0.5 contour is exact below a voxel. Axes
(slice, row, column) of the input; lengths in mm. numpy and scipy only; one call at a
time an instance is not required: it holds no state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from errors import MetiaError
from segmentation.models.predictor import ModelIdentity, Prediction
from unetr.configuration import InferenceParameters
from unetr.head import Box, Head, find_head

BRIGHTNESS_RATIO = 2.5
"""A lesion's seed is this many times as bright as the brain."""
SEED_PART = 0.2
"""A lesion's seed is at least this part of it; in vessels only flecks are so bright."""
SURROUND_MM = 2.5
"""How far around its seed a lesion's soft edge may reach."""
MAXIMUM_EXTENT_MM = 80.0
MAXIMUM_ELONGATION = 3.0
"""Longest over shortest semi-axis; vessels and membranes lie above."""
MINIMUM_THICKNESS = 0.1
"""Part of a region's volume that the largest ball within it has."""

FloatArray = NDArray[np.float32]
Mask = NDArray[np.bool_]


class ThresholdPredictor:
    """A ``Predictor`` that marks what is bright and compact."""

    load_s = 0.0
    device = "cpu"

    def __init__(self, identity: ModelIdentity, inference: InferenceParameters) -> None:
        self.identity = identity
        self.threshold = inference.threshold
        self.minimum_volume_mm3 = inference.minimum_volume_mm3
        self.minimum_peak = inference.minimum_peak
        self._maximum_head_fraction = inference.maximum_head_fraction

    def predict(
        self,
        image: hd.Volume,
        *,
        progress: Callable[[float], None],
        cancelled: Callable[[], bool],
    ) -> Prediction:
        """See ``Predictor.predict``."""
        started = time.perf_counter()
        array = image.array
        progress(0.0)
        _stop_if(cancelled)
        head = find_head(array, image.spacing, up=_way_up(image))
        progress(0.2)
        _stop_if(cancelled)
        prepared = time.perf_counter()
        regions = _bright_regions(array, head)
        progress(0.5)
        probability = np.zeros(array.shape, np.float32)
        for index, (box, seed) in enumerate(regions):
            _stop_if(cancelled)
            if _is_compact(seed, image.spacing):
                _draw(probability, array, box, seed, image.spacing)
            progress(0.5 + 0.45 * (index + 1) / len(regions))
        _stop_if(cancelled)
        self._refuse_implausible(probability, head, image.voxel_volume)
        progress(1.0)
        finished = time.perf_counter()
        return Prediction(
            probability=image.with_array(probability),
            device=self.device,
            parameters={"brightness_ratio": BRIGHTNESS_RATIO},
            timings_s={
                "preprocess": prepared - started,
                "network": finished - prepared,
                "postprocess": 0.0,
            },
        )

    def _refuse_implausible(
        self, probability: FloatArray, head: Head, voxel_mm3: float
    ) -> None:
        found_mm3 = float((probability >= self.threshold).sum()) * voxel_mm3
        if found_mm3 > self._maximum_head_fraction * head.volume_mm3:
            raise MetiaError(
                "prediction-implausible",
                "The model marked an implausibly large part of the head as lesion.",
            )


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise MetiaError("job-cancelled", "The job was cancelled on request.")


def _way_up(image: hd.Volume) -> tuple[int, int]:
    ways = [way.value for way in image.get_closest_patient_orientation()]
    return next(
        (n, 1 if way == "H" else -1) for n, way in enumerate(ways) if way in "HF"
    )


def _bright_regions(array: FloatArray, head: Head) -> list[tuple[Box, Mask]]:
    """List the 26-connected regions of seeds with their boxes, largest first.

    Single voxels are noise; the list is bounded so that a real scan, where fat may be
    that bright, ends in seconds too.
    """
    seeds = array[head.box] >= BRIGHTNESS_RATIO * head.brain_median
    labels, count = ndimage.label(seeds, np.ones((3, 3, 3), bool))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = [int(i) for i in np.argsort(-sizes, kind="stable") if sizes[i] > 1][:500]
    boxes = ndimage.find_objects(labels)
    regions = []
    for index in order:
        inner = boxes[index]
        first, second, third = (
            slice(outer.start + part.start, outer.start + part.stop)
            for outer, part in zip(head.box, inner, strict=True)
        )
        regions.append(((first, second, third), labels[inner] == index + 1))
    return regions


def _is_compact(seed: Mask, spacing_mm: Sequence[float]) -> bool:
    """Tell whether a region is rather a ball than a tube, a sheet or a tangle."""
    extents = np.multiply(seed.shape, spacing_mm)
    if extents.max() > MAXIMUM_EXTENT_MM:
        return False
    points = np.argwhere(seed) * np.asarray(spacing_mm)
    # A voxel's own spread keeps small and thick-slice regions from looking flat.
    spread = np.cov(points.T, bias=True) + np.diag(np.square(spacing_mm) / 12)
    shortest, _, longest = np.linalg.eigvalsh(spread)
    if longest > MAXIMUM_ELONGATION**2 * shortest:
        return False
    # Vessels that meet look compact by their moments, yet nowhere are they thick.
    body = _filled(np.pad(seed, 1))
    radius_mm = ndimage.distance_transform_edt(body, sampling=spacing_mm).max()
    body_mm3 = body.sum() * np.prod(spacing_mm)
    return bool(4 / 3 * np.pi * radius_mm**3 >= MINIMUM_THICKNESS * body_mm3)


def _draw(
    probability: FloatArray,
    array: FloatArray,
    box: Box,
    seed: Mask,
    spacing_mm: Sequence[float],
) -> None:
    """Add one lesion: brightness between its surroundings (0) and its plateau (1)."""
    reach = [max(1, round(SURROUND_MM / size)) for size in spacing_mm]
    wide, inner = _widen(box, [count + 1 for count in reach], array.shape)
    bright = np.zeros([part.stop - part.start for part in wide], bool)
    bright[inner] = seed
    values = array[wide]
    distance = ndimage.distance_transform_edt(~_filled(bright), sampling=spacing_mm)
    farthest = max(SURROUND_MM, 1.25 * max(spacing_mm))
    around = (distance > 0) & (distance <= farthest)
    plateau = float(np.percentile(values[bright], 75))
    shell = around & (distance > 0.5 * farthest)
    base = (
        float(np.median(values[shell])) if shell.any() else plateau / BRIGHTNESS_RATIO
    )
    fraction = np.clip((values - base) / max(plateau - base, 1e-6), 0.0, 1.0)
    fraction[distance > farthest] = 0.0
    solid = fraction >= 0.5
    if seed.sum() < SEED_PART * solid.sum():
        return
    # A dark core is part of the lesion.
    fraction[_filled(solid) & ~solid] = 1.0
    np.maximum(probability[wide], fraction, out=probability[wide])


def _filled(mask: Mask) -> Mask:
    """Fill what is enclosed in space, or within a slice where the rim is open above."""
    filled: Mask = ndimage.binary_fill_holes(mask)
    for plane in filled:
        plane |= ndimage.binary_fill_holes(plane)
    return filled


def _widen(box: Box, margin: Sequence[int], shape: Sequence[int]) -> tuple[Box, Box]:
    """Grow a box within the image; return it and where the old box lies in it."""
    wide, inner = [], []
    for part, extra, length in zip(box, margin, shape, strict=True):
        start, stop = max(0, part.start - extra), min(length, part.stop + extra)
        wide.append(slice(start, stop))
        inner.append(slice(part.start - start, part.stop - start))
    return (wide[0], wide[1], wide[2]), (inner[0], inner[1], inner[2])
