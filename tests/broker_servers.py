"""Real message brokers for tests: Redis and RabbitMQ, each on a port of its own.

Each lies in a folder of its own and can be stopped, started again (with or without what
it held) and frozen. RabbitMQ gets an epmd of its own, on a port of its own; all of it
ends with ``stop``. Nothing here needs to be root or touches the servers of the system.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path

_START_S = 60.0
_RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def reason_to_skip(kind: str) -> str | None:
    if kind == "redis" and shutil.which("redis-server") is None:
        return "Redis is not installed (Debian: apt-get install redis-server)"
    if kind == "rabbitmq" and not _RABBITMQ.exists():
        return "RabbitMQ is not installed (Debian: apt-get install rabbitmq-server)"
    return None


class BrokerServer(ABC):
    """One broker; `url` is what METIA_BROKER_URL takes."""

    url: str

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="metia-broker-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = self._spawn(log.fileno())
        deadline = time.monotonic() + _START_S
        while not self._answers():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def kill(self) -> None:
        """End it at once, with all it started."""
        if self.process is None:
            return
        self.thaw()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def freeze(self) -> None:
        """Let it keep its connections and say nothing."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    @abstractmethod
    def _spawn(self, log: int) -> subprocess.Popen[bytes]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    @abstractmethod
    def wipe(self) -> None:
        """Forget every message; call it while it is down."""


class Redis(BrokerServer):
    def __init__(self) -> None:
        super().__init__()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def _spawn(self, log: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1",
             "--dir", str(self.folder), "--appendonly", "yes", "--save", "",
             "--appendfsync", "always"],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as line:
                line.sendall(b"PING\r\n")
                return line.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def wipe(self) -> None:
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)


class RabbitMq(BrokerServer):
    """RabbitMQ; `settings` are its own, by name."""

    def __init__(self, **settings: int) -> None:
        super().__init__()
        self._settings = settings
        self._epmd_port = free_port()
        self._erlang_port = free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def _spawn(self, log: int) -> subprocess.Popen[bytes]:
        if self._epmd is None:
            # Else RabbitMQ starts one, which outlives it.
            self._epmd = subprocess.Popen(
                ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        (self.folder / "enabled_plugins").write_text("[].")
        settings = [f"-rabbit {name} {n}" for name, n in self._settings.items()]
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            # Erlang's cookie, which lets programs of one user talk, lies in HOME.
            "HOME": str(home),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"metia-{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._erlang_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            # One scheduler: it shares the machine with the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(
                ["+S 1:1 +sbwt none +sbwtdcpu none", *settings]
            ),
            "RABBITMQ_IO_THREAD_POOL_SIZE": "4",
        }
        # Not Debian's wrapper, which wants to be the user rabbitmq.
        return subprocess.Popen(
            [str(_RABBITMQ)],
            env=environment, cwd=self.folder,
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as line:
                line.settimeout(1)
                line.sendall(b"AMQP\x00\x00\x09\x01")
                return line.recv(1) == b"\x01"
        except OSError:
            return False

    def stop(self) -> None:
        super().stop()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()

    def wipe(self) -> None:
        shutil.rmtree(self.folder / "mnesia", ignore_errors=True)


def make_broker(kind: str) -> BrokerServer:
    return Redis() if kind == "redis" else RabbitMq()
