"""What must hold of every series: order is nothing, places are everything."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from scipy.spatial.transform import Rotation

from errors import MetiaError
from orthanc.volume import load_series
from tests.mr_series import enhanced_image, mr_series, stored_values

RELAXED = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
spacings = st.tuples(*[st.floats(0.2, 6.0) for _ in range(3)])
origins = st.tuples(*[st.floats(-200, 200) for _ in range(3)])


def outcome(images) -> str:
    try:
        load_series(images)
    except MetiaError as error:
        return error.code
    return "loads"


@st.composite
def orientations(draw):
    """Any rotation, with any of the signs of rows and columns."""
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    signs = draw(st.sampled_from([(1, 1), (1, -1), (-1, 1), (-1, -1)]))
    return (*(axes[:, 0] * signs[0]), *(axes[:, 1] * signs[1]))


@st.composite
def series(draw, least: int = 4, most: int = 9):
    return mr_series(
        draw(st.integers(least, most)),
        rows=draw(st.integers(1, 7)) * 2,
        columns=draw(st.integers(1, 7)),
        spacing=draw(spacings),
        orientation=draw(orientations()),
        origin=draw(origins),
    )


@RELAXED
@given(series(), st.randoms(use_true_random=False))
def test_any_order_of_instances_gives_the_same_volume(images, random):
    expected = load_series(images)
    shuffled = list(images)
    random.shuffle(shuffled)
    for number, image in enumerate(shuffled):
        image.InstanceNumber = number
    loaded = load_series(shuffled)
    np.testing.assert_array_equal(loaded.volume.array, expected.volume.array)
    np.testing.assert_array_equal(loaded.volume.affine, expected.volume.affine)
    assert loaded.slices == expected.slices
    assert loaded.facts == expected.facts
    assert loaded.warnings == expected.warnings


@RELAXED
@given(series())
def test_every_voxel_lies_where_its_header_says(images):
    loaded = load_series(images)
    by_uid = {image.SOPInstanceUID: image for image in images}
    rows, columns = loaded.volume.shape[1:]
    for index, reference in enumerate(loaded.slices):
        image = by_uid[reference.sop_instance_uid]
        corner = np.array(image.ImagePositionPatient, float)
        along_row = np.array(image.ImageOrientationPatient[:3], float)
        down_column = np.array(image.ImageOrientationPatient[3:], float)
        row_mm, column_mm = map(float, image.PixelSpacing)
        # PS3.3 C.7.6.2.1.1: the far corner of the image in the patient
        far = corner + along_row * column_mm * (columns - 1)
        far = far + down_column * row_mm * (rows - 1)
        place = loaded.volume.affine @ [index, rows - 1, columns - 1, 1]
        np.testing.assert_allclose(place[:3], far, atol=1e-4)
        np.testing.assert_array_equal(loaded.volume.array[index], image.pixel_array)
    axes = loaded.volume.direction
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-8)
    assert np.linalg.det(axes) == pytest.approx(1)


@RELAXED
@given(series())
def test_geometry_equals_simpleitk_in_physical_space(images):
    loaded = load_series(images).volume
    image = sitk.GetImageFromArray(loaded.array)
    image.SetOrigin(loaded.affine[:3, 3])
    image.SetSpacing(loaded.spacing[::-1])
    image.SetDirection(loaded.direction[:, ::-1].ravel())
    index = [size - 1 for size in image.GetSize()]
    ours = loaded.affine @ [*index[::-1], 1]
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint(index), ours[:3], atol=1e-6
    )


@RELAXED
@given(series(), st.lists(st.floats(0.01, 100), min_size=9, max_size=9),
       st.lists(st.floats(-1000, 1000), min_size=9, max_size=9))  # fmt: skip
def test_each_slice_keeps_its_own_rescale(images, slopes, intercepts):
    expected = {}
    for image, slope, intercept in zip(images, slopes, intercepts, strict=False):
        image.RescaleSlope = f"{slope:.8g}"
        image.RescaleIntercept = f"{intercept:.8g}"
        expected[image.SOPInstanceUID] = image.pixel_array * float(
            image.RescaleSlope
        ) + float(image.RescaleIntercept)
    loaded = load_series(images)
    for index, reference in enumerate(loaded.slices):
        np.testing.assert_allclose(
            loaded.volume.array[index],
            expected[reference.sop_instance_uid],
            rtol=1e-6,
            atol=1e-3,
        )


@RELAXED
@given(series(), st.data())
def test_the_enhanced_form_gives_the_same_volume(images, data):
    order = data.draw(st.permutations(range(len(images))))
    expected = load_series(images).volume
    loaded = load_series([enhanced_image(images, order)]).volume
    np.testing.assert_array_equal(loaded.array, expected.array)
    np.testing.assert_allclose(loaded.affine, expected.affine, atol=1e-9)


@RELAXED
@given(series(least=4), st.data())
def test_removing_any_inner_slices_is_refused(images, data):
    inner = range(1, len(images) - 1)
    removed = data.draw(st.sets(st.sampled_from(inner), min_size=1))
    kept = [image for index, image in enumerate(images) if index not in removed]
    gaps = np.diff([index for index in range(len(images)) if index not in removed])
    if len(kept) >= 3 and len(set(gaps)) == 1:
        # every second slice gone is a regular series of its own: only the
        # header's slice thickness tells
        warnings = load_series(kept).warnings
        assert any("gaps" in text for text in warnings)
        return
    with pytest.raises(MetiaError) as caught:
        load_series(kept)
    expected = {"volume-missing-slice"} if len(kept) >= 3 else {"volume-single-slice"}
    assert caught.value.code in expected | {"volume-mixed-geometry"}
    if len(removed) == 1 and len(kept) >= 3:
        assert caught.value.code == "volume-missing-slice"
        assert caught.value.facts == {"missing": 1}


@RELAXED
@given(st.integers(5, 12), st.floats(0.3, 5.0), orientations(),
       st.floats(0.0, 0.9), st.data())  # fmt: skip
def test_jitter_below_the_tolerance_loads_above_is_refused(
    count, distance, orientation, amount, data
):
    tolerance = min(0.1, 0.1 * distance)
    moved = data.draw(st.integers(1, count - 2))
    sign = data.draw(st.sampled_from([-1, 1]))
    normal = np.cross(orientation[:3], orientation[3:])

    def jittered(shift: float):
        images = mr_series(count, spacing=(distance, 1, 1), orientation=orientation)
        place = np.array(images[moved].ImagePositionPatient, float) + shift * normal
        images[moved].ImagePositionPatient = [f"{value:.10g}" for value in place]
        return images

    loaded = load_series(jittered(sign * amount * tolerance))
    assert loaded.facts["position_jitter_mm"] == pytest.approx(
        amount * tolerance, abs=1e-5
    )
    assert loaded.volume.spacing[0] == pytest.approx(distance, abs=1e-5)
    with pytest.raises(MetiaError, match=r"volume-(mixed-geometry|missing-slice)"):
        load_series(jittered(sign * 1.2 * tolerance))


@RELAXED
@given(st.integers(4, 40), orientations(), st.floats(0, 360), st.floats(0.0, 0.8))
def test_tilt_below_the_tolerance_loads_above_is_refused(
    count, orientation, angle_deg, amount
):
    angle = np.radians(angle_deg)
    within = np.cos(angle) * np.array(orientation[:3])
    within = within + np.sin(angle) * np.array(orientation[3:])

    def tilted(total_mm: float):
        images = mr_series(count, orientation=orientation)
        for index, image in enumerate(images):
            shift = within * total_mm * index / (count - 1)
            place = np.array(image.ImagePositionPatient, float) + shift
            image.ImagePositionPatient = [f"{value:.10g}" for value in place]
        return images

    loaded = load_series(tilted(0.25 * amount))
    assert loaded.facts["drift_mm"] == pytest.approx(0.25 * amount, abs=1e-5)
    with pytest.raises(MetiaError, match="volume-sheared"):
        load_series(tilted(0.25 * 1.2))


@RELAXED
@given(st.binary(max_size=200), st.integers(0, 4))
def test_any_pixel_bytes_load_or_are_refused(content, index):
    images = mr_series(5)
    images[index].PixelData = content
    assert outcome(images) in {"loads", "volume-bad-pixels"}


KEYWORDS = [
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows",
    "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SamplesPerPixel", "PhotometricInterpretation", "RescaleSlope", "Modality",
    "RescaleIntercept", "NumberOfFrames", "ImageType", "FrameOfReferenceUID",
    "SOPInstanceUID", "SeriesInstanceUID", "SliceThickness", "SeriesDescription",
    "SpecificCharacterSet", "PatientSex", "StudyDate", "InstanceNumber",
]  # fmt: skip
odd_bytes = st.one_of(
    st.sampled_from(
        [b"", b"x ", b"1e400 ", b"NaN ", b"-1", b"1\\2\\3 ", b"99999999999 ",
         b"\xc3\xa9", b"0\\0", b"0\\0\\0 ",
         b"1\\0\\0\\0\\1\\0 ", b"\\\\", b"\x00\x00", b"\xff\xff",
         b"ISO_IR 100", b"ISO 2022 IR 87 ", b"\x1b$B;3", b"1,5 ", b"inf "]
    ),
    st.binary(max_size=16),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@settings(RELAXED, max_examples=200)
@given(st.sampled_from(KEYWORDS), st.none() | odd_bytes, st.booleans())
@example("SpecificCharacterSet", b"\x00\x01", True)
@example("Rows", b"x", False)
def test_any_broken_attribute_loads_or_is_refused(keyword, content, everywhere):
    """Bytes as a file may hold them; None removes the attribute."""
    images = mr_series(4, values=stored_values((4, 8, 6)))
    tag = Tag(keyword)
    for image in images if everywhere else images[1:2]:
        if content is not None:
            image[tag] = RawDataElement(
                tag, dictionary_VR(tag), len(content), content, 0, False, True
            )
        elif tag in image:
            del image[tag]
    assert outcome(images) == "loads" or outcome(images).startswith("volume-")
