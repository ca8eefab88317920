"""Tables for trials: tumour identification (TU), tumour results (TR), response (RS).

Columns and most terms are those of CDISC's domains of these names; they are stable and
described in ``docs/exports.md``. One row a fact: a measurement that was not made is a
row with ``NOT DONE`` and the reason, never an empty gap or a 0. Lengths mm, volumes ml,
days from the baseline (day 1). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from segmentation.exports.cells import Cell
from segmentation.exports.columns import COLUMNS, TableName
from segmentation.exports.content import (
    Assessment,
    CourseContent,
    Observation,
    Signature,
    Track,
    Visit,
)
from segmentation.followup.case import NonTarget, State

Row = Mapping[str, Cell]


STUDY_ID = "METIA"
_METHOD = "MRI"
_LOCATION = "BRAIN"
_SOFTWARE, _PERSON = "SOFTWARE", "INVESTIGATOR"

_YES_NO: Final[Mapping[bool | None, str | None]] = {
    True: "Y",
    False: "N",
    None: None,
}

_STATES: Final[Mapping[str, str]] = {
    State.MEASURED: "PRESENT",
    State.TOO_SMALL: "TOO SMALL TO MEASURE",
    State.ABSENT: "ABSENT",
    State.NOT_ASSESSED: "NOT ASSESSED",
    State.MERGED: "MERGED",
    State.SPLIT: "SPLIT",
    State.LOCALLY_TREATED: "LOCALLY TREATED",
}

_RESPONSES: Final[Mapping[str, str]] = {
    "NON_CR_NON_PD": "NON-CR/NON-PD",
    "NOT_APPLICABLE": "NA",
    NonTarget.NONE: "NA",
    NonTarget.COMPLETE_RESPONSE: "CR",
    NonTarget.NEITHER: "NON-CR/NON-PD",
    NonTarget.PROGRESSION: "PD",
    NonTarget.NOT_ASSESSED: "NE",
}
"""Our words for which CDISC has another."""


@dataclass(frozen=True)
class _Measure:
    """A test on one lesion."""

    code: str
    name: str
    unit: str
    attribute: str
    zero_when_gone: bool


_MEASURES: Final = (
    _Measure("LDIAM", "Longest Diameter", "mm", "longest_diameter_mm", True),
    _Measure(
        "LPERP", "Longest Perpendicular", "mm", "perpendicular_diameter_mm", False
    ),
    _Measure("VOLUME", "Volume", "mL", "volume_ml", True),
)


def make_tables(course: CourseContent) -> dict[TableName, list[Row]]:
    """Make the three tables.

    Returns
    -------
    dict
        Rows by name of the table; every row has exactly the columns of ``COLUMNS``, and
        a patient without visits gives tables without rows.
    """
    rows: dict[TableName, Iterator[dict[str, Cell]]] = {
        "tu": _identifications(course),
        "tr": _results(course),
        "rs": _responses(course),
    }
    return {name: _complete(name, course, found) for name, found in rows.items()}


def _complete(
    name: TableName, course: CourseContent, found: Iterator[dict[str, Cell]]
) -> list[Row]:
    """Add the columns that every row has, and an empty cell for what it has not."""
    empty: dict[str, Cell] = dict.fromkeys(COLUMNS[name])
    domain = name.upper()
    rows: list[Row] = []
    for number, row in enumerate(found, 1):
        unknown = row.keys() - empty.keys()
        if unknown:
            raise KeyError(f"{domain} has no column {min(unknown)}")
        rows.append(
            empty
            | {
                "STUDYID": STUDY_ID,
                "DOMAIN": domain,
                "USUBJID": course.subject.shown_id,
                f"{domain}SEQ": number,
            }
            | row
        )
    return rows


def _at(domain: str, visit: Visit) -> dict[str, Cell]:
    """Say when; dates and UIDs are there only where they may leave."""
    return {
        "VISITNUM": visit.number,
        "VISIT": "BASELINE" if visit.is_baseline else f"VISIT {visit.number}",
        f"{domain}DTC": visit.date.isoformat() if visit.date else None,
        f"{domain}DY": visit.day,
        f"{domain}REFID": visit.study_uid,
    }


def group_of(track: Track) -> str:
    """Name the group of a lesion: TARGET, NON-TARGET or NEW."""
    if track.role is None:
        return "NEW"
    return "TARGET" if track.role == "target" else "NON-TARGET"


def _identifications(course: CourseContent) -> Iterator[dict[str, Cell]]:
    labels = {track.id: track.label for track in course.tracks}
    for track in course.tracks:
        first = track.first_visit
        if first is None:
            continue
        seen = track.at(first)
        certain = seen.certainty if seen else None
        yield {
            **_at("TU", course.visit(first)),
            "TUSPID": track.id,
            "TULNKID": track.label,
            "TUTESTCD": "TUMIDENT",
            "TUTEST": "Tumor Identification",
            "TUORRES": group_of(track),
            "TUSTRESC": group_of(track),
            "TULOC": _LOCATION,
            "TUMETHOD": _METHOD,
            "TUEVAL": _evaluator(seen),
            "XKIND": track.kind,
            "XPARENT": labels.get(track.split_from or ""),
            "XCERTAIN": certain,
            "XTRKUID": track.tracking_uid,
        }


def _evaluator(one: Observation | None) -> str:
    accepted = one is not None and one.review == "accepted"
    return _PERSON if accepted else _SOFTWARE


def _results(course: CourseContent) -> Iterator[dict[str, Cell]]:
    for visit in course.visits:
        for track in course.tracks:
            one = track.at(visit.number)
            if one is None or not _is_expected(track, one):
                continue
            common: dict[str, Cell] = {
                **_at("TR", visit),
                "TRGRPID": group_of(track),
                "TRLNKID": track.label,
                "TRMETHOD": _METHOD,
                "TREVAL": _evaluator(one),
                "XMEASBL": _YES_NO[one.measurable],
                "XREVIEW": one.review,
                "XCOUNTS": "Y" if one.counts else "N",
                "XLINK": one.link_state,
            }
            yield {**common, **_state(one)}
            for measure in _MEASURES:
                yield {**common, **_measured(measure, one)}
        yield from _sums(visit)


def _is_expected(track: Track, one: Observation) -> bool:
    """Leave out what came later: a lesion is no finding before it was first seen."""
    first = track.first_visit
    return first is not None and one.visit >= first


def _state(one: Observation) -> dict[str, Cell]:
    row: dict[str, Cell] = {"TRTESTCD": "TUMSTATE", "TRTEST": "Tumor State"}
    if one.state == State.NOT_ASSESSED:
        return row | _not_done(one)
    text = _STATES[one.state]
    return row | {"TRORRES": text, "TRSTRESC": text}


def _measured(measure: _Measure, one: Observation) -> dict[str, Cell]:
    row: dict[str, Cell] = {"TRTESTCD": measure.code, "TRTEST": measure.name}
    value = getattr(one, measure.attribute)
    if one.state == State.ABSENT and measure.zero_when_gone:
        value = 0.0
    elif one.state not in (State.MEASURED, State.TOO_SMALL):
        value = None
    if value is None:
        return row | _not_done(one)
    return row | {"TRORRESU": measure.unit, "TRSTRESU": measure.unit} | _number(value)


def _not_done(one: Observation) -> dict[str, Cell]:
    if one.state == State.NOT_ASSESSED:
        why = (one.reason or "not stated").replace("_", " ").upper()
    elif one.state == State.MEASURED:
        why = "NO VALUE"
    else:
        why = _STATES[one.state]
    return {"TRSTAT": "NOT DONE", "TRREASND": why}


def _number(value: float, digits: int = 4) -> dict[str, Cell]:
    rounded = round(value, digits)
    return {"TRORRES": rounded, "TRSTRESC": rounded, "TRSTRESN": rounded}


def _sums(visit: Visit) -> Iterator[dict[str, Cell]]:
    """Give the sum of the targets and its changes; of a sum with gaps, none."""
    if visit.assessment is None:
        return
    tests = (
        ("SUMLDIAM", "Sum of Longest Diameter", "mm", visit.sum_mm),
        (
            "PCBSD",
            "Percent Change Baseline in Sum of Diam",
            "%",
            visit.change_from_baseline_percent,
        ),
        (
            "PCNSD",
            "Percent Change Nadir in Sum of Diam",
            "%",
            visit.change_from_nadir_percent,
        ),
    )
    for code, name, unit, value in tests:
        row: dict[str, Cell] = {
            **_at("TR", visit),
            "TRGRPID": "TARGET",
            "TRTESTCD": code,
            "TRTEST": name,
            "TRMETHOD": _METHOD,
            "TREVAL": _SOFTWARE,
        }
        if value is not None and visit.sum_complete:
            yield row | {"TRORRESU": unit, "TRSTRESU": unit} | _number(value)
        elif code == "SUMLDIAM" and value is not None:
            why = "A TARGET HAS NO VALUE"
            yield row | {"TRSTAT": "NOT DONE", "TRREASND": why}


def _responses(course: CourseContent) -> Iterator[dict[str, Cell]]:
    for visit in course.visits:
        common: dict[str, Cell] = {
            **_at("RS", visit),
            "RSCAT": course.rule_set.upper(),
            "XRULEVER": course.rules_version,
        }
        if visit.assessment is None or visit.assessment.category == "BASELINE":
            yield common | _no_response(visit)
        else:
            yield from (common | row for row in _proposed(visit.assessment))
        if visit.signature is not None:
            yield common | _signed(visit.signature)


def _no_response(visit: Visit) -> dict[str, Cell]:
    """Say why there is none: a baseline has nothing to be compared with."""
    found = visit.assessment
    return {
        "RSTESTCD": "OVRLRESP",
        "RSTEST": "Overall Response",
        "RSSTAT": "NOT DONE",
        "RSREASND": "BASELINE" if found else visit.left_out or "NOT ASSESSED",
        "RSEVAL": _SOFTWARE,
        "XSIGNED": "N",
        "XREASONS": _reasons(found) if found else None,
    }


def _reasons(found: Assessment) -> str:
    return " ".join(f"[{one.code}] {one.text}" for one in found.reasons)


def response_term(category: str) -> str:
    """Give CDISC's term of a category."""
    return _RESPONSES.get(category, category.replace("_", " ").upper())


def _proposed(found: Assessment) -> Iterator[dict[str, Cell]]:
    overall: dict[str, Cell] = {
        "XCONFIRM": _YES_NO[found.confirmed],
        "XREASONS": _reasons(found),
    }
    tests: list[tuple[str, str, str | None, dict[str, Cell]]] = [
        ("TRGRESP", "Target Response", found.target, {}),
        ("NTRGRESP", "Non-target Response", found.non_target, {}),
        ("NEWLIND", "New Lesion Indicator", "Y" if found.new_lesions else "N", {}),
        ("OVRLRESP", "Overall Response", found.category, overall),
        ("BESTRESP", "Best Response", found.best_response, {}),
    ]
    for code, name, value, more in tests:
        if value is None:
            continue
        term = response_term(value)
        yield {
            "RSTESTCD": code,
            "RSTEST": name,
            "RSORRES": term,
            "RSSTRESC": term,
            "RSEVAL": _SOFTWARE,
            "XSIGNED": "N",
            **more,
        }


def _signed(signature: Signature) -> dict[str, Cell]:
    term = response_term(signature.category)
    return {
        "RSTESTCD": "OVRLRESP",
        "RSTEST": "Overall Response",
        "RSORRES": term,
        "RSSTRESC": term,
        "RSEVAL": _PERSON,
        "RSEVALID": signature.by,
        "XSIGNED": "STALE" if signature.stale else "Y",
        "XREASONS": signature.comment or None,
    }
