"""The head in an image: how bright its brain is, whatever surrounds it."""

from __future__ import annotations

import numpy as np
import pytest

from errors import MetiaError
from unetr.head import find_head

BRAIN = 130.0


def layered_head(fat: float, *, neck_mm: int = 0, noise: float = 4.0) -> np.ndarray:
    """A ball of brain in fluid, skull and fat, on a neck of muscle; 2 mm voxels.

    `fat` is in units of the brain's brightness; slices run to the head.
    """
    length = 90 + neck_mm // 2
    slices, rows, columns = np.ogrid[:length, :96, :96]
    away = np.sqrt(
        (2 * (slices - (length - 46))) ** 2
        + (2 * (rows - 48)) ** 2
        + (2 * (columns - 48)) ** 2
    )
    image = np.zeros((length, 96, 96), np.float32)
    column = np.sqrt((rows - 48) ** 2 + (columns - 48) ** 2) * 2 < 60
    image[np.broadcast_to(column, image.shape) & (slices < length - 46)] = 0.7 * BRAIN
    for radius, level in ((92, fat), (77, 0.3), (70, 1.0)):
        image[away < radius] = level * BRAIN
    image[away < 20] = 0.3 * BRAIN  # ventricles
    random = np.random.default_rng(5)
    real, imaginary = random.normal(0, noise, (2, *image.shape))
    return np.hypot(image + real, imaginary).astype(np.float32)


@pytest.mark.parametrize("fat", [0.4, 1.0, 2.0, 3.5, 5.0])
@pytest.mark.parametrize(
    ("neck_mm", "first_slice"), [(0, 0), (200, 0), (0, 35)], ids=["", "neck", "cut"]
)
def test_the_brains_median_does_not_depend_on_what_surrounds_it(
    fat: float, neck_mm: int, first_slice: int
) -> None:
    # Cut, the scalp does not enclose the brain.
    image = layered_head(fat, neck_mm=neck_mm)[first_slice:]
    head = find_head(image, (2.0, 2.0, 2.0), up=(0, 1))
    assert head.brain_median == pytest.approx(BRAIN, rel=0.08)


@pytest.mark.parametrize(("axis", "direction"), [(0, -1), (1, 1), (2, -1)])
def test_the_head_may_lie_any_way(axis: int, direction: int) -> None:
    upright = layered_head(1.0, neck_mm=200)
    image = np.moveaxis(upright[::direction], 0, axis)
    known, there = (
        find_head(array, (2.0, 2.0, 2.0), up=up).brain_median
        for array, up in ((upright, (0, 1)), (image, (axis, direction)))
    )
    assert there == pytest.approx(known, rel=0.01)
    assert find_head(image, (2.0, 2.0, 2.0)).brain_median < 0.97 * known


def test_no_noise_at_all_is_no_obstacle() -> None:
    head = find_head(layered_head(3.5, noise=0.0), (2.0, 2.0, 2.0), up=(0, 1))
    assert head.brain_median == pytest.approx(BRAIN, rel=0.08)


def test_what_shows_nothing_is_refused() -> None:
    with pytest.raises(MetiaError, match="uniform"):
        find_head(np.full((20, 20, 20), 7, np.float32), (2.0, 2.0, 2.0))


@pytest.mark.parametrize("speck", [-900, 5])
def test_an_image_of_negative_values_is_refused(speck: int) -> None:
    image = np.random.default_rng(1).gamma(2, 100, (40, 40, 40)).astype(np.float32)
    image -= 5000
    image[0, 0, 0] = speck
    with pytest.raises(MetiaError, match="below 0") as caught:
        find_head(image, (1.0, 1.0, 1.0))
    assert caught.value.code == "volume-bad-pixels"
