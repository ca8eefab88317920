"""Key images: the lesion is in the middle, its outline and axes lie on it."""

from __future__ import annotations

from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from errors import MetiaError
from segmentation.dicom.seg import build_segmentation, identify
from segmentation.exports.pictures import (
    LARGEST_MM,
    SMALLEST_MM,
    TILE,
    KeyImage,
    SegmentOutlines,
    key_image,
    read_slice,
)
from segmentation.lesions import Lesion, LesionMap, find_lesions
from tests import seg_sources as sources

BRIGHT, DARK = 900, 100
SHAPE = (9, 64, 72)
GRIDS = {
    "axial": sources.grid(SHAPE, (2.0, 1.0, 0.8)),
    "flipped": sources.grid(SHAPE, axes=sources.AXIAL * [1, -1, -1]),
    "sagittal": sources.grid(SHAPE, (1.0, 1.0, 1.0), axes=sources.SAGITTAL),
    "oblique": sources.grid(SHAPE, (1.0, 1.0, 1.0), axes=sources.oblique(24)),
}


def _drawn(geometry: hd.VolumeGeometry) -> LesionMap:
    """Draw one ellipsoid, off the middle."""
    index = np.moveaxis(np.indices(SHAPE), 0, -1)
    centre = np.array([4, 30, 26])
    distance = (index - centre) * geometry.spacing / (5.0, 7.0, 9.0)
    values = np.clip(1.5 - np.linalg.norm(distance, axis=-1), 0, 1)
    return find_lesions(
        geometry.with_array(values.astype(np.float32)),
        threshold=0.5,
        minimum_volume_mm3=0.0,
    )


def _pixels(image: Dataset, stack: np.ndarray) -> None:
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.Rows, image.Columns = stack.shape[-2:]
    image.PixelData = stack.astype("<u2").tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _material(
    geometry: hd.VolumeGeometry, *, enhanced: bool = False
) -> tuple[LesionMap, list[Dataset], Any]:
    found = _drawn(geometry)
    stack = np.where(found.labels.array > 0, BRIGHT, DARK)
    if enhanced:
        image = sources.enhanced_image(geometry)
        _pixels(image, stack)
        images = [image]
    else:
        images = sources.classic_series(geometry)
        for image, plane in zip(images, stack, strict=True):
            _pixels(image, plane)
    identity = identify("1.2.3", sources.MODEL, sources.PARAMETERS, 1)
    made = build_segmentation(
        images, found, sources.MODEL, identity, sources.PARAMETERS
    )
    return found, images, made


def _axes(lesion: Lesion) -> tuple[Any, Any]:
    return lesion.long_axis_mm, lesion.short_axis_mm


def _made(name: str, *, enhanced: bool = False) -> tuple[KeyImage, Lesion]:
    found, images, segmentation = _material(GRIDS[name], enhanced=enhanced)
    lesion = found.lesions[0]
    index = lesion.slice_index
    image = read_slice(
        images[0 if enhanced else index], index + 1 if enhanced else None
    )
    outlines = SegmentOutlines(segmentation)
    made = key_image("M1", (230, 159, 0), image, outlines, 1, _axes(lesion))
    return made, lesion


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("name", ["axial", "flipped"])
def test_outline_and_axes_lie_on_the_lesion(name: str, enhanced: bool) -> None:
    made, lesion = _made(name, enhanced=enhanced)
    assert not made.tilted
    assert made.grey.shape == (TILE, TILE)
    # The axes end on the outline, and are as long as was measured.
    (outline,) = made.outlines
    line = np.array(outline)
    for axis, length_mm in (
        (made.long_axis, lesion.longest_diameter_mm),
        (made.short_axis, lesion.perpendicular_diameter_mm),
    ):
        ends = np.array(axis)
        assert np.linalg.norm(ends[1] - ends[0]) / made.scale * 10 == pytest.approx(
            length_mm, abs=0.01
        )
        for end in ends:
            off_mm = np.linalg.norm(line - end, axis=1).min() / made.scale * 10
            assert off_mm < 1.2
    # Bright inside of the outline, dark outside.
    rows, columns = np.indices((TILE, TILE))
    middle = line.mean(axis=0) * TILE
    radius = np.linalg.norm(line * TILE - middle, axis=1)
    distance = np.hypot(columns - middle[0], rows - middle[1])
    assert made.grey[distance < radius.min() - 8].min() > 200
    assert made.grey[distance > radius.max() + 8].max() < 60


def test_sides_are_those_of_the_patient() -> None:
    assert _made("axial")[0].sides == ("R", "L", "A", "P")
    assert _made("flipped")[0].sides == ("L", "R", "P", "A")
    assert _made("sagittal")[0].sides == ("A", "P", "H", "F")


@pytest.mark.parametrize("name", ["sagittal", "oblique"])
def test_axes_out_of_the_slice_are_projected_and_said_to_be(name: str) -> None:
    made, lesion = _made(name)
    assert made.tilted
    length = np.linalg.norm(np.subtract(*made.long_axis)) / made.scale * 10
    assert length <= lesion.longest_diameter_mm + 0.01
    assert made.outlines


def test_slice_beside_the_lesion_has_no_outline() -> None:
    found, images, segmentation = _material(GRIDS["axial"])
    outlines = SegmentOutlines(segmentation)
    lesion = found.lesions[0]
    beside = key_image(
        "M1", (1, 2, 3), read_slice(images[-1], None), outlines, 1, _axes(lesion)
    )
    assert beside.outlines == ()
    own = read_slice(images[lesion.slice_index], None)
    other = key_image("M1", (1, 2, 3), own, outlines, 2, _axes(lesion))
    assert other.outlines == ()
    without = key_image("M1", (1, 2, 3), own, None, 1, _axes(lesion))
    assert without.outlines == ()


@pytest.mark.parametrize(("length_mm", "size_mm"), [(2, SMALLEST_MM), (80, LARGEST_MM)])
def test_crop_is_never_a_whole_head(length_mm: float, size_mm: float) -> None:
    _, images, _ = _material(GRIDS["axial"])
    image = read_slice(images[4], None)
    start = image.origin + 20 * image.row + 20 * image.column
    axis = (tuple(start), tuple(start + length_mm * image.row))
    made = key_image("M1", (1, 2, 3), image, None, 1, (axis, axis))
    assert made.scale == pytest.approx(10 / size_mm)


def test_lesion_at_the_border_is_drawn_with_black_beyond() -> None:
    _, images, _ = _material(GRIDS["axial"])
    image = read_slice(images[4], None)
    ends = tuple(tuple(image.origin + shift * image.row) for shift in (-4.0, 4.0))
    made = key_image("M1", (1, 2, 3), image, None, 1, (ends, ends))
    assert not made.grey[: TILE // 2 - 12].any()
    assert not made.grey[:, : TILE // 2 - 12].any()


def test_image_without_the_frame_is_refused() -> None:
    _, images, _ = _material(GRIDS["axial"], enhanced=True)
    with pytest.raises(MetiaError, match="not-found"):
        read_slice(images[0], 10)
    assert read_slice(images[0], 9).frame.frame_number == 9
