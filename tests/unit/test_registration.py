"""Registration finds a known motion, and refuses what is not the same head."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import highdicom as hd
import numpy as np
import pytest

from errors import MetiaError
from segmentation.followup.registration import QUALITY_LIMIT, register
from segmentation.phantoms import Grid, Head, LesionSpec, Pose, make_head
from segmentation.phantoms.head import random_lesions

LIES = Pose((2.0, -2.0, 1.0), (1.0, 2.0, -1.0))
MOVED = Pose((8.0, 2.0, 9.0), (8.0, -6.0, 10.0))  # 6, 4, 8 degrees and 14 mm on
FAR = Pose((20.0, -12.0, 15.0), (17.0, -20.0, 15.0))
GRID = Grid((92, 120, 120), (2.0, 2.0, 2.0), "axial", (-11.0, 2.0, 1.5))
OTHER_GRID = Grid((105, 125, 98), (1.9, 2.1, 2.0), "sagittal", (3.0, -4.0, 2.0))


@cache
def _head(name: str) -> Head:
    """Draw a head: before, or after some months, or somebody else's."""
    then = random_lesions(3, 7, (5.0, 22.0))
    factors = (0.6, 1.3, 0.7, 1.2, 0.9, 0.5)
    now = tuple(one.scaled(f) for one, f in zip(then[:-1], factors, strict=True))
    now += (LesionSpec.ball((20.0, -14.0, 42.0), 7.0),)
    match name:
        case "then":
            return make_head(GRID, then, pose=LIES, seed=20)
        case "now":
            return make_head(OTHER_GRID, now, pose=MOVED, seed=20, noise_seed=2)
        case "far":
            return make_head(OTHER_GRID, now, pose=FAR, seed=20, noise_seed=3)
        case "poor":
            return make_head(
                OTHER_GRID, now, pose=MOVED, seed=20, noise_seed=4, noise=30, bias=0.3
            )
        case "thick":
            grid = Grid((36, 200, 200), (5.0, 1.2, 1.2), "axial", (-4.0, -3.0, 0.0))
            return make_head(grid, now, pose=MOVED, seed=20, noise_seed=5)
        case _:
            return make_head(OTHER_GRID, now[1:], pose=MOVED, seed=77)


def _errors_mm(matrix: np.ndarray, pose: Pose) -> np.ndarray:
    """Give by how much points all over the head are missed."""
    random = np.random.default_rng(0)
    points = random.normal(size=(500, 3))
    points *= np.array([75, 95, 75]) / np.linalg.norm(points, axis=1)[:, None]
    inside = np.c_[points, np.ones(len(points))]
    here, there = inside @ pose.affine.T, inside @ LIES.affine.T
    return np.linalg.norm((here @ matrix.T - there)[:, :3], axis=1)


@pytest.mark.parametrize(
    ("name", "pose", "limit_mm"),
    [
        ("now", MOVED, 0.15),
        ("far", FAR, 0.15),
        ("poor", MOVED, 0.3),
        ("thick", MOVED, 0.5),
    ],
)
def test_a_known_motion_is_found(name, pose, limit_mm):
    found = register(_head("then").volume, _head(name).volume)
    errors = _errors_mm(found.matrix, pose)
    assert errors.mean() <= limit_mm
    assert errors.max() <= 2 * limit_mm
    assert found.accepted
    assert found.reason == "ok"
    assert found.quality > QUALITY_LIMIT + 0.2
    rotation = found.matrix[:3, :3]
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_the_same_images_give_the_same_motion():
    once = register(_head("then").volume, _head("now").volume)
    again = register(_head("then").volume, _head("now").volume)
    assert np.array_equal(once.matrix, again.matrix)
    assert once.quality == again.quality


def test_there_and_back_again_is_no_motion():
    there = register(_head("then").volume, _head("now").volume)
    back = register(_head("now").volume, _head("then").volume)
    assert np.allclose(there.matrix @ back.matrix, np.eye(4), atol=0.15)


def test_how_the_voxels_are_stored_does_not_matter():
    moving = _head("now").volume
    flipped = moving.flip_spatial([0, 2]).permute_spatial_axes([2, 0, 1])
    plain = register(_head("then").volume, moving).matrix
    turned = register(_head("then").volume, flipped).matrix
    assert np.allclose(plain, turned, atol=0.1)


def _upside_down() -> hd.Volume:
    volume = _head("now").volume
    return _placed(volume.array, np.diag([1.0, -1.0, -1.0, 1.0]) @ volume.affine)


def _mirrored() -> hd.Volume:
    volume = _head("now").volume
    return _placed(volume.array[::-1], volume.affine)


def _neck_only() -> hd.Volume:
    # From well below the other image's field of view.
    pose = Pose((0.0, 0.0, 0.0), (0.0, 0.0, 190.0))
    return make_head(GRID, pose=pose, seed=20).volume


def _chest() -> hd.Volume:
    z, y, x = np.mgrid[-150:150:4.0, -170:170:3.0, -190:190:3.0]
    image = np.where((x / 175) ** 2 + (y / 120) ** 2 < 1, 350.0, 5.0)
    for side in (-75, 75):
        lung = ((x - side) / 55) ** 2 + (y / 85) ** 2 + (z / 130) ** 2 < 1
        image[lung] = 20.0
    image[(x / 35) ** 2 + ((y + 20) / 35) ** 2 + (z / 60) ** 2 < 1] = 700.0
    image += np.random.default_rng(0).normal(0, 9, image.shape)
    affine = np.array(
        [[0, 0, 3.0, -190], [0, 3.0, 0, -170], [4.0, 0, 0, -150], [0, 0, 0, 1]]
    )
    return _placed(image, affine)


def _noise() -> hd.Volume:
    random = np.random.default_rng(0)
    return _placed(random.normal(100, 20, (60, 80, 80)), np.diag([3.0, 3, 3, 1]))


def _placed(array: np.ndarray, affine: np.ndarray) -> hd.Volume:
    return hd.Volume(
        np.ascontiguousarray(array, np.float32), affine, coordinate_system="PATIENT"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: _head("somebody else").volume,
        _upside_down,
        _mirrored,
        _neck_only,
        _chest,
        _noise,
    ],
    ids=["somebody else", "upside down", "mirrored", "neck", "chest", "noise"],
)
def test_what_is_not_the_same_head_is_refused(make: Callable[[], hd.Volume]):
    found = register(_head("then").volume, make())
    assert not found.accepted
    assert found.reason in ("poor-agreement", "no-overlap", "implausible-motion")


def test_an_image_of_nothing_is_refused_by_its_code():
    nothing = _placed(np.zeros((20, 40, 40)), np.diag([4.0, 4, 4, 1]))
    with pytest.raises(MetiaError, match="volume-bad-pixels"):
        register(_head("then").volume, nothing)


def test_it_can_be_cancelled_at_any_step():
    for patience in (0, 3, 40):
        asked = 0

        def cancelled(patience: int = patience) -> bool:
            nonlocal asked
            asked += 1
            return asked > patience

        with pytest.raises(MetiaError, match="job-cancelled"):
            register(_head("then").volume, _head("now").volume, cancelled=cancelled)
        assert asked <= patience + 3  # and stops soon after


def test_progress_rises_to_the_end():
    told: list[float] = []
    register(_head("then").volume, _head("now").volume, progress=told.append)
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)
