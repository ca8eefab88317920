"""A disk that fills up under the database: a coded error, no half rows, recovery."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def reason_to_skip() -> str | None:
    if os.geteuid() != 0:
        return "only root can mount a small file system of its own"
    unshare = shutil.which("unshare")
    if unshare is None:
        return "unshare (util-linux) is not installed"
    probe = subprocess.run([unshare, "-m", "true"], capture_output=True, check=False)
    return None if probe.returncode == 0 else "mount namespaces are not allowed here"


def test_full_disk(tmp_path: Path) -> None:
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    done = subprocess.run(
        [
            "unshare",
            "-m",
            sys.executable,
            "-m",
            "tests.faults.full_disk_script",
            str(tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("another process while full") in {"disk-full", "done"}
    assert told == {
        "disk full": True,
        "record": "disk-full",
        "results while full": 0,
        "state while full": "running",
        "record later": "done",
        "results": 1,
        "state": "succeeded",
    }
