"""The SEG: what it says, that it names itself the same again, what it refuses."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from io import BytesIO

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from segmentation.dicom import codes
from segmentation.dicom.seg import (
    build_segmentation,
    identify,
    segments_as_labels,
)
from segmentation.dicom.uids import derive_uid
from segmentation.lesions import LesionMap
from tests.seg_sources import (
    MODEL,
    PARAMETERS,
    SAGITTAL,
    classic_series,
    enhanced_image,
    grid,
    lesions_on,
    oblique,
)

SHAPE = (12, 40, 48)


def build(
    images: list[Dataset], found: LesionMap, **parameters: object
) -> hd.seg.Segmentation:
    given = {**PARAMETERS, **parameters}
    identity = identify(images[0].SeriesInstanceUID, MODEL, given, len(found.lesions))
    return build_segmentation(images, found, MODEL, identity, given)


def read_again(segmentation: hd.seg.Segmentation) -> Dataset:
    stream = BytesIO()
    segmentation.save_as(stream)
    stream.seek(0)
    return pydicom.dcmread(stream)


def elements(dataset: Dataset) -> Iterator[DataElement]:
    yield from (one for one in dataset.iterall() if one.VR != "SQ")


@pytest.fixture(scope="module")
def found() -> LesionMap:
    return lesions_on(grid(SHAPE))


@pytest.fixture(scope="module")
def images(found: LesionMap) -> list[Dataset]:
    return classic_series(found.labels.get_geometry())


@pytest.fixture(scope="module")
def segmentation(images: list[Dataset], found: LesionMap) -> hd.seg.Segmentation:
    return build(images, found)


# -- what it says ---------------------------------------------------------------------


def test_one_coded_segment_a_lesion(segmentation: hd.seg.Segmentation) -> None:
    assert segmentation.segment_numbers == [1, 2, 3, 4]
    for number in segmentation.segment_numbers:
        segment = segmentation.get_segment_description(number)
        category = segment.segmented_property_category
        kind, (region,) = segment.segmented_property_type, segment.anatomic_regions
        assert (category.value, category.scheme_designator) == ("49755003", "SCT")
        assert (kind.value, kind.scheme_designator) == ("14799000", "SCT")
        assert (region.value, region.scheme_designator) == ("12738006", "SCT")
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert segment.segment_label == segment.tracking_id == f"Metastasis {number}"
        assert "Research use only" in segment.SegmentDescription
        algorithm = segment.algorithm_identification
        assert algorithm is not None
        assert algorithm.family.value == "123110"
        assert (algorithm.name, algorithm.version) == (MODEL.name, MODEL.version)
        assert f"sha256={MODEL.sha256}" in algorithm[0].AlgorithmParameters
        assert "threshold=0.5" in algorithm[0].AlgorithmParameters


def test_says_whose_and_what_for(segmentation: hd.seg.Segmentation) -> None:
    assert segmentation.Manufacturer == "MetIA"
    assert segmentation.SoftwareVersions
    assert segmentation.ContentLabel == "METASTASES"
    assert "research use only" in segmentation.SeriesDescription.lower()
    assert "Research use only" in segmentation.ContentDescription
    assert segmentation.SeriesNumber == 9005
    assert segmentation.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    for text in (segmentation.SeriesDescription, segmentation.ContentDescription):
        assert len(text) <= 64


def test_a_demonstration_model_is_called_one(
    images: list[Dataset], found: LesionMap
) -> None:
    toy = replace(MODEL, demonstration=True)
    identity = identify(images[0].SeriesInstanceUID, toy, PARAMETERS, 4)
    built = build_segmentation(images, found, toy, identity, PARAMETERS)
    assert "demonstration" in built.SeriesDescription


def test_keeps_patient_study_and_frame_of_reference(
    segmentation: hd.seg.Segmentation, images: list[Dataset]
) -> None:
    for keyword in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "PatientAge",
        "StudyInstanceUID",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "StudyDescription",
        "AccessionNumber",
        "ReferringPhysicianName",
        "FrameOfReferenceUID",
    ):
        assert segmentation[keyword].value == images[0][keyword].value, keyword
    assert segmentation.SeriesInstanceUID != images[0].SeriesInstanceUID


def test_names_its_source_images(
    segmentation: hd.seg.Segmentation, images: list[Dataset], found: LesionMap
) -> None:
    (series,) = segmentation.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == images[0].SeriesInstanceUID
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence]
    named = {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence}
    assert named == {image.SOPInstanceUID for image in images}
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        (image,) = (one for one in images if one.ImagePositionPatient == position)
        assert source.ReferencedSOPInstanceUID == image.SOPInstanceUID
        assert source.SpatialLocationsPreserved == "YES"


def test_leaves_out_empty_frames(
    segmentation: hd.seg.Segmentation, found: LesionMap
) -> None:
    wanted = sum(lesion.slice_count for lesion in found.lesions)
    assert segmentation.NumberOfFrames == wanted


def test_colours_survive_the_trip_through_cielab(
    segmentation: hd.seg.Segmentation,
) -> None:
    for number in segmentation.segment_numbers:
        lab = segmentation.SegmentSequence[number - 1].RecommendedDisplayCIELabValue
        rgb = hd.color.CIELabColor.from_dicom_value(lab).to_rgb()  # raises off gamut
        assert np.abs(np.subtract(rgb, codes.colour_of(number))).max() <= 1


def test_every_colour_of_the_palette_is_in_gamut_and_no_grey() -> None:
    assert len(set(codes.COLOURS)) == len(codes.COLOURS)
    for colour in codes.COLOURS:
        lab = hd.color.CIELabColor.from_rgb(*colour)
        again = hd.color.CIELabColor.from_dicom_value(lab.value)
        assert np.abs(np.subtract(again.to_rgb(), colour)).max() <= 1
        assert np.hypot(lab.a_star, lab.b_star) > 15
    assert codes.colour_of(1) == codes.colour_of(1 + len(codes.COLOURS))


@pytest.mark.parametrize(
    ("matrix", "kind"),
    [
        ((40, 48), "BINARY"),
        ((2, 4), "BINARY"),
        ((230, 213), "FRACTIONAL"),
        ((30, 30), "FRACTIONAL"),
        ((21, 23), "FRACTIONAL"),
    ],
)
def test_one_bit_frames_only_where_they_fill_bytes(
    matrix: tuple[int, int], kind: str
) -> None:
    geometry = grid((6, *matrix))
    values = np.zeros((6, *matrix), np.uint16)
    values[2:4, 0:2, 1:3] = 1
    found = lesions_on(grid(SHAPE), 1)
    found = replace(found, labels=geometry.with_array(values))
    built = build(classic_series(geometry), found)
    assert built.SegmentationType == kind
    if kind == "FRACTIONAL":
        assert built.SegmentationFractionalType == "OCCUPANCY"
        assert built.MaximumFractionalValue == 1
        assert set(built.PixelData[: 8 * 8]) <= {0, 1}
    np.testing.assert_array_equal(segments_as_labels(built, geometry), values)


def test_long_and_odd_texts_fit(images: list[Dataset], found: LesionMap) -> None:
    odd = replace(MODEL, name="back\\slash\n" + "n" * 200, version="v" * 99)
    parameters = {"text": "x" * 50_000, **{f"p{k}": "y" * 500 for k in range(200)}}
    identity = identify(images[0].SeriesInstanceUID, odd, parameters, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built = build_segmentation(images, found, odd, identity, parameters)
        again = read_again(built)
    (algorithm,) = again.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert len(algorithm.AlgorithmName) <= 64
    assert len(algorithm.AlgorithmParameters) <= 10_240
    assert MODEL.sha256 in algorithm.AlgorithmParameters


# -- determinism ----------------------------------------------------------------------


def test_a_second_run_differs_in_dates_and_times_only(
    images: list[Dataset], found: LesionMap
) -> None:
    first, second = read_again(build(images, found)), read_again(build(images, found))
    for one, other in zip(elements(first), elements(second), strict=True):
        if one.VR not in ("DA", "TM", "DT"):
            assert one == other, one.keyword
    assert first.PixelData == second.PixelData


def test_every_uid_is_derived_or_taken_from_the_source(
    images: list[Dataset], found: LesionMap
) -> None:
    def uids(run: Dataset) -> set[str]:
        return {str(one.value) for one in elements(run) if one.VR == "UI"}

    runs = [uids(read_again(build(images, found))) for _ in range(2)]
    assert runs[0] == runs[1]
    assert all(UID(uid).is_valid for uid in runs[0])


def test_identity_hangs_on_series_model_and_parameters() -> None:
    base = identify("1.2.3", MODEL, {"b": 1, "a": [1.5, None]}, 3)
    assert identify("1.2.3", MODEL, {"a": [1.5, None], "b": 1}, 3) == base
    others = [
        identify("1.2.4", MODEL, {"b": 1, "a": [1.5, None]}, 3),
        identify(
            "1.2.3", replace(MODEL, sha256="f" * 64), {"b": 1, "a": [1.5, None]}, 3
        ),
        identify("1.2.3", MODEL, {"b": 2, "a": [1.5, None]}, 3),
    ]
    for other in others:
        assert other.series_uid != base.series_uid
        assert other.sop_instance_uid != base.sop_instance_uid
        assert not {uid for _, uid in other.tracking} & {u for _, u in base.tracking}
    uids = [base.series_uid, base.sop_instance_uid, *(uid for _, uid in base.tracking)]
    assert len(set(uids)) == 5
    assert all(UID(uid).is_valid and len(uid) <= 64 for uid in uids)


def test_no_lesion_has_an_identity_but_no_object(images: list[Dataset]) -> None:
    empty = replace(lesions_on(grid(SHAPE)), lesions=())
    identity = identify(images[0].SeriesInstanceUID, MODEL, PARAMETERS, 0)
    assert identity.sop_instance_uid
    assert identity.tracking == identity.colours == ()
    with pytest.raises(ValueError, match="no lesion"):
        build_segmentation(images, empty, MODEL, identity, PARAMETERS)


def test_parameters_without_a_stable_text_are_refused() -> None:
    with pytest.raises(TypeError):
        identify("1.2.3", MODEL, {"object": object()}, 1)


def test_derived_uids_keep_their_parts_apart() -> None:
    assert derive_uid("a", "bc") != derive_uid("ab", "c") != derive_uid("abc")
    assert derive_uid("a", "b") != derive_uid("b", "a")
    assert derive_uid("é") == derive_uid("é")
    # Fixed for ever: stored objects are found again by it.
    assert derive_uid("a", "b") == "2.25.220473439771187964454090791279444896350"
    with pytest.raises(ValueError, match="derived"):
        derive_uid()


# -- sources --------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [oblique(0), oblique(10), oblique(40), SAGITTAL])
@pytest.mark.parametrize("spacing_mm", [(1.2, 0.9, 0.9), (6.5, 0.6875, 0.7)])
def test_voxels_come_back_on_any_grid(
    axes: np.ndarray, spacing_mm: tuple[float, float, float]
) -> None:
    found = lesions_on(grid(SHAPE, spacing_mm, axes))
    images = classic_series(found.labels.get_geometry())
    again = read_again(build(images, found))
    np.testing.assert_array_equal(
        segments_as_labels(again, found.labels), found.labels.array
    )


@pytest.mark.parametrize("first_of_sources", ["same", "reversed", "shuffled"])
def test_order_of_the_source_images_does_not_matter(first_of_sources: str) -> None:
    found = lesions_on(grid(SHAPE, axes=oblique(10)))
    images = classic_series(found.labels.get_geometry())
    if first_of_sources == "reversed":
        images.reverse()
    elif first_of_sources == "shuffled":
        images = [images[k] for k in np.random.default_rng(0).permutation(SHAPE[0])]
    built = build(images, found)
    np.testing.assert_array_equal(
        segments_as_labels(built, found.labels), found.labels.array
    )
    for frame in built.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        (image,) = (
            one
            for one in images
            if one.SOPInstanceUID == source.ReferencedSOPInstanceUID
        )
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        assert position == image.ImagePositionPatient


def test_a_grid_stored_from_head_to_foot() -> None:
    found = lesions_on(grid(SHAPE, axes=oblique(10)))
    turned = replace(found, labels=found.labels.flip_spatial(0))
    images = classic_series(turned.labels.get_geometry())
    built = build(images, turned)
    np.testing.assert_array_equal(
        segments_as_labels(built, turned.labels), turned.labels.array
    )
    np.testing.assert_array_equal(
        segments_as_labels(built, found.labels), found.labels.array
    )


@pytest.mark.parametrize(
    "order", [None, list(range(11, -1, -1)), [*range(5, 12), *range(5)]]
)
def test_enhanced_source(order: list[int] | None) -> None:
    found = lesions_on(grid(SHAPE, axes=oblique(10)))
    image = enhanced_image(found.labels.get_geometry(), order)
    built = build([image], found)
    np.testing.assert_array_equal(
        segments_as_labels(read_again(built), found.labels), found.labels.array
    )
    for frame in built.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        number = source.ReferencedFrameNumber
        there = image.PerFrameFunctionalGroupsSequence[number - 1]
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        assert position == there.PlanePositionSequence[0].ImagePositionPatient


def test_an_enhanced_image_may_hold_more_frames_than_the_grid() -> None:
    whole = grid(SHAPE)
    found = lesions_on(whole[2:9])
    built = build([enhanced_image(whole)], found)
    np.testing.assert_array_equal(
        segments_as_labels(built, found.labels), found.labels.array
    )
    (first, *_) = built.PerFrameFunctionalGroupsSequence
    (source,) = first.DerivationImageSequence[0].SourceImageSequence
    assert source.ReferencedFrameNumber >= 3


def test_a_lesion_on_one_slice_and_one_voxel() -> None:
    found = lesions_on(grid(SHAPE), 1)
    images = classic_series(found.labels.get_geometry())
    again = read_again(build(images, found))
    assert again.NumberOfFrames == 1
    np.testing.assert_array_equal(
        segments_as_labels(again, found.labels), found.labels.array
    )


def test_more_lesions_than_a_byte_counts() -> None:
    geometry = grid((8, 64, 80))
    values = np.zeros(geometry.spatial_shape, np.float32)
    values[::3, ::4, ::4] = 1.0
    found = lesions_on(grid(SHAPE), 1)
    numbers = np.zeros(values.shape, np.uint16)
    numbers[values > 0] = np.arange(1, int(values.sum()) + 1)
    count = int(numbers.max())
    assert count > 256
    found = replace(
        found,
        labels=geometry.with_array(numbers),
        lesions=tuple(replace(found.lesions[0], number=k + 1) for k in range(count)),
    )
    built = build(classic_series(geometry), found)
    np.testing.assert_array_equal(segments_as_labels(built, geometry), numbers)


def test_jittered_positions_keep_their_references_and_voxels() -> None:
    found = lesions_on(grid(SHAPE))
    images = classic_series(found.labels.get_geometry())
    random = np.random.default_rng(2)
    for image in images:
        position = np.array(image.ImagePositionPatient, float)
        image.ImagePositionPatient = [
            f"{value:.6f}" for value in position + random.uniform(-0.005, 0.005, 3)
        ]
        image.ImageOrientationPatient = [
            f"{float(value) + random.uniform(-1e-6, 1e-6):.8f}"
            for value in image.ImageOrientationPatient
        ]
    again = read_again(build(images, found))
    np.testing.assert_array_equal(
        segments_as_labels(again, found.labels), found.labels.array
    )
    for frame in again.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        (image,) = (
            one
            for one in images
            if one.SOPInstanceUID == source.ReferencedSOPInstanceUID
        )
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        assert position == pytest.approx(image.ImagePositionPatient)


def test_absent_attributes_do_not_stop_it(found: LesionMap) -> None:
    images = classic_series(found.labels.get_geometry())
    for image in images:
        for keyword in (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "PatientSex",
            "StudyID",
            "StudyDate",
            "StudyTime",
            "AccessionNumber",
            "ReferringPhysicianName",
            "SeriesNumber",
            "SliceThickness",
            "FrameOfReferenceUID",
            "SpecificCharacterSet",
        ):
            del image[keyword]
    again = read_again(build(images, found))
    assert again.FrameOfReferenceUID == found.labels.frame_of_reference_uid
    assert again.SeriesNumber == 9000
    for keyword in ("PatientName", "PatientID", "StudyDate", "ReferringPhysicianName"):
        assert keyword in again
        assert not again[keyword].value


def test_values_out_of_order_do_not_stop_it(found: LesionMap) -> None:
    images = classic_series(found.labels.get_geometry())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for image in images:
            image.PatientSex = "X"
            image.PatientBirthDate = "1970"
            image.PatientAge = "0Y"
            image.StudyTime = ""
            image.SliceThickness = None
            image.SeriesNumber = None
        again = read_again(build(images, found))
    np.testing.assert_array_equal(
        segments_as_labels(again, found.labels), found.labels.array
    )
    assert again.PatientSex == ""
    assert again.PatientBirthDate == ""
    assert "PatientAge" not in again
    assert again.PatientID == images[0].PatientID


@pytest.mark.parametrize(
    "name",
    [
        "Παπαδοπούλου^Ελένη",
        "Иванов^Пётр",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "Solo",
    ],
)
def test_names_in_any_script_survive_and_reach_no_log(
    name: str,
    found: LesionMap,
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = classic_series(found.labels.get_geometry())
    for image in images:
        image.PatientName = name
    with (
        caplog.at_level(logging.DEBUG, "segmentation"),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        again = read_again(build(images, found))
    assert again.SpecificCharacterSet == "ISO_IR 192"
    assert str(again.PatientName) == name
    said = caplog.text + "".join(str(one.message) for one in caught)
    assert name not in said
    assert images[0].SOPInstanceUID not in said


def test_the_source_images_are_left_alone(found: LesionMap) -> None:
    images = classic_series(found.labels.get_geometry())
    before = deepcopy(images)
    build(images, found)
    assert images == before
    image = enhanced_image(found.labels.get_geometry())
    before_enhanced = deepcopy(image)
    build([image], found)
    assert image == before_enhanced


# -- refusals -------------------------------------------------------------------------


def test_foreign_sources_are_refused(found: LesionMap) -> None:
    geometry = found.labels.get_geometry()
    shifted = grid((12, 40, 48), (1.2, 0.9, 0.9), oblique(8))
    for sources in (
        classic_series(shifted),
        classic_series(geometry)[1:],
        classic_series(grid((12, 48, 40))),
        classic_series(grid(SHAPE, (1.2, 0.8, 0.9))),
    ):
        with pytest.raises(ValueError, match="do not lie on the grid"):
            build(sources, found)


def test_an_identity_of_another_count_is_refused(
    images: list[Dataset], found: LesionMap
) -> None:
    identity = identify(images[0].SeriesInstanceUID, MODEL, PARAMETERS, 3)
    with pytest.raises(ValueError, match="another number"):
        build_segmentation(images, found, MODEL, identity, PARAMETERS)


def test_reading_back_shows_a_changed_voxel(
    segmentation: hd.seg.Segmentation, found: LesionMap
) -> None:
    again = read_again(segmentation)
    changed = bytearray(again.PixelData)
    changed[3] ^= 0b100
    again.PixelData = bytes(changed)
    differing = segments_as_labels(again, found.labels) != found.labels.array
    assert differing.sum() == 1


@pytest.mark.parametrize(
    "other",
    [
        grid(SHAPE, axes=oblique(20)),
        grid(SHAPE, (1.2, 0.9, 0.95)),
        grid((12, 36, 40)),
        grid(SHAPE, (1.8, 0.9, 0.9)),
    ],
)
def test_reading_back_onto_another_grid_is_refused(
    segmentation: hd.seg.Segmentation, other: hd.VolumeGeometry
) -> None:
    with pytest.raises(ValueError, match="do not lie on the grid"):
        segments_as_labels(segmentation, other)


def test_reading_back_onto_the_same_grid_stored_otherwise(
    segmentation: hd.seg.Segmentation, found: LesionMap
) -> None:
    other = found.labels.permute_spatial_axes([2, 0, 1]).flip_spatial([0, 1])
    np.testing.assert_array_equal(segments_as_labels(segmentation, other), other.array)


def test_reading_back_overlapping_segments_is_refused(
    segmentation: hd.seg.Segmentation, found: LesionMap
) -> None:
    again = read_again(segmentation)
    again.PixelData = b"\xff" * len(again.PixelData)
    first, *others = again.PerFrameFunctionalGroupsSequence
    for other in others:
        other.PlanePositionSequence = first.PlanePositionSequence
    with pytest.raises(ValueError, match="overlap"):
        segments_as_labels(again, found.labels)


def test_parameters_are_recorded_as_json(
    segmentation: hd.seg.Segmentation,
) -> None:
    segment = segmentation.get_segment_description(1)
    (algorithm,) = segment.algorithm_identification or ()
    assert f"window={json.dumps(PARAMETERS['window'])}" in algorithm.AlgorithmParameters
