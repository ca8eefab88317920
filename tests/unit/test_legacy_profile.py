"""The replaced system's preprocessing, held to MONAI's transforms."""

from __future__ import annotations

import itertools

import highdicom as hd
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.transforms import (
    CropForeground,
    Orientation,
    ScaleIntensityRange,
    Spacing,
)
from torch import nn

from errors import MetiaError
from unetr.configuration import LegacyProfile
from unetr.legacy import prepare_legacy
from unetr.windows import run_windows


def _volume(shape=(21, 40, 33), orientation="HPL") -> hd.Volume:
    random = np.random.default_rng(3)
    array = random.gamma(2.0, 100.0, shape).astype(np.float32)
    array[:, :6] = array[:, -6:] = 0
    # Columns: axis 0 to the head, axis 1 to the back, axis 2 to the left.
    affine = np.array([[0, 0, 0.9, 5], [0, 0.9, 0, -7], [1.2, 0, 0, 3], [0, 0, 0, 1.0]])
    volume = hd.Volume(array, affine, coordinate_system="PATIENT")
    return volume.to_patient_orientation(orientation)


def _as_monai(
    array: np.ndarray, window=(-200.0, 300.0), scaled_to=(0.0, 1.0)
) -> np.ndarray:
    """The published chain on an identity affine; (row, column, slice) in and out."""
    return CropForeground()(_before_crop(array, window, scaled_to))[0].numpy()


def _before_crop(array: np.ndarray, window, scaled_to) -> MetaTensor:
    image = MetaTensor(torch.from_numpy(array / array.max() * 255)[None], torch.eye(4))
    image = Orientation(axcodes="LAS")(image)
    image = Spacing(pixdim=(1.5, 1.5, 2.0), mode="bilinear")(image)
    return ScaleIntensityRange(*window, *scaled_to, clip=True)(image)


@pytest.mark.parametrize("shape", [(21, 40, 33), (20, 41, 31), (16, 64, 64)])
def test_it_is_the_published_chain(shape) -> None:
    volume = _volume(shape)
    prepared = prepare_legacy(volume, LegacyProfile(profile="metia-legacy"), (1, 1, 1))
    expected = _as_monai(np.moveaxis(volume.array, 0, 2))
    assert prepared.volume.shape == expected.shape
    np.testing.assert_allclose(prepared.volume, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("window", "scaled_to", "cut"),
    [
        ((0.0, 255.0), (0.0, 1.0), True),
        ((20.0, 60.0), (0.0, 1.0), True),
        ((20.0, 60.0), (-1.0, 2.0), True),
        ((20.0, 60.0), (0.5, 2.0), False),
        ((-60.0, 200.0), (-1.0, 1.0), True),
    ],
)
def test_other_windows_are_cut_as_they_were(window, scaled_to, cut) -> None:
    volume = _volume((20, 41, 33))
    profile = LegacyProfile(
        profile="metia-legacy", window_intensity=window, scaled_to=scaled_to
    )
    prepared = prepare_legacy(volume, profile, (1, 1, 1))
    before = _before_crop(np.moveaxis(volume.array, 0, 2), window, scaled_to)
    expected, start, end = CropForeground(return_coords=True)(before)
    np.testing.assert_allclose(prepared.volume, expected[0], atol=2e-5)
    whole = np.zeros(before.shape[1:], bool)
    whole[tuple(map(slice, start, end))] = True
    assert bool(whole.all()) is not cut
    # What was cut off comes back empty, the rest in its place: the nearest voxel's.
    restored = prepared.restore(np.full(prepared.volume.shape, 9, np.float32)).array
    for axis, (count, step) in enumerate(zip((41, 33, 20), (1.5, 1.5, 2), strict=True)):
        places = np.floor(np.arange(count) / step + 0.5).astype(int)
        whole = whole.take(places.clip(max=whole.shape[axis] - 1), axis)
    np.testing.assert_array_equal(restored > 0.99, np.moveaxis(whole[::-1], 2, 0))


def test_a_whole_volume_is_answered_as_it_was() -> None:
    torch.manual_seed(5)
    network = nn.Conv3d(1, 1, 7, padding=3).requires_grad_(False)
    volume = _volume((104, 120, 100))
    window = (32, 32, 32)
    profile = LegacyProfile(profile="metia-legacy")
    answer = run_windows(
        lambda windows: network(torch.from_numpy(windows)).numpy(),
        prepare_legacy(volume, profile, window).volume,
        window=window,
        overlap=0.6,
        blending="constant",
        batch=1,
        on_window=lambda _: None,
    )
    seen = torch.from_numpy(_as_monai(np.moveaxis(volume.array, 0, 2)))[None, None]
    expected = sliding_window_inference(seen, window, 1, network, overlap=0.6)[0, 0]
    np.testing.assert_allclose(answer, expected, atol=1e-4)


def test_shapes_follow_voxels_not_millimetres() -> None:
    prepared = prepare_legacy(
        _volume((208, 512, 14)), LegacyProfile(profile="metia-legacy"), (1, 1, 1)
    )
    assert tuple(prepared.volume.shape) == (342, 10, 104)


ORDERS = [
    (f"{a}{first}", f"{b}{second}", f"{c}slice")
    for first, second in (("row", "column"), ("column", "row"))
    for a, b, c in itertools.product(("", "-"), repeat=3)
]


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_comes_back_to_the_source(order) -> None:
    volume = _volume(orientation="FAL")
    profile = LegacyProfile(profile="metia-legacy", axis_order=order)
    prepared = prepare_legacy(volume, profile, (32, 32, 32))
    assert all(length >= 32 for length in prepared.volume.shape)
    # A logit that falls with depth below the brightest: voxels must come back in place.
    inner = np.clip((prepared.volume - 0.4) * 20, 1e-3, 1 - 1e-3)
    restored = prepared.restore(np.log(inner / (1 - inner)))
    assert restored.spatial_shape == volume.spatial_shape
    np.testing.assert_allclose(restored.affine, volume.affine)
    scaled = volume.array / volume.array.max() * 255
    direct = ((scaled + 200) / 500 - 0.4).clip(0) * 20
    agreement = np.corrcoef(restored.array.ravel(), direct.clip(0, 1).ravel())[0, 1]
    assert agreement > 0.7


def test_an_empty_image_is_refused() -> None:
    volume = _volume()
    dark = volume.with_array(volume.array - volume.array.max())
    with pytest.raises(MetiaError) as caught:
        prepare_legacy(dark, LegacyProfile(profile="metia-legacy"), (1, 1, 1))
    assert caught.value.code == "volume-bad-pixels"
    array = volume.array - 5000
    array[0, 0, 0] = 5
    with pytest.raises(MetiaError, match="below 0") as caught:
        prepare_legacy(
            volume.with_array(array), LegacyProfile(profile="metia-legacy"), (1, 1, 1)
        )
    assert caught.value.code == "volume-bad-pixels"


@pytest.mark.parametrize(
    "order", [("row", "row", "slice"), ("row", "column", "-column")]
)
def test_an_order_names_each_axis_once(order) -> None:
    with pytest.raises(ValueError, match="once each"):
        LegacyProfile(profile="metia-legacy", axis_order=order)
