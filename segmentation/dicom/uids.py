"""UIDs that follow from what an object is: a repeated run makes the same object.

``derive_uid`` maps any texts onto a UID under 2.25 (DICOM PS3.5 B.2, from a version 5
UUID). Pure; called by everything in ``segmentation.dicom``. UIDs made here never hold
patient data, but whoever knows all the parts can recompute them.
"""

from __future__ import annotations

import json
import uuid

_NAMESPACE = uuid.UUID("6f2f3c0e-8a0c-5d51-9d0b-6a1d3b0b8f11")


def derive_uid(*parts: str) -> str:
    """Derive a UID from texts.

    Parameters
    ----------
    *parts : str
        At least one text; order and boundaries count.

    Returns
    -------
    str
        ``2.25.`` and a decimal number, at most 44 characters; the same for the same
        parts, on every machine.
    """
    if not parts:
        raise ValueError("a UID must be derived from something")
    name = json.dumps(parts, ensure_ascii=True)
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"
