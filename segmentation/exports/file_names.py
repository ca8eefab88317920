"""Names of exported files: our own identifiers and visit numbers, nothing of a patient.

A name holds no patient name or number, no date and no UID of the archive: downloads lie
in folders that others can list. Only ASCII letters, digits, ``-`` and ``.``, so that a
name needs no quoting in a header, a shell or a ZIP. Pure.
"""

from __future__ import annotations

import re

_ID_LENGTH = 12
_PART = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z", re.ASCII)
_SUFFIX = re.compile(r"[a-z0-9]+(?:\.[a-z0-9]+)*\Z", re.ASCII)


def patient_file(patient_key: str, what: str, suffix: str) -> str:
    """Name a file about a patient.

    Parameters
    ----------
    patient_key : str
        MetIA's own key of the patient (32 hexadecimal digits); cut short in the name.
    what : str
        Such as ``tables``: lower-case words joined by ``-``.
    suffix : str
        Without the dot, such as ``nii.gz``.
    """
    return _name("patient", patient_key, what, suffix)


def visit_file(patient_key: str, visit_number: int, what: str, suffix: str) -> str:
    """Name a file about one visit, counted from 1 in order of time."""
    if visit_number < 1:
        raise ValueError("visits are counted from 1")
    return _name("patient", patient_key, f"visit-{visit_number:02d}-{what}", suffix)


def result_file(result_id: str, what: str, suffix: str) -> str:
    """Name a file about one result, by MetIA's own identifier of it."""
    return _name("result", result_id, what, suffix)


def _name(subject: str, identifier: str, what: str, suffix: str) -> str:
    short = identifier[:_ID_LENGTH]
    if not (_PART.match(short) and _PART.match(what) and _SUFFIX.match(suffix)):
        raise ValueError("not made of lower-case letters, digits and '-'")
    return f"metia-{subject}-{short}-{what}.{suffix}"
