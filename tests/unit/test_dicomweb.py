"""UIDs, boundaries, STOW answers, decodability and files that are read lazily."""

from __future__ import annotations

import copy
import io
import pickle

import pydicom
import pytest
from pydicom.uid import (
    HTJ2K,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)

from orthanc.dicomweb import (
    BrokenAnswer,
    LazyFile,
    encode_part10,
    failure_reasons,
    is_decodable,
    is_uid,
    multipart_boundary,
    parse_part10,
    same_object,
    stored_instances,
)
from tests.small_series import make_series


@pytest.mark.parametrize("uid", ["1", "1.2.840", "0.0", "1.02", "2.25." + "9" * 39])
def test_uids(uid: str) -> None:
    assert is_uid(uid)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/related; boundary=a-b", b"a-b"),
        ('multipart/related; type="application/dicom"; boundary="a b"', b"a b"),
        ('Multipart/Related;BOUNDARY="x";type=application/dicom', b"x"),
    ],
)
def test_boundary_is_found(content_type: str, boundary: bytes) -> None:
    assert multipart_boundary(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    ["", "application/dicom", "multipart/related", "text/html; boundary=x"],
)
def test_no_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(BrokenAnswer):
        multipart_boundary(content_type)


def test_stow_answer_is_read() -> None:
    answer = {
        "00081199": {"vr": "SQ", "Value": [{"00081155": {"Value": ["1.2"]}}]},
        "00081198": {"vr": "SQ", "Value": [{"00081197": {"Value": [49152]}}]},
    }
    assert stored_instances(answer) == {"1.2"}
    assert failure_reasons(answer) == [49152]
    empty = {"00081199": {"vr": "SQ"}, "00081198": {"vr": "SQ"}}
    assert stored_instances(empty) == set()
    assert failure_reasons(empty) == []


@pytest.mark.parametrize(
    ("syntax", "bits", "decodable"),
    [
        (ExplicitVRLittleEndian, 16, True),
        (RLELossless, 16, True),
        (JPEG2000Lossless, 16, True),
        (JPEGBaseline8Bit, 8, True),
        (JPEGExtended12Bit, 8, True),
        (JPEGExtended12Bit, 12, False),
        (JPEGLosslessSV1, 16, False),
        (HTJ2K, 16, False),
        ("1.2.3.4", 16, False),
    ],
)
def test_decodable_syntaxes(syntax: str, bits: int, decodable: bool) -> None:
    (image,) = make_series(1, BitsStored=bits)
    image.file_meta.TransferSyntaxUID = syntax
    assert is_decodable(image) is decodable
    del image.PixelData
    assert is_decodable(image)


def test_header_is_read_without_pulling_the_pixels() -> None:
    (image,) = make_series(1, side=512)
    content = encode_part10(image)
    pulled = 0

    def chunks() -> object:
        nonlocal pulled
        for start in range(0, len(content), 1000):
            pulled += 1000
            yield content[start : start + 1000]

    header = parse_part10(LazyFile(chunks()), header_only=True)
    del image.PixelData
    assert header == image
    assert pulled <= 2000 < len(content)


def test_lazy_file_is_a_file() -> None:
    content = bytes(range(256)) * 40
    lazy, plain = (
        LazyFile([content[:7], content[7:5000], content[5000:]]),
        io.BytesIO(content),
    )
    for offset, whence, size in [
        (0, 0, 4),
        (100, 0, 10),
        (5, 1, 6000),
        (-3, 1, 2),
        (-10, 2, 4),
        (0, 2, 5),
        (99_999, 0, 5),
        (3, 0, -1),
    ]:
        assert lazy.seek(offset, whence) == plain.seek(offset, whence)
        assert lazy.read(size) == plain.read(size)
        assert lazy.tell() == plain.tell()


def test_encoded_file_is_complete_and_has_no_preamble() -> None:
    (image,) = make_series(1)
    image.preamble = b"#!/bin/sh\n" + bytes(118)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    content = encode_part10(image)
    assert content[:132] == bytes(128) + b"DICM"
    assert pydicom.dcmread(io.BytesIO(content)) == image
    assert image.preamble.startswith(b"#!")


def test_parsed_file_is_not_kept_twice_and_can_be_copied() -> None:
    (image,) = make_series(1)
    parsed = parse_part10(io.BytesIO(encode_part10(image)))
    assert parsed.buffer is None
    assert copy.deepcopy(parsed) == pickle.loads(pickle.dumps(parsed)) == image


@pytest.mark.parametrize("content", [b"", b"x" * 300, bytes(128) + b"DICM\x02"])
def test_what_is_no_dicom_file_is_refused(content: bytes) -> None:
    with pytest.raises(BrokenAnswer):
        parse_part10(io.BytesIO(content))


def test_same_object() -> None:
    image, other = make_series(2)
    sent = encode_part10(image)
    assert same_object(sent, sent)
    assert not same_object(encode_part10(other), sent)
    assert not same_object(sent[:-2], sent)
    assert not same_object(b"", sent)
    image.compress(RLELossless, generate_instance_uid=False)
    assert same_object(encode_part10(image), sent)
    other.compress(RLELossless, generate_instance_uid=False)
    assert not same_object(encode_part10(other), sent)
