"""What each step from tissue to an image does, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from unetr.training.acquisition import acquire, acquire_again, percentile, rician
from unetr.training.fields import Draw, centre_of, dilate, erode
from unetr.training.parameters import AcquisitionParameters

CPU = torch.device("cpu")
EDGE = 48
NOTHING: dict[str, Any] = {
    "stripped_share": 0.0,
    "bias": (0.0, 0.0),
    "blur_mm": (0.0, 0.0),
    "thick_share": 0.0,
    "noise": (0.0, 0.0),
    "ghost_share": 0.0,
    "gamma_share": 0.0,
    "clip_share": 0.0,
    "slab_share": 0.0,
}
"""An acquisition that changes nothing."""
SEEDS = range(6)


def ball() -> tuple[Tensor, Tensor]:
    """A textured head of 1 in air of 0, and the inside of its skull."""
    index = torch.arange(EDGE) - (EDGE - 1) / 2
    radius = (
        index[:, None, None] ** 2 + index[None, :, None] ** 2 + index[None, None] ** 2
    ).sqrt()
    texture = 1 + 0.2 * Draw((9,), CPU).white((EDGE,) * 3)
    return texture.clamp(0.2, 1.8) * (radius < 20), radius < 16


def made(seed: int, **changes: Any) -> Tensor:
    """Acquire the ball with only what is named."""
    parameters = AcquisitionParameters(**(NOTHING | changes))
    return acquire(Draw((seed,), CPU), *ball(), parameters)


def roughness(image: Tensor) -> list[float]:
    """Mean square step from voxel to voxel along each axis."""
    return [float(image.diff(dim=axis).square().mean()) for axis in range(3)]


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_asked_for_changes_nothing(seed: int) -> None:
    assert torch.allclose(made(seed), ball()[0], atol=1e-6)


@pytest.mark.parametrize("gap_share", [0.0, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_thick_slices_blur_one_axis_only(seed: int, gap_share: float) -> None:
    image, inside = ball()
    thick = made(seed, thick_share=1.0, thickness_mm=(5.0, 5.0), gap_share=gap_share)
    shares = [
        after / before
        for after, before in zip(roughness(thick), roughness(image), strict=True)
    ]
    along = min(range(3), key=shares.__getitem__)
    # Slices of 5 mm leave a small part of the change from voxel to voxel.
    assert shares[along] < 0.1
    # Across, means of independent texture vary less, but the outline stays.
    assert all(share > 3 * shares[along] for share in shares if share != shares[along])
    # Each slice is a mean of what is around it, and stays in its place.
    deep = erode(inside, 6)
    assert float(thick[deep].std()) < 0.6 * float(image[deep].std())
    assert centre_of(thick) == pytest.approx(centre_of(image), abs=0.3)
    # Between two slices the image is a straight line: bent only where slices are.
    bends = thick.diff(n=2, dim=along).abs()
    flat = bends.amax([axis for axis in range(3) if axis != along])
    assert float((flat < 1e-4).float().mean()) > 0.5
    assert float(thick.mean()) == pytest.approx(float(image.mean()), rel=0.1)
    others = thick.movedim(along, 0).diff(n=2, dim=1).abs().amax((1, 2))
    assert float(others.median()) > 0.1


def test_gaps_put_slices_further_apart() -> None:
    def slices(gap_share: float) -> float:
        counts = []
        for seed in SEEDS:
            thick = made(
                seed, thick_share=1.0, thickness_mm=(4.0, 4.0), gap_share=gap_share
            )
            bends = [
                thick.diff(n=2, dim=axis)
                .abs()
                .amax([other for other in range(3) if other != axis])
                for axis in range(3)
            ]
            counts.append(min(int((bend > 1e-4).sum()) for bend in bends))
        return sum(counts) / len(counts)

    assert slices(1.0) < 0.95 * slices(0.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_lifts_the_air_as_rician_noise_does(seed: int) -> None:
    image, _ = ball()
    level = 0.05
    parameters = AcquisitionParameters(**(NOTHING | {"noise": (level, level)}))
    noisy = rician(Draw((seed,), CPU), image, parameters)
    sigma = level * percentile(image, 90)
    air, bright = image == 0, image > 10 * sigma
    assert float(noisy.min()) >= 0
    # Rayleigh in air: mean sigma sqrt(pi / 2), spread sigma sqrt(2 - pi / 2).
    assert float(noisy[air].mean()) == pytest.approx(1.2533 * sigma, rel=0.02)
    assert float(noisy[air].std()) == pytest.approx(0.6551 * sigma, rel=0.02)
    # Gaussian where there is signal, with little bias.
    change = (noisy - image)[bright]
    assert float(change.std()) == pytest.approx(sigma, rel=0.03)
    assert abs(float(change.mean())) < 0.1 * sigma


@pytest.mark.parametrize("seed", SEEDS)
def test_shading_is_smooth_and_as_strong_as_asked_for(seed: int) -> None:
    image, _ = ball()
    shaded = made(seed, bias=(0.2, 0.2))
    head = image > 0
    assert float(shaded[~head].abs().max()) == 0
    field = torch.where(head, (shaded / image.clamp(min=1e-6)).log(), 0.0)
    assert 0.02 < float(field[head].std()) < 0.5
    steps = torch.stack(
        [
            field.diff(dim=axis)
            .abs()[head.narrow(axis, 1, EDGE - 1) & head.narrow(axis, 0, EDGE - 1)]
            .max()
            for axis in range(3)
        ]
    )
    # A correlation length of 35 mm and more: a few hundredths from voxel to voxel.
    assert float(steps.max()) < 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_clipping_saturates_the_brightest_and_nothing_else(seed: int) -> None:
    image, inside = ball()
    clipped = made(seed, clip_share=1.0)
    top = float(clipped.max())
    assert torch.equal(clipped, image.clamp(max=top))
    saturated = float((clipped[inside] == top).float().mean())
    assert 0.0005 < saturated < 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_stripping_leaves_nothing_outside_the_skull(seed: int) -> None:
    image, inside = ball()
    stripped = made(seed, stripped_share=1.0)
    assert torch.equal(stripped[inside], image[inside])
    assert float(stripped[~dilate(inside, 2)].abs().max()) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_ghost_is_the_head_again_faintly(seed: int) -> None:
    image, _ = ball()
    ghost = made(seed, ghost_share=1.0) - image
    share = float(ghost.sum() / image.sum())
    assert 0.01 <= share <= 0.06
    differences = (
        (ghost - share * image.roll(shift, dims=axis)).abs().max()
        for axis in range(3)
        for shift in range(15, 61)
    )
    assert float(min(differences)) < 1e-5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bent_grey_scale_keeps_the_order(seed: int) -> None:
    image, _ = ball()
    bent = made(seed, gamma_share=1.0)
    order = image.flatten().argsort()
    assert float(bent.flatten()[order].diff().min()) >= -1e-6
    assert float((bent - image).abs().max()) > 0.001
    top = percentile(image, 99.9)
    assert percentile(bent, 99.9) == pytest.approx(top, rel=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_real_image_keeps_its_geometry(seed: int) -> None:
    image, _ = ball()
    parameters = AcquisitionParameters(thick_share=1.0, stripped_share=1.0)
    varied = acquire_again(Draw((seed,), CPU), image, parameters)
    assert float(varied.min()) >= 0
    both = torch.stack([varied.flatten(), image.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.9
