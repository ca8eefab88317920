"""Slows down who guesses passwords, over all web processes and restarts.

Each attempt is noted in the audit before the password is looked at, so that many at
once cannot slip through, and is counted by user and address, by user alone and by
address alone. Names are kept as hashes: people sometimes type their password there.
Functions take a writing ``Session``; on SQLite its write lock makes the count exact, on
PostgreSQL attempts in the same instant may exceed it by as many.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from db import audit
from db.audit import AuditEntry
from db.engine import Session, database_time
from errors import MetiaError

WINDOW = timedelta(minutes=15)
LIMIT_USER_AND_ADDRESS = 5
LIMIT_USER = 30
"""From all addresses together; a botnet, at the price that its victim waits too."""
LIMIT_ADDRESS = 100
"""A hospital may reach us through one address."""

_ATTEMPT = "login-attempt"
_PASSED = "login-passed"


def admit_attempt(
    session: Session, username: str, address: str, request_id: str
) -> None:
    """Note an attempt to log in, or refuse it.

    Parameters
    ----------
    session : Session
        Of a transaction of its own, which must be committed before the password is
        checked.
    username, address : str
        Who is tried, and from where.
    request_id : str
        For the audit.

    Raises
    ------
    MetiaError
        ``too-many-requests`` with the fact ``retry_after_s``.
    """
    now = database_time(session)
    by_user = _recent(session, _user_key(username), LIMIT_USER, now)
    by_address = _recent(session, _address_key(address), LIMIT_ADDRESS, now)
    here = [entry for entry in by_user if entry.details.get("address") == address]
    passed = next((n for n, entry in enumerate(here) if entry.action == _PASSED), None)
    tried = [entry for entry in by_user if entry.action == _ATTEMPT]
    for attempts, limit in (
        (here[:passed], LIMIT_USER_AND_ADDRESS),
        (tried, LIMIT_USER),
        (by_address, LIMIT_ADDRESS),
    ):
        if len(attempts) >= limit:
            wait_s = (attempts[limit - 1].at + WINDOW - now).total_seconds()
            raise MetiaError(
                "too-many-requests",
                "There were too many attempts to log in.",
                {"retry_after_s": max(1, round(wait_s))},
            )
    for key in (_user_key(username), _address_key(address)):
        _note(session, _ATTEMPT, key, address, request_id)


def note_passed(session: Session, username: str, address: str, request_id: str) -> None:
    """Forgive the attempts from this address, as the right password was given."""
    _note(session, _PASSED, _user_key(username), address, request_id)


def _recent(session: Session, key: str, limit: int, now: datetime) -> list[AuditEntry]:
    """Read the newest entries of a key; twice the limit, as some tell of success."""
    newest = audit.entries(session, subject=key, limit=2 * limit)
    return [entry for entry in newest if entry.at > now - WINDOW]


def _note(
    session: Session, action: str, key: str, address: str, request_id: str
) -> None:
    audit.append(
        session,
        actor=None,
        action=action,
        subject=key,
        details={"address": address},
        request_id=request_id,
    )


def _user_key(username: str) -> str:
    digest = hashlib.sha256(username.encode("utf-8", "replace")).hexdigest()
    return f"login:user:{digest[:32]}"


def _address_key(address: str) -> str:
    return f"login:address:{address[:64]}"
