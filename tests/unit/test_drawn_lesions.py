"""Lesions that a reader drew: measured as drawn, whatever their form."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pytest

from benchmarks.measurement_error import (
    AXIAL,
    DIAMETERS_MM,
    SAGITTAL,
    Acquisition,
    sphere_errors,
    tilted,
)
from benchmarks.measurement_shapes import (
    disc,
    ring,
    shape_errors,
    storage_spread,
    tilted_ellipsoid,
)
from segmentation.lesions import SEVERAL_PARTS, find_lesions, measure_segments
from segmentation.measurability import LONGEST, PERPENDICULAR, SLICES

FINE = Acquisition("1 mm", (1.0, 1.0, 1.0))


def labels(
    values: np.ndarray, spacing_mm=(1.0, 1.0, 1.0), axes: np.ndarray = AXIAL
) -> hd.Volume:
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing_mm
    return hd.Volume(values.astype(np.uint16), affine, "PATIENT")


def blank() -> np.ndarray:
    return np.zeros((20, 40, 40), np.uint16)


def test_a_label_is_one_lesion_of_however_many_parts() -> None:
    values = blank()
    values[5:8, 5:10, 5:10] = 7
    values[15, 30, 30] = 7
    found = measure_segments(labels(values))
    (lesion,) = found.lesions
    assert (lesion.number, lesion.voxel_count) == (7, 76)
    assert lesion.warnings == (SEVERAL_PARTS,)
    assert lesion.slice_count == 4
    assert found.labels.array is not None
    np.testing.assert_array_equal(found.labels.array, values)
    # The parts lie on different slices: in the axial plane neither reaches the other.
    assert lesion.longest_diameter_mm == pytest.approx(np.hypot(5, 4))
    assert lesion.diameter_3d_mm > 35
    values[6, 5, 30] = 7  # now one of them does
    (lesion,) = measure_segments(labels(values)).lesions
    assert lesion.longest_diameter_mm == pytest.approx(np.hypot(25.5, 4.5), abs=0.5)


def test_only_the_wanted_are_measured() -> None:
    values = blank()
    values[2, 2:6, 2:6], values[9, 2:6, 2:6], values[9, 9, 9] = 1, 2, 300
    assert [one.number for one in measure_segments(labels(values)).lesions] == [
        1,
        2,
        300,
    ]
    found = measure_segments(labels(values), numbers=[2, 300])
    assert [one.number for one in found.lesions] == [2, 300]
    assert measure_segments(labels(blank())).lesions == ()


def test_neighbours_that_touch_do_not_count() -> None:
    values = blank()
    values[5:9, 5:10, 5:10] = 1
    (alone,) = measure_segments(labels(values)).lesions
    values[5:9, 5:10, 10:20] = 2
    first, _ = measure_segments(labels(values)).lesions
    assert first.longest_diameter_mm == alone.longest_diameter_mm
    assert first.diameter_3d_axis_mm == alone.diameter_3d_axis_mm


def test_as_drawn_is_as_a_binary_map_is_measured() -> None:
    values = blank()
    values[4:9, 5:17, 6:15] = 1
    (drawn,) = measure_segments(labels(values)).lesions
    (found,) = find_lesions(labels(values), threshold=0.5, minimum_volume_mm3=0).lesions
    assert drawn == found
    assert found.method == "mask-contour"


@pytest.mark.parametrize("drawn", [False, True])
def test_a_hole_is_filled_for_diameters_and_not_for_the_volume(drawn: bool) -> None:
    errors = shape_errors(ring(20.0, 3.0), FINE, 3, drawn=drawn)
    full = sphere_errors(FINE, 20.0, 3, drawn=drawn)
    for name in ("longest", "perpendicular", "extent"):
        assert errors[f"{name}_bias"] == pytest.approx(full[f"{name}_bias"], abs=0.03)
    assert abs(errors["volume_bias"]) < 2.0


@pytest.mark.parametrize("diameter_mm", [d for d in DIAMETERS_MM if d <= 15])
def test_error_budget_of_balls_at_1_mm(diameter_mm: float) -> None:
    errors = sphere_errors(FINE, diameter_mm, 6)
    assert abs(errors["longest_bias"]) <= 0.15 or diameter_mm < 5
    assert abs(errors["extent_bias"]) <= 0.2 or diameter_mm < 5
    assert abs(errors["volume_bias"]) <= 2.0 or diameter_mm < 10


@pytest.mark.parametrize("degrees", [10, 20, 30, 45])
def test_tilted_ellipsoids_read_their_axial_section(degrees: float) -> None:
    for acquisition in (FINE, Acquisition("", (1.0, 1.0, 1.0), SAGITTAL)):
        errors = shape_errors(tilted_ellipsoid(degrees), acquisition, 2)
        assert abs(errors["longest_bias"]) <= 0.25
        assert abs(errors["perpendicular_bias"]) <= 0.2
        assert abs(errors["extent_bias"]) <= 0.35  # the tip of an ellipsoid is thin


@pytest.mark.parametrize("thickness_mm", [1.0, 3.0, 5.0])
def test_a_lesion_on_one_slice_is_measured_and_not_measurable(
    thickness_mm: float,
) -> None:
    acquisition = Acquisition("", (thickness_mm, 0.9, 0.9))
    errors = shape_errors(disc(12.0, thickness_mm), acquisition, 2)
    assert abs(errors["longest_bias"]) <= 0.25
    values = np.zeros((5, 30, 30))
    values[2, 8:22, 8:22] = 1
    (lesion,) = measure_segments(labels(values, (thickness_mm, 1, 1))).lesions
    assert lesion.measurable_reasons == (SLICES,)
    assert not lesion.measurable


def test_slice_distance_decides_on_thick_slices() -> None:
    values = blank()
    values[5:9, 5:16, 5:16] = 1
    image = labels(values, (3.0, 1.0, 1.0))
    (lesion,) = measure_segments(image, slice_distance_mm=8.0).lesions
    assert lesion.measurable_reasons == ("longest-below-two-slices",)
    (lesion,) = measure_segments(image).lesions
    assert lesion.measurable


def test_small_lesions_say_why_they_are_not_measurable() -> None:
    values = blank()
    values[5, 5, 5:9] = 1
    (lesion,) = measure_segments(labels(values)).lesions
    assert lesion.measurable_reasons == (LONGEST, PERPENDICULAR, SLICES)


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL, tilted(30)])
def test_3d_diameter_runs_through_the_body(axes: np.ndarray) -> None:
    values = blank()
    for k in range(15):  # a rod from corner to corner
        values[2 + k, 10 + k : 13 + k, 12 + k : 15 + k] = 1
    image = labels(values, axes=axes)
    (lesion,) = measure_segments(image).lesions
    ends = np.array(lesion.diameter_3d_axis_mm)
    assert np.linalg.norm(ends[0] - ends[1]) == pytest.approx(lesion.diameter_3d_mm)
    # From the lowest to the highest slice, and across 16.5 mm of rows and columns.
    length_mm = np.hypot(14, 16.5 * np.sqrt(2))
    assert lesion.diameter_3d_mm == pytest.approx(length_mm, abs=1)
    slices = np.sort(image.map_reference_to_indices(ends)[:, 0])
    np.testing.assert_allclose(slices, [2, 16], atol=0.51)


def test_storage_of_the_grid_has_no_say() -> None:
    assert storage_spread() < 2e-3
