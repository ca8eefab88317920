"""One pooled connection to Orthanc: bounded waits, retries, coded errors.

For ``orthanc.gateway`` only, which makes every request through it; nothing else knows
pyorthanc and httpx. Every wait is bounded: connecting, each read, and a whole body in
bytes and in seconds. Failures that may pass are tried again with growing, jittered
pauses; denials and bad requests never. Safe to share between threads: a silent archive
holds up the thread that asked and no other.
"""

from __future__ import annotations

import logging
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import pyorthanc

from errors import MetiaError
from orthanc.dicomweb import BrokenAnswer

# httpx logs the address of every request, and addresses hold UIDs.
logging.getLogger("httpx").setLevel(logging.WARNING)

_DENIALS = frozenset({401, 403})
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_KEEPALIVE_S = 0.5  # Orthanc 1.10 hangs up on an idle connection after one second
_PART_HEADER_BYTES = 2_000

_T = TypeVar("_T")


@dataclass(frozen=True)
class Limits:
    """What is pulled at most, so that one series cannot exhaust the worker's memory."""

    instances: int = 2_000
    """Instances of one series."""
    answer_bytes: int = 2**30
    """Bytes of one answer and of one series."""
    answer_s: float = 600.0
    """Seconds from the first to the last byte of one answer."""


class Connection:
    """Asks Orthanc, and gives answers or ``MetiaError``.

    Parameters
    ----------
    url : str
        Of Orthanc's root, without a path of DICOMweb.
    user, password : str
        Orthanc's account.
    connect_timeout_s, read_timeout_s : float
        For the connection, and for each pause within an answer.
    retries : int
        Further attempts after a failure that may pass.
    limits : Limits
        What is pulled at most.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        retries: int,
        limits: Limits,
    ) -> None:
        self._url = url.rstrip("/")
        self._retries = retries
        self._client = pyorthanc.Orthanc(
            self._url,
            user,
            password,
            return_raw_response=True,
            timeout=httpx.Timeout(
                read_timeout_s, connect=connect_timeout_s, pool=connect_timeout_s
            ),
            # Orthanc 1.10 would compress each image for 12 ms.
            headers={"Accept-Encoding": "identity"},
            transport=_BoundedTransport(limits),
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._client.close()

    def ask(
        self,
        call: Callable[[pyorthanc.Orthanc], httpx.Response],
        missing: str = "archive-unexpected",
    ) -> Any:
        """Make one of pyorthanc's calls and return its JSON.

        Parameters
        ----------
        call : Callable
            The call.
        missing : str
            Error code that a 404 means here.
        """

        def attempt() -> Any:
            response = _translated(lambda: call(self._client))
            _check_status(response, missing)
            return _parse_json(response)

        return self.retrying(attempt, "archive-unavailable")

    @contextmanager
    def stream(self, path: str, accept: str = "*/*") -> Iterator[httpx.Response]:
        """Give an answer whose body is still to be read.

        Until it begins, failures are ``archive-unavailable`` and are tried again; from
        then on they are ``archive-incomplete`` and the caller's to try again.
        """

        def begin() -> httpx.Response:
            request = self._client.build_request(
                "GET", self._url + path, headers={"Accept": accept}
            )
            response = _translated(lambda: self._client.send(request, stream=True))
            try:
                _check_status(response, "archive-incomplete")
            except MetiaError:
                response.close()
                raise
            return response

        response = self.retrying(begin, "archive-unavailable")
        try:
            yield response
        except (httpx.TransportError, httpx.DecodingError, BrokenAnswer):
            # "from None": the texts of these name the address.
            raise incomplete() from None
        finally:
            response.close()

    def send(
        self, path: str, content: bytes, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """POST something that may be sent twice; return the status and the JSON.

        Only an archive that is not there or denies us is an error here: what other
        statuses mean depends on what was sent.
        """

        def attempt() -> httpx.Response:
            response = _translated(
                lambda: self._client.post(
                    self._url + path, content=content, headers=headers
                )
            )
            if response.status_code in _DENIALS | {502, 503, 504}:
                _check_status(response)
            return response

        response = self.retrying(attempt, "archive-unavailable")
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        return response.status_code, answer if isinstance(answer, dict) else {}

    def retrying(self, action: Callable[[], _T], code: str) -> _T:
        """Repeat `action` while it fails with `code`, with growing pauses."""
        for attempt in range(self._retries):
            try:
                return action()
            except MetiaError as error:
                if error.code != code:
                    raise
            pause_s = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S)
            # Jitter: workers that failed together must not come back together.
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311
        return action()


class _BoundedTransport(httpx.HTTPTransport):
    """Bounds every answer in bytes and in time; httpx bounds only single reads."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(
            # The system's authorities: a hospital's own among them.
            verify=ssl.create_default_context(),
            trust_env=False,
            limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S),
        )
        self._answer_limits = limits

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _BoundedStream(response.stream, self._answer_limits)
        return response


class _BoundedStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits

    def __iter__(self) -> Iterator[bytes]:
        end = time.monotonic() + self._limits.answer_s
        # Room for the headers of the parts besides the images themselves.
        left = self._limits.answer_bytes + _PART_HEADER_BYTES * self._limits.instances
        for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise unexpected("It is larger than an answer may be.")
            if time.monotonic() > end:
                raise httpx.ReadTimeout("The answer takes too long.")
            yield chunk

    def close(self) -> None:
        self._stream.close()


def _translated(call: Callable[[], httpx.Response]) -> httpx.Response:
    try:
        return call()
    except httpx.TimeoutException:
        reason = "The archive did not answer in time."
    except httpx.ConnectError:
        reason = "The archive cannot be reached."
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise MetiaError(
            "configuration-invalid", "METIA_ARCHIVE_URL is not an HTTP address."
        ) from None
    except httpx.TransportError:
        reason = "The connection to the archive broke."
    # Raised out here without its cause, whose text names the address.
    raise MetiaError("archive-unavailable", reason)


def _check_status(
    response: httpx.Response, missing: str = "archive-unexpected"
) -> None:
    status = response.status_code
    facts: dict[str, object] = {"archive_status": status}
    if response.is_success:
        return
    if status in _DENIALS:
        raise MetiaError("archive-denied", f"The archive answered {status}.", facts)
    if status == httpx.codes.NOT_FOUND:
        raise MetiaError(missing, "The archive answered 404.", facts)
    if status == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
        raise MetiaError("archive-unavailable", f"It answered {status}.", facts)
    raise MetiaError("archive-unexpected", f"It answered {status}.", facts)


def _parse_json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        raise unexpected("It is not JSON.") from None


def incomplete() -> MetiaError:
    """Return the error for an answer that was cut."""
    return MetiaError("archive-incomplete", "The archive's answer was cut.")


def unexpected(why: str) -> MetiaError:
    """Return the error for an answer that cannot be Orthanc's."""
    return MetiaError("archive-unexpected", f"The answer cannot be used. {why}")
