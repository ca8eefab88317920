"""The size that a compressed image states of itself, read without decoding it.

A header that lies about rows and columns, or a stream that would decompress to
gigabytes, is found here, before a decoder allocates anything. Pure.
"""

from __future__ import annotations

import struct

_NO_FRAME = (0xC4, 0xC8, 0xCC)  # Huffman tables, reserved, arithmetic conditioning


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
