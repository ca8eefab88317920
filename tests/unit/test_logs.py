"""What libraries say of images never reaches a log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# A birth date that is none: pydicom warns, and its text quotes the value.
_SCRIPT = """
import warnings
from segmentation.http.logs import configure_logs
from pydicom.dataset import Dataset
configure_logs("INFO")
warnings.simplefilter("always")
image = Dataset()
image.PatientBirthDate = "canary-1931"
"""


def test_a_warning_about_a_header_keeps_its_value_to_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], cwd=ROOT, check=True, capture_output=True
    )
    said = done.stderr.decode()
    assert "UserWarning at" in said
    assert "canary" not in said
