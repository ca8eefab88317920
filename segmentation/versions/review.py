"""A reader's word on a result: accept, reject, take back, name, delete.

``change_result`` sorts a request: what concerns the state and the reviews only changes
the record, with before and after in the audit; a name or a deletion makes a new version
(``corrections.rewrite``), which takes the reviews along. ``sign`` is for whoever signs
an assessment. Safe between threads.
"""

from __future__ import annotations

from dataclasses import dataclass

from db import audit
from db.engine import Engine, Session, reading, transaction
from db.results import Result, get_result
from db.reviews import Change, review_result, sign_result
from orthanc.archive import Archive
from segmentation.followup.linking import relink_study
from segmentation.versions.corrections import Reader, Rewriting, rewrite, summary


@dataclass(frozen=True)
class LesionChange:
    """What shall become different of one lesion; None leaves it as it is."""

    id: str
    review: str | None = None
    name: str | None = None
    deleted: bool = False


def change_result(
    engine: Engine,
    archive: Archive,
    result_id: str,
    *,
    revision: int,
    state: str | None,
    lesions: tuple[LesionChange, ...],
    note: str,
    reader: Reader,
) -> Result:
    """Do what a reader asks of a result.

    Returns
    -------
    Result
        The result itself, or the new version.

    Raises
    ------
    MetiaError
        ``not-found``, ``edit-conflict``, ``conflict`` (signed), ``invalid-input``, and
        those of ``corrections.rewrite``.
    """
    with reading(engine) as session:
        present = {one.id: one.name for one in get_result(session, result_id).lesions}
    names = {
        one.id: one.name
        for one in lesions
        if one.name is not None and one.name != present.get(one.id)
    }
    deleted = frozenset(one.id for one in lesions if one.deleted)
    reviews = {one.id: one.review for one in lesions if one.review is not None}
    if names or deleted:
        asked = Rewriting(names, deleted, reviews, state, note)
        return rewrite(engine, archive, result_id, revision, asked, reader)
    with transaction(engine) as session:
        change = review_result(
            session,
            result_id,
            expected_revision=revision,
            state=state,
            lesions=reviews,
        )
        _note(session, change, "result-review", reader)
        if change.before != change.after:
            relink_study(session, change.after.study_uid)
        return change.after


def sign(session: Session, result_id: str, *, revision: int, reader: Reader) -> Result:
    """Sign a result within a transaction of the caller's.

    Raises
    ------
    MetiaError
        ``not-found``, ``edit-conflict``; ``conflict`` unless accepted or edited.
    """
    change = sign_result(session, result_id, expected_revision=revision, by=reader.name)
    _note(session, change, "result-sign", reader)
    return change.after


def _note(session: Session, change: Change, action: str, reader: Reader) -> None:
    """Write what was and what is; nothing where nothing changed."""
    if change.before == change.after:
        return
    audit.append(
        session,
        actor=reader.name,
        action=action,
        subject=f"result:{change.after.id}",
        details={"before": summary(change.before), "after": summary(change.after)},
        request_id=reader.request_id,
    )
