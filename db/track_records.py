"""What a track is, with its members and readings, as plain values.

``db.tracks`` stores and gives them and exports these names. Words (roles, kinds,
states) are those of ``segmentation.followup.case``; lengths in mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True)
class TrackRecord:
    """One lesion of a patient over time, as it is given to be recorded.

    Attributes
    ----------
    id : str
        From `new_track_id` for a new track.
    tracking_uid : str
        The finding UID of its first lesion.
    label : str
        Such as ``M1``, unlike any other of the patient.
    split_from : str or None
        Id of the track of which this is a fragment.
    """

    id: str
    tracking_uid: str
    label: str
    kind: str = "parenchymal"
    compartment: str = "cns"
    split_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class Track(TrackRecord):
    """A recorded track.

    Attributes
    ----------
    role : {'target', 'non_target'} or None
        Set by the reader; None leaves it to the rules.
    progressed_since_treatment : bool or None
        None: not treated locally before baseline.
    revision : int
        Raised by every change a reader makes to the track or its readings.
    """

    patient_key: str
    role: str | None
    progressed_since_treatment: bool | None
    revision: int
    created_at: datetime


@dataclass(frozen=True)
class Member:
    """A finding's place in a track.

    Attributes
    ----------
    relation : {'first', 'same', 'new', 'split', 'merge', 'reappeared'}
    state : {'automatic', 'pending', 'confirmed'}
        Pending waits for the reader.
    cost_mm : float or None
        Of the match.
    by : str or None
        The reader who confirmed it.
    """

    study_uid: str
    finding_uid: str
    track_id: str
    relation: str
    state: str = "automatic"
    cost_mm: float | None = None
    method: str = ""
    by: str | None = None
    at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True)
class TrackReadingRecord:
    """What a reader says of a track at a visit.

    Attributes
    ----------
    state : str or None
        Overrides what was measured; None: only the rest is said.
    into_track_id : str or None
        Of ``merged``: the track that carries the measurement.
    """

    state: str | None = None
    reason: str = ""
    into_track_id: str | None = None
    treated_on: date | None = None
    modality: str = ""
    radionecrosis_suspected: bool = False
    certainty: str | None = None
    projections: int | None = None
    reappearance: str = "undetermined"


@dataclass(frozen=True, kw_only=True)
class TrackReading(TrackReadingRecord):
    """A recorded reading of a track at a visit."""

    track_id: str
    study_uid: str
    author: str
    updated_at: datetime


@dataclass(frozen=True)
class PatientTracks:
    """Everything about the tracks of a patient.

    Attributes
    ----------
    tracks : tuple of Track
        By label, numbers in order.
    """

    tracks: tuple[Track, ...]
    members: tuple[Member, ...]
    readings: tuple[TrackReading, ...]


@dataclass(frozen=True)
class TrackChange:
    """A track before and after, for the audit."""

    before: Track
    after: Track


@dataclass(frozen=True)
class ReadingChange:
    """A reading before (None: there was none) and after, for the audit."""

    before: TrackReading | None
    after: TrackReading
