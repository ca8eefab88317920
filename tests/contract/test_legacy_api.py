"""The nine routes of the former system, as its front end calls them, in both archives.

The expected members and types are written from the description of that interface. What
is deliberately different (docs/replacing-the-old-system.md) has a test that says so.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from db import audit
from db.engine import reading, transaction
from db.historical import HistoricalRecord, add_patient, record_historical
from db.results import list_results, list_versions
from db.reviews import review_result
from db.studies import Patient
from errors import MetiaError
from orthanc.dicomweb import encode_part10
from segmentation.jobs import Fence, Job, JobQueue
from segmentation.legacy import routes, waiting
from tests.fake_archive import FakeArchive
from tests.reader_edits import Desk, make_desk
from tests.security.application import Application, Browser
from tests.small_series import make_series

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
LESION = {
    "id": int,
    "roiNumber": int,
    "nom_metastase": str,
    "volume": float,
    "diametre": float,
    "slice_debut": int,
    "slice_fin": int,
    "color": str,
}


def make_application(folder, empty_database, **settings: Any) -> Application:
    return Application(
        folder, empty_database, **({"legacy_api": True, "legacy_wait_s": 20} | settings)
    )


@pytest.fixture
def desk(either_archive, tmp_path, empty_database) -> Desk:
    return make_desk(make_application(tmp_path, empty_database), either_archive)


@pytest.fixture
def small_desk(tmp_path, empty_database) -> Desk:
    return make_desk(make_application(tmp_path, empty_database))


class OldFront:
    """The former front end: no CSRF token, knows nothing but the nine routes."""

    def __init__(self, desk: Desk, role: str = "annotator") -> None:
        self.page: Browser = desk.application.browser(role)
        self.page.csrf = None

    def get(self, path: str, **query: Any) -> list[dict[str, Any]]:
        answer = self.page.get(path, query_string=query)
        assert answer.status_code == 200, answer.text
        assert answer.mimetype == "application/json"
        return answer.json

    def post(self, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        answer = self.page.post(path, headers=SAME_ORIGIN, **options)
        assert answer.mimetype == "application/json"
        return answer.status_code, answer.json

    def segment(self, study_uid: str) -> tuple[int, dict[str, Any]]:
        return self.post(
            f"/segmentation/{study_uid}", data=b"", content_type="application/json"
        )

    def change(self, path: str, lesion: dict[str, Any], **other: Any) -> Any:
        body = {
            "serie_instance_uid": lesion["series"],
            "study_instance_uid": lesion["study"],
            "roi_number": lesion["roiNumber"],
            **other,
        }
        return self.post(path, json=body)

    def walk(self, patient: int | str) -> list[dict[str, Any]]:
        """Click through the four tables of the follow-up page."""
        lesions = []
        for study in self.get("/followup-etudes", idPatient=patient):
            for series in self.get("/followup-series", idEtude=study["id_study"]):
                uid = series["series_instance_uid"]
                lesions += [
                    {**one, "series": uid, "study": series["study_instance_uid"]}
                    for one in self.get("/followup-metastases", idSeries=uid)
                ]
        return lesions


@contextmanager
def worker(desk: Desk) -> Iterator[None]:
    """Finish the jobs of a desk's study meanwhile, with its result."""
    queue = JobQueue(desk.application.engine, desk.application.settings)
    stopped = threading.Event()

    def work() -> None:
        while not stopped.wait(0.02):
            job = queue.claim("worker")
            if job is None or job.kind != "segmentation":
                continue
            fence = Fence(job.id, job.attempt, "worker")
            if job.study_uid == desk.result["study_uid"]:
                queue.complete(fence, lambda _: desk.result["id"])
            else:
                queue.fail(fence, MetiaError("internal", "Not of this desk."))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def types(row: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in row.items()}


def rtstructs(desk: Desk) -> list[Dataset]:
    study = desk.result["study_uid"]
    found = []
    for header in desk.archive.series_headers(study):
        if header.sample.Modality == "RTSTRUCT":
            found += desk.archive.fetch_series(study, header.series_uid)
    return found


def current(desk: Desk) -> Any:
    with reading(desk.application.engine) as session:
        return list_versions(session, desk.result["id"])[-1]


def patient_of(desk: Desk) -> str:
    return str(desk.images[0].PatientID)


def test_the_old_front_end_works_as_it_did(desk: Desk) -> None:
    front = OldFront(desk)
    study = desk.result["study_uid"]
    with worker(desk):
        status, answer = front.segment(study)
    assert (status, list(answer)) == (200, ["success"]), answer
    assert isinstance(answer["success"], str)

    (patient,) = front.get("/followup-patients")
    assert list(patient) == ["id", "name", "date", "sexe"]
    assert str(patient["id"]) == patient_of(desk)
    (visit,) = front.get("/followup-etudes", idPatient=patient["id"])
    assert list(visit) == ["id_study", "date"]
    assert visit["id_study"] == study
    assert len(visit["date"]) == 10
    assert visit["date"].replace("-", "") == desk.images[0].StudyDate
    (series,) = front.get("/followup-series", idEtude=study)
    assert list(series) == ["series_instance_uid", "study_instance_uid"]
    (drawn,) = rtstructs(desk)
    assert series["series_instance_uid"] == drawn.SeriesInstanceUID

    lesions = front.walk(patient["id"])
    by_number = {one.segment_number: one for one in current(desk).lesions}
    for one, region, contours in zip(
        lesions,
        drawn.StructureSetROISequence,
        drawn.ROIContourSequence,
        strict=True,
    ):
        assert types(one) == LESION | {"series": str, "study": str}
        mine = by_number[one["roiNumber"]]
        assert one["roiNumber"] == region.ROINumber
        assert one["nom_metastase"] == region.ROIName == mine.name
        assert one["volume"] == mine.volume_ml
        assert one["diametre"] == mine.longest_diameter_mm
        assert one["color"].startswith("[")
        assert [int(v) for v in one["color"].strip("[]").split()] == list(mine.colour)
        images = {
            c.ContourImageSequence[0].ReferencedSOPInstanceUID
            for c in contours.ContourSequence
        }
        order = [s.sop_instance_uid for s in desk.slices]
        places = sorted(order.index(image) + 1 for image in images)
        assert (one["slice_debut"], one["slice_fin"]) == (places[0], places[-1])

    first, second = lesions
    status, answer = front.change("/rename-roi", first, new_name="Frontal left")
    assert (status, list(answer)) == (200, ["success"]), answer
    names = [one["nom_metastase"] for one in front.walk(patient["id"])]
    assert names == ["Frontal left", second["nom_metastase"]]
    assert {one.StructureSetROISequence[0].ROIName for one in rtstructs(desk)} == {
        first["nom_metastase"],
        "Frontal left",
    }

    # The page still shows the outlines it loaded: number 2 must stay number 2.
    status, answer = front.change("/delete-roi", first)
    assert (status, list(answer)) == (200, ["success"]), answer
    status, answer = front.change("/rename-roi", second, new_name="The other")
    assert status == 200, answer
    (left,) = front.walk(patient["id"])
    assert left["nom_metastase"] == "The other"
    assert left["volume"] == second["volume"]
    status, answer = front.change("/delete-roi", first)
    assert (status, list(answer)) == (404, ["error"])

    # Nothing was overwritten: every version is there, with its segmentation.
    with reading(desk.application.engine) as session:
        versions = list_versions(session, desk.result["id"])
    assert [one.version for one in versions] == [1, 2, 3, 4]
    assert [len(one.lesions) for one in versions] == [2, 2, 1, 1]
    assert desk.stored(desk.result).max() == 2
    assert len(rtstructs(desk)) == 4


def test_all_tables_without_a_filter(small_desk: Desk) -> None:
    front = OldFront(small_desk)
    with worker(small_desk):
        front.segment(small_desk.result["study_uid"])
    (patient,) = front.get("/followup-patients")
    (visit,) = front.get("/followup-etudes")
    assert list(visit) == ["id_study", "id", "date"]
    assert visit["id"] == patient["id"]
    (series,) = front.get("/followup-series")
    assert list(series) == ["series_instance_uid", "study_instance_uid"]
    for one in front.get("/followup-metastases"):
        assert types(one) == LESION | {"series_instance_uid": str}
        assert one["series_instance_uid"] == series["series_instance_uid"]
    for path, query in (
        ("/followup-etudes", {"idPatient": "nobody"}),
        ("/followup-series", {"idEtude": "1.2.3"}),
        ("/followup-metastases", {"idSeries": "1.2.3"}),
    ):
        assert front.get(path, **query) == []


def test_a_result_that_the_old_button_did_not_make_is_listed_too(
    small_desk: Desk,
) -> None:
    front = OldFront(small_desk)
    lesions = front.walk(patient_of(small_desk))
    uids = {one["series"] for one in lesions}
    assert uids == {small_desk.result["segmentation"]["series_uid"]}
    status, answer = front.change("/rename-roi", lesions[1], new_name="By its SEG")
    assert status == 200, answer
    names = [one["nom_metastase"] for one in front.walk(patient_of(small_desk))]
    assert names[1] == "By its SEG"


def test_rejected_lesions_and_results_are_not_shown(small_desk: Desk) -> None:
    front, result = OldFront(small_desk), small_desk.result
    lesions = {result["lesions"][0]["id"]: "rejected"}
    with transaction(small_desk.application.engine) as session:
        review_result(session, result["id"], expected_revision=1, lesions=lesions)
    (lesion,) = front.walk(patient_of(small_desk))
    assert lesion["roiNumber"] == 2
    with worker(small_desk):
        assert front.segment(result["study_uid"])[0] == 200
    (drawn,) = rtstructs(small_desk)
    assert [one.ROINumber for one in drawn.StructureSetROISequence] == [2]
    with transaction(small_desk.application.engine) as session:
        review_result(session, result["id"], expected_revision=2, state="rejected")
    assert front.walk(patient_of(small_desk)) == []
    series = str(drawn.SeriesInstanceUID)
    assert front.get("/followup-metastases", idSeries=series) == []
    with worker(small_desk):
        status, answer = front.segment(result["study_uid"])
    assert status == 200
    assert "rejected" in answer["success"]


@pytest.mark.parametrize("path", ["/rename-roi", "/delete-roi"])
def test_what_is_missing_or_not_there_is_said(small_desk: Desk, path: str) -> None:
    front, result = OldFront(small_desk), small_desk.result
    whole = {
        "serie_instance_uid": result["segmentation"]["series_uid"],
        "study_instance_uid": result["study_uid"],
        "roi_number": 1,
        "new_name": "X",
    }
    needed = set(whole) - ({"new_name"} if path == "/delete-roi" else set())
    for name in needed:
        body = {key: value for key, value in whole.items() if key != name}
        status, answer = front.post(path, json=body)
        assert (status, list(answer)) == (400, ["error"]), name
    for body in ("", "[]", "{", '{"roi_number": NaN}'):
        status, answer = front.post(path, data=body, content_type="application/json")
        assert (status, list(answer)) == (400, ["error"]), body
    for name, value in (
        ("roi_number", 3),
        ("roi_number", 0),
        ("serie_instance_uid", "1.2.3"),
        ("study_instance_uid", "1.2.3"),
        ("serie_instance_uid", result["series_uid"]),
    ):
        status, answer = front.post(path, json=whole | {name: value})
        assert (status, list(answer)) == (404, ["error"]), (name, value)
    for name, value in (
        ("roi_number", "one"),
        ("roi_number", 1.5),
        ("roi_number", True),
        ("roi_number", None),
        ("serie_instance_uid", "../x"),
    ):
        status, answer = front.post(path, json=whole | {name: value})
        assert (status, list(answer)) == (400, ["error"]), (name, value)
    assert current(small_desk).version == 1
    # A number as text, as pages send keys, and members we do not know.
    more = whole | {"roi_number": "1", "extra": 1}
    assert front.post(path, json=more)[0] == 200


def test_renaming_to_the_same_name_is_done_already(small_desk: Desk) -> None:
    front = OldFront(small_desk)
    lesion = front.walk(patient_of(small_desk))[0]
    name = lesion["nom_metastase"]
    for _ in range(2):
        status, answer = front.change("/rename-roi", lesion, new_name=name)
        assert status == 200, answer
    assert current(small_desk).version == 1


def test_a_change_by_somebody_else_meanwhile_is_not_lost(
    small_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segmentation.legacy import regions

    front = OldFront(small_desk)
    first, second = front.walk(patient_of(small_desk))
    find, other = regions._find, OldFront(small_desk)
    raced = []

    def find_then_lose_the_race(*arguments: Any) -> Any:
        found = find(*arguments)
        if not raced:
            raced.append(True)
            assert other.change("/rename-roi", second, new_name="Quicker")[0] == 200
        return found

    monkeypatch.setattr(regions, "_find", find_then_lose_the_race)
    status, answer = front.change("/rename-roi", first, new_name="Slower")
    assert status == 200, answer
    names = {one.name for one in current(small_desk).lesions}
    assert names == {"Quicker", "Slower"}


def test_outlines_that_cannot_be_stored_do_not_undo_the_change(
    small_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segmentation.legacy import routes

    def refuse(*_: object) -> None:
        raise MetiaError("archive-rejected", "Not this one.")

    front = OldFront(small_desk)
    lesion = front.walk(patient_of(small_desk))[0]
    monkeypatch.setattr(routes, "show", refuse)
    status, answer = front.change("/rename-roi", lesion, new_name="Kept")
    assert status == 200
    assert "could not be stored" in answer["success"]
    assert "Kept" in {one.name for one in current(small_desk).lesions}
    with worker(small_desk):
        status, answer = front.segment(small_desk.result["study_uid"])
    assert (status, list(answer)) == (500, ["error"])


# -- segmentation ----------------------------------------------------------------------


def test_an_unknown_study_is_not_found(desk: Desk) -> None:
    front = OldFront(desk)
    for uid in (generate_uid(), "not-a-uid", "1..2"):
        status, answer = front.segment(uid)
        assert (status, list(answer)) == (404, ["error"]), uid


def test_waiting_ends_and_leaves_the_job_alone(tmp_path, empty_database) -> None:
    desk = make_desk(make_application(tmp_path, empty_database, legacy_wait_s=0.2))
    status, answer = OldFront(desk).segment(desk.result["study_uid"])
    assert (status, list(answer)) == (504, ["error"])
    queue = JobQueue(desk.application.engine, desk.application.settings)
    states = {job.state for job in queue.list().jobs if job.series_uid is None}
    assert states == {"queued"}
    with worker(desk):
        while any(job.state != "succeeded" for job in queue.list().jobs):
            time.sleep(0.02)


def test_waiting_never_takes_all_threads(small_desk: Desk) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "_places", threading.BoundedSemaphore(1))
        with waiting.waiting_place():
            status, answer = OldFront(small_desk).segment(
                small_desk.result["study_uid"]
            )
    assert (status, list(answer)) == (503, ["error"])
    assert "queued" in answer["error"]


@pytest.mark.parametrize(
    ("code", "status"),
    [("no-suitable-series", 500), ("study-not-found", 404), ("out-of-memory", 500)],
)
def test_a_failed_job_is_told(small_desk: Desk, code: str, status: int) -> None:
    queue = JobQueue(small_desk.application.engine, small_desk.application.settings)

    def fail() -> None:
        while True:
            job = queue.claim("worker")
            if job is not None and job.series_uid is None:
                fence = Fence(job.id, job.attempt, "worker")
                queue.fail(fence, MetiaError(code, "It is so."))
                return
            time.sleep(0.02)

    thread = threading.Thread(target=fail)
    thread.start()
    answer = OldFront(small_desk).segment(small_desk.result["study_uid"])
    thread.join()
    assert (answer[0], list(answer[1])) == (status, ["error"])
    assert "It is so." in answer[1]["error"]


def test_two_presses_are_one_job_and_one_set_of_outlines(
    small_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, answers = small_desk.result["study_uid"], []
    both_wait = threading.Barrier(3)

    def wait_together(queue: JobQueue, job_id: str, limit_s: float) -> Job | None:
        both_wait.wait(60)
        return waiting.wait_for_end(queue, job_id, limit_s)

    monkeypatch.setattr(routes, "wait_for_end", wait_together)
    press = lambda: answers.append(OldFront(small_desk).segment(study))  # noqa: E731
    threads = [threading.Thread(target=press) for _ in range(2)]
    small_desk.application.make_user("annotator")
    for thread in threads:
        thread.start()
    both_wait.wait(60)
    with worker(small_desk):
        for thread in threads:
            thread.join()
    assert [status for status, _ in answers] == [200, 200], answers
    queue = JobQueue(small_desk.application.engine, small_desk.application.settings)
    assert sum(job.series_uid is None for job in queue.list().jobs) == 1
    assert len(rtstructs(small_desk)) == 1


# -- upload ----------------------------------------------------------------------------


def upload(front: OldFront, *files: bytes, name: str = "x.dcm") -> tuple[int, Any]:
    form = {"files[]": [(io.BytesIO(file), name) for file in files]}
    return front.post("/uploadDicom", data=form, content_type="multipart/form-data")


def test_uploaded_files_are_stored(desk: Desk) -> None:
    images = make_series(3)
    status, answer = upload(OldFront(desk), *map(encode_part10, images))
    assert (status, list(answer)) == (200, ["success"]), answer
    study, series = images[0].StudyInstanceUID, images[0].SeriesInstanceUID
    assert len(desk.archive.fetch_series(str(study), str(series))) == 3
    status, answer = upload(OldFront(desk), *map(encode_part10, images), name="IM1")
    assert status == 200
    assert "3 were in the archive before" in answer["success"]


def test_files_may_be_larger_than_other_requests(small_desk: Desk) -> None:
    (image,) = make_series(1)
    image.add_new(0x00091001, "OB", bytes(3_000_000))
    image.add_new(0x00090010, "LO", "TEST")
    status, answer = upload(OldFront(small_desk), encode_part10(image))
    assert status == 200, answer
    study = str(image.StudyInstanceUID)
    (stored,) = small_desk.archive.fetch_series(study, str(image.SeriesInstanceUID))
    assert len(stored[0x00091001].value) == 3_000_000


def test_each_file_is_told_of_and_good_ones_are_kept(small_desk: Desk) -> None:
    good, other = make_series(2)
    front = OldFront(small_desk)
    status, answer = upload(
        front, encode_part10(good), b"no image", b"", encode_part10(other)
    )
    assert (status, list(answer)) == (400, ["error"])
    assert "2 of 4 file(s) stored." in answer["error"]
    assert "File 2 is not stored" in answer["error"]
    assert "File 3 is not stored" in answer["error"]
    study, series = good.StudyInstanceUID, good.SeriesInstanceUID
    assert len(small_desk.archive.fetch_series(str(study), str(series))) == 2


def test_an_archive_that_is_down_is_never_a_success(small_desk: Desk) -> None:
    (image,) = make_series(1)
    archive = small_desk.archive
    archive.fail_with = MetiaError("archive-unavailable", "It is silent.")
    status, answer = upload(OldFront(small_desk), encode_part10(image))
    assert (status, list(answer)) == (500, ["error"])
    assert "0 of 1 file(s) stored." in answer["error"]


def test_a_file_cannot_put_a_study_under_a_second_patient(desk: Desk) -> None:
    mine = make_series(1, PatientID="ONE")
    desk.archive.store(mine)
    (alien,) = make_series(1, PatientID="TWO")
    alien.StudyInstanceUID = mine[0].StudyInstanceUID
    status, answer = upload(OldFront(desk), encode_part10(alien))
    assert (status, list(answer)) == (400, ["error"])
    (header,) = desk.archive.series_headers(str(mine[0].StudyInstanceUID))
    assert header.sample.PatientID == "ONE"


@pytest.mark.parametrize("form", [{}, {"other": "x"}, {"files[]": "text"}])
def test_a_form_without_files_is_refused(small_desk: Desk, form: Any) -> None:
    status, answer = OldFront(small_desk).post(
        "/uploadDicom", data=form, content_type="multipart/form-data"
    )
    assert (status, list(answer)) == (400, ["error"])


def test_uploaded_outlines_are_measured_and_shown(small_desk: Desk) -> None:
    front, study = OldFront(small_desk), small_desk.result["study_uid"]
    with worker(small_desk):
        front.segment(study)
    (drawn,) = rtstructs(small_desk)
    drawn.SOPInstanceUID = drawn.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    drawn.SeriesInstanceUID = generate_uid()
    drawn.Manufacturer, drawn.ManufacturerModelName = "Other", "Other"
    drawn.StructureSetROISequence[0].ROIName = "GTV by hand"
    status, answer = upload(front, encode_part10(drawn))
    assert status == 200, answer
    assert "Outlines measured: 1" in answer["success"]
    names = {one["nom_metastase"] for one in front.walk(patient_of(small_desk))}
    assert "GTV by hand" in names
    with reading(small_desk.application.engine) as session:
        origins = {one.origin for one in list_results(session, study)}
    assert origins == {"model", "import"}

    drawn.StudyInstanceUID = generate_uid()
    drawn.SOPInstanceUID = drawn.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    status, answer = upload(front, encode_part10(drawn))
    assert status == 200
    assert "The outlines of file 1 are not measured" in answer["success"]


# -- deleting a study ------------------------------------------------------------------


def delete_study(desk: Desk, uid: str, role: str = "admin") -> tuple[int, Any]:
    front = OldFront(desk, role)
    answer = front.page.delete(f"/delete-study/{uid}", headers=SAME_ORIGIN)
    return answer.status_code, answer.json


def test_exactly_the_named_study_is_deleted(desk: Desk) -> None:
    app, gone = desk.application, desk.result["study_uid"]
    again = make_desk(app, desk.archive)
    kept = again.result["study_uid"]
    with worker(desk):
        assert OldFront(desk).segment(gone)[0] == 200
    before = len(desk.archive.series_headers(kept))
    for wrong in (f"{gone},{kept}", f"{gone}%2C{kept}", "1.2.3", "x"):
        status, answer = delete_study(desk, wrong)
        assert (status, list(answer)) == (404, ["error"]), wrong
    assert delete_study(desk, gone) == (200, {"success": "The study is deleted."})
    with pytest.raises(MetiaError, match="study-not-found"):
        desk.archive.series_headers(gone)
    assert len(desk.archive.series_headers(kept)) == before
    front = OldFront(desk)
    assert [one["id_study"] for one in front.get("/followup-etudes")] == [kept]
    assert {one["study"] for one in front.walk(patient_of(again))} == {kept}
    assert delete_study(desk, gone)[0] == 404
    with reading(app.engine) as session:
        noted = [one.action for one in audit.entries(session, subject=f"study:{gone}")]
    assert noted == ["study-delete"]


def test_the_patient_goes_with_the_last_study(small_desk: Desk) -> None:
    assert delete_study(small_desk, small_desk.result["study_uid"])[0] == 200
    assert OldFront(small_desk).get("/followup-patients") == []


def test_nothing_is_deleted_while_the_archive_is_down(small_desk: Desk) -> None:
    study = small_desk.result["study_uid"]
    archive = small_desk.archive
    archive.fail_with = MetiaError("archive-unavailable", "It is silent.")
    status, answer = delete_study(small_desk, study)
    assert (status, list(answer)) == (503, ["error"])
    archive.fail_with = None
    assert len(OldFront(small_desk).walk(patient_of(small_desk))) == 2


def test_deleting_what_is_left_can_be_asked_again(
    small_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_desk.result["study_uid"]

    def refuse(*_: object) -> None:
        raise MetiaError("archive-rejected", "Not now.")

    with monkeypatch.context() as patch:
        patch.setattr(FakeArchive, "delete_study", refuse)
        status, answer = delete_study(small_desk, study)
    assert status == 500
    assert "the images are still there" in answer["error"]
    assert small_desk.archive.series_headers(study)
    assert delete_study(small_desk, study)[0] == 200


# -- what the former system had measured -----------------------------------------------


def test_historical_rows_stand_in_the_tables_and_count_nowhere(
    small_desk: Desk,
) -> None:
    engine = small_desk.application.engine
    record = HistoricalRecord(
        "1.2.3", "20190203", "1.2.3.4", 13, "GTV_MetIA_1", 0.0, 4.5, 81, 81, (255, 0, 0)
    )
    with transaction(engine) as session:
        key = add_patient(session, Patient("0042", name="A^B", birth_date="19500102"))
        record_historical(
            session, key, "0042", [record], source_sha256="a" * 64, by="admin"
        )
    front = OldFront(small_desk)
    listed = {one["id"]: one for one in front.get("/followup-patients")}
    assert listed["0042"]["date"] == "1950-01-02"
    visit = {"id_study": "1.2.3", "date": "2019-02-03"}
    assert front.get("/followup-etudes", idPatient="0042") == [visit]
    assert {**visit, "id": "0042"} in front.get("/followup-etudes")
    series = {"series_instance_uid": "1.2.3.4", "study_instance_uid": "1.2.3"}
    assert front.get("/followup-series", idEtude="1.2.3") == [series]
    (lesion,) = front.get("/followup-metastases", idSeries="1.2.3.4")
    assert types(lesion) == LESION
    assert lesion["color"] == "[255   0   0]"
    assert (lesion["volume"], lesion["diametre"]) == (0.0, 4.5)
    page = small_desk.browser("viewer")
    answer = page.get(f"/api/v1/patients/{key}/historical")
    (measured,) = answer.json["measurements"]
    assert (measured["diameter_mm"], measured["roi_number"]) == (4.5, 13)
    assert page.get(f"/api/v1/patients/{'0' * 32}/historical").status_code == 404
    assert page.get("/api/v1/studies/1.2.3/course").status_code == 404
    assert delete_study(small_desk, "1.2.3")[0] == 200
    assert len(front.get("/followup-patients")) == 1


# -- off, and the door -----------------------------------------------------------------


def test_off_there_are_none_of_them(tmp_path, empty_database) -> None:
    application = Application(tmp_path, empty_database)
    rules = {rule.rule for rule in application.app.url_map.iter_rules()}
    assert not [rule for rule in rules if "followup" in rule or "roi" in rule]
    browser = application.browser("admin")
    for method, path in (
        ("POST", "/segmentation/1.2.3"),
        ("POST", "/rename-roi"),
        ("POST", "/delete-roi"),
        ("POST", "/uploadDicom"),
        ("DELETE", "/delete-study/1.2.3"),
        ("GET", "/followup-patients"),
        ("GET", "/followup-etudes"),
        ("GET", "/followup-series"),
        ("GET", "/followup-metastases"),
    ):
        assert browser.open(path, method=method).status_code == 404, path
