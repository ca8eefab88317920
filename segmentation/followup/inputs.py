"""What the assessment of one visit rests on, and its hash: what a reader signs.

A visit rests on what was known up to that day: the visits until then (until the
baseline, where that came later), the lesions seen at them, the plan and its switches. A
later visit changes no earlier one, so it does not make a signature stale; anything
entered about a visit until then does. The exception is a local treatment that a later
visit dates back. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from db.encoding import canonical_hash
from segmentation.followup.case import Case, State
from segmentation.followup.case_writing import case_document
from segmentation.followup.periods import baseline_of

_UNSEEN = {State.ABSENT.value, State.NOT_ASSESSED.value}


@dataclass(frozen=True)
class Inputs:
    """The case of one visit as a document, and the SHA-256 of its canonical JSON."""

    document: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Hexadecimal; over sorted keys without spaces, as UTF-8."""
        return canonical_hash(self.document)


def inputs_of(case: Case) -> dict[str, Inputs]:
    """Give what each visit of a case rests on, by visit."""
    document = case_document(case)
    return {
        visit.id: Inputs(_until(document, _last_day(case, number)))
        for number, visit in enumerate(case.visits)
    }


def _last_day(case: Case, number: int) -> str:
    """Give the day of the last visit that a visit's assessment may depend on."""
    day = case.visits[number].date
    last = max(day, baseline_of(case).date)
    for later in case.visits[number + 1 :]:
        treated = (seen.treated_on for seen in later.observations.values())
        if any(when is not None and when <= day for when in treated):
            last = max(last, later.date)
    return last.isoformat()


def _until(document: dict[str, Any], last: str) -> dict[str, Any]:
    visits = [visit for visit in document["visits"] if visit["date"] <= last]
    known = _known(document["lesions"], visits)
    cut = {
        **document,
        "lesions": [entry for entry in document["lesions"] if entry["id"] in known],
        "visits": [
            {
                **visit,
                "lesions": [o for o in visit["lesions"] if o["lesion"] in known],
            }
            for visit in visits
        ],
    }
    if "resets" in document.get("baseline", {}):
        days = {visit["id"] for visit in visits}
        baseline = dict(document["baseline"])
        baseline["resets"] = [r for r in baseline["resets"] if r["visit"] in days]
        cut["baseline"] = baseline
        if not baseline["resets"]:
            del baseline["resets"]
        if not baseline:
            del cut["baseline"]
    return cut


def _known(lesions: list[dict[str, Any]], visits: list[dict[str, Any]]) -> set[str]:
    """Name the lesions seen at these visits, with those they came from or went into."""
    observations = [seen for visit in visits for seen in visit["lesions"]]
    known = {o["lesion"] for o in observations if o["state"] not in _UNSEEN}
    known |= {o["into"] for o in observations if "into" in o}
    parents = {entry["id"]: entry.get("split_from") for entry in lesions}
    for name in list(known):
        parent = parents[name]
        while parent is not None and parent not in known:
            known.add(parent)
            parent = parents[parent]
    return known
