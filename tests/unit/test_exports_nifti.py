"""Labels as NIfTI: on the grid of the source, wherever it lies, and each explained."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest

from errors import MetiaError
from segmentation.dicom.seg import build_segmentation, identify
from segmentation.exports.file_names import patient_file, result_file, visit_file
from segmentation.exports.nifti import (
    LabelledLesion,
    label_image,
    nifti_archive,
    read_labels,
    sidecar,
)
from tests import seg_sources as sources

RESULT_ID = "0123456789abcdef" * 2
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
GRIDS = {
    "axial": sources.grid((12, 40, 48)),
    "anisotropic": sources.grid((9, 40, 56), (4.0, 0.9, 0.7)),
    "sagittal": sources.grid((14, 40, 48), axes=sources.SAGITTAL),
    "oblique": sources.grid((12, 40, 48), axes=sources.oblique(27)),
}


def _segmentation(geometry: hd.VolumeGeometry):
    found = sources.lesions_on(geometry)
    identity = identify("1.2.3", sources.MODEL, sources.PARAMETERS, len(found.lesions))
    images = sources.classic_series(geometry)
    made = build_segmentation(
        images, found, sources.MODEL, identity, sources.PARAMETERS
    )
    return found, made


def _lesion(label: int, track: str | None = "M1") -> LabelledLesion:
    return LabelledLesion(
        label, "a" * 32, "Metastasis 1", "2.25.7", "b" * 32, track, "accepted",
        12.5, 8.0, 0.75,
    )  # fmt: skip


@pytest.mark.parametrize("name", GRIDS)
def test_each_voxel_is_where_it_was_in_the_patient(name: str) -> None:
    geometry = GRIDS[name]
    found, segmentation = _segmentation(geometry)
    labels = read_labels(segmentation, geometry, [1, 2, 3, 4])
    assert np.array_equal(labels, found.labels.array)
    image = label_image(geometry.with_array(labels))
    array, affine = np.asarray(image.dataobj), image.affine
    assert array.shape == geometry.spatial_shape[::-1]
    for number in (1, 2, 3, 4):
        in_file = nib.affines.apply_affine(affine, np.argwhere(array == number))
        indices = np.argwhere(found.labels.array == number)
        lps = geometry.map_indices_to_reference(indices)
        expected = lps * [-1, -1, 1]
        assert len(in_file) == len(expected) > 0
        order = np.lexsort(np.round(in_file, 3).T), np.lexsort(np.round(expected, 3).T)
        assert np.allclose(in_file[order[0]], expected[order[1]], atol=1e-3)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-4)


def test_lesions_that_are_not_wanted_are_background() -> None:
    geometry = GRIDS["axial"]
    found, segmentation = _segmentation(geometry)
    labels = read_labels(segmentation, geometry, [1, 3])
    assert set(np.unique(labels)) == {0, 1, 3}
    assert np.array_equal(labels == 3, found.labels.array == 3)


def test_result_without_lesions_is_an_empty_image() -> None:
    geometry = GRIDS["axial"]
    labels = read_labels(None, geometry, [])
    assert labels.shape == geometry.spatial_shape
    assert not labels.any()
    assert label_image(geometry.with_array(labels)).get_data_dtype() == np.uint8


def test_smallest_type_that_holds_every_label() -> None:
    geometry = GRIDS["axial"]
    labels = np.zeros(geometry.spatial_shape, np.uint16)
    for largest, dtype in ((255, np.uint8), (256, np.uint16)):
        labels[3, 4, 5] = largest
        image = label_image(geometry.with_array(labels))
        assert image.get_data_dtype() == dtype
        assert np.asarray(image.dataobj)[5, 4, 3] == largest


def test_overlapping_segments_are_refused_in_words() -> None:
    geometry = GRIDS["axial"]
    _, segmentation = _segmentation(geometry)
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        position = segmentation.PerFrameFunctionalGroupsSequence[0]
        frame.PlanePositionSequence = position.PlanePositionSequence
    with pytest.raises(MetiaError, match="export-impossible"):
        read_labels(segmentation, geometry, [1, 2])
    with pytest.raises(MetiaError, match="export-impossible"):
        read_labels(segmentation, GRIDS["oblique"], [1, 2])


def test_archive_holds_image_and_text_and_is_the_same_each_time() -> None:
    geometry = GRIDS["oblique"]
    found, segmentation = _segmentation(geometry)
    labels = geometry.with_array(read_labels(segmentation, geometry, [1, 2, 3, 4]))
    document = sidecar({"id": RESULT_ID, "state": "edited"}, [_lesion(1)])
    made = nifti_archive(RESULT_ID, labels, document)
    assert made == nifti_archive(RESULT_ID, labels, document)
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        names = archive.namelist()
        image = nib.Nifti1Image.from_bytes(gzip.decompress(archive.read(names[0])))
        told = json.loads(archive.read(names[1]))
    assert names == [
        "metia-result-0123456789ab-labels.nii.gz",
        "metia-result-0123456789ab-labels.json",
    ]
    assert np.array_equal(np.asarray(image.dataobj).T, found.labels.array)
    assert "Research use only" in told["notice"]
    assert told["labels"] == {
        "1": {
            "lesion_id": "a" * 32,
            "name": "Metastasis 1",
            "tracking_uid": "2.25.7",
            "track_id": "b" * 32,
            "track_label": "M1",
            "review": "accepted",
            "longest_diameter_mm": 12.5,
            "perpendicular_diameter_mm": 8.0,
            "volume_ml": 0.75,
        }
    }


def test_file_names_are_made_of_our_identifiers_alone() -> None:
    assert patient_file(RESULT_ID, "tables", "zip") == (
        "metia-patient-0123456789ab-tables.zip"
    )
    assert visit_file(RESULT_ID, 3, "report", "pdf") == (
        "metia-patient-0123456789ab-visit-03-report.pdf"
    )
    assert result_file(RESULT_ID, "labels", "nii.gz").endswith("-labels.nii.gz")
    for wrong in ("../x", "Müller", "a b", "", "A", 'a"b', "a\n"):
        with pytest.raises(ValueError, match="letters"):
            patient_file(RESULT_ID, wrong, "csv")
        with pytest.raises(ValueError, match="letters"):
            patient_file(RESULT_ID, "tables", wrong)
        with pytest.raises(ValueError, match="letters"):
            patient_file(wrong, "tables", "csv")
    with pytest.raises(ValueError, match="from 1"):
        visit_file(RESULT_ID, 0, "report", "pdf")
