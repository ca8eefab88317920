"""Erases patients: the database first, then what MetIA wrote into the archive.

In this order, because the erasure of the rows also ends every job of the patient, so
that nothing new can be recorded. What the archive does not let go is told by series
UID, in the answer and in the audit, to be deleted there by hand; images of the scanner
are never touched. Both are audited without anything that tells who the patient was.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from db import audit
from db.engine import Engine, reading, transaction
from db.erasure import Erasure, StoredSegmentation, erase_patient
from db.patients import PatientSummary, is_untouched, untouched_patients
from errors import MetiaError
from orthanc.archive import Archive, is_own

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Remaining:
    """A series of MetIA's that is still in the archive.

    Attributes
    ----------
    series_uid : str or None
        None: the archive could not be asked which there are.
    code : str
        Why: a code of ``errors``, or ``kept`` where that was asked for.
    """

    study_uid: str
    series_uid: str | None
    code: str


@dataclass(frozen=True)
class Report:
    """What was erased, and what was not.

    Attributes
    ----------
    rows : dict
        Rows removed (of jobs: emptied), by table.
    study_uids : tuple of str
        The patient's studies, whose images are still in the archive.
    deleted_series : tuple of str
        What MetIA had written into the archive.
    remaining : tuple of Remaining
        What MetIA had written and is still there.
    """

    rows: dict[str, int]
    study_uids: tuple[str, ...]
    deleted_series: tuple[str, ...]
    remaining: tuple[Remaining, ...]


def erase(
    engine: Engine,
    archive: Archive | None,
    patient_key: str,
    *,
    actor: str | None = None,
    request_id: str | None = None,
    untouched_days: float | None = None,
) -> Report:
    """Erase a patient.

    Parameters
    ----------
    engine : Engine
    archive : Archive or None
        None keeps what MetIA wrote there.
    patient_key : str
        Key of the patient's row.
    actor, request_id : str, optional
        For the audit; without an actor it is the command line's.
    untouched_days : float, optional
        Erase only if nothing was written about the patient for so many days.

    Raises
    ------
    MetiaError
        ``not-found``; ``conflict`` where something was written since. Of the archive
        nothing is raised, see `Report.remaining`.
    """
    with transaction(engine) as session:
        if untouched_days is not None and not is_untouched(
            session, patient_key, days=untouched_days
        ):
            raise MetiaError("conflict", "Something was written about this patient.")
        erased = erase_patient(session, patient_key)
        audit.append(
            session,
            actor=actor,
            action="patient-erase",
            subject=f"patient:{patient_key}",
            details={"rows": erased.counts},
            request_id=request_id,
        )
    deleted, remaining = _clear_archive(archive, erased)
    with transaction(engine) as session:
        audit.append(
            session,
            actor=actor,
            action="patient-erase-archive",
            subject=f"patient:{patient_key}",
            details={
                "deleted_series": len(deleted),
                "remaining": [vars(one) for one in remaining],
            },
            request_id=request_id,
        )
    log.info("patient erased", deleted_series=len(deleted), remaining=len(remaining))
    return Report(erased.counts, erased.study_uids, deleted, remaining)


def untouched(engine: Engine, days: float) -> tuple[PatientSummary, ...]:
    """List the patients about whom nothing was written for so many days."""
    with reading(engine) as session:
        return untouched_patients(session, days=days)


def _clear_archive(
    archive: Archive | None, erased: Erasure
) -> tuple[tuple[str, ...], tuple[Remaining, ...]]:
    """Delete what MetIA wrote: what the database knew, and what the archive shows."""
    deleted: list[str] = []
    remaining: list[Remaining] = []
    for study_uid in erased.study_uids:
        known = [one for one in erased.segmentations if one.study_uid == study_uid]
        if archive is None:
            remaining += [Remaining(study_uid, one, "kept") for one in _unique(known)]
            continue
        try:
            series = _own_series(archive, study_uid)
        except MetiaError as error:
            if error.code != "study-not-found":
                remaining += [
                    Remaining(study_uid, one, error.code)
                    for one in (_unique(known) or [None])
                ]
            continue
        for series_uid in series:
            code = _delete(archive, study_uid, series_uid)
            if code is None:
                deleted.append(series_uid)
            else:
                remaining.append(Remaining(study_uid, series_uid, code))
    return tuple(deleted), tuple(remaining)


def _own_series(archive: Archive, study_uid: str) -> list[str]:
    """List the series that MetIA wrote: SEG, and exported SR and RTSTRUCT."""
    return [
        header.series_uid
        for header in archive.series_headers(study_uid)
        if is_own(header.sample)
    ]


def _delete(archive: Archive, study_uid: str, series_uid: str) -> str | None:
    """Delete a series; gives the code of why not."""
    try:
        archive.delete_series(study_uid, series_uid)
    except MetiaError as error:
        # Gone meanwhile is as good as deleted.
        return None if error.code == "series-not-found" else error.code
    return None


def _unique(known: list[StoredSegmentation]) -> list[str | None]:
    return list(dict.fromkeys(one.series_uid for one in known))
