"""What every benchmark needs: the machine beside its figures, and a way to tell them.

``tell`` is the main function of a benchmark: it measures, prints the figures as tables,
and writes them as JSON where ``--json`` says (``benchmarks.run`` collects these).
Figures are nested dicts of numbers and texts; units are in the names. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.tables import as_markdown

_PACKAGES = (
    "torch",
    "openvino",
    "monai",
    "highdicom",
    "pydicom",
    "numpy",
    "scipy",
    "flask",
    "sqlalchemy",
)
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
)
"""Which instructions the processor has decides more than its clock."""
CAPS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS")
"""Environment that holds the libraries back from what the processor can do."""


def describe_machine() -> dict[str, object]:
    """Name processor, its instructions, cores, memory and the versions that matter."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    flags = set(_of_processor("flags").split())
    return {
        "cpu": _of_processor("model name") or platform.processor(),
        "instructions": [flag for flag in _FLAGS if flag in flags],
        "capped_by": {name: os.environ[name] for name in CAPS if name in os.environ},
        "virtual": "hypervisor" in flags,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_gib, 1),
        "gpu": _gpus(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _of_processor(name: str) -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _gpus() -> list[str]:
    """Name the NVIDIA devices, without loading torch."""
    folders = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return [
        line.partition(":")[2].strip()
        for path in folders
        for line in path.read_text("utf-8").splitlines()
        if line.startswith("Model")
    ]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Minimum, median and maximum of repeated measurements."""
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
        "runs": len(values),
    }


def tell(
    description: str,
    measure: Callable[..., Mapping[str, Any]],
    times: int | None = None,
    options: Mapping[str, str] | None = None,
) -> None:
    """Measure, print the figures, and keep them where ``--json`` says.

    Parameters
    ----------
    description : str
        What is measured, and in which unit.
    measure : Callable
        Takes the number given with ``--times`` (runs, repeats or seconds), and each of
        `options` by name.
    times : int, optional
        Default of that number; without it `measure` takes none.
    options : mapping of str to str
        Further options of the command line (texts, empty by default) and their help.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    if times is not None:
        parser.add_argument("--times", type=int, default=times)
    for name, text in (options or {}).items():
        parser.add_argument(f"--{name}", default="", help=text)
    chosen = vars(parser.parse_args())
    file = chosen.pop("json")
    number = [chosen.pop("times")] if times is not None else []
    # Asked to stop, it still stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    machine = describe_machine()
    began = datetime.now(UTC)
    figures = measure(*number, **chosen)
    told = {
        "what": description,
        "measured_at": began.isoformat(timespec="minutes"),
        "seconds_taken": round((datetime.now(UTC) - began).total_seconds()),
        "machine": machine,
        "figures": figures,
    }
    print(f"# {description}\n\n{as_markdown(figures)}")
    if file:
        file.write_text(json.dumps(told, indent=2) + "\n", "utf-8")
