"""Endless patches for training, fixed patches for validation.

``PatchStream`` makes heads, cuts patches, and keeps a pool from which each is used a
few times; every process (rank, worker) and every resumption draws its own numbers from
the configuration's seed. Batches are (batch, 1, slice, row, column) pairs of image and
soft target. With the generator on ``cuda`` there are no workers: heads are made on the
training device, in turn with the steps. Patches stored beforehand take the stream's
place where the configuration names some; their batches have the patches' numbers too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from errors import MetiaError
from unetr.training.configuration import TrainingConfiguration
from unetr.training.fields import Draw
from unetr.training.parameters import PatchParameters
from unetr.training.patches import Patch, cut_patches, stack, vary
from unetr.training.sources import VALIDATION_STREAM, HeadSource
from unetr.training.stored import HardFirst, StoredPatches, stack_numbered


class GeneratorError(MetiaError):
    """A ``MetiaError`` that crosses from a loader's process to the training process.

    There torch makes it anew from one text, a traceback, that ends with its own words.
    """

    def __init__(self, text: str) -> None:
        said = text.rpartition(f"{type(self).__name__}: ")[2].strip()
        code, _, detail = said.partition(": ")
        super().__init__(code, detail)


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
        try:
            yield from self._patches()
        except MetiaError as error:
            raise GeneratorError(str(error)) from error

    def _patches(self) -> Iterator[Patch]:
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
            _put(draw, pool, source.training_patches(draw, settings), room)
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


def _end_with_training(_worker: int) -> None:
    """Let this process of a loader end when the training process wants it, at once.

    Ctrl-C comes to both; the training process first ends its step. Where the
    interpreter were taken down first, the thread that hands patches over may be inside
    torch, and is killed there: the process aborts, and torch raises that in the
    training process, wherever it is.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
        self._sampler: HardFirst | None = None

    def _generator_device(self) -> torch.device:
        if self._configuration.hardware.generator == "cpu":
            return torch.device("cpu")
        index = self.trainer.local_rank if self.trainer is not None else 0
        return torch.device("cuda", index)

    def train_dataloader(self) -> DataLoader[Any]:
        """Give endless batches."""
        hardware = self._configuration.hardware
        rank = self.trainer.global_rank if self.trainer is not None else 0
        if self._configuration.data.patches:
            return self._stored(rank)
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
            worker_init_fn=_end_with_training if hardware.workers else None,
        )

    def _stored(self, rank: int) -> DataLoader[tuple[Tensor, Tensor, int]]:
        configuration = self._configuration
        seed = (configuration.seed, self._start_step, rank)
        patches = StoredPatches(
            [Path(file) for file in configuration.data.patches],
            configuration.network.img_size,
            Draw(seed, torch.device("cpu")),
            configuration.patches,
        )
        self._sampler = HardFirst(len(patches), configuration.patches.hard_share, seed)
        return DataLoader(
            patches,
            batch_size=configuration.optimiser.batch,
            sampler=self._sampler,
            collate_fn=stack_numbered,
        )

    def remember(self, indices: Tensor, errors: Tensor) -> None:
        """Note how badly stored patches were segmented; see ``HardFirst``."""
        if self._sampler is not None:
            self._sampler.remember(indices, errors)

    def val_dataloader(self) -> DataLoader[Patch]:
        """Give the same patches each time."""
        if self._fixed is None:
            self._fixed = FixedPatches(self._configuration, self._generator_device())
        batch = self._configuration.optimiser.batch
        return DataLoader(self._fixed, batch_size=batch, collate_fn=stack)


class Remembering(pl.Callback):
    """Tells the data how badly each stored patch of a batch was segmented."""

    def __init__(self, patches: PatchData) -> None:
        self._patches = patches

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Only batches of stored patches have numbers, and so errors."""
        if "errors" in outputs:
            self._patches.remember(batch[2], outputs["errors"])
