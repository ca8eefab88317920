"""The self-test of imported checkpoints: the right order stands out, and only then."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pytest

import unetr.inference
from errors import MetiaError
from segmentation.models.axis_orders import ORDERS, is_clear, try_axis_orders
from segmentation.models.importing import ImportRequest, import_checkpoint
from segmentation.models.registry import ModelFolder
from tests.foreign_checkpoints import original_checkpoint, plain_network
from tests.loaded_networks import loaded_network
from unetr.configuration import InferenceParameters, LegacyProfile


def _image() -> tuple[hd.Volume, np.ndarray]:
    """A head that differs from all its mirror images, with one lesion."""
    axes = np.ogrid[-1:1:40j, -1:1:100j, -1:1:100j]
    array = (sum(axis**2 for axis in axes) < 0.8) * 100.0
    lesion = (axes[0] - 0.3) ** 2 + (axes[1] + 0.4) ** 2 + (axes[2] - 0.15) ** 2 < 0.03
    array[lesion] = 250.0
    affine = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    volume = hd.Volume(array.astype(np.float32), affine, coordinate_system="PATIENT")
    return volume, lesion


class _Trained:
    """Stands for a network that learned where lesions lie in one order of axes."""

    def __init__(self, volume: hd.Volume, lesion: np.ndarray, order) -> None:
        profile = LegacyProfile(profile="metia-legacy", axis_order=order)
        marked = volume.with_array(np.where(lesion, 255.0, 1.0).astype(np.float32))
        prepared = unetr.inference.prepare_legacy(marked, profile, (96, 96, 96))
        self._place = (prepared.volume > 0.6)[None, None]

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        place = np.broadcast_to(self._place, windows.shape)
        return np.where(place, 8.0, -8.0).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> ModelFolder:
    path = tmp_path_factory.mktemp("model")
    original_checkpoint(path / "their.ckpt", plain_network())
    request = ImportRequest("theirs", "1.0.0", "metia-legacy")
    return ModelFolder.open(
        import_checkpoint(path / "their.ckpt", path / "models", request).folder
    )


@pytest.fixture
def with_network(monkeypatch):
    def use(network) -> None:
        def load(arguments, profile, inference, weights, **_):
            return unetr.inference.UnetrInference(
                loaded_network(network),
                profile,
                InferenceParameters(window=(96, 96, 96), minimum_volume_mm3=1.0),
            )

        monkeypatch.setattr(unetr.inference, "load_inference", load)

    return use


@pytest.mark.parametrize("order", [ORDERS[0], ORDERS[5], ORDERS[15]])
def test_the_order_of_training_is_found(folder, with_network, order) -> None:
    volume, lesion = _image()
    with_network(_Trained(volume, lesion, order))
    done: list[int] = []
    scores = try_axis_orders(
        folder, volume, lesion, device="cpu", threads=1, progress=done.append
    )
    assert len(scores) == 16
    assert scores[0].order == order
    assert scores[0].dice > 0.8
    assert is_clear(scores)
    assert done == list(range(16))


def test_a_network_that_finds_nothing_gives_no_advice(folder, with_network) -> None:
    volume, lesion = _image()
    with_network(lambda windows: np.full_like(windows, -9.0))
    scores = try_axis_orders(
        folder, volume, lesion, device="cpu", threads=1, progress=lambda _: None
    )
    assert scores[0].dice == 0
    assert not is_clear(scores)


def test_a_network_that_marks_everything_fits_no_order(folder, with_network) -> None:
    volume, lesion = _image()
    with_network(lambda windows: np.full_like(windows, 9.0))
    scores = try_axis_orders(
        folder, volume, lesion, device="cpu", threads=1, progress=lambda _: None
    )
    assert not is_clear(scores)


def test_an_empty_contour_is_refused(folder) -> None:
    volume, lesion = _image()
    with pytest.raises(MetiaError, match="empty"):
        try_axis_orders(
            folder,
            volume,
            lesion & False,
            device="cpu",
            threads=1,
            progress=lambda _: None,
        )
