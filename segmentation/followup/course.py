"""From what is recorded of a patient to the case that the criteria assess.

``patient_case`` chooses the visits that are assessed (dated, one a day, with a result),
names them by their day and lesions by their label, and puts what ``sightings`` knows
into a `Case`. What only a reader can know (steroids, clinical status, unequivocal
progression of non-target disease, certainty of new lesions) is never derived. Pure:
rows in, plain frozen data out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import date

from db.results import Result
from db.tracks import Track
from db.visits import Visit as RecordedVisit
from segmentation.followup.case import (
    BaselineReset,
    Case,
    Clinical,
    Compartment,
    Kind,
    Lesion,
    NonTarget,
    Protocol,
    Role,
    SteroidChange,
    Steroids,
    SteroidUse,
    Visit,
)
from segmentation.followup.course_rows import CourseRows
from segmentation.followup.periods import baseline_of
from segmentation.followup.sightings import (
    Sighting,
    Sightings,
    length_tenths,
    sightings_of,
    slice_distance_tenths,
)

LEFT_OUT = {
    "no-date": "The study has no date, so its place in the course is not known.",
    "all-rejected": "Every result of this study was rejected.",
    "same-day": "Another study of the same day is assessed: the last, or the baseline.",
}
"""Why a visit takes no part in the assessment."""

_CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}\Z", re.ASCII)
_DAY = re.compile(r"([0-9]{4})[.-]?([0-9]{2})[.-]?([0-9]{2})\Z", re.ASCII)


@dataclass(frozen=True)
class PatientCase:
    """A case, and how it hangs together with the records.

    Attributes
    ----------
    case : Case or None
        None where no visit can be assessed.
    visit_ids : dict
        Study UID to the visit of the case; without those left out.
    left_out : dict
        Study UID to a key of `LEFT_OUT`.
    names : dict
        Track id to the lesion of the case.
    tracks : tuple of Track
        Those that were ever seen or spoken of.
    """

    case: Case | None
    visit_ids: dict[str, str]
    left_out: dict[str, str]
    names: dict[str, str]
    tracks: tuple[Track, ...]
    sightings: Sightings


def patient_case(rows: CourseRows) -> PatientCase:
    """Make the case of a patient."""
    names = _names(rows.tracks.tracks)
    protocol = _protocol(rows)
    sightings = sightings_of(rows, names, protocol.too_small_value_tenths_mm)
    tracks = _worth_showing(rows, sightings)
    days, left_out = _assessable(rows)
    return PatientCase(
        case=_case(rows, names, tracks, days, sightings, protocol) if days else None,
        visit_ids={study: day.isoformat() for study, day in days.items()},
        left_out=left_out,
        names={track.id: names[track.id] for track in tracks},
        tracks=tracks,
        sightings=sightings,
    )


def day_of(text: str | None) -> date | None:
    """Read a date of DICOM (DA, also as ACR-NEMA wrote it); None where it is none."""
    match = _DAY.match((text or "").strip())
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:
        return None


def _names(tracks: Iterable[Track]) -> dict[str, str]:
    """Name lesions by their labels, where those can stand in a case."""
    return {
        track.id: track.label if _CASE_ID.match(track.label) else track.id
        for track in tracks
    }


def _protocol(rows: CourseRows) -> Protocol:
    known = {entry.name for entry in fields(Protocol)}
    switches = rows.plan.protocol.items()
    return Protocol(**{name: value for name, value in switches if name in known})


def _worth_showing(rows: CourseRows, sightings: Sightings) -> tuple[Track, ...]:
    """Leave out tracks whose findings were all rejected, or drawn away."""
    tracks = {track.id: track for track in rows.tracks.tracks}
    wanted = {
        track
        for (track, _), sighting in sightings.of.items()
        if sighting.lesion or sighting.reading
    }
    wanted |= {
        reading.into_track_id
        for reading in rows.tracks.readings
        if reading.into_track_id in tracks
    }
    for name in list(wanted):
        parent = tracks[name].split_from
        while parent in tracks and parent not in wanted:
            wanted.add(parent)
            parent = tracks[parent].split_from
    return tuple(track for track in tracks.values() if track.id in wanted)


def _assessable(rows: CourseRows) -> tuple[dict[str, date], dict[str, str]]:
    """Choose the visits that are assessed: one a day, in order of date."""
    plan = rows.plan
    named = {plan.baseline_study_uid, *(reset["study_uid"] for reset in plan.resets)}
    left_out: dict[str, str] = {}
    taken: dict[date, str] = {}
    for visit in rows.visits:
        day = day_of(visit.study_date)
        if visit.result is None:
            left_out[visit.study_uid] = "all-rejected"
        elif day is None:
            left_out[visit.study_uid] = "no-date"
        elif day in taken and taken[day] in named:
            left_out[visit.study_uid] = "same-day"
        else:
            if day in taken:
                left_out[taken[day]] = "same-day"
            taken[day] = visit.study_uid
    return {study: day for day, study in sorted(taken.items())}, left_out


def _case(
    rows: CourseRows,
    names: dict[str, str],
    tracks: tuple[Track, ...],
    days: dict[str, date],
    sightings: Sightings,
    protocol: Protocol,
) -> Case:
    plan = rows.plan
    visits = {visit.study_uid: visit for visit in rows.visits}
    baseline = days.get(plan.baseline_study_uid or "")
    case = Case(
        id=rows.patient.id,
        lesions={names[track.id]: _lesion(track, names) for track in tracks},
        visits=tuple(
            _visit(visits[study], day, [sightings.of[t.id, study] for t in tracks])
            for study, day in days.items()
        ),
        protocol=protocol,
        treatment_start=plan.treatment_start,
        immunotherapy_start=plan.immunotherapy_start,
        baseline=baseline.isoformat() if baseline else None,
    )
    first = baseline_of(case).date
    resets = {
        day: reset["reason"]
        for reset in plan.resets
        if (day := days.get(reset["study_uid"])) is not None and day > first
    }
    starts = (BaselineReset(day.isoformat(), resets[day]) for day in sorted(resets))
    return replace(case, resets=tuple(starts))


def _lesion(track: Track, names: dict[str, str]) -> Lesion:
    compartment = Compartment(track.compartment)
    return Lesion(
        id=names[track.id],
        kind=Kind(track.kind),
        compartment=compartment,
        organ="brain" if compartment is Compartment.CNS else "other",
        role=Role(track.role) if track.role else None,
        split_from=names.get(track.split_from or ""),
        progressed_since_treatment=track.progressed_since_treatment,
    )


def _visit(visit: RecordedVisit, day: date, sightings: list[Sighting]) -> Visit:
    reading, result = visit.reading, visit.result
    assert result is not None  # noqa: S101 - others are not assessed
    thickness, gap = _slices(result)
    change = reading.steroid_change
    return Visit(
        id=day.isoformat(),
        date=day,
        observations={s.observation.lesion: s.observation for s in sightings},
        steroids=Steroids(
            SteroidUse(reading.steroid_use),
            SteroidChange(change) if change else None,
            reading.steroid_dose_tenths_mg,
        ),
        clinical=Clinical(reading.clinical),
        non_target=NonTarget(reading.non_target) if reading.non_target else None,
        slice_thickness_tenths_mm=thickness,
        slice_gap_tenths_mm=gap,
        technique_changed=reading.technique_changed,
        extracranial_response=reading.extracranial_response,
    )


def _slices(result: Result) -> tuple[int | None, int]:
    """Give slice thickness and gap, as far as recorded; overlap is no gap."""
    distance = slice_distance_tenths(result)
    if distance is None:
        return None, 0
    if result.slice_thickness_mm is None:
        return distance, 0
    thickness = length_tenths(result.slice_thickness_mm)
    return thickness, max(distance - thickness, 0)
