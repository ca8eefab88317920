"""Fixtures that any test may ask for, and what is run by default.

Tests marked ``docker`` are left out unless asked for with ``-m docker``: they need a
Docker engine and have a make target of their own.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

from segmentation.models.registry import FALLBACK_NAME
from tests.fake_archive import FakeArchive
from tests.orthanc_server import OrthancServer, reason_to_skip, shared_orthanc

# What the tests press the button with: quick, and its answers are known.
os.environ["METIA_DEFAULT_MODEL"] = FALLBACK_NAME

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave the tests for Docker out unless the marker expression names them."""
    if "docker" in (config.getoption("-m") or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("docker")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Have crashes told again: Lightning ends with every signal at its default."""
    faulthandler.disable()
    faulthandler.enable(item.config.stash[fault_handler_stderr_fd_key])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """Say how a process of pytest-xdist died: its parent tells that it did, no more."""
    if error is not None:
        status = node.gateway._io.popen.wait(10)
        print(f"\n{node.gateway.id} ended with status {status}", flush=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images, where there is one; else the test is skipped."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real images are not on this machine (shared/data)")
    return SHARED_DATA


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    """Give a real Orthanc, shared by all tests of the session: use fresh UIDs in it."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    with shared_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture
def fake_archive() -> FakeArchive:
    """Give an empty archive in memory."""
    return FakeArchive()
