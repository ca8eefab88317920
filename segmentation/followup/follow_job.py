"""The ``follow`` job: registers a patient's visits to the baseline and links lesions.

Each registration is recorded by itself as soon as it is made; the links and the end of
the job are one transaction, which looks once more whether a visit came meanwhile. So a
worker may die anywhere: the next one goes on with what is missing. A visit whose images
cannot be used is recorded as refused, with the code, and waits for the reader; an
archive that does not answer puts the job off. One call at a time an instance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import highdicom as hd
import structlog

from db.engine import Engine, Session, reading, transaction
from db.jobs import Job
from db.patients import lock_patient
from db.registrations import RegistrationRecord, save_registration
from errors import MetiaError
from orthanc.archive import Archive
from orthanc.volume import load_series
from segmentation.followup.linking import (
    REGISTRATION_METHOD,
    SeriesOfVisit,
    open_registrations,
    recompute_links,
)
from segmentation.followup.registration import Registration, register

log = structlog.get_logger(__name__)

_UNUSABLE = frozenset({"study-not-found", "series-not-found", "archive-ambiguous"})
"""Besides the ``volume-*`` codes: what asking again does not mend."""
_FETCH_PART = 0.3
_LINK_FROM = 0.97

Image = hd.Volume | str
"""A volume, or the error code of why there is none."""


class FollowPort(Protocol):
    """What the job needs of the queue; ``JobContext`` is one."""

    def report(self, step: str, progress: float) -> None:
        """Take note that `step` has reached `progress` (0 to 1, of the whole job)."""

    def cancelled(self) -> bool:
        """Tell whether the job should stop."""

    def ensure_owner(self) -> None:
        """Raise ``job-superseded`` unless this worker still holds the job."""

    def record(self, store: Callable[[Session], str | None]) -> None:
        """Store the outcome and end the job, both in one transaction."""


class FollowRunner:
    """Runs follow jobs.

    Parameters
    ----------
    engine : Engine
    archive : Archive
        Where the images come from.
    """

    def __init__(self, engine: Engine, archive: Archive) -> None:
        self._engine = engine
        self._archive = archive

    def __call__(self, job: Job, context: FollowPort) -> None:
        """Run one job to its end.

        Raises
        ------
        MetiaError
            Why it did not get there: ``job-cancelled``, ``job-superseded``, or a code
            of the archive or the database.
        """
        patient_key = str(job.parameters["patient_key"])
        baseline: tuple[SeriesOfVisit, Image] | None = None
        while True:
            with reading(self._engine) as session:
                todo = open_registrations(session, patient_key)
            if todo is None:
                context.report("link", _LINK_FROM)
                try:
                    context.record(lambda session: _link(session, patient_key))
                except _VisitsArrivedError:
                    continue
                log.info("visits linked", job=job.id)
                return
            if baseline is None or baseline[0] != todo.fixed:
                context.report("fetch", 0.0)
                baseline = (todo.fixed, self._image(todo.fixed))
            share = _LINK_FROM / len(todo.moving)
            for number, moving in enumerate(todo.moving):
                part = _Part(context, number * share, share)
                record = self._register(part, *baseline, moving)
                context.ensure_owner()
                with transaction(self._engine) as session:
                    save_registration(session, record)

    def _register(
        self, part: _Part, fixed: SeriesOfVisit, baseline: Image, moving: SeriesOfVisit
    ) -> RegistrationRecord:
        part.report("fetch", 0.0)
        image = self._image(moving) if isinstance(baseline, hd.Volume) else baseline
        if not isinstance(image, hd.Volume) or not isinstance(baseline, hd.Volume):
            return _refusal(fixed, moving, str(image))
        part.report("register", _FETCH_PART)
        try:
            found = register(
                baseline,
                image,
                progress=lambda done: part.report(
                    "register", _FETCH_PART + (1 - _FETCH_PART) * done
                ),
                cancelled=part.cancelled,
            )
        except MetiaError as error:
            if not _is_of_image(error):
                raise
            return _refusal(fixed, moving, error.code)
        log.info("visit registered", reason=found.reason, quality=found.quality)
        return _record(fixed, moving, found)

    def _image(self, series: SeriesOfVisit) -> Image:
        try:
            images = self._archive.fetch_series(series.study_uid, series.series_uid)
            return load_series(images, require_head_t1=False).volume
        except MetiaError as error:
            if not _is_of_image(error):
                raise
            return error.code


@dataclass(frozen=True)
class _Part:
    """One visit's part of the job's progress."""

    context: FollowPort
    start: float
    share: float

    def report(self, step: str, done: float) -> None:
        """Tell how far this part is, and stop where the job is cancelled."""
        if self.context.cancelled():
            raise MetiaError("job-cancelled", "The job was cancelled on request.")
        self.context.report(step, self.start + self.share * done)

    def cancelled(self) -> bool:
        return self.context.cancelled()


def _is_of_image(error: MetiaError) -> bool:
    """Tell whether asking again does not mend it, and other visits may do well."""
    return error.code in _UNUSABLE or error.code.startswith("volume-")


class _VisitsArrivedError(Exception):
    """A visit came while others were registered: go on before the job ends."""


def _link(session: Session, patient_key: str) -> None:
    # From here on nobody adds a visit of this patient until the job has ended, so that
    # none can find this job active and rely on it in vain.
    lock_patient(session, patient_key)
    if open_registrations(session, patient_key) is not None:
        raise _VisitsArrivedError
    recompute_links(session, patient_key)


def _record(
    fixed: SeriesOfVisit, moving: SeriesOfVisit, found: Registration
) -> RegistrationRecord:
    matrix = tuple(
        (float(a), float(b), float(c), float(d)) for a, b, c, d in found.matrix
    )
    return RegistrationRecord(
        moving_series_uid=moving.series_uid,
        fixed_series_uid=fixed.series_uid,
        matrix=matrix,
        quality=found.quality,
        accepted=found.accepted,
        reason="" if found.accepted else found.reason,
        method=REGISTRATION_METHOD,
    )


def _refusal(
    fixed: SeriesOfVisit, moving: SeriesOfVisit, reason: str
) -> RegistrationRecord:
    return RegistrationRecord(
        moving_series_uid=moving.series_uid,
        fixed_series_uid=fixed.series_uid,
        matrix=None,
        quality=None,
        accepted=False,
        reason=reason,
        method=REGISTRATION_METHOD,
    )
