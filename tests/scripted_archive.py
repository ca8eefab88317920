"""An archive that misbehaves as told: a TCP proxy in front of the real one.

Each request takes the next ``Fault`` of the script; when one is left, it goes on for
ever. Connections are closed after one request, so that each fault meets one request.

    with ScriptedArchive(server.url, [Cut(after_bytes=3000), Behave()]) as archive:
        ... archive.url ...
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

_CHUNK_BYTES = 16_384


@dataclass(frozen=True)
class Behave:
    """Pass everything on."""


@dataclass(frozen=True)
class Cut:
    """Hang up after so many bytes of answers; rudely (RST) or politely (FIN)."""

    after_bytes: int
    rudely: bool = False


@dataclass(frozen=True)
class Stall:
    """Say nothing more after so many bytes of answers, and keep the line open."""

    after_bytes: int = 0


@dataclass(frozen=True)
class Delay:
    """Pass everything on, each request so much later."""

    seconds: float


@dataclass(frozen=True)
class Drip:
    """Pass answers on one byte at a time."""

    pause_s: float


@dataclass(frozen=True)
class Answer:
    """Answer the request with this status and body, without asking the archive."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    location: str = ""


@dataclass(frozen=True)
class LoseAnswer:
    """Let the archive do what it was asked for, and hang up instead of answering."""


Fault = Behave | Cut | Stall | Delay | Drip | Answer | LoseAnswer


class ScriptedArchive:
    """The proxy, running while its context is open.

    Parameters
    ----------
    upstream_url : str
        Where the real archive is.
    script : sequence of Fault
        One for each request, in order of arrival; the last goes on.
    path : str
        Only requests whose path contains this take from the script; others behave.
    """

    def __init__(
        self, upstream_url: str, script: Sequence[Fault], path: str = ""
    ) -> None:
        parts = urlsplit(upstream_url)
        self._upstream = (str(parts.hostname), int(parts.port or 80))
        self._script = list(script)
        self._path = path.encode("ascii")
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._sockets: list[socket.socket] = []
        self.requests: list[str] = []
        """First lines of the requests that took from the script."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> ScriptedArchive:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for open_socket in self._sockets:
                with contextlib.suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)
                open_socket.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._keep(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _keep(self, opened: socket.socket) -> None:
        with self._lock:
            self._sockets.append(opened)

    def _serve(self, client: socket.socket) -> None:
        """Serve one request a connection: whoever wants another connects again."""
        with contextlib.suppress(OSError):
            request = _read_request(client)
            if request:
                self._play(client, request, self._next_fault(request))
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        client.close()

    def _next_fault(self, request: bytes) -> Fault:
        line = request.split(b"\r\n", 1)[0]
        if self._path not in line:
            return Behave()
        with self._lock:
            self.requests.append(line.decode("ascii", "replace"))
            return self._script.pop(0) if len(self._script) > 1 else self._script[0]

    def _play(self, client: socket.socket, request: bytes, fault: Fault) -> None:
        if isinstance(fault, Answer):
            client.sendall(_encode_answer(fault))
            return
        if isinstance(fault, Stall) and fault.after_bytes == 0:
            self._closing.wait()
            return
        if isinstance(fault, Delay) and self._closing.wait(fault.seconds):
            return
        upstream = socket.create_connection(self._upstream)
        self._keep(upstream)
        with upstream:
            upstream.sendall(_asking_to_close(request))
            self._pass_on(upstream, client, fault)

    def _pass_on(
        self, upstream: socket.socket, client: socket.socket, fault: Fault
    ) -> None:
        passed = 0
        limit = fault.after_bytes if isinstance(fault, Cut | Stall) else None
        while chunk := upstream.recv(_CHUNK_BYTES):
            if passed == 0:
                # Orthanc says so even where it is asked to close.
                chunk = chunk.replace(b"Connection: keep-alive", b"Connection: close")
            if isinstance(fault, LoseAnswer):
                return
            if isinstance(fault, Drip):
                for number in range(len(chunk)):
                    client.sendall(chunk[number : number + 1])
                    if self._closing.wait(fault.pause_s):
                        return
                continue
            if limit is not None and passed + len(chunk) >= limit:
                client.sendall(chunk[: limit - passed])
                if isinstance(fault, Stall):
                    self._closing.wait()
                elif fault.rudely:  # type: ignore[union-attr]
                    _reset(client)
                return
            client.sendall(chunk)
            passed += len(chunk)


def _read_request(client: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        chunk = client.recv(_CHUNK_BYTES)
        if not chunk:
            return b""
        request += chunk
    head, _, body = request.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    pieces, received = [request], len(body)
    while received < length:
        chunk = client.recv(_CHUNK_BYTES)
        if not chunk:
            return b""
        pieces.append(chunk)
        received += len(chunk)
    return b"".join(pieces)


def _asking_to_close(request: bytes) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [
        line for line in head.split(b"\r\n") if not line.lower().startswith(b"connect")
    ]
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body


def _encode_answer(answer: Answer) -> bytes:
    location = f"Location: {answer.location}\r\n" if answer.location else ""
    head = (
        f"HTTP/1.1 {answer.status} Scripted\r\nContent-Type: {answer.content_type}\r\n"
        f"{location}Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + answer.body


def _reset(client: socket.socket) -> None:
    linger = (1).to_bytes(4, "little") + bytes(4)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
