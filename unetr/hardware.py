"""What the network runs on: device, number format and threads of this machine.

Deterministic per machine: the choice depends on what the processor states, never on a
measurement. Everything chosen here is recorded with a result, because it may change the
last digits of a probability. Called once when a model is loaded.
"""

from __future__ import annotations

import os

import torch

from errors import MetiaError


def choose_device(wish: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` where ``cuda`` is asked for and there is none.
    """
    if wish == "cpu" or (wish == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise MetiaError(
            "configuration-invalid",
            "METIA_DEVICE is cuda, but there is no CUDA device.",
        )
    # Needed for deterministic matrix products, and read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda", torch.cuda.current_device())


def describe_device(device: torch.device) -> str:
    """Name a device as results record it: ``cpu`` or ``cuda:0 (name)``."""
    if device.type == "cpu":
        return "cpu"
    return f"{device} ({torch.cuda.get_device_name(device)})"


def choose_precision(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies it faster, else float32.

    On a CPU that means AMX: with mere AVX-512 instructions bfloat16 gains under a tenth
    and loses digits. oneDNN's own limit on instruction sets is heeded.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "AMX").upper()
        # The only public capability query knows no AMX.
        amx = torch.cpu._is_amx_tile_supported()
        fast = bool(amx) and ("AMX" in limit or limit in {"ALL", "DEFAULT"})
    return torch.bfloat16 if fast else torch.float32


def set_threads(threads: int) -> int:
    """Set the CPU threads of this process's torch (0: all cores it may use)."""
    count = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    return count


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that device or host memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "not enough memory" in text or "can't allocate memory" in text
    )
