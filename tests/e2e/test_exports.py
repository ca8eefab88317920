"""What leaves as DICOM, seen in the viewer as it ships, without our mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
from pydicom.dataset import Dataset

from segmentation.phantoms import Grid, dicom_series, make_head, random_lesions
from segmentation.phantoms.geometry import Plane
from tests.e2e.conftest import OpenPage
from tests.e2e.running_stack import RunningStack
from tests.e2e.studies import Study, enhanced_from
from tests.e2e.viewer_page import ViewerPage, script

SHAPES: dict[Plane, tuple[int, int, int]] = {
    "axial": (60, 128, 128),
    "sagittal": (52, 128, 128),
}
_FIND = """
const sets = window.services.displaySetService.getActiveDisplaySets();
const report = sets.find(set => set.Modality === 'SR');
"""
_HYDRATE = (
    _FIND
    + """
if (!report.isLoaded) await report.load();
const drawable = report.isRehydratable;
const groups = report.measurements.length;
const placed = report.measurements.filter(one => one.loaded).length;
const { displaySetInstanceUID } = report;
if (drawable) {
  window.commandsManager.run('hydrateStructuredReport', { displaySetInstanceUID });
}
return { drawable, groups, placed };
"""
)
_OUTLINED = """
const shown = window.services.segmentationService.getSegmentations();
const outlined = shown.flatMap(one => Object.values(one.segments)
  .filter(Boolean).map(segment => [segment.label, one.segmentationId]));
"""
_JUMP = """
const grid = window.services.viewportGridService.getState();
const service = window.services.measurementService;
const found = service.getMeasurements().find(one => one.label === label);
service.jumpToMeasurement(grid.activeViewportId, found.uid);
"""


def _head(study: Study, plane: Plane) -> list[Dataset]:
    grid = Grid.covering_head(SHAPES[plane], plane)
    head = make_head(grid, random_lesions(7, 2, (9.0, 16.0)), seed=7)
    return dicom_series(head, visit=study.visit, series_number=5)


@dataclass
class StockViewer:
    """The viewer's own mode, on a study with a report."""

    viewer: ViewerPage
    study_uid: str
    told: dict = field(default_factory=dict)

    def open(self) -> None:
        page = self.viewer.page
        page.goto(f"{self.viewer.stack.url}/viewer?StudyInstanceUIDs={self.study_uid}")
        self.viewer.wait_until_drawn()
        page.wait_for_function(script(_FIND + "return Boolean(report)"))

    def hydrate(self) -> None:
        self.told = self.viewer.page.evaluate(f"async () => {{ {_HYDRATE} }}")

    def show(self, label: str) -> None:
        self.viewer.page.evaluate(f"label => {{ {_JUMP} }}", label)
        self.viewer.page.wait_for_function(
            "label => window.services.measurementService.getMeasurements()"
            ".some(m => m.label === label && m.displayText.primary.length === 2)",
            arg=label,
        )


def _enhanced(study: Study) -> list[Dataset]:
    return [enhanced_from(_head(study, "axial"))]


SOURCES: dict[str, Callable[[Study], list[Dataset]]] = {
    "axial": partial(_head, plane="axial"),
    "sagittal": partial(_head, plane="sagittal"),
    "enhanced": _enhanced,
}


@pytest.mark.parametrize("source", SOURCES)
def test_stock_viewer_draws_the_axes_of_a_report(
    stack: RunningStack, open_page: OpenPage, source: str
) -> None:
    """On the images of an axial series; in space where they cross a sagittal one."""
    study = Study(f"report-{source}", SOURCES[source])
    stack.upload(study.images)
    result = stack.segment(study.uid)
    answer = stack.users["ann"].post(
        f"/api/v1/results/{result['id']}/export", json={"formats": ["sr", "rtstruct"]}
    )
    assert answer.status_code == 200, answer.text
    assert all(one["stored"] for one in answer.json()["objects"])

    stock = StockViewer(open_page(), study.uid)
    stock.open()
    stock.hydrate()
    lesions = result["lesions"]
    count = len(lesions)
    assert count == 2
    assert stock.told == {"drawable": True, "groups": count, "placed": count}
    for lesion in lesions:
        shown = {one["label"]: one for one in stock.viewer.measurements()}
        assert len(shown) == count
        label = next(one for one in shown if one in _labels(stack, study.uid, lesion))
        stock.show(label)
        (now,) = [one for one in stock.viewer.measurements() if one["label"] == label]
        lengths = [float(text.split()[1]) for text in now["text"]]
        assert lengths == pytest.approx(
            [lesion["longest_diameter_mm"], lesion["perpendicular_diameter_mm"]],
            abs=0.06,
        )
        stock.viewer.picture(f"30-stock-report-{source}-{label.replace(' ', '-')}")
    assert stock.viewer.faults == []


def test_objects_open_from_the_list_of_series(
    stack: RunningStack, open_page: OpenPage
) -> None:
    """As a person does who has nothing but the viewer: a double click on each."""
    study = Study("report-opened", partial(_head, plane="axial"))
    stack.upload(study.images)
    result = stack.segment(study.uid)
    stack.users["ann"].post(
        f"/api/v1/results/{result['id']}/export", json={"formats": ["sr", "rtstruct"]}
    ).raise_for_status()
    stock = StockViewer(open_page(), study.uid)
    stock.open()
    page = stock.viewer.page
    listed = page.locator('[data-cy="study-browser-thumbnail-no-image"]')
    listed.filter(has_text="MetIA measurements").dblclick()
    page.wait_for_function(
        "() => window.services.measurementService.getMeasurements().length === 2"
    )
    stock.viewer.wait_until_drawn()
    stock.viewer.picture("31-stock-report-opened")
    listed.filter(has_text="MetIA outlines").dblclick()
    page.wait_for_function(script(_OUTLINED + "return outlined.length === 2"))
    stock.viewer.wait_until_drawn()
    stock.viewer.picture("32-stock-outlines-opened")
    colours = page.evaluate(script(_OUTLINED + "return outlined"))
    assert {label for label, _ in colours} == {"M1", "M2"}
    assert stock.viewer.faults == []


def test_a_report_without_lesion_does_no_harm(
    stack: RunningStack, open_page: OpenPage
) -> None:
    study = Study("report-nothing", _nothing)
    stack.upload(study.images)
    result = stack.segment(study.uid)
    assert result["lesions"] == []
    export = f"/api/v1/results/{result['id']}/export"
    answer = stack.users["ann"].post(export, json={"formats": ["rtstruct"]})
    assert answer.json()["code"] == "export-impossible"
    stack.users["ann"].post(export, json={"formats": ["sr"]}).raise_for_status()
    stock = StockViewer(open_page(), study.uid)
    stock.open()
    stock.hydrate()
    assert stock.told == {"drawable": False, "groups": 0, "placed": 0}
    stock.viewer.wait_until_drawn()
    stock.viewer.picture("33-stock-report-without-lesion")
    assert stock.viewer.measurements() == []


def _nothing(study: Study) -> list[Dataset]:
    head = make_head(Grid.covering_head(SHAPES["axial"]), [], seed=7)
    return dicom_series(head, visit=study.visit, series_number=5)


def _labels(stack: RunningStack, study_uid: str, lesion: dict) -> set[str]:
    """Give the names a lesion may go by: its own, and its track's."""
    course = stack.admin.get(f"/api/v1/studies/{study_uid}/course").json()
    tracks = {
        track["label"]
        for track in course["tracks"]
        for one in track["observations"]
        if one["lesion_id"] == lesion["id"]
    }
    return tracks | {lesion["name"]}
