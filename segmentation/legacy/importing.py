"""Takes the measurements of the former system over as historical rows.

``import_measures`` gives every row of the file a verdict, by table and row number and
without a name: a row repeated by a repeated press, one whose series, study or patient
is gone, and one with a value that cannot be are left out and said to be. Measurements
go to the patient of exactly the same PatientID, or to a new one. All or nothing in one
transaction; importing again adds nothing. They become no results: the file holds no
position, so they cannot be shown on images, linked or counted.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

from db import audit
from db.encoding import clean_text
from db.engine import Engine, Session, reading, transaction
from db.historical import (
    HistoricalRecord,
    add_patient,
    known_identities,
    patients_of_id,
    record_historical,
)
from db.studies import Patient
from segmentation.http.identifiers import is_uid
from segmentation.legacy.old_database import OldDatabase, OldRow, read_old_database

Outcome = Literal[
    "imported",
    "already-imported",
    "duplicate",
    "orphan",
    "bad-value",
    "other-patient",
    "used",
    "unused",
]
_LONGEST_TEXT, _LONGEST_NAME = 1024, 64
_LARGEST_WHOLE = 2**31
_LARGEST_ML, _LARGEST_MM = 10_000.0, 1000.0
_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})(?:[ T].*)?\Z", re.ASCII)
_COLOUR = re.compile(r"[\[( ]*(\d{1,3})[ ,]+(\d{1,3})[ ,]+(\d{1,3})[\]) ]*\Z", re.ASCII)


class BadValue(ValueError):
    """A value that cannot be; says in which column."""


@dataclass(frozen=True)
class Verdict:
    """What became of one row; `detail` holds columns and row numbers only."""

    table: str
    row_id: int
    outcome: Outcome
    detail: str = ""


@dataclass
class Report:
    """What became of every row of a file.

    Attributes
    ----------
    patients_matched, patients_new : int
        Those with measurements in the file.
    """

    sha256: str
    dry_run: bool
    verdicts: list[Verdict] = field(default_factory=list)
    patients_matched: int = 0
    patients_new: int = 0

    def counts(self) -> dict[str, int]:
        """Count the measurements by outcome."""
        return dict(
            Counter(one.outcome for one in self.verdicts if one.table == "metastase")
        )


@dataclass(frozen=True)
class _Measured:
    """A measurement that can be taken over."""

    row_id: int
    patient_row: int
    record: HistoricalRecord
    remark: str = ""


def import_measures(
    engine: Engine, path: Path, *, dry_run: bool = False, actor: str | None = None
) -> Report:
    """Import a file, or only tell what would be.

    Raises
    ------
    MetiaError
        ``input-unreadable``; those of the database, with nothing imported.
    """
    old = read_old_database(path)
    report = Report(old.sha256, dry_run)
    sorting = _Sorting(old, report)
    patients, measured = sorting.sort()
    if dry_run:
        with reading(engine) as session:
            _Recording(session, report, actor).record(patients, measured)
    else:
        with transaction(engine) as session:
            _Recording(session, report, actor).record(patients, measured)
            audit.append(
                session,
                actor=actor,
                action="historical-import",
                subject=f"file:{old.sha256}",
                details={**report.counts(), "new_patients": report.patients_new},
            )
    order = ("patient", "etude", "series", "metastase")
    report.verdicts.sort(key=lambda one: (order.index(one.table), one.row_id))
    return report


class _Sorting:
    """Finds out which rows of a file can be taken over, by the file alone."""

    def __init__(self, old: OldDatabase, report: Report) -> None:
        self._old, self._report = old, report
        self._used: dict[str, set[int]] = {"etude": set(), "series": set()}

    def sort(self) -> tuple[dict[int, Patient], list[_Measured]]:
        """Give the patients by their row, and the measurements to be taken over."""
        patients = dict(self._patients())
        by_id = {one.patient_id: row_id for row_id, one in patients.items()}
        studies = dict(self._studies(by_id))
        series = dict(self._series(studies))
        measured = list(self._lesions(studies, series))
        self._tell_containers(studies, series)
        with_some = {one.patient_row for one in measured}
        for row_id in patients.keys() - with_some:
            self._tell("patient", row_id, "unused", "no measurement to import")
        return {row_id: patients[row_id] for row_id in with_some}, measured

    def _tell(
        self, table: str, row_id: int, outcome: Outcome, detail: str = ""
    ) -> None:
        self._report.verdicts.append(Verdict(table, row_id, outcome, detail))

    def _rows(self, table: str) -> Iterator[OldRow]:
        yield from self._old.rows[table]

    def _patients(self) -> Iterator[tuple[int, Patient]]:
        seen: set[str] = set()
        for row in self._rows("patient"):
            patient_id = _id_text(row.values["idPatient"])
            if patient_id is None or patient_id in seen:
                self._tell("patient", row.row_id, "bad-value", "idPatient")
                continue
            seen.add(patient_id)
            sex = row.values["sexe"]
            yield (
                row.row_id,
                Patient(
                    patient_id,
                    name=_text(row.values["nom"], _LONGEST_TEXT),
                    birth_date=_date(row.values["dateNaissance"]),
                    sex=sex if sex in ("M", "F") else None,
                ),
            )

    def _studies(self, patients: dict[str | None, int]) -> Iterator[tuple[str, _Study]]:
        for row in self._rows("etude"):
            uid = row.values["StudyInstanceUID"]
            owner = patients.get(_id_text(row.values["idPatient"]) or "")
            if not isinstance(uid, str) or not is_uid(uid):
                self._tell("etude", row.row_id, "bad-value", "StudyInstanceUID")
            elif owner is None:
                self._tell("etude", row.row_id, "orphan", "no such patient")
            else:
                when = row.values["dateTraitement"]
                yield uid, _Study(row.row_id, owner, _date(when), when is not None)

    def _series(self, studies: dict[str, _Study]) -> Iterator[tuple[str, _Series]]:
        for row in self._rows("series"):
            uid, study_uid = (
                row.values["SeriesInstanceUID"],
                row.values["StudyInstanceUID"],
            )
            if not isinstance(uid, str) or not is_uid(uid):
                self._tell("series", row.row_id, "bad-value", "SeriesInstanceUID")
            elif study_uid not in studies:
                self._tell("series", row.row_id, "orphan", "no such study")
            else:
                yield uid, _Series(row.row_id, study_uid)

    def _lesions(
        self, studies: dict[str, _Study], series: dict[str, _Series]
    ) -> Iterator[_Measured]:
        known: dict[tuple[object, ...], int] = {}
        numbers: dict[tuple[str, int | None], int] = {}
        for row in self._rows("metastase"):
            within = series.get(row.values["SeriesInstanceUID"])
            if within is None:
                self._tell("metastase", row.row_id, "orphan", "no such series")
                continue
            study = studies[within.study_uid]
            try:
                record = _record(row.values, within.study_uid, study.date)
            except BadValue as fault:
                self._tell("metastase", row.row_id, "bad-value", str(fault))
                continue
            first = known.setdefault((record.series_uid, *record.measured), row.row_id)
            if first != row.row_id:
                detail = f"the same as row {first}"
                self._tell("metastase", row.row_id, "duplicate", detail)
                continue
            other = numbers.setdefault(
                (record.series_uid, record.roi_number), row.row_id
            )
            remark = (
                f"row {other} has this ROI number with other values"
                if other != row.row_id
                else ""
            )
            self._used["series"].add(within.row_id)
            self._used["etude"].add(study.row_id)
            yield _Measured(row.row_id, study.patient_row, record, remark)

    def _tell_containers(
        self, studies: dict[str, _Study], series: dict[str, _Series]
    ) -> None:
        """Tell of studies and series whether any measurement of theirs is taken."""
        for table, rows in (("etude", studies), ("series", series)):
            for one in rows.values():
                if one.row_id not in self._used[table]:
                    self._tell(table, one.row_id, "unused", "no measurement to import")
                elif isinstance(one, _Study) and one.dated and one.date is None:
                    detail = "dateTraitement cannot be read; kept without a date"
                    self._tell(table, one.row_id, "used", detail)
                else:
                    self._tell(table, one.row_id, "used")


@dataclass(frozen=True)
class _Study:
    row_id: int
    patient_row: int
    date: str | None
    dated: bool


@dataclass(frozen=True)
class _Series:
    row_id: int
    study_uid: str


class _Recording:
    """Finds the patients, and records what is not recorded yet unless it is a trial."""

    def __init__(self, session: Session, report: Report, actor: str | None) -> None:
        self._session, self._report, self._actor = session, report, actor

    def record(self, patients: dict[int, Patient], measured: list[_Measured]) -> None:
        for row_id, patient in patients.items():
            of_patient = [one for one in measured if one.patient_row == row_id]
            self._record_patient(row_id, patient, of_patient)

    def _record_patient(
        self, row_id: int, patient: Patient, measured: list[_Measured]
    ) -> None:
        patient_id = patient.patient_id or ""
        known = patients_of_id(self._session, patient_id)
        if any(_differ(one.birth_date, patient.birth_date) for one in known):
            detail = "its patient's date of birth is not that of the same PatientID"
            self._tell("patient", row_id, "other-patient", detail)
            for one in measured:
                self._tell("metastase", one.row_id, "other-patient", detail)
            return
        # Where several issuers know the id, none of them can be told to be meant.
        match = known[0] if len(known) == 1 else None
        match = match or next((one for one in known if one.issuer is None), None)
        self._report.patients_matched += match is not None
        self._report.patients_new += match is None
        detail = "a patient of this PatientID is known" if match else "a new patient"
        self._tell("patient", row_id, "used", detail)
        identities = {one.row_id: one.record.identity(patient_id) for one in measured}
        there = known_identities(self._session, list(identities.values()))
        new = []
        for one in measured:
            if identities[one.row_id] in there:
                self._tell("metastase", one.row_id, "already-imported", one.remark)
            else:
                new.append(one)
                self._tell("metastase", one.row_id, "imported", one.remark)
        if new and not self._report.dry_run:
            key = match.id if match else add_patient(self._session, patient)
            record_historical(
                self._session,
                key,
                patient_id,
                [one.record for one in new],
                source_sha256=self._report.sha256,
                by=self._actor,
            )

    def _tell(self, table: str, row_id: int, outcome: Outcome, detail: str) -> None:
        self._report.verdicts.append(Verdict(table, row_id, outcome, detail))


def _differ(ours: str | None, theirs: str | None) -> bool:
    return ours is not None and theirs is not None and ours != theirs


def _record(
    values: dict[str, Any], study_uid: str, study_date: str | None
) -> HistoricalRecord:
    """Read the values of a measurement; `BadValue` where one cannot be."""
    volume_ml = _number(values, "volume", _LARGEST_ML)
    diameter_mm = _number(values, "diametre", _LARGEST_MM)
    if volume_ml is None and diameter_mm is None:
        raise BadValue("volume and diametre are missing")
    return HistoricalRecord(
        study_uid=study_uid,
        study_date=study_date,
        series_uid=values["SeriesInstanceUID"],
        roi_number=_whole(values, "roiNumber"),
        name=_text(values["nom_metastase"], _LONGEST_NAME),
        volume_ml=volume_ml,
        diameter_mm=diameter_mm,
        first_slice=_whole(values, "slideDebut"),
        last_slice=_whole(values, "slideFin"),
        colour=_colour(values["color"]),
    )


def _whole(values: dict[str, Any], column: str) -> int | None:
    value = values[column]
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or abs(value) >= _LARGEST_WHOLE:
        raise BadValue(column)
    return value


def _number(values: dict[str, Any], column: str, largest: float) -> float | None:
    value = values[column]
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise BadValue(column)
    if not 0 <= value <= largest:
        raise BadValue(column)
    return float(value)


def _text(value: object, longest: int) -> str | None:
    return None if isinstance(value, bytes) else clean_text(value, longest)


def _id_text(value: object) -> str | None:
    """Write a PatientID as text; None where it is none."""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return _text(value, _LONGEST_TEXT)


def _date(value: object) -> str | None:
    """Turn ``2019-02-03`` (or ``20190203``) into DICOM's DA; None for anything else."""
    match = _DATE.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day = match.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return None
    return year + month + day


def _colour(value: object) -> tuple[int, int, int] | None:
    """Read ``[255   0   0]``; a colour that cannot be read costs no measurement."""
    match = _COLOUR.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    red, green, blue = (int(part) for part in match.groups())
    return (red, green, blue) if max(red, green, blue) <= 255 else None
