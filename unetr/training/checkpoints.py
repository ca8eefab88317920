"""Checkpoints of a run: written whole or not at all, and found again where it went.

``last.ckpt`` is what a run goes on from, ``best.ckpt`` of the highest validation Dice.
Both lie in the folder of the run, which may be moved between two parts of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from errors import MetiaError

LAST = "last.ckpt"
BEST = "best.ckpt"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of one's own run; only tensors and plain values.

    Returns
    -------
    dict
        With ``state_dict`` and ``global_step`` at least.

    Raises
    ------
    MetiaError
        ``model-invalid``.
    """
    none = MetiaError(
        "model-invalid", f"{path.name} is no checkpoint of a training run."
    )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, OSError, EOFError, ValueError, UnpicklingError) as error:
        raise none from error
    if not isinstance(content, dict) or not {"state_dict", "global_step"} <= {*content}:
        raise none
    return content


class WholeFiles(TorchCheckpointIO):
    """Writes beside the target and takes its place at once.

    Lightning's own way leads over the folder for temporary files: where that is another
    file system, the target is emptied first, and a kill then leaves neither file.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any = None,
    ) -> None:
        """Write one checkpoint; `storage_options` mean nothing to a local file."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Always of one name, so that runs that are killed leave one such file at most.
        unfinished = target.with_name(f".{target.name}.part")
        with unfinished.open("wb") as stream:
            torch.save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(target)


class FolderCheckpoint(ModelCheckpoint):
    """Keeps the last or the best checkpoint of a run, wherever its folder lies by now.

    Attributes
    ----------
    validated_step : int
        The step that was last validated; 0 before.
    """

    validated_step = 0

    @property
    def state_key(self) -> str:
        """The key in checkpoints; Lightning's, so that older ones go on."""
        return super().state_key.replace(type(self).__name__, ModelCheckpoint.__name__)

    def on_validation_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> None:
        """Note the step, which is part of what is then saved."""
        self.validated_step = trainer.global_step
        super().on_validation_end(trainer, pl_module)

    def keep_if_best(self, trainer: pl.Trainer) -> None:
        """Do as after a validation amid training, after one of its own."""
        self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def state_dict(self) -> dict[str, Any]:
        """Give the state, for a checkpoint."""
        return super().state_dict() | {"validated_step": self.validated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state; how good ``best.ckpt`` is, it says itself.

        The last checkpoint need not know: it is older than the validation of its step.
        Where the best one is missing, nothing was validated.
        """
        state = state_dict
        if self.monitor is not None:
            path = Path(str(self.dirpath), BEST)
            if not path.exists():
                return
            state = read_checkpoint(path)["callbacks"][self.state_key]
        self.validated_step = state_dict.get("validated_step", 0)
        super().load_state_dict(self._here(state))

    def _here(self, state: dict[str, Any]) -> dict[str, Any]:
        """Let its paths follow the folder; else Lightning forgets the score."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        models = {here(path): score for path, score in state["best_k_models"].items()}
        return (
            state
            | {name: here(state[name]) for name in paths}
            | {"dirpath": self.dirpath, "best_k_models": models}
        )
