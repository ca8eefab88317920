"""However a multipart answer is cut into chunks, and wherever it ends."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthanc.dicomweb import BrokenAnswer, encode_multipart, split_multipart

BOUNDARY = b"3ad89500-63c2"
# Bodies made of what a careless parser would stumble over.
BODIES = st.lists(
    st.sampled_from([b"\r\n", b"--", b"\r\n--", BOUNDARY[:-1], b"x", b"\0", b"DICM"])
).map(b"".join)


def encode_without_lengths(parts: list[bytes], headers: bytes) -> bytes:
    pieces = [
        b"--" + BOUNDARY + headers + b"\r\n\r\n" + part + b"\r\n" for part in parts
    ]
    return b"".join(pieces) + b"--" + BOUNDARY + b"--"


def chunks(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


@given(st.lists(BODIES, max_size=5), st.integers(1, 40), BODIES)
def test_parts_with_lengths_come_back(
    parts: list[bytes], size: int, epilogue: bytes
) -> None:
    # A length lets a part hold even the boundary itself.
    parts = [part + b"\r\n--" + BOUNDARY + b"\r\n" for part in parts]
    content = encode_multipart(parts, BOUNDARY) + epilogue
    assert list(split_multipart(chunks(content, size), BOUNDARY)) == parts


@given(
    st.lists(BODIES, max_size=5),
    st.integers(1, 40),
    st.sampled_from([b"", b"\r\nContent-Type: application/dicom", b"\r\nA: b\r\nC: d"]),
)
def test_parts_without_lengths_come_back(
    parts: list[bytes], size: int, headers: bytes
) -> None:
    content = encode_without_lengths(parts, headers)
    assert list(split_multipart(chunks(content, size), BOUNDARY)) == parts


@given(
    st.lists(BODIES, min_size=1, max_size=4),
    st.integers(1, 40),
    st.booleans(),
    st.data(),
)
def test_cut_answer_gives_whole_parts_and_then_says_so(
    parts: list[bytes], size: int, lengths: bool, data: st.DataObject
) -> None:
    content = (
        encode_multipart(parts, BOUNDARY).removesuffix(b"\r\n")
        if lengths
        else encode_without_lengths(parts, b"\r\nA: b")
    )
    end = data.draw(st.integers(0, len(content) - 1))
    came: list[bytes] = []
    pieces = chunks(content[:end], size)
    with pytest.raises(BrokenAnswer):
        deque(map(came.append, split_multipart(pieces, BOUNDARY)), maxlen=0)
    assert came == parts[: len(came)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 100_000,
        b"--b",
        b"--bx\r\n\r\n\r\n--b--",
        b"--b\r\nContent-Length: -1\r\n\r\nx\r\n--b--",
        b"--b\r\nContent-Length: x\r\n\r\nx\r\n--b--",
        b"--b\r\nContent-Length: 2\r\n\r\nx\r\n--b--",
        b"--b\r\nContent-Length: 99999999999999\r\n\r\nx\r\n--b--",
        b"--b\r\n" + b"X: y\r\n" * 10_000 + b"\r\nx\r\n--b--",
    ],
)
def test_malformed_answer_is_refused(content: bytes) -> None:
    with pytest.raises(BrokenAnswer):
        list(split_multipart(chunks(content, 1000), b"b"))
