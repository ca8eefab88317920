"""A recorded result and what a reader's viewer sends about it, for tests.

``Desk`` is one application whose archive holds a small head with two lesions and the
SEG that a model made of them; it speaks to the API as the viewer does. Works with the
archive in memory and with a real one: every desk has UIDs of its own.
"""

from __future__ import annotations

import gzip
import io
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from werkzeug.test import TestResponse

from db.engine import transaction
from orthanc.archive import Archive
from orthanc.routes import ARCHIVE_EXTENSION
from orthanc.volume import SliceReference, load_series
from segmentation.dicom.seg import segments_as_labels
from segmentation.http.routes import SERVICES
from segmentation.jobs import JobQueue
from segmentation.phantoms import LesionSpec, Visit, dicom_series, sample_head
from segmentation.pipeline import Outcome, analyse, store_and_compare
from segmentation.runner import record_outcome
from tests.security.application import Application, Browser
from tests.unit.test_pipeline import StubJob, StubPredictor

SHAPE = (24, 64, 72)
LESIONS = (LesionSpec.ball((36, 10, 22), 22.0), LesionSpec.ball((-34, -20, 12), 26.0))
HEAD = sample_head(SHAPE, lesions=LESIONS)


@dataclass
class Desk:
    """A reader at work on one result.

    Attributes
    ----------
    images : list of pydicom.Dataset
        As they are stored.
    slices : tuple of SliceReference
        In the order of `labels`, and of what is sent.
    labels : numpy.ndarray
        Of the model's SEG; axes (slice, row, column).
    """

    application: Application
    archive: Archive
    images: list[Dataset]
    slices: tuple[SliceReference, ...]
    result: dict[str, Any]
    labels: np.ndarray
    role: str = "annotator"
    _browsers: dict[str, Browser] = field(default_factory=dict)

    def browser(self, role: str = "") -> Browser:
        role = role or self.role
        if role not in self._browsers:
            self._browsers[role] = self.application.browser(role)
        return self._browsers[role]

    def send(
        self, description: object, packed: bytes, *, result_id: str = "", role: str = ""
    ) -> TestResponse:
        """Send a form, whatever is in it."""
        text = description if isinstance(description, str) else json.dumps(description)
        form = {
            "description": (io.BytesIO(text.encode()), "blob", "application/json"),
            "labels": (io.BytesIO(packed), "blob", "application/gzip"),
        }
        return self.browser(role).post(
            f"/api/v1/results/{result_id or self.result['id']}/corrections", data=form
        )

    def describe(self, segments: Sequence[dict[str, Any]], **other: Any) -> dict:
        """Describe a correction of the labels in the order of the slices."""
        return {
            "revision": self.result["revision"],
            "images": [
                {
                    "sop_instance_uid": one.sop_instance_uid,
                    "frame_number": one.frame_number,
                }
                for one in self.slices
            ],
            "rows": self.labels.shape[1],
            "columns": self.labels.shape[2],
            "segments": list(segments),
            **other,
        }

    def save(
        self,
        labels: np.ndarray,
        segments: Sequence[dict[str, Any]],
        *,
        result_id: str = "",
        role: str = "",
        **other: Any,
    ) -> TestResponse:
        """Send labels as the viewer does."""
        packed = gzip.compress(np.ascontiguousarray(labels, "<u2").tobytes())
        return self.send(
            self.describe(segments, **other), packed, result_id=result_id, role=role
        )

    def kept(self, *numbers: int) -> list[dict[str, Any]]:
        """Describe lesions of the result that stay as they are."""
        return [
            {
                "number": one["segment_number"],
                "lesion_id": one["id"],
                "name": one["name"],
            }
            for one in self.result["lesions"]
            if one["segment_number"] in (numbers or (1, 2))
        ]

    def seg(self, result: dict[str, Any]) -> Dataset:
        """Fetch the SEG of a result from the archive."""
        return self.archive.fetch_instance(
            result["study_uid"], *result["segmentation"].values()
        )

    def stored(self, result: dict[str, Any]) -> np.ndarray:
        """Read the voxels of a result's SEG, on the grid of `labels`."""
        return segments_as_labels(self.seg(result), self.grid)

    @property
    def grid(self) -> hd.Volume:
        return load_series(self.images, require_head_t1=False).volume

    def segs(self) -> int:
        """Count the SEGs in the archive."""
        headers = self.archive.series_headers(self.result["study_uid"])
        return sum(header.sample.Modality == "SEG" for header in headers)


def make_desk(
    application: Application,
    archive: Archive | None = None,
    change: Callable[[list[Dataset]], list[Dataset]] = lambda images: images,
) -> Desk:
    """Put a head into the archive, and record what a model found in it.

    `change` makes another series of the images before they are stored.
    """
    archive = archive or application.archive
    services = application.app.extensions[SERVICES]
    application.app.extensions[SERVICES] = replace(services, archive=archive)
    application.app.extensions[ARCHIVE_EXTENSION] = archive
    visit = Visit(key=uuid.uuid4().hex)
    archive.store(change(dicom_series(HEAD, visit=visit)))
    series_uid = archive.series_headers(visit.study_uid)[0].series_uid
    images = archive.fetch_series(visit.study_uid, series_uid)
    source = load_series(images, require_head_t1=False)
    predictor = StubPredictor(HEAD.occupancy)
    analysis = analyse(source, series_uid, _of_head(predictor), StubJob())
    assert analysis.segmentation is not None
    labels = analysis.lesion_map.labels
    store_and_compare(archive, visit.study_uid, analysis.segmentation, labels)
    outcome = Outcome(visit.study_uid, series_uid, analysis, ("chosen",))
    queue = JobQueue(application.engine, application.settings)
    job, _ = queue.submit(
        visit.study_uid, series_uid, "stub", priority=0, requested_by=None
    )
    with transaction(application.engine) as session:
        result_id = record_outcome(session, job, outcome)
    desk = Desk(
        application,
        archive,
        images,
        source.slices,
        {},
        labels.array.copy(),
    )
    desk.result = desk.browser().get(f"/api/v1/results/{result_id}").json
    return desk


def _of_head(predictor: StubPredictor) -> StubPredictor:
    """Let the stub answer on this head's grid, not on its own module's."""

    class OfHead(StubPredictor):
        def predict(self, image: hd.Volume, **_: Any) -> Any:
            from segmentation.models.predictor import Prediction

            answer = HEAD.volume.with_array(self.answer.astype(np.float32))
            return Prediction(answer.match_geometry(image, tol=1e-3), "cpu")

    return OfHead(predictor.answer)
