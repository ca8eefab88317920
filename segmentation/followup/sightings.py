"""What is known of each lesion of a patient at each visit, and never more than that.

A lesion without a finding is gone only where the visit could be aligned to the earliest
one and no finding of it waits for a reader; else it is not assessed, with the reason.
What a reader says of a lesion stands over what was measured. Lengths become integer
tenths of a millimetre, halves up (``measurability.tenths``). Pure: rows in, plain
frozen data out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal

from db.results import Lesion, Result
from db.tracks import Member, Track, TrackReading
from db.visits import Visit
from segmentation.followup.case import Certainty, Observation, State
from segmentation.followup.course_rows import CourseRows, live_lesions
from segmentation.followup.linking import absorbed_tracks
from segmentation.measurability import BORDER, slice_distance_mm, tenths

_GONE_INTO_OTHERS = (State.MERGED, State.SPLIT)


@dataclass(frozen=True)
class Sighting:
    """What is known of one lesion at one visit.

    Attributes
    ----------
    observation : Observation
        What counts.
    lesion : db.results.Lesion or None
        What was measured, also where a reader's state stands over it.
    member : Member or None
        How the finding came to this lesion.
    """

    observation: Observation
    lesion: Lesion | None = None
    member: Member | None = None
    reading: TrackReading | None = None

    @property
    def state(self) -> State:
        """What counts."""
        return self.observation.state


@dataclass(frozen=True)
class Sightings:
    """All lesions at all visits.

    Attributes
    ----------
    of : dict
        By track id and study UID, of every track and visit.
    unlinked : dict
        Study UID to the findings that belong to no track.
    pending : dict
        Study UID to how many of its links wait for the reader.
    """

    of: dict[tuple[str, str], Sighting]
    unlinked: dict[str, tuple[Lesion, ...]] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)


def sightings_of(
    rows: CourseRows, names: Mapping[str, str], too_small_tenths_mm: int
) -> Sightings:
    """Say of each lesion at each visit what is known.

    Parameters
    ----------
    rows : CourseRows
    names : mapping
        Track id to the lesion of the case.
    too_small_tenths_mm : int
        What a lesion too small to measure counts.
    """
    table = _Table(rows, names, too_small_tenths_mm)
    found = {
        (track.id, visit.study_uid): sighting
        for track in rows.tracks.tracks
        for visit, sighting in zip(rows.visits, table.follow(track), strict=True)
    }
    return Sightings(found, table.unlinked, table.pending)


class _Table:
    def __init__(
        self, rows: CourseRows, names: Mapping[str, str], too_small_tenths_mm: int
    ) -> None:
        self._rows, self._names = rows, names
        self._too_small = too_small_tenths_mm
        self._live = {v.study_uid: live_lesions(v.result) for v in rows.visits}
        self._readings = {(r.track_id, r.study_uid): r for r in rows.tracks.readings}
        known = {(m.study_uid, m.finding_uid) for m in rows.tracks.members}
        self.unlinked = {
            study: tuple(live[uid] for uid in live if (study, uid) not in known)
            for study, live in self._live.items()
        }
        self.pending = dict.fromkeys(self._live, 0)
        self._members: dict[tuple[str, str], Member] = {}
        self._ended: dict[tuple[str, str], Observation] = {}
        for member in rows.tracks.members:
            if member.finding_uid in self._live.get(member.study_uid, {}):
                self._members[member.track_id, member.study_uid] = member
                self.pending[member.study_uid] += member.state == "pending"
        self._note_fusions()
        self._note_splits()

    def _note_fusions(self) -> None:
        """Note where lesions ended in the finding of another."""
        for (into, study), member in self._members.items():
            for track in absorbed_tracks(member):
                if track in self._names:
                    name = self._names[track]
                    fused = Observation(name, State.MERGED, into=self._names[into])
                    self._ended[track, study] = _if_settled(fused, member)

    def _note_splits(self) -> None:
        """Note where the first fragments of a lesion were seen."""
        split: set[str] = set()
        for visit in self._rows.visits:
            for fragment in self._rows.tracks.tracks:
                parent = fragment.split_from or ""
                member = self._members.get((fragment.id, visit.study_uid))
                if parent in self._names and member and parent not in split:
                    split.add(parent)
                    apart = Observation(self._names[parent], State.SPLIT)
                    place = parent, visit.study_uid
                    self._ended.setdefault(place, _if_settled(apart, member))

    def follow(self, track: Track) -> Iterator[Sighting]:
        """Go through the visits in order: what is fused or split stays so."""
        carried: Observation | None = None
        for visit in self._rows.visits:
            carried = self._ended.get((track.id, visit.study_uid), carried)
            sighting = self._sight(track, visit, carried)
            seen = sighting.observation
            stays = seen.state in _GONE_INTO_OTHERS or seen is carried
            carried = seen if stays else None
            yield sighting

    def _sight(
        self, track: Track, visit: Visit, carried: Observation | None
    ) -> Sighting:
        name = self._names[track.id]
        reading = self._readings.get((track.id, visit.study_uid))
        member = self._members.get((track.id, visit.study_uid))
        lesion = self._live[visit.study_uid][member.finding_uid] if member else None
        if reading is not None and reading.state is not None:
            seen = self._as_read(name, reading, lesion)
        elif member is None or lesion is None or member.state == "pending":
            seen = self._without_finding(name, visit, carried if not member else None)
        else:
            assert visit.result is not None  # noqa: S101 - it has this lesion
            seen = self._as_measured(name, lesion, visit.result, reading)
        return Sighting(seen, lesion, member, reading)

    def _as_measured(
        self, name: str, lesion: Lesion, result: Result, reading: TrackReading | None
    ) -> Observation:
        longest = length_tenths(lesion.longest_diameter_mm)
        seen = Observation(
            lesion=name,
            state=State.MEASURED,
            longest_tenths_mm=longest,
            # Rounding may turn around what is equal but for the last digits.
            perpendicular_tenths_mm=min(
                length_tenths(lesion.perpendicular_diameter_mm), longest
            ),
            slice_count=lesion.slice_count,
            touches_border=BORDER in (*lesion.warnings, *lesion.measurable_reasons),
            volume_tenths_mm3=volume_tenths(lesion.volume_ml),
        )
        distance = slice_distance_tenths(result)
        if distance is not None and longest < min(distance, self._too_small):
            # Thinner than the slices are apart: its size is that of the slices.
            seen = Observation(
                name, State.TOO_SMALL, volume_tenths_mm3=seen.volume_tenths_mm3
            )
        return _with_reading(seen, reading)

    def _as_read(
        self, name: str, reading: TrackReading, lesion: Lesion | None
    ) -> Observation:
        state = State(reading.state or "")
        match state:
            case State.TOO_SMALL:
                volume = volume_tenths(lesion.volume_ml) if lesion else None
                seen = Observation(name, state, volume_tenths_mm3=volume)
                return _with_reading(seen, reading)
            case State.NOT_ASSESSED:
                return Observation(name, state, reason=reading.reason)
            case State.MERGED:
                into = self._names.get(reading.into_track_id or "")
                return Observation(name, state, into=into)
            case State.LOCALLY_TREATED:
                return Observation(
                    name,
                    state,
                    longest_tenths_mm=(
                        length_tenths(lesion.longest_diameter_mm) if lesion else None
                    ),
                    treated_on=reading.treated_on,
                    modality=reading.modality,
                    radionecrosis_suspected=reading.radionecrosis_suspected,
                )
            case _:
                return Observation(name, state)

    def _without_finding(
        self, name: str, visit: Visit, carried: Observation | None
    ) -> Observation:
        if carried is not None:
            return carried
        reason = self._why_unknown(visit)
        if reason:
            return Observation(name, State.NOT_ASSESSED, reason=reason)
        return Observation(name, State.ABSENT)

    def _why_unknown(self, visit: Visit) -> str:
        """Say why nothing follows from there being no finding; empty: it does."""
        if visit.result is None:
            return "not_read"
        reference = self._rows.reference
        if reference is not None and visit.study_uid != reference.study_uid:
            registration = self._rows.registrations.get(visit.result.series_uid)
            if registration is None or not registration.accepted:
                return "not_registered"
        if self.pending[visit.study_uid] or self.unlinked[visit.study_uid]:
            return "link_pending"
        return ""


def _if_settled(ended: Observation, member: Member) -> Observation:
    """Leave open what became of a lesion while the link that says so waits."""
    if member.state != "pending":
        return ended
    return Observation(ended.lesion, State.NOT_ASSESSED, reason="link_pending")


def _with_reading(seen: Observation, reading: TrackReading | None) -> Observation:
    if reading is None:
        return seen
    return replace(
        seen,
        radionecrosis_suspected=reading.radionecrosis_suspected,
        certainty=Certainty(reading.certainty) if reading.certainty else None,
        projections=reading.projections,
        reappearance=reading.reappearance,
    )


def length_tenths(length_mm: float) -> int:
    """Round to whole tenths of a millimetre; what is there is never nothing."""
    return max(1, tenths(length_mm))


def volume_tenths(volume_ml: float) -> int:
    """Turn millilitres into whole tenths of a cubic millimetre, halves up."""
    exact = Decimal(repr(volume_ml)).scaleb(4)
    return max(1, int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP)))


def slice_distance_tenths(result: Result) -> int | None:
    """Give slice thickness and gap together; None where neither was recorded."""
    if result.spacing_mm is not None:
        distance = slice_distance_mm(result.spacing_mm[0], result.slice_thickness_mm)
    elif result.slice_thickness_mm is not None:
        distance = result.slice_thickness_mm
    else:
        return None
    return length_tenths(distance)
