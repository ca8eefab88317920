"""The training configuration: one strict YAML file, one run.

``read_configuration`` names every bad field at once. Relative paths start at the folder
of the file. Nothing here loads torch or the data. ``docs/training.md`` explains every
key; ``configs/`` beside this module holds the ones that were used.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml  # type: ignore[import-untyped]
from pydantic import Field, ValidationError, model_validator

from errors import MetiaError
from unetr.configuration import Configuration, NetworkArguments
from unetr.training.parameters import (
    LossParameters,
    PatchParameters,
    Share,
    SyntheticParameters,
)

Steps = Annotated[int, Field(ge=1, le=10_000_000)]


class DataConfiguration(Configuration):
    """Where patches come from.

    Attributes
    ----------
    heads : str or None
        Packed folder of heads (``metia synthetic pack``) for synthetic images.
    head_names : tuple of str or None
        Only these; test heads are refused.
    patches : tuple of str
        Files of ``metia synthetic patches``: trained on instead of fresh ones.
    cases : str or None
        Folder of cases, each a folder with ``image`` and ``mask`` as NIfTI.
    cases_share : float
        Share of patches from cases where both are given.
    folds, fold : int
        Cross-validation over the patients that are not for testing; with one fold, a
        fixed eighth of them validates.
    """

    heads: str | None = None
    head_names: tuple[str, ...] | None = None
    patches: tuple[str, ...] = ()
    cases: str | None = None
    cases_share: Share = 0.5
    folds: Annotated[int, Field(ge=1, le=20)] = 1
    fold: Annotated[int, Field(ge=0, le=19)] = 0

    @model_validator(mode="after")
    def _check(self) -> DataConfiguration:
        if self.heads is None and self.cases is None:
            raise ValueError("name heads, cases or both")
        if self.fold >= self.folds:
            raise ValueError("fold counts from 0 to folds - 1")
        return self


class OptimiserConfiguration(Configuration):
    """An optimiser with a warm-up and a cosine to the end.

    Attributes
    ----------
    kind : str
        ``adamw``, or ``muon``: convolutions by their orthogonalised momentum, the rest
        by AdamW, with one learning rate.
    steps : int
        Optimiser steps of the whole run, over all resumptions; more than those of the
        warm-up.
    batch, accumulate : int
        Patches a device a pass; passes a step.
    ema_decay : float
        Of the averaged weights, which are validated and exported; 0: none.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    steps: Steps
    batch: Annotated[int, Field(ge=1, le=512)] = 4
    accumulate: Annotated[int, Field(ge=1, le=64)] = 1
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-4
    final_share: Share = 0.02
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 150
    gradient_clip: Annotated[float, Field(ge=0)] = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998

    @model_validator(mode="after")
    def _check(self) -> OptimiserConfiguration:
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) must be fewer than steps "
                f"({self.steps}), or the full learning rate is never reached"
            )
        return self


class StartConfiguration(Configuration):
    """Weights to start from.

    Attributes
    ----------
    weights : str or None
        A safetensors file, or a state dict that torch reads without running code.
    unfreeze_steps : list of int
        The new output and the last decoder learn from the first step; the other
        decoders, the encoders and the transformer from these on, in this order. The
        last of fewer than three is for all that is left; as many as the run has:
        never. Empty: everything learns at once.
    body_factor : float
        Share of the learning rate for all but output and last decoder.
    """

    weights: str | None = None
    unfreeze_steps: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list, max_length=3
    )
    body_factor: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _check(self) -> StartConfiguration:
        if self.unfreeze_steps and self.weights is None:
            raise ValueError("unfreeze_steps without weights would freeze random ones")
        if self.unfreeze_steps != sorted(self.unfreeze_steps):
            raise ValueError("unfreeze_steps must not fall: decoders come first")
        return self


class HardwareConfiguration(Configuration):
    """What computes.

    Attributes
    ----------
    accelerator : str
        ``auto``, ``cpu`` or ``cuda``.
    devices : int
        More than one: distributed data parallel.
    precision : str
        ``bf16`` or ``fp32``.
    generator : str
        Where heads are made: ``cpu`` (in `workers` processes) or ``cuda`` (in the
        training process, on its device).
    workers : int
        0: in the training process.
    compile : bool
        Let torch compile the network: minutes at the start, faster steps on CUDA.
    deterministic : bool
        Refuse operations that differ from run to run (slower on CUDA).
    """

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Annotated[int, Field(ge=1, le=64)] = 1
    precision: Literal["bf16", "fp32"] = "bf16"
    generator: Literal["cpu", "cuda"] = "cpu"
    workers: Annotated[int, Field(ge=0, le=128)] = 1
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    compile: bool = False
    deterministic: bool = False

    @model_validator(mode="after")
    def _check(self) -> HardwareConfiguration:
        if self.generator == "cuda" and self.workers:
            raise ValueError("generator cuda makes heads in the process: workers is 0")
        return self


class ValidationConfiguration(Configuration):
    """Fixed patches of unseen heads, looked at every so many steps."""

    every_steps: Steps = 500
    heads: Annotated[int, Field(ge=1, le=1000)] = 8
    patches_per_head: Annotated[int, Field(ge=1, le=256)] = 8


class ExportConfiguration(Configuration):
    """What the exported model folder says."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] = "0.1.0"
    description: Annotated[str, Field(min_length=1, max_length=4000)]
    licence: Annotated[str, Field(min_length=1)] = (
        "Part of MetIA, under the same terms."
    )
    training_summary: Annotated[str, Field(min_length=1, max_length=4000)]
    demonstration: bool = False
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.375
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    minimum_volume_mm3: Annotated[float, Field(ge=0, le=10_000)] = 8.0
    minimum_peak: Annotated[float, Field(ge=0, lt=1)] = 0.0


class TrainingConfiguration(Configuration):
    """One run."""

    output: str
    seed: Annotated[int, Field(ge=0, le=2**31)] = 1
    data: DataConfiguration
    network: NetworkArguments
    optimiser: OptimiserConfiguration
    synthetic: SyntheticParameters = SyntheticParameters()
    patches: PatchParameters = PatchParameters()
    loss: LossParameters = LossParameters()
    start: StartConfiguration = StartConfiguration()
    hardware: HardwareConfiguration = HardwareConfiguration()
    validation: ValidationConfiguration = ValidationConfiguration()
    checkpoint_every_steps: Steps = 200
    log_every_steps: Steps = 10
    logger: Literal["tensorboard", "csv", "wandb", "mlflow"] = "tensorboard"
    export: ExportConfiguration

    @model_validator(mode="after")
    def _check(self) -> TrainingConfiguration:
        if self.network.out_channels != 2:
            raise ValueError("network.out_channels is 2: background and lesion")
        if max(self.start.unfreeze_steps, default=0) > self.optimiser.steps:
            raise ValueError(
                "start.unfreeze_steps are beyond the last of optimiser.steps"
            )
        return self


class _StrictLoader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML whose numbers are as everywhere else, and whose keys come once.

    YAML 1.1 takes ``5e-4`` and ``1.0e3`` for text; YAML 1.2 and JSON do not.
    """

    def compose_mapping_node(self, anchor: str | None) -> Any:
        """Refuse a key that comes twice, of which the first would be forgotten."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.composer.ComposerError(
                    None, None, f"{key.value} is given twice", key.start_mark
                )
            seen.add(str(key.value))
        return node


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_configuration(path: Path) -> TrainingConfiguration:
    """Read and validate a YAML file; relative paths in it become absolute.

    Raises
    ------
    MetiaError
        ``configuration-invalid``, naming every bad field.
    """
    try:
        data = _StrictLoader(path.read_text("utf-8")).get_single_data()
        configuration = TrainingConfiguration.model_validate_json(json.dumps(data))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise MetiaError("configuration-invalid", f"{path.name}: {faults}.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        raise MetiaError(
            "configuration-invalid", f"{path.name} cannot be read as YAML: {error}."
        ) from error
    return _with_absolute_paths(configuration, path.resolve().parent)


def _with_absolute_paths(
    configuration: TrainingConfiguration, folder: Path
) -> TrainingConfiguration:
    def absolute(text: str | None) -> str | None:
        return None if text is None else str(folder / Path(text).expanduser())

    data = configuration.data
    return configuration.model_copy(
        update={
            "output": absolute(configuration.output),
            "data": data.model_copy(
                update={
                    "heads": absolute(data.heads),
                    "cases": absolute(data.cases),
                    "patches": tuple(str(absolute(file)) for file in data.patches),
                }
            ),
            "start": configuration.start.model_copy(
                update={"weights": absolute(configuration.start.weights)}
            ),
        }
    )
