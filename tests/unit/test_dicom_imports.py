"""Outlines made elsewhere: what is read, exactly where, and what is refused."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from errors import MetiaError
from orthanc.volume import LoadedSeries
from segmentation.dicom.imports import Imported, read_import, referenced_series
from segmentation.dicom.seg import build_segmentation, identify
from segmentation.lesions import LesionMap
from tests.outlined_lesions import ball, loaded, outlined
from tests.seg_sources import MODEL, PARAMETERS, SAGITTAL, grid, lesions_on, oblique

GRIDS = {
    "axial": (grid((12, 40, 48)), False),
    "oblique": (grid((12, 40, 48), (6.5, 0.6875, 0.7), oblique(12)), False),
    "sagittal": (grid((24, 40, 32), (1.0, 1.1, 0.9), SAGITTAL), False),
    "enhanced": (grid((9, 40, 48), axes=oblique(10)), True),
}
AXIAL = GRIDS["axial"][0]


def refusal(dataset: Dataset, source: LoadedSeries) -> str:
    with pytest.raises(MetiaError) as caught:
        read_import(dataset, source)
    assert caught.value.code == "import-invalid"
    return caught.value.detail


def same_labels(found: Imported, labels: np.ndarray) -> None:
    np.testing.assert_array_equal(found.labels.array, labels)


@pytest.fixture(params=GRIDS)
def case(request: pytest.FixtureRequest) -> tuple[LoadedSeries, LesionMap]:
    geometry, enhanced = GRIDS[request.param]
    return loaded(geometry, enhanced=enhanced), lesions_on(geometry)


@pytest.fixture
def source() -> LoadedSeries:
    return loaded(AXIAL)


@pytest.fixture
def structure_set(source: LoadedSeries) -> Dataset:
    return outlined(source, two_balls())


def two_balls() -> np.ndarray:
    labels = ball(AXIAL, 10.0, (0, -10, -12))
    labels[ball(AXIAL, 6.0, (1, 9, 12)) > 0] = 2
    return labels


# -- RTSTRUCT -------------------------------------------------------------------------


def test_an_rtstruct_of_ours_comes_back_voxel_by_voxel(case) -> None:
    source, found = case
    made = outlined(source, found.labels.array)
    series_uid = source.source_images[0].SeriesInstanceUID
    assert referenced_series(made) == (series_uid,)
    read = read_import(made, source)
    assert read.kind == "RTSTRUCT"
    assert read.names == ("M1", "M2", "M3", "M4")
    assert set(read.algorithm_types) == {"AUTOMATIC"}
    assert read.warnings == ()
    same_labels(read, found.labels.array)


def test_holes_come_back(source: LoadedSeries) -> None:
    labels = ball(AXIAL, 14.0)
    labels[ball(AXIAL, 6.0) > 0] = 0
    same_labels(read_import(outlined(source, labels), source), labels)


def test_rounding_off_the_plane_does_not_matter(
    source: LoadedSeries, structure_set: Dataset
) -> None:
    for item in structure_set.ROIContourSequence:
        for k, contour in enumerate(item.ContourSequence):
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            points[:, 2] += 0.02 * (-1) ** np.arange(len(points)) * (k % 2)
            contour.ContourData = [f"{value:.5f}" for value in points.ravel()]
    same_labels(read_import(structure_set, source), two_balls())


def test_contours_between_slices_are_refused(
    source: LoadedSeries, structure_set: Dataset
) -> None:
    for item in structure_set.ROIContourSequence:
        for contour in item.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            points[:, 2] += 0.5
            contour.ContourData = list(points.ravel())
    assert "does not lie on a slice" in refusal(structure_set, source)


def test_contours_of_another_plane_are_refused(source: LoadedSeries) -> None:
    geometry = grid(AXIAL.spatial_shape, AXIAL.spacing, SAGITTAL)
    other = loaded(geometry)
    made = outlined(other, ball(geometry, 10.0))
    frame = source.volume.frame_of_reference_uid
    for roi in made.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = frame
    for item in made.ROIContourSequence:
        for contour in item.ContourSequence:
            del contour.ContourImageSequence
    assert "does not lie on a slice" in refusal(made, source)


def test_without_names_of_images_the_place_decides(
    source: LoadedSeries, structure_set: Dataset
) -> None:
    del structure_set.ReferencedFrameOfReferenceSequence
    for item in structure_set.ROIContourSequence:
        for contour in item.ContourSequence:
            del contour.ContourImageSequence
    assert referenced_series(structure_set) == ()
    same_labels(read_import(structure_set, source), two_balls())


def test_structures_of_another_series_are_left_out(
    source: LoadedSeries, structure_set: Dataset
) -> None:
    other_uid, image_uid = generate_uid(), generate_uid()
    series = Dataset()
    series.SeriesInstanceUID = other_uid
    image = Dataset()
    image.ReferencedSOPInstanceUID = image_uid
    series.ContourImageSequence = [image]
    (frame,) = structure_set.ReferencedFrameOfReferenceSequence
    frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence.append(series)
    structure_set.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.3"
    for contour in structure_set.ROIContourSequence[1].ContourSequence:
        contour.ContourImageSequence = [image]
    own = source.source_images[0].SeriesInstanceUID
    assert referenced_series(structure_set) == (own, other_uid)
    read = read_import(structure_set, source)
    same_labels(read, (two_balls() == 1).astype(np.uint16))
    assert read.warnings == ("1 structures drawn on another series were left out",)


def with_types(made: Dataset, *types: str) -> Dataset:
    for seen, kind in zip(made.RTROIObservationsSequence, types, strict=True):
        seen.RTROIInterpretedType = kind
    return made


def with_names(made: Dataset, *names: str) -> Dataset:
    with_types(made, *[""] * len(names))
    for roi, name in zip(made.StructureSetROISequence, names, strict=True):
        roi.ROIName = name
    return made


def test_where_there_are_gtvs_nothing_else_is_a_lesion(
    source: LoadedSeries, structure_set: Dataset
) -> None:
    for other in ("PTV", "ORGAN", "EXTERNAL", "", "CTV"):
        read = read_import(with_types(structure_set, "GTV", other), source)
        same_labels(read, (two_balls() == 1).astype(np.uint16))
        assert "1 structures are no lesions" in read.warnings[0]


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("GTV_1", True),
        ("Lesion left", True),
        ("Brain met 3", True),
        ("ROI-1", True),
        ("brainstem_met", True),
        ("Brain", False),
        ("BrainStem", False),
        ("PTV_met1", False),
        ("Brain-GTV", False),
        ("Brain minus GTV", False),
        ("Eye_L", False),
        ("OpticNerve_R", False),
        ("Patient", False),
        ("BODY", False),
    ],
)
def test_without_types_names_tell_lesions_from_organs(
    source: LoadedSeries, structure_set: Dataset, name: str, taken: bool
) -> None:
    read = read_import(with_names(structure_set, "Node A", name), source)
    assert len(read.names) == 1 + taken


def test_says_what_was_found_where_nothing_is_a_lesion(
    source: LoadedSeries, structure_set: Dataset
) -> None:
    detail = refusal(with_types(structure_set, "ORGAN", "PTV"), source)
    assert detail == "None of its 2 structures is a lesion: ORGAN, PTV."
    detail = refusal(with_names(structure_set, "Brain", "Zzcanary body"), source)
    assert "Zzcanary" not in detail


def test_points_and_open_lines_are_no_lesions(
    source: LoadedSeries, structure_set: Dataset
) -> None:
    for contour in structure_set.ROIContourSequence[1].ContourSequence:
        contour.ContourGeometricType = "OPEN_PLANAR"
    read = read_import(structure_set, source)
    assert read.names == ("M1",)
    assert read.warnings == ("1 structures without a closed outline were left out",)


def test_a_skipped_slice_is_told_and_parts_near_each_other_are_one_lesion(
    source: LoadedSeries, structure_set: Dataset
) -> None:
    del structure_set.ROIContourSequence[0].ContourSequence[3]
    read = read_import(structure_set, source)
    assert read.names == ("M1", "M2")
    assert read.warnings == ("1 structures skip slices; nothing was filled in between",)


def test_far_parts_of_one_structure_are_lesions_of_their_own(
    source: LoadedSeries,
) -> None:
    both = (two_balls() > 0).astype(np.uint16)
    read = read_import(outlined(source, both), source)
    assert read.names == ("M1 1", "M1 2")
    same_labels(read, two_balls())


def test_of_overlapping_structures_the_smaller_one_stays(
    source: LoadedSeries, structure_set: Dataset
) -> None:
    inner = outlined(source, ball(AXIAL, 5.0, (0, -10, -12)))
    structure_set.ROIContourSequence[1].ContourSequence = inner.ROIContourSequence[
        0
    ].ContourSequence
    expected = (two_balls() == 1).astype(np.uint16)
    expected[ball(AXIAL, 5.0, (0, -10, -12)) > 0] = 2
    same_labels(read_import(structure_set, source), expected)


def test_an_outline_between_voxel_centres_is_told(
    source: LoadedSeries, structure_set: Dataset
) -> None:
    item = structure_set.ROIContourSequence[1]
    contour = item.ContourSequence[0]
    points = np.array(contour.ContourData, float).reshape(-1, 3)
    centre = source.volume.map_indices_to_reference(np.array([[6.0, 20.4, 20.4]]))
    contour.ContourData = list((centre + 0.01 * (points - points.mean(axis=0))).ravel())
    (contour.ContourImageSequence[0].ReferencedSOPInstanceUID) = source.slices[
        6
    ].sop_instance_uid
    item.ContourSequence = [contour]
    read = read_import(structure_set, source)
    assert read.names == ("M1",)
    assert "enclose no voxel centre" in read.warnings[0]


@pytest.mark.parametrize(
    "data", [["1", "2"], ["nan", "1", "2", "3", "4", "5"], ["x", "y", "z"]]
)
def test_damaged_coordinates_are_refused(
    source: LoadedSeries, structure_set: Dataset, data: list[str]
) -> None:
    for item in structure_set.ROIContourSequence:
        contour = item.ContourSequence[0]
        element = deepcopy(contour["ContourData"])
        element._value = data
        contour._dict[element.tag] = element
    assert refusal(structure_set, source)


@pytest.mark.parametrize(
    "keyword",
    [
        "StructureSetROISequence",
        "ROIContourSequence",
        "RTROIObservationsSequence",
        "ReferencedFrameOfReferenceSequence",
    ],
)
def test_missing_parts_are_read_around_or_refused(
    source: LoadedSeries, structure_set: Dataset, keyword: str
) -> None:
    delattr(structure_set, keyword)
    if "Contour" in keyword or "ROISequence" in keyword:
        assert refusal(structure_set, source) == "The structure set has no contours."
    else:
        assert len(read_import(structure_set, source).names) == 2


def test_other_objects_are_refused(source: LoadedSeries) -> None:
    assert "neither" in refusal(source.source_images[0], source)


def test_another_patient_s_head_is_refused(structure_set: Dataset) -> None:
    elsewhere = loaded(grid(AXIAL.spatial_shape))
    assert "None of its structures" in refusal(structure_set, elsewhere)


def test_too_many_lesions_are_refused() -> None:
    geometry = grid((6, 120, 120))
    labels = np.zeros((6, 120, 120), np.uint16)
    labels[1, ::8, ::8] = labels[4, ::8, ::8] = 1
    source = loaded(geometry)
    assert "not plausible" in refusal(outlined(source, labels), source)


# -- SEG ------------------------------------------------------------------------------


def foreign_seg(
    source: LoadedSeries,
    pixels: np.ndarray,
    kind: str = "BINARY",
    types: tuple = (codes.SCT.Neoplasm,) * 2,
    category: object = codes.SCT.MorphologicallyAbnormalStructure,
    **more: object,
) -> Dataset:
    described = [
        hd.seg.SegmentDescription(
            number,
            f"Segment {number}",
            category,  # type: ignore[arg-type]
            kind_,
            "MANUAL",
        )
        for number, kind_ in enumerate(types, 1)
    ]
    return hd.seg.Segmentation(
        source_images=list(source.source_images),
        pixel_array=pixels,
        segmentation_type=kind,  # type: ignore[arg-type]
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Another",
        manufacturer_model_name="Another",
        software_versions="1",
        device_serial_number="1",
        **more,  # type: ignore[arg-type]
    )


def test_a_seg_of_ours_comes_back_voxel_by_voxel(case) -> None:
    source, found = case
    identity = identify("1.2.3", MODEL, PARAMETERS, len(found.lesions))
    made = build_segmentation(source.source_images, found, MODEL, identity, PARAMETERS)
    series_uid = source.source_images[0].SeriesInstanceUID
    assert series_uid in referenced_series(made)
    read = read_import(made, source)
    assert read.kind == "SEG"
    assert read.names == tuple(f"Metastasis {n}" for n in range(1, 5))
    same_labels(read, found.labels.array)


def test_binary_and_labelmap(source: LoadedSeries) -> None:
    for kind in ("BINARY", "LABELMAP"):
        made = foreign_seg(source, two_balls().astype(np.uint8), kind)
        read = read_import(made, source)
        same_labels(read, two_balls())
        assert read.names == ("Segment 1", "Segment 2")
        assert set(read.algorithm_types) == {"MANUAL"}
        assert read.warnings == ()  # the background of a LABELMAP is no segment


def test_fractional_at_half_of_the_maximum(source: LoadedSeries) -> None:
    fractions = np.zeros((*AXIAL.spatial_shape, 2))
    fractions[..., 0] = 0.3 * (ball(AXIAL, 16.0, (0, -10, -12)) > 0)
    fractions[two_balls() == 1, 0] = 0.9
    fractions[two_balls() == 2, 1] = 0.6
    for maximum in (255, 100):
        made = foreign_seg(
            source,
            fractions,
            "FRACTIONAL",
            fractional_type="PROBABILITY",
            max_fractional_value=maximum,
        )
        same_labels(read_import(made, source), two_balls())


def test_overlapping_segments_are_taken(source: LoadedSeries) -> None:
    pixels = np.zeros((*AXIAL.spatial_shape, 2), np.uint8)
    pixels[..., 0] = ball(AXIAL, 12.0)
    pixels[..., 1] = ball(AXIAL, 5.0)
    expected = ball(AXIAL, 12.0)
    expected[ball(AXIAL, 5.0) > 0] = 2
    read = read_import(foreign_seg(source, pixels), source)
    same_labels(read, expected)
    shared = int(pixels.all(axis=-1).sum())
    assert read.warnings == (
        f"{shared} voxels lie in several structures; the smaller one has them",
    )


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (codes.SCT.Edema, ("Segment 1",)),
        (codes.SCT.Necrosis, ("Segment 1",)),
        (codes.SCT.Tissue, ("Segment 1",)),
        (codes.SCT.Lesion, ("Segment 1", "Segment 2")),
    ],
)
def test_where_a_segment_is_a_tumour_only_such_are_taken(
    source: LoadedSeries, other: object, names: tuple[str, ...]
) -> None:
    pixels = two_balls().astype(np.uint8)
    made = foreign_seg(source, pixels, types=(codes.SCT.NeoplasmSecondary, other))
    assert read_import(made, source).names == names


def test_what_a_viewer_saves_as_tissue_is_taken_and_anatomy_is_not(
    source: LoadedSeries,
) -> None:
    pixels = two_balls().astype(np.uint8)
    tissue = (codes.SCT.Tissue,) * 2
    made = foreign_seg(source, pixels, types=tissue, category=codes.SCT.Tissue)
    assert len(read_import(made, source).names) == 2
    organs = foreign_seg(
        source, pixels, types=tissue, category=codes.SCT.AnatomicalStructure
    )
    assert refusal(organs, source) == "None of its 2 segments is a lesion."


def test_a_seg_of_a_part_of_the_slices(source: LoadedSeries) -> None:
    some = replace(source, source_images=source.source_images[3:10])
    made = foreign_seg(some, two_balls()[3:10].astype(np.uint8))
    expected = two_balls()
    expected[:3] = expected[10:] = 0
    same_labels(read_import(made, source), expected)


def test_a_seg_on_another_grid_takes_the_nearest_voxels(source: LoadedSeries) -> None:
    thirds = AXIAL.affine @ np.diag([1.0, 1 / 3, 1 / 3, 1.0])
    thirds[:3, 3] -= thirds[:3, 1:3].sum(axis=1)
    frame = AXIAL.frame_of_reference_uid
    slices, rows, columns = AXIAL.spatial_shape
    shape = (slices, 3 * rows, 3 * columns)
    fine = hd.VolumeGeometry(thirds, shape, "PATIENT", frame_of_reference_uid=frame)
    labels = ball(fine, 10.0)
    made = foreign_seg(
        loaded(fine), labels.astype(np.uint8), types=(codes.SCT.Neoplasm,)
    )
    read = read_import(made, source)
    assert "nearest value" in read.warnings[0]
    same_labels(read, labels[:, 1::3, 1::3])


def test_empty_and_foreign_segs_are_refused(source: LoadedSeries) -> None:
    pixels = two_balls().astype(np.uint8)
    made = foreign_seg(source, pixels)
    elsewhere = loaded(grid(AXIAL.spatial_shape))
    assert "another space" in refusal(made, elsewhere)
    blank = foreign_seg(source, np.zeros_like(pixels), omit_empty_frames=False)
    assert refusal(blank, source) == "Its segments are empty."
    del made.PixelData
    assert "damaged" in refusal(made, source)
