"""What a reader does with a result in the viewer: compare, correct, decide, sign."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Dialog, Route, expect

from tests.e2e import studies
from tests.e2e.conftest import OpenPage
from tests.e2e.running_stack import RunningStack
from tests.e2e.studies import Study
from tests.e2e.test_segmentation import stored_labels
from tests.e2e.viewer_page import WAIT_MS, ViewerPage

BASELINE, SECOND, THIRD = studies.COURSE
SHAPE = (128, 128)


def _until(look: Callable[[], Any], what: str, seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.3)
    return found


def _course(stack: RunningStack, study: Study) -> dict[str, Any]:
    answer = stack.admin.get(f"/api/v1/studies/{study.uid}/course")
    answer.raise_for_status()
    return dict(answer.json())


def _visit(stack: RunningStack, study: Study) -> dict[str, Any]:
    return next(
        visit
        for visit in _course(stack, study)["visits"]
        if visit["study_uid"] == study.uid
    )


@pytest.fixture(scope="module")
def course(stack: RunningStack) -> dict[str, Any]:
    """Three visits of one patient, segmented and lined up."""
    stack.add_user("rita", "reviewer", "Rita Reviewer")
    for study in studies.COURSE:
        stack.segment(study.uid)

    def aligned() -> dict[str, Any] | None:
        found = _course(stack, THIRD)
        done = all(visit["registration"] for visit in found["visits"][1:])
        return found if done else None

    return dict(_until(aligned, "the visits are lined up", 400.0))


def _names(study: Study) -> list[str]:
    return [f"/{image.SOPInstanceUID}/frames/1/" for image in study.images]


def _track(stack: RunningStack, study: Study, label: str) -> dict[str, Any]:
    tracks = _course(stack, study)["tracks"]
    return next(track for track in tracks if track["label"] == label)


def _observation(stack: RunningStack, study: Study, label: str) -> dict[str, Any]:
    seen = _track(stack, study, label)["observations"]
    return next(one for one in seen if one["study_uid"] == study.uid)


def _row(viewer: ViewerPage, label: str) -> Any:
    return (
        viewer.part("lesions").locator("tbody > tr[data-status]").filter(has_text=label)
    )


def _idle(viewer: ViewerPage) -> None:
    expect(viewer.part("result")).to_have_attribute(
        "aria-busy", "false", timeout=WAIT_MS
    )


def test_lesions_beside_those_of_the_visit_before(
    stack: RunningStack, open_page: OpenPage, course: dict[str, Any]
) -> None:
    """What grew, what shrank, what is new and what is gone; and where it was."""
    viewer = open_page()
    viewer.open_study(SECOND.uid)
    viewer.wait_for_overlay()
    expected = {"M1": "▼", "M2": "▲", "M3": "gone", "M4": "new"}
    for label, mark in expected.items():
        row = _row(viewer, label)
        expect(row).to_contain_text(mark, timeout=WAIT_MS)
        now = _observation(stack, SECOND, label)
        if now["longest_diameter_mm"] is not None:
            expect(row).to_contain_text(f"{now['longest_diameter_mm']:.1f}")
        if now["change_mm"] is not None:
            sign = "+" if now["change_mm"] > 0 else "−"
            expect(row).to_contain_text(f"{sign}{abs(now['change_mm']):.1f}")
    visit = _visit(stack, SECOND)
    expect(viewer.part("category")).to_have_text(visit["assessment"]["category"])
    expect(viewer.part("sum")).to_contain_text(f"{visit['sum_mm']:.1f} mm")
    viewer.part("reasons").locator("summary").click()
    for reason in visit["assessment"]["reasons"]:
        expect(viewer.part("reasons")).to_contain_text(reason["text"])
    viewer.picture("20-two-visits")

    # What is gone is shown where it was: the place is moved with the head.
    before = viewer.current_image()
    _row(viewer, "M3").locator("button").click()
    viewer.page.wait_for_function(
        f"before => window.services && {_IMAGE} !== before", arg=before
    )
    _check_place(viewer, np.array(studies.COURSE_LESIONS[0][2].centre_mm))
    viewer.picture("21-where-it-was")
    assert viewer.faults == []


_IMAGE = """(() => {
  const { activeViewportId } = window.services.viewportGridService.getState();
  return window.services.cornerstoneViewportService
    .getCornerstoneViewport(activeViewportId).getCurrentImageId();
})()"""


def _check_place(viewer: ViewerPage, head_mm: np.ndarray) -> None:
    """The slice on screen is that of a point of the head, to a slice's thickness."""
    point = studies.COURSE_POSES[1].affine @ [*head_mm, 1.0]
    camera = next(iter(viewer.cameras().values()))
    assert abs(camera["focalPoint"][2] - point[2]) <= 2.4


def test_a_reader_decides(
    stack: RunningStack, open_page: OpenPage, course: dict[str, Any]
) -> None:
    """Accept, reject, take another target, say what no image tells; then sign."""
    viewer = open_page("rita")
    viewer.open_study(SECOND.uid)
    viewer.wait_for_overlay()
    expect(_row(viewer, "M4")).to_be_visible(timeout=WAIT_MS)

    _row(viewer, "M4").locator("button").click()
    viewer.part("certainty").select_option("equivocal")
    _idle(viewer)
    assert _observation(stack, SECOND, "M4")["certainty"] == "equivocal"
    viewer.part("accept").click()
    _idle(viewer)
    expect(viewer.part("accept")).to_have_attribute("aria-pressed", "true")
    assert _observation(stack, SECOND, "M4")["review"] == "accepted"
    viewer.picture("22-decisions")
    _row(viewer, "M4").locator("button").click()

    viewer.part("target-M2").click()
    _idle(viewer)
    assert _track(stack, SECOND, "M2")["role"] == "non_target"
    expect(viewer.part("sum")).to_contain_text(f"{_visit(stack, SECOND)['sum_mm']:.1f}")
    viewer.part("target-M2").click()
    _idle(viewer)
    assert _track(stack, SECOND, "M2")["role"] == "target"

    viewer.part("inputs").locator("summary").click()
    viewer.part("steroid-use").select_option("none")
    _idle(viewer)
    viewer.part("steroid-change").select_option("stable")
    _idle(viewer)
    viewer.part("clinical").select_option("stable")
    _idle(viewer)
    viewer.part("dose").fill("2.5")
    viewer.part("dose").press("Enter")
    _idle(viewer)
    viewer.part("non-target").select_option("non_cr_non_pd")
    _idle(viewer)
    reading = _visit(stack, SECOND)["reading"]
    assert (reading["clinical"], reading["steroid_dose_mg"]) == ("stable", 2.5)
    assert reading["non_target"] == "non_cr_non_pd"
    viewer.picture("23-inputs")

    _check_signature(stack, viewer)
    assert viewer.faults == []


def _check_signature(stack: RunningStack, viewer: ViewerPage) -> None:
    proposed = _visit(stack, SECOND)["assessment"]["category"]
    other = "PD" if proposed != "PD" else "SD"
    viewer.part("sign").click()
    expect(viewer.part("sign-form")).to_contain_text("Rita Reviewer")
    viewer.part("sign-category").select_option(other)
    expect(viewer.part("sign-confirm")).to_be_disabled()
    viewer.part("comment").fill("Seen on another sequence.")
    viewer.picture("24-signing")
    viewer.part("sign-confirm").click()
    signed = viewer.part("signed")
    expect(signed).to_contain_text("Rita Reviewer", timeout=WAIT_MS)
    expect(signed).to_have_attribute("data-stale", "false")
    stored = _visit(stack, SECOND)["signed"]
    assert (stored["category"], stored["proposed_category"]) == (other, proposed)
    # Whatever changes afterwards makes it stale, and it can be signed again.
    viewer.part("clinical").select_option("better")
    expect(signed).to_have_attribute("data-stale", "true", timeout=WAIT_MS)
    expect(viewer.part("sign")).to_be_enabled()


def test_an_annotator_reviews_but_does_not_sign(
    open_page: OpenPage, course: dict[str, Any]
) -> None:
    viewer = open_page("ann")
    viewer.open_study(THIRD.uid)
    viewer.wait_for_overlay()
    expect(viewer.part("sign")).to_be_disabled(timeout=WAIT_MS)
    expect(viewer.part("accept-all")).to_be_enabled()


def test_a_viewer_sees_but_decides_nothing(
    open_page: OpenPage, course: dict[str, Any]
) -> None:
    viewer = open_page("vic")
    viewer.open_study(THIRD.uid)
    viewer.wait_for_overlay()
    expect(viewer.part("category")).to_be_visible(timeout=WAIT_MS)
    expect(viewer.part("target-M2")).to_be_disabled()
    expect(viewer.part("accept-all")).to_have_count(0)
    expect(viewer.part("correcting")).to_have_count(0)


def test_the_same_place_at_both_visits(
    stack: RunningStack, open_page: OpenPage, course: dict[str, Any]
) -> None:
    """Side by side, the two heads lie alike, wherever one scrolls on either side."""
    viewer = open_page()
    viewer.open_study(SECOND.uid)
    viewer.wait_for_overlay()
    viewer.part("compare").click()
    _wait_for_compare(viewer, "on")
    first, second = (pose.affine for pose in studies.COURSE_POSES[:2])
    to_prior = first @ np.linalg.inv(second)
    for turn, side in enumerate(
        ("metia-current", "metia-prior", "metia-current", "metia-prior")
    ):
        _scroll(viewer, side, 240 if turn % 2 else -240)
        cameras = viewer.cameras()
        place = np.array([*cameras["metia-current"]["focalPoint"], 1.0])
        found = np.array(cameras["metia-prior"]["focalPoint"])
        assert np.linalg.norm((to_prior @ place)[:3] - found) < 1.5
        assert _likeness(viewer) > 0.8
    viewer.picture("25-side-by-side")
    _row(viewer, "M1").locator("button").click()
    viewer.wait_for_active_segment(
        _lesion_number(stack, SECOND, _observation(stack, SECOND, "M1")["lesion_id"])
    )
    viewer.picture("26-one-lesion-at-both-visits")
    # Whoever clicks the visit before still reads this one.
    viewer.view("metia-prior").click()
    expect(_row(viewer, "M4")).to_be_visible()

    viewer.part("compare").click()
    _wait_for_compare(viewer, "off")
    viewer.wait_for_overlay()
    assert list(viewer.cameras()) != ["metia-prior", "metia-current"]
    assert viewer.faults == []


def _wait_for_compare(viewer: ViewerPage, state: str) -> None:
    expect(viewer.part("result")).to_have_attribute(
        "data-compare", state, timeout=WAIT_MS
    )


def _scroll(viewer: ViewerPage, side: str, amount: int) -> None:
    before = viewer.cameras()[side]["focalPoint"]
    box = viewer.view(side).bounding_box()
    assert box
    viewer.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for _ in range(6):
        viewer.page.mouse.wheel(0, amount)
        viewer.page.wait_for_timeout(150)
    assert viewer.cameras()[side]["focalPoint"] != before, "it scrolls"


def _likeness(viewer: ViewerPage) -> float:
    """Correlate what the two views show, in the middle, by structure alone."""
    shown = []
    for side in ("metia-prior", "metia-current"):
        picture = Image.open(BytesIO(viewer.view(side).screenshot())).convert("L")
        width, height = picture.size
        middle = (width // 4, height * 2 // 5, width * 3 // 4, height * 3 // 5)
        shown.append(np.asarray(picture.crop(middle).resize((96, 84)), float).ravel())
    return float(np.corrcoef(*shown)[0, 1])


def _lesion_number(stack: RunningStack, study: Study, lesion_id: str) -> int:
    lesions = stack.results(study.uid)[0]["lesions"]
    return next(one["segment_number"] for one in lesions if one["id"] == lesion_id)


def _draw(
    viewer: ViewerPage, lesion: dict[str, Any], *strokes: tuple[str, Sequence[float]]
) -> None:
    """Go to a lesion and draw at places beside its middle (mm), each with a tool."""
    viewer.part(f"lesion-{lesion['segment_number']}").locator("button").click()
    viewer.wait_for_image(f"/{lesion['sop_instance_uid']}/")
    viewer.wait_for_active_segment(lesion["segment_number"])
    middle = np.mean(lesion["long_axis_mm"], axis=0)
    for tool, beside in strokes:
        viewer.part(f"tool-{tool}").click()
        expect(viewer.part(f"tool-{tool}")).to_have_attribute("aria-pressed", "true")
        end = middle + np.asarray(beside, float)
        viewer.stroke(viewer.place_of(middle), viewer.place_of(end))


def test_every_edited_voxel_survives(stack: RunningStack, open_page: OpenPage) -> None:
    """Brush, sphere, eraser and a lesion that was missed: as drawn, so stored."""
    before = stack.segment(studies.CORRECTED.uid)
    viewer = open_page()
    viewer.open_study(studies.CORRECTED.uid)
    viewer.wait_for_overlay()
    names = _names(studies.CORRECTED)
    stored = stored_labels(stack, before, names)
    np.testing.assert_array_equal(viewer.voxels(names, SHAPE), stored)
    viewer.part("correcting").locator("summary").click()
    largest, second, third = before["lesions"]
    _draw(viewer, largest, ("brush", (14, 0, 0)), ("sphere", (0, 12, 0)))
    _draw(viewer, second, ("eraser", (2, 2, 0)))
    expect(viewer.part("unsaved")).to_be_visible(timeout=WAIT_MS)
    viewer.part("new-lesion").click()
    viewer.wait_for_active_segment(4)
    middle = np.mean(second["long_axis_mm"], axis=0)
    places = [middle + np.array([x, -30.0, 0.0]) for x in (0.0, 4.0)]
    viewer.stroke(*(viewer.place_of(place) for place in places))
    viewer.page.wait_for_timeout(500)
    drawn = viewer.voxels(names, SHAPE)
    changed = {n: int(((drawn == n) != (stored == n)).sum()) for n in range(1, 5)}
    assert all(changed[n] > 0 for n in (1, 2, 4)), changed
    assert changed[3] == 0, changed
    viewer.picture("27-correcting")
    viewer.part("save").click()
    expect(viewer.part("state")).to_have_text("edited", timeout=WAIT_MS)
    expect(viewer.part("unsaved")).to_have_count(0)
    viewer.wait_for_overlay()
    viewer.picture("28-corrected")

    after, kept = stack.results(studies.CORRECTED.uid)
    assert kept["id"] == before["id"] == after["predecessor_id"]
    assert (after["version"], after["author"]) == (2, "ann")
    np.testing.assert_array_equal(stored_labels(stack, after, names), drawn)
    np.testing.assert_array_equal(stored_labels(stack, kept, names), stored)
    np.testing.assert_array_equal(viewer.voxels(names, SHAPE), drawn)
    # The reader still looks at the slice that was drawn on.
    viewer.wait_for_image(f"/{second['sop_instance_uid']}/")
    untouched = next(
        n for n in after["lesions"] if n["finding_uid"] == third["finding_uid"]
    )
    assert untouched["longest_diameter_mm"] == third["longest_diameter_mm"]
    types = {one["name"]: one["algorithm_type"] for one in after["lesions"]}
    assert types[largest["name"]] == "SEMIAUTOMATIC"
    assert types["Metastasis 4"] == "MANUAL"
    # The version before can still be looked at, as it was.
    viewer.part("results").select_option(before["id"])
    viewer.wait_for_overlay()
    np.testing.assert_array_equal(viewer.voxels(names, SHAPE), stored)
    expect(viewer.part("other-result")).to_be_visible()
    viewer.page.reload()
    viewer.wait_for_overlay()
    np.testing.assert_array_equal(viewer.voxels(names, SHAPE), drawn)
    assert viewer.faults == []


def test_a_lesion_is_drawn_where_the_model_found_none(
    stack: RunningStack, open_page: OpenPage
) -> None:
    stack.segment(studies.NOTHING.uid)
    names = _names(studies.NOTHING)
    viewer = open_page()
    viewer.open_study(studies.NOTHING.uid)
    expect(viewer.part("none")).to_be_visible(timeout=WAIT_MS)
    viewer.part("correcting").locator("summary").click()
    viewer.part("new-lesion").click()
    viewer.wait_for_active_segment(1)
    viewer.stroke(viewer.place_of((20, 0, -12)), viewer.place_of((26, 0, -12)))
    expect(viewer.part("unsaved")).to_be_visible(timeout=WAIT_MS)
    drawn = viewer.voxels(names, SHAPE)
    assert set(np.unique(drawn)) == {0, 1}
    viewer.part("save").click()
    expect(viewer.part("lesion-1")).to_be_visible(timeout=WAIT_MS)
    viewer.wait_for_overlay()
    made = stack.results(studies.NOTHING.uid)[0]
    assert made["lesions"][0]["algorithm_type"] == "MANUAL"
    np.testing.assert_array_equal(stored_labels(stack, made, names), drawn)
    np.testing.assert_array_equal(viewer.voxels(names, SHAPE), drawn)
    assert viewer.faults == []


def test_a_lesion_is_renamed_and_one_deleted_and_brought_back(
    stack: RunningStack, open_page: OpenPage
) -> None:
    result = stack.segment(studies.RENAMED.uid)
    viewer = open_page()
    viewer.open_study(studies.RENAMED.uid)
    viewer.wait_for_overlay()
    viewer.part("lesion-1").locator("button").click()
    viewer.part("name").fill("Left frontal")
    viewer.part("rename").click()
    _idle(viewer)
    viewer.wait_for_overlay()
    assert stack.results(studies.RENAMED.uid)[0]["lesions"][0]["name"] == "Left frontal"
    viewer.part("delete").click()
    expect(viewer.part("undo")).to_contain_text("Left frontal", timeout=WAIT_MS)
    assert stack.results(studies.RENAMED.uid)[0]["lesion_count"] == 2
    viewer.picture("29-deleted")
    viewer.part("undo").locator("button").click()
    expect(viewer.part("undo")).to_have_count(0, timeout=WAIT_MS)
    restored = stack.results(studies.RENAMED.uid)[0]
    assert [one["finding_uid"] for one in restored["lesions"]] == [
        one["finding_uid"] for one in result["lesions"]
    ]
    assert viewer.faults == []


def test_the_second_of_two_editors_is_told_and_nothing_is_lost(
    stack: RunningStack, open_page: OpenPage
) -> None:
    before = stack.segment(studies.SHARED.uid)
    names = _names(studies.SHARED)
    ann, bob = open_page("ann"), open_page("bob")
    for viewer, way in ((ann, (12, 0, 0)), (bob, (0, 12, 0))):
        viewer.open_study(studies.SHARED.uid)
        viewer.wait_for_overlay()
        viewer.part("correcting").locator("summary").click()
        _draw(viewer, before["lesions"][0], ("brush", way))
        expect(viewer.part("unsaved")).to_be_visible(timeout=WAIT_MS)
    ann.part("save").click()
    expect(ann.part("state")).to_have_text("edited", timeout=WAIT_MS)
    mine = bob.voxels(names, SHAPE)
    bob.part("save").click()
    expect(bob.part("conflict")).to_contain_text("ann", timeout=WAIT_MS)
    bob.picture("30-conflict")
    np.testing.assert_array_equal(bob.voxels(names, SHAPE), mine)
    bob.part("keep-both").click()
    expect(bob.part("conflict")).to_have_count(0, timeout=WAIT_MS)
    _idle(bob)
    versions = stack.results(studies.SHARED.uid)
    assert {one["author"] for one in versions} == {None, "ann", "bob"}
    kept = next(one for one in versions if one["author"] == "bob")
    np.testing.assert_array_equal(stored_labels(stack, kept, names), mine)


def test_leaving_with_unsaved_outlines_is_asked(
    stack: RunningStack, open_page: OpenPage
) -> None:
    """The browser asks; the list of studies asks; and coming back brings them back."""
    result = stack.segment(studies.LEFT.uid)
    names = _names(studies.LEFT)
    viewer = open_page()
    viewer.open_study(studies.LEFT.uid)
    viewer.wait_for_overlay()
    lesions = stack.results(studies.LEFT.uid)[0]["lesions"] or result["lesions"]
    viewer.part("correcting").locator("summary").click()
    _draw(viewer, lesions[0], ("brush", (12, 0, 0)))
    expect(viewer.part("unsaved")).to_be_visible(timeout=WAIT_MS)
    drawn = viewer.voxels(names, SHAPE)
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    viewer.page.once("dialog", stay)
    viewer.page.locator('[data-cy="return-to-work-list"]').click()
    expect(viewer.part("unsaved")).to_be_visible()
    viewer.page.once("dialog", stay)
    viewer.page.evaluate("() => setTimeout(() => window.location.reload())")
    _until(lambda: _waited(viewer) and len(asked) == 2, "it asks")
    assert asked == ["confirm", "beforeunload"]
    viewer.page.once("dialog", lambda dialog: dialog.accept())
    viewer.page.locator('[data-cy="return-to-work-list"]').click()
    viewer.page.get_by_text("BRAIN LEFT").first.dblclick()
    viewer.wait_for_overlay()
    expect(viewer.part("unsaved")).to_be_visible(timeout=WAIT_MS)
    np.testing.assert_array_equal(viewer.voxels(names, SHAPE), drawn)
    viewer.part("discard").click()
    viewer.part("discard-yes").click()
    expect(viewer.part("unsaved")).to_have_count(0)
    assert viewer.faults == []


def _waited(viewer: ViewerPage) -> bool:
    """Let the browser's events come in."""
    viewer.page.wait_for_timeout(100)
    return True


def test_a_lesion_is_gone_to_before_its_outline_is_there(
    stack: RunningStack, open_page: OpenPage
) -> None:
    result = stack.segment(studies.SQUARE.uid)
    viewer = open_page()
    held: list[Route] = []
    held_back = True

    def hold(route: Route) -> None:
        if held_back:
            held.append(route)
        else:
            route.continue_()

    seg = result["segmentation"]["series_uid"]
    viewer.page.route(f"**/series/{seg}/instances/**", hold)
    viewer.open_study(studies.SQUARE.uid)
    last = result["lesions"][-1]
    row = viewer.part(f"lesion-{last['segment_number']}")
    expect(row).to_be_visible(timeout=WAIT_MS)
    _until(lambda: _waited(viewer) and held, "the SEG is asked for")
    expect(viewer.part("result")).to_have_attribute("data-overlay", "loading")
    row.locator("button").click()
    viewer.wait_for_image(f"/{last['sop_instance_uid']}/")
    held_back = False
    for route in held:
        route.continue_()
    viewer.wait_for_overlay()
    viewer.wait_for_active_segment(last["segment_number"])
    viewer.wait_for_image(f"/{last['sop_instance_uid']}/")
    assert viewer.faults == []


def test_a_running_job_is_cancelled(stack: RunningStack, open_page: OpenPage) -> None:
    viewer = open_page()
    viewer.open_study(studies.ENHANCED.uid)

    def newest() -> str | None:
        return next((job["state"] for job in stack.jobs(studies.ENHANCED.uid)), None)

    with ExitStack() as released:
        # The archive is held before the job may begin: it can't be over too soon.
        with stack.worker_held():
            viewer.press()
            _until(lambda: newest() == "queued", "it waits")
            released.enter_context(stack.archive_held())
        _until(lambda: newest() == "running", "it runs")
        expect(viewer.part("cancel")).to_be_enabled(timeout=WAIT_MS)
        viewer.part("cancel").click()
        expect(viewer.part("cancel")).to_have_text("Cancelling …", timeout=WAIT_MS)
        viewer.picture("31-cancelling")
    expect(viewer.part("cancelled")).to_be_visible(timeout=WAIT_MS)
    assert newest() == "cancelled"
    viewer.wait_for_run_button()


def test_exports_leave_from_the_panel(
    stack: RunningStack, open_page: OpenPage, course: dict[str, Any]
) -> None:
    viewer = open_page()
    viewer.open_study(THIRD.uid)
    viewer.wait_for_overlay()
    viewer.part("exports").locator("summary").click()
    for format_name in ("sr", "rtstruct"):
        viewer.part(f"store-{format_name}").click()
        _idle(viewer)
        expect(viewer.part("problem")).to_have_count(0)
    modalities = {
        one["00080060"]["Value"][0] for one in _series(stack.admin, THIRD.uid)
    }
    assert {"SR", "RTSTRUCT"} <= modalities
    for kind, magic in (
        ("csv", b""),
        ("fhir", b"{"),
        ("pdf", b"%PDF"),
        ("xlsx", b"PK"),
    ):
        with viewer.page.expect_download() as download:
            viewer.part(f"download-{kind}").click()
        content = download.value.path().read_bytes()
        assert content.startswith(magic)
        _idle(viewer)
    viewer.picture("32-exports")


def _series(client: httpx.Client, study_uid: str) -> list[dict[str, Any]]:
    answer = client.get(f"/dicom-web/studies/{study_uid}/series")
    answer.raise_for_status()
    return list(answer.json())


def test_the_whole_panel_speaks_french(
    open_page: OpenPage, course: dict[str, Any]
) -> None:
    viewer = open_page(user="rita", locale="fr-FR")
    viewer.open_study(SECOND.uid)
    viewer.wait_for_overlay()
    expect(_row(viewer, "M3")).to_contain_text("disparue", timeout=WAIT_MS)
    for part in ("correcting", "inputs", "exports", "reasons"):
        viewer.part(part).locator("summary").first.click()
    _row(viewer, "M4").locator("button").click()
    expect(viewer.part("detail")).to_contain_text("Accepter")
    viewer.picture("33-french")
    # Nothing is cut off, however narrow the panel is; French words are the longest.
    panel = viewer.part("panel")
    for width in (280, 420):
        panel.evaluate("(it, width) => { it.style.width = `${width}px`; }", width)
        cut = panel.evaluate(
            "it => [...it.querySelectorAll('.metia-scroll, .metia-scroll *')]"
            ".filter(one => one.scrollWidth > one.clientWidth + 1"
            " && getComputedStyle(one).display !== 'inline'"
            " && !['SELECT', 'OPTION', 'INPUT'].includes(one.tagName))"
            ".map(one => `${one.tagName}.${one.className} ${one.textContent}`)"
        )
        assert cut == []
        viewer.picture(f"34-width-{width}")
