"""A real Orthanc for tests, started with the configuration the product ships.

Use the fixtures ``orthanc`` (one for the whole session) or ``start_orthanc`` for one of
your own. Free port, throw-away storage, stopped at the end. An Orthanc that already
runs (of another version, in a container) is used instead where METIA_TEST_ORTHANC_URL,
METIA_TEST_ORTHANC_USER and METIA_TEST_ORTHANC_PASSWORD are set.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydicom.dataset import Dataset

from orthanc.configuration import find_plugins, render_configuration
from orthanc.dicomweb import encode_part10
from orthanc.gateway import OrthancArchive

USER = "metia"
PASSWORD = "a-password-for-tests"
STABLE_AGE_S = 1


@dataclass(frozen=True)
class OrthancServer:
    """A running Orthanc."""

    url: str
    user: str
    password: str
    storage: Path | None = None
    """None where it is not ours."""
    process: subprocess.Popen[bytes] | None = None

    def archive(self, **options: object) -> OrthancArchive:
        """Return a gateway to it; options as of ``OrthancArchive``."""
        return OrthancArchive(
            str(options.pop("url", self.url)),
            self.user,
            self.password,
            **options,  # type: ignore[arg-type]
        )

    def client(self) -> httpx.Client:
        """Return a plain HTTP client with its credentials."""
        return httpx.Client(
            base_url=self.url,
            auth=(self.user, self.password),
            headers={"Accept-Encoding": "identity"},
            # Orthanc hangs up on a connection that idles for a second, which a busy
            # machine easily makes of a pause between two requests.
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,
        )

    def upload(self, datasets: Sequence[Dataset]) -> None:
        """Put images in by REST, not through the gateway."""
        self.upload_files([encode_part10(dataset) for dataset in datasets])

    def upload_files(self, files: Sequence[bytes]) -> None:
        """Put files in by REST, as they are."""
        with self.client() as client:
            for content in files:
                client.post("/instances", content=content).raise_for_status()


def program() -> str | None:
    """Return the Orthanc program; Debian keeps it outside an ordinary user's PATH."""
    return shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def reason_to_skip() -> str | None:
    """Say what a test with a real Orthanc lacks here, if anything."""
    if os.environ.get("METIA_TEST_ORTHANC_URL"):
        return None
    if program() is None or not find_plugins()[0].exists():
        return "Orthanc or its DICOMweb plugin is not installed (`make setup-dev`)"
    return None


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_orthanc(
    folder: Path,
    *,
    change: Callable[[str], str] = lambda text: text,
    prefix: Sequence[str] = (),
    stable_age_s: int = STABLE_AGE_S,
    dicom_port: int | None = None,
) -> Iterator[OrthancServer]:
    """Run an Orthanc of our own.

    Parameters
    ----------
    folder : Path
        For its configuration, storage and log.
    change : Callable
        Makes another configuration text of the shipped one.
    prefix : sequence of str
        Put before the command, such as a limit on resources.
    stable_age_s, dicom_port : int
        See ``render_configuration``.
    """
    storage = folder / "storage"
    storage.mkdir(parents=True, exist_ok=True)
    port = free_port()
    text = render_configuration(
        storage_dir=storage,
        http_port=port,
        dicom_port=dicom_port,
        user=USER,
        password=PASSWORD,
        stable_age_s=stable_age_s,
    )
    configuration = folder / "orthanc.json"
    configuration.write_text(change(text), "utf-8")
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [*prefix, str(program()), str(configuration)], stdout=log, stderr=log
        )
    server = OrthancServer(f"http://127.0.0.1:{port}", USER, PASSWORD, storage, process)
    try:
        _wait_until_up(server, folder / "orthanc.log")
        yield server
    finally:
        # Its storage is thrown away: no need for the two seconds of an orderly end.
        process.kill()
        process.wait()


@contextmanager
def shared_orthanc(folder: Path) -> Iterator[OrthancServer]:
    """Run one, or give the one named by the environment."""
    url = os.environ.get("METIA_TEST_ORTHANC_URL")
    if url:
        yield OrthancServer(
            url.rstrip("/"),
            os.environ.get("METIA_TEST_ORTHANC_USER", USER),
            os.environ.get("METIA_TEST_ORTHANC_PASSWORD", PASSWORD),
        )
        return
    with running_orthanc(folder) as server:
        yield server


def _wait_until_up(server: OrthancServer, log: Path) -> None:
    assert server.process is not None
    end = time.monotonic() + 30
    with server.client() as client:
        while time.monotonic() < end and server.process.poll() is None:
            try:
                if client.get("/system").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise RuntimeError(f"Orthanc did not start:\n{log.read_text('utf-8')[-3000:]}")
