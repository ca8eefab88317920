"""Recomputes which lesion is which over a patient's visits, from what is recorded.

``recompute_links`` reads current results, registrations and readers' decisions, follows
the lesions (``tracking``) and writes the tracks as a whole: running it again changes
nothing, and the order in which visits came leaves no trace. ``relink`` is what everyone
calls in the transaction that changed one of these: it recomputes and, where a visit is
not registered yet, queues the patient's ``follow`` job. Tracks keep id, UID and label.
Functions take a writing ``Session`` and hold the patient until it ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from db.engine import Session, database_time
from db.jobs import Job, JobRequest, enqueue
from db.links import Decision, list_decisions
from db.patients import key_of_study, lock_patient
from db.plans import list_events
from db.registrations import Registration, list_registrations
from db.results import Lesion, Result, list_results
from db.tracks import (
    Member,
    PatientTracks,
    TrackRecord,
    load_tracks,
    new_track_id,
    save_tracks,
)
from db.visits import Visit, load_visits
from segmentation.dicom.uids import derive_uid
from segmentation.followup.course_rows import live_lesions, reference_visit
from segmentation.followup.matching import METHOD as MATCHING_METHOD
from segmentation.followup.matching import Body, FloatArray, match_visit
from segmentation.followup.tracking import (
    NOT_REGISTERED,
    Course,
    Finding,
    Key,
    KnownTrack,
    Link,
    Ruling,
    VisitFindings,
    follow,
)

REGISTRATION_METHOD = "simpleitk-mattes-rigid-1"
"""Recorded with each registration; one by another method is made anew. Kept here, not
beside the method, so that the web process need not load SimpleITK."""
_PROVISIONAL = "U"
"""Begins the label of a track that stands in for links not made yet; others: M."""
_BEHIND_SEGMENTATION = -10
_MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class SeriesOfVisit:
    """The images that a visit was read from."""

    study_uid: str
    series_uid: str


@dataclass(frozen=True)
class OpenRegistrations:
    """What has to be registered before all visits of a patient can be linked."""

    fixed: SeriesOfVisit
    moving: tuple[SeriesOfVisit, ...]


def relink(session: Session, patient_key: str) -> None:
    """Recompute a patient's links, and have registered what is not registered yet."""
    recompute_links(session, patient_key)
    queue_follow(session, patient_key)


def relink_study(session: Session, study_uid: str) -> None:
    """As ``relink``, for the patient of a study."""
    relink(session, key_of_study(session, study_uid))


def queue_follow(session: Session, patient_key: str) -> Job | None:
    """Queue the job that registers a patient's visits, where there is need of it.

    Returns
    -------
    Job or None
        The one under way already, too; None where every visit is registered.
    """
    open_ = open_registrations(session, patient_key)
    if open_ is None:
        return None
    request = JobRequest.follow(patient_key, open_.moving[-1].study_uid)
    job, _ = enqueue(
        session,
        replace(request, priority=_BEHIND_SEGMENTATION),
        max_attempts=_MAX_ATTEMPTS,
        now=database_time(session),
    )
    return job


def open_registrations(session: Session, patient_key: str) -> OpenRegistrations | None:
    """List the visits without a registration to the present baseline; None: none."""
    visits = [v for v in load_visits(session, patient_key) if v.result is not None]
    fixed, *others = [_series(visit) for visit in visits] or [None]
    if fixed is None or not others:
        return None
    moving = [one for one in others if one is not None]
    done = list_registrations(
        session, fixed.series_uid, [one.series_uid for one in moving]
    )
    missing = tuple(
        one
        for one in moving
        if one.series_uid not in done
        or done[one.series_uid].method != REGISTRATION_METHOD
    )
    return OpenRegistrations(fixed, missing) if missing else None


def _series(visit: Visit) -> SeriesOfVisit | None:
    if visit.result is None:
        return None
    return SeriesOfVisit(visit.study_uid, visit.result.series_uid)


def recompute_links(session: Session, patient_key: str) -> PatientTracks:
    """Make the tracks of a patient anew from everything that is recorded.

    Parameters
    ----------
    session : Session
        Writing; the patient is held until its transaction ends.
    patient_key : str

    Returns
    -------
    PatientTracks
        As they are now.

    Raises
    ------
    MetiaError
        ``not-found`` where there is no such patient.
    """
    lock_patient(session, patient_key)
    visits = tuple(v for v in load_visits(session, patient_key) if v.result is not None)
    decisions = list_decisions(session, patient_key)
    found = [
        VisitFindings(visit.study_uid, _findings(visit), matrix)
        for visit, matrix in _registered(session, visits)
    ]
    before = _lasting(session, load_tracks(session, patient_key), found)
    aliases = _aliases(session, visits)
    known = _known(before, aliases)
    courses = follow(found, _rulings(decisions, known, aliases), known)
    records = _records(courses, before, known)
    members = _members(courses, [record.id for record in records], decisions)
    return save_tracks(session, patient_key, records, members)


def _registered(
    session: Session, visits: Sequence[Visit]
) -> list[tuple[Visit, FloatArray | None]]:
    """Put beside each visit its motion into the baseline, where there is one."""
    baseline = reference_visit(tuple(visits))
    if baseline is None or baseline.result is None:
        return []
    fixed = baseline.result.series_uid
    series = [visit.result.series_uid for visit in visits if visit.result]
    found = list_registrations(session, fixed, series)
    return [
        (visit, _matrix(found.get(visit.result.series_uid)))
        for visit in visits
        if visit.result is not None
    ]


def _matrix(registration: Registration | None) -> FloatArray | None:
    if registration is None or not registration.accepted:
        return None
    return None if registration.matrix is None else np.array(registration.matrix)


def _lasting(
    session: Session, before: PatientTracks, found: Sequence[VisitFindings]
) -> PatientTracks:
    """Leave out tracks that stood in for links until their visit was registered.

    They take neither labels nor names with them, unless a reader has spoken of them.
    """
    if not before.tracks:
        return before
    key = before.tracks[0].patient_key
    spoken_of: set[str | None] = {t.id for t in before.tracks if t.revision > 1}
    spoken_of |= {reading.track_id for reading in before.readings}
    spoken_of |= {reading.into_track_id for reading in before.readings}
    spoken_of |= {d.track_id for d in list_decisions(session, key, with_undone=True)}
    spoken_of |= {event.track_id for event in list_events(session, key)}
    unregistered = {visit.visit for visit in found[1:] if visit.to_baseline is None}
    waiting = {m.track_id for m in before.members if m.study_uid in unregistered}
    tracks = [
        track
        for track in before.tracks
        if not track.label.startswith(_PROVISIONAL)
        or track.id in spoken_of
        or track.id in waiting
    ]
    kept = {track.id for track in tracks}
    members = [member for member in before.members if member.track_id in kept]
    return replace(before, tracks=tuple(tracks), members=tuple(members))


def _findings(visit: Visit) -> tuple[Finding, ...]:
    return tuple(
        Finding(uid, _body(lesion))
        for uid, lesion in live_lesions(visit.result).items()
    )


def _body(lesion: Lesion) -> Body:
    return Body(
        lesion.centroid_mm, lesion.volume_ml * 1000.0, lesion.diameter_3d_axis_mm
    )


def _aliases(session: Session, visits: Iterable[Visit]) -> dict[Key, str]:
    """Say which present finding is what another result of its visit called so.

    Another model, or the same on another series of the study, draws the lesions of that
    day anew; what readers said of them, and their names, go on. Positions of one
    visit's series are taken for one coordinate system.
    """
    aliases: dict[Key, str] = {}
    for visit in visits:
        if visit.result is None or visit.result_count < 2:
            continue
        present = live_lesions(visit.result)
        for chain in _other_chains(session, visit.result):
            gone = [chain[uid] for uid in sorted(chain) if uid not in present]
            drawn = [present[uid] for uid in sorted(present) if uid not in chain]
            match = match_visit([_body(x) for x in gone], [_body(x) for x in drawn])
            for pair in match.pairs:
                key = (visit.study_uid, gone[pair.track].finding_uid)
                aliases[key] = drawn[pair.finding].finding_uid
    return aliases


def _other_chains(session: Session, current: Result) -> list[dict[str, Lesion]]:
    """Give, for each analysis beside the current one, its findings as last drawn."""
    results = list_results(session, current.study_uid)
    before = {result.id: result.predecessor_id for result in results}

    def first(result_id: str) -> str:
        while (earlier := before.get(result_id)) is not None:
            result_id = earlier
        return result_id

    chains: dict[str, dict[str, Lesion]] = {}
    for result in sorted(results, key=lambda one: (one.version, one.id)):
        chain = chains.setdefault(first(result.id), {})
        chain.update({lesion.finding_uid: lesion for lesion in result.lesions})
    chains.pop(first(current.id), None)
    return [chains[root] for root in sorted(chains)]


def _known(before: PatientTracks, aliases: Mapping[Key, str]) -> list[KnownTrack]:
    anchors = {old: new for (_, old), new in aliases.items()}
    members: dict[str, set[Key]] = {track.id: set() for track in before.tracks}
    for member in before.members:
        key = (member.study_uid, member.finding_uid)
        members[member.track_id].add((key[0], aliases.get(key, key[1])))
    return [
        KnownTrack(
            track.id,
            anchors.get(track.tracking_uid, track.tracking_uid),
            frozenset(members[track.id]),
        )
        for track in before.tracks
    ]


def _rulings(
    decisions: Iterable[Decision],
    known: Sequence[KnownTrack],
    aliases: Mapping[Key, str],
) -> list[Ruling]:
    """Turn decisions into rulings; one to confirm names the track it was made in."""
    track_of = {key: track.id for track in known for key in track.members}
    rulings = []
    for decision in decisions:
        key = (decision.study_uid, decision.finding_uid)
        key = (key[0], aliases.get(key, key[1]))
        track = decision.track_id
        if decision.action == "confirm" and track is None:
            track = track_of.get(key)
        rulings.append(Ruling(key, decision.action, track, decision.id))
    return rulings


def _records(
    courses: Sequence[Course], before: PatientTracks, known: Sequence[KnownTrack]
) -> list[TrackRecord]:
    """Give each course the recorded track that it goes on, or a new one."""
    ids = _recorded_ids(courses, known)
    recorded = {track.id: track for track in before.tracks}
    taken_uids = {track.tracking_uid for track in before.tracks}
    taken_labels = {track.label for track in before.tracks}
    records: list[TrackRecord] = []
    for number, course in enumerate(courses):
        track = recorded.get(ids[number] or "")
        if track is not None:
            uid, label, key = track.tracking_uid, track.label, track.id
        else:
            uid = _free_uid(course.links[0].key[1], taken_uids)
            waits = NOT_REGISTERED in course.links[0].reasons
            label = _free_label(_PROVISIONAL if waits else "M", taken_labels)
            key = new_track_id()
        records.append(TrackRecord(key, uid, label))
    return [
        record
        if course.split_from is None
        else replace(record, split_from=records[course.split_from].id)
        for record, course in zip(records, courses, strict=True)
    ]


def _recorded_ids(
    courses: Sequence[Course], known: Sequence[KnownTrack]
) -> list[str | None]:
    """Choose for each course a recorded track: by its anchor, else by most members."""
    claims = []
    for number, course in enumerate(courses):
        keys = {link.key for link in course.links}
        for place, track in enumerate(known):
            shared = len(keys & track.members)
            anchored = any(finding == track.anchor for _, finding in keys)
            if anchored or shared:
                claims.append((not anchored, -shared, place, number, track.id))
    ids: list[str | None] = [None] * len(courses)
    for _, _, _, number, key in sorted(claims):
        if ids[number] is None and key not in ids:
            ids[number] = key
    return ids


def _free_uid(finding_uid: str, taken: set[str]) -> str:
    """Name a track after its first finding; otherwise where another has that name."""
    uid, number = finding_uid, 0
    while uid in taken:
        number += 1
        uid = derive_uid("track", finding_uid, str(number))
    taken.add(uid)
    return uid


def _free_label(letter: str, taken: set[str]) -> str:
    number = 1
    while f"{letter}{number}" in taken:
        number += 1
    taken.add(f"{letter}{number}")
    return f"{letter}{number}"


def _members(
    courses: Sequence[Course], ids: Sequence[str], decisions: Iterable[Decision]
) -> list[Member]:
    made_by = {decision.id: decision for decision in decisions}
    return [
        _member(link, track_id, ids, made_by)
        for course, track_id in zip(courses, ids, strict=True)
        for link in course.links
    ]


def _member(
    link: Link, track_id: str, ids: Sequence[str], made_by: Mapping[int, Decision]
) -> Member:
    decision = None if link.ruling is None else made_by[link.ruling]
    study_uid, finding_uid = link.key
    return Member(
        study_uid,
        finding_uid,
        track_id,
        link.relation,
        link.state,
        cost_mm=link.cost_mm,
        method=MATCHING_METHOD if decision is None else "reader",
        by=None if decision is None else decision.by,
        at=None if decision is None else decision.at,
        reason=_reason(link, ids),
    )


def _reason(link: Link, ids: Sequence[str]) -> str:
    """Write codes with blanks between; a merge names the tracks that ended in it."""
    into = ",".join(ids[number] for number in link.absorbed)
    return " ".join(f"merge:{into}" if r == "merge" else r for r in link.reasons)


def track_of(session: Session, patient_key: str, key: Key) -> str | None:
    """Give the track that a finding (visit, finding) is in at present.

    A decision to confirm a link, or to take one back, is about this track, and says so,
    for the finding may be elsewhere once it is recomputed.
    """
    for member in load_tracks(session, patient_key).members:
        if (member.study_uid, member.finding_uid) == key:
            return member.track_id
    return None


def absorbed_tracks(member: Member) -> tuple[str, ...]:
    """Read from a member's reason the ids of the tracks that ended in its finding."""
    for code in member.reason.split(" "):
        if code.startswith("merge:"):
            return tuple(code.removeprefix("merge:").split(","))
    return ()
