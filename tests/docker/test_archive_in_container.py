"""The archive's contract against the Orthanc of the container (1.13)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pytest

from orthanc.configuration import render_configuration

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
IMAGE = "metia-orthanc:0.1.0"
PASSWORD = "a-password-for-tests"


def test_the_container_keeps_the_contract() -> None:
    subprocess.run(
        ["docker", "build", "-q", "-t", IMAGE, "orthanc"], check=True, cwd=ROOT
    )
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "orthanc.json"
        configuration.write_text(
            render_configuration(
                storage_dir=Path("/var/lib/metia-archive"),
                http_port=8042,
                dicom_port=None,
                user="metia",
                password=PASSWORD,
                remote_access=True,
                plugins=[Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")],
                stable_age_s=1,
            ),
            "utf-8",
        )
        Path(folder).chmod(0o755)
        configuration.chmod(0o644)
        container = subprocess.check_output(
            ["docker", "run", "-d", "--rm", "-p", "127.0.0.1::8042",
             "-v", f"{folder}:/etc/metia/archive:ro", IMAGE],
            text=True,
        ).strip()  # fmt: skip
        try:
            url = _address(container)
            version = _wait(url)
            assert not version.startswith("1.10")
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pytest",
                    "-q",
                    "tests/contract/test_archive.py",
                ],
                cwd=ROOT,
                check=False,
                env={
                    **os.environ,
                    "METIA_TEST_ORTHANC_URL": url,
                    "METIA_TEST_ORTHANC_USER": "metia",
                    "METIA_TEST_ORTHANC_PASSWORD": PASSWORD,
                },
            )
        finally:
            subprocess.run(["docker", "kill", container], check=True)
        assert done.returncode == 0


def _address(container: str) -> str:
    facts = json.loads(subprocess.check_output(["docker", "inspect", container]))
    (binding,) = facts[0]["NetworkSettings"]["Ports"]["8042/tcp"]
    return f"http://127.0.0.1:{binding['HostPort']}"


def _wait(url: str) -> str:
    for _ in range(60):
        try:
            answer = httpx.get(f"{url}/system", auth=("metia", PASSWORD))
            return str(answer.raise_for_status().json()["Version"])
        except httpx.TransportError:
            time.sleep(0.5)
    pytest.fail("the container does not answer")
