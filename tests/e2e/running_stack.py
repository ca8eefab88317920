"""The whole system as `./metia up` runs it, for browser tests.

``running_stack`` starts it in a folder of its own, makes one user of each role that the
tests need, and stops everything at the end. The worker can be held still, so that a job
waits for as long as a test looks at it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from pydicom.dataset import Dataset

from segmentation.models.registry import FALLBACK_NAME

ROOT = Path(__file__).resolve().parents[2]
_START_TIMEOUT_S = 180.0


@dataclass
class RunningStack:
    """A system that runs; everything reached as a user reaches it, unless said."""

    url: str
    data_dir: Path
    users: dict[str, httpx.Client] = field(default_factory=dict)

    @property
    def admin(self) -> httpx.Client:
        return self.users["admin"]

    def archive(self) -> httpx.Client:
        """Return Orthanc behind the proxy's back, with the service's credentials."""
        configuration = json.loads((self.data_dir / "run" / "orthanc.json").read_text())
        return httpx.Client(
            base_url=f"http://127.0.0.1:{configuration['HttpPort']}",
            auth=next(iter(configuration["RegisteredUsers"].items())),
            timeout=60,
            # Orthanc hangs up on a connection that idles for a second.
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,
        )

    def upload(self, images: Sequence[Dataset]) -> None:
        with self.archive() as archive:
            for image in images:
                file = BytesIO()
                image.save_as(file, enforce_file_format=True)
                archive.post("/instances", content=file.getvalue()).raise_for_status()

    def download(self, sop_instance_uid: str) -> bytes:
        with self.archive() as archive:
            found = archive.post("/tools/lookup", content=sop_instance_uid).json()
            return archive.get(f"/instances/{found[0]['ID']}/file").content

    def jobs(self, study_uid: str) -> list[dict[str, Any]]:
        answer = self.admin.get("/api/v1/jobs", params={"study_uid": study_uid})
        answer.raise_for_status()
        return list(answer.json()["jobs"])

    def results(self, study_uid: str) -> list[dict[str, Any]]:
        answer = self.admin.get(f"/api/v1/studies/{study_uid}/results")
        answer.raise_for_status()
        return list(answer.json()["results"])

    def segment(self, study_uid: str) -> dict[str, Any]:
        """Have a study segmented without a browser; give the result."""
        job = self.admin.post("/api/v1/jobs", json={"study_uid": study_uid})
        job.raise_for_status()
        address = f"/api/v1/jobs/{job.json()['id']}"
        deadline = time.monotonic() + 120
        while (state := self.admin.get(address).json())["state"] in {
            "queued",
            "running",
        }:
            assert time.monotonic() < deadline, state
            time.sleep(0.3)
        assert state["state"] == "succeeded", state
        return self.results(study_uid)[0]

    @contextmanager
    def worker_held(self) -> Iterator[None]:
        """Stop the worker's process meanwhile: jobs are taken in, but wait."""
        for attempt in range(30):
            with self._held("segmentation.worker"):
                # Stopped while it writes, it would keep everybody else from writing.
                if self._database_free():
                    yield
                    return
            time.sleep(0.013 * attempt)  # no pause in step with its own
        raise AssertionError("the worker always writes")

    def archive_held(self) -> AbstractContextManager[None]:
        """Stop Orthanc meanwhile: a job that runs waits for its images."""
        return self._held("orthanc.json")

    @contextmanager
    def _held(self, in_command: str) -> Iterator[None]:
        pid = self._pid(in_command)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def _database_free(self) -> bool:
        file = self.data_dir / "metia.sqlite"
        database = sqlite3.connect(
            f"{file.as_uri()}?mode=rw", uri=True, timeout=1, isolation_level=None
        )
        with closing(database):
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                return False
            database.execute("ROLLBACK")
        return True

    def _pid(self, in_command: str) -> int:
        """Find the process of this system whose command line holds a text."""
        mark = f"METIA_DATA_DIR={self.data_dir}".encode()
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                command = (process / "cmdline").read_bytes()
                ours = mark in (process / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if ours and in_command.encode() in command:
                return int(process.name)
        raise AssertionError(f"nothing runs with {in_command} in its command line")

    def _log_in(self, name: str, password: str) -> None:
        client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        answer = client.post(
            "/api/v1/session", json={"username": name, "password": password}
        )
        answer.raise_for_status()
        client.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
        self.users[name] = client

    def add_user(self, name: str, role: str, display_name: str) -> None:
        password = secrets.token_urlsafe(16)
        account = {"name": name, "role": role, "password": password}
        account["display_name"] = display_name
        self.admin.post("/api/v1/users", json=account).raise_for_status()
        self._log_in(name, password)


@contextmanager
def running_stack(folder: Path, **settings: str) -> Iterator[RunningStack]:
    """Run the system in `folder` with settings of its environment, and stop it."""
    port = _free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("METIA_")}
    environment["METIA_DEFAULT_MODEL"] = FALLBACK_NAME
    command = [str(ROOT / "metia"), "up", "--no-sample"]
    log_path = folder / "up.log"
    with log_path.open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--data-dir", str(folder / "var")],
            cwd=ROOT,
            env={**environment, "PYTHONUNBUFFERED": "1", **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    stack = RunningStack(f"http://127.0.0.1:{port}", folder / "var")
    try:
        password = _wait_until_ready(process, log_path)
        stack._log_in("admin", password)
        yield stack
    finally:
        for client in stack.users.values():
            client.close()
        process.terminate()
        process.wait(90)


def _wait_until_ready(process: subprocess.Popen[bytes], log_path: Path) -> str:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while "Ready: " not in (text := log_path.read_text()):
        assert process.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.2)
    found = re.search(r"password: (\S+)", text)
    assert found, "the first start names the administrator's password"
    return found[1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
