"""How a run ends before its last step: at Ctrl-C, or after some minutes.

Either way ``last.ckpt`` is of the very step it ended with. Signal handlers belong to
the main thread, so a run does too.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class Stopping(Callback):
    """Ends a run at Ctrl-C or after some minutes, with a checkpoint of the very step.

    Attributes
    ----------
    interrupted : bool
        Whether the end was asked for with Ctrl-C.
    """

    def __init__(self, path: Path, minutes: float | None) -> None:
        self._path = path
        self._end = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self._has_stepped = False
        self.interrupted = False

    def interrupt(self, *_: object) -> None:
        """Take note of Ctrl-C; the second time, or without a step to keep, end now."""
        if self.interrupted or not self._has_stepped:
            raise KeyboardInterrupt
        self.interrupted = True
        # Not through Python's streams: one may just be written to.
        os.write(
            2,
            b"\nStopping after this step; --resume goes on from there. "
            b"Ctrl-C again stops at once.\n",
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save and stop where that is wanted, after a whole step."""
        if trainer.should_stop or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        self._has_stepped = True
        over = self.interrupted or time.monotonic() >= self._end
        # All processes stop as soon as one wants to.
        if trainer.strategy.reduce_boolean_decision(over, all=False):
            trainer.save_checkpoint(self._path)
            trainer.should_stop = True


@contextmanager
def interrupts_to(stopping: Stopping) -> Iterator[None]:
    """Let Ctrl-C end a run well; it is raised here once it has."""
    before = signal.signal(signal.SIGINT, stopping.interrupt)
    try:
        yield
    except SystemExit as end:
        # All that Lightning makes of one that is raised amid a step.
        raise KeyboardInterrupt from end
    finally:
        signal.signal(signal.SIGINT, before)
    if stopping.interrupted:
        raise KeyboardInterrupt
