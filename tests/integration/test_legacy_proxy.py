"""The door and the routes of the former system: let through only where wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from segmentation.cli.stack_files import write_proxy_configuration
from segmentation.cli.up import free_port
from tests.nginx_server import require_nginx, running_nginx

ROUTES = [
    ("POST", "/segmentation/1.2.3"),
    ("POST", "/rename-roi"),
    ("POST", "/delete-roi"),
    ("POST", "/uploadDicom"),
    ("DELETE", "/delete-study/1.2.3"),
    ("GET", "/followup-patients"),
    ("GET", "/followup-etudes?idPatient=7"),
    ("GET", "/followup-series?idEtude=1.2"),
    ("GET", "/followup-metastases?idSeries=1.2"),
]
OTHERS = [
    "/segmentation",
    "/segmentation/1.2/3",
    "/segmentation/1%2F2",
    "/segmentation/../metrics",
    "/rename-roi/x",
    "/uploadDicom/x",
    "/delete-study/",
    "/followup-",
    "/followup-patients/x",
    "/x/followup-patients",
    "/getAllStudies",
]


class _Api(BaseHTTPRequestHandler):
    """Answers everything with what it was asked; lets nobody in for the rest."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        while length > 0:
            length -= len(self.rfile.read(min(length, 65_536)))
        asked = self.path == "/api/v1/auth/check"
        self.send_response(401 if asked else 200)
        self.send_header("X-Asked", f"{self.command} {self.path}")
        self.send_header("X-Authorization", self.headers.get("Authorization", ""))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def door(folder: Path, wait_s: float | None, *, api: bool = True) -> Iterator[str]:
    require_nginx()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    listen = f"127.0.0.1:{free_port()}"
    for name in ("viewer", "run"):
        (folder / name).mkdir()
    (folder / "viewer" / "index.html").write_text("viewer", "utf-8")
    port = server.server_address[1] if api else free_port()
    write_proxy_configuration(
        folder / "nginx.conf",
        listen=listen,
        viewer_root=folder / "viewer",
        api=f"127.0.0.1:{port}",
        archive=f"127.0.0.1:{free_port()}",
        archive_password="a-password-for-tests",
        run_dir=folder / "run",
        secure=False,
        legacy_wait_s=wait_s,
    )
    try:
        with running_nginx(folder / "nginx.conf", listen) as address:
            yield address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_exactly_the_nine_are_let_through(tmp_path: Path) -> None:
    with door(tmp_path, 1.0) as address:
        token = {"Authorization": "Bearer metia_x"}
        for method, path in ROUTES:
            answer = httpx.request(
                method, address + path, headers=token, trust_env=False
            )
            assert answer.headers.get("X-Asked") == f"{method} {path}"
            assert answer.headers["X-Authorization"] == "Bearer metia_x"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        for path in OTHERS:
            answer = httpx.get(address + path, trust_env=False)
            assert answer.status_code in (302, 404), path
            assert "X-Asked" not in answer.headers, path


def test_off_none_is_let_through(tmp_path: Path) -> None:
    with door(tmp_path, None) as address:
        for method, path in ROUTES:
            answer = httpx.request(method, address + path, trust_env=False)
            assert "X-Asked" not in answer.headers, path


def test_uploads_may_be_large_and_other_requests_not(tmp_path: Path) -> None:
    with door(tmp_path, 1.0) as address:
        large = bytes(3_000_000)
        for path, status in (("/uploadDicom", 200), ("/rename-roi", 413)):
            answer = httpx.post(address + path, content=large, trust_env=False)
            assert answer.status_code == status
        assert list(answer.json()) == ["error"]


def test_the_door_waits_longer_than_the_api_does(tmp_path: Path) -> None:
    with door(tmp_path, 900.5) as address:
        text = (tmp_path / "nginx.conf").read_text("utf-8")
        assert "proxy_read_timeout 1021s;" in text
        assert httpx.post(address + "/segmentation/1.2", trust_env=False).is_success


def test_what_the_door_says_itself_is_in_the_same_shape(tmp_path: Path) -> None:
    with door(tmp_path, 1.0, api=False) as address:
        for method, path in ROUTES:
            answer = httpx.request(method, address + path, trust_env=False)
            assert answer.status_code == 503
            assert list(answer.json()) == ["error"]
