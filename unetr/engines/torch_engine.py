"""PyTorch: always there, on the CPU and on CUDA devices.

On the CPU the network lies channels-last and its norms are group norms
(``unetr.network``); on CUDA the volume, the windows and the sums stay on the device
(``unetr.engines.resident``). Deterministic on one machine. Imports torch when used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch
from torch import Tensor, nn

from errors import MetiaError
from unetr.engines.engine import (
    Choice,
    EngineName,
    FloatArray,
    HostNetwork,
    Loaded,
    Place,
    Precision,
    Source,
)
from unetr.engines.resident import TorchResident
from unetr.hardware import describe_machine, half_on_cpu
from unetr.network import load_for_inference, read_safetensors

TYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


class TorchEngine:
    """See ``unetr.engines.engine.Engine``."""

    name: EngineName = "torch"

    def versions(self) -> dict[str, str]:
        """Name the build of torch."""
        return {"torch": version("torch")}

    def precisions(self, device: str) -> tuple[Precision, ...]:
        """List what torch multiplies there, the fastest first as a rule."""
        if device == "cpu":
            return half_on_cpu(describe_machine())
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return ("bf16", "fp16", "fp32")
        return ("fp16", "fp32")

    def load(self, source: Source, precision: Precision, place: Place) -> Loaded:
        """See ``Engine.load``."""
        if precision not in TYPES:
            raise MetiaError(
                "configuration-invalid", f"torch does not compute in {precision} here."
            )
        device, number = torch.device(place.device), TYPES[precision]
        if device.type == "cuda":
            # Needed for deterministic matrix products, and read when CUDA starts.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_num_threads(place.threads)
        network = load_for_inference(
            source.arguments, read_safetensors(source.weights), device, number
        )
        if place.compiled and device.type == "cuda":
            network.compile(dynamic=False)
        return Loaded(
            network=_through_host(network, device),
            choice=Choice(self.name, precision),
            place=place,
            device=describe_device(device),
            versions=self.versions(),
            resident=(
                TorchResident(network, device) if device.type == "cuda" else None
            ),
            session=lambda: _session(place.threads),
        )


def describe_device(device: torch.device) -> str:
    """Name a device as results record it: ``cpu`` or ``cuda:0 (name)``."""
    if device.type == "cpu":
        return "cpu"
    return f"{device} ({torch.cuda.get_device_name(device)})"


def _through_host(network: nn.Module, device: torch.device) -> HostNetwork:
    def run(windows: FloatArray) -> FloatArray:
        batch: Tensor = torch.from_numpy(windows).to(device)
        logits: Tensor = network(batch.contiguous(memory_format=torch.channels_last_3d))
        answer: FloatArray = logits.cpu().numpy()
        return answer

    return run


@contextmanager
def _session(threads: int) -> Iterator[None]:
    """Compute deterministically, without gradients, with so many threads."""
    before = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark
