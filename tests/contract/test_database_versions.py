"""Versions of results and what readers say of them, on both kinds of database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text

from db.engine import Engine, reading, transaction
from db.results import Result, get_result, list_versions, record_result
from db.reviews import require_head, review_result, sign_result
from errors import MetiaError
from tests.contract.sample_rows import (
    add_visit,
    make_version,
    make_visit_record,
    visit_uid,
)


def read(engine: Engine, result_id: str) -> Result:
    with reading(engine) as session:
        return get_result(session, result_id)


def add_version(engine: Engine, before: Result, letter: str, **other: object) -> Result:
    with transaction(engine) as session:
        record = make_version(before, letter, **other)
        made = record_result(session, record, expected_revision=before.revision)
    return read(engine, made)


@pytest.fixture
def first(engine: Engine) -> Result:
    return read(engine, add_visit(engine, "phantom-1", 0))


def outcome(engine: Engine, result_id: str, revision: int, **said: object) -> str:
    try:
        with transaction(engine) as session:
            review_result(session, result_id, expected_revision=revision, **said)  # type: ignore[arg-type]
    except MetiaError as error:
        return error.code
    return "done"


# -- versions ------------------------------------------------------------------


def test_edit_is_a_new_version_and_the_old_one_stays(
    engine: Engine, first: Result
) -> None:
    second = add_version(engine, first, "b", note="edge moved")
    assert read(engine, first.id) == first
    assert (second.origin, second.version, second.revision) == ("reader", 2, 1)
    assert (second.predecessor_id, second.author) == (first.id, "reader-b")
    assert (second.state, second.note) == ("edited", "edge moved")
    assert [one.finding_uid for one in second.lesions] == [
        one.finding_uid for one in first.lesions
    ]
    third = add_version(engine, second, "c")
    for one in (first, second, third):
        with reading(engine) as session:
            assert list_versions(session, one.id) == (first, second, third)


def test_new_lesion_is_born_with_its_tracking_uid(
    engine: Engine, first: Result
) -> None:
    lesion = first.lesions[0]
    drawn = replace(
        make_version(first, "b").lesions[0],
        segment_number=3,
        tracking_uid="2.25.777",
        finding_uid="",
        probability=None,
        peak_probability=None,
        algorithm_type="MANUAL",
        diameter_3d_mm=9.5,
        diameter_3d_axis_mm=lesion.long_axis_mm,
        measurable=False,
        measurable_reasons=("diameter-below-10",),
    )
    second = add_version(
        engine, first, "b", lesions=(*make_version(first, "b").lesions, drawn)
    )
    found = second.lesions[2]
    assert found.finding_uid == "2.25.777"
    assert (found.probability, found.peak_probability) == (None, None)
    assert (found.measurable, found.measurable_reasons) == (
        False,
        ("diameter-below-10",),
    )
    assert found.diameter_3d_axis_mm == lesion.long_axis_mm


def test_everything_deleted_is_a_version_of_its_own(
    engine: Engine, first: Result
) -> None:
    """Not the same as a model's finding nothing."""
    empty = {"lesions": (), "segmentation_sop_uid": None,
             "segmentation_series_uid": None}  # fmt: skip
    nothing = add_visit(
        engine, "phantom-1", 0, lesions=0, parameters={"threshold": 0.5}
    )
    second = add_version(engine, first, "b", **empty)
    assert second.id not in {nothing, first.id}
    assert second.lesions == ()
    third = add_version(engine, second, "c", **empty)
    assert third.version == 3


def test_restored_version_shows_the_object_of_the_old_one(
    engine: Engine, first: Result
) -> None:
    second = add_version(engine, first, "b")
    same = {"segmentation_sop_uid": first.segmentation_sop_uid}
    third = add_version(engine, second, "c", **same)
    assert third.segmentation_sop_uid == first.segmentation_sop_uid
    assert third.version == 3
    # The model's run repeated is still the first version.
    assert add_visit(engine, "phantom-1", 0) == first.id


def test_version_repeated_is_recorded_once(engine: Engine, first: Result) -> None:
    second = add_version(engine, first, "b")
    assert add_version(engine, first, "b") == second


def test_superseded_version_cannot_be_edited(engine: Engine, first: Result) -> None:
    second = add_version(engine, first, "b")
    with pytest.raises(MetiaError) as caught:
        add_version(engine, first, "c")
    assert caught.value.code == "edit-conflict"
    assert caught.value.facts == {
        "current_result_id": second.id,
        "current_revision": 1,
    }
    with (
        pytest.raises(MetiaError, match="edit-conflict"),
        transaction(engine) as session,
    ):
        require_head(session, first.id, 1)
    with transaction(engine) as session:
        assert require_head(session, second.id, 1) == second


def test_edit_of_a_revision_that_was_reviewed_meanwhile_is_refused(
    engine: Engine, first: Result
) -> None:
    assert outcome(engine, first.id, 1, state="accepted") == "done"
    with pytest.raises(MetiaError) as caught:
        add_version(engine, first, "b")
    assert caught.value.facts == {"current_result_id": first.id, "current_revision": 2}


@pytest.mark.parametrize("round_number", range(3))
def test_of_two_editors_exactly_one_wins(
    engine: Engine, first: Result, round_number: int
) -> None:
    def save(letter: str) -> str:
        try:
            return add_version(engine, first, letter).id
        except MetiaError as error:
            return error.code

    with ThreadPoolExecutor(4) as pool:
        done = sorted(pool.map(save, "bcde"))
    assert done.count("edit-conflict") == 3, (round_number, done)


def test_second_chain_keeps_both(engine: Engine, first: Result) -> None:
    add_version(engine, first, "b")
    other = add_version(engine, first, "c", predecessor_id=None)
    assert (other.version, other.predecessor_id) == (1, None)
    with reading(engine) as session:
        assert len(list_versions(session, first.id)) == 2
        assert len(list_versions(session, other.id)) == 1


def test_version_of_another_study_is_refused(engine: Engine, first: Result) -> None:
    add_visit(engine, "phantom-1", 1)
    with pytest.raises(MetiaError, match="invalid-input"):
        add_version(engine, first, "b", series_uid=f"{visit_uid('phantom-1', 1)}.1")


@pytest.mark.parametrize(
    "change",
    [
        {"author": None},
        {"author": ""},
        {"origin": "model"},
        {"origin": "somebody"},
        {"state": "signed"},
        {"model": None, "origin": "model", "predecessor_id": None},
        {"slice_thickness_mm": 0.0},
    ],
)
def test_database_refuses_a_version(
    engine: Engine, first: Result, change: dict[str, object]
) -> None:
    with pytest.raises(MetiaError, match="conflict"):
        add_version(engine, first, "b", **change)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE result SET version = 1 WHERE version = 2",
        "UPDATE result SET version = 2 WHERE version = 1",
        "UPDATE result SET revision = 0",
        "UPDATE result SET state = 'signed'",
        "UPDATE result SET signed_by = 'ann'",
        "UPDATE lesion SET review = 'maybe'",
        "UPDATE lesion SET method = 'by-eye'",
        "UPDATE lesion SET algorithm_type = 'MAGIC'",
        "UPDATE lesion SET finding_uid = '2.25.5'",
        "UPDATE lesion SET diameter_3d_mm = 0",
    ],
)
def test_database_keeps_the_rules(
    engine: Engine, first: Result, statement: str
) -> None:
    add_version(engine, first, "b")
    with pytest.raises(MetiaError, match="conflict"), transaction(engine) as session:
        session.execute(text(statement))


def test_import_needs_no_model(engine: Engine, first: Result) -> None:
    record = replace(
        make_visit_record(visit_uid("phantom-1", 0), letter="i"),
        origin="import",
        author="ann",
        model=None,
        spacing_mm=(1.0, 0.9, 0.8),
        slice_thickness_mm=1.2,
        segmentation_label="Imported",
    )
    with transaction(engine) as session:
        made = record_result(session, record)
    result = read(engine, made)
    assert (result.model, result.origin, result.state) == (None, "import", "unverified")
    assert (result.spacing_mm, result.slice_thickness_mm) == ((1.0, 0.9, 0.8), 1.2)
    assert result.segmentation_label == "Imported"


# -- reviews -------------------------------------------------------------------


def test_review_tells_before_and_after(engine: Engine, first: Result) -> None:
    lesion = first.lesions[1]
    with transaction(engine) as session:
        change = review_result(
            session,
            first.id,
            expected_revision=1,
            state="accepted",
            lesions={lesion.id: "rejected"},
        )
    assert change.before == first
    assert (change.after.state, change.after.revision) == ("accepted", 2)
    assert [one.review for one in change.after.lesions] == ["unverified", "rejected"]
    assert read(engine, first.id) == change.after


def test_review_that_changes_nothing_counts_for_nothing(
    engine: Engine, first: Result
) -> None:
    assert outcome(engine, first.id, 1, state="unverified", lesions={}) == "done"
    assert read(engine, first.id) == first


@pytest.mark.parametrize(
    ("revision", "said", "code"),
    [
        (2, {"state": "accepted"}, "edit-conflict"),
        (0, {"state": "accepted"}, "edit-conflict"),
        (1, {"state": "signed"}, "invalid-input"),
        (1, {"state": "verified"}, "invalid-input"),
        (1, {"lesions": {"0" * 32: "accepted"}}, "invalid-input"),
    ],
)
def test_review_is_refused_and_changes_nothing(
    engine: Engine, first: Result, revision: int, said: dict[str, object], code: str
) -> None:
    assert outcome(engine, first.id, revision, **said) == code
    assert read(engine, first.id) == first


def test_unknown_word_for_a_lesion_is_refused(engine: Engine, first: Result) -> None:
    lesions = {first.lesions[0].id: "maybe"}
    assert outcome(engine, first.id, 1, lesions=lesions) == "invalid-input"
    assert read(engine, first.id) == first


def test_unknown_result_cannot_be_reviewed(engine: Engine) -> None:
    assert outcome(engine, "0" * 32, 1, state="accepted") == "not-found"


def test_superseded_version_cannot_be_reviewed(engine: Engine, first: Result) -> None:
    add_version(engine, first, "b")
    assert outcome(engine, first.id, 1, state="rejected") == "edit-conflict"


@pytest.mark.parametrize("round_number", range(3))
def test_of_two_reviewers_exactly_one_wins(
    engine: Engine, first: Result, round_number: int
) -> None:
    states = ("accepted", "rejected", "edited", "accepted")
    with ThreadPoolExecutor(4) as pool:
        done = list(
            pool.map(lambda state: outcome(engine, first.id, 1, state=state), states)
        )
    assert sorted(done) == ["done", *["edit-conflict"] * 3], round_number
    assert read(engine, first.id).state == states[done.index("done")]


def test_reviewer_and_editor_at_once_lose_nothing(
    engine: Engine, first: Result
) -> None:
    def edit(_: int) -> str:
        try:
            add_version(engine, first, "b")
        except MetiaError as error:
            return error.code
        return "done"

    with ThreadPoolExecutor(2) as pool:
        edited = pool.submit(edit, 0)
        reviewed = pool.submit(outcome, engine, first.id, 1, state="rejected")
        done = sorted((edited.result(), reviewed.result()))
    assert done == ["done", "edit-conflict"]


def test_signature_ends_all_changes(engine: Engine, first: Result) -> None:
    assert outcome(engine, first.id, 1, state="accepted") == "done"
    with transaction(engine) as session:
        change = sign_result(session, first.id, expected_revision=2, by="ann")
    assert (change.before.state, change.after.state) == ("accepted", "signed")
    assert (change.after.signed_by, change.after.revision) == ("ann", 3)
    assert change.after.signed_at is not None
    assert outcome(engine, first.id, 3, state="rejected") == "conflict"
    lesions = {first.lesions[0].id: "rejected"}
    assert outcome(engine, first.id, 3, lesions=lesions) == "conflict"
    with transaction(engine) as session:
        again = sign_result(session, first.id, expected_revision=3, by="bob")
    assert again.after.signed_by == "ann"
    assert add_version(engine, change.after, "b").version == 2


@pytest.mark.parametrize("state", ["unverified", "rejected"])
def test_what_was_not_accepted_cannot_be_signed(
    engine: Engine, first: Result, state: str
) -> None:
    outcome(engine, first.id, 1, state=state)
    revision = read(engine, first.id).revision
    with pytest.raises(MetiaError, match="conflict"), transaction(engine) as session:
        sign_result(session, first.id, expected_revision=revision, by="ann")
