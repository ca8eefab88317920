"""Outlines and filling are inverse, whatever the shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter

from segmentation.dicom.contours import fill, outline


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
@settings(max_examples=300, deadline=None)
def test_filling_an_outline_gives_the_mask_again(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(fill(outline(mask), mask.shape), mask)


@pytest.mark.parametrize("seed", range(5))
def test_smooth_shapes_with_holes_and_islands(seed: int) -> None:
    noise = np.random.default_rng(seed).random((60, 70))
    mask = gaussian_filter(noise, 2) > 0.5
    np.testing.assert_array_equal(fill(outline(mask), mask.shape), mask)


def test_a_part_with_holes_is_one_polygon() -> None:
    mask = np.ones((12, 14), bool)
    mask[3:6, 3:6] = mask[8:10, 8:11] = False
    (polygon,) = outline(mask)
    assert len(polygon) > 12
    np.testing.assert_array_equal(fill([polygon], mask.shape), mask)


def test_an_island_in_a_hole_is_a_part_of_its_own() -> None:
    mask = np.ones((15, 15), bool)
    mask[3:12, 3:12] = False
    mask[6:9, 6:9] = True
    assert len(outline(mask)) == 2
    np.testing.assert_array_equal(fill(outline(mask), mask.shape), mask)


def test_an_outline_runs_half_way_between_pixels() -> None:
    mask = np.zeros((5, 6), bool)
    mask[2, 3] = True
    (polygon,) = outline(mask)
    assert sorted(map(tuple, polygon)) == [(1.5, 3), (2, 2.5), (2, 3.5), (2.5, 3)]


def test_straight_borders_have_no_corners_along_them() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:35, 5:35] = True
    (polygon,) = outline(mask)
    assert len(polygon) == 8


# -- what other systems draw ---------------------------------------------------------

SQUARE = np.array([[1.0, 1], [1, 8], [8, 8], [8, 1]])
HOLE = np.array([[3.0, 3], [3, 6], [6, 6], [6, 3]])


def square_with_hole() -> np.ndarray:
    mask = np.zeros((10, 10), bool)
    mask[1:9, 1:9] = True
    mask[4:6, 4:6] = False
    return mask


def test_holes_as_outlines_of_their_own() -> None:
    for polygons in ([SQUARE, HOLE], [HOLE[::-1], SQUARE], [SQUARE[::-1], HOLE]):
        filled = fill(polygons, (10, 10))
        np.testing.assert_array_equal(filled, square_with_hole())


def test_holes_by_a_channel() -> None:
    keyhole = np.concatenate([SQUARE, SQUARE[:1], HOLE, HOLE[:1]])
    filled = fill([keyhole], (10, 10))
    np.testing.assert_array_equal(filled, square_with_hole())


def test_holes_by_exclusive_or() -> None:
    wide = SQUARE + np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]])
    filled = fill([wide, HOLE], (10, 10), exclusive=True)
    np.testing.assert_array_equal(filled, square_with_hole())


def test_outlines_through_pixel_centres_include_them_despite_rounding() -> None:
    noise = np.random.default_rng(0).normal(0, 1e-5, SQUARE.shape)
    assert fill([SQUARE + noise], (10, 10)).sum() == 64


def test_the_same_outline_twice_is_no_hole() -> None:
    assert fill([SQUARE, SQUARE.copy()], (10, 10)).sum() == 64


def test_overlapping_outlines_add_up() -> None:
    filled = fill([SQUARE, SQUARE + 1], (12, 12))
    assert filled.sum() == 64 + 64 - 49


def test_what_lies_beyond_the_image_is_cut_off() -> None:
    assert fill([SQUARE - 4], (10, 10)).sum() == 25
    assert fill([SQUARE + 40], (10, 10)).sum() == 0
    assert fill([SQUARE[:2]], (10, 10)).sum() == 0
    assert fill([], (10, 10)).sum() == 0
