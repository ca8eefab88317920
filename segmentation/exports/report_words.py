"""Which words a report needs, and how a language writes numbers and dates.

One ``Words`` a language, so that a text missing in one of them is a fault that the type
checker finds. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

_MINUS = "\N{MINUS SIGN}"
_FIXED_SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Words:
    """Every text of the report in one language."""

    decimal_mark: str
    colon: str
    date_format: str
    notice: str
    title: str
    pseudonymous: str
    unverified: str
    accepted: str
    signed: str
    stale: str
    patient: str
    patient_id: str
    key: str
    born: str
    sex: str
    name_incomplete: str
    visit: str
    day: str
    no_date: str
    baseline: str
    proposed_category: str
    signed_category: str
    proposed_was: str
    confirmed: str
    unconfirmed: str
    not_assessed: str
    best: str
    alternatives: str
    by_volume: str
    sum_of_targets: str
    at_least: str
    against_baseline: str
    against_nadir: str
    volume_of_all: str
    why: str
    comment: str
    note: str
    reader: str
    steroids: str
    clinical: str
    non_target: str
    technique_changed: str
    lesions: str
    no_lesions: str
    columns: tuple[str, ...]
    new: str
    not_measurable: str
    pending: str
    pending_links: str
    over_time: str
    sum_chart: str
    lesion_chart: str
    response_line: str
    progression_line: str
    days_axis: str
    key_images: str
    no_images: str
    legend_axes: str
    tilted: str
    made_with: str
    demonstration: str
    made_by_reader: str
    imported: str
    rules: str
    code: str
    page: str
    no_visits: str
    continued: str
    roles: Mapping[str, str]
    states: Mapping[str, str]
    certainties: Mapping[str, str]
    categories: Mapping[str, str]
    values: Mapping[str, str]
    reasons: Mapping[str, str]
    """Sentences by code; empty where the engine's own are in this language."""

    def number(self, value: float, digits: int = 1, *, sign: bool = False) -> str:
        """Write a number; a true minus, and a plus where asked for."""
        text = f"{abs(value):.{digits}f}"
        zero = float(text) == 0.0
        mark = "" if zero else _MINUS if value < 0 else "+" if sign else ""
        return mark + text.replace(".", self.decimal_mark)

    def percent(self, value: float) -> str:
        """Write a change in percent, with its sign."""
        return f"{self.number(value, sign=True)}{_FIXED_SPACE}%"

    def named(self, name: str, text: object) -> str:
        """Write a name and its value, with the colon of the language."""
        return f"{name}{self.colon} {text}"

    def strong(self, name: str, text: object) -> str:
        """Write a name in bold and its value, as markup of a paragraph."""
        return f"<b>{name}{self.colon}</b> {text}"

    def day_of(self, value: date) -> str:
        """Write a date."""
        return value.strftime(self.date_format)

    def moment(self, value: datetime) -> str:
        """Write a moment (UTC)."""
        return f"{value.strftime(self.date_format + ' %H:%M')} UTC"

    def reason(self, code: str, text: str, labels: Iterable[str]) -> str:
        """Give a reason: the engine's sentence, or that of its code with the lesions.

        Parameters
        ----------
        labels : iterable of str
            Of the patient's lesions; those that the engine's sentence names are added.
        """
        if not self.reasons:
            return text
        named = [
            label for label in labels if re.search(rf"\b{re.escape(label)}\b", text)
        ]
        sentence = self.reasons.get(code, text)
        return f"{sentence} ({', '.join(named)})" if named else sentence

    def value(self, name: str | None) -> str:
        """Give the words of a coded value."""
        return self.values.get(name or "not_recorded", (name or "").replace("_", " "))
