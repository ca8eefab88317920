r"""What the identifiers of the HTTP API look like, checked before anything uses them.

One place for DICOM UIDs and for our own identifiers, as patterns for people (OpenAPI)
and as functions for the code. ASCII only, anchored at the very end (``\Z``: a newline
at the end is no part of a UID). Pure, safe between threads.
"""

from __future__ import annotations

import re

UID_PATTERN = r"^[0-2](\.[0-9]+)+$"
"""A DICOM UID (PS3.5 9.1) as OpenAPI shows it; at most 64 characters.

Components with leading zeros are not valid in new UIDs, but archives hold old images
that carry them, so a reference may.
"""
UID_MAX_LENGTH = 64

ID_PATTERN = r"^[0-9a-f]{32}$"
"""An identifier made by us: a UUID in hexadecimal."""

_UID = re.compile(r"[0-2](?:\.[0-9]+)+\Z", re.ASCII)
_ID = re.compile(r"[0-9a-f]{32}\Z", re.ASCII)


def is_uid(text: str) -> bool:
    """Tell whether a text can be the UID of something in an archive."""
    return len(text) <= UID_MAX_LENGTH and _UID.match(text) is not None


def is_id(text: str) -> bool:
    """Tell whether a text has the form of an identifier made by us."""
    return _ID.match(text) is not None
