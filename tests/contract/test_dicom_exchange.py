"""Results leave as DICOM and outlines come in, through the API, in both archives."""

from __future__ import annotations

import io
import re

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from db import audit
from db.engine import reading
from orthanc.dicomweb import encode_part10
from orthanc.volume import load_series
from segmentation.dicom.imports import read_import
from segmentation.dicom.seg import segments_as_labels
from tests.fake_archive import FakeArchive
from tests.reader_edits import Desk, make_desk
from tests.security.application import Application


@pytest.fixture
def desk(either_archive, tmp_path, empty_database) -> Desk:
    return make_desk(Application(tmp_path, empty_database), either_archive)


@pytest.fixture
def fake_desk(tmp_path, empty_database) -> Desk:
    return make_desk(Application(tmp_path, empty_database), FakeArchive())


def address(desk: Desk, what: str = "", result_id: str = "") -> str:
    end = f"/{what}" if what else ""
    return f"/api/v1/results/{result_id or desk.result['id']}/export{end}"


def download(desk: Desk, what: str, result_id: str = "") -> Dataset:
    answer = desk.browser().get(address(desk, what, result_id))
    assert answer.status_code == 200, answer.json
    assert answer.mimetype == "application/dicom"
    name = answer.headers["Content-Disposition"]
    assert re.fullmatch(
        r'attachment; filename="metia-result-[0-9a-f]+-[a-z]+\.dcm"', name
    )
    return pydicom.dcmread(io.BytesIO(answer.data))


def take_over(desk: Desk, sop_instance_uid: str, role: str = ""):
    return desk.browser(role).post(
        f"/api/v1/studies/{desk.result['study_uid']}/imports",
        json={"sop_instance_uid": sop_instance_uid},
    )


def audited(desk: Desk, action: str) -> list:
    with reading(desk.application.engine) as session:
        return [one for one in audit.entries(session) if one.action == action]


def source_of(desk: Desk):
    return load_series(desk.images, require_head_t1=False)


# -- out ------------------------------------------------------------------------------


def test_the_outlines_of_a_result_enclose_its_voxels(desk: Desk) -> None:
    made = download(desk, "rtstruct")
    read = read_import(made, source_of(desk))
    np.testing.assert_array_equal(read.labels.array > 0, desk.labels > 0)
    assert made.StudyInstanceUID == desk.result["study_uid"]
    algorithms = {one.ROIGenerationAlgorithm for one in made.StructureSetROISequence}
    assert algorithms == {"AUTOMATIC"}


def test_the_report_of_a_result_says_its_measurements(desk: Desk) -> None:
    made = download(desk, "sr")
    read = hd.sr.ComprehensiveSR.from_dataset(made)
    groups = read.content.get_image_measurement_groups()
    lesions = desk.result["lesions"]
    assert len(groups) == len(lesions) == 2
    for group, lesion in zip(groups, lesions, strict=True):
        values = {one.name.value: one.value for one in group.get_measurements()}
        long_mm = pytest.approx(lesion["longest_diameter_mm"], abs=0.006)
        assert values["103339001"] == long_mm
        volume = pytest.approx(lesion["volume_ml"] * 1000, abs=0.006)
        assert values["118565006"] == volume
    assert made.VerificationFlag == "UNVERIFIED"


def test_the_seg_of_a_result_is_the_stored_one(desk: Desk) -> None:
    made = download(desk, "seg")
    assert made.SOPInstanceUID == desk.result["segmentation"]["sop_instance_uid"]
    np.testing.assert_array_equal(segments_as_labels(made, desk.grid), desk.labels)


def test_is_stored_beside_the_images_once(desk: Desk) -> None:
    asked = {"formats": ["sr", "rtstruct"], "store": True}
    first = desk.browser().post(address(desk), json=asked)
    assert first.status_code == 200, first.json
    told = first.json["objects"]
    assert [one["format"] for one in told] == ["sr", "rtstruct"]
    for one in told:
        assert (one["stored"], one["already_stored"]) == (True, False)
        uids = (one["study_uid"], one["series_uid"], one["sop_instance_uid"])
        stored = desk.archive.fetch_instance(*uids)
        downloaded = download(desk, one["format"])
        assert stored.SOPInstanceUID == downloaded.SOPInstanceUID
    again = desk.browser().post(address(desk), json=asked).json["objects"]
    assert [one["already_stored"] for one in again] == [True, True]
    same = ("sop_instance_uid", "series_uid")
    assert [[a[k] for k in same] for a in again] == [[b[k] for k in same] for b in told]
    headers = desk.archive.series_headers(desk.result["study_uid"])
    kinds = sorted(header.sample.Modality for header in headers)
    assert kinds == ["MR", "RTSTRUCT", "SEG", "SR"]


def test_another_object_under_the_same_uid_is_noticed(fake_desk: Desk) -> None:
    desk = fake_desk
    made = download(desk, "rtstruct")
    made.StructureSetROISequence[0].ROIName = "Somebody else's"
    desk.archive.store([made])
    asked = {"formats": ["rtstruct"]}
    answer = desk.browser().post(address(desk), json=asked)
    assert (answer.status_code, answer.json["code"]) == (502, "archive-mismatch")


def test_can_be_tried_without_storing(fake_desk: Desk) -> None:
    desk = fake_desk
    asked = {"formats": ["sr", "sr"], "store": False}
    answer = desk.browser().post(address(desk), json=asked)
    (told,) = answer.json["objects"]
    assert (told["stored"], told["already_stored"]) == (False, False)
    assert len(desk.archive.series_headers(desk.result["study_uid"])) == 2
    assert told["sop_instance_uid"] == download(desk, "sr").SOPInstanceUID


def test_a_rejected_result_leaves_neither_as_report_nor_as_outlines(
    fake_desk: Desk,
) -> None:
    desk = fake_desk
    reject = {"revision": desk.result["revision"], "state": "rejected"}
    changed = desk.browser().patch(f"/api/v1/results/{desk.result['id']}", json=reject)
    assert changed.status_code == 200, changed.json
    for what in ("sr", "rtstruct"):
        answer = desk.browser().get(address(desk, what))
        assert (answer.status_code, answer.json["code"]) == (422, "export-impossible")
    before = len(desk.archive.series_headers(desk.result["study_uid"]))
    asked = {"formats": ["sr", "rtstruct"], "store": True}
    answer = desk.browser().post(
        f"/api/v1/results/{desk.result['id']}/export", json=asked
    )
    assert answer.json["code"] == "export-impossible"
    assert len(desk.archive.series_headers(desk.result["study_uid"])) == before
    download(desk, "seg")  # what lies in the archive can still be had


def test_what_a_reader_rejected_leaves_in_neither(fake_desk: Desk) -> None:
    desk = fake_desk
    first, second = desk.result["lesions"]
    before = download(desk, "sr").SOPInstanceUID
    change = {
        "revision": desk.result["revision"],
        "lesions": [{"id": first["id"], "review": "rejected"}],
    }
    url = f"/api/v1/results/{desk.result['id']}"
    assert desk.browser().patch(url, json=change).status_code == 200
    report = hd.sr.ComprehensiveSR.from_dataset(download(desk, "sr"))
    assert len(report.content.get_image_measurement_groups()) == 1
    assert report.SOPInstanceUID != before
    outlines = download(desk, "rtstruct")
    (roi,) = outlines.StructureSetROISequence
    assert roi.ROINumber == second["segment_number"]
    change = {
        "revision": desk.result["revision"] + 1,
        "lesions": [{"id": second["id"], "review": "rejected"}],
    }
    assert desk.browser().patch(url, json=change).status_code == 200
    answer = desk.browser().get(address(desk, "rtstruct"))
    assert (answer.status_code, answer.json["code"]) == (422, "export-impossible")
    assert "ContentSequence" in download(desk, "sr")


def evaluations(desk: Desk) -> tuple[Dataset, dict[str, str]]:
    """Give the report, and what it says of the visit by the names of the items."""
    report = download(desk, "sr")
    (container,) = (
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Qualitative Evaluations"
    )
    return report, {
        item.ConceptNameCodeSequence[0].CodeMeaning: (
            item.ConceptCodeSequence[0].CodeValue
            if item.ValueType == "CODE"
            else item.TextValue
        )
        for item in container.ContentSequence
    }


def test_the_report_says_what_a_reviewer_signed(fake_desk: Desk) -> None:
    desk = fake_desk
    study = f"/api/v1/studies/{desk.result['study_uid']}"
    reviewer = desk.browser("reviewer")
    course = reviewer.get(f"{study}/course").json
    (visit,) = course["visits"]
    report, said = evaluations(desk)
    assert said["Response Evaluation Method"] == "C114879"
    assert said["Version of the rule set"].startswith("RANO-BM, ")
    assert said["Current Response"] == "baseline"
    assert said["Status of the assessment"] == "proposed"
    asked = {
        "rule_set": "rano-bm",
        "category": None,
        "comment": "",
        "inputs_sha256": visit["assessment"]["inputs_sha256"],
    }
    answer = reviewer.post(f"{study}/assessments", json=asked)
    assert answer.status_code < 300, answer.json
    signed, said = evaluations(desk)
    assert said["Status of the assessment"] == "signed"
    assert signed.VerificationFlag == "VERIFIED"
    assert signed.SOPInstanceUID != report.SOPInstanceUID
    (observer,) = signed.VerifyingObserverSequence
    assert str(observer.VerifyingObserverName).startswith("Reviewer")
    # Whatever changes afterwards takes the verification with it.
    first = desk.result["lesions"][0]
    url = f"/api/v1/results/{desk.result['id']}"
    now = reviewer.get(url).json["revision"]
    change = {"revision": now, "lesions": [{"id": first["id"], "review": "rejected"}]}
    if reviewer.patch(url, json=change).status_code == 200:
        assert download(desk, "sr").VerificationFlag == "UNVERIFIED"


def test_the_report_names_the_criteria_of_the_plan(fake_desk: Desk) -> None:
    desk = fake_desk
    study = f"/api/v1/studies/{desk.result['study_uid']}"
    reviewer = desk.browser("reviewer")
    course = reviewer.get(f"{study}/course").json
    plan = {"revision": course["plan"]["revision"], "rule_set": "recist-1.1"}
    url = f"/api/v1/patients/{course['patient']['id']}/plan"
    answer = reviewer.put(url, json=plan)
    assert answer.status_code == 200, answer.json
    _, said = evaluations(desk)
    assert said["Response Evaluation Method"] == "126081"
    assert said["Version of the rule set"].startswith("RECIST 1.1, ")


def test_lesions_go_by_their_track(fake_desk: Desk) -> None:
    desk = fake_desk
    study = f"/api/v1/studies/{desk.result['study_uid']}"
    tracks = desk.browser().get(f"{study}/course").json["tracks"]
    wanted = {track["tracking_uid"]: track["label"] for track in tracks}
    assert len(wanted) == 2
    report = hd.sr.ComprehensiveSR.from_dataset(download(desk, "sr"))
    told = {
        str(group.tracking_uid): str(group.tracking_identifier).rsplit(":", 1)[-1]
        for group in report.content.get_image_measurement_groups()
    }
    assert told == wanted
    outlines = download(desk, "rtstruct")
    names = {roi.ROIName for roi in outlines.StructureSetROISequence}
    assert names == set(wanted.values())


def test_every_export_is_in_the_audit(fake_desk: Desk) -> None:
    desk = fake_desk
    download(desk, "sr")
    desk.browser().post(address(desk), json={"formats": ["rtstruct"]})
    entries = audited(desk, "export")
    forms = [entry.details["format"] for entry in entries]
    assert sorted(forms) == ["rtstruct", "sr"]
    assert {entry.subject for entry in entries} == {f"result:{desk.result['id']}"}


def test_formats_that_are_none_are_refused(fake_desk: Desk) -> None:
    for formats in ([], ["seg"], ["pdf"], ["sr", "sr", "sr"], "sr", None):
        answer = fake_desk.browser().post(address(fake_desk), json={"formats": formats})
        assert answer.status_code == 422


def test_no_log_or_warning_tells_whose_result_it_is(
    fake_desk: Desk, capfd, caplog, recwarn
) -> None:
    desk = fake_desk
    image = desk.images[0]
    made = by_another_maker(desk)
    made.StructureSetROISequence[0].ROIName = "GTV Zzcanary"
    desk.archive.store([made])
    assert take_over(desk, made.SOPInstanceUID).status_code == 201
    for what in ("sr", "rtstruct", "seg"):
        download(desk, what)
    told = "".join(capfd.readouterr()) + caplog.text
    told += " ".join(str(warning.message) for warning in recwarn)
    assert "Zzcanary" not in told
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID"):
        assert str(image[keyword].value) not in told, keyword


# -- in -------------------------------------------------------------------------------


def by_another_maker(desk: Desk) -> Dataset:
    """Give outlines like another system's: new UIDs, own names, no types."""
    made = download(desk, "rtstruct")
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.SeriesInstanceUID = generate_uid()
    made.Manufacturer = "Another"
    for number, roi in enumerate(made.StructureSetROISequence, 1):
        roi.ROIName = f"GTV {number}"
        roi.ROIGenerationAlgorithm = "MANUAL"
    return made


def test_a_structure_set_becomes_a_reader_s_result(desk: Desk) -> None:
    made = by_another_maker(desk)
    desk.archive.store([made])
    answer = take_over(desk, made.SOPInstanceUID)
    assert answer.status_code == 201, answer.json
    taken = answer.json
    np.testing.assert_array_equal(desk.stored(taken) > 0, desk.labels > 0)
    assert (taken["origin"], taken["version"], taken["model"]) == ("import", 1, None)
    assert taken["author"] == "annotator"
    assert taken["series_uid"] == desk.result["series_uid"]
    assert {one["name"] for one in taken["lesions"]} == {"GTV 1", "GTV 2"}
    pairs = zip(taken["lesions"], desk.result["lesions"], strict=True)
    for new, old in pairs:
        assert new["voxel_count"] == old["voxel_count"]
        assert new["method"] == "mask-contour"
        assert new["algorithm_type"] == "MANUAL"
        assert new["probability"] is None
        near = pytest.approx(old["longest_diameter_mm"], abs=2.0)
        assert new["longest_diameter_mm"] == near
    # The same again gives the same result.
    again = take_over(desk, made.SOPInstanceUID)
    assert (again.status_code, again.json["id"]) == (201, taken["id"])
    (entry,) = audited(desk, "result-import")
    # What others named must not outlive the erasure of the patient.
    assert str(made.SOPInstanceUID) not in str(entry)
    assert taken["parameters"]["import"]["sop_instance_uid"] == made.SOPInstanceUID
    # And it leaves like any other.
    outlines = download(desk, "rtstruct", taken["id"])
    names = {roi.ROIName for roi in outlines.StructureSetROISequence}
    assert len(names) == 2
    report = download(desk, "sr", taken["id"])
    assert "Algorithm Name" not in str(report)


def test_a_foreign_seg_becomes_a_reader_s_result(desk: Desk) -> None:
    made = download(desk, "seg")
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.SeriesInstanceUID = generate_uid()
    desk.archive.store([made])
    answer = take_over(desk, made.SOPInstanceUID)
    assert answer.status_code == 201, answer.json
    np.testing.assert_array_equal(desk.stored(answer.json), desk.labels)
    # What the object says of its making is kept.
    assert {one["algorithm_type"] for one in answer.json["lesions"]} == {"AUTOMATIC"}


def test_lost_references_are_found_by_the_frame_of_reference(fake_desk: Desk) -> None:
    made = by_another_maker(fake_desk)
    del made.ReferencedFrameOfReferenceSequence
    for item in made.ROIContourSequence:
        for contour in item.ContourSequence:
            del contour.ContourImageSequence
    fake_desk.archive.store([made])
    answer = take_over(fake_desk, made.SOPInstanceUID)
    assert answer.status_code == 201, answer.json
    assert answer.json["series_uid"] == fake_desk.result["series_uid"]


def test_what_cannot_be_taken_over_is_said(fake_desk: Desk) -> None:
    desk = fake_desk
    own = take_over(desk, desk.result["segmentation"]["sop_instance_uid"])
    assert (own.status_code, own.json["code"]) == (422, "import-invalid")
    image = take_over(desk, str(desk.images[0].SOPInstanceUID))
    assert (image.status_code, image.json["code"]) == (404, "not-found")
    nothing = take_over(desk, "1.2.3")
    assert (nothing.status_code, nothing.json["code"]) == (404, "not-found")
    moved = by_another_maker(desk)
    for item in moved.ROIContourSequence:
        for contour in item.ContourSequence:
            points = np.array(contour.ContourData, float) + 1.3
            contour.ContourData = [f"{value:.3f}" for value in points]
    moved.StructureSetROISequence[0].ROIName = "GTV of Zzcanary"
    desk.archive.store([moved])
    answer = take_over(desk, moved.SOPInstanceUID)
    assert (answer.status_code, answer.json["code"]) == (422, "import-invalid")
    assert "does not lie on a slice" in answer.json["detail"]
    assert "Zzcanary" not in answer.text
    results = desk.browser().get(f"/api/v1/studies/{desk.result['study_uid']}/results")
    assert len(results.json["results"]) == 1


def test_another_study_s_object_is_not_found(fake_desk: Desk) -> None:
    made = by_another_maker(fake_desk)
    made.StudyInstanceUID = generate_uid()
    fake_desk.archive.put([pydicom.dcmread(io.BytesIO(encode_part10(made)))])
    answer = take_over(fake_desk, made.SOPInstanceUID)
    assert (answer.status_code, answer.json["code"]) == (404, "not-found")
