"""The whole system on one machine: Orthanc, API, worker and nginx under one parent.

``LocalStack`` makes what is missing in the data folder (secrets, configuration,
database schema), starts the four processes, waits until each is ready, starts again
what dies, and stops all in order. Only nginx listens where a browser can reach it; the
rest listens on free loopback ports. The parent holds no state: it may be killed at any
time and started again.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from errors import MetiaError
from segmentation.cli import stack_files
from settings import ROOT, Settings

VIEWER_ROOT = ROOT / "ohif-extension" / "dist"
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 20.0
_MAX_RESTART_DELAY_S = 30.0


@dataclass
class Service:
    """One child process.

    Attributes
    ----------
    ready : Callable
        Tells whether the service answers.
    """

    name: str
    command: list[str]
    ready: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = None
    restart_delay_s: float = 1.0
    started_at: float = field(default=0.0)


@dataclass(frozen=True)
class StackOptions:
    """What the person who starts the stack may choose."""

    data_dir: Path
    port: int = 8080
    listen: str = "127.0.0.1"
    workers: int = 1
    dicom_port: int = 0
    """Port on which Orthanc takes images by C-STORE (0: none)."""


class LocalStack:
    """The four processes and what they need.

    Parameters
    ----------
    options : StackOptions
    say : Callable
        Takes one line for the person at the terminal.
    """

    def __init__(self, options: StackOptions, say: Callable[[str], None]) -> None:
        self.options = options
        self._say = say
        self._services: list[Service] = []
        self.archive_port = free_port()
        self.api_port = free_port()

    @property
    def url(self) -> str:
        """Address of the viewer."""
        return f"http://{self.options.listen}:{self.options.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Settings of the children; other METIA_* of the caller stay in force."""
        secrets = self.options.data_dir / "secrets"
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "METIA_DATA_DIR": str(self.options.data_dir),
            "METIA_ARCHIVE_URL": f"http://127.0.0.1:{self.archive_port}",
            "METIA_ARCHIVE_USER": "metia",
            "METIA_ARCHIVE_PASSWORD_FILE": str(secrets / "archive_password"),
            "METIA_SECRET_KEY_FILE": str(secrets / "secret_key"),
            "PROMETHEUS_MULTIPROC_DIR": str(self._folder("run/metrics")),
        }

    def prepare(self) -> None:
        """Make folders, secrets and configuration files.

        Raises
        ------
        MetiaError
            ``configuration-invalid`` naming the program or build that is missing, the
            port that is taken or the folder that cannot be written.
        """
        for program in ("Orthanc", "nginx"):
            if _find_program(program) is None:
                raise MetiaError(
                    "configuration-invalid",
                    f"The program {program} is not installed; run `make setup`.",
                )
        if not (VIEWER_ROOT / "index.html").is_file():
            raise MetiaError(
                "configuration-invalid",
                "The viewer is not built; run `make setup`.",
            )
        _refuse_taken_port(self.options.listen, self.options.port)
        try:
            self._write_files()
            shutil.rmtree(self._folder("run/metrics"))
            self._folder("run/metrics")
        except OSError as error:
            raise MetiaError(
                "configuration-invalid",
                f"The data folder {self.options.data_dir} cannot be used "
                f"({error.strerror}); choose another with `./metia up --data-dir DIR`.",
            ) from error

    def start(self, stopped: threading.Event) -> None:
        """Start all services; return when each is ready, or `stopped` is set."""
        self._services = [
            self._archive_service(),
            self._api_service(),
            *(self._worker_service(n) for n in range(self.options.workers)),
            self._proxy_service(),
        ]
        for service in self._services:
            self._spawn(service)
        for service in self._services:
            self._wait_ready(service, stopped)

    def supervise(self, stopped: threading.Event) -> None:
        """Start again what dies, until `stopped` is set."""
        while not stopped.wait(1.0):
            for service in self._services:
                if service.process is None or service.process.poll() is None:
                    continue
                if time.monotonic() - service.started_at > 60:
                    service.restart_delay_s = 1.0
                self._say(
                    f"{service.name} ended with status {service.process.returncode}; "
                    f"starting it again in {service.restart_delay_s:.0f} s "
                    f"(log: {self._log_path(service)})"
                )
                if stopped.wait(service.restart_delay_s):
                    return
                service.restart_delay_s = min(
                    service.restart_delay_s * 2, _MAX_RESTART_DELAY_S
                )
                self._spawn(service)

    def stop(self) -> None:
        """Stop the services, the browser's door first and the archive last."""
        for service in reversed(self._services):
            process = service.process
            if process is None or process.poll() is not None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._say(f"{service.name} does not stop; killing it")
                process.kill()
                process.wait()

    def _folder(self, name: str) -> Path:
        folder = self.options.data_dir / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def _log_path(self, service: Service) -> Path:
        return self._folder("log") / f"{service.name}.log"

    def _spawn(self, service: Service) -> None:
        # A session of its own: Ctrl-C reaches the parent alone, which stops the
        # children in order. The log file is inherited, so it outlives the parent.
        with self._log_path(service).open("ab") as log:
            service.process = subprocess.Popen(  # noqa: S603 - our own command lines
                service.command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        service.started_at = time.monotonic()

    def _wait_ready(self, service: Service, stopped: threading.Event) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not stopped.wait(0.1) and not service.ready():
            assert service.process is not None  # noqa: S101 - spawned before
            if service.process.poll() is not None or time.monotonic() > deadline:
                raise MetiaError(
                    "not-ready",
                    f"{service.name} did not start; "
                    f"its log is {self._log_path(service)}",
                )

    def _archive_service(self) -> Service:
        program = _find_program("Orthanc")
        return Service(
            "orthanc",
            [str(program), str(self._folder("run") / "orthanc.json")],
            lambda: _answers(f"http://127.0.0.1:{self.archive_port}/system"),
        )

    def _api_service(self) -> Service:
        bind = f"127.0.0.1:{self.api_port}"
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"]
        return Service(
            "api",
            [*command, "--bind", bind, "api:create_app()"],
            lambda: _answers(f"http://{bind}/healthz"),
        )

    def _worker_service(self, number: int) -> Service:
        # Its readiness shows in the API's /readyz, once its first sign of life is in
        # the database.
        return Service(
            f"worker-{number + 1}",
            [sys.executable, "-m", "segmentation.worker"],
            lambda: _answers(f"http://127.0.0.1:{self.api_port}/readyz", ok_only=True),
        )

    def _proxy_service(self) -> Service:
        configuration = self._folder("run") / "nginx.conf"
        program = str(_find_program("nginx"))
        return Service(
            "nginx",
            [program, "-e", "stderr", "-c", str(configuration), "-g", "daemon off;"],
            lambda: _answers(f"{self.url}/login"),
        )

    def _write_files(self) -> None:
        """Write what the processes read when they start."""
        secrets, run = self._folder("secrets"), self._folder("run")
        settings = Settings()
        password = stack_files.ensure_secret(secrets / "archive_password")
        stack_files.ensure_secret(secrets / "secret_key")
        stack_files.write_archive_configuration(
            run / "orthanc.json",
            password=password,
            storage_dir=self._folder("orthanc"),
            http_port=self.archive_port,
            dicom_port=self.options.dicom_port or None,
            remote_access=False,
        )
        stack_files.write_proxy_configuration(
            run / "nginx.conf",
            listen=f"{self.options.listen}:{self.options.port}",
            viewer_root=VIEWER_ROOT,
            api=f"127.0.0.1:{self.api_port}",
            archive=f"127.0.0.1:{self.archive_port}",
            archive_password=password,
            run_dir=self._folder("run/nginx"),
            secure=settings.cookie_secure,
            legacy_wait_s=settings.legacy_wait_s if settings.legacy_api else None,
        )


def _find_program(name: str) -> str | None:
    # Debian keeps servers in sbin, which an ordinary user's PATH lacks.
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    return shutil.which(name, path=path)


def free_port() -> int:
    """Return a loopback port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _refuse_taken_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise MetiaError(
                "configuration-invalid",
                f"{host}:{port} cannot be used ({error.strerror}); "
                "choose another with `./metia up --port N`.",
            ) from error


def _answers(url: str, *, ok_only: bool = False) -> bool:
    """Tell whether something answers at `url`, by default with any HTTP status."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own address
            return True
    except urllib.error.HTTPError:
        return not ok_only
    except OSError:
        return False
