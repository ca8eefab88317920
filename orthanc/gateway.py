"""The one place that talks to Orthanc, as the ``Archive`` of ``orthanc.archive``.

Images come by WADO-RS multipart (ten times faster than one by one), go by STOW-RS and
are read back; everything that is looked up comes by pyorthanc's REST calls. What comes
is checked against the archive's own list, so that a cut or short answer is never taken
for a series. Every wait is bounded: connecting, each read, a whole answer; failures
that may pass are tried again with growing, jittered pauses, denials never.

One instance per process, shared by all its threads. HTTP exceptions do not get out, and
neither do UIDs or texts of the archive: errors carry numbers only.
"""

from __future__ import annotations

import io
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import pydicom
import pyorthanc
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from errors import MetiaError
from orthanc import dicomweb
from orthanc.archive import Progress, SeriesHeader, StoreReceipt

# httpx logs the address of every request, and addresses hold UIDs.
logging.getLogger("httpx").setLevel(logging.WARNING)

_DENIALS = frozenset({401, 403})
_CANNOT_TRANSCODE = frozenset({400, 406, 415, 500, 501})
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_POLL_STABLE_S = 0.5
_ORTHANC_DISK_FULL = frozenset({14, 15})  # CannotWriteFile, FullStorage
_KEEPALIVE_S = 0.5  # Orthanc 1.10 hangs up on an idle connection after one second
_HEADER_CHUNK_BYTES = 32_768

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


@dataclass(frozen=True)
class _Listed:
    """One instance as Orthanc lists it."""

    orthanc_id: str
    sop_instance_uid: str
    number: int
    """Instance number, 0 where it has none."""
    size_bytes: int


class OrthancArchive:
    """An Orthanc with its DICOMweb plugin, 1.10 or later.

    Parameters
    ----------
    url : str
        Of Orthanc's root, without a path of DICOMweb.
    user, password : str
        Orthanc's account; one that Orthanc does not know gives ``archive-denied``.
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
        connect_timeout_s: float = 3.0,
        read_timeout_s: float = 30.0,
        retries: int = 3,
        limits: Limits | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._retries = retries
        self._limits = limits or Limits()
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
            transport=_BoundedTransport(self._limits),
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ping(self) -> None:
        """Raise ``MetiaError`` unless the archive answers and accepts us."""
        system = self._json(self._client.get_system)
        if not isinstance(system, dict) or "DatabaseVersion" not in system:
            raise _unexpected("It does not look like Orthanc's.")

    def series_headers(self, study_uid: str) -> list[SeriesHeader]:
        """List the series of a study, in order of series number.

        Raises
        ------
        MetiaError
            ``study-not-found`` and the ``archive-*`` codes.
        """
        study = self._study(study_uid)
        children = self._json(
            lambda: self._client.get_studies_id_series(study["ID"]), "study-not-found"
        )
        headers = [self._series_header(child["ID"]) for child in children]
        return sorted(headers, key=_series_order)

    def wait_until_stable(
        self, study_uid: str, timeout_s: float, cancelled: Callable[[], bool]
    ) -> None:
        """Return once no image of the study has arrived for the archive's stable age.

        Raises
        ------
        MetiaError
            ``series-not-stable`` after `timeout_s`, or when `cancelled` turns true;
            ``study-not-found`` and the ``archive-*`` codes.
        """
        end = time.monotonic() + timeout_s
        while not self._study(study_uid)["IsStable"]:
            left_s = end - time.monotonic()
            if left_s <= 0 or cancelled():
                raise MetiaError(
                    "series-not-stable", "Images of the study are still arriving."
                )
            time.sleep(min(_POLL_STABLE_S, left_s))

    def fetch_series(
        self, study_uid: str, series_uid: str, progress: Progress | None = None
    ) -> list[Dataset]:
        """Pull every instance of a series, in order of instance number.

        Raises
        ------
        MetiaError
            ``study-not-found``, ``series-not-found``; ``volume-too-large`` before
            anything is pulled; ``volume-undecodable`` where neither we nor the archive
            can decode; ``series-not-stable`` where the list changed during the pull;
            ``archive-incomplete`` where images stay missing; other ``archive-*``.
        """
        series_id = self._series(study_uid, series_uid)["ID"]
        listed = self._list_instances(series_id)
        self._refuse_too_large(listed)
        url = f"{self._url}/dicom-web/studies/{study_uid}/series/{series_uid}"
        report = progress or (lambda _fraction: None)
        pulled = self._pull_all(url, dicomweb.ACCEPT_STORED, listed, report)
        for item in listed:
            if item.sop_instance_uid not in pulled:
                pulled[item.sop_instance_uid] = self._pull_file(item)
        opaque = [
            item
            for item in listed
            if not dicomweb.is_decodable(pulled[item.sop_instance_uid])
        ]
        if opaque:
            pulled |= self._pull_transcoded(url, opaque, whole=opaque == listed)
        if self._list_instances(series_id) != listed:
            raise MetiaError(
                "series-not-stable", "Images arrived while the series was read."
            )
        report(1.0)
        return [pulled[item.sop_instance_uid] for item in listed]

    def fetch_instance(
        self, study_uid: str, series_uid: str, sop_instance_uid: str
    ) -> Dataset:
        """Pull one instance, decodable.

        Raises
        ------
        MetiaError
            ``study-not-found``, ``series-not-found``, ``not-found``, and those of
            ``fetch_series``.
        """
        found = self._instance(study_uid, series_uid, sop_instance_uid)
        if found is None:
            self._series(study_uid, series_uid)
            raise MetiaError("not-found", "The series has no such image.")
        self._refuse_too_large([found])
        dataset = self._pull_file(found)
        if not dicomweb.is_decodable(dataset):
            url = f"{self._url}/dicom-web/studies/{study_uid}/series/{series_uid}"
            pulled = self._pull_transcoded(url, [found], whole=False)
            dataset = pulled[sop_instance_uid]
        return dataset

    def store(self, datasets: Sequence[Dataset]) -> list[StoreReceipt]:
        """Store objects and read each back.

        Raises
        ------
        MetiaError
            ``archive-rejected``, ``disk-full``; ``archive-mismatch`` where what can be
            read back is not what was sent; other ``archive-*``.
        """
        files: dict[str, bytes] = {}
        receipts = []
        for dataset in datasets:
            uids = _uids_of(dataset)
            already = self._instance(*uids) is not None
            if not already:
                files[uids[2]] = dicomweb.encode_part10(dataset)
            receipts.append(StoreReceipt(*uids, already_stored=already))
        if files:
            self._send(files)
        for receipt in receipts:
            self._read_back(receipt, files.get(receipt.sop_instance_uid))
        return receipts

    # -- looking up ----------------------------------------------------------------

    def _study(self, study_uid: str) -> dict[str, Any]:
        found = self._find("Study", StudyInstanceUID=study_uid)
        if found is None:
            raise MetiaError("study-not-found", "The archive has no such study.")
        return found

    def _series(self, study_uid: str, series_uid: str) -> dict[str, Any]:
        found = self._find(
            "Series", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid
        )
        if found is None:
            self._study(study_uid)
            raise MetiaError("series-not-found", "The study has no such series.")
        return found

    def _instance(
        self, study_uid: str, series_uid: str, sop_instance_uid: str
    ) -> _Listed | None:
        found = self._find(
            "Instance",
            StudyInstanceUID=study_uid,
            SeriesInstanceUID=series_uid,
            SOPInstanceUID=sop_instance_uid,
        )
        return None if found is None else _as_listed(found)

    def _find(self, level: str, **uids: str) -> dict[str, Any] | None:
        """Find the one resource of these UIDs; malformed ones find nothing, unasked."""
        if not all(dicomweb.is_uid(uid) for uid in uids.values()):
            return None
        query = {"Level": level, "Query": uids, "Expand": True}
        found = self._json(lambda: self._client.post_tools_find(json=query))
        if len(found) > 1:
            # Orthanc keeps apart what lies under different patient IDs.
            raise MetiaError(
                "archive-ambiguous", "The archive holds these UIDs more than once."
            )
        return found[0] if found else None

    def _list_instances(self, series_id: str) -> list[_Listed]:
        answer = self._json(
            lambda: self._client.get_series_id_instances(series_id), "series-not-found"
        )
        listed = [_as_listed(item) for item in answer]
        return sorted(listed, key=lambda item: (item.number, item.sop_instance_uid))

    def _series_header(self, series_id: str) -> SeriesHeader:
        listed = self._list_instances(series_id)
        middle = listed[len(listed) // 2]

        def read() -> Dataset:
            with self._stream(self._file_url(middle)) as response:
                chunks = response.iter_bytes(_HEADER_CHUNK_BYTES)
                return _parse(dicomweb.LazyFile(chunks), header_only=True)

        sample = self._retrying(read, "archive-incomplete")
        return SeriesHeader(str(sample.SeriesInstanceUID), len(listed), sample)

    # -- pulling -------------------------------------------------------------------

    def _refuse_too_large(self, listed: Sequence[_Listed]) -> None:
        size_bytes = sum(item.size_bytes for item in listed)
        if (
            len(listed) > self._limits.instances
            or size_bytes > self._limits.answer_bytes
        ):
            raise MetiaError(
                "volume-too-large",
                f"The series has {len(listed)} images and {size_bytes / 1e6:.0f} MB; "
                f"at most {self._limits.instances} images and "
                f"{self._limits.answer_bytes / 1e6:.0f} MB are read.",
                {"instance_count": len(listed), "size_bytes": size_bytes},
            )

    def _pull_all(
        self, url: str, accept: str, wanted: Sequence[_Listed], report: Progress
    ) -> dict[str, Dataset]:
        """Pull what comes whole of a multipart answer.

        Of a cut answer the complete parts are kept: the caller asks for the rest.
        """
        sizes = {item.sop_instance_uid: item.size_bytes for item in wanted}
        stored = accept == dicomweb.ACCEPT_STORED
        pulled: dict[str, Dataset] = {}

        try:
            with self._stream(url, accept) as response:
                for part in _parts(response):
                    dataset = _parse_bytes(part)
                    uid = str(dataset.get("SOPInstanceUID", ""))
                    if uid in sizes and (not stored or len(part) == sizes[uid]):
                        pulled[uid] = dataset
                        report(len(pulled) / len(sizes) * 0.99)
        except MetiaError as error:
            if error.code != "archive-incomplete":
                raise
        return pulled

    def _pull_file(self, item: _Listed) -> Dataset:
        return _parse_bytes(self._read_file(item))

    def _read_file(self, item: _Listed) -> bytes:
        """Read one file as it is stored, and insist on its length."""

        def read() -> bytes:
            with self._stream(self._file_url(item)) as response:
                content = response.read()
            if len(content) != item.size_bytes:
                raise _incomplete()
            return content

        return self._retrying(read, "archive-incomplete")

    def _file_url(self, item: _Listed) -> str:
        return f"{self._url}/instances/{item.orthanc_id}/file"

    def _pull_transcoded(
        self, url: str, wanted: Sequence[_Listed], *, whole: bool
    ) -> dict[str, Dataset]:
        """Pull decodable copies; the archive decodes what we cannot."""
        pulled: dict[str, Dataset] = {}
        try:
            if whole and len(wanted) > 1:
                pulled = self._pull_all(
                    url, dicomweb.ACCEPT_TRANSCODED, wanted, lambda _fraction: None
                )
            for item in wanted:
                uid = item.sop_instance_uid
                if uid not in pulled:
                    single = f"{url}/instances/{uid}"
                    pulled |= self._pull_all(
                        single, dicomweb.ACCEPT_TRANSCODED, [item], lambda _f: None
                    )
        except MetiaError as error:
            # Orthanc answers 500 for a syntax it cannot decode.
            if error.facts.get("archive_status") in _CANNOT_TRANSCODE:
                raise _undecodable() from error
            raise
        if any(
            item.sop_instance_uid not in pulled
            or not dicomweb.is_decodable(pulled[item.sop_instance_uid])
            for item in wanted
        ):
            raise _undecodable()
        return pulled

    # -- storing -------------------------------------------------------------------

    def _send(self, files: dict[str, bytes]) -> None:
        boundary = secrets.token_hex(16).encode("ascii")
        body = dicomweb.encode_multipart(list(files.values()), boundary)
        headers = {
            "Content-Type": 'multipart/related; type="application/dicom"; '
            f"boundary={boundary.decode('ascii')}",
            "Accept": "application/dicom+json",
        }
        url = f"{self._url}/dicom-web/studies"

        def send() -> httpx.Response:
            response: httpx.Response = self._client.post(
                url, content=body, headers=headers
            )
            if response.status_code not in {202, 400, 409, 413, 500, 507}:
                _check_status(response)
            return response

        response = self._retrying(lambda: _translated(send), "archive-unavailable")
        stored = dicomweb.stored_instances(_json_object(response))
        for uid, content in files.items():
            if uid not in stored:
                self._send_alone(content)

    def _send_alone(self, content: bytes) -> None:
        """Store by REST what STOW-RS did not store, as only REST says why not."""
        url = f"{self._url}/instances"
        response = self._retrying(
            lambda: _translated(lambda: self._client.post(url, content=content)),
            "archive-unavailable",
        )
        if response.is_success:
            return
        if response.status_code in _DENIALS:
            _check_status(response)
        status = _json_object(response).get("OrthancStatus")
        if response.status_code == 507 or status in _ORTHANC_DISK_FULL:
            raise MetiaError("disk-full", "The archive cannot write to its disk.")
        raise MetiaError(
            "archive-rejected",
            f"The archive answered {response.status_code} (Orthanc status {status}).",
            {"archive_status": response.status_code, "orthanc_status": status},
        )

    def _read_back(self, receipt: StoreReceipt, sent: bytes | None) -> None:
        found = self._instance(
            receipt.study_uid, receipt.series_uid, receipt.sop_instance_uid
        )
        if found is None:
            raise MetiaError("archive-rejected", "The stored object cannot be found.")
        content = self._read_file(found)
        if sent is not None and content != sent:
            raise MetiaError(
                "archive-mismatch", "The object read back is not the one stored."
            )

    # -- requests ------------------------------------------------------------------

    def _json(
        self, call: Callable[[], httpx.Response], missing: str = "archive-unexpected"
    ) -> Any:
        """Make one of pyorthanc's calls; `missing` is the code of a 404."""

        def ask() -> Any:
            response = _translated(call)
            _check_status(response, missing)
            return _parse_json(response)

        return self._retrying(ask, "archive-unavailable")

    @contextmanager
    def _stream(self, url: str, accept: str = "*/*") -> Iterator[httpx.Response]:
        """Give an answer whose body is still to be read.

        Until it begins, failures are ``archive-unavailable`` and are tried again; from
        then on they are ``archive-incomplete``.
        """

        def begin() -> httpx.Response:
            request = self._client.build_request("GET", url, headers={"Accept": accept})
            response = _translated(lambda: self._client.send(request, stream=True))
            try:
                _check_status(response, "archive-incomplete")
            except MetiaError:
                response.close()
                raise
            return response

        response = self._retrying(begin, "archive-unavailable")
        try:
            yield response
        except (httpx.TransportError, httpx.DecodingError, dicomweb.BrokenAnswer):
            # "from None": the texts of these name the address.
            raise _incomplete() from None
        finally:
            response.close()

    def _retrying(self, action: Callable[[], _T], code: str) -> _T:
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
            trust_env=False, limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S)
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
        left = self._limits.answer_bytes + 2_000 * self._limits.instances
        for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise _unexpected("It is larger than an answer may be.")
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
    except httpx.TransportError:
        reason = "The connection to the archive broke."
    except httpx.InvalidURL:
        raise MetiaError(
            "configuration-invalid", "METIA_ARCHIVE_URL is not an address."
        ) from None
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
        raise _unexpected("It is not JSON.") from None


def _json_object(response: httpx.Response) -> dict[str, Any]:
    answer = _parse_json(response) if response.content else {}
    return answer if isinstance(answer, dict) else {}


def _parts(response: httpx.Response) -> Iterator[bytes]:
    content_type = response.headers.get("Content-Type", "")
    boundary = dicomweb.multipart_boundary(content_type)
    return dicomweb.split_multipart(response.iter_bytes(), boundary)


def _parse_bytes(content: bytes) -> Dataset:
    return _parse(io.BytesIO(content))


def _parse(file: io.IOBase, *, header_only: bool = False) -> Dataset:
    try:
        return pydicom.dcmread(file, stop_before_pixels=header_only)
    except (InvalidDicomError, EOFError, ValueError, KeyError, OSError) as error:
        raise dicomweb.BrokenAnswer("It is not a DICOM file.") from error


def _as_listed(item: dict[str, Any]) -> _Listed:
    tags = item["MainDicomTags"]
    number = str(tags.get("InstanceNumber", "")).strip()
    return _Listed(
        orthanc_id=item["ID"],
        sop_instance_uid=tags["SOPInstanceUID"],
        number=int(number) if number.lstrip("+-").isdecimal() else 0,
        size_bytes=int(item["FileSize"]),
    )


def _series_order(header: SeriesHeader) -> tuple[int, str]:
    number = header.sample.get("SeriesNumber")
    return (int(number) if number is not None else 0, header.series_uid)


def _uids_of(dataset: Dataset) -> tuple[str, str, str]:
    uids = tuple(
        str(dataset.get(keyword, ""))
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    )
    if not all(dicomweb.is_uid(uid) for uid in uids):
        raise MetiaError("archive-rejected", "The object lacks a valid UID.")
    return uids[0], uids[1], uids[2]


def _incomplete() -> MetiaError:
    return MetiaError("archive-incomplete", "The archive's answer was cut.")


def _undecodable() -> MetiaError:
    return MetiaError(
        "volume-undecodable", "Neither we nor the archive can decode the images."
    )


def _unexpected(why: str) -> MetiaError:
    return MetiaError("archive-unexpected", f"The answer cannot be used. {why}")
