"""Stores files that a page sends, and says of each what became of it.

``store_files`` takes each file by itself: one that is no DICOM image, or that the
archive refuses, keeps no other from being stored. A file that would put a study under a
second patient is refused. Outlines (RTSTRUCT) are measured after all images are there.
Holds one file in memory at a time. Safe between threads; no PHI in logs or errors, and
no name of a file, which may hold one.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO

from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from db.engine import Engine
from db.results import Result
from errors import MetiaError
from orthanc.archive import Archive, is_own
from orthanc.dicomweb import BrokenAnswer, is_uid, parse_part10
from segmentation.imports.taking import take_over
from segmentation.versions.corrections import Reader

LARGEST_FILE = 256_000_000
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True)
class Fault:
    """Why a file is not stored, or its outlines are not measured; files from 1."""

    file_number: int
    error: MetiaError


@dataclass
class Upload:
    """What became of the files.

    Attributes
    ----------
    stored, already_stored : int
        The second: the archive held an object of this UID before, which stays.
    refused, unmeasured : list of Fault
    measured : list of Result
        Made of outlines.
    """

    stored: int = 0
    already_stored: int = 0
    refused: list[Fault] = field(default_factory=list)
    unmeasured: list[Fault] = field(default_factory=list)
    measured: list[Result] = field(default_factory=list)


def store_files(
    engine: Engine, archive: Archive, files: Iterable[IO[bytes]], reader: Reader
) -> Upload:
    """Store files one by one, then measure the outlines among them."""
    upload = Upload()
    patients: dict[str, str | None] = {}
    outlines: list[tuple[int, str, str]] = []
    for number, file in enumerate(files, 1):
        try:
            dataset = _read(file)
            _require_one_patient(archive, dataset, patients)
            (receipt,) = archive.store([dataset])
        except MetiaError as error:
            upload.refused.append(Fault(number, error))
            continue
        if receipt.already_stored:
            upload.already_stored += 1
        else:
            upload.stored += 1
        if _holds_outlines(dataset):
            outlines.append((number, receipt.study_uid, receipt.sop_instance_uid))
    for number, study_uid, sop_instance_uid in outlines:
        try:
            taken = take_over(engine, archive, study_uid, sop_instance_uid, reader)
            upload.measured.append(taken)
        except MetiaError as error:
            upload.unmeasured.append(Fault(number, error))
    return upload


def _read(file: IO[bytes]) -> Dataset:
    content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise MetiaError("too-large", f"A file has at most {LARGEST_FILE} bytes.")
    try:
        dataset = parse_part10(io.BytesIO(content))
        uids = [str(dataset.get(keyword, "")) for keyword in _UIDS]
    except BrokenAnswer as error:
        raise MetiaError("input-unreadable", "It is not a DICOM image.") from error
    if not all(map(is_uid, uids)):
        raise MetiaError("input-unreadable", "It lacks a valid UID.")
    return dataset


def _require_one_patient(
    archive: Archive, dataset: Dataset, patients: dict[str, str | None]
) -> None:
    """Refuse a file whose study belongs to somebody else already."""
    study_uid = str(dataset.StudyInstanceUID)
    if study_uid not in patients:
        patients[study_uid] = _patient_in_archive(archive, study_uid)
    owner = patients[study_uid]
    sent = str(dataset.get("PatientID", "")).strip()
    if owner is None:
        patients[study_uid] = sent
    elif owner != sent:
        raise MetiaError(
            "conflict", "Its study is one of another patient in the archive."
        )


def _patient_in_archive(archive: Archive, study_uid: str) -> str | None:
    try:
        headers = archive.series_headers(study_uid)
    except MetiaError as error:
        if error.code == "study-not-found":
            return None
        raise
    return str(headers[0].sample.get("PatientID", "")).strip() if headers else None


def _holds_outlines(dataset: Dataset) -> bool:
    """Tell whether it is an RTSTRUCT that was not written by MetIA itself."""
    return dataset.get("SOPClassUID") == RTStructureSetStorage and not is_own(dataset)
