"""How fast this machine makes heads and takes steps, to choose workers and batch.

``python -m unetr.training.benchmark CONFIG [--heads N] [--steps N]`` measures both on
the devices that the configuration names, one after the other, and prints JSON: seconds
a head (after the first, which reads its source), seconds a step, gigabytes of CUDA
memory at most, and the share of time that generation would take. Changes nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from unetr.training.configuration import TrainingConfiguration, read_configuration
from unetr.training.fields import Draw
from unetr.training.losses import lesion_loss
from unetr.training.module import MetastasisModule
from unetr.training.patches import cut_patches, stack, vary
from unetr.training.run import set_up_torch
from unetr.training.sources import HeadSource

WARM_UP = 3


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measure_heads(configuration: TrainingConfiguration, count: int) -> float:
    """Give the seconds a head takes, with its patches."""
    device = torch.device(configuration.hardware.generator)
    source = HeadSource(configuration, "train", device)
    draw = Draw((configuration.seed,), device)
    window, settings = configuration.network.img_size, configuration.patches
    for index in range(WARM_UP):
        cut_patches(draw, source.make(draw, index), window, settings)
    began = _now(device)
    for index in range(count):
        cut_patches(draw, source.make(draw, index), window, settings)
    return (_now(device) - began) / count


def measure_steps(configuration: TrainingConfiguration, count: int) -> float:
    """Give the seconds a pass of a batch takes, forward, backward and update."""
    hardware = configuration.hardware
    module = MetastasisModule(configuration)
    cuda = hardware.accelerator == "cuda"
    device = torch.device("cuda" if cuda else "cpu")
    module.to(device)
    torch.backends.cudnn.benchmark = True
    optimiser = module.configure_optimizers()["optimizer"]
    draw = Draw((configuration.seed,), device)
    shape = configuration.network.img_size
    patch = (draw.white(shape).abs(), (draw.white(shape) > 2).float())
    began = 0.0
    for step in range(WARM_UP + count):
        if step == WARM_UP:
            began = _now(device)
        batch = [
            vary(draw, patch, configuration.patches)
            for _ in range(configuration.optimiser.batch)
        ]
        images, targets = stack(batch)
        with torch.autocast(
            device.type, torch.bfloat16, enabled=hardware.precision == "bf16"
        ):
            logits = module(images)
        loss = lesion_loss(logits, targets, configuration.loss)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return (_now(device) - began) / count


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m unetr.training.benchmark", description=__doc__
    )
    parser.add_argument("configuration", type=Path)
    parser.add_argument("--heads", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    configuration = read_configuration(arguments.configuration)
    set_up_torch(configuration)
    head_s = measure_heads(configuration, arguments.heads)
    step_s = measure_steps(configuration, arguments.steps)
    patches = configuration.patches
    steps_a_head = patches.per_head * patches.reuse / configuration.optimiser.batch
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    figures = {
        "head_s": head_s,
        "step_s": step_s,
        "patches_per_s": configuration.optimiser.batch / step_s,
        "steps_a_head": steps_a_head,
        "generation_share": head_s / (head_s + step_s * steps_a_head),
        "cuda_memory_gb": memory / 1e9,
    }
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
