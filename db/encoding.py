"""How values are written into columns: canonical JSON, hashes of it, UTC times, texts.

Pure functions and one column type; no state, safe everywhere. Times are timezone-aware
UTC on both sides and in both databases.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect
from sqlalchemy.types import TypeDecorator


def canonical_json(value: object) -> str:
    """Write `value` so that equal values give equal texts (no NaN, sorted keys)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_hash(value: object) -> str:
    """Give the SHA-256 of the canonical JSON, hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()


def clean_text(value: object, limit: int) -> str | None:
    """Make a text of an image header storable in both databases.

    Parameters
    ----------
    value : object
        Text, anything with a text form, or None.
    limit : int
        Longest text in characters; the rest is cut off.

    Returns
    -------
    str or None
        None where nothing but space is left. NUL and lone surrogates, which PostgreSQL
        cannot hold, become U+FFFD; everything else stays as it came.
    """
    if value is None:
        return None
    text = str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}").strip()
    return text[:limit].rstrip() or None


_PLAIN = str.maketrans(
    {"^": " ", "=": " ", "œ": "oe", "æ": "ae", "ø": "o", "đ": "d", "ł": "l"}
)
"""What Unicode does not take apart."""


def fold(text: str) -> str:
    """Make texts that people take for the same equal: case, accents, separators.

    The ``^`` and ``=`` of DICOM names count as spaces.
    """
    plain = "".join(
        character
        for character in unicodedata.normalize("NFKD", text)
        if not unicodedata.combining(character)
    )
    return " ".join(plain.casefold().translate(_PLAIN).split())


def search_key(name: str | None, patient_id: str | None) -> str:
    """Give what a patient is searched and sorted by: folded name, then folded id."""
    # Short enough for an index of PostgreSQL, whatever the characters.
    return f"{fold(name or '')[:384]} {fold(patient_id or '')[:128]}".strip()


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware in Python, ``timestamptz`` in PostgreSQL, UTC text in SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Refuse naive times and turn others to UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without time zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(
        self, value: Any | None, dialect: Dialect
    ) -> datetime | None:
        """Give an aware UTC time."""
        if not isinstance(value, datetime):
            return None
        if value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        return value.astimezone(UTC)
