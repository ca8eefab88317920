"""How the former system wrote things in JSON: dates, colours, ids, statuses, messages.

Pure functions, made from descriptions of its interface; none of its code is here.
Diameters in mm, volumes in cm3 (which are ml). Safe between threads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from errors import CODES, MetiaError

_LARGEST_EXACT = 2**53
"""Whole numbers below this are exact in JavaScript."""
_ID_DIGITS = 13
"""Hexadecimal digits of an id that make a number below `_LARGEST_EXACT`."""
_DICOM_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})\Z", re.ASCII)
_STATUSES = {415: 400, 422: 400, 502: 500, 507: 500}


def date_text(stored: str | None) -> str | None:
    """Write DICOM's ``20240131`` as ``2024-01-31``; other texts as they are."""
    match = _DICOM_DATE.match(stored or "")
    return "-".join(match.groups()) if match else stored


def colour_text(colour: Sequence[int] | None) -> str | None:
    """Write a colour as that system did: ``[255   0   0]``, all of one width."""
    if colour is None:
        return None
    width = max(len(str(value)) for value in colour)
    return f"[{' '.join(str(value).rjust(width) for value in colour)}]"


def patient_number(shown_id: str) -> int | str:
    """Give a patient's id as a number where nothing of it is lost, else as text.

    That system knew whole numbers only, so its front end expects one; ``0042`` and
    ``A12`` stay what they are.
    """
    if shown_id.isascii() and shown_id.isdigit():
        number = int(shown_id[:17])
        if str(number) == shown_id and number < _LARGEST_EXACT:
            return number
    return shown_id


def lesion_number(lesion_id: str) -> int:
    """Make a whole number of a lesion's id, as that system had; always the same."""
    return int(lesion_id[:_ID_DIGITS], 16)


def status_of(http_status: int) -> int:
    """Give the nearest status that the former front end has met.

    Those of access, size and waiting stay: it has none for them.
    """
    return _STATUSES.get(http_status, http_status)


def message_of(error: MetiaError) -> str:
    """Say an error, and what can be done about it."""
    return f"{reason_of(error)} {error.info.remedy}"


def reason_of(error: MetiaError) -> str:
    """Say an error without what could be done about it."""
    return " ".join(f"{error.info.title}. {error.detail}".split())


def message_of_code(code: str, detail: str | None) -> str:
    """Say the error of a job, which may be of a version with other codes."""
    known = code if code in CODES else "internal"
    return message_of(MetiaError(known, detail or ""))
