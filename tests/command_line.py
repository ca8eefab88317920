"""``metia`` inside the process of a test."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from segmentation.cli.main import main

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def command_line(capsys: pytest.CaptureFixture[str]) -> Run:
    """Give what runs a command as the launcher would, and what it printed."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        code = int(main(words))
        shown = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, shown.out, shown.err)

    return run
