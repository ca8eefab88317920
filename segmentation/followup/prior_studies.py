"""Brings a patient up to date: has the patient's other studies segmented, too.

Studies are found by patient ID, and taken only where the issuer of the ID is the same,
too; those with a result are left alone. What cannot be segmented is told by its code.
Nothing but the queue is changed.
"""

from __future__ import annotations

from dataclasses import dataclass

from db.encoding import clean_text
from db.engine import Engine, reading
from db.patients import PatientRecord, get_patient
from db.visits import load_visits
from errors import MetiaError
from orthanc.archive import Archive, SeriesHeader
from orthanc.series import rank_series
from segmentation.jobs import JobQueue

_LEFT_OUT = frozenset(
    {"study-not-found", "series-not-found", "archive-ambiguous", "too-many-requests"}
)
"""What stands in the way of one study, and not of the next."""
_ISSUER_LENGTH = 1024


@dataclass(frozen=True)
class Skipped:
    """A study that was left out, and why (an error code)."""

    study_uid: str
    code: str


@dataclass(frozen=True)
class BroughtUpToDate:
    """What was asked for.

    Attributes
    ----------
    queued : tuple of str
        Ids of jobs, those that were under way already among them.
    up_to_date : int
        Studies that have a result.
    """

    queued: tuple[str, ...]
    up_to_date: int
    skipped: tuple[Skipped, ...]


def bring_up_to_date(
    engine: Engine,
    archive: Archive,
    queue: JobQueue,
    patient_key: str,
    *,
    model_name: str,
    requested_by: str,
) -> BroughtUpToDate:
    """Ask for the segmentation of every study of a patient that has no result.

    Raises
    ------
    MetiaError
        ``not-found`` where there is no such patient; the ``archive-*`` codes.
    """
    with reading(engine) as session:
        patient = get_patient(session, patient_key)
        done = {visit.study_uid for visit in load_visits(session, patient_key)}
    queued: list[str] = []
    skipped: list[Skipped] = []
    for study_uid in _studies(archive, patient):
        if study_uid in done:
            continue
        try:
            headers = archive.series_headers(study_uid)
            if not _is_of(headers, patient):
                continue
            if rank_series(headers).chosen is None:
                skipped.append(Skipped(study_uid, "no-suitable-series"))
                continue
            job, _ = queue.submit(
                study_uid, None, model_name, requested_by=requested_by
            )
        except MetiaError as error:
            if error.code not in _LEFT_OUT:
                raise
            skipped.append(Skipped(study_uid, error.code))
        else:
            queued.append(job.id)
    return BroughtUpToDate(tuple(queued), len(done), tuple(skipped))


def _studies(archive: Archive, patient: PatientRecord) -> list[str]:
    """List what the archive has of the patient; nothing where there is no ID."""
    return archive.studies_of_patient(patient.patient_id) if patient.patient_id else []


def _is_of(headers: list[SeriesHeader], patient: PatientRecord) -> bool:
    issuers = {
        clean_text(header.sample.get("IssuerOfPatientID"), _ISSUER_LENGTH) or ""
        for header in headers
    }
    return issuers == {patient.issuer or ""}
