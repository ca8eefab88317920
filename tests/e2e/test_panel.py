"""What the panel does when things are otherwise: other users, refusals, failures."""

from __future__ import annotations

import pytest
from playwright.sync_api import Route, expect

from tests.e2e import studies
from tests.e2e.conftest import OpenPage, log_in
from tests.e2e.running_stack import RunningStack
from tests.e2e.viewer_page import WAIT_MS

_WAITING = "Waiting for a free worker"


def test_two_people_press_and_one_job_runs(
    stack: RunningStack, open_page: OpenPage
) -> None:
    before = len(stack.jobs(studies.QUEUE.uid))
    ann, bob = open_page("ann"), open_page("bob")
    for viewer in (ann, bob):
        viewer.open_study(studies.QUEUE.uid)
        viewer.wait_for_run_button()
    with stack.worker_held():
        for viewer in (ann, bob):
            viewer.part("run").dblclick()
            expect(viewer.part("step")).to_have_text(_WAITING)
        assert len(stack.jobs(studies.QUEUE.uid)) == before + 1
    for viewer in (ann, bob):
        expect(viewer.part("progress")).to_have_count(0, timeout=WAIT_MS)
        viewer.wait_for_overlay()


def test_two_models_give_two_results_to_choose_from(
    stack: RunningStack, open_page: OpenPage
) -> None:
    study = studies.TWO_MODELS.uid
    viewer = open_page()
    viewer.open_study(study)
    viewer.press()
    viewer.wait_for_overlay()
    viewer.part("models").select_option("unetr-seeded")
    viewer.press()
    made = viewer.part("results").locator("option")
    expect(made).to_have_count(2, timeout=WAIT_MS)
    expect(viewer.part("none")).to_be_visible(timeout=WAIT_MS)
    viewer.picture("12-two-models")
    results = {one["model"]["name"]: one for one in stack.results(study)}
    assert set(results) == {"phantom-threshold", "unetr-seeded"}
    first = results["phantom-threshold"]
    viewer.part("results").select_option(first["id"])
    expect(viewer.part("result")).to_have_attribute("data-result", first["id"])
    viewer.wait_for_overlay()
    rows = viewer.part("lesions").locator("tbody > tr[data-status]")
    expect(rows).to_have_count(len(first["lesions"]))


def test_a_waiting_job_survives_a_reload_and_can_be_cancelled(
    stack: RunningStack, open_page: OpenPage
) -> None:
    viewer = open_page()
    viewer.open_study(studies.GAP.uid)
    with stack.worker_held():
        viewer.press()
        expect(viewer.part("step")).to_have_text(_WAITING)
        viewer.page.reload()
        expect(viewer.part("cancel")).to_be_enabled(timeout=WAIT_MS)
        viewer.picture("09-after-reload")
        viewer.part("cancel").click()
        expect(viewer.part("cancelled")).to_be_visible(timeout=WAIT_MS)
    assert stack.jobs(studies.GAP.uid)[0]["state"] == "cancelled"
    viewer.wait_for_run_button()


def test_a_failure_is_told_with_its_remedy(
    stack: RunningStack, open_page: OpenPage
) -> None:
    viewer = open_page()
    viewer.open_study(studies.GAP.uid)
    viewer.press()
    problem = viewer.part("problem")
    expect(problem).to_have_attribute(
        "data-code", "volume-missing-slice", timeout=WAIT_MS
    )
    expect(problem).to_contain_text("A slice is missing")
    expect(problem).to_contain_text("Send the complete series")
    viewer.picture("10-failure")
    viewer.wait_for_run_button()


def test_a_study_without_suitable_series(
    stack: RunningStack, open_page: OpenPage
) -> None:
    """It is said what was found instead; another series can be taken all the same."""
    viewer = open_page()
    viewer.open_study(studies.UNSUITABLE.uid)
    expect(viewer.part("refusal")).to_contain_text("T2", timeout=WAIT_MS)
    expect(viewer.part("run")).to_be_disabled()
    viewer.picture("11-refusal")
    t2 = studies.UNSUITABLE.series(4)[0].SeriesInstanceUID
    viewer.part("series").select_option(t2)
    expect(viewer.part("unsuitable")).to_be_visible()
    viewer.wait_for_image(f"/series/{t2}/")
    viewer.press()
    expect(viewer.part("result")).to_be_visible(timeout=WAIT_MS)
    assert stack.results(studies.UNSUITABLE.uid)[0]["series_uid"] == t2
    viewer.picture("12-override")


def test_a_viewer_may_look_but_not_press(
    stack: RunningStack, open_page: OpenPage
) -> None:
    viewer = open_page("vic")
    viewer.open_study(studies.NOTHING.uid)
    expect(viewer.part("why-not")).to_contain_text("Your role", timeout=WAIT_MS)
    expect(viewer.part("run")).to_be_disabled()
    expect(viewer.part("toolbar-run")).to_be_disabled()


def test_it_speaks_french(stack: RunningStack, open_page: OpenPage) -> None:
    stack.segment(studies.QUEUE.uid)
    viewer = open_page(locale="fr-FR")
    viewer.open_study(studies.QUEUE.uid)
    viewer.wait_for_overlay()
    expect(viewer.part("notice")).to_contain_text("Recherche uniquement")
    expect(viewer.part("run")).to_have_text("Segmenter à nouveau")
    longest = stack.results(studies.QUEUE.uid)[0]["lesions"][0]["longest_diameter_mm"]
    size = f"{longest:.1f}".replace(".", ",")
    expect(viewer.part("lesion-1")).to_contain_text(size)
    viewer.part("why").locator("summary").click()
    expect(viewer.part("why")).to_contain_text("la description nomme un T1")
    viewer.picture("13-french")


def test_the_end_of_the_session_leads_to_the_login(
    stack: RunningStack, open_page: OpenPage
) -> None:
    viewer = open_page("bob")
    viewer.open_study(studies.NOTHING.uid)
    viewer.wait_for_run_button()
    viewer.page.context.clear_cookies()
    viewer.part("run").click()
    link = viewer.part("session-over").locator("a")
    expect(link).to_be_visible(timeout=WAIT_MS)
    viewer.picture("14-session-over")
    link.click()
    expect(viewer.page).to_have_url(
        f"{stack.url}/login?next=%2Fbrainmets%3FStudyInstanceUIDs%3D{studies.NOTHING.uid}"
    )
    log_in(viewer.page.context, stack, "bob")
    viewer.page.reload()  # the login page sends on whoever is logged in
    expect(viewer.part("panel")).to_be_visible(timeout=WAIT_MS)


def test_an_address_of_a_study_is_come_back_to(
    stack: RunningStack, open_page: OpenPage
) -> None:
    viewer = open_page(user=None)
    viewer.page.goto(
        f"/brainmets?StudyInstanceUIDs={studies.ODD.uid}&hangingProtocolId=x"
    )
    expect(viewer.page.locator("#username")).to_be_visible()
    log_in(viewer.page.context, stack, "bob")
    viewer.page.reload()
    expect(viewer.page).to_have_url(
        f"{stack.url}/brainmets?StudyInstanceUIDs={studies.ODD.uid}&hangingProtocolId=x"
    )


@pytest.mark.parametrize(
    ("file", "status", "content_type", "body"),
    [
        ("extension", 404, "text/html", "<h1>Not found</h1>"),
        ("extension", 200, "text/javascript", "throw new Error('broken');"),
        ("extension", 200, "text/html", "<!doctype html>"),
        ("mode", 200, "text/javascript", "export default {};"),
    ],
)
def test_a_broken_extension_leaves_the_plain_viewer(
    open_page: OpenPage, file: str, status: int, content_type: str, body: str
) -> None:
    viewer = open_page()

    def answer(route: Route) -> None:
        route.fulfill(status=status, content_type=content_type, body=body)

    viewer.page.route(f"**/metia-ext/{file}.js", answer)
    viewer.page.goto("/")
    row = viewer.page.get_by_text("BRAIN ODD").first
    expect(row).to_be_visible(timeout=WAIT_MS)
    row.dblclick()
    viewer.wait_until_drawn()
    expect(viewer.part("panel")).to_have_count(0)
    assert "/viewer?" in viewer.page.url


def test_logging_out_ends_the_session(stack: RunningStack, open_page: OpenPage) -> None:
    stack.add_user("guy", "annotator", "Guy Gone")
    viewer = open_page("guy")
    viewer.open_study(studies.ODD.uid)
    expect(viewer.part("logout")).to_be_visible(timeout=WAIT_MS)
    viewer.part("logout").click()
    expect(viewer.page.locator("#username")).to_be_visible(timeout=WAIT_MS)
    viewer.page.goto("/")
    expect(viewer.page.locator("#username")).to_be_visible(timeout=WAIT_MS)
    assert stack.users["guy"].get("/dicom-web/studies").status_code == 401
