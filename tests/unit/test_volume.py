"""From images to a volume: what loads, how it lies, what is refused in which words."""

from __future__ import annotations

import copy
import io
import re
import warnings

import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)

from errors import MetiaError
from orthanc import geometry, volume
from orthanc.codestream import codestream_size
from orthanc.volume import load_series
from segmentation.dicom.seg import build_segmentation, identify
from segmentation.lesions import find_lesions
from tests.mr_series import ROOT, enhanced_image, mr_series, stored_values
from tests.seg_sources import MODEL, PARAMETERS

OBLIQUE = tuple(
    np.linalg.qr(np.array([[1, 0.2, 0.1], [-0.1, 1, 0.3], [0.3, 0.1, 1]]))[0][
        :, :2
    ].T.ravel()
)


def refused(instances, *, require_head_t1: bool = True) -> MetiaError:
    with pytest.raises(MetiaError) as caught:
        load_series(instances, require_head_t1=require_head_t1)
    return caught.value


# -- geometry and values ---------------------------------------------------------


@pytest.mark.parametrize("orientation", [
    (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1),
    (-1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), OBLIQUE,
])  # fmt: skip
def test_geometry_equals_highdicom(orientation):
    series = mr_series(7, orientation=orientation, spacing=(1.5, 0.7, 0.9))
    loaded = load_series(series)
    oracle = hd.get_volume_from_series(series)
    np.testing.assert_allclose(loaded.volume.affine, oracle.affine, atol=1e-6)
    np.testing.assert_allclose(loaded.volume.array, oracle.array)
    assert loaded.volume.frame_of_reference_uid == f"{ROOT}.5"
    assert loaded.volume.array.dtype == np.float32


def test_each_voxel_lies_where_its_image_says():
    series = mr_series(5, orientation=OBLIQUE)
    loaded = load_series(series)
    by_uid = {image.SOPInstanceUID: image for image in series}
    for index, reference in enumerate(loaded.slices):
        image = by_uid[reference.sop_instance_uid]
        place = loaded.volume.affine @ [index, 0, 0, 1]
        np.testing.assert_allclose(
            place[:3], list(map(float, image.ImagePositionPatient)), atol=1e-6
        )
        np.testing.assert_array_equal(loaded.volume.array[index], image.pixel_array)
        assert reference.frame_number is None


def test_instance_numbers_do_not_order_the_slices():
    series = mr_series(6)
    expected = load_series(series).volume.array
    for number, image in enumerate(reversed(series)):
        image.InstanceNumber = number
    np.testing.assert_array_equal(load_series(series).volume.array, expected)


def test_slope_and_intercept_apply_per_slice():
    series = mr_series(4)
    for index, image in enumerate(series):
        image.RescaleSlope = str(0.5 + index)
        image.RescaleIntercept = str(-1000 * index)
    loaded = load_series(series)
    oracle = hd.get_volume_from_series(series, apply_modality_transform=True)
    np.testing.assert_allclose(loaded.volume.array, oracle.array, rtol=1e-6)
    assert loaded.volume.array.min() < 0


def test_private_scaling_and_real_world_values_are_not_applied():
    series = mr_series(4)
    expected = load_series(series).volume.array
    for image in series:
        block = image.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", 0.01)
        mapping = pydicom.Dataset()
        mapping.RealWorldValueSlope = 7.0
        mapping.RealWorldValueIntercept = 1.0
        mapping.RealWorldValueFirstValueMapped = 0
        mapping.RealWorldValueLastValueMapped = 65535
        image.RealWorldValueMappingSequence = [mapping]
    np.testing.assert_array_equal(load_series(series).volume.array, expected)


@pytest.mark.parametrize(("signed", "stored", "allocated"), [
    (True, 16, 16), (True, 12, 16), (False, 12, 16), (False, 8, 8), (True, 16, 32),
])  # fmt: skip
def test_signed_unsigned_and_short_depths(signed, stored, allocated):
    limit = 2**stored
    low, high = (-limit // 2, limit // 2) if signed else (0, limit)
    values = np.random.default_rng(1).integers(low, high, (4, 8, 6))
    values.flat[:2] = low, high - 1
    series = mr_series(4, values=values, signed=signed, bits_stored=stored,
                       bits_allocated=allocated)  # fmt: skip
    loaded = load_series(series)
    np.testing.assert_array_equal(np.sort(loaded.volume.array, axis=None),
                                  np.sort(values, axis=None))  # fmt: skip


@pytest.mark.parametrize("signed", [True, False])
def test_bits_above_the_stored_ones_are_ignored(signed):
    values = stored_values((4, 8, 6)) - (500 if signed else 0)
    clean = load_series(mr_series(4, values=values, signed=signed, bits_stored=12))
    dirty = mr_series(4, values=values, signed=signed, bits_stored=12)
    for image in dirty:
        words = np.frombuffer(image.PixelData, "<u2")
        image.PixelData = ((words & 0x0FFF) | 0x5000).astype("<u2").tobytes()
    np.testing.assert_array_equal(load_series(dirty).volume.array, clean.volume.array)


@pytest.mark.parametrize("syntax", [
    ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian,
    RLELossless,
])  # fmt: skip
def test_transfer_syntaxes_give_the_same_volume(syntax):
    series = mr_series(4, signed=True, values=stored_values((4, 8, 6)) - 500)
    expected = load_series(series)
    written = []
    for image in series:
        if syntax == RLELossless:
            image.compress(RLELossless)
        elif syntax == ExplicitVRBigEndian:
            image.PixelData = (
                np.frombuffer(image.PixelData, "<i2").astype(">i2").tobytes()
            )
        image.file_meta.TransferSyntaxUID = syntax
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, image, enforce_file_format=True,
                         implicit_vr=syntax == ImplicitVRLittleEndian,
                         little_endian=syntax != ExplicitVRBigEndian)  # fmt: skip
        buffer.seek(0)
        written.append(pydicom.dcmread(buffer))
    loaded = load_series(written)
    np.testing.assert_array_equal(loaded.volume.array, expected.volume.array)
    assert loaded.facts["pixel_sha256"] == expected.facts["pixel_sha256"]
    assert loaded.facts["transfer_syntaxes"] == [str(syntax)]


def test_without_file_meta_little_endian_is_assumed():
    series = mr_series(4)
    expected = load_series(series).volume.array
    for image in series:
        del image.file_meta
    np.testing.assert_array_equal(load_series(series).volume.array, expected)


def test_the_instances_given_are_not_changed():
    series = mr_series(4, orientation=OBLIQUE)
    before = [image.to_json() for image in series]
    load_series(series)
    assert [image.to_json() for image in series] == before


# -- Enhanced multi-frame -----------------------------------------------------------


def test_enhanced_equals_classic_in_any_frame_order():
    classic = mr_series(5, orientation=OBLIQUE)
    for index, image in enumerate(classic):
        image.RescaleSlope = str(1 + index)
        image.RescaleIntercept = "3"
    expected = load_series(classic)
    order = [3, 0, 4, 1, 2]
    loaded = load_series([enhanced_image(classic, order)])
    np.testing.assert_allclose(loaded.volume.array, expected.volume.array)
    np.testing.assert_allclose(loaded.volume.affine, expected.volume.affine, atol=1e-6)
    assert len(loaded.source_images) == 1
    uids = [f"{ROOT}.3.{order[ref.frame_number - 1] + 1}" for ref in loaded.slices]
    assert uids == [ref.sop_instance_uid for ref in expected.slices]


@pytest.mark.parametrize(("keyword", "value", "code"), [
    ("StackID", "2", "volume-mixed-geometry"),
    ("TemporalPositionIndex", 2, "volume-duplicate-slice"),
])  # fmt: skip
def test_several_stacks_or_times_in_one_object(keyword, value, code):
    image = enhanced_image(mr_series(6), range(6))
    for group in image.PerFrameFunctionalGroupsSequence[3:]:
        setattr(group.FrameContentSequence[0], keyword, value)
    assert refused([image]).code == code


def test_several_echoes_in_one_object():
    image = enhanced_image(mr_series(6), range(6))
    for index, group in enumerate(image.PerFrameFunctionalGroupsSequence):
        echo = pydicom.Dataset()
        echo.EffectiveEchoTime = 2.0 + index % 2
        group.MREchoSequence = [echo]
    assert refused([image]).code == "volume-duplicate-slice"


def test_lying_number_of_frames():
    image = enhanced_image(mr_series(6), range(6))
    image.NumberOfFrames = 5
    assert refused([image]).code == "volume-bad-pixels"


def test_two_multiframe_objects_are_refused():
    image = enhanced_image(mr_series(6), range(6))
    assert refused([image, copy.deepcopy(image)]).code == "volume-mixed-geometry"


# -- what is missing, doubled or odd -----------------------------------------------


def test_nothing():
    assert refused([]).code == "volume-empty"


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_slices(count):
    assert refused(mr_series(count)).code == "volume-single-slice"


def test_a_missing_slice_is_named_with_its_place():
    series = mr_series(10, spacing=(1.5, 1, 1))
    del series[4]
    error = refused(series)
    assert error.code == "volume-missing-slice"
    assert "1 slice is missing of 10" in error.detail
    assert "7.5 mm" in error.detail  # from the first slice, which is the last one here
    assert error.facts == {"missing": 1}


def test_several_missing_slices_are_counted():
    series = mr_series(12)
    kept = [image for index, image in enumerate(series) if index not in (3, 4, 8)]
    error = refused(kept)
    assert error.code == "volume-missing-slice"
    assert error.facts == {"missing": 3}


def test_one_of_four_slices_missing():
    series = mr_series(4)
    del series[1]
    assert refused(series).code == "volume-missing-slice"


def test_uneven_distances():
    series = mr_series(6)
    series[3].ImagePositionPatient[2] = "36.7"
    assert refused(series).code == "volume-mixed-geometry"


def test_another_image_at_the_same_place():
    series = mr_series(5)
    twin = copy.deepcopy(series[2])
    twin.SOPInstanceUID = f"{ROOT}.9"
    twin.PixelData = series[3].PixelData
    error = refused([*series, twin])
    assert error.code == "volume-duplicate-slice"
    assert error.facts == {"duplicates": 1}


def test_identical_copies_are_dropped_with_a_warning():
    series = mr_series(5)
    expected = load_series(series)
    twin = copy.deepcopy(series[2])
    twin.SOPInstanceUID = f"{ROOT}.9"
    loaded = load_series([twin, *series, copy.deepcopy(series[0])])
    np.testing.assert_array_equal(loaded.volume.array, expected.volume.array)
    assert loaded.slices == expected.slices
    assert len(loaded.source_images) == 5
    assert any("identical" in warning for warning in loaded.warnings)


def test_a_localizer_among_the_slices():
    series = mr_series(5)
    localizer = mr_series(1, orientation=(0, 1, 0, 0, 0, -1))[0]
    localizer.SOPInstanceUID = f"{ROOT}.9"
    error = refused([*series, localizer])
    assert error.code == "volume-mixed-geometry"
    assert "1 of 6 images differ in orientation" in error.detail


@pytest.mark.parametrize(("keyword", "value", "word"), [
    ("Rows", 4, "size"), ("PixelSpacing", ["1", "0.6"], "spacing"),
    ("SeriesInstanceUID", f"{ROOT}.8", "series"),
    ("FrameOfReferenceUID", f"{ROOT}.8", "frames of reference"),
    ("StudyInstanceUID", f"{ROOT}.8", "studies"), ("PatientID", "OTHER", "patients"),
])  # fmt: skip
def test_mixed_images(keyword, value, word):
    series = mr_series(5)
    setattr(series[1], keyword, value)
    error = refused(series)
    assert error.code == "volume-mixed-geometry"
    assert word in error.detail
    assert "OTHER" not in error.detail


def shifted(series, per_slice_mm: float):
    for index, image in enumerate(series):
        image.ImagePositionPatient[1] = f"{20 + index * per_slice_mm:.10g}"
    return series


def test_tilt_beyond_the_tolerance():
    error = refused(shifted(mr_series(20), 0.05))
    assert error.code == "volume-sheared"
    assert "0.95 mm" in error.detail


def test_tilt_within_the_tolerance_is_recorded():
    loaded = load_series(shifted(mr_series(20), 1e-4))
    assert loaded.facts["drift_mm"] == pytest.approx(19e-4, abs=1e-6)
    assert loaded.facts["tilt_deg"] == pytest.approx(np.degrees(1e-4 / 2), rel=1e-3)


@pytest.mark.parametrize(("spacing_mm", "limit_mm"), [(1.5, 0.1), (0.5, 0.05)])
def test_jitter_tolerance(spacing_mm, limit_mm):
    def jittered(amount: float):
        series = mr_series(10, spacing=(spacing_mm, 1, 1))
        value = float(series[4].ImagePositionPatient[2]) + amount
        series[4].ImagePositionPatient[2] = f"{value:.10g}"
        return series

    loaded = load_series(jittered(limit_mm * 0.9))
    assert loaded.facts["position_jitter_mm"] == pytest.approx(limit_mm * 0.9)
    assert refused(jittered(limit_mm * 1.1)).code == "volume-mixed-geometry"


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient"])
def test_no_position(keyword):
    series = mr_series(4)
    del series[2][keyword]
    assert refused(series).code == "volume-no-position"
    series = mr_series(4)
    series[2][keyword].value = None
    assert refused(series).code == "volume-no-position"


def test_unreadable_position():
    series = mr_series(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        element = pydicom.DataElement("ImagePositionPatient", "LO", ["a", "b", "c"])
        element.VR = "DS"
        series[2]["ImagePositionPatient"] = element
    assert refused(series).code == "volume-no-position"


@pytest.mark.parametrize("attributes", [
    dict(PixelSpacing=["0", "1"]), dict(PixelSpacing=["-1", "1"]),
    dict(PixelSpacing=["1000000", "1"]), dict(PixelSpacing=["0.000001", "1"]),
    dict(PixelSpacing=["1"]), dict(PixelSpacing=None),
    dict(ImageOrientationPatient=["0"] * 6),
    dict(ImageOrientationPatient=["1", "0", "0", "1", "0", "0"]),
    dict(ImageOrientationPatient=["2", "0", "0", "0", "2", "0"]),
])  # fmt: skip
def test_absurd_geometry(attributes):
    assert refused(mr_series(5, **attributes)).code == "volume-absurd-geometry"


@pytest.mark.parametrize("spacing", [(0.05, 1, 1), (100.0, 1, 1), (15.0, 1, 1)])
def test_absurd_distances_and_extents(spacing):
    assert refused(mr_series(50, spacing=spacing)).code == "volume-absurd-geometry"


# -- objects of another kind ---------------------------------------------------------


@pytest.mark.parametrize("require_head_t1", [True, False])
@pytest.mark.parametrize(("attributes", "code"), [
    (dict(Modality="CT"), "volume-not-mr"),
    (dict(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), "volume-not-mr"),
    (dict(SOPClassUID="1.2.840.10008.5.1.4.1.1.4.2"), "volume-not-mr"),
    (dict(SamplesPerPixel=3), "volume-colour"),
    (dict(PhotometricInterpretation="PALETTE COLOR"), "volume-colour"),
    (dict(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "volume-mosaic"),
])  # fmt: skip
def test_not_an_mr_image(attributes, code, require_head_t1):
    error = refused(mr_series(4, **attributes), require_head_t1=require_head_t1)
    assert error.code == code


@pytest.mark.parametrize("attributes", [
    dict(SeriesDescription="AX T2 FLAIR"), dict(SeriesDescription="T2 TSE"),
    dict(SeriesDescription="T1 SPINE GADO"),
    dict(SeriesDescription="T1", BodyPartExamined="PELVIS"),
])  # fmt: skip
def test_what_says_it_is_no_head_t1_needs_a_person(attributes):
    assert refused(mr_series(5, **attributes)).code == "volume-not-head-t1"
    loaded = load_series(mr_series(5, **attributes), require_head_t1=False)
    assert loaded.volume.shape == (5, 8, 6)


def test_what_does_not_say_is_taken_with_a_warning():
    series = mr_series(5, SeriesDescription="", BodyPartExamined="")
    assert any("contrast" in text for text in load_series(series).warnings)


# -- what is odd, but no reason to refuse -------------------------------------


def head(slices: int = 40, cut: int = 0) -> list:
    """A bright ball in air, 2 mm slices; the last `cut` slices are not there."""
    offsets = [
        (np.arange(size) - (size - 1) / 2) / (size / 2) for size in (slices, 40, 40)
    ]
    squares = np.meshgrid(*[offset**2 for offset in offsets], indexing="ij")
    ball = sum(squares) < 0.8
    values = np.where(ball, 500, 3) + stored_values((slices, 40, 40)) // 200
    images = mr_series(slices, rows=40, columns=40, spacing=(2.5, 5, 5), values=values)
    return images[: slices - cut]


def test_a_whole_head_needs_no_caution():
    assert load_series(head()).warnings == ()


@pytest.mark.parametrize(("change", "words"), [
    (dict(SliceThickness="2"), "gaps of 0.5 mm"),
    (dict(SpacingBetweenSlices="1.25"), "missing throughout"),
    (dict(LossyImageCompression="01"), "with loss"),
    (dict(SeriesDescription="T1"), "contrast agent"),
])  # fmt: skip
def test_headers_that_call_for_caution(change, words):
    images = head()
    for image in images:
        for keyword, value in change.items():
            setattr(image, keyword, value)
    assert any(words in text for text in load_series(images).warnings)


def test_a_head_cut_off_at_the_top_and_not_at_the_neck():
    assert any("cut off" in text for text in load_series(head(60, cut=20)).warnings)
    assert load_series(head(60)[20:]).warnings == ()


def test_blank_slices_within_and_thick_slices():
    images = head()
    images[7].PixelData = bytes(len(images[7].PixelData))
    assert load_series(images).warnings == ("1 of 40 slices are blank.",)
    thick = load_series(mr_series(20, spacing=(6, 1, 1))).warnings
    assert any("6.0 mm apart" in text for text in thick)
    assert any("only 10 mm" in text for text in load_series(mr_series(5)).warnings)


# -- pixels that cannot be used -------------------------------------------------------


@pytest.mark.parametrize("attributes", [
    dict(RescaleSlope="0"), dict(RescaleSlope="1e300", RescaleIntercept="1e308"),
    dict(PhotometricInterpretation="MONOCHROME1"), dict(BitsStored=17),
    dict(BitsStored=0), dict(HighBit=11), dict(PixelRepresentation=2),
    dict(BitsAllocated=1, BitsStored=1, HighBit=0),
])  # fmt: skip
def test_unusable_pixels(attributes):
    assert refused(mr_series(4, **attributes)).code == "volume-bad-pixels"


def test_constant_image():
    series = mr_series(4, values=np.full((4, 8, 6), 7))
    assert refused(series).code == "volume-bad-pixels"


def test_no_pixels():
    series = mr_series(4)
    del series[1].PixelData
    assert refused(series).code == "volume-bad-pixels"


@pytest.mark.parametrize("change", [lambda data: data[:-2], lambda data: data + b"12",
                                    lambda data: b""])  # fmt: skip
def test_truncated_or_overlong_pixels(change):
    series = mr_series(4)
    series[1].PixelData = change(series[1].PixelData)
    assert refused(series).code == "volume-bad-pixels"


def test_lying_rows_in_every_image():
    assert refused(mr_series(4, Rows=7)).code == "volume-bad-pixels"
    assert refused(mr_series(4, Rows=9)).code == "volume-bad-pixels"


def test_absurd_size_is_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(volume, "decode", lambda *_: pytest.fail("decoded"))
    series = mr_series(5, Rows=60000, Columns=60000)
    assert refused(series).code == "volume-too-large"


def test_a_compression_that_is_not_available():
    series = mr_series(4)
    for image in series:
        image.file_meta.TransferSyntaxUID = JPEGLossless
    assert refused(series).code == "volume-undecodable"


def test_broken_compressed_pixels():
    series = mr_series(4)
    for image in series:
        image.compress(RLELossless)
    series[2].PixelData = series[2].PixelData[:40]
    assert refused(series).code == "volume-bad-pixels"


def test_frames_without_positions():
    series = mr_series(4, rows=16)
    for image in series:
        image.NumberOfFrames = 2
        image.Rows = 8
    assert refused(series).code == "volume-no-position"


def compressed(image, syntax):
    if syntax == JPEGLSLossless:
        image.compress(syntax)
        return
    buffer = io.BytesIO()
    Image.fromarray(image.pixel_array).save(buffer, "JPEG2000", no_jp2=True)
    image.PixelData = encapsulate([buffer.getvalue()])
    image["PixelData"].VR = "OB"
    image.file_meta.TransferSyntaxUID = syntax


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_a_compressed_image_of_another_size_is_not_decoded(syntax, monkeypatch):
    series = mr_series(4, rows=64, columns=48)
    expected = load_series(series).volume.array
    for image in series:
        compressed(image, syntax)
    np.testing.assert_array_equal(load_series(series).volume.array, expected)
    for image in series:
        image.Rows, image.Columns = 48, 64
    monkeypatch.setattr(
        "orthanc.pixels.pixel_array", lambda *_, **__: pytest.fail("decoded")
    )
    assert refused(series).code == "volume-bad-pixels"


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_codestream_head_is_read_or_given_up(content):
    for head in (b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd8\xff\xc0"):
        codestream_size(head + content)


def test_compressed_pixels_of_another_size():
    series, larger = mr_series(4), mr_series(4, rows=80, columns=60)
    for image, other in zip(series, larger, strict=True):
        other.compress(RLELossless)
        image.PixelData = other.PixelData
        image["PixelData"].VR = "OB"
        image.file_meta.TransferSyntaxUID = RLELossless
    assert refused(series).code == "volume-bad-pixels"


# -- headers to make a SEG from ----------------------------------------------


def segment(loaded):
    mask = (loaded.volume.array > 500).astype(np.uint8)
    from pydicom.sr.codedict import codes

    description = hd.seg.SegmentDescription(
        1, "lesion", codes.SCT.Tissue, codes.SCT.Tissue,
        hd.seg.SegmentAlgorithmTypeValues.MANUAL)  # fmt: skip
    written = hd.seg.Segmentation(
        source_images=loaded.source_images, pixel_array=loaded.volume.with_array(mask),
        segmentation_type="BINARY", segment_descriptions=[description],
        series_instance_uid=f"{ROOT}.60", series_number=9,
        sop_instance_uid=f"{ROOT}.61", instance_number=1, manufacturer="T",
        manufacturer_model_name="T", software_versions="1", device_serial_number="1",
        omit_empty_frames=False)  # fmt: skip
    buffer = io.BytesIO()
    written.save_as(buffer)
    buffer.seek(0)
    return hd.seg.segread(buffer), mask


def referenced(seg):
    return [
        group.DerivationImageSequence[0].SourceImageSequence[0]
        for group in seg.PerFrameFunctionalGroupsSequence
    ]


def reread(image, charset, name: bytes):
    """Write an image and read it back with these bytes as its patient's name."""
    stated = [charset or ""] if isinstance(charset, str | None) else charset
    declared = "\\".join(stated).encode()
    place = b"Z" * (len(declared) + len(declared) % 2)
    image.PatientName = place_of(name).decode()
    image.SpecificCharacterSet = "ISO_IR 100"
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue()
    head, tail = data[:132], data[132:]
    old = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"
    assert old in tail
    new = b"\x08\x00\x05\x00CS" + len(place).to_bytes(2, "little")
    new += declared.ljust(len(place))
    tail = tail.replace(old, new if charset is not None else b"")
    tail = tail.replace(place_of(name), name.ljust(len(place_of(name))))
    return pydicom.dcmread(io.BytesIO(head + tail))


def place_of(name: bytes) -> bytes:
    return b"Y" * (len(name) + len(name) % 2)


@pytest.mark.parametrize(("charset", "name", "expected"), [
    (["", "ISO 2022 IR 87"], b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
     "Yamada^Tarou=山田^太郎"),
    ("ISO_IR 6", b"Plain^Name", "Plain^Name"),
    ("ISO_IR 126", "Διονυσιος".encode("iso8859-7"), "Διονυσιος"),
    ("ISO_IR 144", "Люкceмбypг".encode("iso8859-5"), "Люкceмбypг"),
    ("ISO_IR 100", "Äneas^Rüdiger".encode("latin-1"), "Äneas^Rüdiger"),
    ("ISO_IR 192", "山田^太郎".encode(), "山田^太郎"),
    ("ISO_IR 100", b"x" * 100, "x" * 100),
    ("ISO_IR 192", b"\xff\xfe\x80", None),
    ("ISO_IR 6", "Rüdiger".encode("latin-1"), None),
    (None, "Rüdiger".encode("latin-1"), None),
    ("ISO_IR 999", b"Plain^Name", None),
    (["ISO 2022 IR 6", "ISO 2022 IR 149"],
     b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce", None),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_character_sets_reach_the_seg(charset, name, expected):
    series = [reread(image, charset, name) for image in mr_series(5)]
    seg, _ = segment(load_series(series))
    assert seg.SpecificCharacterSet == "ISO_IR 192"
    assert seg.PatientID == "PHANTOM"
    if expected is not None:
        assert str(seg.PatientName).rstrip() == expected


def test_missing_type_2_attributes_and_broken_dates_do_no_harm():
    series = mr_series(5)
    for image in series:
        for keyword in ("PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber",
                        "ReferringPhysicianName", "FrameOfReferenceUID",
                        "PatientName"):  # fmt: skip
            del image[keyword]
        image.PatientSex = "X"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image["StudyDate"] = pydicom.DataElement("StudyDate", "LO", "1.2.2020")
            image["StudyDate"].VR = "DA"
    loaded = load_series(series)
    seg, _ = segment(loaded)
    assert any("frame of reference" in text for text in loaded.warnings)
    assert seg.FrameOfReferenceUID == loaded.volume.frame_of_reference_uid
    assert seg.StudyDate == ""


def test_every_seg_frame_refers_to_its_slice_despite_jitter_and_drift():
    series = mr_series(9, orientation=OBLIQUE)
    random = np.random.default_rng(3)
    for image in series:
        moved = np.array(image.ImagePositionPatient, float) + random.normal(0, 0.01, 3)
        image.ImagePositionPatient = [f"{value:.8g}" for value in moved]
    loaded = load_series(series)
    seg, mask = segment(loaded)
    found = [item.ReferencedSOPInstanceUID for item in referenced(seg)]
    assert found == [reference.sop_instance_uid for reference in loaded.slices]
    np.testing.assert_array_equal(seg.pixel_array.reshape(mask.shape), mask)


def test_every_seg_frame_refers_to_its_frame_of_an_enhanced_image():
    loaded = load_series([enhanced_image(mr_series(5), [3, 0, 4, 1, 2])])
    seg, _ = segment(loaded)
    found = [item.ReferencedFrameNumber for item in referenced(seg)]
    assert found == [reference.frame_number for reference in loaded.slices]


def test_source_images_hold_no_pixels():
    for source in load_series(mr_series(4)).source_images:
        assert "PixelData" not in source


@pytest.mark.parametrize(
    "change",
    [
        dict(Modality="CT"),
        dict(Rows=7),
        dict(SamplesPerPixel=3),
        dict(PixelSpacing=["0", "0"]),
        dict(SeriesDescription="T2 ZZNAME"),
    ],
)
def test_no_error_repeats_an_identifier(change):
    error = refused(mr_series(4, PatientName="ZZNAME", PatientID="ZZNAME", **change))
    assert "ZZNAME" not in f"{error} {error.facts}"
    assert ROOT not in f"{error} {error.facts}"


def test_tolerances_are_the_documented_ones():
    assert geometry.POSITION_TOLERANCE_MM == 0.1
    assert geometry.DRIFT_TOLERANCE_MM == 0.25
    assert geometry.MINIMUM_SLICES == 3


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SeriesNumber", b"3\\4 "),
        ("SeriesNumber", b"abc "),
        ("SeriesNumber", b"99999999999999999999999 "),
        ("SliceThickness", b"abc "),
        ("SpacingBetweenSlices", b"1,5 "),
        ("LossyImageCompressionRatio", b"high"),
        ("FrameOfReferenceUID", b"1.2.3\\1.2.4 "),
        ("FrameOfReferenceUID", b"not a uid "),
        ("PatientName", b"AB\x00CD^E "),
    ],
)
@pytest.mark.parametrize("enhanced", [False, True])
def test_broken_header_values_do_no_harm_to_derived_objects(
    keyword: str, value: bytes, enhanced: bool
) -> None:
    series = mr_series(6, rows=16, columns=16)
    if enhanced:
        series = [enhanced_image(series, range(6))]
    tag = Tag(keyword)
    for image in series:
        holder = image
        if enhanced and keyword in ("SliceThickness", "SpacingBetweenSlices"):
            shared = image.SharedFunctionalGroupsSequence[0]
            holder = shared.PixelMeasuresSequence[0]
        raw = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
        holder._dict[tag] = raw

    loaded = load_series(series)

    probability = np.zeros(loaded.volume.shape, np.float32)
    probability[2:4, 4:9, 5:9] = 1.0
    found = find_lesions(
        loaded.volume.with_array(probability), threshold=0.5, minimum_volume_mm3=0.0
    )
    identity = identify("1.2.3", MODEL, PARAMETERS, len(found.lesions))
    segmentation = build_segmentation(
        loaded.source_images, found, MODEL, identity, PARAMETERS
    )
    assert segmentation.FrameOfReferenceUID == loaded.volume.frame_of_reference_uid
    assert re.fullmatch(r"[0-9.]+", segmentation.FrameOfReferenceUID)
    assert isinstance(loaded.source_images[0].get("SeriesNumber", 0), int)
    assert "\0" not in str(loaded.source_images[0].PatientName)


def test_an_empty_number_of_frames_says_nothing() -> None:
    assert load_series(mr_series(5, NumberOfFrames=None)).volume.shape[0] == 5


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_image_of_several_series_is_refused(keyword: str) -> None:
    series = mr_series(5, **{keyword: [f"{ROOT}.8", f"{ROOT}.9"]})
    assert refused(series).code == "volume-mixed-geometry"
