"""What a reader changes about a result, through the API, in both kinds of archive.

The promises, in words:

- every voxel the reader drew stands in the new SEG, in whatever order images come;
- what was not touched keeps its measurements, its type and its identity;
- the version before stays, object and record;
- whoever saw an older state is told, nothing is lost, and sending twice saves once.
"""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from db import audit
from db.engine import reading
from errors import MetiaError
from orthanc.volume import SliceReference
from segmentation.http.routes import SERVICES
from tests.fake_archive import FakeArchive
from tests.mr_series import enhanced_image
from tests.reader_edits import Desk, make_desk
from tests.security.application import Application


@pytest.fixture
def desk(either_archive, tmp_path, empty_database) -> Desk:
    return make_desk(Application(tmp_path, empty_database), either_archive)


def edited(desk: Desk) -> np.ndarray:
    """Lesion 1 loses its first slice and gets a stray voxel; 3 is new; 2 stays."""
    labels = desk.labels.copy()
    first = np.argwhere(labels == 1)[0][0]
    labels[first][labels[first] == 1] = 0
    labels[20, 60, 70] = 1
    labels[2:5, 4:9, 5:11] = 3
    return labels


NEW = {"number": 3, "lesion_id": None, "name": "Left frontal"}


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in result["lesions"]}


def test_every_edited_voxel_survives_and_the_rest_keeps_its_measurements(
    desk: Desk,
) -> None:
    labels = edited(desk)
    answer = desk.save(labels, [*desk.kept(), NEW], note="first slice was a vessel")
    assert answer.status_code == 201, answer.json
    after = answer.json
    np.testing.assert_array_equal(desk.stored(after), labels)
    np.testing.assert_array_equal(desk.stored(desk.result), desk.labels)
    assert (after["state"], after["origin"]) == ("edited", "reader")
    assert (after["version"], after["predecessor_id"]) == (2, desk.result["id"])
    assert (after["author"], after["note"]) == ("annotator", "first slice was a vessel")

    before, now = by_name(desk.result), by_name(after)
    same = {"id", "review"}
    assert {k: v for k, v in now["Metastasis 2"].items() if k not in same} == {
        k: v for k, v in before["Metastasis 2"].items() if k not in same
    }
    assert now["Metastasis 2"]["method"] == "probability-contour"
    changed = now["Metastasis 1"]
    assert changed["method"] == "mask-contour"
    assert changed["algorithm_type"] == "SEMIAUTOMATIC"
    assert changed["probability"] is None
    assert changed["warnings"] == ["several-parts"]
    assert changed["voxel_count"] == (labels == 1).sum()
    for name in ("tracking_uid", "finding_uid", "tracking_id", "colour"):
        assert changed[name] == before["Metastasis 1"][name]
    drawn = now["Left frontal"]
    assert (drawn["algorithm_type"], drawn["review"]) == ("MANUAL", "accepted")
    assert drawn["voxel_count"] == (labels == 3).sum()
    uids = {one["tracking_uid"] for one in after["lesions"]}
    assert len(uids) == 3
    assert drawn["finding_uid"] == drawn["tracking_uid"]
    assert drawn["sop_instance_uid"] in {str(i.SOPInstanceUID) for i in desk.images}


def test_the_object_says_who_made_it_and_what_it_replaces(desk: Desk) -> None:
    after = desk.save(edited(desk), [*desk.kept(), NEW]).json
    seg = desk.seg(after)
    types = [one.SegmentAlgorithmType for one in seg.SegmentSequence]
    assert types == ["SEMIAUTOMATIC", "AUTOMATIC", "MANUAL"]
    assert [one.SegmentLabel for one in seg.SegmentSequence][2] == "Left frontal"
    assert [one.TrackingUID for one in seg.SegmentSequence] == [
        one["tracking_uid"] for one in after["lesions"]
    ]
    before = desk.result["segmentation"]
    (reference,) = seg.ReferencedInstanceSequence
    assert reference.ReferencedSOPInstanceUID == before["sop_instance_uid"]
    series = [one.SeriesInstanceUID for one in seg.ReferencedSeriesSequence]
    # The image alone: a viewer that found the object before here would draw nothing.
    assert series == [desk.result["series_uid"]]
    assert "v2" in seg.SeriesDescription
    assert "Annotator" in seg.SeriesDescription
    assert "research use only" in seg.SeriesDescription
    assert str(seg.ContentCreatorName).startswith("Annotator")
    assert seg.SeriesNumber > desk.seg(desk.result).SeriesNumber


def test_the_order_of_the_images_does_not_matter(desk: Desk) -> None:
    labels = edited(desk)
    order = np.random.default_rng(3).permutation(len(desk.slices))
    desk.slices = tuple(desk.slices[k] for k in order)
    after = desk.save(labels[order], [*desk.kept(), NEW]).json
    np.testing.assert_array_equal(desk.stored(after), labels)


def test_one_byte_labels_and_other_numbers(desk: Desk) -> None:
    labels = np.where(desk.labels == 2, 200, 0).astype(np.uint8)
    labels[2:5, 4:9, 5:11] = 7
    (second,) = desk.kept(2)
    segments = [
        {**second, "number": 200},
        {"number": 7, "lesion_id": None, "name": "New"},
    ]
    answer = desk.send(desk.describe(segments), gzip.compress(labels.tobytes()))
    assert answer.status_code == 201, answer.json
    assert [one["name"] for one in answer.json["lesions"]] == ["New", "Metastasis 2"]
    np.testing.assert_array_equal(
        desk.stored(answer.json), np.select([labels == 7, labels == 200], [1, 2])
    )


def test_the_second_reader_is_told_and_nothing_is_lost(desk: Desk) -> None:
    labels = edited(desk)
    mine = desk.save(labels, [*desk.kept(), NEW]).json
    segs = desk.segs()
    other = desk.labels.copy()
    other[6:9, 4:9, 5:11] = 3
    answer = desk.save(other, [*desk.kept(), NEW], role="reviewer")
    assert (answer.status_code, answer.json["code"]) == (409, "edit-conflict")
    assert answer.json["current_result_id"] == mine["id"]
    assert answer.json["current_revision"] == mine["revision"]
    assert desk.segs() == segs
    both = desk.save(other, [*desk.kept(), NEW], role="reviewer", keep_both=True)
    assert both.status_code == 201, both.json
    np.testing.assert_array_equal(desk.stored(both.json), other)
    np.testing.assert_array_equal(desk.stored(mine), labels)
    listed = desk.browser().get(f"/api/v1/studies/{mine['study_uid']}/results").json
    assert {one["id"] for one in listed["results"]} == {
        desk.result["id"],
        mine["id"],
        both.json["id"],
    }
    finding = by_name(both.json)["Metastasis 1"]["finding_uid"]
    assert finding == by_name(desk.result)["Metastasis 1"]["finding_uid"]


def test_sending_the_same_again_saves_once(desk: Desk) -> None:
    first = desk.save(edited(desk), [*desk.kept(), NEW])
    again = desk.save(edited(desk), [*desk.kept(), NEW])
    assert (again.status_code, again.json["id"]) == (201, first.json["id"])
    assert desk.segs() == 2


def test_removing_everything_says_that_there_is_no_lesion(desk: Desk) -> None:
    after = desk.save(np.zeros_like(desk.labels), []).json
    assert (after["lesions"], after["segmentation"]) == ([], None)
    desk.result["revision"] = after["revision"]
    labels = np.zeros_like(desk.labels)
    labels[3:6, 10:20, 10:20] = 3
    answer = desk.save(labels, [NEW], result_id=after["id"])
    assert answer.status_code == 201, answer.json
    np.testing.assert_array_equal(desk.stored(answer.json), labels // 3)
    assert answer.json["version"] == 3


def test_nothing_changed_is_no_version(desk: Desk) -> None:
    answer = desk.save(desk.labels, desk.kept())
    assert (answer.status_code, answer.json["code"]) == (422, "nothing-changed")
    assert desk.segs() == 1


def change(desk: Desk, result: dict[str, Any], role: str = "", **asked: Any) -> Any:
    body = {"revision": result["revision"], **asked}
    return desk.browser(role).patch(f"/api/v1/results/{result['id']}", json=body)


def test_accepting_and_rejecting_changes_the_record_alone(desk: Desk) -> None:
    first, second = desk.result["lesions"]
    answer = change(
        desk,
        desk.result,
        state="accepted",
        lesions=[
            {"id": first["id"], "review": "accepted"},
            {"id": second["id"], "review": "rejected"},
        ],
    )
    assert answer.status_code == 200, answer.json
    assert answer.json["id"] == desk.result["id"]
    assert answer.json["state"] == "accepted"
    assert answer.json["revision"] == desk.result["revision"] + 1
    assert [one["review"] for one in answer.json["lesions"]] == ["accepted", "rejected"]
    assert desk.segs() == 1
    late = change(desk, desk.result, state="rejected")
    assert (late.status_code, late.json["code"]) == (409, "edit-conflict")
    assert late.json["current_revision"] == answer.json["revision"]
    with reading(desk.application.engine) as session:
        entry = audit.entries(session, subject=f"result:{desk.result['id']}")[0]
    assert (entry.actor, entry.action) == ("annotator", "result-review")
    assert entry.details["before"]["state"] == "unverified"
    assert entry.details["after"]["state"] == "accepted"


def test_renaming_and_deleting_make_a_version(desk: Desk) -> None:
    first, second = desk.result["lesions"]
    answer = change(
        desk,
        desk.result,
        lesions=[
            {"id": first["id"], "deleted": True},
            {"id": second["id"], "name": "Cerebellum", "review": "accepted"},
        ],
    )
    assert answer.status_code == 200, answer.json
    after = answer.json
    assert after["version"] == 2
    np.testing.assert_array_equal(desk.stored(after), desk.labels == 2)
    (left,) = after["lesions"]
    assert (left["name"], left["review"]) == ("Cerebellum", "accepted")
    assert (left["algorithm_type"], left["method"]) == (
        "AUTOMATIC",
        "probability-contour",
    )
    assert left["tracking_uid"] == second["tracking_uid"]
    (segment,) = desk.seg(after).SegmentSequence
    assert segment.SegmentLabel == "Cerebellum"
    assert segment.TrackingID == second["tracking_id"]


def test_a_name_that_stays_makes_no_version(desk: Desk) -> None:
    first = desk.result["lesions"][0]
    same = {"id": first["id"], "name": first["name"], "review": "accepted"}
    answer = change(desk, desk.result, lesions=[same])
    assert (answer.status_code, answer.json["id"]) == (200, desk.result["id"])
    assert answer.json["lesions"][0]["review"] == "accepted"
    foreign = change(desk, answer.json, lesions=[{"id": "0" * 32, "name": "x"}])
    assert (foreign.status_code, foreign.json["code"]) == (422, "invalid-input")


def test_keeping_both_without_need_follows_on(desk: Desk) -> None:
    after = desk.save(edited(desk), [*desk.kept(), NEW], keep_both=True).json
    assert (after["version"], after["predecessor_id"]) == (2, desk.result["id"])


def restore(desk: Desk, result: dict[str, Any], **asked: Any) -> Any:
    body = {"revision": result["revision"], **asked}
    return desk.browser().post(f"/api/v1/results/{result['id']}/restore", json=body)


def test_undo_brings_the_version_before_back(desk: Desk) -> None:
    nothing = restore(desk, desk.result)
    assert (nothing.status_code, nothing.json["code"]) == (409, "conflict")
    after = desk.save(edited(desk), [*desk.kept(), NEW]).json
    undone = restore(desk, after)
    assert undone.status_code == 201, undone.json
    assert undone.json["version"] == 3
    assert undone.json["state"] == desk.result["state"]
    assert undone.json["segmentation"] == desk.result["segmentation"]
    content = [{**one, "id": ""} for one in undone.json["lesions"]]
    assert content == [{**one, "id": ""} for one in desk.result["lesions"]]
    redone = restore(desk, undone.json, version_id=after["id"])
    assert redone.json["segmentation"] == after["segmentation"]
    versions = desk.browser().get(f"/api/v1/results/{after['id']}/versions").json
    assert [one["id"] for one in versions["versions"]] == [
        desk.result["id"],
        after["id"],
        undone.json["id"],
        redone.json["id"],
    ]
    stale = restore(desk, after)
    assert (stale.status_code, stale.json["code"]) == (409, "edit-conflict")
    foreign = restore(desk, redone.json, version_id="0" * 32)
    assert foreign.status_code == 422
    # What was brought back can be edited on.
    desk.result = redone.json
    again = desk.save(desk.labels, desk.kept(), result_id=redone.json["id"])
    assert again.status_code == 201, again.json
    np.testing.assert_array_equal(desk.stored(again.json), desk.labels)


def test_images_that_changed_are_not_corrected_by_guess(desk: Desk) -> None:
    foreign = SliceReference(desk.slices[0].sop_instance_uid + ".1", None)
    desk.slices = (foreign, *desk.slices[1:])
    answer = desk.save(edited(desk), [*desk.kept(), NEW])
    assert (answer.status_code, answer.json["code"]) == (422, "invalid-input")
    assert desk.segs() == 1


def as_enhanced(images: list[Dataset]) -> list[Dataset]:
    """Put the slices into one Enhanced object, in an order of its own."""
    order = np.random.default_rng(5).permutation(len(images)).tolist()
    image = enhanced_image(images, order)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        setattr(image, keyword, images[0][keyword].value)
    return [image]


def test_frames_of_an_enhanced_image_are_corrected_by_their_numbers(
    tmp_path, empty_database
) -> None:
    desk = make_desk(Application(tmp_path, empty_database), FakeArchive(), as_enhanced)
    frames = [one.frame_number for one in desk.slices]
    assert sorted(frames) == list(range(1, len(frames) + 1)) != frames
    labels = edited(desk)
    by_number = np.argsort(frames)  # as a viewer goes through the object
    desk.slices = tuple(desk.slices[k] for k in by_number)
    after = desk.save(labels[by_number], [*desk.kept(), NEW])
    assert after.status_code == 201, after.json
    np.testing.assert_array_equal(desk.stored(after.json), labels)
    drawn = by_name(after.json)["Left frontal"]
    assert drawn["frame_number"] in np.array(frames)[2:5]


def test_a_series_that_grew_is_not_corrected(tmp_path, empty_database) -> None:
    archive = FakeArchive()
    desk = make_desk(
        Application(tmp_path, empty_database), archive, lambda images: images[:-1]
    )
    desk_of_all = make_desk(desk.application, FakeArchive())
    last = desk_of_all.images[-1]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(last, keyword, desk.images[0][keyword].value)
    archive.put([last])
    desk_of_all.application.app.extensions[SERVICES] = replace(
        desk.application.app.extensions[SERVICES], archive=archive
    )
    answer = desk.save(edited(desk), [*desk.kept(), NEW])
    assert (answer.status_code, answer.json["code"]) == (409, "source-changed")


def test_an_archive_that_fails_leaves_no_version(tmp_path, empty_database) -> None:
    archive = FakeArchive()
    desk = make_desk(Application(tmp_path, empty_database), archive)
    archive.fail_with = MetiaError("archive-unavailable", "Down.")
    answer = desk.save(edited(desk), [*desk.kept(), NEW])
    assert (answer.status_code, answer.json["code"]) == (503, "archive-unavailable")
    archive.fail_with = None
    versions = desk.browser().get(f"/api/v1/results/{desk.result['id']}/versions").json
    assert len(versions["versions"]) == 1
    assert desk.save(edited(desk), [*desk.kept(), NEW]).status_code == 201


def course_of(desk: Desk) -> dict[str, list[Any]]:
    """Give state and size of each lesion of the visit, by the track's UID."""
    address = f"/api/v1/studies/{desk.result['study_uid']}/course"
    course = desk.browser().get(address).json
    return {
        track["tracking_uid"]: [seen["lesion_id"] for seen in track["observations"]]
        for track in course["tracks"]
    }


def test_the_follow_up_counts_what_the_reader_left(desk: Desk) -> None:
    first, second = desk.result["lesions"]
    assert set(course_of(desk)) == {first["finding_uid"], second["finding_uid"]}
    after = desk.save(edited(desk), [*desk.kept(), NEW]).json
    now = by_name(after)
    assert course_of(desk) == {one["finding_uid"]: [one["id"]] for one in now.values()}
    drawn = now["Left frontal"]
    reviewed = change(
        desk, after, lesions=[{"id": drawn["id"], "review": "rejected"}]
    ).json
    assert drawn["finding_uid"] not in course_of(desk)
    restore(desk, reviewed)
    assert set(course_of(desk)) == {first["finding_uid"], second["finding_uid"]}


def test_a_review_while_the_object_is_stored_is_not_overwritten(
    tmp_path, empty_database, monkeypatch
) -> None:
    """The last moment to be slower: the record asks again with the row locked."""
    archive = FakeArchive()
    desk = make_desk(Application(tmp_path, empty_database), archive)
    desk.browser("reviewer")
    store = archive.store

    def review_meanwhile(datasets: list[Dataset]) -> Any:
        monkeypatch.setattr(archive, "store", store)
        with ThreadPoolExecutor(1) as other:
            asked = {"state": "accepted"}
            done = other.submit(change, desk, desk.result, "reviewer", **asked)
            assert done.result().status_code == 200
        return store(datasets)

    monkeypatch.setattr(archive, "store", review_meanwhile)
    answer = desk.save(edited(desk), [*desk.kept(), NEW])
    assert (answer.status_code, answer.json["code"]) == (409, "edit-conflict")
    assert answer.json["current_result_id"] == desk.result["id"]
    assert answer.json["current_revision"] == desk.result["revision"] + 1
    address = f"/api/v1/results/{desk.result['id']}"
    versions = desk.browser().get(f"{address}/versions").json["versions"]
    assert [one["state"] for one in versions] == ["accepted"]
    # The reader looks again, and saves on top of what was said meanwhile.
    desk.result = desk.browser().get(address).json
    again = desk.save(edited(desk), [*desk.kept(), NEW])
    assert (again.status_code, again.json["version"]) == (201, 2)
    assert desk.segs() == 2  # the object stored in vain is the one that is used
