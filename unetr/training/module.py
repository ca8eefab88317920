"""The Lightning module: one UNETR, one logit a voxel, and how it learns.

Batches are (batch, 1, slice, row, column) pairs of image and soft target. The network
is MONAI's with its norms as group norms (same mathematics, same state dict), channels
last in memory on the CPU. Not safe to share between threads.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn

from unetr.configuration import NetworkArguments
from unetr.network import build_network, replace_norms
from unetr.training.configuration import TrainingConfiguration
from unetr.training.losses import lesion_loss, overlap_errors, soft_dice
from unetr.training.muon import MuonAdamW, turns

STAGES = (("out.", "decoder2."), ("decoder",), ("encoder", "pyramid"), ("vit.",))
"""How the names of parameters begin that learn from the first step on, and from each of
``start.unfreeze_steps``: from the output back, as what is near it is least general."""


def trainable_network(arguments: NetworkArguments) -> nn.Module:
    """Build the network as it is trained: fast norms, no unused parameters."""
    network = build_network(arguments)
    for block in network.get_submodule("vit.blocks").children():
        # Parameters without a gradient would stall distributed training.
        block.norm_cross_attn = nn.Identity()
    replace_norms(network)
    return network.train()


def computes_on_cuda(configuration: TrainingConfiguration) -> bool:
    """Tell whether this run uses CUDA here."""
    wish = configuration.hardware.accelerator
    return wish == "cuda" or (wish == "auto" and torch.cuda.is_available())


def learning_rate_factor(
    step: int, *, warmup: int, steps: int, final_share: float
) -> float:
    """Give the share of the learning rate: warm-up, then half a cosine."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * done))


class MetastasisModule(pl.LightningModule):
    """Trains one network as a configuration says."""

    def __init__(self, configuration: TrainingConfiguration) -> None:
        super().__init__()
        self.configuration = configuration
        self.network = trainable_network(configuration.network)
        # Group norm keeps channels-last memory on the CPU only; on CUDA it would copy.
        self._layout = (
            torch.contiguous_format
            if computes_on_cuda(configuration)
            else torch.channels_last_3d
        )
        self.network.to(memory_format=self._layout)  # type: ignore[call-overload]
        if configuration.hardware.compile:
            self.network.compile()
        self._found: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        """Map images to one logit a voxel: lesion against none."""
        images = images.contiguous(memory_format=self._layout)
        pair: Tensor = self.network(images)
        return (pair[:, 1:] - pair[:, :1]).float()

    def _first_step(self, stage: int) -> int:
        """Give the step that a stage of the network learns from."""
        since = [0, *self.configuration.start.unfreeze_steps]
        return since[min(stage, len(since) - 1)]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Let batch norms count where their stage learns, and only there.

        Anew each step: at a start and a resumption Lightning lets all of them count.
        """
        for name, module in self.network.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(self.global_step >= self._first_step(_stage(name)))

    def training_step(self, batch: tuple[Tensor, ...], _: int) -> dict[str, Tensor]:
        """Compute the loss, and the overlap error of each patch that has a number."""
        images, targets, *numbers = batch
        logits = self(images)
        loss = lesion_loss(logits, targets, self.configuration.loss)
        self.log("train/loss", loss, prog_bar=True)
        answer = {"loss": loss}
        if numbers:
            probability = torch.sigmoid(logits.detach())
            answer["errors"] = overlap_errors(
                probability, targets, self.configuration.loss
            )
        return answer

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Collect Dice, hits and false marks of a batch."""
        images, targets = batch
        logits = self(images)
        loss = lesion_loss(logits, targets, self.configuration.loss)
        probability = torch.sigmoid(logits)
        filled = (targets >= 0.5).sum((1, 2, 3, 4)) > 0
        found = ((probability >= 0.5) & (targets >= 0.5)).sum((1, 2, 3, 4)) > 0
        marked = (probability >= 0.5).sum((1, 2, 3, 4)) > 0
        rows = torch.stack(
            [
                loss.expand(len(images)),
                soft_dice(probability, targets),
                filled.float(),
                found.float(),
                (marked & ~filled).float(),
            ],
            dim=1,
        )
        self._found.append(rows)

    def on_validation_epoch_end(self) -> None:
        """Log the means over all patches (of all processes)."""
        rows = torch.cat(self._found)
        self._found.clear()
        loss, dice, filled, found, wrong = rows.unbind(1)
        empty = (1 - filled).sum().clamp(min=1)
        figures = {
            "validation/loss": loss.mean(),
            "validation/dice": (dice * filled).sum() / filled.sum().clamp(min=1),
            "validation/hit": found.sum() / filled.sum().clamp(min=1),
            "validation/false": wrong.sum() / empty,
        }
        self.log_dict(figures, prog_bar=True, sync_dist=True)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip: with a fused optimiser, which may scale in fp16, Lightning refuses."""
        if not gradient_clip_val:
            return
        # What is frozen has gradients too, that must not take the others' share.
        for learns in (True, False):
            parameters = [
                parameter
                for group in optimizer.param_groups
                if (group["lr"] > 0) == learns
                for parameter in group["params"]
            ]
            nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def configure_optimizers(self) -> Any:
        """Give the optimiser; what is frozen has a rate of 0 until its step comes."""
        settings, start = self.configuration.optimiser, self.configuration.start
        parts: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            muon = settings.kind == "muon" and turns(name, parameter)
            parts.setdefault((_stage(name), muon), []).append(parameter)
        optimiser = (MuonAdamW if settings.kind == "muon" else torch.optim.AdamW)(
            [{"params": found, "muon": muon} for (_, muon), found in parts.items()],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )

        def factor(stage: int, step: int) -> float:
            if step < self._first_step(stage):
                return 0.0
            share = learning_rate_factor(
                step,
                warmup=settings.warmup_steps,
                steps=settings.steps,
                final_share=settings.final_share,
            )
            return share * start.body_factor if stage else share

        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, [partial(factor, stage) for stage, _ in parts]
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def _stage(name: str) -> int:
    """Tell which of ``STAGES`` a parameter belongs to."""
    return next(i for i, begins in enumerate(STAGES) if name.startswith(begins))


class AveragedWeights(WeightAveraging):
    """An exponential average of the weights, quick at first.

    It is what is validated, and the ``state_dict`` of every checkpoint.
    """

    def __init__(self, decay: float) -> None:
        def average(mean: Any, current: Any, count: Any) -> None:
            steps = int(count)
            share = 1 - min(decay, (1 + steps) / (10 + steps))
            if mean[0].is_floating_point():
                torch._foreach_lerp_(mean, current, share)
            else:  # what batch norms count
                torch._foreach_copy_(mean, current)

        # The statistics of batch norms belong to the weights: average them alike.
        super().__init__(use_buffers=True, multi_avg_fn=average)
