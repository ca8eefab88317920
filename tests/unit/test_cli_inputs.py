"""Reading DICOM folders and NIfTI files: what counts, what is told, what is refused."""

import os

import nibabel as nib
import numpy as np
import pydicom
import pytest

from errors import MetiaError
from segmentation.cli import dicom_files
from segmentation.cli.dicom_files import dicom_folder, find_series, load_images
from segmentation.cli.known_contour import load_case
from segmentation.cli.nifti import load_nifti, load_with_mask, mask_image
from segmentation.phantoms import (
    Grid,
    Visit,
    dicom_series,
    make_head,
    write_dicom_series,
    write_images,
)

GRID = Grid((6, 20, 18), (8.0, 10.0, 11.0))


@pytest.fixture(scope="module")
def head():
    return make_head(GRID)


def code_of(function, *arguments):
    with pytest.raises(MetiaError) as caught:
        function(*arguments)
    return caught.value


# -- DICOM ---------------------------------------------------------------------


def test_series_are_told_apart_and_other_files_passed_over(head, tmp_path):
    write_dicom_series(tmp_path / "a" / "b", head)
    write_dicom_series(tmp_path / "c", head, series_number=7)
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "empty").touch()
    os.symlink(tmp_path / "c", tmp_path / "a" / "link")
    os.symlink(tmp_path / "c" / "0001.dcm", tmp_path / "a" / "link.dcm")
    found = find_series(tmp_path)
    assert [len(one.paths) for one in found.series] == [6, 6]
    assert [one.header.instance_count for one in found.series] == [6, 6]
    assert found.passed_over == 3
    assert found.warnings == ()
    numbers = [int(image.InstanceNumber) for image in load_images(found.series[0])]
    assert numbers == [1, 2, 3, 4, 5, 6]


def test_files_without_a_preamble_are_read(head, tmp_path):
    (image, *_) = dicom_series(head)
    pydicom.dcmwrite(
        tmp_path / "bare", image, implicit_vr=False, little_endian=True,
        enforce_file_format=False, force_encoding=True,
    )  # fmt: skip
    content = (tmp_path / "bare").read_bytes()
    assert content[128:132] == b"DICM" or content[:2] in (b"\x02\x00", b"\x08\x00")
    assert len(find_series(tmp_path).series) == 1


def test_identical_copies_count_once(head, tmp_path):
    write_dicom_series(tmp_path / "a", head)
    write_dicom_series(tmp_path / "b", head)
    found = find_series(tmp_path)
    assert [len(one.paths) for one in found.series] == [6]
    assert "6 files were there twice" in found.warnings[0]


def test_two_different_files_of_one_image_are_refused_when_used(head, tmp_path):
    images = dicom_series(head)
    write_images(tmp_path / "a", images)
    images[2].PixelData = bytes(len(images[2].PixelData))
    write_images(tmp_path / "b", images[2:3])
    (series,) = find_series(tmp_path).series
    assert series.conflicts == 1
    assert code_of(load_images, series).code == "input-unreadable"


def test_damaged_files_are_told(head, tmp_path):
    paths = write_dicom_series(tmp_path, head)
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    found = find_series(tmp_path)
    assert found.warnings == ("1 DICOM files are damaged and were left out.",)
    assert len(found.series[0].paths) == 5


def test_one_dicom_file_is_a_folder_of_one(head, tmp_path):
    paths = write_dicom_series(tmp_path, head)
    with dicom_folder(paths[2]) as found:
        (series,) = find_series(found).series
    assert series.paths == (paths[2],)


def test_a_folder_without_images_is_refused_without_naming_files(tmp_path):
    (tmp_path / "Secret Name.txt").write_text("x")
    error = code_of(find_series, tmp_path)
    assert error.code == "input-unreadable"
    assert "ecret" not in error.detail


def test_an_archive_of_too_many_files_is_refused(tmp_path, monkeypatch):
    import zipfile

    monkeypatch.setattr(dicom_files, "MAXIMUM_FILES", 3)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        for number in range(4):
            made.writestr(str(number), b"x")

    def unpack():
        with dicom_folder(tmp_path / "a.zip"):
            pass

    assert code_of(unpack).code == "input-unreadable"
    monkeypatch.setattr(dicom_files, "MAXIMUM_FILES", 4)
    monkeypatch.setattr(dicom_files, "MAXIMUM_MEMBER_BYTES", 0)
    assert "more than a study" in code_of(unpack).detail


def test_studies_keep_their_uids(head, tmp_path):
    write_dicom_series(tmp_path / "a", head, visit=Visit(key="one"))
    write_dicom_series(tmp_path / "b", head, visit=Visit(key="two"))
    studies = {one.study_uid for one in find_series(tmp_path).series}
    assert studies == {Visit(key="one").study_uid, Visit(key="two").study_uid}


# -- NIfTI ---------------------------------------------------------------------


def save(path, array, affine=None, **header):
    image = nib.Nifti1Image(array, np.diag([2, 2, 2, 1]) if affine is None else affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def ramp(shape=(10, 11, 12)):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_nifti_voxels_keep_their_place_in_the_patient(tmp_path):
    affine = np.array([[0, 0, 2.5, 5], [-1.5, 0, 0, 7], [0, 1.2, 0, -9], [0, 0, 0, 1]])
    array = ramp()
    source = load_nifti(save(tmp_path / "a.nii", array, affine))
    volume = source.series.volume
    assert volume.spacing == pytest.approx((1.2, 1.5, 2.5))
    assert np.allclose(np.sign(np.diag(volume.affine[:3, [2, 1, 0]])), [1, 1, -1])
    for index in ((0, 0, 0), (3, 4, 5), (9, 10, 11)):
        ras = affine @ [*index, 1]
        lps = [-ras[0], -ras[1], ras[2], 1]
        place = np.round(np.linalg.inv(volume.affine) @ lps).astype(int)
        assert volume.array[tuple(place[:3])] == array[index]


def test_the_mask_of_a_nifti_file_has_its_axes_and_codes(tmp_path):
    affine = np.array([[0, 0, 2.5, 5], [-1.5, 0, 0, 7], [0, 1.2, 0, -9], [0, 0, 0, 1]])
    path = save(tmp_path / "a.nii", ramp(), affine, qform_code=2, sform_code=4)
    source = load_nifti(path)
    labels = source.series.volume.with_array(
        (source.series.volume.array == 5).astype(np.uint16)
    )
    mask = mask_image(labels, source)
    assert np.argwhere(np.asarray(mask.dataobj)).tolist() == [[0, 0, 5]]
    assert np.allclose(mask.affine, affine)
    assert (int(mask.header["qform_code"]), int(mask.header["sform_code"])) == (2, 4)


def test_scaled_integers_and_a_fourth_axis_of_one_are_read(tmp_path):
    array = ramp().astype(np.int16)
    image = nib.Nifti1Image(array[..., None], np.diag([2, 2, 2, 1]))
    image.header.set_slope_inter(2, 10)
    nib.save(image, tmp_path / "a.nii.gz")
    values = load_nifti(tmp_path / "a.nii.gz").series.volume.array
    expected = nib.load(tmp_path / "a.nii.gz").get_fdata()
    assert sorted(values.ravel()) == pytest.approx(sorted(expected.ravel()))


def test_a_file_without_orientation_is_used_with_a_warning(tmp_path):
    path = save(tmp_path / "a.nii", ramp())
    content = bytearray(path.read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    path.write_bytes(content)
    source = load_nifti(path)
    assert any("no orientation" in text for text in source.series.warnings)
    labels = source.series.volume.with_array(np.ones((12, 11, 10), np.uint16))
    nib.save(mask_image(labels, source), tmp_path / "mask.nii")
    assert np.allclose(nib.load(tmp_path / "mask.nii").affine, nib.load(path).affine)


SHEARED = np.array([[2, 0.2, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(
    ("code", "array", "affine"),
    [
        ("input-unreadable", ramp((6, 6, 6, 4)), None),
        ("input-unreadable", ramp((6, 6)), None),
        ("volume-single-slice", ramp((10, 10, 2)), None),
        ("volume-bad-pixels", np.full((8, 8, 8), np.nan, np.float32), None),
        ("volume-bad-pixels", np.zeros((8, 8, 8), np.float32), None),
        ("volume-sheared", ramp(), SHEARED),
        ("volume-absurd-geometry", ramp(), np.diag([0.01, 2, 2, 1])),
        ("volume-absurd-geometry", ramp(), np.diag([2, 2, 200, 1])),
        ("volume-absurd-geometry", ramp((100, 4, 4)), np.diag([10, 2, 2, 1])),
    ],
)
def test_nifti_files_that_are_no_head_are_refused(tmp_path, code, array, affine):
    path = save(tmp_path / "a.nii", array, affine)
    assert code_of(load_nifti, path).code == code


def test_a_mask_may_be_empty_but_not_lie_elsewhere(tmp_path):
    image = save(tmp_path / "image.nii", ramp())
    empty = save(tmp_path / "empty.nii", np.zeros((10, 11, 12), np.uint8))
    volume, inside = load_with_mask(image, empty)
    assert inside.shape == volume.shape
    assert not inside.any()
    assert code_of(load_case, image, empty).code == "input-unreadable"
    marked = (ramp() > 500).astype(np.uint8)
    same = save(tmp_path / "same.nii", marked)
    assert load_with_mask(image, same)[1].sum() == marked.sum()
    shifted = np.diag([2.0, 2, 2, 1])
    shifted[0, 3] = 4
    for name, array, affine in (
        ("mirrored", marked, np.diag([-2, 2, 2, 1])),
        ("shifted", marked, shifted),
        ("larger", np.pad(marked, 1), None),
    ):
        other = save(tmp_path / f"{name}.nii", array, affine)
        assert code_of(load_with_mask, image, other).code == "input-unreadable", name


def test_a_header_that_promises_too_much_is_refused_unread(tmp_path):
    path = save(tmp_path / "a.nii", ramp())
    content = bytearray(path.read_bytes())
    content[40:56] = np.array([3, 32000, 32000, 32000, 1, 1, 1, 1], "<i2").tobytes()
    path.write_bytes(content)
    assert code_of(load_nifti, path).code == "volume-too-large"


def test_colour_cut_and_foreign_files_are_refused(tmp_path):
    colour = np.zeros((5, 5, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, np.eye(4)), tmp_path / "rgb.nii")
    path = save(tmp_path / "cut.nii", ramp())
    path.write_bytes(path.read_bytes()[:600])
    packed = save(tmp_path / "cut.nii.gz", ramp())
    packed.write_bytes(packed.read_bytes()[:-200])
    (tmp_path / "no.nii").write_bytes(b"x" * 400)
    for name in ("rgb.nii", "cut.nii", "cut.nii.gz", "no.nii", "missing.nii"):
        assert code_of(load_nifti, tmp_path / name).code == "input-unreadable", name
