"""The application as it is really run: by gunicorn, with its configuration file."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from db.engine import make_engine
from segmentation.access.users import ensure_first_admin
from tests.security.application import make_empty_database

ROOT = Path(__file__).parents[2]
SECRET = "the key of a server in a test, long"


class Server:
    """A running gunicorn."""

    def __init__(self, folder: Path) -> None:
        database = make_empty_database(folder)
        engine = make_engine(f"sqlite:///{database}")
        self.password = ensure_first_admin(engine) or ""
        engine.dispose()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.home = folder / "home"
        self.home.mkdir()
        self.log = folder / "log"
        environment = {
            **os.environ,
            "HOME": str(self.home),
            "METIA_DATA_DIR": str(folder),
            "METIA_DATABASE_URL": f"sqlite:///{database}",
            "METIA_SECRET_KEY": SECRET,
            "METIA_ARCHIVE_URL": "http://127.0.0.1:9",
            "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
        }
        environment.pop("XDG_RUNTIME_DIR", None)
        stale = folder / "metrics"
        stale.mkdir()
        (stale / "counter_1.db").write_bytes(b"left behind by an earlier run")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"),
                    *("--bind", f"127.0.0.1:{self.port}", "api:create_app()"),
                ],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.ask("GET", "/healthz")[0] == 200:
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(self.log.read_text())

    def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Send one request; gives status, headers and text."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            content = None if body is None else json.dumps(body)
            if content:
                headers["Content-Type"] = "application/json"
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            connection.close()

    def send(self, raw: bytes) -> bytes:
        """Send bytes as they are; gives the answer's."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as peer:
            peer.sendall(raw)
            peer.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: peer.recv(65536), b""))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server that runs for the tests of this module."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)


def test_counts_of_all_processes_are_added_up(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        statuses = list(
            pool.map(lambda _: server.ask("GET", "/api/v1/models")[0], range(40))
        )
    assert statuses == [401] * 40
    for _ in range(3):  # whichever process answers
        text = server.ask("GET", "/metrics")[2]
        found = re.search(
            r'metia_http_requests_total\{method="GET",route="/api/v1/models",'
            r'status="401"\} (\S+)',
            text,
        )
        assert found
        assert float(found[1]) == 40


def test_login_works_and_the_log_is_json(server: Server) -> None:
    credentials = {"username": "admin", "password": server.password}
    status, headers, _ = server.ask("POST", "/api/v1/session", credentials)
    assert status == 200
    cookie = headers["Set-Cookie"].split(";")[0]
    # Whichever process answers, it knows the session.
    for _ in range(6):
        assert server.ask("GET", "/api/v1/session", Cookie=cookie)[0] == 200

    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert any(line.get("route") == "/api/v1/session" for line in lines)
    assert any("Listening at" in line["event"] for line in lines)
    assert server.password not in server.log.read_text()


def test_proxy_is_believed_for_one_hop_only(server: Server) -> None:
    credentials = {"username": "admin", "password": "wrong password"}
    forwarded = {"X-Forwarded-For": "198.51.100.1, 203.0.113.5"}
    for _ in range(5):
        server.ask("POST", "/api/v1/session", credentials, **forwarded)
    assert server.ask("POST", "/api/v1/session", credentials, **forwarded)[0] == 429
    # What the visitor made up before the proxy's own entry changes nothing.
    lying = {"X-Forwarded-For": "198.51.100.99, 203.0.113.5"}
    assert server.ask("POST", "/api/v1/session", credentials, **lying)[0] == 429
    elsewhere = {"X-Forwarded-For": "203.0.113.6"}
    assert server.ask("POST", "/api/v1/session", credentials, **elsewhere)[0] == 401


def test_silent_archive_keeps_nobody_waiting(server: Server) -> None:
    began = time.monotonic()
    status, _, text = server.ask("GET", "/readyz")
    assert (status, json.loads(text)) == (503, {"status": "not ready"})
    assert time.monotonic() - began < 10
    began = time.monotonic()
    assert server.ask("GET", "/healthz")[0] == 200
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2"
        b"\r\n\r\nx",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"b" * 20_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
    ],
)
def test_malformed_requests_are_refused(server: Server, raw: bytes) -> None:
    answer = server.send(raw)
    assert answer.startswith(b"HTTP/1.1 4"), answer[:100]
    assert b"metia_jobs" not in answer


def test_chunked_body_is_bounded(server: Server) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer = server.send(
        b"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
        b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 20 + b"0\r\n\r\n"
    )
    assert b" 413 " in answer.split(b"\r\n")[0]


def test_no_control_socket_is_left_around(server: Server) -> None:
    sockets = [path for path in server.home.rglob("*") if path.is_socket()]
    assert sockets == []
    assert not list(server.home.rglob("gunicorn.ctl"))


def test_server_stops_at_once_when_asked(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(25) == 0
