"""The real command line on files: what it finds, writes, refuses and leaves behind."""

import contextlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import highdicom as hd
import jsonschema
import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from segmentation.cli.main import main
from segmentation.cli.result_document import result_schema
from segmentation.phantoms import (
    Grid,
    Visit,
    dicom_series,
    localizer_series,
    make_head,
    random_lesions,
    sample_head,
    write_dicom_series,
    write_images,
)
from settings import get_settings

ROOT = Path(__file__).resolve().parents[2]
METIA = ROOT / "metia"
SECRET = Visit(key="secret", patient_name="Verysecret^Name", patient_id="SECRETID")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ALONE = {"METIA_DATABASE_URL": "sqlite:////no-folder/metia.sqlite"}
"""Keeps what is promoted on this machine out of the tests."""


def run(*arguments, **environment):
    return subprocess.run(
        [METIA, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **ALONE, **environment},
        timeout=200,
    )


def call(*arguments, **environment):
    """Run the command line inside this process: quicker, for what ends early."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        for name, value in {**ALONE, **environment}.items():
            patch.setenv(name, value)
        get_settings.cache_clear()
        code = main([*map(str, arguments)])
    get_settings.cache_clear()
    return subprocess.CompletedProcess(
        arguments, int(code), out.getvalue(), err.getvalue()
    )


def refused(done, code, exit_code):
    """Check a refusal: one line with the code, no traceback, the exit code."""
    assert done.returncode == exit_code, done.stderr
    assert done.stderr.startswith(f"metia: {code}: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "ecret" not in done.stderr + done.stdout
    return done


@pytest.fixture(scope="session")
def head():
    # Rows times columns is not a multiple of 8: the SEG is FRACTIONAL. Oblique.
    grid = Grid(
        (90, 125, 123), (1.6, 1.7, 1.7), "axial", (9.0, -4.0, 3.0), (0.0, 0.0, 0.0)
    )
    return make_head(grid, random_lesions(11, 4, (8.0, 22.0)), seed=11)


@pytest.fixture(scope="session")
def study(head, tmp_path_factory):
    """A study with a scout, a T1 without and the T1 with contrast agent."""
    folder = tmp_path_factory.mktemp("study")
    write_dicom_series(folder / "post", head, visit=SECRET)
    plain = make_head(head.grid, contrast="T1-pre", seed=11)
    images = dicom_series(plain, visit=SECRET, series_number=3)[::4]
    write_images(folder / "plain", images)
    write_images(folder / "scout", localizer_series(SECRET))
    (folder / "README.txt").write_text("no image")
    return folder


@pytest.fixture(scope="session")
def result(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("result") / "made" / "here"
    done = run("segment", study, "--out", out)
    assert done.returncode == 0, done.stderr
    return done, out


def load(out):
    document = json.loads((out / "result.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(result_schema())
    jsonschema.validate(document, result_schema(), jsonschema.Draft202012Validator)
    return document


def dice(first, second):
    first, second = first > 0, second > 0
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def matched(lesion, truths):
    distances = [
        np.linalg.norm(np.subtract(lesion["centroid_mm"], one.centre_mm))
        for one in truths
    ]
    nearest = int(np.argmin(distances))
    assert distances[nearest] < 1.5
    return truths[nearest]


# -- what is found -------------------------------------------------------------


def test_the_lesions_of_a_dicom_folder_are_found_and_measured(head, result):
    done, out = result
    document = load(out)
    assert document["lesion_count"] == len(head.lesions) == 4
    found = {matched(one, head.lesions).number for one in document["lesions"]}
    assert found == {1, 2, 3, 4}
    for lesion in document["lesions"]:
        truth = matched(lesion, head.lesions)
        voxel_mm = max(head.grid.spacing_mm)
        error_mm = lesion["longest_diameter_mm"] - truth.longest_diameter_mm
        assert abs(error_mm) < voxel_mm
        assert lesion["volume_ml"] == pytest.approx(truth.volume_ml, rel=0.2)
    assert "4 lesions found." in done.stdout
    assert "Research use only" in done.stdout
    assert "demonstration" in done.stderr


def test_the_chosen_series_is_the_post_contrast_one(study, result):
    document = load(result[1])
    image = pydicom.dcmread(study / "post" / "0001.dcm")
    assert document["input"]["series_uid"] == image.SeriesInstanceUID
    assert document["input"]["study_uid"] == image.StudyInstanceUID
    assert document["input"]["choice"]
    slices = {
        str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
        for path in (study / "post").iterdir()
    }
    for lesion in document["lesions"]:
        assert lesion["sop_instance_uid"] in slices


def test_the_mask_lies_where_the_truth_lies(head, result):
    _, out = result
    mask = nib.load(out / "mask.nii.gz")
    labels = np.asarray(mask.dataobj)
    assert labels.dtype == np.uint16
    # Through world coordinates, not array order: every lesion's middle in mm.
    document = load(out)
    for lesion in document["lesions"]:
        inside = np.stack(np.nonzero(labels == lesion["segment_number"]))
        assert inside.shape[1] == lesion["voxel_count"]
        centre_ras = mask.affine[:3, :3] @ inside.mean(axis=1) + mask.affine[:3, 3]
        truth = matched(lesion, head.lesions)
        assert np.linalg.norm(LPS[:3, :3] @ centre_ras - truth.centre_mm) < 1.5
    volume = hd.Volume(
        labels.astype(np.int32), LPS @ mask.affine, coordinate_system="PATIENT"
    )
    on_grid = volume.match_geometry(head.volume, tol=1e-3).array
    assert dice(on_grid, head.labels) > 0.9


def test_the_seg_is_valid_and_holds_the_mask(result):
    _, out = result
    if shutil.which("dciodvfy"):
        report = subprocess.run(
            ["dciodvfy", out / "SEG.dcm"], capture_output=True, text=True, check=False
        )
        assert "Error" not in report.stdout + report.stderr
    segmentation = hd.seg.segread(out / "SEG.dcm")
    document = load(out)
    assert segmentation.SegmentationType == "FRACTIONAL"
    assert segmentation.number_of_segments == document["lesion_count"]
    assert document["segmentation"] == {
        "series_uid": segmentation.SeriesInstanceUID,
        "sop_instance_uid": segmentation.SOPInstanceUID,
    }
    volume = segmentation.get_volume(combine_segments=True, dtype=np.uint16)
    mask = nib.load(out / "mask.nii.gz")
    labels = hd.Volume(
        np.asarray(mask.dataobj), LPS @ mask.affine, coordinate_system="PATIENT"
    )
    assert np.array_equal(volume.match_geometry(labels, tol=1e-3).array, labels.array)


def test_everything_written_is_listed_by_hash_and_free_of_patient_data(result):
    done, out = result
    names = {path.name for path in out.iterdir()}
    assert names == {"result.json", "mask.nii.gz", "SEG.dcm", "lesions.png"}
    listed = {one["name"] for one in load(out)["files"]}
    assert listed == names - {"result.json"}
    text = (out / "result.json").read_text() + done.stdout + done.stderr
    assert "ecret" not in text
    assert "20250110" not in text
    picture = (out / "lesions.png").read_bytes()
    assert b"ecret" not in picture
    assert b"ecret" not in (out / "mask.nii.gz").read_bytes()


def test_the_picture_shows_a_tile_for_each_lesion(result):
    document = load(result[1])
    with Image.open(result[1] / "lesions.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    for lesion in document["lesions"]:
        distance = np.abs(pixels - lesion["colour"]).sum(axis=2)
        assert (distance == 0).sum() > 50  # its contour and its legend


def test_a_zip_gives_the_same_as_its_folder_and_leaves_nothing(study, result, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", study)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    out = tmp_path / "out"
    done = run("segment", archive, "--out", out, "--json", TMPDIR=str(scratch))
    assert done.returncode == 0, done.stderr
    assert list(scratch.iterdir()) == []
    document = json.loads(done.stdout)
    assert document == load(out)
    changing = ("created_at", "timings_s", "files")
    first, second = (
        {key: value for key, value in one.items() if key not in changing}
        for one in (load(result[1]), document)
    )
    assert first == second
    assert (out / "mask.nii.gz").exists()


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LIP", "PSR"])
def test_a_nifti_mask_has_the_grid_of_its_image(head, tmp_path, orientation):
    affine = LPS @ head.volume.affine[:, [2, 1, 0, 3]]
    image = nib.Nifti1Image(np.ascontiguousarray(head.volume.array.T), affine)
    truth = nib.Nifti1Image(np.ascontiguousarray(head.labels.T), affine)
    wanted = nib.orientations.axcodes2ornt(orientation)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), wanted
    )
    image, truth = image.as_reoriented(turn), truth.as_reoriented(turn)
    path = tmp_path / "image.nii.gz"
    nib.save(image, path)
    done = run("segment", path, "--out", tmp_path / "out", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    mask = nib.load(tmp_path / "out" / "mask.nii.gz")
    assert mask.shape == image.shape
    assert np.allclose(mask.affine, nib.load(path).affine, atol=1e-4)
    assert dice(np.asarray(mask.dataobj), np.asarray(truth.dataobj)) > 0.9
    document = load(tmp_path / "out")
    assert document["input"]["kind"] == "nifti"
    assert document["segmentation"] is None
    assert not (tmp_path / "out" / "SEG.dcm").exists()
    for lesion in document["lesions"]:
        truth_of = matched(lesion, head.lesions)
        assert lesion["longest_diameter_mm"] == pytest.approx(
            truth_of.longest_diameter_mm, abs=max(head.grid.spacing_mm)
        )


def test_no_lesion_is_a_result(tmp_path):
    head = sample_head((40, 60, 60), lesions=0)
    write_dicom_series(tmp_path / "in", head)
    out = tmp_path / "out"
    done = run("segment", tmp_path / "in", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "No lesions found." in done.stdout
    document = load(out)
    assert document["lesion_count"] == 0
    assert document["segmentation"] is None
    assert {path.name for path in out.iterdir()} == {"result.json", "mask.nii.gz"}
    assert not np.asarray(nib.load(out / "mask.nii.gz").dataobj).any()


# -- what is refused -----------------------------------------------------------


def test_a_missing_slice_is_refused_and_nothing_is_left(head, tmp_path):
    paths = write_dicom_series(tmp_path / "in", head, visit=SECRET)
    paths[30].unlink()
    done = run("segment", tmp_path / "in", "--out", tmp_path / "new" / "out")
    refused(done, "volume-missing-slice", 3)
    assert not (tmp_path / "new").exists()


def test_without_a_suitable_series_the_refusal_says_what_there_is(study, tmp_path):
    out = tmp_path / "out"
    done = call("segment", study / "scout", "--out", out, "--json")
    refused(done, "no-suitable-series", 4)
    assert "localizer" in done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "no-suitable-series"
    refused(call("segment", study / "plain", "--out", out), "no-suitable-series", 4)
    forced = call("segment", study / "plain", "--out", out, "--force-series")
    assert forced.returncode == 0, forced.stderr
    assert load(out)["input"]["choice"] == ["forced by the user"]


def test_series_are_listed_and_can_be_named(study, tmp_path):
    listed = call("segment", study, "--list-series", "--json")
    series = json.loads(listed.stdout)["series"]
    assert [one["suitable"] for one in series] == [True, False, False]
    assert "ecret" not in listed.stdout
    wrong = call("segment", study, "--out", tmp_path / "a", "--series", "1.2.3")
    refused(wrong, "series-not-found", 4)
    scout = next(one for one in series if "localizer" in one["reasons"])
    named = call(
        "segment", study, "--out", tmp_path / "b", "--series", scout["series_uid"]
    )
    assert named.returncode in {3, 4}
    assert not (tmp_path / "b").exists()


def test_two_studies_at_once_are_refused(head, study, tmp_path):
    shutil.copytree(study / "post", tmp_path / "one")
    small = sample_head((8, 40, 40), lesions=0)
    write_dicom_series(tmp_path / "two", small, visit=Visit(key="other"))
    refused(call("segment", tmp_path, "--out", tmp_path / "o"), "input-ambiguous", 4)


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dcm").write_bytes(b"\x08\x00" + b"garbage" * 50)
    (tmp_path / "in" / "b.txt").write_text("text")
    out = tmp_path / "out"
    refused(call("segment", tmp_path / "in", "--out", out), "input-unreadable", 3)
    for name, content in (("x.nii", b"no nifti"), ("x.nii.gz", b"\x1f\x8bno"),
                          ("x.zip", b"PK no zip"), ("x.png", b"")):  # fmt: skip
        path = tmp_path / name
        path.write_bytes(content)
        refused(call("segment", path, "--out", out), "input-unreadable", 3)
    assert not out.exists()


def test_unknown_and_changed_models_are_refused(study, tmp_path):
    out = tmp_path / "out"
    done = call("segment", study, "--out", out, "--model", "nope")
    refused(done, "model-unknown", 5)
    shutil.copytree(
        ROOT / "unetr" / "weights" / "unetr-seeded", tmp_path / "m/unetr-seeded"
    )
    weights = tmp_path / "m" / "unetr-seeded" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = ("segment", study, "--out", out, "--model", "unetr-seeded")
    done = call(*changed, METIA_MODEL_DIRS=str(tmp_path / "m"))
    refused(done, "model-integrity", 5)


def test_wrong_usage_and_wrong_settings_have_their_exit_codes(study, tmp_path):
    assert call("segment", study).returncode == 2
    assert call("segment", tmp_path / "missing", "--out", tmp_path).returncode == 2
    assert call("segment", study, "--out", tmp_path, "--device", "x").returncode == 2
    done = call("segment", study, "--out", tmp_path / "o", METIA_THREADS="-3")
    refused(done, "configuration-invalid", 6)


# -- output --------------------------------------------------------------------


def test_earlier_results_are_kept_unless_told_otherwise(study, result, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(result[1], out)
    (out / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in out.iterdir()}
    refused(call("segment", study, "--out", out), "output-exists", 2)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    # A failing run does not touch them either.
    done = call("segment", study / "scout", "--out", out, "--overwrite")
    assert done.returncode == 4
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    # A run without lesions takes the old SEG and picture away.
    write_dicom_series(tmp_path / "in", sample_head((40, 60, 60), lesions=0))
    done = call("segment", tmp_path / "in", "--out", out, "--overwrite")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in out.iterdir()}
    assert names == {"result.json", "mask.nii.gz", "notes.txt"}


def test_a_folder_that_cannot_be_made_is_told_as_such(head, tmp_path):
    write_dicom_series(tmp_path / "in", sample_head((40, 60, 60), lesions=0))
    (tmp_path / "file").write_text("no folder")
    done = call("segment", tmp_path / "in", "--out", tmp_path / "file" / "out")
    refused(done, "output-unwritable", 6)


def test_the_output_may_not_be_a_file(study, tmp_path):
    (tmp_path / "out").write_text("a file")
    refused(call("segment", study, "--out", tmp_path / "out"), "output-exists", 2)


_WAIT_IN_THE_MIDDLE = """
import sys, time
from pathlib import Path
from segmentation.cli import run
from segmentation.cli.main import main

def wait(*_, **__):
    Path(sys.argv[1]).touch()
    time.sleep(60)

run.load_series = wait
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_ends_with_130_and_leaves_nothing(tmp_path, number):
    write_dicom_series(tmp_path / "in", sample_head((8, 32, 32), lesions=0))
    archive = shutil.make_archive(str(tmp_path / "in"), "zip", tmp_path / "in")
    scratch, reached = tmp_path / "scratch", tmp_path / "reached"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", _WAIT_IN_THE_MIDDLE, reached, "segment", archive,
         "--out", tmp_path / "out"],
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            **ALONE,
            "TMPDIR": str(scratch),
            "PYTHONPATH": str(ROOT),
        },
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not reached.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert list(scratch.iterdir()) != []  # the archive is unpacked
    process.send_signal(number)
    _, text = process.communicate(timeout=30)
    assert process.returncode == 130
    assert text.strip() == "metia: cancelled"
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "out").exists()


# -- hostile archives ----------------------------------------------------------


def test_members_cannot_choose_where_they_land(head, tmp_path):
    images = dicom_series(sample_head((8, 32, 32), lesions=0))
    write_images(tmp_path / "in", images)
    content = (tmp_path / "in" / "0001.dcm").read_bytes()
    inner = tmp_path / "jail" / "deep"
    inner.mkdir(parents=True)
    archive = inner / "evil.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name in ("../../escaped.dcm", "/tmp/metia-escaped.dcm", "..\\e.dcm"):
            made.writestr(name, content)
        link = zipfile.ZipInfo("link.dcm")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, "/etc/passwd")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    before = {path for path in tmp_path.rglob("*")}
    done = run("segment", archive, "--out", tmp_path / "o", TMPDIR=str(scratch))
    assert done.returncode in {3, 4}
    assert "Traceback" not in done.stderr
    assert {path for path in tmp_path.rglob("*")} == before
    assert not Path("/tmp/metia-escaped.dcm").exists()


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path):
    archive = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made,
        made.open("zeros.dcm", "w") as member,
    ):
        for _ in range(300):
            member.write(bytes(1 << 20))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = run("segment", archive, "--out", tmp_path / "o", TMPDIR=str(scratch))
    refused(done, "input-unreadable", 3)
    assert "times its size" in done.stderr
    assert list(scratch.iterdir()) == []


def test_encrypted_and_damaged_archives_are_refused(study, tmp_path):
    archive = Path(shutil.make_archive(str(tmp_path / "good"), "zip", study / "scout"))
    content = bytearray(archive.read_bytes())
    cut = tmp_path / "cut.zip"
    cut.write_bytes(content[: len(content) // 2])
    refused(call("segment", cut, "--out", tmp_path / "o"), "input-unreadable", 3)
    # The flag of encryption, in every local and central header.
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(signature)
        while place >= 0:
            content[place + offset] |= 1
            place = content.find(signature, place + 4)
    locked = tmp_path / "locked.zip"
    locked.write_bytes(content)
    done = call("segment", locked, "--out", tmp_path / "o")
    assert "encrypted" in refused(done, "input-unreadable", 3).stderr


# -- real images ---------------------------------------------------------------


def test_a_real_post_contrast_series_runs_end_to_end(shared_data, tmp_path):
    out = tmp_path / "out"
    done = run("segment", shared_data / "dicom_tcia_btp_mri_brain", "--out", out)
    assert done.returncode == 0, done.stderr
    document = load(out)
    assert document["input"]["shape"] == [24, 320, 260]
    assert document["input"]["spacing_mm"] == pytest.approx([6.5, 0.6875, 0.6875])
    assert document["state"] == "unverified"


def test_real_images_of_other_kinds_are_refused(shared_data, tmp_path):
    out = tmp_path / "out"
    for folder, code in (
        ("dicom_xa30_pair", "no-suitable-series"),
        ("cxr", "input-ambiguous"),
        ("rt_rtutils", "no-suitable-series"),
    ):
        refused(call("segment", shared_data / folder, "--out", out), code, 4)
    assert not out.exists()
