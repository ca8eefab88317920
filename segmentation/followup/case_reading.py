"""Reads a case: strict JSON, the schema, and what a schema cannot say.

Promises: what comes out is consistent (known lesions, one visit a date, no lesion
merged into itself), and what is refused is refused with one sentence that names the
place as a path, like ``visits[2].lesions[0].longest_diameter_tenths_mm``, and holds no
value from the case, since that may be about a patient. Decimal numbers are read as
decimals, never as binary fractions. Pure but for reading the schema that ships.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import jsonschema

from errors import MetiaError
from segmentation.followup.case import (
    BaselineReset,
    Case,
    Certainty,
    Clinical,
    Compartment,
    Kind,
    Lesion,
    NonTarget,
    Observation,
    Protocol,
    Role,
    State,
    SteroidChange,
    Steroids,
    SteroidUse,
    Visit,
)
from segmentation.followup.periods import baseline_of

_LONGEST_NAME = 40
SCHEMA_PATH = Path(__file__).resolve().parent / "case_schema.json"
_BEFORE_BASELINE = {
    "none": None,
    "progressed_since": True,
    "not_progressed_since": False,
}


@lru_cache(maxsize=1)
def case_schema() -> dict[str, Any]:
    """Read the schema that ships."""
    schema: dict[str, Any] = json.loads(SCHEMA_PATH.read_text("utf-8"))
    return schema


def read_case(text: str | bytes) -> Case:
    """Read a case from JSON text.

    Raises
    ------
    MetiaError
        ``invalid-input``, with the path of the first fault.
    """
    try:
        document = json.loads(
            text,
            parse_float=Decimal,
            parse_constant=_no_constant,
            object_pairs_hook=_unique_keys,
        )
    except UnicodeDecodeError as error:
        raise MetiaError("invalid-input", "The case is not UTF-8 text.") from error
    except RecursionError as error:
        raise MetiaError("invalid-input", "The case is nested too deeply.") from error
    except json.JSONDecodeError as error:
        raise MetiaError(
            "invalid-input",
            f"The case is not JSON: line {error.lineno}, column {error.colno}.",
        ) from error
    except ValueError as error:
        # Python refuses integers of thousands of digits.
        raise MetiaError("invalid-input", "The case holds an unusable number.") from (
            error
        )
    return case_from_document(document)


def case_from_document(document: object) -> Case:
    """Check a document (parsed JSON) and make the case of it.

    Raises
    ------
    MetiaError
        ``invalid-input``, with the path of the first fault.
    """
    _check_schema(document)
    assert isinstance(document, Mapping)  # noqa: S101 - the schema has just said so
    return _Reader(document).case()


def _no_constant(name: str) -> NoReturn:
    raise MetiaError("invalid-input", f"The case holds {name}, which is no number.")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise MetiaError("invalid-input", f"The member {_named(twice)} is given twice.")
    return members


@lru_cache(maxsize=1)
def _validator() -> Any:
    return jsonschema.Draft202012Validator(
        case_schema(),
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )


def _check_schema(document: object) -> None:
    faults = sorted(
        _validator().iter_errors(document),
        key=lambda fault: ([str(step) for step in fault.absolute_path], fault.message),
    )
    if faults:
        _refuse(faults[0].absolute_path, _in_words(faults[0]))


def _in_words(fault: Any) -> str:
    """Say what is wrong without quoting the value."""
    limit = fault.validator_value
    if fault.validator == "additionalProperties":
        known = set(fault.schema.get("properties", {}))
        extra = sorted(str(name) for name in set(fault.instance) - known)
        return f"{_named(extra[0])} is not a documented member"
    if fault.validator == "required":
        missing = [name for name in limit if name not in fault.instance]
        return f"{missing[0]!r} is missing"
    texts = {
        "type": f"must be of type {limit}",
        "enum": f"must be one of {', '.join(map(str, _listed(limit)))}",
        "const": f"must be {limit!r}",
        "minimum": f"must be at least {limit}",
        "maximum": f"must be at most {limit}",
        "exclusiveMinimum": f"must be more than {limit}",
        "format": "is not a day of the calendar (YYYY-MM-DD)",
        "pattern": f"must match {limit}",
        "maxItems": f"must have at most {limit} entries",
        "minItems": f"must have at least {limit} entries",
        "maxLength": f"must have at most {limit} characters",
        "minLength": "must not be empty",
    }
    return texts.get(fault.validator, f"breaks the rule {fault.validator!r}")


def _named(member: str) -> str:
    """Quote the name of a member, which whoever wrote the case has made up."""
    cut = member if len(member) <= _LONGEST_NAME else f"{member[:_LONGEST_NAME]}..."
    return ascii(cut)


def _listed(values: object) -> list[object]:
    return list(values) if isinstance(values, list) else [values]


def _refuse(path: Iterable[object], problem: str) -> NoReturn:
    place = ""
    for step in path:
        place += f"[{step}]" if isinstance(step, int) else f".{step}"
    raise MetiaError("invalid-input", f"{place.lstrip('.') or 'The case'}: {problem}.")


class _Reader:
    """Makes a `Case` of a document that is valid by the schema."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._lesions: dict[str, Lesion] = {}

    def case(self) -> Case:
        document = self._document
        self._lesions = self._read_lesions()
        visits = self._read_visits()
        treatment = document.get("treatment", {})
        baseline = document.get("baseline", {})
        known = {visit.id for visit in visits}
        if "visit" in baseline and baseline["visit"] not in known:
            _refuse(["baseline", "visit"], "there is no such visit")
        resets = [BaselineReset(**reset) for reset in baseline.get("resets", ())]
        for index, reset in enumerate(resets):
            if reset.visit not in known:
                _refuse(
                    ["baseline", "resets", index, "visit"], "there is no such visit"
                )
        case = Case(
            id=document["case_id"],
            lesions=self._lesions,
            visits=tuple(sorted(visits, key=lambda visit: visit.date)),
            protocol=_protocol(document.get("protocol", {})),
            treatment_start=_day(treatment, "start_date", ["treatment"]),
            immunotherapy_start=_day(
                treatment, "immunotherapy_start_date", ["treatment"]
            ),
            baseline=baseline.get("visit"),
            resets=tuple(resets),
            description=document.get("description", ""),
        )
        _check_resets(case)
        return case

    def _read_lesions(self) -> dict[str, Lesion]:
        lesions: dict[str, Lesion] = {}
        for index, entry in enumerate(self._document["lesions"]):
            if entry["id"] in lesions:
                _refuse(["lesions", index, "id"], "this lesion is listed twice")
            compartment = Compartment(entry.get("compartment", "cns"))
            if compartment is Compartment.EXTRACRANIAL and "organ" not in entry:
                _refuse(["lesions", index], "'organ' is missing outside the cns")
            lesions[entry["id"]] = Lesion(
                id=entry["id"],
                kind=Kind(entry.get("kind", "parenchymal")),
                compartment=compartment,
                organ=entry.get("organ", "brain"),
                role=Role(entry["role"]) if "role" in entry else None,
                split_from=entry.get("split_from"),
                progressed_since_treatment=_BEFORE_BASELINE[
                    entry.get("local_treatment_before_baseline", "none")
                ],
            )
        _check_fragments(lesions, list(lesions))
        return lesions

    def _read_visits(self) -> list[Visit]:
        visits: list[Visit] = []
        for index, entry in enumerate(self._document["visits"]):
            path: list[object] = ["visits", index]
            visit = self._visit(entry, path)
            if any(visit.id == other.id for other in visits):
                _refuse([*path, "id"], "this visit is listed twice")
            if any(visit.date == other.date for other in visits):
                _refuse([*path, "date"], "another visit has the same date")
            visits.append(visit)
        return visits

    def _visit(self, entry: Mapping[str, Any], path: list[object]) -> Visit:
        steroids = entry["steroids"]
        day = _day(entry, "date", path)
        assert day is not None  # noqa: S101 - required by the schema
        observations: dict[str, Observation] = {}
        for index, seen in enumerate(entry["lesions"]):
            place = [*path, "lesions", index]
            observation = self._observation(seen, day, place)
            if observation.lesion in observations:
                _refuse([*place, "lesion"], "this lesion is listed twice at the visit")
            observations[observation.lesion] = observation
        _check_merges(observations, entry["lesions"], path)
        return Visit(
            id=entry["id"],
            date=day,
            observations=observations,
            steroids=Steroids(
                SteroidUse(steroids["use"]),
                SteroidChange(steroids["change"]) if "change" in steroids else None,
                _whole(steroids.get("dexamethasone_tenths_mg_per_day")),
            ),
            clinical=Clinical(entry["clinical_status"]),
            non_target=(
                NonTarget(entry["non_target"]) if "non_target" in entry else None
            ),
            slice_thickness_tenths_mm=_whole(entry.get("slice_thickness_tenths_mm")),
            slice_gap_tenths_mm=_whole(entry.get("slice_gap_tenths_mm")) or 0,
            technique_changed=entry.get("technique_changed", False),
            series_note=entry.get("series_note", ""),
            extracranial_response=entry.get("extracranial_response", "not_recorded"),
        )

    def _observation(
        self, entry: Mapping[str, Any], visit_day: date, path: list[object]
    ) -> Observation:
        for name in ("lesion", "into"):
            if name in entry and entry[name] not in self._lesions:
                _refuse([*path, name], "there is no such lesion under 'lesions'")
        longest = _whole(entry.get("longest_diameter_tenths_mm"))
        perpendicular = _whole(entry.get("perpendicular_diameter_tenths_mm"))
        if longest and perpendicular and perpendicular > longest:
            _refuse(
                [*path, "perpendicular_diameter_tenths_mm"],
                "is longer than the longest diameter",
            )
        treated_on = _day(entry, "date", path)
        if treated_on is not None and treated_on > visit_day:
            _refuse([*path, "date"], "the treatment is after the visit")
        certainty = entry.get("certainty")
        return Observation(
            lesion=entry["lesion"],
            state=State(entry["state"]),
            longest_tenths_mm=longest,
            perpendicular_tenths_mm=perpendicular,
            slice_count=_whole(entry.get("slice_count")),
            touches_border=entry.get("touches_border", False),
            volume_tenths_mm3=_volume(entry.get("volume_ml"), path),
            reason=entry.get("reason", ""),
            into=entry.get("into"),
            treated_on=treated_on,
            modality=entry.get("modality", ""),
            radionecrosis_suspected=entry.get("radionecrosis_suspected", False),
            certainty=Certainty(certainty) if certainty else None,
            projections=_whole(entry.get("projections")),
            reappearance=entry.get("reappearance", "undetermined"),
        )


def _check_resets(case: Case) -> None:
    first = baseline_of(case).date
    days = {visit.id: visit.date for visit in case.visits}
    for index, reset in enumerate(case.resets):
        path = ["baseline", "resets", index, "visit"]
        if days[reset.visit] <= first:
            _refuse(path, "does not come after the baseline")
        if reset.visit in [earlier.visit for earlier in case.resets[:index]]:
            _refuse(path, "this visit is listed twice")


def _protocol(switches: Mapping[str, Any]) -> Protocol:
    # 28.0 is an integer by JSON Schema; here it becomes one.
    whole: dict[str, Any] = {
        name: value if isinstance(value, bool | str) else int(value)
        for name, value in switches.items()
    }
    return Protocol(**whole)


def _day(entry: Mapping[str, Any], name: str, path: list[object]) -> date | None:
    if name not in entry:
        return None
    try:
        return date.fromisoformat(entry[name])
    except ValueError:
        _refuse([*path, name], "is not a day of the calendar (YYYY-MM-DD)")


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _volume(volume_ml: Any, path: list[object]) -> int | None:
    if volume_ml is None:
        return None
    if volume_ml != volume_ml:  # NaN passes every limit of the schema
        _refuse([*path, "volume_ml"], "is not a number")
    # repr of a float is its shortest decimal, which is what its writer meant.
    exact = volume_ml if isinstance(volume_ml, Decimal) else Decimal(repr(volume_ml))
    tenths = exact.quantize(Decimal("0.0001"), rounding=ROUND_HALF_EVEN)
    return int(tenths.scaleb(4))


def _check_fragments(lesions: Mapping[str, Lesion], order: list[str]) -> None:
    for index, name in enumerate(order):
        path = ["lesions", index, "split_from"]
        seen = {name}
        parent = lesions[name].split_from
        while parent is not None:
            if parent not in lesions:
                _refuse(path, "there is no such lesion under 'lesions'")
            if parent in seen:
                _refuse(path, "the lesion would be a fragment of itself")
            seen.add(parent)
            parent = lesions[parent].split_from


def _check_merges(
    observations: Mapping[str, Observation],
    entries: list[Mapping[str, Any]],
    path: list[object],
) -> None:
    for index, entry in enumerate(entries):
        place = [*path, "lesions", index, "into"]
        seen = {entry["lesion"]}
        into = observations[entry["lesion"]].into
        while into is not None:
            if into in seen:
                _refuse(place, "the lesion would be merged into itself")
            seen.add(into)
            into = observations[into].into if into in observations else None
