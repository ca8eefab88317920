"""Stored pixels to integer arrays, and the checks that come before decoding.

``read_formats`` judges layout and size before a byte is decoded, ``decode`` translates
what a library raises on bad data to coded errors. The modality rescale is applied per
slice by ``orthanc.volume``; Real World Value Mappings and private scaling are not
applied. Pure. Axes (frame, row, column).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
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
from orthanc.codestream import codestream_size
from orthanc.headers import attempt

MAXIMUM_VOXELS = 2**28
"""Most voxels of a series (1 GiB as float32): 512 x 512 x 1024."""

IntegerArray = NDArray[Any]


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How the pixels of one instance are laid out."""

    frames: int
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        return self.frames, self.rows, self.columns

    @property
    def voxels(self) -> int:
        """Pixels of all frames."""
        return self.frames * self.rows * self.columns


def read_formats(instances: Sequence[Dataset]) -> list[PixelFormat]:
    """Read the layout of each instance; refuse colour, odd depths and absurd sizes.

    Raises
    ------
    MetiaError
        ``volume-colour``, ``volume-bad-pixels`` or ``volume-too-large``.
    """
    formats = [_read_format(instance) for instance in instances]
    voxels = sum(layout.voxels for layout in formats)
    if voxels > MAXIMUM_VOXELS:
        raise MetiaError(
            "volume-too-large",
            f"The series has {voxels / 1e6:.0f} million voxels; "
            f"at most {MAXIMUM_VOXELS / 1e6:.0f} million are taken.",
        )
    return formats


def _read_format(instance: Dataset) -> PixelFormat:
    photometric = attempt(lambda: instance["PhotometricInterpretation"].value)
    samples = _whole(instance, "SamplesPerPixel", 1)
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise MetiaError("volume-colour", "The images are not grey-scale.")
    if photometric == "MONOCHROME1":
        raise MetiaError(
            "volume-bad-pixels", "The images are stored inverted (MONOCHROME1)."
        )
    if not isinstance(attempt(lambda: instance["PixelData"].value), bytes):
        raise MetiaError("volume-bad-pixels", "An image has no (integer) pixel data.")
    if "ModalityLUTSequence" in instance:
        raise MetiaError("volume-bad-pixels", "The values need a lookup table.")
    stored = _whole(instance, "BitsStored")
    layout = PixelFormat(
        frames=_whole(instance, "NumberOfFrames", 1),
        rows=_whole(instance, "Rows"),
        columns=_whole(instance, "Columns"),
        bits_allocated=_whole(instance, "BitsAllocated"),
        bits_stored=stored,
        signed=_whole(instance, "PixelRepresentation") == 1,
    )
    usual = (
        min(layout.shape) >= 1
        and layout.bits_allocated in (8, 16, 32)
        and 1 <= stored <= layout.bits_allocated
        and _whole(instance, "HighBit", stored - 1) == stored - 1
        and _whole(instance, "PixelRepresentation") in (0, 1)
    )
    if not usual:
        raise MetiaError(
            "volume-bad-pixels", "The layout of the pixels is not one MR uses."
        )
    return layout


def _whole(instance: Dataset, keyword: str, default: int = -1) -> int:
    """Return a whole number; `default` where absent or empty, -1 where unreadable."""
    value = attempt(lambda: [instance.get(keyword)])
    if value in ([None], [""]):
        return default
    number = attempt(lambda: int(str(value[0])))
    return -1 if number is None else int(number)


def decode(instance: Dataset, layout: PixelFormat) -> IntegerArray:
    """Decode one instance.

    Parameters
    ----------
    instance : pydicom.Dataset
    layout : PixelFormat
        Of `instance`.

    Returns
    -------
    ndarray of shape (frames, rows, columns)
        Stored values; 8, 16 or 32 bit integers, signed or not as the header says.

    Raises
    ------
    MetiaError
        ``volume-undecodable`` or ``volume-bad-pixels``.
    """
    syntax = _transfer_syntax(instance)
    if not syntax.is_encapsulated:
        expected = layout.voxels * layout.bits_allocated // 8
        actual = len(instance.PixelData)
        if not expected <= actual <= expected + 1:  # padded to even length
            raise MetiaError(
                "volume-bad-pixels",
                f"An image has {actual} bytes of pixels; its size needs {expected}.",
            )
    if syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        kind = f"<{'i' if layout.signed else 'u'}{layout.bits_allocated // 8}"
        stored = np.frombuffer(instance.PixelData, dtype=kind, count=layout.voxels)
    else:
        stored = _decode_with_library(instance, layout, syntax)
    if stored.size != layout.voxels:
        raise MetiaError(
            "volume-bad-pixels", "The decoded image is not of the stated size."
        )
    return _without_unused_bits(stored.reshape(layout.shape), layout)


def _transfer_syntax(instance: Dataset) -> Any:
    syntax = attempt(lambda: instance.file_meta["TransferSyntaxUID"].value)
    if not syntax:
        little_endian = instance.original_encoding[1]
        return ExplicitVRBigEndian if little_endian is False else ExplicitVRLittleEndian
    if not syntax.is_transfer_syntax or syntax.is_private:
        raise MetiaError("volume-undecodable", "The transfer syntax is not known.")
    return syntax


def _decode_with_library(
    instance: Dataset, layout: PixelFormat, syntax: Any
) -> IntegerArray:
    available = attempt(lambda: get_decoder(syntax).is_available)
    twelve_bit = syntax == JPEGExtended12Bit and layout.bits_stored > 8
    if not available or twelve_bit:
        raise MetiaError(
            "volume-undecodable", f"The transfer syntax {syntax.name} is not supported."
        )
    broken = MetiaError(
        "volume-bad-pixels", "The compressed pixels of an image cannot be decoded."
    )
    try:
        if syntax.is_encapsulated:
            _check_codestreams(instance, layout)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stored = np.asarray(pixel_array(instance, raw=True))
    except (ValueError, RuntimeError, AttributeError, TypeError, EOFError) as error:
        raise broken from error
    if any("RLE segment" in str(warning.message) for warning in caught):
        raise broken  # of another size than the header says; pydicom only warns
    return stored


def _check_codestreams(instance: Dataset, layout: PixelFormat) -> None:
    """Refuse frames whose own size differs from Rows and Columns, before decoding."""
    frames = generate_frames(instance.PixelData, number_of_frames=layout.frames)
    for frame in frames:
        size = codestream_size(frame)
        if size is not None and size != (layout.rows, layout.columns):
            raise MetiaError(
                "volume-bad-pixels",
                "A compressed image is not of the size that its header states.",
            )


def _without_unused_bits(stored: IntegerArray, layout: PixelFormat) -> IntegerArray:
    """Drop what may lie above Bits Stored (overlays) and extend the sign."""
    unused = layout.bits_allocated - layout.bits_stored
    if unused == 0:
        return stored
    if not layout.signed and stored.max() < 1 << layout.bits_stored:
        return stored
    shift = stored.dtype.type(unused)
    cleaned: IntegerArray = np.right_shift(np.left_shift(stored, shift), shift)
    return cleaned
