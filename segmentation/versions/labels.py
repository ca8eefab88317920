"""The label map that a viewer sends with a correction: unpacked, checked, put in place.

``unpack`` promises never to use more memory than the stated size allows, whatever was
sent; ``place`` puts each image's labels on the slice that this very image (SOP Instance
UID, frame) gave, never on one that merely seems to fit. Both refuse with
``invalid-input``, saying what is wrong in counts. Arrays have axes (image, row,
column) or (slice, row, column). Pure, safe between threads.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import MetiaError
from orthanc.volume import SliceReference

Labels = NDArray[np.uint16]
MOST_VOXELS = 1 << 27
"""512 images of 512 x 512, more than a head MR has."""
_GZIP = 16 + zlib.MAX_WBITS


def unpack(packed: bytes, shape: tuple[int, int, int]) -> NDArray[np.integer[Any]]:
    """Unpack gzipped labels of one or two bytes a voxel.

    Parameters
    ----------
    packed : bytes
        gzip of uint8 or little-endian uint16 in C order.
    shape : tuple of int
        Images, rows, columns.

    Returns
    -------
    numpy.ndarray
        uint8 or uint16 of `shape`.

    Raises
    ------
    MetiaError
        ``invalid-input``.
    """
    voxels = int(np.prod(shape, dtype=np.int64))
    if not 0 < voxels <= MOST_VOXELS:
        raise MetiaError(
            "invalid-input",
            f"{voxels} voxels are stated; from 1 to {MOST_VOXELS} can be taken.",
        )
    gunzip = zlib.decompressobj(wbits=_GZIP)
    try:
        content = gunzip.decompress(packed, 2 * voxels + 1)
    except zlib.error as error:
        raise MetiaError("invalid-input", "The labels are not gzip data.") from error
    if len(content) not in (voxels, 2 * voxels):
        more = "more than " if len(content) > 2 * voxels else ""
        raise MetiaError(
            "invalid-input",
            f"The labels hold {more}{min(len(content), 2 * voxels)} bytes; "
            f"{voxels} or {2 * voxels} are needed for the stated images.",
        )
    # The end of the gzip data carries its checksum; without it nothing is certain.
    if gunzip.decompress(gunzip.unconsumed_tail, 1) or not gunzip.eof:
        raise MetiaError("invalid-input", "The labels' gzip data is not whole.")
    if gunzip.unused_data:
        raise MetiaError("invalid-input", "Something follows the labels' gzip data.")
    kind = "<u2" if len(content) == 2 * voxels else "u1"
    return np.frombuffer(content, dtype=kind).reshape(shape)


def check_numbers(labels: NDArray[np.integer[Any]], numbers: Collection[int]) -> None:
    """Refuse labels that no segment explains, and segments without a voxel."""
    counts = np.zeros(np.iinfo(labels.dtype).max + 1, dtype=np.int64)
    for plane in labels:  # counting makes a copy of what it counts, eight bytes each
        counts += np.bincount(plane.ravel(), minlength=counts.size)
    counts[0] = 0
    found = set(np.flatnonzero(counts).tolist())
    if unknown := sorted(found - set(numbers)):
        raise MetiaError(
            "invalid-input",
            f"{len(unknown)} numbers among the labels belong to no segment.",
            {"numbers": unknown[:20]},
        )
    if empty := sorted(set(numbers) - found):
        raise MetiaError(
            "invalid-input",
            f"{len(empty)} segments have no voxel; leave out what is deleted.",
            {"numbers": empty[:20]},
        )


def place(
    labels: NDArray[np.integer[Any]],
    images: Sequence[SliceReference],
    slices: Sequence[SliceReference],
    series: Collection[str],
    matrix: tuple[int, int],
) -> Labels:
    """Put labels on the grid of the series they were drawn on.

    Parameters
    ----------
    labels : numpy.ndarray
        Axes (image, row, column), in order of `images`.
    images : sequence of SliceReference
        As the viewer names them.
    slices : sequence of SliceReference
        The image of each slice of the grid.
    series : collection of str
        SOP Instance UIDs of all images of the series. One that the grid does not use
        (a second copy of a slice) may be named, but must be blank.
    matrix : tuple of int
        Rows and columns of the grid.

    Returns
    -------
    numpy.ndarray
        uint16, axes (slice, row, column).

    Raises
    ------
    MetiaError
        ``invalid-input`` unless every slice is named once, and nothing unknown.
    """
    if labels.shape[1:] != matrix:
        raise MetiaError(
            "invalid-input",
            f"The labels have {labels.shape[1]} x {labels.shape[2]} pixels an image, "
            f"the images {matrix[0]} x {matrix[1]}.",
        )
    named = [_frame(image) for image in images]
    if len(set(named)) != len(named):
        raise MetiaError("invalid-input", "An image is named twice.")
    where = {_frame(image): index for index, image in enumerate(slices)}
    placed = np.zeros((len(slices), *matrix), dtype=np.uint16)
    taken = 0
    for image, plane in zip(named, labels, strict=True):
        index = where.get(image)
        if index is not None:
            placed[index] = plane
            taken += 1
        elif image[0] not in series:
            raise MetiaError("invalid-input", "An image is not of this series.")
        elif plane.any():
            raise MetiaError(
                "invalid-input", "Labels lie on an image that is no slice of the grid."
            )
    if taken != len(slices):
        raise MetiaError(
            "invalid-input",
            f"{len(slices) - taken} of {len(slices)} slices are not among the images; "
            "name every one, as what is left out would be lost.",
            {"slices": len(slices), "missing": len(slices) - taken},
        )
    return placed


def _frame(image: SliceReference) -> tuple[str, int]:
    """Name a frame; the only one of a single-frame image is its first."""
    return image.sop_instance_uid, image.frame_number or 1


def digest(labels: Labels) -> str:
    """Hash a label map on its grid, hexadecimal."""
    hashed = hashlib.sha256(str(labels.shape).encode())
    hashed.update(np.ascontiguousarray(labels, dtype="<u2").data)
    return hashed.hexdigest()


def unchanged(new: Labels, old: Labels, pairs: Mapping[int, int]) -> set[int]:
    """Find which of `pairs` (number in `new`, number in `old`) have the same voxels."""
    where = np.flatnonzero((new != 0) | (old != 0))
    both = new.ravel()[where].astype(np.uint32) << 16 | old.ravel()[where]
    met: dict[int, set[int]] = {}
    met_by: dict[int, set[int]] = {}
    for one in np.unique(both).tolist():
        met.setdefault(one >> 16, set()).add(one & 0xFFFF)
        met_by.setdefault(one & 0xFFFF, set()).add(one >> 16)
    return {
        number
        for number, before in pairs.items()
        if met.get(number) == {before} and met_by.get(before) == {number}
    }
