"""Every folder of real DICOM either loads where SimpleITK says it lies, or is refused.

The table in ``docs/conformance.md`` is what this test found; where it no longer is, the
test fails. ``METIA_UPDATE_DOCS=1`` writes it anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from errors import MetiaError
from orthanc.archive import SeriesHeader
from orthanc.series import rank_series
from orthanc.volume import LoadedSeries, load_series

CONFORMANCE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
BEGIN, END = "<!-- real series: begin -->", "<!-- real series: end -->"

D2N = "dicom_dicom2nifti"
OK = "loads"
T1 = "volume-not-head-t1"

# folder, what it is, outcome where a T1 of the head is required, outcome by hand
EXPECTED = [
    ("dicom_tcia_btp_mri_brain", "SE T1 after contrast, 24 slices, oblique", OK, OK),
    ("dicom_xa30_pair/classic_5001", "EPI, sagittal, 63 slices, classic", T1, OK),
    ("dicom_xa30_pair/enhanced", "the same as Enhanced MR", T1, OK),
    (f"{D2N}/anatomical/001", "GE 3-D gradient echo, 4 slices", OK, OK),
    (f"{D2N}/anatomical/001_implicit", "the same kind, Implicit VR", OK, OK),
    (f"{D2N}/ge/anatomical/001", "GE 3-D gradient echo, 4 slices", OK, OK),
    (f"{D2N}/ge/anatomical/001_implicit", "the same kind, Implicit VR", OK, OK),
    (f"{D2N}/ge/anatomical/001_single_slice", "a single slice",
     "volume-single-slice", "volume-single-slice"),
    (f"{D2N}/generic/anatomical/001", "3-D FLAIR, 4 slices", T1, OK),
    (f"{D2N}/generic/anatomical/001_implicit", "3-D FLAIR, Implicit VR", T1, OK),
    (f"{D2N}/generic/anatomical/002_non_isotropic",
     "reformat, 4.0 x 6.4 mm pixels, oblique", OK, OK),
    (f"{D2N}/generic/compressed/001", "3-D FLAIR, JPEG 2000", T1, OK),
    (f"{D2N}/generic/compressed_j2k/001", "3-D FLAIR, JPEG 2000", T1, OK),
    (f"{D2N}/generic/compressed_jpeg/001", "3-D FLAIR, JPEG Lossless", T1,
     "volume-undecodable"),
    (f"{D2N}/generic/compressed_jpegls/001", "3-D FLAIR, JPEG-LS", T1, OK),
    (f"{D2N}/generic/compressed_rle/001", "3-D FLAIR, RLE", T1, OK),
    (f"{D2N}/generic/rgb/001", "colour screen captures",
     "volume-colour", "volume-colour"),
    (f"{D2N}/philips/anatomical/001", "Philips 3-D FLAIR, 4 slices", T1, OK),
    (f"{D2N}/philips/anatomical/001_implicit", "the same kind, Implicit VR", T1, OK),
    (f"{D2N}/philips/anatomical/002", "Philips SWI, magnitude and phase mixed", T1,
     "volume-duplicate-slice"),
    (f"{D2N}/philips_enhanced/anatomical/001", "Philips Enhanced T1, 8 frames", OK, OK),
    (f"{D2N}/philips_enhanced/anatomical/001_implicit",
     "the same kind, Implicit VR", OK, OK),
    (f"{D2N}/siemens/anatomical/001", "Siemens 3-D FLAIR, 4 slices", T1, OK),
    (f"{D2N}/siemens/anatomical/001_implicit", "the same kind, Implicit VR", T1, OK),
    (f"{D2N}/siemens_multiframe/anatomical/001", "Siemens Enhanced, 8 frames", OK, OK),
    ("dicom_dcm_qa_ts", "one mosaic in 7 transfer syntaxes, each file alone",
     "volume-mosaic", "volume-mosaic"),
    ("seg_highdicom", "CT, DX, SEG, SM, SR", "volume-not-mr", "volume-not-mr"),
    ("seg_dcmqi/segmentations", "SEG of a CT", "volume-not-mr", "volume-not-mr"),
    ("seg_dcmqi/segmentations/ct-3slice", "CT", "volume-not-mr", "volume-not-mr"),
    ("seg_dcmqi/sr-example", "SEG, SR, real world mapping",
     "volume-not-mr", "volume-not-mr"),
    ("rt_rtutils", "CT and RTSTRUCT", "volume-not-mr", "volume-not-mr"),
    ("cxr", "chest X-rays", "volume-not-mr", "volume-not-mr"),
]  # fmt: skip


def read_folder(folder: Path) -> list[tuple[Path, Dataset]]:
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_file():
            try:
                found.append((path, pydicom.dcmread(path)))
            except InvalidDicomError:
                continue
    return found


def by_series(folder: Path) -> list[list[tuple[Path, Dataset]]]:
    if folder.name == "dicom_dcm_qa_ts":  # one image many times: each file alone
        return [[pair] for pair in read_folder(folder)]
    groups = defaultdict(list)
    for path, image in read_folder(folder):
        groups[image.get("SeriesInstanceUID")].append((path, image))
    return list(groups.values())


def outcome(images: list[Dataset], require_head_t1: bool) -> str:
    try:
        load_series(images, require_head_t1=require_head_t1)
    except MetiaError as error:
        return error.code
    return OK


def simple_itk_volume(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (slice, row, column) and affine in the order SimpleITK reads them."""
    if len(paths) == 1:
        image = sitk.ReadImage(str(paths[0]))
    else:
        wanted = {str(path) for path in paths}
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(paths[0].parent))
        image = sitk.ReadImage([name for name in names if name in wanted])
    steps = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3] = steps[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).astype(np.float64), affine


def along(volume: np.ndarray, affine: np.ndarray, like: np.ndarray):
    """Turn axis 0 round if it runs against that of `like`."""
    if affine[:3, 0] @ like[:3, 0] > 0:
        return volume, affine
    turned = affine.copy()
    turned[:3, 3] += affine[:3, 0] * (volume.shape[0] - 1)
    turned[:3, 0] *= -1
    return volume[::-1], turned


def compare(loaded: LoadedSeries, paths: list[Path]) -> str:
    """Say how well a volume agrees with SimpleITK's; fail where it does not."""
    ours = loaded.volume
    theirs, affine = along(*simple_itk_volume(paths), ours.affine)
    assert theirs.shape == ours.shape
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in ours.shape])).reshape(3, -1)
    homogeneous = np.vstack([corners, np.ones(8)])
    error_mm = np.abs((ours.affine - affine) @ homogeneous)[:3].max()
    assert error_mm < 0.01, f"a corner lies {error_mm} mm off"
    np.testing.assert_allclose(ours.array, theirs, rtol=1e-5, atol=1e-3)
    shape = " x ".join(map(str, ours.shape))
    spacing = " x ".join(f"{step:.4g}" for step in ours.spacing)
    return f"{shape}, {spacing} mm, equal"


@pytest.mark.parametrize(("folder", "what", "automatic", "by_hand"), EXPECTED)
def test_real_series_load_or_are_refused(shared_data, folder, what, automatic, by_hand):
    groups = by_series(shared_data / folder)
    assert groups
    for group in groups:
        images = [image for _, image in group]
        assert outcome(images, True) == automatic
        assert outcome(images, False) == by_hand
        if by_hand == OK:
            loaded = load_series(images, require_head_t1=False)
            compare(loaded, [path for path, _ in group])


def test_every_folder_of_dicom_is_in_the_table(shared_data):
    listed = {row[0] for row in EXPECTED}
    roots = {row[0].split("/")[0] for row in EXPECTED}
    found = set()
    for root in roots:
        for folder, _, names in os.walk(shared_data / root):
            if names and read_folder(Path(folder)):
                found.add(str(Path(folder).relative_to(shared_data)))
    assert found == listed


def test_the_table_in_the_documentation_is_true(shared_data):
    rows = ["| folder | what | as a T1 of the head | by hand | against SimpleITK |",
            "|---|---|---|---|---|"]  # fmt: skip
    for folder, what, automatic, by_hand in EXPECTED:
        check = "-"
        if by_hand == OK:
            group = by_series(shared_data / folder)[0]
            loaded = load_series([image for _, image in group], require_head_t1=False)
            check = compare(loaded, [path for path, _ in group])
        rows.append(f"| `{folder}` | {what} | {automatic} | {by_hand} | {check} |")
    table = "\n".join(rows)
    text = CONFORMANCE.read_text("utf-8")
    head, rest = text.split(BEGIN)
    stated, tail = rest.split(END)
    if os.environ.get("METIA_UPDATE_DOCS"):
        CONFORMANCE.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}", "utf-8")
    else:
        assert stated.strip() == table


def test_enhanced_and_classic_give_one_volume_but_for_56_pixels(shared_data):
    """The source differs in 56 pixels of the first slice; nothing else may differ."""
    classic = load_series(
        [
            image
            for _, image in read_folder(shared_data / "dicom_xa30_pair/classic_5001")
        ],
        require_head_t1=False,
    )
    enhanced = load_series(
        [image for _, image in read_folder(shared_data / "dicom_xa30_pair/enhanced")],
        require_head_t1=False,
    )
    np.testing.assert_allclose(classic.volume.affine, enhanced.volume.affine, atol=1e-6)
    differing = classic.volume.array != enhanced.volume.array
    slices = np.unique(np.nonzero(differing)[0])
    assert int(differing.sum()) == 56
    assert len(slices) == 1
    slice_index = int(slices[0])
    first_frame = enhanced.slices[slice_index].frame_number
    assert (slice_index, first_frame) == EXPECTED_DIFFERENCE


EXPECTED_DIFFERENCE = (0, 1)


@pytest.mark.skipif(shutil.which("dcmdjpeg") is None, reason="dcmtk is not installed")
def test_jpeg_lossless_loads_once_transcoded(shared_data, tmp_path):
    folder = shared_data / D2N / "generic/compressed_jpeg/001"
    original = read_folder(folder)
    for path, _ in original:
        subprocess.run(["dcmdjpeg", path, tmp_path / path.name], check=True)
    loaded = load_series(
        [image for _, image in read_folder(tmp_path)], require_head_t1=False
    )
    compare(loaded, [path for path, _ in original])
    assert {ref.sop_instance_uid for ref in loaded.slices} == {
        image.SOPInstanceUID for _, image in original
    }


def test_the_real_post_contrast_t1_is_chosen(shared_data):
    post = [i for _, i in read_folder(shared_data / "dicom_tcia_btp_mri_brain")]
    others = [
        by_series(shared_data / row[0])[0][0][1]
        for row in EXPECTED
        if row[0] != "dicom_tcia_btp_mri_brain"
    ]
    headers = [SeriesHeader("post", len(post), post[len(post) // 2])]
    headers += [SeriesHeader(f"o{n}", 60, image) for n, image in enumerate(others)]
    ranking = rank_series(headers)
    assert ranking.chosen is not None
    assert ranking.chosen.series_uid == "post"
    assert [c.series_uid for c in ranking.candidates if c.suitable] == ["post"]
    assert rank_series(headers[1:]).chosen is None
