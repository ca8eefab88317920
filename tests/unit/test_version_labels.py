"""Labels as a viewer sends them: unpacked within bounds, and put where they belong."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import numpy as np
import pytest

from errors import MetiaError
from orthanc.volume import SliceReference
from segmentation.versions.labels import (
    MOST_VOXELS,
    check_numbers,
    digest,
    place,
    unchanged,
    unpack,
)

SHAPE = (3, 4, 5)
VOXELS = 60
PACKED = gzip.compress(bytes(VOXELS), mtime=0)
"""Without the time of day: the tests named by it must be called the same each time."""


def refusal(function, *arguments) -> str:
    with pytest.raises(MetiaError) as raised:
        function(*arguments)
    assert raised.value.code == "invalid-input"
    return raised.value.detail


# -- unpacking ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["u1", "<u2"])
def test_labels_come_out_as_they_went_in(kind: str) -> None:
    labels = np.arange(VOXELS, dtype=kind).reshape(SHAPE)
    found = unpack(gzip.compress(labels.tobytes()), SHAPE)
    np.testing.assert_array_equal(found, labels)
    assert found.dtype.itemsize == labels.dtype.itemsize


def test_two_bytes_are_little_endian() -> None:
    content = b"\x01\x00" * (VOXELS - 1) + b"\x00\x01"
    assert unpack(gzip.compress(content), SHAPE).ravel()[-1] == 256


@pytest.mark.parametrize("size", [0, 1, 59, 61, 119, 121, 10_000])
def test_other_sizes_are_refused(size: int) -> None:
    assert "bytes" in refusal(unpack, gzip.compress(bytes(size)), SHAPE)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"not gzip at all",
        bytes(VOXELS),
        zlib.compress(bytes(VOXELS)),
        PACKED[:-1],
        PACKED[:-8],
        PACKED[:12],
        PACKED + b"x",
        PACKED * 2,
        PACKED[:-8] + bytes(8),
    ],
)
def test_what_is_not_one_whole_gzip_is_refused(packed: bytes) -> None:
    refusal(unpack, packed, SHAPE)


def test_a_bomb_costs_no_more_than_what_it_says_it_is() -> None:
    bomb = gzip.compress(bytes(500_000_000), 9)
    assert len(bomb) < 1_000_000
    tracemalloc.start()
    assert "more than" in refusal(unpack, bomb, (10, 100, 100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_more_voxels_than_a_head_has_are_refused_unpacked() -> None:
    bomb = gzip.compress(b"")
    assert "voxels are stated" in refusal(unpack, bomb, (MOST_VOXELS + 1, 1, 1))
    assert "voxels are stated" in refusal(unpack, bomb, (4096, 4096, 4096))


# -- numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["u1", "<u2"])
def test_every_number_is_a_segment_and_every_segment_has_voxels(kind: str) -> None:
    labels = np.zeros(SHAPE, kind)
    labels[0, 0, 0], labels[2, 3, 4] = 2, 200
    check_numbers(labels, [2, 200])
    check_numbers(np.zeros(SHAPE, kind), [])
    assert "no segment" in refusal(check_numbers, labels, [2])
    assert "no voxel" in refusal(check_numbers, labels, [1, 2, 200])
    assert "no voxel" in refusal(check_numbers, labels, [2, 200, 60_000])


# -- placing --------------------------------------------------------------------------

SLICES = [SliceReference(f"1.2.{n}", None) for n in range(3)]
SERIES = {"1.2.0", "1.2.1", "1.2.2", "1.2.9"}


def drawn() -> np.ndarray:
    return np.arange(VOXELS, dtype=np.uint16).reshape(SHAPE)


def test_each_image_lies_on_its_own_slice() -> None:
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        images = [SLICES[k] for k in order]
        placed = place(drawn()[order], images, SLICES, SERIES, (4, 5))
        np.testing.assert_array_equal(placed, drawn())
        assert placed.dtype == np.uint16


def test_the_only_frame_may_be_named_by_its_number() -> None:
    images = [SliceReference(one.sop_instance_uid, 1) for one in SLICES]
    np.testing.assert_array_equal(
        place(drawn(), images, SLICES, SERIES, (4, 5)), drawn()
    )


def test_frames_of_one_object_are_told_apart() -> None:
    frames = [SliceReference("1.2", n) for n in (3, 1, 2)]
    images = [SliceReference("1.2", n) for n in (1, 2, 3)]
    placed = place(drawn(), images, frames, {"1.2"}, (4, 5))
    np.testing.assert_array_equal(placed, drawn()[[2, 0, 1]])


@pytest.mark.parametrize(
    ("images", "why"),
    [
        ([SLICES[0], SLICES[1], SLICES[1]], "twice"),
        ([SLICES[0], SLICES[1], SliceReference("1.2.1", 1)], "twice"),
        ([SLICES[0], SLICES[1], SliceReference("1.2.3", None)], "not of this series"),
        ([SLICES[0], SLICES[1], SliceReference("1.2.2", 2)], "no slice of the grid"),
        ([SLICES[0], SLICES[1], SliceReference("1.2.9", None)], "no slice of the grid"),
    ],
)
def test_images_that_are_not_the_slices_are_refused(images, why: str) -> None:
    assert why in refusal(place, drawn() + 1, images, SLICES, SERIES, (4, 5))


def test_a_second_copy_of_a_slice_may_be_named_blank() -> None:
    images = [*SLICES, SliceReference("1.2.9", None)]
    labels = np.concatenate([drawn(), np.zeros((1, 4, 5), np.uint16)])
    placed = place(labels, images, SLICES, SERIES, (4, 5))
    np.testing.assert_array_equal(placed, drawn())


def test_slices_left_out_are_told() -> None:
    assert "1 of 3 slices" in refusal(
        place, drawn()[:2], SLICES[:2], SLICES, SERIES, (4, 5)
    )


def test_images_of_another_size_are_refused() -> None:
    assert "pixels" in refusal(place, drawn(), SLICES, SLICES, SERIES, (5, 4))


# -- comparing ------------------------------------------------------------------------


def test_only_what_has_the_same_voxels_is_unchanged() -> None:
    old = np.zeros(SHAPE, np.uint16)
    old[0, :2], old[1, :2], old[2, :2] = 1, 2, 3
    new = np.zeros(SHAPE, np.uint16)
    new[0, :2], new[1, :3], new[2, :1] = 7, 8, 9
    pairs = {7: 1, 8: 2, 9: 3}
    assert unchanged(new, old, pairs) == {7}
    assert unchanged(old, old, {1: 1, 2: 2, 3: 3}) == {1, 2, 3}
    assert unchanged(old, old, {1: 2, 2: 1}) == set()
    new[0, 0, 0] = 8  # one voxel changes hands
    assert unchanged(new, old, pairs) == set()


def test_the_hash_knows_shape_and_place() -> None:
    labels = drawn()
    assert digest(labels) == digest(labels.copy())
    assert digest(labels) != digest(labels.reshape(3, 5, 4))
    assert digest(labels) != digest(labels[::-1])
