"""Stored pixels to integer arrays, and the checks that come before decoding.

Sizes are judged before a byte is decoded; what a library raises on bad data is
translated to coded errors. Modality rescale is applied per slice by
``orthanc.volume``; Real World Value Mappings and private scaling are not applied.
Axes (frame, row, column).
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

from errors import MetiaError
from orthanc.frames import frame_count

MAXIMUM_VOXELS = 2**28
"""Most voxels of a series (1 GiB as float32); 512 x 512 x 1024."""

IntegerArray = NDArray[Any]
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # Huffman tables, reserved, arithmetic conditioning


def check_pixel_format(instances: Sequence[Dataset]) -> None:
    """Refuse colour, mosaics, odd depths and absurd sizes before decoding.

    Raises
    ------
    MetiaError
        ``volume-colour``, ``volume-mosaic``, ``volume-bad-pixels`` or
        ``volume-too-large``.
    """
    voxels = 0
    for instance in instances:
        _check_one(instance)
        voxels += frame_count(instance) * int(instance.Rows) * int(instance.Columns)
    if voxels > MAXIMUM_VOXELS:
        raise MetiaError(
            "volume-too-large",
            f"The series has {voxels / 1e6:.0f} million voxels; "
            f"at most {MAXIMUM_VOXELS / 1e6:.0f} million are taken.",
        )


def _check_one(instance: Dataset) -> None:
    photometric = str(instance.get("PhotometricInterpretation", ""))
    samples = instance.get("SamplesPerPixel", 1)
    if samples != 1 or photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        raise MetiaError("volume-colour", "The images are not grey-scale.")
    if photometric == "MONOCHROME1":
        raise MetiaError(
            "volume-bad-pixels", "The images are stored inverted (MONOCHROME1)."
        )
    if "PixelData" not in instance:
        raise MetiaError("volume-bad-pixels", "An image has no (integer) pixel data.")
    if "ModalityLUTSequence" in instance:
        raise MetiaError("volume-bad-pixels", "The values need a lookup table.")
    allocated = instance.get("BitsAllocated")
    stored = instance.get("BitsStored")
    high = instance.get("HighBit", (stored or 0) - 1)
    if (
        allocated not in (8, 16, 32)
        or not isinstance(stored, int)
        or not 1 <= stored <= allocated
        or high != stored - 1
        or instance.get("PixelRepresentation") not in (0, 1)
    ):
        raise MetiaError(
            "volume-bad-pixels", "The layout of the pixels is not one MR uses."
        )


def decode(instance: Dataset) -> IntegerArray:
    """Decode one instance.

    Parameters
    ----------
    instance : pydicom.Dataset
        Passed ``check_pixel_format``.

    Returns
    -------
    ndarray of shape (frames, rows, columns)
        Stored values; 8, 16 or 32 bit integers, signed or not as the header says.

    Raises
    ------
    MetiaError
        ``volume-undecodable`` or ``volume-bad-pixels``.
    """
    shape = (frame_count(instance), int(instance.Rows), int(instance.Columns))
    syntax = _transfer_syntax(instance)
    if not syntax.is_encapsulated:
        expected = int(np.prod(shape)) * int(instance.BitsAllocated) // 8
        actual = len(instance.PixelData)
        if not expected <= actual <= expected + 1:
            raise MetiaError(
                "volume-bad-pixels",
                f"An image has {actual} bytes of pixels; its size needs {expected}.",
            )
    if syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        sign = "i" if instance.PixelRepresentation else "u"
        stored = np.frombuffer(
            instance.PixelData,
            dtype=f"<{sign}{instance.BitsAllocated // 8}",
            count=int(np.prod(shape)),
        )
    else:
        stored = _decode_with_library(instance, syntax)
    if stored.size != np.prod(shape):
        raise MetiaError(
            "volume-bad-pixels", "The decoded image is not of the stated size."
        )
    return _without_unused_bits(stored.reshape(shape), instance)


def _transfer_syntax(instance: Dataset) -> Any:
    syntax = getattr(instance, "file_meta", Dataset()).get("TransferSyntaxUID")
    if syntax is None:
        little = instance.original_encoding[1]
        return ExplicitVRBigEndian if little is False else ExplicitVRLittleEndian
    if not syntax.is_transfer_syntax or syntax.is_private:
        raise MetiaError("volume-undecodable", "The transfer syntax is not known.")
    return syntax


def _decode_with_library(instance: Dataset, syntax: Any) -> IntegerArray:
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    twelve_bit = syntax == JPEGExtended12Bit and int(instance.BitsStored) > 8
    if not available or twelve_bit:
        raise MetiaError(
            "volume-undecodable", f"The transfer syntax {syntax.name} is not supported."
        )
    broken = MetiaError(
        "volume-bad-pixels", "The compressed pixels of an image cannot be decoded."
    )
    try:
        if syntax.is_encapsulated:
            _check_codestreams(instance)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stored = np.asarray(pixel_array(instance, raw=True))
    except (ValueError, RuntimeError, AttributeError, TypeError, EOFError) as error:
        raise broken from error
    if any("RLE segment" in str(warning.message) for warning in caught):
        raise broken  # of another size than the header says; pydicom only warns
    return stored


def _check_codestreams(instance: Dataset) -> None:
    """Refuse frames whose own size differs from Rows and Columns, before decoding."""
    stated = (int(instance.Rows), int(instance.Columns))
    count = frame_count(instance)
    for frame in generate_frames(instance.PixelData, number_of_frames=count):
        size = codestream_size(frame)
        if size is not None and size != stated:
            raise MetiaError(
                "volume-bad-pixels",
                "A compressed image is not of the size that its header states.",
            )


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Read (rows, columns) from the head of a JPEG, JPEG-LS or JPEG 2000 stream.

    Returns None for RLE, which has no size of its own, and for what is none of these
    (the decoder then says so). JPEG: ITU-T T.81 B.2.2; JPEG 2000: T.800 A.5.1.
    """
    if frame[:4] == b"\xff\x4f\xff\x51" and len(frame) >= 24:
        right, bottom, left, top = struct.unpack(">4I", frame[8:24])
        return bottom - top, right - left
    if frame[:2] != b"\xff\xd8":
        return None
    place = 2
    while place + 9 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME):
            rows, columns = struct.unpack(">2H", frame[place + 5 : place + 9])
            return rows, columns
        place += 2 + struct.unpack(">H", frame[place + 2 : place + 4])[0]
    return None


def _without_unused_bits(stored: IntegerArray, instance: Dataset) -> IntegerArray:
    """Drop what may lie above Bits Stored (overlays) and extend the sign."""
    unused = int(instance.BitsAllocated) - int(instance.BitsStored)
    if unused == 0:
        return stored
    limit = 1 << int(instance.BitsStored)
    low, high = (
        (-limit // 2, limit // 2) if instance.PixelRepresentation else (0, limit)
    )
    if stored.size and low <= stored.min() and stored.max() < high:
        return stored
    shift = stored.dtype.type(unused)
    cleaned: IntegerArray = np.right_shift(np.left_shift(stored, shift), shift)
    return cleaned
