"""The only place where the steps of a segmentation stand in their order.

``analyse`` is the pure middle (images in, lesions and SEG out), shared by the service
and the command line. ``run_segmentation`` puts the archive and the record around it:
fetch -> volume -> predict -> lesions -> segmentation -> store -> record. Store, then
record: a crash between the two leaves an idempotent re-run (the SEG's UIDs derive from
what determines its content), never a record without its object.
One call at a time a predictor; everything else is safe between threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset

from errors import MetiaError
from orthanc.archive import Archive, Progress
from orthanc.series import rank_series
from orthanc.volume import LoadedSeries, load_series
from segmentation.dicom.seg import (
    SegmentationIdentity,
    build_segmentation,
    identify,
    segments_as_labels,
)
from segmentation.dicom.source_planes import slice_thickness_mm
from segmentation.lesions import LesionMap, find_lesions
from segmentation.measurability import slice_distance_mm
from segmentation.models.predictor import ModelIdentity, Prediction, Predictor
from settings import VERSION

Step = Literal[
    "waiting",
    "fetch",
    "volume",
    "predict",
    "lesions",
    "segmentation",
    "store",
    "record",
]
STEPS: tuple[str, ...] = get_args(Step)
"""All steps, in their order."""

_PLAUSIBLE_LESIONS = 200
"""More components than any head holds: the model has misread the image."""


class Reporter(Protocol):
    """Where a run tells how far it is and asks whether to go on."""

    def report(self, step: str, progress: float) -> None:
        """Take note that `step` has reached `progress` (0 to 1, of the whole run)."""

    def cancelled(self) -> bool:
        """Tell whether the run should stop."""


@dataclass(frozen=True)
class Analysis:
    """Everything a run found out about one series.

    Attributes
    ----------
    segmentation : highdicom.seg.Segmentation or None
        None where no lesion was found, or where the source is no DICOM series.
    parameters : dict
        All that determined the answer besides the pixels and the model.
    timings_s : dict
        Seconds a step.
    """

    source: LoadedSeries
    model: ModelIdentity
    prediction: Prediction
    lesion_map: LesionMap
    identity: SegmentationIdentity
    segmentation: hd.seg.Segmentation | None
    parameters: dict[str, object]
    timings_s: dict[str, float]


_SHARE: dict[str, tuple[float, float]] = {
    "waiting": (0.0, 0.01),
    "fetch": (0.01, 0.06),
    "volume": (0.06, 0.1),
    "predict": (0.1, 0.9),
    "lesions": (0.9, 0.92),
    "segmentation": (0.92, 0.95),
    "store": (0.95, 0.98),
    "record": (0.98, 1.0),
}
"""Where each step lies in the progress of the whole run."""


class _Run:
    """Progress, cancellation and timing of one run."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.timings_s: dict[str, float] = {}

    @contextmanager
    def step(self, name: Step) -> Iterator[Callable[[float], None]]:
        """Time a step; gives a function that takes the fraction of it done."""
        start, end = _SHARE[name]
        self.raise_if_cancelled()
        self._reporter.report(name, start)
        began = time.perf_counter()
        yield lambda done: self._reporter.report(
            name, start + (end - start) * min(max(done, 0.0), 1.0)
        )
        self.timings_s[name] = round(time.perf_counter() - began, 4)

    def cancelled(self) -> bool:
        return self._reporter.cancelled()

    def raise_if_cancelled(self) -> None:
        if self.cancelled():
            raise MetiaError("job-cancelled", "The job was cancelled on request.")


def analyse(
    source: LoadedSeries,
    source_series_uid: str,
    predictor: Predictor,
    reporter: Reporter,
    *,
    write_segmentation: bool = True,
) -> Analysis:
    """Find and measure the lesions of one loaded series, and draw them as a SEG.

    Parameters
    ----------
    source : LoadedSeries
        The image.
    source_series_uid : str
        Series Instance UID the result's own UIDs derive from.
    predictor : Predictor
        The model.
    reporter : Reporter
        Progress and cancellation.
    write_segmentation : bool
        False for images that are no DICOM series.

    Returns
    -------
    Analysis

    Raises
    ------
    MetiaError
        ``prediction-implausible``, ``out-of-memory``, ``job-cancelled``.
    """
    return _analyse(
        source, source_series_uid, predictor, _Run(reporter), write_segmentation
    )


def _analyse(
    source: LoadedSeries,
    source_series_uid: str,
    predictor: Predictor,
    run: _Run,
    write_segmentation: bool,
) -> Analysis:
    with run.step("predict") as progress:
        prediction = predictor.predict(
            source.volume,
            progress=progress,
            cancelled=run.cancelled,
        )
    with run.step("lesions"):
        lesion_map = find_lesions(
            prediction.probability,
            threshold=predictor.threshold,
            minimum_volume_mm3=predictor.minimum_volume_mm3,
            minimum_peak=predictor.minimum_peak,
            slice_distance_mm=slice_distance_mm(
                source.volume.spacing[0], stated_thickness_mm(source)
            ),
        )
        _refuse_implausible(lesion_map)
    parameters = _parameters(source, predictor, prediction)
    identity = identify(
        source_series_uid, predictor.identity, parameters, len(lesion_map.lesions)
    )
    segmentation = None
    with run.step("segmentation"):
        if write_segmentation and lesion_map.lesions:
            segmentation = build_segmentation(
                source.source_images,
                lesion_map,
                predictor.identity,
                identity,
                parameters,
            )
    return Analysis(
        source=source,
        model=predictor.identity,
        prediction=prediction,
        lesion_map=lesion_map,
        identity=identity,
        segmentation=segmentation,
        parameters=parameters,
        timings_s=run.timings_s,
    )


def stated_thickness_mm(source: LoadedSeries) -> float | None:
    """Give the slice thickness the images state; None where they state none."""
    images = source.source_images
    return slice_thickness_mm(images) if images else None


def _refuse_implausible(lesion_map: LesionMap) -> None:
    count = len(lesion_map.lesions)
    if count > _PLAUSIBLE_LESIONS:
        raise MetiaError(
            "prediction-implausible",
            f"The model marked {count} separate lesions; "
            f"more than {_PLAUSIBLE_LESIONS} are not plausible.",
            {"lesions": count},
        )


def _parameters(
    source: LoadedSeries, predictor: Predictor, prediction: Prediction
) -> dict[str, object]:
    """Collect what determines the content of the SEG, and so its UIDs.

    The pixel hash is among them: a series that was completed after a first run gives a
    new object, not a contradiction to the stored one.
    """
    return {
        **prediction.parameters,
        "threshold": predictor.threshold,
        "minimum_volume_mm3": predictor.minimum_volume_mm3,
        "minimum_peak": predictor.minimum_peak,
        "input_sha256": source.facts["pixel_sha256"],
        "code_version": VERSION,
    }


@dataclass(frozen=True)
class Request:
    """What a job asks for.

    Attributes
    ----------
    series_uid : str or None
        The user's choice; None lets the ranking choose.
    """

    study_uid: str
    series_uid: str | None


@dataclass(frozen=True)
class Outcome:
    """A finished analysis and where its object lies."""

    study_uid: str
    series_uid: str
    analysis: Analysis
    series_reasons: tuple[str, ...]


FetchSeries = Callable[[str, str, Progress], list[Dataset]]
"""Gives all images of a series of a study, and keeps the promises of ``Archive``."""


class JobPort(Reporter, Protocol):
    """What a run needs of the job it works for."""

    def ensure_owner(self) -> None:
        """Raise ``job-superseded`` unless this worker still holds the job."""


def run_segmentation(
    request: Request,
    job: JobPort,
    archive: Archive,
    predictor: Predictor,
    record: Callable[[Outcome], None],
    *,
    stable_timeout_s: float,
    fetch_series: FetchSeries | None = None,
) -> None:
    """Run one job from the archive back into the archive and the record.

    Parameters
    ----------
    request : Request
        Study, and series if the user chose one.
    job : JobPort
        Progress, cancellation and the fence.
    archive : Archive
        Where the images come from and the SEG goes to.
    predictor : Predictor
        The loaded model.
    record : Callable
        Stores the outcome and ends the job in one transaction.
    stable_timeout_s : float
        How long to wait for a study that is still arriving.
    fetch_series : Callable, optional
        Gives the images as the archive would; by default the archive does.

    Raises
    ------
    MetiaError
        Any code of archive, series choice, volume, model and job.
    """
    run = _Run(job)
    with run.step("waiting"):
        archive.wait_until_stable(request.study_uid, stable_timeout_s, job.cancelled)
        run.raise_if_cancelled()
    with run.step("fetch") as progress:
        series_uid, reasons = choose_series(archive, request)
        fetch = fetch_series or archive.fetch_series
        instances = fetch(request.study_uid, series_uid, progress)
    with run.step("volume"):
        source = load_series(instances, require_head_t1=request.series_uid is None)
    analysis = _analyse(source, series_uid, predictor, run, True)
    with run.step("store"):
        # The last moment at which a worker that lost its lease can be stopped from
        # writing into the archive.
        job.ensure_owner()
        if analysis.segmentation is not None:
            store_and_compare(
                archive,
                request.study_uid,
                analysis.segmentation,
                analysis.lesion_map.labels,
            )
    with run.step("record"):
        record(Outcome(request.study_uid, series_uid, analysis, reasons))


def choose_series(archive: Archive, request: Request) -> tuple[str, tuple[str, ...]]:
    """Take the user's series, or the best candidate of the study, with the reasons.

    Raises
    ------
    MetiaError
        ``no-suitable-series``, saying what the study holds instead;
        ``series-not-found`` where the study lacks the user's choice.
    """
    headers = archive.series_headers(request.study_uid)
    ranking = rank_series(headers)
    if request.series_uid is not None:
        for candidate in ranking.candidates:
            if candidate.series_uid == request.series_uid:
                reasons = tuple(reason.text for reason in candidate.reasons)
                return request.series_uid, ("Chosen by the user.", *reasons)
        raise MetiaError("series-not-found", "The study has no series of this UID.")
    chosen = ranking.chosen
    if chosen is None:
        raise MetiaError("no-suitable-series", ranking.refusal_detail())
    return chosen.series_uid, tuple(reason.text for reason in chosen.reasons)


def store_and_compare(
    archive: Archive,
    study_uid: str,
    segmentation: hd.seg.Segmentation,
    labels: hd.Volume,
) -> None:
    """Store a SEG and check that what lies in the archive is what was computed.

    Raises
    ------
    MetiaError
        ``archive-mismatch`` where a voxel differs from `labels`; those of the archive.
    """
    (receipt,) = archive.store([segmentation])
    stored = archive.fetch_instance(
        study_uid, receipt.series_uid, receipt.sop_instance_uid
    )
    if not _same_labels(stored, labels):
        raise MetiaError(
            "archive-mismatch",
            "The segmentation read back from the archive differs from the computed one",
            {"already_stored": receipt.already_stored},
        )


def _same_labels(stored: Dataset, labels: hd.Volume) -> bool:
    try:
        read = segments_as_labels(stored, labels)
    except ValueError:  # another kind of object, or one on other planes
        return False
    return bool(np.array_equal(read, labels.array))
