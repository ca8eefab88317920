"""Results without a press: a study arrives, and its reader finds them ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e import studies
from tests.e2e.conftest import ROOT, OpenPage, pages_of
from tests.e2e.running_stack import RunningStack, running_stack
from tests.e2e.studies import Study
from tests.e2e.viewer_page import WAIT_MS

RULE = "rule:zero-click"
SOON_S = 90.0


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Run a system that queues what arrives."""
    if not (ROOT / "ohif-extension" / "dist" / "index.html").is_file():
        pytest.skip("the viewer is not built (make setup)")
    settings = {
        "METIA_ZERO_CLICK": "true",
        "METIA_ZERO_CLICK_DESCRIPTIONS": "BRAIN*",
        "METIA_ZERO_CLICK_MAX_AGE_DAYS": "0",
        "METIA_ZERO_CLICK_POLL_S": "0.5",
    }
    with running_stack(tmp_path_factory.mktemp("hospital"), **settings) as running:
        running.add_user("ann", "annotator", "Ann Otator")
        yield running


@pytest.fixture
def open_page(
    hospital: RunningStack, browser: Browser, request: pytest.FixtureRequest
) -> Iterator[OpenPage]:
    with pages_of(hospital, browser, request) as make:
        yield make


def wait(what: str, found: Callable[[], object]) -> None:
    end = time.monotonic() + SOON_S
    while not found():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def test_the_reader_finds_the_result(
    hospital: RunningStack, open_page: OpenPage
) -> None:
    study = Study("arrived", studies.QUEUE.make)
    hospital.upload(study.images)
    hospital.upload(studies.UNSUITABLE.images)
    wait("a result without a press", lambda: hospital.results(study.uid))
    (job,) = hospital.jobs(study.uid)
    assert (job["requested_by"], job["state"]) == (RULE, "succeeded")
    viewer = open_page()
    viewer.open_study(study.uid)
    viewer.wait_for_overlay()
    expect(viewer.page.locator('[data-cy^="metia-lesion-"]')).to_have_count(3)
    viewer.picture("60-arrived")
    assert viewer.faults == []
    time.sleep(5)  # its SEG has arrived meanwhile, and the study is stable again
    assert len(hospital.jobs(study.uid)) == 1
    assert hospital.jobs(studies.UNSUITABLE.uid) == []
    entries = hospital.admin.get(
        "/api/v1/audit", params={"subject": f"job:{job['id']}"}
    )
    (entry,) = [e for e in entries.json()["entries"] if e["action"] == "job-submit"]
    assert (entry["actor"], entry["details"]) == (None, {"requested_by": RULE})


def test_a_press_overtakes_what_waits_unasked(
    hospital: RunningStack, open_page: OpenPage
) -> None:
    arrived = [Study(f"wave{number}", studies.QUEUE.make) for number in range(6)]
    images = [image for study in arrived for image in study.images]
    with hospital.worker_held():
        # All are complete before the first is seen, so that they are queued at once.
        hospital.upload(images)
        time.sleep(5)

    def waiting() -> list[str]:
        answer = hospital.admin.get("/api/v1/jobs", params={"state": "queued"})
        return [j["study_uid"] for j in answer.json()["jobs"] if j["kind"] != "follow"]

    wait("several to wait at once", lambda: len(waiting()) >= 3)
    with hospital.worker_held():
        last = waiting()[0]  # newest first
        behind = waiting()[1:]
        assert len(behind) >= 1
        viewer = open_page()
        viewer.open_study(last)
        expect(viewer.part("unasked")).to_be_visible(timeout=WAIT_MS)
        viewer.picture("61-waits-unasked")
        viewer.press()
        expect(viewer.part("unasked")).to_have_count(0, timeout=WAIT_MS)
        expect(viewer.part("queue")).to_have_text("Yours is next", timeout=WAIT_MS)
        (job,) = hospital.jobs(last)
        assert (job["priority"], job["requested_by"]) == (0, "ann")
    viewer.wait_for_overlay()
    (done,) = hospital.jobs(last)
    for study_uid in behind:
        wait("the others", lambda uid=study_uid: hospital.results(uid))  # type: ignore[misc]
        (other,) = hospital.jobs(study_uid)
        assert other["requested_by"] == RULE
        assert done["started_at"] < other["started_at"]
    assert viewer.faults == []
