"""Patient, study and series of a loaded image, noted in the database.

Called within the transaction that records a result of the series: by the runner for a
model's, by ``segmentation.imports`` for one drawn elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from db.engine import Session
from db.studies import Patient, Series, Study, upsert_study
from orthanc.volume import LoadedSeries


@dataclass(frozen=True)
class Noted:
    """What was noted of a series.

    Attributes
    ----------
    instance_count : int
        How many instances it has.
    patient_keys : tuple of str
        Whose follow-up has to be linked anew: the study's patient, and the one it was
        taken for before its headers were corrected. In an order all callers share, so
        that two of them can't hold one patient each and wait for the other.
    """

    instance_count: int
    patient_keys: tuple[str, ...]


def note_study(
    session: Session, source: LoadedSeries, study_uid: str, series_uid: str
) -> Noted:
    """Note whose image it is, as its headers say."""
    first = source.source_images[0]
    count = len({reference.sop_instance_uid for reference in source.slices})
    keys = upsert_study(
        session,
        Patient(
            patient_id=_text(first, "PatientID"),
            issuer=_text(first, "IssuerOfPatientID"),
            name=_text(first, "PatientName"),
            birth_date=_text(first, "PatientBirthDate"),
            sex=_text(first, "PatientSex"),
        ),
        Study(
            study_uid=study_uid,
            study_date=_text(first, "StudyDate"),
            study_time=_text(first, "StudyTime"),
            description=_text(first, "StudyDescription"),
            accession_number=_text(first, "AccessionNumber"),
        ),
        Series(
            series_uid=series_uid,
            series_number=_number(first, "SeriesNumber"),
            modality=_text(first, "Modality"),
            description=_text(first, "SeriesDescription"),
            instance_count=count,
        ),
    )
    return Noted(count, tuple(sorted(keys)))


def _text(dataset: Dataset, keyword: str) -> str | None:
    value = dataset.get(keyword)
    return None if value is None or str(value) == "" else str(value)


def _number(dataset: Dataset, keyword: str) -> int | None:
    value = dataset.get(keyword)
    return None if value is None or str(value) == "" else int(value)
