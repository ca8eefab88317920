"""A real nginx, with a configuration as the product writes it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


def require_nginx() -> str:
    """Give the program, or skip the test."""
    if NGINX is None:
        pytest.skip("nginx is not installed; `make setup` installs it")
    return NGINX


@contextmanager
def running_nginx(configuration: Path, listen: str) -> Iterator[str]:
    """Run nginx until the end of the block; gives its address once it answers."""
    process = subprocess.Popen(
        [
            *(require_nginx(), "-e", "stderr", "-c", str(configuration)),
            *("-g", "daemon off;"),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            try:
                httpx.get(f"http://{listen}/login", trust_env=False)
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        yield f"http://{listen}"
    finally:
        process.terminate()
        process.wait(10)
