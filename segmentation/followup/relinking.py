"""Where links are made anew after a reader's decision. Temporary seam."""

from __future__ import annotations

from db.engine import Session


def relink(session: Session, patient_key: str) -> None:
    """Recompute the links of a patient."""
