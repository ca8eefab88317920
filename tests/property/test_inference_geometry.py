"""However a head is stored, the probability lands on the right voxels."""

from __future__ import annotations

import itertools

import highdicom as hd
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.ball_head import centroid_mm, make_ball_head
from tests.loaded_networks import loaded_network
from unetr.configuration import (
    InferenceParameters,
    IntensityNormalisation,
    PreprocessingProfile,
)
from unetr.engines.engine import FloatArray
from unetr.inference import UnetrInference
from unetr.preprocessing import Axis, prepare

BALL = ((13.0, -9.0, 6.0), 7.0)
MIDDLE = np.array([20.0, -35.0, 110.0])
STORED = list(
    itertools.product(
        itertools.permutations(range(3)),
        [
            list(axes)
            for count in range(4)
            for axes in itertools.combinations(range(3), count)
        ],
    )
)


def _above(windows: FloatArray) -> FloatArray:
    """Stand in for a network: the ball scaled to about 5, tissue below 1.2."""
    return 4 * (windows - 3)


def _inference(spacing_mm: tuple[float, float, float]) -> UnetrInference:
    return UnetrInference(
        loaded_network(_above),
        PreprocessingProfile(
            profile="head-mr",
            spacing_mm=spacing_mm,
            intensity=IntensityNormalisation(upper_percentile=90.0, clip=(-5.0, 50.0)),
        ),
        InferenceParameters(window=(32, 32, 32), overlap=0.25, minimum_volume_mm3=1.0),
    )


def _predict(inference: UnetrInference, image: hd.Volume) -> hd.Volume:
    return inference.predict(
        image, progress=lambda _: None, cancelled=lambda: False
    ).probability


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.data_too_large]
)
@given(
    spacing_mm=st.tuples(
        st.sampled_from([1.0, 1.5, 3.0, 5.0]),
        st.sampled_from([0.8, 1.0, 2.0]),
        st.sampled_from([0.8, 1.1, 1.7]),
    ),
    degrees=st.tuples(*[st.floats(-40, 40)] * 3),
    stored=st.sampled_from(STORED),
    grid_mm=st.sampled_from([(1.5, 1.5, 1.5), (2.0, 1.0, 1.3)]),
)
@example((3.0, 1.0, 1.1), (45.0, 45.0, 45.0), STORED[0], (1.5, 1.5, 1.5))
@example((5.0, 0.8, 0.8), (0.0, 90.0, 0.0), STORED[30], (1.5, 1.5, 1.5))
def test_a_ball_is_found_where_it_lies(
    spacing_mm: tuple[float, float, float],
    degrees: tuple[float, float, float],
    stored: tuple[tuple[int, int, int], list[int]],
    grid_mm: tuple[float, float, float],
) -> None:
    image = make_ball_head(
        spacing_mm=spacing_mm,
        degrees=degrees,
        balls=[BALL],
        head_radius_mm=32,
        subsamples=3,
    )
    order, flips = stored
    image = image.permute_spatial_axes(order)
    image = image.flip_spatial(flips) if flips else image
    found = _predict(_inference(grid_mm), image)
    assert np.array_equal(found.affine, image.affine)
    marked = found.array >= 0.5
    assert marked.any()
    offset = centroid_mm(marked, image) - MIDDLE - np.array(BALL[0])
    assert np.linalg.norm(offset) < 0.3 * max(*spacing_mm, *grid_mm)
    volume = marked.sum() * image.voxel_volume
    assert volume == pytest.approx(4 / 3 * np.pi * BALL[1] ** 3, rel=0.35)


@pytest.mark.parametrize("degrees", [(0, 0, 0), (20, -15, 10)])
def test_all_48_ways_to_store_one_image_give_one_answer(
    degrees: tuple[float, float, float],
) -> None:
    image = make_ball_head(
        spacing_mm=(4.0, 2.0, 2.5), degrees=degrees, balls=[BALL], head_radius_mm=34
    )
    inference = _inference((2.0, 2.0, 2.0))
    expected = _predict(inference, image)
    for order, flips in STORED:
        other = image.permute_spatial_axes(order)
        other = other.flip_spatial(flips) if flips else other
        back = _predict(inference, other).match_geometry(image)
        assert np.array_equal(back.array, expected.array), (order, flips)


def test_on_the_networks_own_grid_nothing_is_interpolated() -> None:
    image = make_ball_head(spacing_mm=(2.0, 2.0, 2.0), balls=[BALL], head_radius_mm=34)
    prepared = prepare(image, _inference((2.0, 2.0, 2.0))._profile, (32, 32, 32))
    source = image.array[prepared.box]
    scale = np.polyfit(source.ravel(), prepared.volume.ravel(), 1)
    np.testing.assert_allclose(prepared.volume, np.polyval(scale, source), atol=1e-4)
    back = prepared.restore(prepared.volume).array[prepared.box]
    expected = 1 / (1 + np.exp(-prepared.volume.astype(np.float64)))
    np.testing.assert_allclose(back, expected, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 300),
    source_mm=st.floats(0.2, 10),
    network_mm=st.floats(0.5, 3),
)
def test_both_grids_share_their_middle_and_keep_straight_lines_straight(
    count: int, source_mm: float, network_mm: float
) -> None:
    axis = Axis(count, source_mm, network_mm)
    assert axis.network_count * network_mm >= count * source_mm * 0.999 - 1e-3
    forth, back = axis.to_network(), axis.to_source()
    np.testing.assert_allclose(forth.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(back.sum(1), 1, atol=1e-5)
    ramp = (np.arange(count) - (count - 1) / 2) * source_mm
    grid = (np.arange(axis.network_count) - (axis.network_count - 1) / 2) * network_mm
    inner = np.abs(grid) <= max(
        0.0, (count - 1) / 2 * source_mm - source_mm - network_mm
    )
    np.testing.assert_allclose((forth @ ramp)[inner], grid[inner], atol=1e-3, rtol=1e-4)
    inner = np.abs(ramp) <= (axis.network_count - 1) / 2 * network_mm
    np.testing.assert_allclose((back @ grid)[inner], ramp[inner], atol=1e-3, rtol=1e-4)
