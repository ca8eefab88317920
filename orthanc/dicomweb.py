"""The parts of DICOMweb that are bytes and text only: UIDs, multipart, STOW answers.

Pure functions; the requests themselves are made by ``orthanc.gateway``. Formats: DICOM
PS3.18 (8.7 media types, 10.4 retrieve, 10.5 store), RFC 2046 multipart. Safe to share
between threads.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from email.message import Message
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGExtended12Bit

ACCEPT_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Asks for the instances in the transfer syntax they are stored in."""
ACCEPT_TRANSCODED = (
    f'multipart/related; type="application/dicom"; '
    f"transfer-syntax={ExplicitVRLittleEndian}"
)
"""Asks for the instances as Explicit VR Little Endian."""

MAXIMUM_PART_HEADER_BYTES = 16_384
_PREAMBLE_BYTES = 128
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*\Z", re.ASCII)
_REFERENCED_SOP_INSTANCE = "00081155"
_REFERENCED_SOP_SEQUENCE = "00081199"
_FAILED_SOP_SEQUENCE = "00081198"
_FAILURE_REASON = "00081197"


class BrokenAnswer(ValueError):
    """An answer that ends too early or does not keep to its format."""


def is_uid(text: str) -> bool:
    """Tell whether `text` may be sent as a UID.

    At most 64 ASCII digits and single dots (PS3.5 section 9.1). Leading zeros, which
    the standard forbids, are let through: old archives hold them.
    """
    return len(text) <= 64 and _UID.match(text) is not None


def multipart_boundary(content_type: str) -> bytes:
    """Return the boundary a ``multipart/related`` Content-Type names.

    Raises
    ------
    BrokenAnswer
        Where it names none.
    """
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/related" or not boundary:
        raise BrokenAnswer("The answer is not multipart/related.")
    return str(boundary).encode("ascii", "replace")


def split_multipart(chunks: Iterable[bytes], boundary: bytes) -> Iterator[bytes]:
    """Yield the body of each part of a multipart answer, as soon as it is complete.

    Parameters
    ----------
    chunks : iterable of bytes
        The answer, cut anywhere.
    boundary : bytes
        Without the leading dashes.

    Raises
    ------
    BrokenAnswer
        After the last complete part, where the closing boundary is missing or a part
        is malformed: the answer was cut.
    """
    reader = _ChunkReader(iter(chunks))
    delimiter = b"\r\n--" + boundary
    reader.skip_past(delimiter[2:])
    while True:
        tail = reader.take(2)
        if tail == b"--":
            return
        if tail != b"\r\n":
            raise BrokenAnswer("A part does not begin after its boundary.")
        # The line end is given back to the search, as a part may have no headers.
        header = reader.take_until(b"\r\n\r\n", MAXIMUM_PART_HEADER_BYTES, tail)
        length = _content_length(header)
        if length is None:
            yield reader.take_until(delimiter)
            continue
        body = reader.take(length)
        if reader.take(len(delimiter)) != delimiter:
            raise BrokenAnswer("A part is not as long as it says.")
        yield body


def encode_part10(dataset: Dataset) -> bytes:
    """Return a dataset as a DICOM file with an empty preamble.

    The preamble can make a file that is also a program (CVE-2019-11687); nothing we
    write carries one.
    """
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    buffer.seek(0)
    buffer.write(b"\0" * _PREAMBLE_BYTES)
    return buffer.getvalue()


def parse_part10(file: io.IOBase, *, header_only: bool = False) -> Dataset:
    """Read a DICOM file, or its part before the pixel data.

    Raises
    ------
    BrokenAnswer
        Where it is none.
    """
    try:
        dataset = pydicom.dcmread(file, stop_before_pixels=header_only)
    except (InvalidDicomError, EOFError, ValueError, KeyError, OSError) as error:
        raise BrokenAnswer("It is not a DICOM file.") from error
    if "SOPInstanceUID" not in dataset:
        raise BrokenAnswer("It is not a DICOM image.")
    # It would keep a second copy of every pixel for as long as the dataset lives.
    dataset.buffer = None
    return dataset


def same_object(stored: bytes, sent: bytes) -> bool:
    """Tell whether an archive may hold `stored` for what we sent.

    Bit by bit the same, unless it is one that compresses what comes in.
    """
    if stored == sent:
        return True
    try:
        ours, theirs = parse_part10(io.BytesIO(sent)), parse_part10(io.BytesIO(stored))
    except BrokenAnswer:
        return False
    return bool(
        ours.file_meta.TransferSyntaxUID != theirs.file_meta.get("TransferSyntaxUID")
        and ours.SOPInstanceUID == theirs.get("SOPInstanceUID")
    )


def encode_multipart(parts: Sequence[bytes], boundary: bytes) -> bytes:
    """Return the body of a STOW-RS request."""
    pieces: list[bytes] = []
    for part in parts:
        pieces += [
            b"--" + boundary + b"\r\nContent-Type: application/dicom\r\n"
            b"Content-Length: " + str(len(part)).encode("ascii") + b"\r\n\r\n",
            part,
            b"\r\n",
        ]
    return b"".join([*pieces, b"--" + boundary + b"--\r\n"])


def stored_instances(answer: Mapping[str, Any]) -> set[str]:
    """Return the SOP Instance UIDs a STOW-RS answer reports as stored.

    What is not among them was not stored, whatever the HTTP status: Orthanc 1.10
    answers 200 with both lists empty where its disk is full.
    """
    return {
        str(uid)
        for item in answer.get(_REFERENCED_SOP_SEQUENCE, {}).get("Value", [])
        for uid in item.get(_REFERENCED_SOP_INSTANCE, {}).get("Value", [])
    }


def failure_reasons(answer: Mapping[str, Any]) -> list[int]:
    """Return the failure reasons (PS3.18 table 10.5.3-1) of a STOW-RS answer."""
    return [
        int(reason)
        for item in answer.get(_FAILED_SOP_SEQUENCE, {}).get("Value", [])
        for reason in item.get(_FAILURE_REASON, {}).get("Value", [])
    ]


def is_decodable(dataset: Dataset) -> bool:
    """Tell whether the pixel data, if any, can be decoded by the installed packages."""
    if "PixelData" not in dataset:
        return True
    syntax = UID(dataset.file_meta.get("TransferSyntaxUID", ""))
    if syntax == JPEGExtended12Bit and dataset.get("BitsStored", 8) > 8:
        # Pillow is registered for this syntax, but only reads its 8-bit form.
        return False
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


class LazyFile(io.RawIOBase):
    """A readable, seekable file over chunks that are pulled only when needed.

    With it pydicom reads the header of an instance whose pixel data is never pulled.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._pulled = bytearray()
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; relative to the end only after pulling everything."""
        if whence == io.SEEK_END:
            self._pull(None)
        start = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: len(self._pulled),
        }[whence]
        self._position = max(0, start + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes, fewer only at the end; all where it is negative."""
        end = None if size is None or size < 0 else self._position + size
        self._pull(end)
        data = bytes(self._pulled[self._position : end])
        self._position += len(data)
        return data

    def _pull(self, end: int | None) -> None:
        while end is None or len(self._pulled) < end:
            chunk = next(self._chunks, None)
            if chunk is None:
                return
            self._pulled += chunk


class _ChunkReader:
    """Takes pieces of known or delimited length from a stream of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()

    def take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._pull()
        return self._cut(length, length)

    def take_until(
        self, mark: bytes, limit: int | None = None, before: bytes = b""
    ) -> bytes:
        """Take up to `mark`, which is dropped; `before` is put back first."""
        self._buffer[:0] = before
        searched = 0
        while (found := self._buffer.find(mark, searched)) < 0:
            searched = max(0, len(self._buffer) - len(mark) + 1)
            if limit is not None and searched > limit:
                raise BrokenAnswer("A part has no end of header.")
            self._pull()
        return self._cut(found, found + len(mark))

    def skip_past(self, mark: bytes) -> None:
        self.take_until(mark, MAXIMUM_PART_HEADER_BYTES)

    def _pull(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise BrokenAnswer("The answer ends too early.")
        self._buffer += chunk

    def _cut(self, length: int, dropped: int) -> bytes:
        with memoryview(self._buffer) as pulled:
            piece = bytes(pulled[:length])  # one copy; a slice would be another
        del self._buffer[:dropped]
        return piece


def _content_length(header: bytes) -> int | None:
    for line in header.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            text = value.strip()
            if not text.isdigit():
                raise BrokenAnswer("A part has a malformed length.")
            return int(text)
    return None
