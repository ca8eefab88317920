"""What an engine is: it makes of weights a function from windows to logits.

Windows and logits are (batch, 1, slice, row, column), float32, in main memory. An
engine that computes elsewhere may also bring a ``Resident``: a whole volume stays on
the device from resampling to probabilities. Nothing here imports a library of
networks. What was loaded is used by one thread, in the process that loaded it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from unetr.configuration import Blending, NetworkArguments
from unetr.preprocessing import Arithmetic

EngineName = Literal["torch", "openvino"]
Precision = Literal["fp32", "bf16", "fp16"]
FloatArray = NDArray[np.float32]
HostNetwork = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Choice:
    """An engine and the number format it multiplies in."""

    engine: EngineName
    precision: Precision

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


@dataclass(frozen=True)
class Source:
    """What a network is made of.

    Attributes
    ----------
    weights : bytes
        Content of a safetensors file, MONAI's names.
    """

    arguments: NetworkArguments
    weights: bytes = field(repr=False)

    @cached_property
    def key(self) -> str:
        """Hash of weights and arguments, hexadecimal."""
        digest = hashlib.sha256(self.weights)
        digest.update(self.arguments.model_dump_json().encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Place:
    """Where a network is to run.

    Attributes
    ----------
    device : str
        ``cpu`` or ``cuda:N``.
    threads : int
        CPU threads, at least 1.
    cache : Path or None
        Folder for networks that were converted; None: nothing is kept.
    compiled : bool
        Whether torch may spend minutes at load on compiling for a GPU.
    """

    device: str
    threads: int
    cache: Path | None = None
    compiled: bool = False


class Resident(Protocol):
    """A device that holds whole volumes."""

    @property
    def arithmetic(self) -> Arithmetic:
        """How volumes of the device are made and brought back."""

    def run(
        self,
        volume: Any,
        *,
        window: Sequence[int],
        overlap: float,
        batch: int,
        on_window: Callable[[float], None],
        blending: Blending = "gaussian",
    ) -> Any:
        """Slide over a volume of `arithmetic`; gives logits where the volume is."""

    def to_host(self, volume: Any) -> FloatArray:
        """Give a volume as an array in main memory."""

    def release(self) -> None:
        """Give back memory that is not in use, after it ran out."""


@dataclass(frozen=True)
class Loaded:
    """A network ready to run.

    Attributes
    ----------
    network : callable
        Windows to logits, both in main memory.
    device : str
        As results record it: ``cpu`` or ``cuda:0 (name)``.
    versions : dict
        Of the libraries that compute.
    session : callable
        Gives a context that surrounds the work on one image.
    """

    network: HostNetwork
    choice: Choice
    place: Place
    device: str
    versions: dict[str, str] = field(default_factory=dict)
    resident: Resident | None = None
    session: Callable[[], AbstractContextManager[object]] = nullcontext


class Engine(Protocol):
    """A way to compute networks on this machine."""

    name: EngineName

    def versions(self) -> dict[str, str]:
        """Name what it consists of; empty where it cannot be used here."""

    def precisions(self, device: str) -> tuple[Precision, ...]:
        """List what it offers on a device of this machine; empty: nothing."""

    def load(self, source: Source, precision: Precision, place: Place) -> Loaded:
        """Make a network ready to run.

        Raises
        ------
        MetiaError
            ``model-invalid`` where the weights do not fit.
        """
