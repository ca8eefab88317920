"""The synthetic heads: exact truth, any grid, the same voxels every time."""

import numpy as np
import pytest

from segmentation.phantoms import (
    Grid,
    LesionSpec,
    Pose,
    make_head,
    random_lesions,
    sample_head,
)
from segmentation.phantoms.anatomy import cerebellum_distance, cerebrum_distance
from segmentation.phantoms.lesions import occupancy, truth

TILTED = LesionSpec((8, -6, 10), (9, 5, 6), (20, -35, 50))
GRIDS = {
    "axial, 1 mm": Grid((60, 70, 70), (1, 1, 1), centre_mm=(4, -3, 12)),
    "axial, thick": Grid(
        (14, 140, 140), (5, 0.5, 0.5), "axial", (12, -4, 7), (4, -3, 12)
    ),
    "sagittal, oblique": Grid(
        (60, 80, 90), (1.2, 0.9, 0.8), "sagittal", (-9, 6, 14), (4, -3, 5)
    ),
    "coronal": Grid((60, 80, 90), (1.5, 0.9, 0.9), "coronal", (3, 3, 3), (4, -3, 5)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_occupancy_has_the_analytic_volume_and_centre_on_any_grid(name):
    grid, pose = GRIDS[name], Pose((5, -8, 10), (1, 2, 3))
    expected = truth(1, TILTED, pose)
    box, fraction = occupancy(TILTED, pose, grid)
    voxel_ml = np.prod(grid.spacing_mm) / 1000
    assert fraction.sum() * voxel_ml == pytest.approx(expected.volume_ml, rel=0.005)
    assert expected.volume_ml == pytest.approx(4 / 3 * np.pi * 9 * 5 * 6 / 1000)
    indices = np.stack(np.mgrid[box]).reshape(3, -1).astype(float)
    middle = indices @ fraction.ravel() / fraction.sum()
    centre = grid.affine[:3, :3] @ middle + grid.affine[:3, 3]
    assert centre == pytest.approx(expected.centre_mm, abs=0.06)
    assert fraction.min() >= 0
    assert fraction.max() <= 1


def test_true_diameters_are_those_of_the_largest_section_in_the_patients_axial_plane():
    pose = Pose((15, -10, 20))
    expected = truth(1, TILTED, pose)
    # A very fine axial section through the centre, measured by brute force.
    grid = Grid((1, 220, 220), (0.1, 0.1, 0.1), centre_mm=expected.centre_mm)
    box, fraction = occupancy(TILTED, pose, grid)
    rows, columns = np.nonzero(fraction[0] >= 0.5)
    points = np.stack([rows, columns], axis=1) * 0.1
    angles = np.deg2rad(np.arange(0, 180, 0.5))
    widths = np.ptp(points @ [np.sin(angles), np.cos(angles)], axis=0) + 0.1
    assert expected.longest_diameter_mm == pytest.approx(widths.max(), abs=0.15)
    assert expected.perpendicular_diameter_mm == pytest.approx(widths.min(), abs=0.15)
    assert box[0] == slice(0, 1)


def test_a_ball_turned_any_way_has_its_diameter_in_every_direction():
    ball = LesionSpec.ball((1, 2, 3), 12.0)
    for pose in (Pose(), Pose((30, 40, 50), (9, 9, 9))):
        found = truth(1, ball, pose)
        assert found.longest_diameter_mm == pytest.approx(12.0)
        assert found.perpendicular_diameter_mm == pytest.approx(12.0)
    assert ball.scaled(0.5).radii_mm == pytest.approx((3, 3, 3))


def test_the_same_seed_gives_the_same_voxels_and_another_seed_others():
    first, again, other = (sample_head((24, 40, 40), seed=s) for s in (5, 5, 6))
    assert np.array_equal(first.volume.array, again.volume.array)
    assert first.lesions == again.lesions
    assert not np.array_equal(first.volume.array, other.volume.array)
    assert first.lesions != other.lesions


def test_intensities_are_those_of_a_post_contrast_t1():
    spec = LesionSpec.ball((36, 36, 22), 16.0, "ring")
    grid = Grid((70, 110, 90), (2, 2, 2))
    head = make_head(grid, [spec], noise=0, bias=0)
    array = head.volume.array
    x, y, z = _coordinates(grid)
    brain = cerebrum_distance(x, y, z) > 3
    median = np.median(array[brain])
    assert 300 <= median <= 450
    away = np.abs(x - 36) + np.abs(y - 36) + np.abs(z - 22) > 40
    assert array[away].max() <= 700  # vessels are the brightest besides lesions
    distance = np.sqrt((x - 36) ** 2 + (y - 36) ** 2 + (z - 22) ** 2)
    assert array[distance < 2].max() <= 300  # the necrotic core
    rim = array[(distance > 6.2) & (distance < 6.9)]
    assert rim.min() > 2 * median
    assert head.labels[distance < 2].min() == 1  # the core belongs to the lesion
    assert array[0, 0, 0] == 0


def _coordinates(grid):
    indices = np.stack(np.mgrid[tuple(slice(n) for n in grid.shape)]).astype(float)
    points = np.tensordot(grid.affine[:3, :3], indices, 1)
    return (points + grid.affine[:3, 3][:, None, None, None]).astype(np.float32)


def test_the_same_head_is_seen_from_every_plane():
    spec = LesionSpec.ball((30, -20, 15), 20.0)
    heads = [
        make_head(Grid((96, 96, 96), (2.5, 2.5, 2.5), plane), [spec], noise=0, bias=0)
        for plane in ("axial", "sagittal")
    ]
    axial, sagittal = heads
    resampled = sagittal.volume.match_geometry(axial.volume).array
    difference = np.abs(resampled - axial.volume.array)
    assert np.median(difference[axial.volume.array > 50]) <= 1
    centre = np.round(np.linalg.inv(axial.grid.affine) @ [30, -20, 15, 1]).astype(int)
    assert axial.labels[tuple(centre[:3])] == 1


def test_a_moved_head_keeps_its_lesions_in_the_same_place_of_the_brain():
    pose = Pose((6, -4, 10), (5, -6, 3))
    still, moved = (
        make_head(Grid.covering_head((24, 40, 40)), [TILTED], pose=p)
        for p in (Pose(), pose)
    )
    expected = pose.affine @ [*still.lesions[0].centre_mm, 1]
    assert moved.lesions[0].centre_mm == pytest.approx(expected[:3])


@pytest.mark.parametrize("seed", range(8))
def test_random_lesions_lie_in_the_brain_and_do_not_touch(seed):
    lesions = random_lesions(seed, 9, (4.0, 22.0))
    assert len(lesions) == 9
    for index, lesion in enumerate(lesions):
        x, y, z = np.float32(lesion.centre_mm)[:, None]
        depth = max(cerebrum_distance(x, y, z)[0], cerebellum_distance(x, y, z)[0])
        assert depth > max(lesion.radii_mm)
        for other in lesions[:index]:
            apart = np.linalg.norm(np.subtract(lesion.centre_mm, other.centre_mm))
            assert apart > max(lesion.radii_mm) + max(other.radii_mm)
    volumes = [np.prod(lesion.radii_mm) for lesion in lesions]
    assert volumes == sorted(volumes, reverse=True)


def test_more_lesions_than_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        random_lesions(0, 40, (30.0, 40.0))


def test_lesions_outside_the_grid_are_true_but_not_drawn():
    grid = Grid((4, 16, 16), (2, 2, 2), centre_mm=(0, 0, 60))
    head = make_head(grid, [LesionSpec.ball((30, 0, -30), 10.0)])
    assert len(head.lesions) == 1
    assert not head.labels.any()


def test_other_contrasts_do_not_show_bright_lesions():
    spec = LesionSpec.ball((30, -20, 15), 20.0)
    grid = Grid((8, 60, 60), (3, 3, 3), centre_mm=(0, 0, 15))
    plain, enhanced = (
        make_head(grid, [spec], contrast=c, noise=0, bias=0)
        for c in ("T1-pre", "T1-post")
    )
    inside = enhanced.occupancy == 1
    assert enhanced.volume.array[inside].min() > 1000
    assert plain.volume.array[inside].max() < 450
