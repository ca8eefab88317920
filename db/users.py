"""People who can log in, their sessions and their API tokens.

Of passwords and tokens only hashes come here (made by ``segmentation.access``). Users
are switched off, never deleted, so that the audit and the results keep their meaning;
with a user's role, password or activity their sessions end. Functions take a
``Session``.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from db.engine import database_time
from db.models import SessionRow, TokenRow, UserRow
from errors import MetiaError

Role = Literal["viewer", "annotator", "reviewer", "admin"]

_TOUCH_INTERVAL = timedelta(minutes=1)


@dataclass(frozen=True)
class User:
    """One person.

    Attributes
    ----------
    password_hash : str or None
        None where the person does not log in by password.
    active : bool
        Whether the person may log in.
    """

    name: str
    display_name: str
    role: Role
    active: bool
    created_at: datetime
    password_hash: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ApiToken:
    """What is known of an API token besides its secret."""

    id: str
    user_name: str
    label: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


def create_user(
    session: Session,
    *,
    name: str,
    display_name: str,
    role: Role,
    password_hash: str | None,
) -> User:
    """Add a person; ``conflict`` where the name is taken."""
    if session.get(UserRow, name) is not None:
        raise MetiaError("conflict", "There is a user of this name already.")
    row = UserRow(
        name=name,
        display_name=display_name,
        role=role,
        password_hash=password_hash,
        active=True,
        created_at=database_time(session),
    )
    session.add(row)
    session.flush()
    return _user(row)


def find_user(session: Session, name: str) -> User | None:
    """Give a person, None where there is none of this name."""
    row = session.get(UserRow, name)
    return None if row is None else _user(row)


def list_users(session: Session) -> tuple[User, ...]:
    """List everyone, by name."""
    rows = session.scalars(select(UserRow).order_by(UserRow.name))
    return tuple(_user(row) for row in rows)


def count_users(session: Session) -> int:
    """Count everyone; zero means that the first administrator is yet to be made."""
    return session.scalar(select(func.count()).select_from(UserRow)) or 0


def update_user(
    session: Session,
    name: str,
    *,
    display_name: str | None = None,
    role: Role | None = None,
    active: bool | None = None,
    password_hash: str | None = None,
) -> User:
    """Change what is given; ends the person's sessions where that changes their rights.

    Raises
    ------
    MetiaError
        ``not-found``; ``conflict`` where no active administrator would be left.
    """
    # All administrators in one order: two changes at once must not remove both.
    admins = session.scalars(
        select(UserRow)
        .where(UserRow.role == "admin", UserRow.active)
        .order_by(UserRow.name)
        .with_for_update()
    ).all()
    row = session.get(UserRow, name, with_for_update=True, populate_existing=True)
    if row is None:
        raise MetiaError("not-found", "There is no user of this name.")
    before = (row.role, row.active, row.password_hash)
    row.display_name = row.display_name if display_name is None else display_name
    row.role = row.role if role is None else role
    row.active = row.active if active is None else active
    row.password_hash = row.password_hash if password_hash is None else password_hash
    if admins and not any(one.role == "admin" and one.active for one in admins):
        raise MetiaError("conflict", "At least one active administrator must remain.")
    session.flush()
    if (row.role, row.active, row.password_hash) != before:
        session.execute(delete(SessionRow).where(SessionRow.user_name == name))
    return _user(row)


def open_session(
    session: Session, *, user_name: str, token_hash: str, lifetime: timedelta
) -> datetime:
    """Note a login and forget those that have run out; gives its end."""
    now = database_time(session)
    session.execute(delete(SessionRow).where(SessionRow.expires_at <= now))
    row = SessionRow(
        token_hash=token_hash,
        user_name=user_name,
        created_at=now,
        expires_at=now + lifetime,
    )
    session.add(row)
    session.flush()
    return row.expires_at


def find_session_user(session: Session, token_hash: str) -> User | None:
    """Give the active person whose login this is, None where it has run out."""
    row = session.scalar(
        select(UserRow)
        .join(SessionRow, SessionRow.user_name == UserRow.name)
        .where(
            SessionRow.token_hash == token_hash,
            SessionRow.expires_at > database_time(session),
            UserRow.active,
        )
    )
    return None if row is None else _user(row)


def close_session(session: Session, token_hash: str) -> None:
    """Forget a login; nothing happens where it is forgotten already."""
    session.execute(delete(SessionRow).where(SessionRow.token_hash == token_hash))


def create_token(
    session: Session,
    *,
    user_name: str,
    label: str,
    token_hash: str,
    expires_at: datetime | None = None,
) -> ApiToken:
    """Note an API token of a person."""
    row = TokenRow(
        id=uuid.uuid4().hex,
        token_hash=token_hash,
        user_name=user_name,
        label=label,
        created_at=database_time(session),
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return _token(row)


def find_token_user(session: Session, token_hash: str) -> tuple[User, ApiToken] | None:
    """Give the active person whose token this is, None where it is not valid."""
    found = session.execute(
        select(UserRow, TokenRow)
        .join(TokenRow, TokenRow.user_name == UserRow.name)
        .where(
            TokenRow.token_hash == token_hash,
            or_(
                TokenRow.expires_at.is_(None),
                TokenRow.expires_at > database_time(session),
            ),
            UserRow.active,
        )
    ).one_or_none()
    return None if found is None else (_user(found[0]), _token(found[1]))


def touch_token(session: Session, token_id: str) -> None:
    """Note that a token was used, to the minute (so that reading stays cheap)."""
    now = database_time(session)
    session.execute(
        update(TokenRow)
        .where(
            TokenRow.id == token_id,
            or_(
                TokenRow.last_used_at.is_(None),
                TokenRow.last_used_at < now - _TOUCH_INTERVAL,
            ),
        )
        .values(last_used_at=now)
    )


def list_tokens(session: Session, user_name: str) -> tuple[ApiToken, ...]:
    """List a person's tokens, newest first."""
    query = (
        select(TokenRow)
        .where(TokenRow.user_name == user_name)
        .order_by(TokenRow.created_at.desc(), TokenRow.id)
    )
    return tuple(_token(row) for row in session.scalars(query))


def delete_token(session: Session, *, token_id: str, user_name: str) -> None:
    """Take back a person's token; ``not-found`` where it is not theirs."""
    deleted = session.scalar(
        delete(TokenRow)
        .where(TokenRow.id == token_id, TokenRow.user_name == user_name)
        .returning(TokenRow.id)
    )
    if deleted is None:
        raise MetiaError("not-found", "You have no token of this id.")


def _user(row: UserRow) -> User:
    return User(
        name=row.name,
        display_name=row.display_name,
        role=_role(row.role),
        active=row.active,
        created_at=row.created_at,
        password_hash=row.password_hash,
    )


def _role(value: str) -> Role:
    roles: dict[str, Role] = {
        "viewer": "viewer",
        "annotator": "annotator",
        "reviewer": "reviewer",
        "admin": "admin",
    }
    return roles[value]


def _token(row: TokenRow) -> ApiToken:
    return ApiToken(
        id=row.id,
        user_name=row.user_name,
        label=row.label,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )
