"""What every benchmark needs: the machine beside its figures, a way to tell them."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path


def describe_machine() -> dict[str, object]:
    """Name processor, cores, memory and the versions that matter."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("torch", "monai", "highdicom", "pydicom", "numpy", "flask")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_gib, 1),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Minimum, median and maximum of repeated measurements."""
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
        "runs": len(values),
    }


def tell(
    description: str, measure: Callable[[int], dict[str, object]], times: int
) -> None:
    """Measure, print the figures as JSON, and keep them where ``--json`` says.

    Parameters
    ----------
    description : str
        What is measured.
    measure : Callable
        Takes the number given with ``--times``: runs, repeats or seconds.
    times : int
        Default of that number.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--times", type=int, default=times)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    text = json.dumps(
        {"what": description, "machine": describe_machine()} | measure(options.times),
        indent=2,
    )
    print(text)
    if options.json:
        options.json.write_text(text + "\n", "utf-8")
