"""Lesions of drawn probability maps with known answers."""

from __future__ import annotations

import time

import highdicom as hd
import numpy as np
import pytest

from benchmarks.measurement_error import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    Acquisition,
    ellipsoid,
    occupancy,
    sphere,
    sphere_errors,
    tilted,
)
from errors import MetiaError
from segmentation.lesions import TOUCHES_BORDER, Lesion, LesionMap, find_lesions

ISOTROPIC = Acquisition("1 mm", (1.0, 1.0, 1.0))
SUBDIVISION = 5


def volume(
    values: np.ndarray,
    spacing_mm: tuple[float, float, float] = (1, 1, 1),
    axes: np.ndarray = AXIAL,
) -> hd.Volume:
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing_mm
    affine[:3, 3] = (-20.0, 5.0, 30.0)
    return hd.Volume(values, affine, "PATIENT", frame_of_reference_uid="1.2.3")


def blank(*shape: int) -> np.ndarray:
    return np.zeros(shape or (9, 12, 14), np.float32)


def find(image: hd.Volume, threshold: float = 0.5, minimum: float = 0.0) -> LesionMap:
    return find_lesions(image, threshold=threshold, minimum_volume_mm3=minimum)


def only(image: hd.Volume, threshold: float = 0.5) -> Lesion:
    (lesion,) = find(image, threshold).lesions
    return lesion


def draw(
    semi_axes_mm: tuple[float, float, float],
    acquisition: Acquisition = ISOTROPIC,
    turn: np.ndarray | None = None,
    centre_mm: tuple[float, float, float] = (0.2, -0.3, 0.1),
) -> hd.Volume:
    geometry = acquisition.geometry(2 * max(semi_axes_mm))
    return occupancy(geometry, ellipsoid(centre_mm, semi_axes_mm, turn), SUBDIVISION)


# -- components -----------------------------------------------------------------------


def test_nothing_above_the_threshold_gives_no_lesion() -> None:
    found = find(volume(blank() + np.float32(0.49)))
    assert found.lesions == ()
    assert found.dropped_small == 0
    assert found.labels.array.dtype == np.uint16
    assert not found.labels.array.any()


def test_corners_connect_and_a_gap_of_one_voxel_separates() -> None:
    values = blank()
    values[2, 2, 2] = values[3, 3, 3] = 0.9  # touch by a corner
    values[3, 3, 5] = 0.9  # one empty voxel away
    found = find(volume(values))
    assert [one.voxel_count for one in found.lesions] == [2, 1]
    assert found.labels.array[2, 2, 2] == found.labels.array[3, 3, 3] == 1
    assert found.labels.array[3, 3, 5] == 2


def test_labels_lie_on_the_grid_of_the_input() -> None:
    image = volume(blank(), (5.0, 0.9, 0.8), tilted(20))
    image.array[4, 5, 6] = 1.0
    found = find(image)
    np.testing.assert_array_equal(found.labels.affine, image.affine)
    assert found.labels.frame_of_reference_uid == image.frame_of_reference_uid
    np.testing.assert_array_equal(found.labels.array, image.array)


def test_the_threshold_itself_is_inside() -> None:
    values = blank()
    values[4, 4:6, 4:6] = 0.3
    assert only(volume(values), 0.3).voxel_count == 4
    assert not find(volume(values), 0.3001).lesions


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL, tilted(30)])
def test_volume_counts_true_voxels(axes: np.ndarray) -> None:
    values = blank()
    values[2:5, 3:7, 4:6] = 0.8
    lesion = only(volume(values, (6.5, 0.6875, 0.7), axes))
    assert lesion.volume_ml == pytest.approx(24 * 6.5 * 0.6875 * 0.7 / 1000)


def test_minimum_volume_is_in_mm3_and_inclusive() -> None:
    values = blank()
    values[2, 2, 2:4] = 1.0
    values[6, 6, 6] = 1.0
    image = volume(values, (0.3, 0.7, 1.1))
    found = find(image, minimum=2 * 0.3 * 0.7 * 1.1)
    assert [one.voxel_count for one in found.lesions] == [2]
    assert found.dropped_small == 1
    assert found.labels.array.sum() == 2
    assert find(image, minimum=2.01 * 0.3 * 0.7 * 1.1).dropped_small == 2


def test_what_is_nowhere_certain_is_left_out_and_the_rest_keeps_its_size() -> None:
    values = blank()
    values[2, 2, 2:5] = (0.5, 0.9, 0.6)
    values[6, 6, 6:10] = 0.8
    values[8, 2, 2] = 0.95
    image = volume(values)

    def sizes(minimum_peak: float) -> list[int]:
        found = find_lesions(
            image, threshold=0.5, minimum_volume_mm3=2.0, minimum_peak=minimum_peak
        )
        assert found.dropped_small == 1
        assert np.count_nonzero(found.labels.array) == sum(
            one.voxel_count for one in found.lesions
        )
        return [one.voxel_count for one in found.lesions]

    assert sizes(0.0) == sizes(0.8) == [4, 3]
    assert sizes(0.81) == sizes(0.9) == [3]
    assert sizes(0.91) == []


def test_largest_first_and_ties_by_place_in_the_patient() -> None:
    values = blank(20, 20, 20)
    values[2, 2, 2] = values[15, 2, 2] = values[15, 10, 2] = values[15, 10, 9] = 1.0
    values[8:10, 8, 8] = 1.0
    places = [one.centroid_mm for one in find(volume(values)).lesions]
    assert [one.voxel_count for one in find(volume(values)).lesions] == [2, 1, 1, 1, 1]
    turned = volume(values).flip_spatial([0, 2]).permute_spatial_axes([2, 0, 1])
    np.testing.assert_allclose([o.centroid_mm for o in find(turned).lesions], places)
    assert [p[2] for p in places[1:]] == sorted(
        (p[2] for p in places[1:]), reverse=True
    )


def test_probability_and_place() -> None:
    values = blank()
    values[3, 4, 5], values[4, 4, 5] = 0.6, 1.0
    lesion = only(volume(values, (2.0, 1.0, 1.0)))
    assert lesion.probability == pytest.approx(0.8)
    assert lesion.peak_probability == 1.0
    assert lesion.centroid_mm == pytest.approx((-15.0, 9.0, 37.0))
    assert lesion.slice_count == 2
    assert lesion.slice_index == 4  # where the brighter, so wider, part lies


# -- diameters ------------------------------------------------------------------------


@pytest.mark.parametrize("diameter_mm", [5.0, 8.0, 15.0, 30.0])
def test_balls_at_1_mm(diameter_mm: float) -> None:
    errors = sphere_errors(ISOTROPIC, diameter_mm, repeats=5)
    assert abs(errors["longest_bias"]) <= 0.15
    assert errors["longest_worst"] <= 0.3
    assert abs(errors["perpendicular_bias"]) <= 0.25


@pytest.mark.parametrize("diameter_mm", [10.0, 20.0])
@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL, tilted(30)])
def test_balls_in_any_acquisition(diameter_mm: float, axes: np.ndarray) -> None:
    acquisition = Acquisition("any", (1.2, 0.8, 1.0), axes)
    errors = sphere_errors(acquisition, diameter_mm, 12, SUBDIVISION)
    assert abs(errors["longest_bias"]) <= 0.25
    assert abs(errors["volume_bias"]) <= 2.0
    assert errors["volume_worst"] <= 6.0


@pytest.mark.parametrize("thickness_mm", [2.0, 3.0])
def test_a_hole_counts_for_the_volume_only(thickness_mm: float) -> None:
    outer, inner = sphere((0, 0, 0), 20.0), sphere((0, 0, 0), 20.0 - 2 * thickness_mm)
    geometry = ISOTROPIC.geometry(20.0)
    ring = occupancy(geometry, lambda at: outer(at) & ~inner(at), SUBDIVISION)
    lesion, full = only(ring), only(occupancy(geometry, outer, SUBDIVISION))
    assert lesion.longest_diameter_mm == pytest.approx(full.longest_diameter_mm)
    assert lesion.perpendicular_diameter_mm == pytest.approx(
        full.perpendicular_diameter_mm, abs=0.02
    )
    shell_ml = np.pi / 6 * (20.0**3 - (20.0 - 2 * thickness_mm) ** 3) / 1000
    assert lesion.volume_ml == pytest.approx(shell_ml, rel=0.05)


def test_a_broken_ring_is_measured_across() -> None:
    outer, inner = sphere((0, 0, 0), 20.0), sphere((0, 0, 0), 15.0)
    ring = occupancy(
        ISOTROPIC.geometry(20.0),
        lambda at: outer(at) & ~inner(at) & ~((np.abs(at[1]) < 3) & (at[0] > 0)),
        SUBDIVISION,
    )
    assert only(ring).longest_diameter_mm == pytest.approx(20.0, abs=0.3)


@pytest.mark.parametrize(
    ("axes", "spacing_mm"),
    [
        (AXIAL, (1.0, 0.8, 0.8)),
        (AXIAL, (2.0, 0.7, 1.1)),
        (SAGITTAL, (1.0, 1.0, 1.0)),
        (CORONAL, (1.0, 0.9, 0.9)),
        (tilted(35), (1.0, 1.0, 1.0)),
        (tilted(25, SAGITTAL), (1.0, 1.0, 1.0)),
    ],
)
def test_an_ellipsoid_is_measured_in_the_patients_axial_plane(
    axes: np.ndarray, spacing_mm: tuple[float, float, float]
) -> None:
    # 16 x 8 mm in the axial plane, 30 mm from head to foot: in a sagittal slice, or any
    # plane but the axial one, it would read much longer.
    acquisition = Acquisition("any", spacing_mm, axes)
    lesion = only(draw((4.0, 8.0, 15.0), acquisition))
    assert lesion.longest_diameter_mm == pytest.approx(16.0, abs=0.3)
    assert lesion.perpendicular_diameter_mm == pytest.approx(8.0, abs=0.3)
    first, second = np.array(lesion.long_axis_mm)
    assert abs(first[2] - second[2]) < 1e-6
    assert abs(first[0] - second[0]) < 2.0  # it runs from front to back
    assert (first + second)[:2] / 2 == pytest.approx([0.2, -0.3], abs=0.6)


def test_an_ellipsoid_tilted_out_of_the_plane_reads_its_axial_section() -> None:
    angle = np.radians(30)
    turn = np.array(
        [
            [np.cos(angle), 0, np.sin(angle)],
            [0, 1, 0],
            [-np.sin(angle), 0, np.cos(angle)],
        ]
    )
    lesion = only(draw((10.0, 5.0, 5.0), turn=turn))
    section_mm = 2 / np.sqrt((np.cos(angle) / 10) ** 2 + (np.sin(angle) / 5) ** 2)
    assert lesion.longest_diameter_mm == pytest.approx(section_mm, abs=0.25)
    assert lesion.perpendicular_diameter_mm == pytest.approx(10.0, abs=0.25)


def test_small_tilt_is_measured_in_the_slices_and_recorded() -> None:
    for tilt_deg, resampled in (
        (0.0, False),
        (10.0, False),
        (15.0, False),
        (16.0, True),
    ):
        found = find(
            draw((6.0, 6.0, 6.0), Acquisition("", (1, 1, 1), tilted(tilt_deg)))
        )
        assert found.tilt_deg == pytest.approx(tilt_deg, abs=1e-6)
        assert found.resampled is resampled
        first, second = np.array(found.lesions[0].long_axis_mm)
        assert (abs((second - first) @ [0, 0, 1]) < 1e-6) or not resampled


def test_axes_are_where_the_lesion_is() -> None:
    image = draw((9.0, 5.0, 6.0), Acquisition("", (1.0, 0.8, 0.8), tilted(10)))
    lesion = only(image)
    for ends, length in (
        (lesion.long_axis_mm, lesion.longest_diameter_mm),
        (lesion.short_axis_mm, lesion.perpendicular_diameter_mm),
    ):
        assert np.linalg.norm(np.subtract(*ends)) == pytest.approx(length)
        indices = image.map_reference_to_indices(np.array(ends))
        np.testing.assert_allclose(indices[:, 0], lesion.slice_index, atol=1e-6)
        inside = image.array[tuple(np.rint(indices.mean(axis=0)).astype(int))]
        assert inside == 1.0
    long, short = np.subtract(*lesion.long_axis_mm), np.subtract(*lesion.short_axis_mm)
    cosine = long @ short / lesion.longest_diameter_mm
    assert abs(cosine) <= np.sin(np.radians(5.01)) * lesion.perpendicular_diameter_mm


def test_perpendicular_of_ellipses_turned_in_the_plane() -> None:
    for degrees in range(0, 90, 15):
        angle = np.radians(degrees)
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        lesion = only(draw((6.0, 3.0, 3.0), turn=turn))
        assert lesion.longest_diameter_mm == pytest.approx(12.0, abs=0.35)
        assert lesion.perpendicular_diameter_mm == pytest.approx(6.0, abs=0.35)


def test_a_mask_is_measured_between_voxels() -> None:
    values = blank()
    values[4, 3:9, 4:8] = 1  # 6 rows by 4 columns
    image = volume(values, (3.0, 1.0, 2.0))
    lesion = only(image)
    # The mid-edge contour cuts the corners: its far ends are (5, 8) or (6, 6) mm apart.
    assert lesion.longest_diameter_mm == pytest.approx(np.hypot(5.0, 8.0))
    for threshold in (0.2, 0.9, 1.0):
        assert only(image, threshold).long_axis_mm == lesion.long_axis_mm
    assert only(volume(values.astype(bool), (3.0, 1.0, 2.0))) == lesion
    assert only(volume(values.astype(np.uint8), (3.0, 1.0, 2.0))) == lesion


@pytest.mark.parametrize("value", [1.0, 0.9, 0.5])
@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL, tilted(40)])
def test_one_voxel_has_diameters(value: float, axes: np.ndarray) -> None:
    values = blank()
    values[4, 5, 6] = value
    lesion = only(volume(values, axes=axes))
    assert 0.4 <= lesion.perpendicular_diameter_mm <= lesion.longest_diameter_mm <= 1.5
    assert (lesion.slice_index, lesion.slice_count) == (4, 1)


def test_one_line_of_voxels_at_the_threshold_has_width() -> None:
    values = blank()
    values[4, 5, 3:9] = 0.5
    lesion = only(volume(values))
    assert lesion.longest_diameter_mm == pytest.approx(6.0, abs=0.1)
    assert lesion.perpendicular_diameter_mm == pytest.approx(1.0, abs=0.1)


def test_one_slice_only() -> None:
    values = blank(1, 12, 12)
    values[0, 3:8, 3:8] = 1.0
    lesion = only(volume(values, (5.0, 1.0, 1.0)))
    assert lesion.slice_count == 1
    assert lesion.longest_diameter_mm == pytest.approx(np.hypot(4, 5))


def test_lesions_at_the_border_are_measured_and_flagged() -> None:
    values = blank()
    values[0:3, 0:4, 0:4] = 1.0
    values[5, 5:8, 5:8] = 1.0
    at_border, inside = find(volume(values)).lesions
    assert at_border.warnings == (TOUCHES_BORDER,)
    assert at_border.longest_diameter_mm == pytest.approx(5.0)  # (3, 4) mm
    assert inside.warnings == ()


def test_a_near_neighbour_adds_nothing() -> None:
    alone, both = blank(9, 24, 24), blank(9, 24, 24)
    for values in (alone, both):
        values[3:6, 4:10, 4:10] = 0.8
        values[3:6, 4:10, 10] = 0.4  # the saddle between the two
    both[3:6, 4:10, 11:15] = 0.8
    for axes in (AXIAL, SAGITTAL, tilted(35)):
        single = only(volume(alone, axes=axes))
        pair = find(volume(both, axes=axes)).lesions
        assert pair[0].longest_diameter_mm == pytest.approx(single.longest_diameter_mm)
        assert pair[0].long_axis_mm == single.long_axis_mm


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL, tilted(35)])
def test_another_lesion_within_its_box_adds_nothing(axes: np.ndarray) -> None:
    alone = blank(7, 24, 24)
    alone[2:5, 3:7, 3:20] = alone[2:5, 3:20, 3:7] = 0.8  # an L ...
    both = alone.copy()
    both[2:5, 15:20, 15:20] = 0.9  # ... and a block in its open corner
    corner, block = find(volume(both, axes=axes)).lesions
    same = only(volume(alone, axes=axes))
    assert corner.long_axis_mm == same.long_axis_mm
    assert corner.short_axis_mm == same.short_axis_mm
    assert block.longest_diameter_mm < same.longest_diameter_mm


def test_the_longest_slice_is_found_among_wider_ones() -> None:
    values = blank(6, 24, 24)
    for row in range(10):
        values[2, 5 + row, 5 + row // 2 : 16 - row // 2] = 1  # a triangle
    values[3, 9, 5:19] = 1  # and a thin line, longer than any side of it
    lesion = only(volume(values))
    assert lesion.slice_index == 3
    assert lesion.longest_diameter_mm == pytest.approx(14.0)


def test_slice_index_of_a_sagittal_series_is_the_one_at_the_long_axis() -> None:
    acquisition = Acquisition("", (1.0, 1.0, 1.0), SAGITTAL)
    image = draw((4.0, 8.0, 6.0), acquisition, centre_mm=(2.0, 0.0, 0.0))
    lesion = only(image)
    wanted = image.map_reference_to_indices(np.array([[2.0, 0.0, 0.0]]))[0, 0]
    assert abs(lesion.slice_index - wanted) <= 1
    # Counted in axial planes, from head to foot, as the rule for targets asks.
    assert lesion.slice_count == pytest.approx(12, abs=1)


# -- refusals and bounds --------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.5, 1.5])
def test_no_probabilities_are_refused(value: float) -> None:
    values = blank()
    values[4, 4, 4] = value
    with pytest.raises(MetiaError) as raised:
        find(volume(values))
    assert raised.value.code == "prediction-implausible"


@pytest.mark.parametrize("spacing_mm", [0.5, 10.0])
def test_an_image_full_of_lesion_is_refused(spacing_mm: float) -> None:
    values = np.ones((10, 12, 14), np.float32)
    values[0] = 0.0 if spacing_mm > 1 else 1.0
    with pytest.raises(MetiaError) as raised:
        find(volume(values, (spacing_mm,) * 3))
    assert raised.value.code == "prediction-implausible"


def test_noise_is_refused_before_it_costs_time() -> None:
    values = np.zeros((60, 120, 120), np.float32)
    values[::2, ::2, ::2] = 1.0
    with pytest.raises(MetiaError) as raised:
        find(volume(values, (0.5, 0.5, 0.5)))
    assert raised.value.code == "prediction-implausible"


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, np.nan])
def test_thresholds_that_mean_nothing_are_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        find(volume(blank()), threshold)


def test_a_thousand_components_take_seconds_not_minutes() -> None:
    values = np.zeros((80, 160, 160), np.float32)
    for index in np.ndindex(10, 10, 10):
        low = np.array(index) * (8, 16, 16)
        values[low[0] : low[0] + 4, low[1] : low[1] + 5, low[2] : low[2] + 6] = 0.9
    began = time.process_time()
    found = find(volume(values))
    assert len(found.lesions) == 1000
    assert found.labels.array.max() == 1000
    assert time.process_time() - began < 10.0


def test_the_input_is_left_alone() -> None:
    image = draw((5.0, 5.0, 5.0))
    before = image.array.copy()
    find(image)
    np.testing.assert_array_equal(image.array, before)
