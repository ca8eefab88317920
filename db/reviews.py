"""What readers say of a result: its state, the review of its lesions, the signature.

A write names the revision its maker saw; if another was faster it gets
``edit-conflict`` and changes nothing. Only the newest version of a chain can be
reviewed, and a signed one never changes again (its successor may). Each function gives
what was before and what is after, for the audit entry that the caller writes in the
same transaction. Functions take a writing ``Session``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.engine import database_time
from db.models import LesionRow, ResultRow
from db.patients import touch_series
from db.results import Result, get_result, lock_head
from db.tables_results import LESION_REVIEWS
from errors import MetiaError

REVIEW_STATES = ("unverified", "accepted", "edited", "rejected")
"""States that a reader can set; ``signed`` comes from `sign_result` alone."""


@dataclass(frozen=True)
class Change:
    """A result before and after a review."""

    before: Result
    after: Result


def review_result(
    session: Session,
    result_id: str,
    *,
    expected_revision: int,
    state: str | None = None,
    lesions: Mapping[str, str] | None = None,
) -> Change:
    """Change the state of a result, the review of some of its lesions, or both.

    Nothing is written, and the revision stays, where all is as asked already.

    Parameters
    ----------
    session : Session
    result_id : str
    expected_revision : int
        The one the reader saw.
    state : {'unverified', 'accepted', 'edited', 'rejected'}, optional
    lesions : mapping, optional
        Lesion id to ``unverified``, ``accepted`` or ``rejected``.

    Raises
    ------
    MetiaError
        ``not-found``; ``edit-conflict`` with ``current_result_id`` and
        ``current_revision``; ``conflict`` where the result is signed;
        ``invalid-input`` for a lesion of another result or an unknown state.
    """
    row = _hold(session, result_id, expected_revision)
    before = get_result(session, row.id)
    if row.state == "signed":
        raise MetiaError("conflict", "A signed result is not changed any more.")
    if state not in (None, *REVIEW_STATES):
        raise MetiaError("invalid-input", "There is no such state of a result.")
    changed = _review_lesions(session, row, lesions or {})
    if state is not None and state != row.state:
        row.state = state
        changed = True
    if changed:
        row.revision += 1
        session.flush()
    return _change(session, before)


def sign_result(
    session: Session, result_id: str, *, expected_revision: int, by: str
) -> Change:
    """Sign a result with the reader's name; signing again changes nothing.

    Raises
    ------
    MetiaError
        ``not-found``; ``edit-conflict``; ``conflict`` unless it was accepted or edited.
    """
    row = _hold(session, result_id, expected_revision)
    before = get_result(session, row.id)
    if row.state == "signed":
        return Change(before, before)
    if row.state not in {"accepted", "edited"}:
        raise MetiaError("conflict", "Only an accepted or edited result can be signed.")
    row.signed_at = database_time(session)
    row.signed_by = by
    row.state = "signed"
    row.revision += 1
    session.flush()
    return _change(session, before)


def require_head(session: Session, result_id: str, expected_revision: int) -> Result:
    """Read a result that is about to be succeeded by a new version.

    To be asked before the work on the new version; ``db.results.record_result`` asks
    again, with the row locked.

    Raises
    ------
    MetiaError
        ``not-found``; ``edit-conflict`` with ``current_result_id`` and
        ``current_revision``.
    """
    lock_head(session, result_id, expected_revision)
    return get_result(session, result_id)


def _hold(session: Session, result_id: str, expected_revision: int) -> ResultRow:
    series_uid = session.scalar(
        select(ResultRow.series_uid).where(ResultRow.id == result_id)
    )
    if series_uid is not None:
        touch_series(session, series_uid)
    return lock_head(session, result_id, expected_revision)


def _review_lesions(
    session: Session, row: ResultRow, reviews: Mapping[str, str]
) -> bool:
    own = {
        lesion.id: lesion
        for lesion in session.scalars(
            select(LesionRow).where(LesionRow.result_id == row.id)
        )
    }
    changed = False
    if not set(reviews.values()) <= set(LESION_REVIEWS):
        raise MetiaError("invalid-input", "There is no such review of a lesion.")
    for lesion_id, review in reviews.items():
        if lesion_id not in own:
            raise MetiaError("invalid-input", "A lesion is not one of this result.")
        if own[lesion_id].review != review:
            own[lesion_id].review = review
            changed = True
    return changed


def _change(session: Session, before: Result) -> Change:
    # What was loaded for `before` would be given again.
    session.expire_all()
    return Change(before, get_result(session, before.id))
