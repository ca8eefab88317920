"""One lesion over time: tracks, their members, and what readers say of them.

Members are recomputed from measurements, registrations and decisions and written as a
whole (``save_tracks``); readings (and decisions: ``db.links``) are a reader's and are
never lost by it. A finding belongs to one track, a track has one finding a visit, and
the database sees to both. Functions take a ``Session``; those that write keep other
writers of the patient waiting.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from db.engine import database_time
from db.models import (
    CourseEventRow,
    LinkDecisionRow,
    StudyRow,
    TrackMemberRow,
    TrackReadingRow,
    TrackRow,
)
from db.patients import lock_patient, touch
from db.track_records import (
    Member,
    PatientTracks,
    ReadingChange,
    Track,
    TrackChange,
    TrackReading,
    TrackReadingRecord,
    TrackRecord,
)
from errors import MetiaError

__all__ = [
    "Member",
    "PatientTracks",
    "ReadingChange",
    "Track",
    "TrackChange",
    "TrackReading",
    "TrackReadingRecord",
    "TrackRecord",
    "get_track",
    "load_tracks",
    "new_track_id",
    "save_track_reading",
    "save_tracks",
    "update_track",
]


def new_track_id() -> str:
    """Make an id for a new track."""
    return uuid.uuid4().hex


def load_tracks(session: Session, patient_key: str) -> PatientTracks:
    """Read the tracks of a patient in three queries."""
    own = TrackRow.patient_key == patient_key
    tracks = session.scalars(select(TrackRow).where(own))
    members = session.scalars(
        select(TrackMemberRow).join(TrackRow, _OF_MEMBER).where(own)
    )
    readings = session.scalars(
        select(TrackReadingRow).join(TrackRow, _OF_READING).where(own)
    )
    return PatientTracks(
        tuple(sorted(map(_track, tracks), key=_label_order)),
        tuple(map(_member, members)),
        tuple(map(_reading, readings)),
    )


def get_track(session: Session, track_id: str) -> Track:
    """Read one track; ``not-found`` where there is none."""
    row = session.get(TrackRow, track_id)
    if row is None:
        raise MetiaError("not-found", "There is no lesion track of this id.")
    return _track(row)


def save_tracks(
    session: Session,
    patient_key: str,
    tracks: Sequence[TrackRecord],
    members: Sequence[Member],
) -> PatientTracks:
    """Write the tracks of a patient and all their members, in place of the former.

    Read what there is (``load_tracks``) after ``db.patients.lock_patient`` in the same
    transaction. Of a track that is there already only `split_from` is taken: the rest
    is a reader's, or fixed by its first lesion. One that is not given any more goes,
    unless a reader has said something about it: then it stays without members.

    Parameters
    ----------
    session : Session
    patient_key : str
    tracks : sequence of TrackRecord
    members : sequence of Member
        All of them; where `at` is None an unchanged member keeps its own, and another
        gets the present time.

    Raises
    ------
    MetiaError
        ``not-found``; ``conflict`` where two findings of a visit share a track, two
        tracks a label, or a track is another patient's.
    """
    lock_patient(session, patient_key)
    now = database_time(session)
    before = load_tracks(session, patient_key)
    session.execute(
        delete(TrackMemberRow)
        .where(TrackMemberRow.track_id.in_([track.id for track in before.tracks]))
        .execution_options(synchronize_session=False)
    )
    session.expire_all()
    _drop_tracks(session, before, {track.id for track in tracks})
    _put_tracks(session, patient_key, tracks, now)
    former = {(one.study_uid, one.finding_uid): one for one in before.members}
    rows = [
        _member_row(one, former.get((one.study_uid, one.finding_uid)), now)
        for one in members
    ]
    session.add_all(rows)
    session.flush()
    touch(session, patient_key)
    return load_tracks(session, patient_key)


def update_track(
    session: Session,
    track_id: str,
    changes: Mapping[str, str | bool | None],
    *,
    expected_revision: int,
) -> TrackChange:
    """Change what a reader may of a track.

    Parameters
    ----------
    session : Session
    track_id : str
    changes : mapping
        New values of ``label``, ``role``, ``kind``, ``compartment`` or
        ``progressed_since_treatment``; others stay.
    expected_revision : int
        The one the reader saw.

    Raises
    ------
    MetiaError
        ``not-found``; ``edit-conflict`` with ``current_revision``; ``conflict`` where
        another track has the label or a value breaks a rule; ``invalid-input``.
    """
    if not set(changes) <= _CHANGEABLE:
        raise MetiaError("invalid-input", "This of a track cannot be changed.")
    row = _hold_track(session, track_id, expected_revision)
    before = _track(row)
    for name, value in changes.items():
        setattr(row, name, value)
    row.revision += 1
    session.flush()
    return TrackChange(before, _track(row))


def save_track_reading(
    session: Session,
    track_id: str,
    study_uid: str,
    record: TrackReadingRecord,
    *,
    expected_revision: int,
    by: str,
) -> ReadingChange:
    """Record what a reader says of a track at a visit, in place of the former.

    Parameters
    ----------
    session : Session
    track_id, study_uid : str
    record : TrackReadingRecord
    expected_revision : int
        Of the track, as the reader saw it; it is raised.
    by : str
        Name of the user.

    Raises
    ------
    MetiaError
        ``not-found``; ``edit-conflict`` with ``current_revision``; ``invalid-input``
        for a visit or track of another patient; ``conflict`` where a value breaks a
        rule.
    """
    track = _hold_track(session, track_id, expected_revision)
    _require_own_study(session, track.patient_key, study_uid)
    if record.into_track_id is not None:
        into = session.get(TrackRow, record.into_track_id)
        if into is None or into.patient_key != track.patient_key:
            raise MetiaError("invalid-input", "The lesion is not one of this patient.")
    row = session.get(TrackReadingRow, (track_id, study_uid), populate_existing=True)
    before = None if row is None else _reading(row)
    now = database_time(session)
    if row is None:
        row = TrackReadingRow(track_id=track_id, study_uid=study_uid)
        session.add(row)
    for item in fields(record):
        setattr(row, item.name, getattr(record, item.name))
    row.author = by
    row.updated_at = now
    track.revision += 1
    session.flush()
    return ReadingChange(before, _reading(row))


_CHANGEABLE = {"label", "role", "kind", "compartment", "progressed_since_treatment"}
_OF_MEMBER = TrackMemberRow.track_id == TrackRow.id
_OF_READING = TrackReadingRow.track_id == TrackRow.id


def _hold_track(session: Session, track_id: str, expected_revision: int) -> TrackRow:
    key = session.scalar(select(TrackRow.patient_key).where(TrackRow.id == track_id))
    if key is None:
        raise MetiaError("not-found", "There is no lesion track of this id.")
    touch(session, key)
    row = session.get(TrackRow, track_id, populate_existing=True)
    if row is None:
        raise MetiaError("not-found", "There is no lesion track of this id.")
    if row.revision != expected_revision:
        raise MetiaError(
            "edit-conflict",
            "The lesion was changed meanwhile.",
            {"current_revision": row.revision},
        )
    return row


def _require_own_study(session: Session, patient_key: str, study_uid: str) -> None:
    study = session.get(StudyRow, study_uid)
    if study is None or study.patient_key != patient_key:
        raise MetiaError("invalid-input", "The visit is not one of this patient.")


def _drop_tracks(session: Session, before: PatientTracks, kept: set[str]) -> None:
    """Remove tracks that are not given any more and that no reader spoke of."""
    gone = {
        track.id
        for track in before.tracks
        if track.id not in kept and track.revision == 1
    }
    if not gone:
        return
    for spoken_of in (
        TrackReadingRow.track_id,
        TrackReadingRow.into_track_id,
        LinkDecisionRow.track_id,
        CourseEventRow.track_id,
    ):
        gone -= set(session.scalars(select(spoken_of).where(spoken_of.in_(gone))))
    # What stays may be a fragment of what goes.
    session.execute(
        update(TrackRow).where(TrackRow.split_from.in_(gone)).values(split_from=None)
    )
    session.execute(delete(TrackRow).where(TrackRow.id.in_(gone)))
    session.expire_all()


def _put_tracks(
    session: Session, patient_key: str, tracks: Sequence[TrackRecord], now: datetime
) -> None:
    rows = {
        row.id: row
        for row in session.scalars(
            select(TrackRow).where(TrackRow.patient_key == patient_key)
        )
    }
    for track in tracks:
        if track.id not in rows:
            rows[track.id] = TrackRow(
                id=track.id,
                patient_key=patient_key,
                tracking_uid=track.tracking_uid,
                label=track.label,
                kind=track.kind,
                compartment=track.compartment,
                revision=1,
                created_at=now,
            )
            session.add(rows[track.id])
    session.flush()
    # A fragment may stand before the track it came from.
    for track in tracks:
        rows[track.id].split_from = track.split_from
    session.flush()


def _member_row(member: Member, former: Member | None, now: datetime) -> TrackMemberRow:
    unchanged = former is not None and former == replace(member, at=former.at)
    at = member.at or (former.at if former is not None and unchanged else now)
    values = {item.name: getattr(member, item.name) for item in fields(Member)}
    return TrackMemberRow(**(values | {"at": at}))


def _label_order(track: Track) -> tuple[str, int, str]:
    """Put M2 before M10."""
    letters = track.label.rstrip("0123456789")
    digits = track.label[len(letters) :]
    return letters, int(digits or 0), track.id


def _track(row: TrackRow) -> Track:
    return Track(**{item.name: getattr(row, item.name) for item in fields(Track)})


def _member(row: TrackMemberRow) -> Member:
    return Member(**{item.name: getattr(row, item.name) for item in fields(Member)})


def _reading(row: TrackReadingRow) -> TrackReading:
    return TrackReading(
        **{item.name: getattr(row, item.name) for item in fields(TrackReading)}
    )
