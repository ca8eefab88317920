"""What the network runs on: device, processor, threads and memory of this machine.

Nothing here measures, and nothing loads torch where there is no CUDA driver. oneDNN's
limit on instruction sets (ONEDNN_MAX_CPU_ISA, which torch and OpenVINO heed) counts as
if the processor had no more. Called once when a model is loaded.
"""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from errors import MetiaError

_ISA_FLAGS = {
    "amx": ("amx_tile", "amx_bf16"),
    "avx512": ("avx512f", "avx512bw", "avx512vl", "avx512dq"),
    "avx2": ("avx2", "fma"),
}
"""Instruction sets that make a difference, the most able first, and what they need."""


@dataclass(frozen=True)
class Machine:
    """The processor as the network sees it.

    Attributes
    ----------
    cpu : str
        Name of the model.
    instructions : tuple of str
        Of ``amx``, ``avx512`` and ``avx2`` those that may be used.
    cores : int
        That this process may use.
    """

    cpu: str
    instructions: tuple[str, ...]
    cores: int


def describe_machine(cpu_info: Path = Path("/proc/cpuinfo")) -> Machine:
    """Read the processor's name and abilities, as far as the limit allows them."""
    facts = _first_processor(cpu_info)
    flags = set(facts.get("flags", "").split())
    allowed = _allowed(os.environ.get("ONEDNN_MAX_CPU_ISA", ""))
    return Machine(
        cpu=facts.get("model name", platform.machine()),
        instructions=tuple(
            name
            for name, needed in _ISA_FLAGS.items()
            if name in allowed and flags.issuperset(needed)
        ),
        cores=len(os.sched_getaffinity(0)),
    )


def _first_processor(cpu_info: Path) -> dict[str, str]:
    try:
        text = cpu_info.read_text("utf-8", "replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _allowed(limit: str) -> set[str]:
    """Tell which instruction sets oneDNN's limit leaves."""
    limit = limit.upper()
    if not limit or limit in {"ALL", "DEFAULT"} or "AMX" in limit:
        return {"amx", "avx512", "avx2"}
    if limit.startswith("AVX512") or limit.startswith("AVX10"):
        return {"avx512", "avx2"}
    return {"avx2"} if limit.startswith("AVX2") else set()


def half_on_cpu(machine: Machine) -> tuple[Literal["bf16", "fp32"], ...]:
    """List the number formats a CPU multiplies, the one that pays first.

    bfloat16 pays where the CPU has AMX; with mere AVX-512 it is slower than OpenVINO's
    float32 and loses digits; with less it is emulated, which takes minutes a window.
    """
    if "amx" in machine.instructions:
        return ("bf16", "fp32")
    return ("fp32", "bf16") if "avx512" in machine.instructions else ("fp32",)


@lru_cache(maxsize=1)
def has_cuda_driver() -> bool:
    """Tell whether a CUDA device may be there, without loading torch."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def choose_device(wish: str) -> str:
    """Return ``cpu`` or ``cuda:N`` for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` where ``cuda`` is asked for and there is none.
    """
    if wish == "cpu" or not has_cuda_driver():
        found = ""
    else:
        import torch

        there = torch.cuda.is_available()
        found = f"cuda:{torch.cuda.current_device()}" if there else ""
    if wish == "cuda" and not found:
        raise MetiaError(
            "configuration-invalid",
            "METIA_DEVICE is cuda, but there is no CUDA device.",
        )
    return found or "cpu"


def count_threads(wish: int) -> int:
    """Return the CPU threads to use (0: all cores the process may use)."""
    return wish or len(os.sched_getaffinity(0))


def keep_memory() -> bool:
    """Let the allocator keep the memory it freed, for the arrays of the next job.

    Arrays of a head and of a training step are tens of megabytes. Given back to the
    system after use and asked for again, their pages cost more than the work on them:
    on a virtual machine twice the whole overhead of a job, a third of a training step.

    Returns
    -------
    bool
        False where the C library is not glibc, and nothing was changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    never, most_bytes = -1, 2**31 - 1
    return bool(mallopt(trim_threshold, never)) and bool(
        mallopt(mmap_threshold, most_bytes)
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that device or host memory ran out."""
    if isinstance(error, MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError"  # torch's, which may not be loaded
        or "not enough memory" in text
        or "can't allocate memory" in text
        or "bad_alloc" in text
    )
