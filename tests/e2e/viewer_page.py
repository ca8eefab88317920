"""What a person sees and does in the viewer, for the browser tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Locator, Page, expect

from tests.e2e.running_stack import RunningStack

WAIT_MS = 90_000
PICTURES = Path(__file__).resolve().parents[2] / "test-artefacts" / "screenshots"

_VIEWPORT = """
const active = () => {
  const grid = window.services.viewportGridService.getState();
  return window.services.cornerstoneViewportService
    .getCornerstoneViewport(grid.activeViewportId);
};
"""
_DRAWN = (
    _VIEWPORT
    + """
try {
  const id = active().getCurrentImageId();
  const loaded = id && window.cornerstone.cache.isLoaded(id);
  return Boolean(loaded && active().getImageData());
} catch { return false; }
"""
)
# Share of the viewport's height that the image fills.
_FILL = (
    _VIEWPORT
    + """
const viewport = active(), data = viewport.getImageData();
const [columns, rows] = data.dimensions;
const at = (i, j) => viewport.worldToCanvas(data.imageData.indexToWorld([i, j, 0]));
return Math.abs(at(columns, rows)[1] - at(0, 0)[1]) / viewport.canvas.clientHeight;
"""
)
_VOXELS = """
const { state } = window.cornerstoneTools.segmentation;
const found = [];
const { segmentationService } = window.services;
for (const segmentation of state.getSegmentations()) {
  const { segmentationId } = segmentation;
  const shown = segmentationService.getViewportIdsWithSegmentation(segmentationId);
  if (shown.length === 0) continue;
  for (const id of segmentation.representationData.Labelmap.imageIds) {
    const image = window.cornerstone.cache.getImage(id);
    const values = image.voxelManager.getScalarData();
    const where = [], what = [];
    for (let k = 0; k < values.length; k++) {
      if (values[k]) { where.push(k); what.push(values[k]); }
    }
    found.push([segmentation.segmentationId, image.referencedImageId, where, what]);
  }
}
return found;
"""


def script(body: str) -> str:
    return f"() => {{ {body} }}"


class ViewerPage:
    """One browser tab."""

    def __init__(self, page: Page, stack: RunningStack) -> None:
        self.page = page
        self.stack = stack
        self.faults: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.faults.append(str(error)))

    def part(self, name: str) -> Locator:
        return self.page.locator(f'[data-cy="metia-{name}"]')

    def open_study(self, study_uid: str, query: str = "") -> None:
        self.page.goto(
            f"{self.stack.url}/brainmets?StudyInstanceUIDs={study_uid}{query}"
        )
        expect(self.part("panel")).to_be_visible(timeout=WAIT_MS)
        self.wait_until_drawn()

    def wait_until_drawn(self) -> None:
        self.page.wait_for_function(script(_DRAWN), timeout=WAIT_MS)

    def wait_for_run_button(self) -> None:
        expect(self.part("run")).to_be_enabled(timeout=WAIT_MS)

    def press(self) -> None:
        self.wait_for_run_button()
        self.part("run").click()

    def wait_for_overlay(self) -> None:
        expect(self.part("result")).to_have_attribute(
            "data-overlay", "shown", timeout=WAIT_MS
        )

    def image_fill(self) -> float:
        return float(self.page.evaluate(script(_FILL)))

    def current_image(self) -> str:
        return str(
            self.page.evaluate(
                script(_VIEWPORT + "return active().getCurrentImageId()")
            )
        )

    def wait_for_image(self, *parts: str) -> None:
        """Wait until the image shown has all `parts` in its address."""
        self.page.wait_for_function(
            f"parts => {{ {_VIEWPORT} const id = active().getCurrentImageId() + '/';"
            " return parts.every(part => id.includes(part)); }",
            arg=list(parts),
            timeout=WAIT_MS,
        )

    def measurements(self) -> list[dict[str, Any]]:
        return list(
            self.page.evaluate(
                script(
                    "return window.services.measurementService.getMeasurements()"
                    ".map(m => ({label: m.label, text: m.displayText.primary,"
                    " locked: window.cornerstoneTools.annotation.locking"
                    ".isAnnotationLocked(m.uid)}))"
                )
            )
        )

    def wait_for_active_segment(self, number: int) -> None:
        self.page.wait_for_function(
            "number => { const t = window.cornerstoneTools.segmentation;"
            " const { segmentationService } = window.services;"
            " return t.state.getSegmentations().some(({ segmentationId: id }) =>"
            " segmentationService.getViewportIdsWithSegmentation(id).length > 0"
            " && t.segmentIndex.getActiveSegmentIndex(id) === number); }",
            arg=number,
            timeout=WAIT_MS,
        )

    def voxels(self, images: list[str], shape: tuple[int, int]) -> np.ndarray:
        """Read the labels that the viewer draws, on the images in the given order.

        Parameters
        ----------
        images : list of str
            A part of each image's address that names it alone.
        shape : tuple of int
            Rows and columns.

        Returns
        -------
        ndarray, uint16, axes (slice, row, column)
        """
        labels = np.zeros((len(images), *shape), np.uint16)
        found = self.page.evaluate(script(_VOXELS))
        assert len({segmentation for segmentation, *_ in found}) == 1, (
            "one SEG is shown"
        )
        for _, address, where, what in found:
            (index,) = [n for n, name in enumerate(images) if name in f"{address}/"]
            labels[index].ravel()[where] = what
        return labels

    def place_of(self, point_mm: Sequence[float]) -> tuple[float, float]:
        """Give where a point of the patient lies on the page, in the active view."""
        x, y = self.page.evaluate(
            f"point => {{ {_VIEWPORT} const viewport = active();"
            " const corner = viewport.element.getBoundingClientRect();"
            " const [x, y] = viewport.worldToCanvas(point);"
            " return [x + corner.x, y + corner.y]; }",
            list(point_mm),
        )
        return x, y

    def stroke(self, *places: tuple[float, float]) -> None:
        """Press the mouse at the first place, draw to the others, let go."""
        mouse = self.page.mouse
        mouse.move(*places[0])
        mouse.down()
        for place in places[1:]:
            mouse.move(*place, steps=4)
        mouse.up()

    def cameras(self) -> dict[str, dict[str, Any]]:
        """Give the camera of every view by the id of its viewport."""
        return dict(
            self.page.evaluate(
                script(
                    "const { viewports } = window.services.viewportGridService"
                    ".getState(); return Object.fromEntries([...viewports.keys()].map("
                    "id => [id, window.services.cornerstoneViewportService"
                    ".getCornerstoneViewport(id).getCamera()]))"
                )
            )
        )

    def view(self, viewport_id: str) -> Locator:
        """Give the element of one view."""
        return self.page.locator(f'[data-viewport-uid="{viewport_id}"]')

    def picture(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")
