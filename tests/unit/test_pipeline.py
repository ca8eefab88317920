"""The order of the steps, and what stops a run on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import highdicom as hd
import numpy as np
import pytest

from errors import MetiaError
from segmentation.models.predictor import ModelIdentity, Prediction
from segmentation.phantoms import (
    LesionSpec,
    Visit,
    dicom_series,
    make_head,
    sample_head,
)
from segmentation.phantoms.geometry import Grid
from segmentation.pipeline import STEPS, Outcome, Request, run_segmentation
from tests.fake_archive import FakeArchive

VISIT = Visit(key="pipeline")
LESIONS = (LesionSpec.ball((36, 10, 22), 22.0), LesionSpec.ball((-34, -20, 12), 26.0))
HEAD = sample_head((24, 64, 64), lesions=LESIONS)
POST = dicom_series(HEAD, visit=VISIT)
STUB = ModelIdentity("stub", "1", "ab" * 32, True)


@dataclass
class StubPredictor:
    """Answers with a given map, and asks whether to go on as a real one must."""

    answer: np.ndarray
    identity: ModelIdentity = STUB
    threshold: float = 0.5
    minimum_volume_mm3: float = 10.0
    minimum_peak: float = 0.0
    device: str = "cpu"
    seen: list[hd.Volume] = field(default_factory=list)

    def predict(
        self,
        image: hd.Volume,
        *,
        progress: Callable[[float], None],
        cancelled: Callable[[], bool],
    ) -> Prediction:
        self.seen.append(image)
        progress(0.5)
        if cancelled():
            raise MetiaError("job-cancelled", "Cancelled.")
        answer = HEAD.volume.with_array(self.answer.astype(np.float32))
        return Prediction(answer.match_geometry(image, tol=1e-3), "cpu")


@dataclass
class StubJob:
    """Notes what it is told; cancels or loses the job on reaching a step."""

    cancel_at: str = ""
    lost_at: str = ""
    steps: list[str] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)

    def report(self, step: str, progress: float) -> None:
        if not self.steps or self.steps[-1] != step:
            self.steps.append(step)
        self.progress.append(progress)

    def cancelled(self) -> bool:
        return self.cancel_at in self.steps

    def ensure_owner(self) -> None:
        if self.lost_at in self.steps:
            raise MetiaError("job-superseded", "Another worker holds the job.")


@dataclass
class Bench:
    """One run with everything replaceable."""

    archive: FakeArchive
    predictor: StubPredictor
    job: StubJob = field(default_factory=StubJob)
    outcomes: list[Outcome] = field(default_factory=list)

    def run(self, series_uid: str | None = None) -> Outcome | None:
        run_segmentation(
            Request(VISIT.study_uid, series_uid),
            self.job,
            self.archive,
            self.predictor,
            self.outcomes.append,
            stable_timeout_s=0.05,
        )
        return self.outcomes[-1]

    def stored(self) -> int:
        headers = self.archive.series_headers(VISIT.study_uid)
        return sum(header.sample.Modality == "SEG" for header in headers)

    def code(self, series_uid: str | None = None) -> str:
        with pytest.raises(MetiaError) as caught:
            self.run(series_uid)
        return caught.value.code


@pytest.fixture
def bench() -> Bench:
    archive = FakeArchive()
    archive.put(POST)
    return Bench(archive, StubPredictor(HEAD.occupancy))


def test_steps_in_order_and_progress_never_back(bench: Bench) -> None:
    outcome = bench.run()
    assert outcome is not None
    assert tuple(bench.job.steps) == STEPS
    assert bench.job.progress == sorted(bench.job.progress)
    assert 0 <= bench.job.progress[0] <= bench.job.progress[-1] <= 1
    assert outcome.series_reasons
    assert bench.stored() == 1
    assert len(outcome.analysis.lesion_map.lesions) == 2


def test_the_predictor_sees_the_image_of_the_series(bench: Bench) -> None:
    bench.run()
    (seen,) = bench.predictor.seen
    same = seen.match_geometry(HEAD.volume, tol=1e-3)
    np.testing.assert_allclose(same.array, np.round(HEAD.volume.array), atol=1)


def test_running_again_stores_the_same_object_once(bench: Bench) -> None:
    first, second = bench.run(), bench.run()
    assert first is not None
    assert second is not None
    assert first.analysis.identity == second.analysis.identity
    assert bench.stored() == 1


def test_another_model_gives_another_object_beside_it(bench: Bench) -> None:
    bench.run()
    bench.predictor.identity = ModelIdentity("stub", "2", "cd" * 32, True)
    bench.run()
    assert bench.stored() == 2


def test_a_completed_series_gives_another_object(bench: Bench) -> None:
    bench.archive = FakeArchive()
    bench.archive.put(POST[:-1])
    first = bench.run()
    bench.archive.put(POST)
    second = bench.run()
    assert first is not None
    assert second is not None
    assert (
        first.analysis.identity.sop_instance_uid
        != second.analysis.identity.sop_instance_uid
    )


def test_no_lesion_is_a_result_without_object(bench: Bench) -> None:
    bench.predictor.answer = np.zeros_like(HEAD.occupancy)
    outcome = bench.run()
    assert outcome is not None
    assert outcome.analysis.segmentation is None
    assert outcome.analysis.lesion_map.lesions == ()
    assert bench.stored() == 0


@pytest.mark.parametrize(
    "step", ["waiting", "fetch", "volume", "predict", "lesions", "segmentation"]
)
def test_cancelling_stops_before_anything_is_stored(bench: Bench, step: str) -> None:
    bench.job.cancel_at = step
    assert bench.code() == "job-cancelled"
    assert bench.stored() == 0
    assert not bench.outcomes


def test_a_worker_that_lost_the_job_stores_nothing(bench: Bench) -> None:
    bench.job.lost_at = "store"
    assert bench.code() == "job-superseded"
    assert bench.stored() == 0


def test_an_object_with_other_voxels_is_not_recorded(bench: Bench) -> None:
    bench.run()
    bench.outcomes.clear()
    bench.predictor.answer = np.roll(HEAD.occupancy, 2, axis=2)
    assert bench.code() == "archive-mismatch"
    assert not bench.outcomes


def test_a_study_that_still_arrives_waits(bench: Bench) -> None:
    bench.archive.unstable.add(VISIT.study_uid)
    assert bench.code() == "series-not-stable"


def test_refusal_says_what_was_found(bench: Bench) -> None:
    t2 = make_head(Grid.covering_head((24, 64, 64)), contrast="T2")
    bench.archive = FakeArchive()
    bench.archive.put(dicom_series(t2, visit=VISIT, series_number=2))
    with pytest.raises(MetiaError, match="T2") as caught:
        bench.run()
    assert caught.value.code == "no-suitable-series"


def test_the_user_may_choose_what_the_ranking_would_not(bench: Bench) -> None:
    head = make_head(Grid.covering_head((24, 64, 64)), LESIONS, contrast="T1-pre")
    native = dicom_series(head, visit=VISIT, series_number=3)
    bench.archive.put(native)
    outcome = bench.run(native[0].SeriesInstanceUID)
    assert outcome is not None
    assert outcome.series_uid == native[0].SeriesInstanceUID
    assert outcome.series_reasons[0] == "Chosen by the user."


def test_a_series_of_another_study_is_refused(bench: Bench) -> None:
    assert bench.code("1.2.3") == "series-not-found"


def test_too_many_lesions_are_implausible(bench: Bench) -> None:
    answer = np.zeros_like(HEAD.occupancy)
    answer[::4, ::4, ::4] = 1.0
    bench.predictor.answer = answer
    bench.predictor.minimum_volume_mm3 = 0.0
    assert bench.code() == "prediction-implausible"
    assert bench.stored() == 0
