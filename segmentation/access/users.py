"""Logging in and out, finding who asks, and keeping users and API tokens.

Every change is audited in its own transaction. Users are never deleted, only disabled;
with a change of role, password or activity all sessions of the user end (the database
layer sees to it), and tokens of disabled users are not accepted. Nothing here knows of
HTTP. Safe between threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from db import audit
from db import users as rows
from db.engine import Engine, Session, database_time, reading, transaction
from db.users import ApiToken, Role, User
from errors import MetiaError
from segmentation.access.identity import IdentityProvider, Principal
from segmentation.access.passwords import hash_password, new_password
from segmentation.access.throttle import admit_attempt, note_passed
from segmentation.access.tokens import (
    hash_token,
    is_api_token,
    is_session_token,
    new_api_token,
    new_session_token,
)

FIRST_ADMIN = "admin"
MAX_TOKENS = 20
_TOUCH_AFTER = timedelta(minutes=1)


@dataclass(frozen=True)
class Change:
    """Who makes a change, by which request (both for the audit)."""

    actor: str | None
    request_id: str | None = None

    def note(
        self, session: Session, action: str, subject: str, **details: object
    ) -> None:
        """Write the audit's row about it."""
        audit.append(
            session,
            actor=self.actor,
            action=action,
            subject=subject,
            details=details,
            request_id=self.request_id,
        )


# -- sessions ------------------------------------------------------------------


def log_in(
    engine: Engine,
    provider: IdentityProvider,
    credentials: Mapping[str, str],
    *,
    address: str,
    session_hours: float,
    former_session: str | None,
    request_id: str,
) -> tuple[Principal, str]:
    """Check credentials and open a new session.

    Parameters
    ----------
    engine : Engine
        The database.
    provider : IdentityProvider
        Checks the credentials.
    credentials : mapping
        What the visitor sent; ``username`` is throttled by.
    address : str
        Where from.
    session_hours : float
        How long the session lasts.
    former_session : str or None
        Token of the session the browser had; it ends.
    request_id : str
        For the audit.

    Returns
    -------
    tuple
        Who it is, and the token of the new session.

    Raises
    ------
    MetiaError
        ``not-authenticated`` or ``too-many-requests``.
    """
    username = credentials.get("username", "")
    with transaction(engine) as session:
        admit_attempt(session, username, address, request_id)
    user = provider.authenticate(credentials)
    if user is None:
        with transaction(engine) as session:
            known = rows.find_user(session, username) is not None
            subject = f"user:{username}" if known else "user:unknown"
            Change(None, request_id).note(
                session, "login-failed", subject, address=address
            )
        raise MetiaError("not-authenticated", "User name or password is not right.")
    token = new_session_token()
    with transaction(engine) as session:
        note_passed(session, username, address, request_id)
        if former_session:
            rows.close_session(session, hash_token(former_session))
        rows.open_session(
            session,
            user_name=user.name,
            token_hash=hash_token(token),
            lifetime=timedelta(hours=session_hours),
        )
        Change(user.name, request_id).note(
            session, "login", f"user:{user.name}", address=address
        )
    return _principal(user, token), token


def log_out(engine: Engine, who: Principal, request_id: str) -> None:
    """End a session."""
    if who.session_token is None:
        return
    with transaction(engine) as session:
        rows.close_session(session, hash_token(who.session_token))
        Change(who.name, request_id).note(session, "logout", f"user:{who.name}")


def principal_of_session(engine: Engine, token: str) -> Principal | None:
    """Give who a session belongs to; None where it is not valid (any more)."""
    if not is_session_token(token):
        return None
    with reading(engine) as session:
        user = rows.find_session_user(session, hash_token(token))
    return _principal(user, token) if user else None


def principal_of_token(engine: Engine, secret: str) -> Principal | None:
    """Give who an API token belongs to; None where it is not valid (any more)."""
    if not is_api_token(secret):
        return None
    with reading(engine) as session:
        found = rows.find_token_user(session, hash_token(secret))
        now = database_time(session)
    if found is None:
        return None
    user, token = found
    if token.last_used_at is None or token.last_used_at < now - _TOUCH_AFTER:
        with transaction(engine) as session:
            rows.touch_token(session, token.id)
    return _principal(user, None)


def _principal(user: User, session_token: str | None) -> Principal:
    return Principal(user.name, user.display_name, user.role, session_token)


# -- users ---------------------------------------------------------------------


def ensure_first_admin(engine: Engine) -> str | None:
    """Make the first administrator, called ``admin``, where there is no user yet.

    Returns
    -------
    str or None
        The generated password, to be shown once and kept nowhere; None where there
        are users already.
    """
    password = new_password()
    hashed = hash_password(password)
    with transaction(engine) as session:
        if rows.count_users(session):
            return None
        rows.create_user(
            session,
            name=FIRST_ADMIN,
            display_name="Administrator",
            role="admin",
            password_hash=hashed,
        )
        Change(None).note(session, "user-make", f"user:{FIRST_ADMIN}", role="admin")
    return password


def list_users(engine: Engine) -> tuple[User, ...]:
    """List all users."""
    with reading(engine) as session:
        return rows.list_users(session)


def make_user(
    engine: Engine,
    change: Change,
    *,
    name: str,
    role: Role,
    password: str,
    display_name: str = "",
) -> User:
    """Make a user.

    Raises
    ------
    MetiaError
        ``conflict`` where the name is taken, ``invalid-input`` for a weak password.
    """
    hashed = hash_password(password)
    with transaction(engine) as session:
        user = rows.create_user(
            session,
            name=name,
            display_name=display_name or name,
            role=role,
            password_hash=hashed,
        )
        change.note(session, "user-make", f"user:{name}", role=role)
    return user


def change_user(
    engine: Engine,
    change: Change,
    name: str,
    *,
    display_name: str | None = None,
    role: Role | None = None,
    password: str | None = None,
    disabled: bool | None = None,
) -> User:
    """Change what is given of a user.

    Raises
    ------
    MetiaError
        ``not-found``; ``conflict`` where no administrator would be left;
        ``invalid-input`` for a weak password.
    """
    hashed = None if password is None else hash_password(password)
    with transaction(engine) as session:
        user = rows.update_user(
            session,
            name,
            display_name=display_name,
            role=role,
            active=None if disabled is None else not disabled,
            password_hash=hashed,
        )
        details = {"role": role, "disabled": disabled, "renewed": hashed is not None}
        told = {key: value for key, value in details.items() if value is not None}
        change.note(session, "user-change", f"user:{name}", **told)
    return user


# -- API tokens ----------------------------------------------------------------


def list_tokens(engine: Engine, user_name: str) -> tuple[ApiToken, ...]:
    """List a user's tokens, without their secrets."""
    with reading(engine) as session:
        return rows.list_tokens(session, user_name)


def make_token(
    engine: Engine, change: Change, *, user_name: str, name: str, days: int
) -> tuple[ApiToken, str]:
    """Make an API token.

    Returns
    -------
    tuple
        What is kept of it, and its secret, which is kept nowhere.

    Raises
    ------
    MetiaError
        ``conflict`` where the user has as many as one may have.
    """
    secret = new_api_token()
    with transaction(engine) as session:
        now: datetime = database_time(session)
        if len(rows.list_tokens(session, user_name)) >= MAX_TOKENS:
            raise MetiaError("conflict", f"You have {MAX_TOKENS} tokens already.")
        token = rows.create_token(
            session,
            user_name=user_name,
            label=name,
            token_hash=hash_token(secret),
            expires_at=now + timedelta(days=days),
        )
        change.note(session, "token-make", f"token:{token.id}", days=days)
    return token, secret


def revoke_token(
    engine: Engine, change: Change, *, user_name: str, token_id: str
) -> None:
    """Take back one of a user's tokens; ``not-found`` where it is not theirs."""
    with transaction(engine) as session:
        rows.delete_token(session, token_id=token_id, user_name=user_name)
        change.note(session, "token-revoke", f"token:{token_id}")
