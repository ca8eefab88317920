"""Which engine and precision is the fastest here that answers as float32 does.

``measure`` runs every candidate over volumes, with windows that overlap as the model's
do, leaves out those whose masks disagree with torch in float32, and times one window of
the others, interleaved, so that another program's load falls on all alike. What came
out is kept as JSON beside a description of machine and packages, and counts only while
those are the same. One measurement at a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from errors import MetiaError
from unetr.configuration import InferenceParameters
from unetr.engines.engine import (
    Choice,
    EngineName,
    FloatArray,
    Loaded,
    Place,
    Precision,
)
from unetr.engines.selection import engine_names, make_engine
from unetr.files import written_whole
from unetr.hardware import describe_machine
from unetr.windows import run_windows, window_places

REFERENCE = Choice("torch", "fp32")
LEAST_DICE = 0.999
LEAST_MARKED = 1000
"""Voxels the reference marks at least for Dice to mean something."""
LARGEST_DIFFERENCE = 0.25
"""Of a logit, where the reference marks less than that; up to 0.06 as probability."""
TIMING_S = 10.0
LEAST_ROUNDS = 3
_FORMAT = 1


@dataclass(frozen=True)
class Trial:
    """How one candidate did.

    Attributes
    ----------
    seconds : float or None
        Of one window, the least of several; None where it was left out before.
    dice : float or None
        Of all masks together against the reference; None where it marks too little.
    difference : float
        The largest of a logit.
    refusal : str
        Why it is out; empty where it is not.
    """

    choice: Choice
    seconds: float | None
    dice: float | None
    difference: float
    refusal: str = ""


@dataclass(frozen=True)
class Tuning:
    """What was measured, and what follows from it."""

    chosen: Choice
    trials: tuple[Trial, ...]
    circumstances: dict[str, Any]


def circumstances(place: Place) -> dict[str, Any]:
    """Describe what a measurement depends on besides the model; plain JSON values."""
    machine = describe_machine()
    device = place.device
    if device != "cpu":
        import torch

        device = torch.cuda.get_device_name(device)
    versions: dict[str, str] = {}
    for name in engine_names():
        versions |= make_engine(name).versions()
    return {
        "cpu": machine.cpu,
        "instructions": list(machine.instructions),
        "cores": machine.cores,
        "threads": place.threads,
        "device": device,
        "compiled": place.compiled,
        "versions": versions,
    }


def measure(
    loaders: Mapping[Choice, Callable[[], Loaded]],
    volumes: Sequence[FloatArray],
    inference: InferenceParameters,
    place: Place,
    *,
    timing_s: float = TIMING_S,
    progress: Callable[[str], None] = lambda _: None,
) -> Tuning:
    """Check and time candidates.

    Parameters
    ----------
    loaders : mapping
        What makes each candidate; ``REFERENCE`` must be one of them.
    volumes : sequence of ndarray, (slice, row, column), float32
        Prepared for the network; each at least as large as a window.
    inference : InferenceParameters
        The window must be known.
    timing_s : float
        How long to time, once each candidate had its rounds.
    """
    progress(str(REFERENCE))
    reference = loaders[REFERENCE]()
    expected = _answers(reference, volumes, inference)
    usable: dict[Choice, Loaded] = {REFERENCE: reference}
    judged = {REFERENCE: Trial(REFERENCE, None, 1.0, 0.0)}
    for choice in loaders:
        if choice == REFERENCE:
            continue
        progress(str(choice))
        try:
            candidate = loaders[choice]()
            found = _answers(candidate, volumes, inference)
        except MetiaError as error:
            judged[choice] = Trial(choice, None, None, 0.0, error.detail)
            continue
        judged[choice] = judge(choice, expected, found, inference.threshold_logit)
        if not judged[choice].refusal:
            usable[choice] = candidate
    progress("timing")
    places = _places(volumes[0], inference)
    window = np.ascontiguousarray(volumes[0][places[len(places) // 2]])[None, None]
    seconds = _time(usable, window, timing_s)
    trials = tuple(
        Trial(
            trial.choice,
            seconds.get(choice),
            trial.dice,
            trial.difference,
            trial.refusal,
        )
        for choice, trial in judged.items()
    )
    chosen = min(seconds, key=lambda choice: seconds[choice])
    return Tuning(chosen, trials, circumstances(place))


def judge(
    choice: Choice,
    expected: Sequence[FloatArray],
    found: Sequence[FloatArray],
    threshold_logit: float,
) -> Trial:
    """Compare a candidate's logits with those of the reference."""
    marked = total = both = 0
    difference = 0.0
    for one, other in zip(expected, found, strict=True):
        first, second = one >= threshold_logit, other >= threshold_logit
        marked += int(first.sum())
        total += int(first.sum()) + int(second.sum())
        both += int((first & second).sum())
        # NaN is no number that compares; it must not pass for a small difference.
        apart = float(np.abs(one - other).max())
        difference = apart if not apart <= difference else difference
    if not np.isfinite(difference):
        return Trial(choice, None, None, 0.0, "It answers with no numbers.")
    dice = 2 * both / total if marked >= LEAST_MARKED else None
    refusal = ""
    if dice is not None and dice < LEAST_DICE:
        refusal = f"Dice against float32 is {dice:.4f}, below {LEAST_DICE}."
    elif dice is None and difference > LARGEST_DIFFERENCE:
        refusal = f"A logit differs by {difference:.2f} from float32."
    return Trial(choice, None, dice, difference, refusal)


def _answers(
    loaded: Loaded, volumes: Sequence[FloatArray], inference: InferenceParameters
) -> list[FloatArray]:
    with loaded.session():
        return [
            run_windows(
                loaded.network,
                volume,
                window=_window(inference),
                overlap=inference.overlap,
                blending=inference.blending,
                batch=1,
                on_window=lambda _done: None,
            )
            for volume in volumes
        ]


def _places(
    volume: FloatArray, inference: InferenceParameters
) -> list[tuple[slice, ...]]:
    window = _window(inference)
    return window_places(volume.shape, window, inference.overlap, inference.blending)


def _window(inference: InferenceParameters) -> tuple[int, int, int]:
    if inference.window is None:
        raise MetiaError("model-invalid", "The manifest states no window.")
    return inference.window


def _time(
    usable: Mapping[Choice, Loaded], window: FloatArray, timing_s: float
) -> dict[Choice, float]:
    """Time one window on each in turn; gives the least seconds of each."""
    least = dict.fromkeys(usable, float("inf"))
    end = time.perf_counter() + timing_s
    rounds = 0
    while rounds < LEAST_ROUNDS or time.perf_counter() < end:
        rounds += 1
        for choice, loaded in usable.items():
            with loaded.session():
                began = time.perf_counter()
                loaded.network(window)
                least[choice] = min(least[choice], time.perf_counter() - began)
    return least


def tuning_path(data_dir: Path, model_sha256: str) -> Path:
    """Say where the measurement of a model is kept."""
    return data_dir / "tuning" / f"{model_sha256}.json"


def keep(path: Path, tuning: Tuning) -> None:
    """Write a measurement whole, in place of an older one.

    Raises
    ------
    OSError
        Where the folder cannot be written to.
    """
    document = {"format": _FORMAT, **asdict(tuning)}
    with written_whole(path) as stream:
        stream.write(json.dumps(document, indent=2).encode())


def read_tuning(path: Path) -> Tuning | None:
    """Read a measurement; None where there is none that can be read."""
    try:
        document = json.loads(path.read_text("utf-8"))
        if document["format"] != _FORMAT:
            return None
        trials = tuple(
            Trial(**{**trial, "choice": _choice(trial["choice"])})
            for trial in document["trials"]
        )
        return Tuning(
            _choice(document["chosen"]), trials, dict(document["circumstances"])
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _choice(stored: Mapping[str, Any]) -> Choice:
    engine, precision = stored["engine"], stored["precision"]
    if engine not in get_args(EngineName) or precision not in get_args(Precision):
        raise ValueError("no such engine")
    return Choice(engine, precision)


def measured_choice(path: Path, place: Place) -> Choice | None:
    """Give what was chosen, where all it depends on is as it was then."""
    tuning = read_tuning(path)
    if tuning is None or tuning.circumstances != circumstances(place):
        return None
    return tuning.chosen
