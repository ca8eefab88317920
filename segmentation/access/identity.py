"""Who someone is: the small interface behind which any way to log in fits.

``LocalUsers`` checks a name and a password against our own table. An OpenID Connect
provider would be given the code its server sent instead, and answer with the user of
that name; nothing else needs to know. Safe between threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from db.engine import Engine, reading, transaction
from db.users import User, find_user, update_user
from segmentation.access.passwords import hash_password, is_outdated, verify_password


@dataclass(frozen=True)
class Principal:
    """Someone who is logged in, and by what.

    Attributes
    ----------
    session_token : str or None
        Secret of the browser session (None for scripts).
    """

    name: str
    display_name: str
    role: str
    session_token: str | None = None


class IdentityProvider(Protocol):
    """A way to find out who someone is."""

    def authenticate(self, credentials: Mapping[str, str]) -> User | None:
        """Give the active user these credentials belong to, else None.

        The time it takes tells nothing about whether such a user exists.
        """


class LocalUsers:
    """Names and passwords of our own table.

    Parameters
    ----------
    engine : Engine
        The database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def authenticate(self, credentials: Mapping[str, str]) -> User | None:
        """Check ``username`` and ``password``.

        Raises
        ------
        MetiaError
            ``database-unusable``.
        """
        password = credentials.get("password", "")
        with reading(self._engine) as session:
            user = find_user(session, credentials.get("username", ""))
        known = user is not None and user.active
        stored = user.password_hash if user is not None and known else None
        if not verify_password(stored, password) or user is None or stored is None:
            return None
        if is_outdated(stored):
            with transaction(self._engine) as session:
                renewed = hash_password(password)
                user = update_user(session, user.name, password_hash=renewed)
        return user
