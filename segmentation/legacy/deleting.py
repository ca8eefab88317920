"""Deletes one study, in the database and in the archive, and no other.

The archive is asked first whether it can be spoken to, so that nothing is deleted
anywhere while it is down; then the database, which ends the study's jobs, so that
nothing new is recorded; then the images. Asking again finishes what was left. Audited
without anything that tells who the patient was.
"""

from __future__ import annotations

from db import audit
from db.engine import Engine, transaction
from db.erasure import erase_study
from errors import MetiaError
from orthanc.archive import Archive
from segmentation.followup.linking import relink


def delete_study(
    engine: Engine,
    archive: Archive,
    study_uid: str,
    *,
    actor: str,
    request_id: str | None = None,
) -> None:
    """Delete a study.

    Raises
    ------
    MetiaError
        ``study-not-found`` where neither archive nor database know it; those of the
        archive, with what is done already told.
    """
    in_archive = _is_in_archive(archive, study_uid)
    with transaction(engine) as session:
        erased = erase_study(session, study_uid)
        if not erased.known and not in_archive:
            raise MetiaError("study-not-found", "Neither archive nor database know it.")
        for patient_key in erased.patients_left:
            relink(session, patient_key)
        audit.append(
            session,
            actor=actor,
            action="study-delete",
            subject=f"study:{study_uid}",
            details={"recorded": erased.known, "in_archive": in_archive},
            request_id=request_id,
        )
    if in_archive:
        _delete_images(archive, study_uid)


def _is_in_archive(archive: Archive, study_uid: str) -> bool:
    try:
        archive.series_headers(study_uid)
    except MetiaError as error:
        if error.code == "study-not-found":
            return False
        raise
    return True


def _delete_images(archive: Archive, study_uid: str) -> None:
    try:
        archive.delete_study(study_uid)
    except MetiaError as error:
        if error.code == "study-not-found":
            return  # gone meanwhile is as good as deleted
        raise MetiaError(
            error.code,
            f"{error.detail} The results are deleted; the images are still there.",
        ) from error
