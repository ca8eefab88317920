"""Passwords: hashed with argon2id, checked at the same cost whether a user exists.

The parameters are those RFC 9106 advises where memory is limited (64 MiB, 3 passes).
Safe between threads.
"""

from __future__ import annotations

import secrets
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from errors import MetiaError

MIN_LENGTH = 12
MAX_LENGTH = 256
"""Longer ones are refused before hashing: their length is work for us."""

_hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)


def hash_password(password: str) -> str:
    """Hash a new password.

    Raises
    ------
    MetiaError
        ``invalid-input`` where it is too short, too long or trivially uniform.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH or len(set(password)) < 5:
        raise MetiaError(
            "invalid-input",
            f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters, "
            "at least five of them different.",
        )
    return _hasher.hash(password)


def verify_password(stored_hash: str | None, password: str) -> bool:
    """Check a password, spending the same work where there is no such user.

    Parameters
    ----------
    stored_hash : str or None
        None where no user of the name exists (or has no local password).
    password : str
        What was typed.

    Returns
    -------
    bool
    """
    if len(password) > MAX_LENGTH:
        password = password[:MAX_LENGTH]
        stored_hash = None
    try:
        matches = _hasher.verify(stored_hash or _hash_of_nobody(), password)
    except (VerificationError, InvalidHashError):
        return False
    return matches and stored_hash is not None


def is_outdated(stored_hash: str) -> bool:
    """Tell whether a hash was made with weaker parameters than today's."""
    return _hasher.check_needs_rehash(stored_hash)


def new_password() -> str:
    """Make a password for someone who will be told it once (20 characters)."""
    return secrets.token_urlsafe(15)


@lru_cache(maxsize=1)
def _hash_of_nobody() -> str:
    return _hasher.hash(secrets.token_urlsafe(32))
