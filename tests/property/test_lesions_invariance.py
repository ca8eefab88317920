"""What is measured does not hang on how the grid is stored."""

from __future__ import annotations

import itertools

import highdicom as hd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.measurement_error import AXIAL, SAGITTAL, Acquisition, tilted
from segmentation.diameters import axial_axis
from segmentation.lesions import LesionMap, find_lesions, measure_segments

AXES = [AXIAL, SAGITTAL, tilted(10), tilted(33), tilted(25, SAGITTAL)]
STORED = list(
    itertools.product(
        itertools.permutations(range(3)),
        [
            list(flips)
            for n in range(4)
            for flips in itertools.combinations(range(3), n)
        ],
    )
)


@st.composite
def images(draw: st.DrawFn) -> hd.Volume:
    """Some soft blobs, solid or hollow, on any grid."""
    spacing_mm = tuple(draw(st.sampled_from([0.7, 1.0, 1.3, 2.5])) for _ in range(3))
    geometry = Acquisition(
        "any",
        spacing_mm,
        draw(st.sampled_from(AXES)),
    ).geometry(14.0)
    indices = np.indices(geometry.spatial_shape).reshape(3, -1)
    points_mm = geometry.affine[:3, :3] @ indices + geometry.affine[:3, 3:]
    values = np.zeros(points_mm.shape[1])
    place = st.floats(-6.0, 6.0, width=16)
    for _ in range(draw(st.integers(1, 3))):
        centre_mm = [[draw(place)] for _ in range(3)]
        semi_axes_mm = [[draw(st.floats(1.5, 5.0, width=16))] for _ in range(3)]
        distance = np.sqrt((((points_mm - centre_mm) / semi_axes_mm) ** 2).sum(axis=0))
        hollow = draw(st.sampled_from([0.0, 0.6]))
        blob = np.minimum(1.2 - distance, distance - hollow + 0.5)
        values = np.maximum(values, np.clip(blob * 1.7, 0.0, 1.0))
    if draw(st.booleans()):
        values = np.rint(values)
    return geometry.with_array(
        values.reshape(geometry.spatial_shape).astype(np.float32)
    )


def find(image: hd.Volume) -> LesionMap:
    return find_lesions(image, threshold=0.5, minimum_volume_mm3=2.0)


@settings(max_examples=60, deadline=None)
@given(image=images(), stored=st.sampled_from(STORED))
def test_same_lesions_in_mm_however_the_grid_is_stored(
    image: hd.Volume, stored: tuple[tuple[int, ...], list[int]]
) -> None:
    order, flips = stored
    other = image.permute_spatial_axes(order)
    other = other.flip_spatial(flips) if flips else other
    there, here = find(other), find(image)
    assert there.dropped_small == here.dropped_small
    assert there.tilt_deg == pytest.approx(here.tilt_deg)
    assert len(there.lesions) == len(here.lesions)
    for one, same in zip(there.lesions, here.lesions, strict=True):
        assert one.voxel_count == same.voxel_count
        assert one.volume_ml == pytest.approx(same.volume_ml)
        assert one.centroid_mm == pytest.approx(same.centroid_mm, abs=1e-6)
        assert one.longest_diameter_mm == pytest.approx(
            same.longest_diameter_mm, abs=2e-3
        )
        assert one.probability == pytest.approx(same.probability)
        assert one.diameter_3d_mm == pytest.approx(same.diameter_3d_mm, abs=2e-3)
        assert one.slice_count == same.slice_count
        assert (one.method, one.warnings) == (same.method, same.warnings)
    back = there.labels.match_geometry(here.labels)
    np.testing.assert_array_equal(back.array, here.labels.array)


@settings(max_examples=40, deadline=None)
@given(image=images(), shift=st.tuples(*[st.integers(-50, 50)] * 3))
def test_moving_the_patient_moves_the_lesions(
    image: hd.Volume, shift: tuple[int, int, int]
) -> None:
    affine = image.affine
    affine[:3, 3] += shift
    moved = hd.Volume(image.array, affine, "PATIENT")
    for one, same in zip(find(moved).lesions, find(image).lesions, strict=True):
        # Resampled planes lie at fixed places, so they cut a moved lesion elsewhere.
        assert one.longest_diameter_mm == pytest.approx(
            same.longest_diameter_mm, abs=0.3 * max(image.spacing)
        )
        np.testing.assert_allclose(
            np.subtract(one.centroid_mm, same.centroid_mm), shift, atol=1e-9
        )


def reach_mm_of(indices: np.ndarray, image: hd.Volume) -> float:
    """Bound every distance between points of a lesion's surface."""
    centres_mm = image.map_indices_to_reference(indices)
    return np.linalg.norm(np.ptp(centres_mm, axis=0)) + 2 * max(image.spacing)


@settings(max_examples=60, deadline=None)
@given(image=images())
def test_measurements_belong_together(image: hd.Volume) -> None:
    found = find(image)
    sizes = [one.voxel_count for one in found.lesions]
    assert sizes == sorted(sizes, reverse=True)
    assert [one.number for one in found.lesions] == [*range(1, len(sizes) + 1)]
    counts = np.bincount(found.labels.array.ravel(), minlength=len(sizes) + 1)
    assert counts[1:].tolist() == sizes
    for one in found.lesions:
        assert 0 < one.perpendicular_diameter_mm <= one.longest_diameter_mm
        assert 0.5 <= one.probability <= one.peak_probability <= 1.0
        inside = np.argwhere(found.labels.array == one.number)
        assert inside[:, 0].min() <= one.slice_index <= inside[:, 0].max()
        axial = axial_axis(image.affine)[0]
        assert one.slice_count == len(np.unique(inside[:, axial]))
        assert one.diameter_3d_mm >= one.longest_diameter_mm
        assert one.diameter_3d_mm <= reach_mm_of(inside, image)
        assert np.linalg.norm(np.subtract(*one.diameter_3d_axis_mm)) == pytest.approx(
            one.diameter_3d_mm
        )
        centres_mm = image.map_indices_to_reference(inside)
        assert one.longest_diameter_mm <= reach_mm_of(inside, image)
        low, high = centres_mm.min(axis=0), centres_mm.max(axis=0)
        margin = max(image.spacing)
        for end in (
            *one.long_axis_mm,
            *one.short_axis_mm,
            *one.diameter_3d_axis_mm,
        ):
            assert (low - margin <= end).all()
            assert (end <= high + margin).all()


@settings(max_examples=40, deadline=None)
@given(image=images(), stored=st.sampled_from(STORED))
def test_drawn_lesions_measure_the_same_however_the_grid_is_stored(
    image: hd.Volume, stored: tuple[tuple[int, ...], list[int]]
) -> None:
    order, flips = stored
    drawn = find(image).labels
    other = drawn.permute_spatial_axes(order)
    other = other.flip_spatial(flips) if flips else other
    there, here = measure_segments(other), measure_segments(drawn)
    assert [one.number for one in there.lesions] == [one.number for one in here.lesions]
    for one, same in zip(there.lesions, here.lesions, strict=True):
        assert one.method == "mask-contour"
        assert one.probability == one.peak_probability == 1.0
        assert (one.voxel_count, one.slice_count) == (
            same.voxel_count,
            same.slice_count,
        )
        for name in ("longest_diameter_mm", "diameter_3d_mm", "volume_ml"):
            assert getattr(one, name) == pytest.approx(getattr(same, name), abs=2e-3)
