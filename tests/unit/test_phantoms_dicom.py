"""The synthetic heads as DICOM: valid, deterministic, geometrically exact."""

import json
import shutil
import subprocess

import highdicom as hd
import numpy as np
import pydicom
import pytest

from orthanc.archive import SeriesHeader
from orthanc.series import rank_series
from segmentation.phantoms import (
    FUSED,
    VISITS,
    Grid,
    Visit,
    dicom_series,
    draw_sample_visit,
    localizer_series,
    make_head,
    sample_head,
    sample_study,
    truth_document,
    write_dicom_series,
    write_images,
)

OBLIQUE = Grid((7, 46, 42), (5.0, 3.5, 3.75), "sagittal", (8, -5, 11))


@pytest.fixture(scope="module")
def visits():
    return {visit: draw_sample_visit(visit) for visit in VISITS}


def _by_series(images):
    series = {}
    for image in images:
        series.setdefault(image.SeriesInstanceUID, []).append(image)
    return series


def _headers(images):
    return [
        SeriesHeader(uid, len(one), one[len(one) // 2])
        for uid, one in _by_series(images).items()
    ]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")
@pytest.mark.parametrize("contrast", ["T1-post", "T1-pre", "T2"])
def test_every_kind_of_series_is_valid_dicom(tmp_path, contrast):
    head = make_head(OBLIQUE, contrast=contrast)
    paths = write_dicom_series(tmp_path, head)
    paths += write_images(tmp_path / "scout", localizer_series())
    for path in (paths[0], paths[6], paths[-1]):
        report = subprocess.run(
            ["dciodvfy", path], capture_output=True, text=True, check=False
        )
        text = report.stdout + report.stderr
        assert "Error" not in text
        assert "Warning" not in text
        assert "MRImage" in text


def test_voxels_and_positions_survive_the_way_through_dicom(tmp_path):
    head = make_head(OBLIQUE, seed=3)
    paths = write_dicom_series(tmp_path, head)
    images = [pydicom.dcmread(path) for path in paths]
    volume = hd.get_volume_from_series(images)
    back = volume.match_geometry(head.volume)
    assert np.array_equal(back.array, head.volume.array)
    assert np.allclose(back.affine, head.volume.affine, atol=1e-6)


def test_uids_follow_from_the_voxels():
    first, again = (dicom_series(make_head(OBLIQUE, seed=1)) for _ in range(2))
    assert first == again
    other = dicom_series(make_head(OBLIQUE, seed=2))
    assert first[0].SeriesInstanceUID != other[0].SeriesInstanceUID
    assert first[0].StudyInstanceUID == other[0].StudyInstanceUID
    uids = [image.SOPInstanceUID for image in first + other]
    assert len(set(uids)) == len(uids)
    assert all(len(uid) <= 64 and pydicom.uid.UID(uid).is_valid for uid in uids)


def test_the_patient_is_plainly_synthetic():
    image = dicom_series(make_head(OBLIQUE))[0]
    assert str(image.PatientName) == "Phantom^Synthetic"
    assert image.PatientID == "METIA-PHANTOM-1"
    assert image.PatientBirthDate == ""


def test_contrast_tags_and_odd_matrices_can_be_asked_for():
    head = sample_head((5, 230, 213), lesions=0)
    plain = dicom_series(head, contrast_tags=False, description="t1_mpr_sag_gd")
    assert "ContrastBolusAgent" not in plain[0]
    assert plain[0].SeriesDescription == "t1_mpr_sag_gd"
    assert (plain[0].Rows, plain[0].Columns) == (230, 213)
    assert dicom_series(head)[0].ContrastBolusAgent == "Gadolinium"
    moved = dicom_series(head, visit=Visit(key="b", date="20260102"))
    assert moved[0].StudyInstanceUID != plain[0].StudyInstanceUID
    assert moved[0].FrameOfReferenceUID != plain[0].FrameOfReferenceUID


@pytest.mark.parametrize("visit", VISITS)
def test_the_post_contrast_series_of_the_sample_is_chosen(visits, visit):
    drawn = visits[visit]
    assert drawn.study_uid == sample_study(visit).study_uid
    ranking = rank_series(_headers(drawn.images))
    assert len(ranking.candidates) == 4
    assert ranking.chosen.series_uid == drawn.post_contrast_series_uid
    assert [c.suitable for c in ranking.candidates] == [True, False, False, False]


@pytest.mark.parametrize("visit", VISITS)
def test_every_series_of_a_visit_belongs_to_one_study_and_one_space(visits, visit):
    images = visits[visit].images
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({image[keyword].value for image in images}) == 1
    assert len({image.SOPInstanceUID for image in images}) == len(images)


def test_the_three_visits_tell_a_story(visits):
    patients = {visits[visit].images[0].PatientID for visit in VISITS}
    dates = [visits[visit].images[0].StudyDate for visit in VISITS]
    assert len(patients) == 1
    assert len({visits[visit].study_uid for visit in VISITS}) == 3
    assert dates == sorted(set(dates))
    first, second, third = (
        dict(zip(visits[v].names, visits[v].post_contrast.lesions, strict=True))
        for v in VISITS
    )
    targets = ("anterior", "parietal", "cerebellar")  # the measurable ones
    assert sorted(
        name for name, lesion in first.items() if lesion.longest_diameter_mm >= 10
    ) == sorted(targets)
    sums = [
        sum(visit[name].longest_diameter_mm for name in targets)
        for visit in (first, second, third)
    ]
    assert sums[1] < 0.68 * sums[0]
    assert sums[2] > 1.25 * sums[1]
    grown = (
        third["parietal"].longest_diameter_mm - second["parietal"].longest_diameter_mm
    )
    assert grown > 6
    assert set(first) - set(second) == {"frontal"}
    assert set(third) - set(first) == {"new"}
    assert min(one.longest_diameter_mm for one in first.values()) <= 4.1
    assert {one.kind for one in first.values()} == {"solid", "ring"}


def test_two_lesions_of_the_sample_grow_into_one(visits):
    for visit in VISITS:
        by_name = dict(
            zip(visits[visit].names, visits[visit].post_contrast.lesions, strict=True)
        )
        one, other = by_name["superior"], by_name["inferior"]
        gap = np.linalg.norm(np.subtract(one.centre_mm, other.centre_mm))
        gap -= (one.longest_diameter_mm + other.longest_diameter_mm) / 2
        assert (gap < -1) == bool(FUSED.get(visit)), visit
        assert gap < -1 or gap > 3


def test_the_noise_of_two_visits_is_not_the_same(visits):
    corners = [visits[v].post_contrast.volume.array[:20, :20, :20] for v in VISITS]
    assert abs(np.corrcoef(corners[0].ravel(), corners[1].ravel())[0, 1]) < 0.1


def test_the_truth_is_plain_data(visits):
    first = truth_document(visits[1])
    assert first["series_uid"] == visits[1].post_contrast_series_uid
    assert len(first["lesions"]) == len(visits[1].post_contrast.lesions)
    assert np.allclose(first["to_first_visit"], np.eye(4))
    third = json.loads(json.dumps(truth_document(visits[3])))
    assert third["fused"] == [["superior", "inferior"]]
    # The matrix takes a lesion that did not move in the head onto itself.
    at = {v["name"]: v["centre_mm"] for v in third["lesions"]}
    then = {v["name"]: v["centre_mm"] for v in first["lesions"]}
    for name in ("anterior", "occipital"):
        there = np.array(third["to_first_visit"]) @ [*at[name], 1]
        assert np.allclose(there[:3], then[name])
