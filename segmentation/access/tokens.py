"""Secrets that stand for someone: session cookies, API tokens, CSRF tokens.

The database holds only hashes of session and API tokens, so that a stolen copy logs
nobody in. A CSRF token is derived from the session it belongs to and is good for no
other. All have at least 256 random bits. Pure, safe between threads.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

API_TOKEN_PREFIX = "metia_"  # noqa: S105 - marks tokens so that scanners find them

_API_TOKEN = re.compile(r"metia_[A-Za-z0-9_-]{43}\Z", re.ASCII)
_SESSION_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}\Z", re.ASCII)


def new_session_token() -> str:
    """Make the secret of a session cookie (43 characters)."""
    return secrets.token_urlsafe(32)


def new_api_token() -> str:
    """Make an API token (49 characters, ``metia_...``)."""
    return API_TOKEN_PREFIX + secrets.token_urlsafe(32)


def is_api_token(text: str) -> bool:
    """Tell whether a text has the form of an API token."""
    return _API_TOKEN.match(text) is not None


def is_session_token(text: str) -> bool:
    """Tell whether a text has the form of a session token."""
    return _SESSION_TOKEN.match(text) is not None


def hash_token(token: str) -> str:
    """Give what the database keeps of a token (SHA-256, hexadecimal).

    No slow hash is needed: a token is random, nobody can guess through it.
    """
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


def csrf_token(secret_key: str, session_token: str) -> str:
    """Derive the CSRF token of a session (or of a login form's cookie)."""
    return hmac.new(
        secret_key.encode("utf-8"), b"csrf:" + session_token.encode("utf-8"), "sha256"
    ).hexdigest()


def csrf_matches(secret_key: str, session_token: str, sent: str) -> bool:
    """Check a CSRF token in constant time."""
    expected = csrf_token(secret_key, session_token)
    return hmac.compare_digest(expected.encode(), sent.encode("utf-8", "replace"))
