"""Patches made beforehand, and met the more often the worse they are segmented.

Making heads takes as long as learning from them where both share a few processor cores;
stored, a patch serves many runs. A file (safetensors) holds ``images`` and ``targets``,
uint8, (patch, slice, row, column): an image times 51 (``CLIP`` is 0 to 5), a target
times 255; its metadata say of which split and fold own cases are. Files are mapped, not
read: only patches in use take memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from errors import MetiaError
from unetr.training.configuration import TrainingConfiguration
from unetr.training.fields import Draw
from unetr.training.parameters import PatchParameters
from unetr.training.patches import Patch, stack, vary
from unetr.training.sources import ORIGIN, HeadSource
from unetr.training.synthetic import CLIP

IMAGE_SCALE = 255 / CLIP[1]
TARGET_SCALE = 255.0
BLOCK_SHARE = 0.25
"""Share of the patches that is chosen at once, none of them twice."""
LEAST_ERROR = 0.03
"""Even what is segmented well is met again some time."""
UNMET_ERROR = 0.5
"""What has not been met yet counts as bad, but not as the worst."""


def store_patches(
    configuration: TrainingConfiguration, path: Path, *, heads: int, seed: int
) -> int:
    """Make patches of `heads` training heads, and return how many.

    Parameters
    ----------
    seed : int
        Another one gives other heads.
    """
    device = torch.device(configuration.hardware.generator)
    source = HeadSource(configuration, "train", device)
    draw = Draw((configuration.seed, seed), device)
    images: list[Tensor] = []
    targets: list[Tensor] = []
    for _ in range(heads):
        for image, target in source.training_patches(draw, configuration.patches):
            images.append(_to_bytes(image, IMAGE_SCALE))
            targets.append(_to_bytes(target, TARGET_SCALE))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    save_file(
        {"images": torch.stack(images), "targets": torch.stack(targets)},
        unfinished,
        metadata={ORIGIN: source.origin} if source.origin else None,
    )
    unfinished.replace(path)
    return len(images)


def _to_bytes(values: Tensor, scale: float) -> Tensor:
    return (values.float() * scale).round().clamp(0, 255).to(torch.uint8).cpu()


class StoredPatches(Dataset[tuple[Tensor, Tensor, int]]):
    """Varied patches with their numbers.

    Parameters
    ----------
    files : sequence of Path
    size : sequence of int
        Of a patch: the network's.
    draw : Draw
        How they are varied.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` for a file that holds no patches of this size.
    """

    def __init__(
        self,
        files: Sequence[Path],
        size: Sequence[int],
        draw: Draw,
        parameters: PatchParameters,
    ) -> None:
        self._draw = draw
        self._parameters = parameters
        self._parts = [_open(path, tuple(size)) for path in files]
        self._ends = np.cumsum([len(images) for images, _ in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        part = int(np.searchsorted(self._ends, index, side="right"))
        images, targets = self._parts[part]
        place = index - int(self._ends[part])  # from the end of its file
        patch: Patch = (
            images[place].float() / IMAGE_SCALE,
            targets[place].float() / TARGET_SCALE,
        )
        return *vary(self._draw, patch, self._parameters), index


def stack_numbered(
    patches: Sequence[tuple[Tensor, Tensor, int]],
) -> tuple[Tensor, Tensor, Tensor]:
    """Make a batch, with the patches' numbers."""
    images, targets, numbers = zip(*patches, strict=True)
    return *stack(list(zip(images, targets, strict=True))), torch.tensor(numbers)


def _open(path: Path, size: tuple[int, ...]) -> Patch:
    try:
        with safetensors.safe_open(path, "pt") as file:
            images, targets = file.get_tensor("images"), file.get_tensor("targets")
    except (OSError, safetensors.SafetensorError) as error:
        raise MetiaError(
            "configuration-invalid",
            f"{path.name} holds no patches: make them with `synthetic patches`.",
        ) from error
    if not (images.dtype == targets.dtype == torch.uint8) or not (
        images.shape == targets.shape == (len(images), *size)
    ):
        raise MetiaError(
            "configuration-invalid",
            f"{path.name} holds other patches than of {' x '.join(map(str, size))}.",
        )
    return images, targets


class HardFirst(Sampler[int]):
    """Endless numbers of patches; those segmented badly come more often.

    Parameters
    ----------
    hard_share : float
        0: all alike; 1: in proportion to the overlap error they last had.
    """

    def __init__(self, count: int, hard_share: float, seed: Sequence[int]) -> None:
        self._hard_share = hard_share
        self._numbers = np.random.default_rng(list(seed))
        self._errors = np.full(count, UNMET_ERROR)

    def __iter__(self) -> Iterator[int]:
        count = len(self._errors)
        while True:
            hard = self._errors / self._errors.sum()
            weights = (1 - self._hard_share) / count + self._hard_share * hard
            block = self._numbers.choice(
                count, max(1, int(count * BLOCK_SHARE)), replace=False, p=weights
            )
            yield from block.tolist()

    def remember(self, indices: Tensor, errors: Tensor) -> None:
        """Note the errors, 0 to 1, of patches just met."""
        values = errors.detach().float().cpu().numpy()
        self._errors[indices.cpu().numpy()] = np.maximum(values, LEAST_ERROR)
