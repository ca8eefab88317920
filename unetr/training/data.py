"""Endless patches for training, fixed patches for validation.

``PatchStream`` makes heads, cuts patches, and keeps a pool from which each is used a
few times; every process (rank, worker) and every resumption draws its own numbers from
the configuration's seed. Batches are (batch, 1, slice, row, column) pairs of image and
soft target. With the generator on ``cuda`` there are no workers: heads are made on the
training device, in turn with the steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from unetr.configuration import IntensityNormalisation, PreprocessingProfile
from unetr.training.configuration import TrainingConfiguration
from unetr.training.fields import Draw
from unetr.training.heads import HeadStore, Part
from unetr.training.parameters import PatchParameters
from unetr.training.patches import Patch, cut_patches, stack, vary
from unetr.training.synthetic import CLIP, HeadGenerator, SyntheticHead

if TYPE_CHECKING:
    from unetr.training.cases import CaseFiles

VALIDATION_STREAM = 1 << 40
"""Seeds from here on are for validation; training never reaches them."""
CASES_KEPT = 64

PROFILE = PreprocessingProfile(
    profile="head-mr",
    spacing_mm=(1.0, 1.0, 1.0),
    intensity=IntensityNormalisation(rule="brain-median", clip=CLIP),
)
"""How inference has to prepare an image to look like the generator's."""


class HeadSource:
    """Heads for one part: synthetic ones, cases, or both in turn.

    Parameters
    ----------
    part : str
        ``train`` or ``validation``.
    """

    def __init__(
        self, configuration: TrainingConfiguration, part: Part, device: torch.device
    ) -> None:
        data = configuration.data
        self._window = configuration.network.img_size
        self._share = data.cases_share
        self._generator: HeadGenerator | None = None
        self._cases: list[CaseFiles] = []
        self._loaded: dict[str, SyntheticHead] = {}
        self._device = device
        if data.heads is not None:
            store = HeadStore(Path(data.heads), (part,), names=data.head_names)
            self._generator = HeadGenerator(
                store, configuration.synthetic, seed=configuration.seed, device=device
            )
        if data.cases is not None:
            # Needs libraries that a machine for synthetic training may lack.
            from unetr.training.cases import cases_for, find_cases, lock_split

            folder = Path(data.cases)
            cases, _ = find_cases(folder)
            split = lock_split(folder, cases)
            self._cases = cases_for(
                cases, split, part, folds=data.folds, fold=data.fold
            )

    def make(self, draw: Draw, index: int) -> SyntheticHead:
        """Make head number `index`."""
        if self._cases and (self._generator is None or draw.chance(self._share)):
            return self._case(self._cases[draw.whole(0, len(self._cases) - 1)])
        if self._generator is None:
            raise ValueError("there are no cases for this part")
        return self._generator.make(index)

    def _case(self, case: CaseFiles) -> SyntheticHead:
        if case.name not in self._loaded:
            from unetr.training.cases import load_case

            if len(self._loaded) >= CASES_KEPT:
                self._loaded.pop(next(iter(self._loaded)))
            made = load_case(case, PROFILE, self._window)
            self._loaded[case.name] = replace(
                made,
                image=made.image.to(self._device),
                target=made.target.to(self._device),
                inside=made.inside.to(self._device),
            )
        return self._loaded[case.name]


class PatchStream(IterableDataset[Patch]):
    """Endless varied patches of training heads.

    Parameters
    ----------
    rank, start_step : int
        Of the process, and the optimiser step training starts or resumes from: both
        choose the numbers that are drawn.
    """

    def __init__(
        self,
        configuration: TrainingConfiguration,
        device: torch.device,
        *,
        rank: int = 0,
        start_step: int = 0,
    ) -> None:
        self._configuration = configuration
        self._device = device
        self._rank = rank
        self._start_step = start_step

    def __iter__(self) -> Iterator[Patch]:
        worker = get_worker_info()
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        if worker is not None:
            torch.set_num_threads(1)
        configuration = self._configuration
        settings = configuration.patches
        source = HeadSource(configuration, "train", self._device)
        seed = (configuration.seed, self._start_step, self._rank, number)
        draw = Draw(seed, self._device)
        room = max(settings.per_head, settings.pool // count)
        pool: list[Patch] = []
        while True:
            head = source.make(draw, int(draw.numbers.integers(VALIDATION_STREAM)))
            fresh = cut_patches(draw, head, configuration.network.img_size, settings)
            _put(draw, pool, fresh, room)
            for _ in range(settings.per_head * settings.reuse):
                yield vary(draw, pool[draw.whole(0, len(pool) - 1)], settings)


def _put(draw: Draw, pool: list[Patch], fresh: list[Patch], room: int) -> None:
    for patch in fresh:
        if len(pool) < room:
            pool.append(patch)
        else:
            pool[draw.whole(0, room - 1)] = patch


class FixedPatches(Dataset[Patch]):
    """The validation patches, made once."""

    def __init__(
        self, configuration: TrainingConfiguration, device: torch.device
    ) -> None:
        wanted = configuration.validation
        settings: PatchParameters = configuration.patches.model_copy(
            update={"per_head": wanted.patches_per_head}
        )
        source = HeadSource(configuration, "validation", device)
        self._patches: list[Patch] = []
        for number in range(wanted.heads):
            index = VALIDATION_STREAM + number
            draw = Draw((configuration.seed, index), device)
            head = source.make(draw, index)
            window = configuration.network.img_size
            self._patches += cut_patches(draw, head, window, settings)

    def __len__(self) -> int:
        return len(self._patches)

    def __getitem__(self, index: int) -> Patch:
        image, target = self._patches[index]
        return image.float(), target.float()


def _end_at_once(_worker: int) -> None:
    """Let this process of a loader end without taking the interpreter down first.

    The thread that hands patches over may be inside torch then, and is killed there:
    the process aborts, and torch raises that in the training process, wherever it is.
    """
    Finalize(None, os._exit, args=(0,), exitpriority=-1000)


class PatchData(pl.LightningDataModule):
    """Both, as Lightning wants them.

    Parameters
    ----------
    start_step : int
        See ``PatchStream``.
    """

    def __init__(
        self, configuration: TrainingConfiguration, *, start_step: int = 0
    ) -> None:
        super().__init__()
        self._configuration = configuration
        self._start_step = start_step
        self._fixed: FixedPatches | None = None

    def _generator_device(self) -> torch.device:
        if self._configuration.hardware.generator == "cpu":
            return torch.device("cpu")
        index = self.trainer.local_rank if self.trainer is not None else 0
        return torch.device("cuda", index)

    def train_dataloader(self) -> DataLoader[Patch]:
        """Give endless batches."""
        hardware = self._configuration.hardware
        rank = self.trainer.global_rank if self.trainer is not None else 0
        stream = PatchStream(
            self._configuration,
            self._generator_device(),
            rank=rank,
            start_step=self._start_step,
        )
        return DataLoader(
            stream,
            batch_size=self._configuration.optimiser.batch,
            num_workers=hardware.workers,
            collate_fn=stack,
            # Forked after torch has computed, a worker would hang.
            multiprocessing_context="spawn" if hardware.workers else None,
            prefetch_factor=4 if hardware.workers else None,
            persistent_workers=hardware.workers > 0,
            worker_init_fn=_end_at_once if hardware.workers else None,
        )

    def val_dataloader(self) -> DataLoader[Patch]:
        """Give the same patches each time."""
        if self._fixed is None:
            self._fixed = FixedPatches(self._configuration, self._generator_device())
        batch = self._configuration.optimiser.batch
        return DataLoader(self._fixed, batch_size=batch, collate_fn=stack)
