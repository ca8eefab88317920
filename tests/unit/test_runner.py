"""What the runner does for its process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_SCRIPT = """
import resource, sys
import numpy as np
from segmentation.runner import keep_memory
if "keep" in sys.argv:
    assert keep_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

before = faults()
for _ in range(20):
    np.ones(8_000_000)  # 64 MB, freed at once
print(faults() - before)
"""


def _page_faults(*arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return int(done.stdout)


def test_memory_of_one_step_serves_the_next() -> None:
    assert _page_faults("keep") < _page_faults() / 2
