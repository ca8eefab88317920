"""Works one job off: opens archive and model, runs the pipeline, records the outcome.

Built once per worker process; keeps the model of the last job loaded. The worker
(``segmentation.worker``) gives it a job and a ``JobContext`` and knows nothing of what
happens inside. Not safe to share between threads.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Protocol

from db.ahead import AUTOMATIC
from db.engine import Engine, Session
from db.jobs import Job
from db.models_registry import ModelRecord
from db.results import LesionRecord, ResultRecord, record_result
from errors import MetiaError
from orthanc.archive import Archive
from orthanc.gateway import OrthancArchive
from segmentation.ahead.giving_way import GivingWay, person_waits
from segmentation.ahead.prefetch import Prefetcher
from segmentation.dicom.seg import Segment
from segmentation.followup.linking import relink
from segmentation.models.choice import default_model
from segmentation.models.predictor import Predictor
from segmentation.models.registry import ModelFolder, ModelRegistry, load_as_set
from segmentation.pipeline import (
    Analysis,
    JobPort,
    Outcome,
    Request,
    run_segmentation,
    stated_thickness_mm,
)
from segmentation.records import lesion_record, spacing_mm
from segmentation.study_record import note_study
from settings import VERSION, Settings


class RecordingPort(JobPort, Protocol):
    """A job that can be ended together with its result."""

    def record(self, store: Callable[[Session], str | None]) -> None:
        """Store the result and end the job, both in one transaction."""


@contextmanager
def collecting_afterwards() -> Iterator[None]:
    """Let the collector of reference cycles wait until a run has ended.

    A run makes some hundred thousand objects for the elements of its images, nearly
    all of which end without the collector; looking through them in the middle of a
    run costs a third of what the run takes beyond the network.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


class SegmentationRunner:
    """Runs segmentation jobs.

    Parameters
    ----------
    settings : Settings
    engine : Engine
        For the promoted model.
    archive : Archive, optional
        Default: the one that the settings name.
    prefetcher : Prefetcher, optional
        Where images may lie that were pulled ahead.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        archive: Archive | None = None,
        prefetcher: Prefetcher | None = None,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._archive = archive or OrthancArchive.from_settings(settings)
        self._prefetcher = prefetcher
        self._predictor: Predictor | None = None

    def warm_up(self) -> str:
        """Load the default model, so that the first job need not wait for it.

        Returns
        -------
        str
            The device it computes on.
        """
        return self._load(self._choose(None)).device

    def __call__(self, job: Job, context: RecordingPort) -> None:
        """Run one job to its end.

        Raises
        ------
        MetiaError
            Why it did not get there.
        """
        predictor = self._load(self._choose(job.model_name))

        def record(outcome: Outcome) -> None:
            context.record(lambda session: record_outcome(session, job, outcome))

        port = (
            context if job.requested_by != AUTOMATIC else self._giving_way(job, context)
        )
        ahead = self._prefetcher
        try:
            with ahead.at_work() if ahead else nullcontext(), collecting_afterwards():
                run_segmentation(
                    Request(job.study_uid, job.series_uid),
                    port,
                    self._archive,
                    predictor,
                    record,
                    stable_timeout_s=self._settings.archive_stable_timeout_s,
                    fetch_series=ahead.fetch_series if ahead else None,
                )
        except MetiaError as error:
            if error.code == "job-cancelled" and _gave_way(port):
                raise MetiaError(
                    "job-gave-way", "A person's job goes first."
                ) from error
            raise

    def _giving_way(self, job: Job, context: RecordingPort) -> GivingWay:
        queues = self._settings.worker_queues
        return GivingWay(context, lambda: person_waits(self._engine, queues, job.id))

    def _choose(self, name: str | None) -> ModelFolder:
        registry = ModelRegistry(self._settings.model_dirs)
        if name:
            return registry.get(name)
        return default_model(self._settings, self._engine, registry)

    def _load(self, model: ModelFolder) -> Predictor:
        current = self._predictor
        if current is None or current.identity != model.identity:
            # Let go of the old one first: two models may not fit into memory.
            self._predictor = None
            current = load_as_set(model, self._settings)
            self._predictor = current
        else:
            # The file on disk is what an administrator would examine: a model that was
            # changed under a running worker must not go on answering unnoticed.
            model.verify()
        return current


def _gave_way(port: JobPort) -> bool:
    return isinstance(port, GivingWay) and port.gave_way


def record_outcome(session: Session, job: Job, outcome: Outcome) -> str:
    """Store study, series and result of a finished run; gives the result's id."""
    analysis = outcome.analysis
    noted = note_study(session, analysis.source, outcome.study_uid, outcome.series_uid)
    segmentation = analysis.segmentation
    result_id = record_result(
        session,
        ResultRecord(
            job_id=job.id,
            series_uid=outcome.series_uid,
            segmentation_series_uid=(
                analysis.identity.series_uid if segmentation is not None else None
            ),
            segmentation_sop_uid=(
                analysis.identity.sop_instance_uid if segmentation is not None else None
            ),
            model=ModelRecord(
                name=analysis.model.name,
                version=analysis.model.version,
                sha256=analysis.model.sha256,
                demonstration=analysis.model.demonstration,
            ),
            inputs_sha256=str(analysis.source.facts["pixel_sha256"]),
            instance_count=noted.instance_count,
            code_version=VERSION,
            parameters=analysis.parameters,
            device=analysis.prediction.device,
            timings_s=analysis.timings_s,
            warnings=analysis.source.warnings,
            series_choice=outcome.series_reasons,
            tilt_deg=analysis.lesion_map.tilt_deg,
            resampled=analysis.lesion_map.resampled,
            dropped_small=analysis.lesion_map.dropped_small,
            lesions=lesion_records(analysis),
            spacing_mm=spacing_mm(analysis.source),
            slice_thickness_mm=stated_thickness_mm(analysis.source),
        ),
    )
    for patient_key in noted.patient_keys:
        relink(session, patient_key)
    return result_id


def lesion_records(analysis: Analysis) -> tuple[LesionRecord, ...]:
    """Put what was measured and how each lesion is named side by side."""
    tracked = zip(
        analysis.lesion_map.lesions,
        analysis.identity.tracking,
        analysis.identity.colours,
        strict=True,
    )
    return tuple(
        lesion_record(
            lesion,
            Segment(name, name, uid, colour),
            analysis.source.slices[lesion.slice_index],
        )
        for lesion, (name, uid), colour in tracked
    )
