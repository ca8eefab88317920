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
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    LearningRateMonitor,
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
from unetr.training.checkpoints import (
    BEST,
    LAST,
    FolderCheckpoint,
    WholeFiles,
    read_checkpoint,
)
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

FINGERPRINT = "configuration.sha256"
"""File in a run's folder: hashes of its configuration and of how cases are divided."""
NO_CASES = "no-cases"
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
            _keep_end(trainer, module, patches, last)
    return last


def _keep_end(
    trainer: pl.Trainer, module: MetastasisModule, patches: PatchData, last: Path
) -> None:
    """Save and validate the last step, which need not be one that either is due at.

    Nor need its validation have come to an end, where the run was killed amid it.
    """
    trainer.save_checkpoint(last)
    (best,) = (
        callback
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, FolderCheckpoint) and callback.monitor is not None
    )
    if best.validated_step != trainer.global_step:
        trainer.validate(module, datamodule=patches, verbose=False)
        best.keep_if_best(trainer)
        # That it was validated is part of it.
        trainer.save_checkpoint(last)


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
    division = division_now(configuration)
    mark, last = output / FINGERPRINT, output / LAST
    step = 0
    if last.exists():
        if not resume:
            raise MetiaError(
                "output-exists", "The output folder holds a run: add --resume."
            )
        if not mark.exists() or mark.read_text("utf-8").split()[:1] != [own]:
            raise MetiaError(
                "configuration-invalid",
                "The folder belongs to a run of another configuration: use another "
                "output, or undo the change.",
            )
        refuse_other_division(output, division)
        step = int(read_checkpoint(last)["global_step"])
    output.mkdir(parents=True, exist_ok=True)
    mark.write_text(f"{own}\n{division}\n", "utf-8")
    return step


def division_now(configuration: TrainingConfiguration) -> str:
    """Hash which case is for training, validation or testing.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` where ``split.json`` does not fit the cases.
    """
    if configuration.data.cases is None:
        return NO_CASES
    # Needs libraries that a machine for synthetic training may lack.
    from unetr.training.cases import division_of, find_cases, plan_split

    folder = Path(configuration.data.cases)
    return division_of(plan_split(folder, find_cases(folder)[0]))


def refuse_other_division(output: Path, division: str) -> None:
    """Refuse where a run's folder says that its cases were divided otherwise.

    Older folders say nothing of it, and a checkpoint may lie alone.

    Raises
    ------
    MetiaError
        ``configuration-invalid``.
    """
    mark = output / FINGERPRINT
    kept = mark.read_text("utf-8").split()[1:] if mark.exists() else []
    if kept and kept != [division]:
        raise MetiaError(
            "configuration-invalid",
            "The run was trained on other cases: those for training, validation and "
            "testing are no longer the same, so what it was trained on may now be for "
            "testing. Bring split.json and data.cases back, or train anew.",
        )


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
        plugins=[WholeFiles()],
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
        FolderCheckpoint(
            filename=Path(LAST).stem,
            every_n_train_steps=configuration.checkpoint_every_steps,
            save_top_k=1,
            **shared,
        )
    )
    callbacks.append(
        FolderCheckpoint(
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
