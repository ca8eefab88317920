"""Tracks, links and registrations of a patient, on both kinds of database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date

import pytest

from db.engine import Engine, Session, reading, transaction
from db.links import DecisionRecord, add_decision, list_decisions, undo_last_decision
from db.patients import lock_patient
from db.plans import EventRecord, add_event, list_events
from db.registrations import (
    RegistrationRecord,
    find_registration,
    list_registrations,
    save_registration,
)
from db.studies import Patient, Series, Study, upsert_study
from db.tracks import (
    Member,
    PatientTracks,
    TrackReadingRecord,
    TrackRecord,
    get_track,
    load_tracks,
    new_track_id,
    save_track_reading,
    save_tracks,
    update_track,
)
from errors import MetiaError
from tests.contract.sample_rows import add_patient, visit_uid

NAME = "phantom-1"


@pytest.fixture
def patient(engine: Engine) -> str:
    return add_patient(engine, NAME, visits=3)


def finding(visit: int, number: int) -> str:
    place = visit_uid(NAME, visit).removeprefix("1.2.")
    return f"2.25.{place}.97.{number}"


def make_tracks(count: int = 2) -> list[TrackRecord]:
    return [
        TrackRecord(new_track_id(), finding(0, number + 1), f"M{number + 1}")
        for number in range(count)
    ]


def member(visit: int, number: int, track: TrackRecord, **other: object) -> Member:
    relation = "same" if visit else "first"
    made = Member(visit_uid(NAME, visit), finding(visit, number), track.id, relation)
    return replace(made, **other)  # type: ignore[arg-type]


def save(
    engine: Engine, patient: str, tracks: list[TrackRecord], members: list[Member]
) -> PatientTracks:
    with transaction(engine) as session:
        lock_patient(session, patient)
        return save_tracks(session, patient, tracks, members)


def load(engine: Engine, patient: str) -> PatientTracks:
    with reading(engine) as session:
        return load_tracks(session, patient)


# -- tracks --------------------------------------------------------------------


def test_tracks_come_back_as_saved(engine: Engine, patient: str) -> None:
    first, second = make_tracks()
    fragment = TrackRecord(
        new_track_id(), finding(2, 2), "M10", split_from=second.id, kind="dural"
    )
    members = [
        member(0, 1, first),
        member(1, 1, first, cost_mm=1.25, method="hungarian", state="automatic"),
        member(2, 2, fragment, relation="split", state="pending", reason="split"),
    ]
    # The fragment stands before the track it came from.
    saved = save(engine, patient, [fragment, first, second], members)
    assert saved == load(engine, patient)
    assert [track.label for track in saved.tracks] == ["M1", "M2", "M10"]
    assert saved.tracks[2].split_from == second.id
    assert saved.tracks[2].kind == "dural"
    assert {track.revision for track in saved.tracks} == {1}
    assert {replace(one, at=None) for one in saved.members} == set(members)
    with reading(engine) as session:
        assert get_track(session, first.id) == saved.tracks[0]


def test_recomputing_keeps_what_a_reader_set_and_since_when(
    engine: Engine, patient: str
) -> None:
    first, second = make_tracks()
    before = save(
        engine, patient, [first, second], [member(0, 1, first), member(0, 2, second)]
    )
    with transaction(engine) as session:
        update_track(
            session,
            first.id,
            {"label": "left frontal", "role": "target", "kind": "dural"},
            expected_revision=1,
        )
    after = save(
        engine,
        patient,
        [first, second],
        [member(0, 1, first), member(0, 2, second, state="confirmed", by="ann")],
    )
    track = next(track for track in after.tracks if track.id == first.id)
    assert (track.label, track.role, track.kind) == ("left frontal", "target", "dural")
    assert track.revision == 2
    since = {one.finding_uid: one.at for one in before.members}
    now = {one.finding_uid: one.at for one in after.members}
    assert now[finding(0, 1)] == since[finding(0, 1)]
    assert now[finding(0, 2)] != since[finding(0, 2)]


def test_track_that_is_gone_goes_unless_a_reader_spoke_of_it(
    engine: Engine, patient: str
) -> None:
    tracks = make_tracks(7)
    renamed, read, decided, event, target, into, plain = tracks
    save(engine, patient, tracks, [member(0, 1, plain), member(0, 2, renamed)])
    study = visit_uid(NAME, 1)
    with transaction(engine) as session:
        update_track(session, renamed.id, {"label": "X"}, expected_revision=1)
        said = TrackReadingRecord(state="merged", into_track_id=into.id)
        save_track_reading(session, read.id, study, said, expected_revision=1, by="ann")
        link = DecisionRecord(study, finding(1, 1), "link", decided.id)
        add_decision(session, patient, link, by="ann")
        done = EventRecord(date(2026, 1, 1), "radiosurgery", track_id=event.id)
        add_event(session, patient, done, by="ann")
        update_track(session, target.id, {"role": "target"}, expected_revision=1)
    left = save(engine, patient, [], [])
    assert {track.id for track in left.tracks} == {
        track.id for track in (renamed, read, decided, event, target, into)
    }
    assert left.members == ()
    assert len(left.readings) == 1


def test_fragment_of_a_track_that_goes_stays(engine: Engine, patient: str) -> None:
    first, second = make_tracks()
    second = replace(second, split_from=first.id)
    save(engine, patient, [first, second], [])
    left = save(engine, patient, [replace(second, split_from=None)], [])
    assert [track.split_from for track in left.tracks] == [None]


def refused(engine: Engine, patient: str, tracks: list[TrackRecord],
            members: list[Member]) -> bool:  # fmt: skip
    with pytest.raises(MetiaError) as caught:
        save(engine, patient, tracks, members)
    return caught.value.code == "conflict"


def test_database_keeps_a_track_to_one_finding_a_visit(
    engine: Engine, patient: str
) -> None:
    first, second = make_tracks()
    good = [member(0, 1, first), member(0, 2, second)]
    before = save(engine, patient, [first, second], good)
    twice_a_visit = [member(0, 1, first), member(0, 2, first)]
    assert refused(engine, patient, [first, second], twice_a_visit)
    one_finding_two_tracks = [member(0, 1, first), member(0, 1, second)]
    assert refused(engine, patient, [first, second], one_finding_two_tracks)
    same_label = [first, replace(make_tracks()[1], label="M1")]
    assert refused(engine, patient, same_label, [])
    same_uid = [first, replace(make_tracks()[0], label="M3")]
    assert refused(engine, patient, same_uid, [])
    assert refused(engine, patient, [first], [member(0, 1, first, relation="aunt")])
    assert refused(engine, patient, [first], [member(0, 1, first, state="sure")])
    assert refused(engine, patient, [first], [member(0, 1, first, cost_mm=-1.0)])
    itself = [replace(make_tracks()[1], id="a" * 32, split_from="a" * 32)]
    assert refused(engine, patient, itself, [])
    assert load(engine, patient) == before


def test_track_of_another_patient_is_refused(engine: Engine, patient: str) -> None:
    other = add_patient(engine, "phantom-2")
    (track,) = make_tracks(1)
    save(engine, patient, [track], [])
    assert refused(engine, other, [replace(track, label="M9")], [])
    with pytest.raises(MetiaError, match="not-found"), transaction(engine) as session:
        save_tracks(session, "0" * 32, [], [])


def test_recomputations_at_once_follow_each_other(engine: Engine, patient: str) -> None:
    """Each reads, computes and writes under the patient's lock."""
    (track,) = make_tracks(1)
    save(engine, patient, [track], [])

    def add_one(number: int) -> None:
        with transaction(engine) as session:
            lock_patient(session, patient)
            there = load_tracks(session, patient)
            new = TrackRecord(new_track_id(), finding(1, number + 10), f"N{number}")
            save_tracks(session, patient, [*there.tracks, new], there.members)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add_one, range(8)))
    assert len(load(engine, patient).tracks) == 9


# -- what readers say of a track -----------------------------------------------


@pytest.fixture
def tracks(engine: Engine, patient: str) -> list[TrackRecord]:
    made = make_tracks()
    save(engine, patient, made, [member(0, 1, made[0]), member(0, 2, made[1])])
    return made


def say(session: Session, track_id: str, revision: int, **said: object) -> object:
    record = TrackReadingRecord(**said)  # type: ignore[arg-type]
    study = visit_uid(NAME, 1)
    return save_track_reading(
        session, track_id, study, record, expected_revision=revision, by="ann"
    )


def test_reading_is_kept_over_recomputing(
    engine: Engine, patient: str, tracks: list[TrackRecord]
) -> None:
    with transaction(engine) as session:
        change = say(
            session,
            tracks[0].id,
            1,
            state="locally_treated",
            treated_on=date(2026, 2, 3),
            modality="radiosurgery",
            radionecrosis_suspected=True,
        )
    after = save(engine, patient, tracks, [])
    assert change.before is None  # type: ignore[attr-defined]
    assert after.readings == (change.after,)  # type: ignore[attr-defined]
    assert after.readings[0].treated_on == date(2026, 2, 3)
    assert after.tracks[0].revision == 2
    with transaction(engine) as session:
        second = say(session, tracks[0].id, 2, certainty="equivocal", projections=2)
    assert second.before == change.after  # type: ignore[attr-defined]
    assert second.after.state is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "said",
    [
        {"state": "vanished"},
        {"state": "merged"},
        {"state": "locally_treated"},
        {"state": "locally_treated", "treated_on": date(2026, 1, 1)},
        {"state": "not_assessed"},
        {"certainty": "perhaps"},
        {"projections": 0},
        {"reappearance": "who knows"},
    ],
)
def test_database_refuses_a_reading(
    engine: Engine, tracks: list[TrackRecord], said: dict[str, object]
) -> None:
    with pytest.raises(MetiaError, match="conflict"), transaction(engine) as session:
        say(session, tracks[0].id, 1, **said)


def test_lesion_cannot_merge_into_itself_or_another_patients(
    engine: Engine, tracks: list[TrackRecord]
) -> None:
    for into in (tracks[0].id, "0" * 32):
        with pytest.raises(MetiaError), transaction(engine) as session:
            say(session, tracks[0].id, 1, state="merged", into_track_id=into)


def test_of_two_readers_of_a_track_exactly_one_wins(
    engine: Engine, patient: str, tracks: list[TrackRecord]
) -> None:
    def write(number: int) -> str:
        try:
            with transaction(engine) as session:
                if number % 2:
                    say(session, tracks[0].id, 1, state="absent")
                else:
                    changes = {"label": f"L{number}"}
                    update_track(session, tracks[0].id, changes, expected_revision=1)
        except MetiaError as error:
            return f"{error.code} {error.facts}"
        return "done"

    with ThreadPoolExecutor(4) as pool:
        done = sorted(pool.map(write, range(4)))
    assert done == ["done", *["edit-conflict {'current_revision': 2}"] * 3]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"label": "M2"}, "conflict"),
        ({"label": ""}, "conflict"),
        ({"role": "king"}, "conflict"),
        ({"kind": "unheard_of"}, "conflict"),
        ({"tracking_uid": "2.25.1"}, "invalid-input"),
        ({"revision": "9"}, "invalid-input"),
    ],
)
def test_change_of_a_track_is_refused(
    engine: Engine, tracks: list[TrackRecord], changes: dict[str, str], code: str
) -> None:
    with pytest.raises(MetiaError, match=code), transaction(engine) as session:
        update_track(session, tracks[0].id, changes, expected_revision=1)


def test_unknown_track_is_not_found(engine: Engine) -> None:
    with pytest.raises(MetiaError, match="not-found"), transaction(engine) as session:
        say(session, "0" * 32, 1, state="absent")
    with pytest.raises(MetiaError, match="not-found"), reading(engine) as session:
        get_track(session, "0" * 32)


# -- decisions -----------------------------------------------------------------


def test_decisions_are_undone_one_by_one_and_never_lost(
    engine: Engine, patient: str, tracks: list[TrackRecord]
) -> None:
    study = visit_uid(NAME, 1)
    link = DecisionRecord(study, finding(1, 1), "link", tracks[0].id)
    records = [link, DecisionRecord(study, finding(1, 2), "new")]
    with transaction(engine) as session:
        made = [add_decision(session, patient, one, by="ann") for one in records]
    with transaction(engine) as session:
        assert list_decisions(session, patient) == tuple(made)
        assert undo_last_decision(session, patient, by="bob").id == made[1].id
        assert list_decisions(session, patient) == (made[0],)
        assert undo_last_decision(session, patient, by="bob").id == made[0].id
        with pytest.raises(MetiaError, match="conflict"):
            undo_last_decision(session, patient, by="bob")
    with transaction(engine) as session:
        (third,) = [add_decision(session, patient, link, by="ann")]
        assert list_decisions(session, patient) == (third,)
        every = list_decisions(session, patient, with_undone=True)
        assert [one.undone_by for one in every] == ["bob", "bob", None]


def test_decision_about_another_patient_is_refused(
    engine: Engine, patient: str, tracks: list[TrackRecord]
) -> None:
    other = add_patient(engine, "phantom-2")
    study, others_study = visit_uid(NAME, 1), visit_uid("phantom-2", 0)
    for key, record in (
        (patient, DecisionRecord(others_study, finding(1, 1), "new")),
        (other, DecisionRecord(study, finding(1, 1), "new")),
        (other, DecisionRecord(others_study, "2.25.1", "link", tracks[0].id)),
        (patient, DecisionRecord(study, finding(1, 1), "link")),
        (patient, DecisionRecord("1.2.999", finding(1, 1), "new")),
    ):
        with (
            pytest.raises(MetiaError, match="invalid-input"),
            transaction(engine) as session,
        ):
            add_decision(session, key, record, by="ann")


def test_undoing_at_once_undoes_different_ones(
    engine: Engine, patient: str, tracks: list[TrackRecord]
) -> None:
    study = visit_uid(NAME, 1)
    with transaction(engine) as session:
        for number in range(4):
            record = DecisionRecord(study, finding(1, number + 1), "confirm")
            add_decision(session, patient, record, by="ann")

    def undo(_: int) -> int:
        with transaction(engine) as session:
            return undo_last_decision(session, patient, by="bob").id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(undo, range(4)))) == 4


# -- registrations -------------------------------------------------------------

IDENTITY = tuple(tuple(float(row == column) for column in range(4)) for row in range(4))


def series(number: int) -> str:
    return f"{visit_uid(NAME, number)}.1"


def make_registration(moving: int, **other: object) -> RegistrationRecord:
    made = RegistrationRecord(
        moving_series_uid=series(moving),
        fixed_series_uid=series(0),
        matrix=IDENTITY,
        quality=0.93,
        accepted=True,
        reason="",
        method="rigid 1",
    )
    return replace(made, **other)  # type: ignore[arg-type]


def test_registration_replaces_the_one_of_the_same_series(
    engine: Engine, patient: str
) -> None:
    with transaction(engine) as session:
        save_registration(session, make_registration(1))
        poor = make_registration(
            2, matrix=None, quality=None, accepted=False, reason="low-overlap"
        )
        save_registration(session, poor)
    with transaction(engine) as session:
        again = save_registration(session, make_registration(1, quality=0.97))
    with reading(engine) as session:
        assert find_registration(session, series(1), series(0)) == again
        assert again.matrix == IDENTITY
        found = list_registrations(session, series(0), [series(1), series(2), "9"])
        assert set(found) == {series(1), series(2)}
        assert found[series(2)].reason == "low-overlap"
        assert find_registration(session, series(0), series(1)) is None


@pytest.mark.parametrize(
    "other",
    [
        {"matrix": None},
        {"fixed_series_uid": "9.9"},
        {"quality": float("inf")},
    ],
)
def test_database_refuses_a_registration(
    engine: Engine, patient: str, other: dict[str, object]
) -> None:
    with pytest.raises(MetiaError, match="conflict"), transaction(engine) as session:
        save_registration(session, make_registration(1, **other))
    with pytest.raises(MetiaError, match="conflict"), transaction(engine) as session:
        save_registration(session, make_registration(0))


# -- a study that turns out to be another patient's ----------------------------


def test_study_takes_its_findings_along_when_it_moves(
    engine: Engine, patient: str
) -> None:
    first, second = make_tracks()
    later = TrackRecord(new_track_id(), finding(1, 1), "M3", split_from=first.id)
    save(
        engine,
        patient,
        [first, second, later],
        [member(0, 1, first), member(1, 2, second), member(1, 1, later)],
    )
    with transaction(engine) as session:
        save_registration(session, make_registration(1))
        save_registration(
            session, replace(make_registration(1), fixed_series_uid=series(2))
        )
        for number, track in enumerate((first, second, later)):
            study = visit_uid(NAME, number)
            said = TrackReadingRecord(state="absent")
            save_track_reading(
                session, track.id, study, said, expected_revision=1, by="ann"
            )
        merged = TrackReadingRecord(state="merged", into_track_id=first.id)
        save_track_reading(
            session, later.id, visit_uid(NAME, 1), merged, expected_revision=2, by="a"
        )
        link = DecisionRecord(visit_uid(NAME, 1), finding(1, 1), "link", first.id)
        add_decision(session, patient, link, by="ann")
        event = EventRecord(date(2026, 1, 1), "radiosurgery", track_id=first.id)
        add_event(session, patient, event, by="ann")
    with transaction(engine) as session:
        changed = upsert_study(
            session,
            Patient(patient_id="phantom-2"),
            Study(visit_uid(NAME, 0), study_date="20100101"),
            Series(series(0)),
        )
    assert patient in changed
    assert len(changed) == 2
    left = load(engine, patient)
    # M1 and M2 were born in the study that left.
    assert [track.label for track in left.tracks] == ["M3"]
    assert left.tracks[0].split_from is None
    assert [one.finding_uid for one in left.members] == [finding(1, 1)]
    assert [(one.track_id, one.state) for one in left.readings] == [
        (later.id, "absent")
    ]
    with reading(engine) as session:
        assert list_decisions(session, patient) == ()
        assert [one.track_id for one in list_events(session, patient)] == [None]
        assert find_registration(session, series(1), series(0)) is None
        assert find_registration(session, series(1), series(2)) is not None
