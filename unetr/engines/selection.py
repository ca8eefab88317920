"""Which engine computes a network here: as set, as measured, or by a rule.

In this order: the settings METIA_ENGINE and METIA_PRECISION; what ``metia models tune``
measured on this very machine, model and set of packages; a rule from what the processor
states. Without OpenVINO everything works with torch. Called once a model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from errors import MetiaError
from unetr.engines.engine import (
    Choice,
    Engine,
    EngineName,
    Loaded,
    Place,
    Source,
)
from unetr.engines.openvino_engine import OpenvinoEngine
from unetr.hardware import (
    Machine,
    choose_device,
    count_threads,
    describe_machine,
    half_on_cpu,
)


@dataclass(frozen=True)
class Wish:
    """What the settings say about how to compute; ``auto`` leaves it to MetIA.

    Attributes
    ----------
    threads : int
        CPU threads; 0 means all cores the process may use.
    data_dir : Path or None
        Where converted networks and measurements are kept; None: nowhere.
    """

    device: str = "auto"
    threads: int = 0
    engine: Literal["auto", "torch", "openvino"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    data_dir: Path | None = None
    compiled: bool = False

    def place(self) -> Place:
        """Say where on this machine that is.

        Raises
        ------
        MetiaError
            ``configuration-invalid`` where the device does not exist.
        """
        return Place(
            device=choose_device(self.device),
            threads=count_threads(self.threads),
            cache=None if self.data_dir is None else self.data_dir / "cache",
            compiled=self.compiled,
        )

    def allows(self, choice: Choice) -> bool:
        """Tell whether a choice is within what was asked for."""
        return self.engine in {"auto", choice.engine} and self.precision in {
            "auto",
            choice.precision,
        }


def make_engine(name: EngineName) -> Engine:
    """Make an engine; importing torch is left to the moment torch is chosen."""
    if name == "openvino":
        return OpenvinoEngine()
    from unetr.engines.torch_engine import TorchEngine

    return TorchEngine()


def engine_names() -> tuple[EngineName, ...]:
    """List the engines that are installed; torch always is."""
    return ("openvino", "torch") if OpenvinoEngine().versions() else ("torch",)


def candidates(place: Place, wish: Wish) -> list[Choice]:
    """List what could compute on a device and is within the wish."""
    return [
        choice
        for name in engine_names()
        for precision in make_engine(name).precisions(place.device)
        if wish.allows(choice := Choice(name, precision))
    ]


def by_rule(
    place: Place, wish: Wish, machine: Machine, installed: Sequence[EngineName]
) -> Choice:
    """Choose from what the processor states; the same on every start.

    See ``unetr.hardware.half_on_cpu``; OpenVINO goes before torch. On CUDA torch alone
    computes, in bfloat16 where the device multiplies it, else in float16.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` where what was asked for is not here.
    """
    if place.device != "cpu":
        offered = make_engine("torch").precisions(place.device)
        rule = [Choice("torch", precision) for precision in offered]
    else:
        precisions = half_on_cpu(machine)
        rule = [Choice(name, one) for name in installed for one in precisions]
    for choice in rule:
        if wish.allows(choice):
            return choice
    raise MetiaError(
        "configuration-invalid",
        f"METIA_ENGINE {wish.engine} with METIA_PRECISION {wish.precision} does not "
        f"run on {place.device} here; {', '.join(map(str, rule))} would.",
    )


def load(source: Source, wish: Wish, measured: Choice | None = None) -> Loaded:
    """Load a network with the engine chosen for it.

    Parameters
    ----------
    measured : Choice or None
        What was measured to be the fastest here, where that is known.

    Raises
    ------
    MetiaError
        ``model-invalid`` where the weights do not fit, ``configuration-invalid`` where
        what was asked for is not here.
    """
    place = wish.place()
    if measured is not None and wish.allows(measured):
        choice = measured
    else:
        choice = by_rule(place, wish, describe_machine(), engine_names())
    return make_engine(choice.engine).load(source, choice.precision, place)
