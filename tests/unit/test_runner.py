"""What the runner does for its process."""

from __future__ import annotations

import gc
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from weakref import ref

import pytest

from segmentation.runner import collecting_afterwards

ROOT = Path(__file__).parents[2]

_SCRIPT = """
import resource, sys
import numpy as np
from unetr.hardware import keep_memory
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


class Knot:
    """Something that only the collector can let go of."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("ending", [None, KeyError("broke")])
def test_collector_waits_for_the_end_of_a_run(ending: Exception | None) -> None:
    with suppress(KeyError), collecting_afterwards():
        knot = ref(Knot())
        assert not gc.isenabled()
        if ending is not None:
            raise ending
    assert gc.isenabled()
    assert knot() is None
