"""The demonstration model on balls of known size."""

from __future__ import annotations

import time
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from scipy import ndimage

from errors import MetiaError
from segmentation.models.predictor import Prediction, Predictor
from segmentation.models.registry import ModelRegistry, load_predictor
from tests.ball_head import centroid_mm, make_ball_head

ROOT = Path(__file__).resolve().parents[2]
TWO_BALLS = (((12.0, -8.0, 5.0), 8.0), ((-14.0, 10.0, -6.0), 3.0))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    registry = ModelRegistry([ROOT / "unetr" / "weights"])
    return load_predictor(registry.get("phantom-threshold"), device="cpu", threads=1)


def _predict(predictor: Predictor, image: hd.Volume) -> Prediction:
    return predictor.predict(image, progress=lambda _: None, cancelled=lambda: False)


@pytest.mark.parametrize(
    ("spacing_mm", "degrees"),
    [
        ((1.0, 1.0, 1.0), (0, 0, 0)),
        ((1.3, 0.9, 0.9), (15, -20, 30)),
        ((3.0, 0.7, 0.7), (80, 5, 0)),
    ],
)
def test_balls_are_found_with_their_true_volume_and_place(
    predictor: Predictor,
    spacing_mm: tuple[float, float, float],
    degrees: tuple[float, float, float],
) -> None:
    image = make_ball_head(
        spacing_mm=spacing_mm, degrees=degrees, balls=TWO_BALLS, noise=8
    )
    probability = _predict(predictor, image).probability
    assert probability.geometry_equal(image, tol=None)
    assert probability.array.dtype == np.float32
    assert 0 <= probability.array.min() <= probability.array.max() <= 1
    labels, count = ndimage.label(probability.array >= 0.5, np.ones((3, 3, 3)))
    assert count == 2
    by_size = np.argsort(-np.bincount(labels.ravel())[1:]) + 1
    for label, (centre, radius) in zip(by_size, TWO_BALLS, strict=True):
        truth = make_ball_head(
            spacing_mm=spacing_mm,
            degrees=degrees,
            balls=[(centre, radius)],
            brightness=(0, 1),
        )
        half = truth.array >= 0.5
        assert np.linalg.norm(
            centroid_mm(labels == label, image) - centroid_mm(half, image)
        ) < 0.1 * max(spacing_mm)
        overlap = 2 * (half & (labels == label)).sum()
        assert overlap / (half.sum() + (labels == label).sum()) > 0.9


def test_the_half_contour_lies_below_a_voxel(predictor: Predictor) -> None:
    """Along a ray, 0.5 is crossed at the ball's radius, whatever its place."""
    for offset in (0.0, 0.2, 0.45, 0.8):
        image = make_ball_head(
            spacing_mm=(1.0, 1.0, 1.0), balls=(((offset, 0.0, 0.0), 6.0),), noise=0
        )
        array = _predict(predictor, image).probability.array
        index = (np.array(array.shape) - 1) // 2
        ray = array[index[0], index[1]]
        last = np.flatnonzero(ray >= 0.5)[-1]
        crossing = last + (ray[last] - 0.5) / (ray[last] - ray[last + 1])
        column_mm = image.affine[0, 3] + crossing * image.affine[0, 2]
        row_mm = image.affine[1, 3] + index[1] * image.affine[1, 1] + 35.0
        slice_mm = image.affine[2, 3] + index[0] * image.affine[2, 0] - 110.0
        chord = np.sqrt(36 - row_mm**2 - slice_mm**2)
        assert column_mm - 20.0 - offset == pytest.approx(chord, abs=0.2)


def test_bright_tubes_and_sheets_are_not_lesions(predictor: Predictor) -> None:
    image = make_ball_head(spacing_mm=(1.0, 1.0, 1.0), balls=())
    array = image.array.copy()
    array[30:60, 40:43, 50:52] = 900
    array[30:32, 30:60, 30:60] = 900
    answer = _predict(predictor, image.with_array(array))
    assert not (answer.probability.array >= 0.5).any()


def test_a_dark_core_belongs_to_its_lesion(predictor: Predictor) -> None:
    image = make_ball_head(spacing_mm=(1.0, 1.0, 1.0), balls=(((0, 0, 0), 9.0),))
    array = image.array.copy()
    middle = tuple(slice(n // 2 - 3, n // 2 + 3) for n in array.shape)
    array[middle] = 200
    found = _predict(predictor, image.with_array(array)).probability.array
    assert (found[middle] >= 0.5).all()


def test_no_lesion_is_an_answer(predictor: Predictor) -> None:
    answer = _predict(predictor, make_ball_head(balls=(), noise=10))
    assert not (answer.probability.array >= 0.5).any()


def test_the_same_image_twice_gives_the_same_bits(predictor: Predictor) -> None:
    image = make_ball_head(balls=TWO_BALLS, noise=8)
    before = image.array.copy()
    first, second = (_predict(predictor, image) for _ in range(2))
    assert first.probability.array.tobytes() == second.probability.array.tobytes()
    assert np.array_equal(image.array, before)
    assert first.parameters == second.parameters


@pytest.mark.parametrize("fill", [0.0, 300.0, np.nan, np.inf])
def test_an_image_of_nothing_is_refused(predictor: Predictor, fill: float) -> None:
    image = make_ball_head(spacing_mm=(3.0, 3.0, 3.0), balls=())
    array = image.array.copy()
    if np.isfinite(fill):
        array[:] = fill
    else:
        array[5, 6, 7] = fill
    with pytest.raises(MetiaError) as caught:
        _predict(predictor, image.with_array(array))
    assert caught.value.code == "volume-bad-pixels"


def test_progress_rises_in_several_steps_and_cancel_stops(predictor: Predictor) -> None:
    image = make_ball_head(balls=TWO_BALLS)
    reported: list[float] = []
    predictor.predict(image, progress=reported.append, cancelled=lambda: False)
    assert reported == sorted(reported)
    assert len(reported) >= 4
    assert reported[-1] == 1.0
    for allowed in range(3):
        asked = iter([False] * allowed + [True] * 100)
        with pytest.raises(MetiaError) as caught:
            predictor.predict(
                image,
                progress=lambda _: None,
                cancelled=lambda asked=asked: next(asked),
            )
        assert caught.value.code == "job-cancelled"


def test_a_whole_head_takes_less_than_two_seconds(predictor: Predictor) -> None:
    rng = np.random.default_rng(1)
    array = rng.normal(300, 15, (160, 256, 256)).astype(np.float32)
    array[:, :20], array[:, :, :20], array[:, :, -20:] = 0, 0, 0
    array[80:86, 100:106, 100:106] = 1100
    image = hd.Volume(array, np.diag([1.0, 1, 1, 1]), coordinate_system="PATIENT")
    started = time.process_time()
    answer = _predict(predictor, image)
    assert time.process_time() - started < 2
    assert (answer.probability.array >= 0.5).sum() == 216
