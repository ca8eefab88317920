"""Patients with a course in the database: written row by row, or from a response case.

``record_case`` stores a case (as ``tests.rano_cases`` writes them, or an example that
ships) the way the product would have: results with measured lesions, tracks with their
members, registrations, and the rest as what a reader entered. So the worked cases can
be asked of the database, too. Lengths in mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from pydicom.uid import generate_uid

from db.engine import Engine, Session, transaction
from db.patients import key_of_study
from db.plans import PlanRecord, save_plan
from db.registrations import RegistrationRecord, save_registration
from db.results import LesionRecord, record_result
from db.studies import Patient, Series, Study, upsert_study
from db.tracks import (
    Member,
    TrackReadingRecord,
    TrackRecord,
    load_tracks,
    new_track_id,
    save_track_reading,
    save_tracks,
    update_track,
)
from db.visits import VisitReadingRecord, save_reading
from tests.contract.sample_rows import make_lesion, make_record

IDENTITY = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0),
            (0.0, 0.0, 0.0, 1.0))  # fmt: skip
Document = dict[str, Any]


@dataclass
class Visit:
    """A visit that was recorded."""

    study_uid: str
    series_uid: str
    result_id: str
    findings: dict[str, str] = field(default_factory=dict)
    """Finding UIDs by the name of their lesion."""


def lesion_of(
    number: int, longest_mm: float, finding_uid: str, **more: Any
) -> LesionRecord:
    """Make a measurable lesion, but for what is given."""
    return replace(
        make_lesion(number),
        tracking_uid=finding_uid,
        finding_uid=finding_uid,
        longest_diameter_mm=longest_mm,
        **(
            {
                "perpendicular_diameter_mm": longest_mm,
                "volume_ml": max(0.0001, longest_mm**3 * 0.52e-3),
                "slice_count": 9,
                "measurable": True,
                "warnings": (),
            }
            | more
        ),
    )


def place_of(name: str) -> tuple[float, float, float]:
    """Give each name a place of its own, 60 mm from any other."""
    number = sum(ord(letter) * 7**place for place, letter in enumerate(name))
    return 60.0 * (number % 3), 60.0 * (number // 3 % 3), 60.0 * (number // 9 % 3)


def add_visit(
    session: Session,
    patient_id: str,
    day: date | str | None,
    lesions: Mapping[str, float | Mapping[str, Any]],
    *,
    time: str | None = None,
    **result: Any,
) -> Visit:
    """Record a visit; a lesion is its longest diameter, or all that shall differ."""
    study_uid, series_uid = generate_uid(), generate_uid()
    text = day.strftime("%Y%m%d") if isinstance(day, date) else day
    upsert_study(
        session,
        Patient(patient_id, name=f"Test^{patient_id}", birth_date="19600102", sex="F"),
        Study(study_uid, study_date=text, study_time=time, description="MR head"),
        Series(series_uid, 4, "MR", "T1 +C", 160),
    )
    visit = Visit(study_uid, series_uid, "")
    made = []
    for number, (name, given) in enumerate(lesions.items(), start=1):
        values = dict(given) if isinstance(given, Mapping) else {"longest_mm": given}
        visit.findings[name] = generate_uid()
        values = {"centroid_mm": place_of(name)} | values
        made.append(lesion_of(number, finding_uid=visit.findings[name], **values))
    record = make_record(
        series_uid=series_uid,
        segmentation_series_uid=generate_uid() if made else None,
        segmentation_sop_uid=generate_uid() if made else None,
        lesions=tuple(made),
        **({"spacing_mm": (1.0, 1.0, 1.0), "slice_thickness_mm": 1.0} | result),
    )
    visit.result_id = record_result(session, record)
    return visit


def link(
    session: Session,
    patient_key: str,
    visits: list[Visit],
    *,
    split_from: Mapping[str, str] | None = None,
    states: Mapping[tuple[str, str], str] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Make a track of each name, over all visits; gives the track ids by name.

    `states` gives the state of a member by name and study UID.
    """
    known = {
        track.label: track.id for track in load_tracks(session, patient_key).tracks
    }
    names = list(dict.fromkeys(name for visit in visits for name in visit.findings))
    names += [name for name in known if name not in names]
    names += [name for name in (split_from or {}).values() if name not in names]
    ids = {name: known.get(name) or new_track_id() for name in names}
    members = []
    seen: set[str] = set()
    for visit in visits:
        for name, finding in visit.findings.items():
            state = (states or {}).get((name, visit.study_uid), "automatic")
            relation = "same" if name in seen else "new" if seen else "first"
            seen.add(name)
            members.append(
                Member(visit.study_uid, finding, ids[name], relation, state, 0.5)
            )
    records = [
        TrackRecord(
            ids[name],
            generate_uid(),
            name,
            kind=(kinds or {}).get(name, "parenchymal"),
            split_from=ids.get((split_from or {}).get(name, "")),
        )
        for name in names
    ]
    save_tracks(session, patient_key, records, members)
    return ids


def register(session: Session, visits: list[Visit], *, accepted: bool = True) -> None:
    """Align all visits to the first one."""
    for visit in visits[1:]:
        save_registration(
            session,
            RegistrationRecord(
                visit.series_uid,
                visits[0].series_uid,
                IDENTITY if accepted else None,
                0.9 if accepted else 0.1,
                accepted,
                "" if accepted else "low-agreement",
                "test-1",
            ),
        )


def read_track(session: Session, track_id: str, study_uid: str, **values: Any) -> None:
    """Record what a reader says of a track, whatever its revision."""
    from db.tracks import get_track

    save_track_reading(
        session,
        track_id,
        study_uid,
        TrackReadingRecord(**values),
        expected_revision=get_track(session, track_id).revision,
        by="reader",
    )


@dataclass
class Recorded:
    """A case that was recorded."""

    patient_key: str
    studies: dict[str, str]
    """Study UIDs by the visit of the case."""
    tracks: dict[str, str]
    """Track ids by lesion."""


def record_case(engine: Engine, document: Document) -> Recorded:
    """Store a response case as if the product had found it."""
    with transaction(engine) as session:
        return _CaseRecorder(session, document).record()


class _CaseRecorder:
    def __init__(self, session: Session, document: Document) -> None:
        self._session, self._document = session, document
        self._lesions = {entry["id"]: entry for entry in document["lesions"]}

    def record(self) -> Recorded:
        session = self._session
        ordered = sorted(self._document["visits"], key=lambda visit: visit["date"])
        visits = {visit["id"]: self._visit(visit) for visit in ordered}
        key = key_of_study(session, next(iter(visits.values())).study_uid)
        register(session, list(visits.values()))
        # So that those which only a reader speaks of have tracks as well.
        split = {
            n: e["split_from"] for n, e in self._lesions.items() if "split_from" in e
        }
        tracks = self._tracks(key, list(visits.values()), split)
        self._describe(tracks)
        before: dict[str, str] = {}
        for visit in ordered:
            self._readings(visit, visits[visit["id"]], tracks, before)
        studies = {name: visit.study_uid for name, visit in visits.items()}
        self._plan(key, studies)
        return Recorded(key, studies, tracks)

    def _visit(self, visit: Document) -> Visit:
        lesions = {}
        for seen in visit["lesions"]:
            if "longest_diameter_tenths_mm" not in seen:
                continue
            longest = seen["longest_diameter_tenths_mm"] / 10
            more: dict[str, Any] = {"longest_mm": longest}
            if "perpendicular_diameter_tenths_mm" in seen:
                across = seen["perpendicular_diameter_tenths_mm"] / 10
                more["perpendicular_diameter_mm"] = across
            for name in ("slice_count", "volume_ml"):
                if name in seen:
                    more[name] = seen[name]
            if seen.get("touches_border"):
                more["warnings"] = ("touches-border",)
            lesions[seen["lesion"]] = more
        thickness = visit.get("slice_thickness_tenths_mm")
        gap = visit.get("slice_gap_tenths_mm", 0)
        return add_visit(
            self._session,
            self._document["case_id"],
            date.fromisoformat(visit["date"]),
            lesions,
            spacing_mm=((thickness + gap) / 10, 1.0, 1.0) if thickness else None,
            slice_thickness_mm=thickness / 10 if thickness else None,
        )

    def _tracks(
        self, key: str, visits: list[Visit], split: dict[str, str]
    ) -> dict[str, str]:
        kinds = {n: e.get("kind", "parenchymal") for n, e in self._lesions.items()}
        ids = {name: new_track_id() for name in self._lesions}
        save_tracks(
            self._session,
            key,
            [
                TrackRecord(
                    ids[name],
                    generate_uid(),
                    name,
                    kind=kinds[name],
                    compartment=entry.get("compartment", "cns"),
                    split_from=ids.get(split.get(name, "")),
                )
                for name, entry in self._lesions.items()
            ],
            [
                Member(visit.study_uid, finding, ids[name], "same")
                for visit in visits
                for name, finding in visit.findings.items()
            ],
        )
        return ids

    def _describe(self, tracks: dict[str, str]) -> None:
        before = {"progressed_since": True, "not_progressed_since": False}
        for name, entry in self._lesions.items():
            changes: dict[str, Any] = {}
            if "role" in entry:
                changes["role"] = entry["role"]
            treated = before.get(entry.get("local_treatment_before_baseline", ""))
            if treated is not None:
                changes["progressed_since_treatment"] = treated
            if changes:
                update_track(self._session, tracks[name], changes, expected_revision=1)

    def _readings(
        self,
        visit: Document,
        recorded: Visit,
        tracks: dict[str, str],
        before: dict[str, str],
    ) -> None:
        steroids = visit["steroids"]
        save_reading(
            self._session,
            recorded.study_uid,
            VisitReadingRecord(
                steroid_use=steroids["use"],
                steroid_change=steroids.get("change"),
                steroid_dose_tenths_mg=steroids.get("dexamethasone_tenths_mg_per_day"),
                clinical=visit["clinical_status"],
                non_target=visit.get("non_target"),
                technique_changed=visit.get("technique_changed", False),
                extracranial_response=visit.get(
                    "extracranial_response", "not_recorded"
                ),
            ),
            expected_revision=0,
            by="reader",
        )
        listed = {seen["lesion"]: seen for seen in visit["lesions"]}
        for name, track_id in tracks.items():
            values = self._reading(name, listed.get(name), tracks, before)
            if values:
                read_track(self._session, track_id, recorded.study_uid, **values)

    def _reading(
        self,
        name: str,
        seen: Document | None,
        tracks: dict[str, str],
        before: dict[str, str],
    ) -> Document:
        if seen is None:
            # Not listed is not assessed, but for what was never there or has fused.
            if before.get(name, "absent") in ("absent", "merged", "split"):
                return {}
            return {"state": "not_assessed", "reason": "other"}
        state = before[name] = seen["state"]
        values: Document = {}
        if state not in ("measured", "absent"):
            values["state"] = state
        if "into" in seen:
            values["into_track_id"] = tracks[seen["into"]]
        if "date" in seen:
            values["treated_on"] = date.fromisoformat(seen["date"])
        for entry in ("reason", "modality", "radionecrosis_suspected", "certainty",
                      "projections", "reappearance"):  # fmt: skip
            if entry in seen:
                values[entry] = seen[entry]
        return values

    def _plan(self, key: str, studies: dict[str, str]) -> None:
        treatment = self._document.get("treatment", {})
        baseline = self._document.get("baseline", {})
        start = treatment.get("start_date")
        immunotherapy = treatment.get("immunotherapy_start_date")
        save_plan(
            self._session,
            key,
            PlanRecord(
                treatment_start=date.fromisoformat(start) if start else None,
                immunotherapy_start=(
                    date.fromisoformat(immunotherapy) if immunotherapy else None
                ),
                baseline_study_uid=studies.get(baseline.get("visit", "")),
                protocol=self._document.get("protocol", {}),
                resets=tuple(
                    {"study_uid": studies[r["visit"]], "reason": r["reason"]}
                    for r in baseline.get("resets", ())
                ),
            ),
            expected_revision=0,
            by="reader",
        )
