"""One training run: started, stopped, killed, resumed, exported.

``train`` builds everything from a configuration and keeps ``last.ckpt`` in the output
folder, written whole or not at all every so many steps, so that a run that was killed
goes on from there; a run of minutes at a time, or stopped with Ctrl-C, ends with one
too. A file says which configuration the folder belongs to: a changed one is refused.
One run a folder. ``check`` looks for what would stop one, without starting it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    LearningRateMonitor,
    ModelCheckpoint,
    TQDMProgressBar,
)
from pytorch_lightning.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)

from errors import MetiaError
from unetr.hardware import keep_memory
from unetr.training.configuration import TrainingConfiguration
from unetr.training.data import PatchData, Remembering
from unetr.training.fields import Draw
from unetr.training.heads import HeadStore, Part
from unetr.training.module import (
    AveragedWeights,
    MetastasisModule,
    computes_on_cuda,
    trainable_network,
)
from unetr.training.stopping import Stopping, interrupts_to
from unetr.training.stored import StoredPatches
from unetr.training.transfer import read_weights, start_from

LAST = "last.ckpt"
BEST = "best.ckpt"
FINGERPRINT = "configuration.sha256"
PARTS: tuple[Part, ...] = ("train", "validation")


def fingerprint(configuration: TrainingConfiguration) -> str:
    """Hash what decides about the weights: not where files lie or what computes."""
    relevant = configuration.model_dump_json(
        exclude={
            "output": True,
            "hardware": True,
            "export": True,
            "logger": True,
            "log_every_steps": True,
            "checkpoint_every_steps": True,
            "validation": True,
            "data": {"heads", "cases", "patches"},
            "start": {"weights"},
        }
    )
    return hashlib.sha256(relevant.encode()).hexdigest()


def train(
    configuration: TrainingConfiguration,
    *,
    resume: bool = False,
    minutes: float | None = None,
    progress: bool = True,
) -> Path:
    """Train, from the start or from the last checkpoint.

    Parameters
    ----------
    minutes : float or None
        Stop after this long, to be resumed.

    Returns
    -------
    Path
        The last checkpoint.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` where the data have faults, the folder holds another
        run, or there is no such device; ``model-invalid`` for weights to start from.
    KeyboardInterrupt
        At Ctrl-C, once the step that was at work is kept.
    """
    refuse_bad_cases(configuration)
    output = Path(configuration.output)
    last = output / LAST
    step = _prepare_folder(configuration, output, resume=resume)
    set_up_torch(configuration)
    pl.seed_everything(configuration.seed + step, workers=True, verbose=False)
    module = MetastasisModule(configuration)
    if configuration.start.weights is not None and step == 0:
        start_from(module.network, read_weights(Path(configuration.start.weights)))
    patches = PatchData(configuration, start_step=step)
    stopping = Stopping(last, minutes)
    callbacks = [Remembering(patches), stopping]
    trainer = _trainer(configuration, output, step, callbacks, progress=progress)
    resumed = last if step else None
    with interrupts_to(stopping), warnings.catch_warnings():
        # Resumed amid an endless epoch: the stream starts anew by design.
        warnings.filterwarnings("ignore", ".*mid-epoch.*|.*resumable.*")
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*Checkpoint directory.*exists.*")
        trainer.fit(module, datamodule=patches, ckpt_path=resumed, weights_only=False)
    if trainer.global_step >= configuration.optimiser.steps:
        # The last step need not be one that a checkpoint is due at.
        trainer.save_checkpoint(last)
    return last


def check(configuration: TrainingConfiguration) -> list[str]:
    """Name all that would keep the configuration from being trained on this machine.

    Cases are left to ``cases.check_cases``. Reads every head; takes seconds.
    """
    faults = []
    for look in (
        check_devices,
        _find_logger,
        _check_weights,
        _check_heads,
        _check_patches,
    ):
        try:
            look(configuration)
        except MetiaError as error:
            faults.append(error.detail)
    return faults


def _check_weights(configuration: TrainingConfiguration) -> None:
    if configuration.start.weights is not None:
        weights = read_weights(Path(configuration.start.weights))
        start_from(trainable_network(configuration.network), weights)


def _check_heads(configuration: TrainingConfiguration) -> None:
    data = configuration.data
    if data.heads is None:
        return
    for part in PARTS:
        store = HeadStore(Path(data.heads), (part,), names=data.head_names)
        for head in store.heads:
            store.load(head)


def _check_patches(configuration: TrainingConfiguration) -> None:
    StoredPatches(
        [Path(file) for file in configuration.data.patches],
        configuration.network.img_size,
        Draw((0,), torch.device("cpu")),
        configuration.patches,
    )


def refuse_bad_cases(configuration: TrainingConfiguration) -> None:
    """Look at all cases before anything else.

    Raises
    ------
    MetiaError
        ``configuration-invalid``, naming every serious fault.
    """
    if configuration.data.cases is None:
        return
    from unetr.training.cases import check_cases

    faults = [
        f"{fault.case}: {fault.text}"
        for fault in check_cases(Path(configuration.data.cases))
        if fault.serious
    ]
    if faults:
        raise MetiaError(
            "configuration-invalid",
            "Cases cannot be used. " + " ".join(faults),
            {"faults": faults},
        )


def _prepare_folder(
    configuration: TrainingConfiguration, output: Path, *, resume: bool
) -> int:
    """Give the step to go on from: 0 for a new run."""
    own = fingerprint(configuration)
    mark, last = output / FINGERPRINT, output / LAST
    if resume and last.exists():
        if not mark.exists() or mark.read_text("utf-8").strip() != own:
            raise MetiaError(
                "configuration-invalid",
                "The folder belongs to a run of another configuration: use another "
                "output, or undo the change.",
            )
        return int(read_checkpoint(last)["global_step"])
    if last.exists():
        raise MetiaError(
            "output-exists", "The output folder holds a run: add --resume."
        )
    output.mkdir(parents=True, exist_ok=True)
    mark.write_text(own + "\n", "utf-8")
    return 0


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


def check_devices(configuration: TrainingConfiguration) -> None:
    """Look whether what is to compute is there; a CPU serves any number of processes.

    Raises
    ------
    MetiaError
        ``configuration-invalid``.
    """
    hardware = configuration.hardware
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if hardware.generator != "cuda" and not computes_on_cuda(configuration):
        return
    if present < hardware.devices:
        raise MetiaError(
            "configuration-invalid",
            f"hardware.devices is {hardware.devices}; of CUDA devices this machine has "
            f"{present}.",
        )


def set_up_torch(configuration: TrainingConfiguration) -> None:
    """Ready this process for training.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` where there is no such device.
    """
    check_devices(configuration)
    if configuration.hardware.threads:
        torch.set_num_threads(configuration.hardware.threads)
    torch.set_float32_matmul_precision("high")
    keep_memory()
    # What it says at this level is about itself.
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _trainer(
    configuration: TrainingConfiguration,
    output: Path,
    step: int,
    callbacks: list[Callback],
    *,
    progress: bool,
) -> pl.Trainer:
    settings, hardware = configuration.optimiser, configuration.hardware
    every = configuration.validation.every_steps * settings.accumulate
    batches = settings.steps * settings.accumulate
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(hardware.accelerator, hardware.accelerator),
        devices=hardware.devices,
        strategy="ddp" if hardware.devices > 1 else "auto",
        sync_batchnorm=hardware.devices > 1 and computes_on_cuda(configuration),
        precision="bf16-mixed" if hardware.precision == "bf16" else "32-true",
        max_epochs=1,
        limit_train_batches=batches,
        val_check_interval=min(every, batches),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip or None,
        deterministic=hardware.deterministic,
        benchmark=not hardware.deterministic,
        use_distributed_sampler=False,
        log_every_n_steps=configuration.log_every_steps,
        enable_progress_bar=progress,
        enable_model_summary=False,
        default_root_dir=output,
        logger=_logger(configuration, output, step),
        # After the averaging: it belongs to the step that they keep.
        callbacks=_callbacks(configuration, output, progress=progress) + callbacks,
    )


def _callbacks(
    configuration: TrainingConfiguration, output: Path, *, progress: bool
) -> list[Callback]:
    callbacks: list[Callback] = [LearningRateMonitor("step")]
    if configuration.optimiser.ema_decay > 0:
        callbacks.append(AveragedWeights(configuration.optimiser.ema_decay))
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=configuration.log_every_steps))
    shared: dict[str, Any] = {
        "dirpath": output,
        "enable_version_counter": False,
        "auto_insert_metric_name": False,
    }
    callbacks.append(
        ModelCheckpoint(
            filename=Path(LAST).stem,
            every_n_train_steps=configuration.checkpoint_every_steps,
            save_top_k=1,
            **shared,
        )
    )
    callbacks.append(
        ModelCheckpoint(
            filename=Path(BEST).stem,
            monitor="validation/dice",
            mode="max",
            # Whole: with its weights only it would not hold the averaged ones.
            **shared,
        )
    )
    return callbacks


def _find_logger(configuration: TrainingConfiguration) -> None:
    wish = configuration.logger
    if wish != "csv" and importlib.util.find_spec(wish) is None:
        raise MetiaError(
            "configuration-invalid", f"The package {wish} is not installed."
        )


def _logger(configuration: TrainingConfiguration, output: Path, step: int) -> Logger:
    _find_logger(configuration)
    version = f"from-step-{step}"
    wish = configuration.logger
    if wish == "csv":
        return CSVLogger(output, name="log", version=version)
    if wish == "wandb":
        return WandbLogger(f"{output.name}-{version}", output, project="metia")
    if wish == "mlflow":
        return MLFlowLogger(
            "metia",
            f"{output.name}-{version}",
            # Beside the run, unless MLFLOW_TRACKING_URI names a server.
            save_dir=str(output / "mlruns"),
        )
    return TensorBoardLogger(output, name="log", version=version)
