"""From the button to the outlines: the way of a person through one study."""

from __future__ import annotations

from io import BytesIO

import highdicom as hd
import numpy as np
import pytest
from playwright.sync_api import expect

from orthanc.volume import load_series
from segmentation.lesions import find_lesions
from segmentation.models.registry import ModelRegistry, load_predictor
from settings import get_settings
from tests.e2e import studies
from tests.e2e.conftest import OpenPage
from tests.e2e.running_stack import RunningStack
from tests.e2e.studies import Study
from tests.e2e.viewer_page import WAIT_MS


def predicted_labels(study: Study, images: list) -> tuple[np.ndarray, list[str]]:
    """Predict here, apart from the service: labels, and the image of each slice."""
    source = load_series(images)
    settings = get_settings()
    folder = ModelRegistry(settings.model_dirs).default(settings.default_model)
    predictor = load_predictor(folder, device="cpu", threads=1)
    prediction = predictor.predict(
        source.volume, progress=lambda _done: None, cancelled=lambda: False
    )
    lesion_map = find_lesions(
        prediction.probability,
        threshold=predictor.threshold,
        minimum_volume_mm3=predictor.minimum_volume_mm3,
    )
    names = [
        f"/{one.sop_instance_uid}/frames/{one.frame_number or 1}/"
        for one in source.slices
    ]
    return lesion_map.labels.array, names


def stored_labels(stack: RunningStack, result: dict, names: list[str]) -> np.ndarray:
    """Read the SEG from the archive with highdicom, on the slices in order."""
    content = stack.download(result["segmentation"]["sop_instance_uid"])
    segmentation = hd.seg.segread(BytesIO(content))
    uids = [name.split("/")[1] for name in names]
    frames = [int(name.split("/")[3]) for name in names]
    options = {"combine_segments": True, "assert_missing_frames_are_empty": True}
    if len(set(uids)) == 1:
        return segmentation.get_pixels_by_source_frame(uids[0], frames, **options)
    return segmentation.get_pixels_by_source_instance(uids, **options)


def test_from_login_to_lesions(stack: RunningStack, open_page: OpenPage) -> None:
    """Log in, open from the list, press, watch, and walk through the lesions."""
    viewer = open_page(user=None)
    page = viewer.page
    page.goto("/")
    expect(page).to_have_url(f"{stack.url}/login?next=/")
    viewer.picture("01-login")
    stack.add_user("eve", "annotator", "Eve Expert")
    password = "a long password for eve"
    stack.admin.patch(
        "/api/v1/users/eve", json={"password": password}
    ).raise_for_status()
    page.fill("#username", "eve")
    page.fill("#password", password)
    page.click("button[type=submit]")
    row = page.get_by_text("BRAIN SQUARE").first
    expect(row).to_be_visible(timeout=WAIT_MS)
    viewer.picture("02-study-list")
    row.dblclick()
    expect(page).to_have_url(
        f"{stack.url}/brainmets?StudyInstanceUIDs={studies.SQUARE.uid}"
    )
    viewer.wait_for_run_button()
    chosen = studies.SQUARE.series(5)
    viewer.wait_for_image(f"/series/{chosen[0].SeriesInstanceUID}/")
    viewer.wait_until_drawn()
    assert 0.5 < viewer.image_fill() < 1.2
    expect(viewer.part("notice")).to_contain_text("Research use only")
    expect(viewer.part("demonstration")).to_be_visible()
    expect(viewer.part("footer")).to_contain_text("Eve Expert")
    viewer.part("why").locator("summary").click()
    expect(viewer.part("why")).to_contain_text("contrast")
    viewer.picture("03-ready")

    with stack.worker_held():
        viewer.part("toolbar-run").click()
        expect(viewer.part("step")).to_have_text("Waiting for a free worker")
        expect(viewer.part("toolbar-run")).to_be_disabled()
        viewer.picture("04-waiting")
    viewer.wait_for_overlay()
    viewer.picture("05-result")
    assert 0.5 < viewer.image_fill() < 1.2
    (result,) = stack.results(studies.SQUARE.uid)
    assert result["lesion_count"] == 3
    expect(page.locator('[data-cy^="metia-lesion-"]')).to_have_count(3)
    _check_numbers(viewer, result)
    _check_voxels(stack, viewer, studies.SQUARE, chosen, result)
    _check_jumps(viewer, result)
    _check_diameters(viewer, result)
    _check_panel_reopens(viewer)
    assert viewer.faults == []


def _check_numbers(viewer, result) -> None:
    for lesion in result["lesions"]:
        row = viewer.part(f"lesion-{lesion['segment_number']}")
        size = (
            f"{lesion['longest_diameter_mm']:.1f} × "
            f"{lesion['perpendicular_diameter_mm']:.1f}"
        )
        expect(row).to_contain_text(lesion["name"])
        expect(row).to_contain_text(size)
    total = sum(lesion["longest_diameter_mm"] for lesion in result["lesions"])
    expect(viewer.part("totals")).to_contain_text(f"{total:.1f} mm")


def _check_voxels(stack, viewer, study, images, result) -> None:
    expected, names = predicted_labels(study, images)
    assert expected.max() == result["lesion_count"]
    shown = viewer.voxels(names, expected.shape[1:])
    np.testing.assert_array_equal(stored_labels(stack, result, names), expected)
    np.testing.assert_array_equal(shown, expected)


def _check_jumps(viewer, result) -> None:
    for lesion in reversed(result["lesions"]):
        number = lesion["segment_number"]
        viewer.part(f"lesion-{number}").click()
        viewer.wait_for_image(
            f"/{lesion['sop_instance_uid']}/", f"/frames/{lesion['frame_number'] or 1}/"
        )
        viewer.wait_for_active_segment(number)
    # By keyboard: from the first row down to the second.
    viewer.part("lesion-1").locator("button").focus()
    viewer.page.keyboard.press("ArrowDown")
    viewer.page.keyboard.press("Enter")
    second = result["lesions"][1]
    viewer.wait_for_image(f"/{second['sop_instance_uid']}/")
    viewer.wait_for_active_segment(2)


def _check_diameters(viewer, result) -> None:
    viewer.part("diameters").check()
    first = result["lesions"][0]
    viewer.part("lesion-1").click()
    viewer.wait_for_image(f"/{first['sop_instance_uid']}/")
    viewer.page.wait_for_function(
        "() => window.services.measurementService.getMeasurements()"
        ".some(m => m.displayText.primary.length === 2)"
    )
    shown = {one["label"]: one for one in viewer.measurements()}
    assert set(shown) == {lesion["name"] for lesion in result["lesions"]}
    assert all(one["locked"] for one in shown.values())
    lengths = [float(text.split()[1]) for text in shown[first["name"]]["text"]]
    assert lengths == pytest.approx(
        [first["longest_diameter_mm"], first["perpendicular_diameter_mm"]], abs=0.06
    )
    viewer.picture("06-diameters")
    viewer.part("diameters").uncheck()
    assert viewer.measurements() == []


def _check_panel_reopens(viewer) -> None:
    viewer.page.locator('[data-cy="side-panel-header-right"]').first.click()
    expect(viewer.part("lesions")).to_have_count(0)
    viewer.page.locator('[data-cy="side-panel-header-right"]').first.click()
    expect(viewer.part("lesions")).to_be_visible(timeout=WAIT_MS)


@pytest.mark.parametrize(
    "study", [studies.ODD, studies.ENHANCED], ids=lambda it: it.key
)
def test_what_is_drawn_is_what_was_predicted(
    stack: RunningStack, open_page: OpenPage, study: Study
) -> None:
    """A matrix whose bits do not fill bytes, and frames in one object."""
    viewer = open_page()
    viewer.open_study(study.uid)
    viewer.press()
    viewer.wait_for_overlay()
    (result,) = stack.results(study.uid)
    viewer.picture(f"07-{study.key}")
    _check_voxels(stack, viewer, study, study.images, result)
    _check_jumps(viewer, result)
    assert viewer.faults == []


def test_newest_result_is_shown_by_itself(
    stack: RunningStack, open_page: OpenPage
) -> None:
    """Nothing is pressed; and a reload shows it again."""
    result = stack.segment(studies.QUEUE.uid)
    viewer = open_page(user="vic")
    viewer.open_study(studies.QUEUE.uid)
    viewer.wait_for_overlay()
    expect(viewer.part("result")).to_have_attribute("data-result", result["id"])
    viewer.page.reload()
    viewer.wait_for_overlay()
    assert viewer.faults == []


def test_no_lesion_is_said(stack: RunningStack, open_page: OpenPage) -> None:
    viewer = open_page()
    viewer.open_study(studies.NOTHING.uid)
    viewer.press()
    expect(viewer.part("none")).to_contain_text("No lesion was found", timeout=WAIT_MS)
    expect(viewer.part("lesions")).to_have_count(0)
    viewer.picture("08-no-lesion")
