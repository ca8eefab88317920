"""The four roles, each of which may do all that the one before it may.

viewer sees, annotator starts jobs and writes images, reviewer judges results, admin
keeps users. Pure, safe between threads.
"""

from __future__ import annotations

from typing import Final, Literal

Role = Literal["viewer", "annotator", "reviewer", "admin"]

ROLES: Final[tuple[Role, ...]] = ("viewer", "annotator", "reviewer", "admin")
"""From least to most."""


def includes(role: str, needed: str) -> bool:
    """Tell whether someone of `role` may do what `needed` may.

    A role that is not in the list may do nothing, and nobody may do what needs it.
    """
    if role not in ROLES or needed not in ROLES:
        return False
    return ROLES.index(role) >= ROLES.index(needed)
