"""What a job asks of archive, database and memory: counts, which no busy machine moves.

A real Orthanc and the real pipeline with answers that are known, so that the number of
lesions is ours to choose. Counts must not grow with slices, hardly with lesions.
"""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from sqlalchemy import event

from benchmarks.heads import as_study, head
from benchmarks.overhead import KnownAnswer, Reporter
from db.engine import make_engine, transaction
from db.schema import upgrade
from segmentation.dicom.seg import build_segmentation, identify
from segmentation.jobs import JobQueue
from segmentation.lesions import find_lesions
from segmentation.models.predictor import ModelIdentity
from segmentation.pipeline import Outcome, Request, run_segmentation
from segmentation.runner import record_outcome
from settings import Settings
from tests.orthanc_server import OrthancServer

FEW, MANY = 2, 8
SHAPE, SLICE_MM = (88, 128, 128), 2.0
DEEPER, THINNER_MM = (176, 128, 128), 1.0
MOST_REQUESTS = 20
"""Found: 16. Six find out whether the study is complete and what is in it, one pulls
the series, the rest store the SEG, read it back and compare it."""
MOST_STATEMENTS = 55
"""Found: 46 to record a result, link the lesions of all visits and end."""
LARGEST_PEAK = 2.5
"""Memory in sizes of the image (float32); found: 1.8."""


@dataclass
class Cost:
    """What one job took."""

    requests: Counter[str]
    statements: list[str]


@contextmanager
def counted_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Counter[str]]:
    found: Counter[str] = Counter()
    send = httpx.HTTPTransport.handle_request

    def count(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        found[f"{request.method} {request.url.path.split('/')[1]}"] += 1
        return send(self, request)

    with monkeypatch.context() as patch:
        patch.setattr(httpx.HTTPTransport, "handle_request", count)
        yield found


@pytest.fixture(name="cost_of")
def make_cost_of(
    orthanc: OrthancServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Cost]:
    numbers = iter(range(100))

    def cost_of(lesions: int, shape: tuple[int, int, int], slice_mm: float) -> Cost:
        number = next(numbers)
        drawn = head(lesions, shape, slice_mm)
        images = as_study(drawn, 1000 * lesions + shape[0])
        orthanc.upload(images)
        settings = Settings(data_dir=tmp_path / str(number))
        settings.data_dir.mkdir()
        engine = make_engine(settings.database_url)
        upgrade(engine)
        job, _ = JobQueue(engine, settings).submit(images[0].StudyInstanceUID)
        archive = orthanc.archive()
        archive.wait_until_stable(job.study_uid, 30, lambda: False)
        statements: list[str] = []

        def note(*arguments: object) -> None:
            statements.append(str(arguments[2]))

        def record(outcome: Outcome) -> None:
            assert len(outcome.analysis.lesion_map.lesions) == lesions
            event.listen(engine, "before_cursor_execute", note)
            with transaction(engine) as session:
                record_outcome(session, job, outcome)

        with counted_requests(monkeypatch) as requests:
            run_segmentation(
                Request(job.study_uid, None),
                Reporter(),
                archive,
                KnownAnswer(drawn.volume.with_array(drawn.occupancy), number),
                record,
                stable_timeout_s=30,
            )
        archive.close()
        engine.dispose()
        return Cost(requests, statements)

    return cost_of


def test_requests_and_statements_grow_neither_with_slices_nor_with_lesions(
    cost_of: Callable[..., Cost],
) -> None:
    base = cost_of(FEW, SHAPE, SLICE_MM)
    deeper = cost_of(FEW, DEEPER, THINNER_MM)
    more = cost_of(MANY, SHAPE, SLICE_MM)
    assert base.requests == deeper.requests == more.requests
    assert sum(base.requests.values()) <= MOST_REQUESTS, base.requests
    assert len(base.statements) == len(deeper.statements) == len(more.statements)
    assert len(base.statements) <= MOST_STATEMENTS, "\n".join(base.statements)


def test_measuring_and_drawing_need_few_copies_of_the_image() -> None:
    drawn = head(FEW)
    images = as_study(drawn)
    probability = drawn.volume.with_array(drawn.occupancy)
    model = ModelIdentity("known-answer", "1", "0" * 64, True)
    image_bytes = np.float32().nbytes * drawn.occupancy.size

    def measure_and_draw() -> None:
        found = find_lesions(probability, threshold=0.5, minimum_volume_mm3=10.0)
        identity = identify(images[0].SeriesInstanceUID, model, {}, len(found.lesions))
        build_segmentation(images, found, model, identity, {})

    measure_and_draw()  # what is loaded once is not counted
    tracemalloc.start()
    try:
        measure_and_draw()
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes <= LARGEST_PEAK * image_bytes
