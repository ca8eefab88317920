"""What makes one set of response criteria differ from another, as data.

Every rule set is a `RuleSet`, assessed by the same engine (``assess``), so that a
difference between two answers is a difference between two lines here. `rule_set` finds
one by its name. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from segmentation.followup.case import Compartment, Kind, Protocol


@dataclass(frozen=True)
class RuleSet:
    """A set of response criteria.

    Attributes
    ----------
    growth_of : {'lesion', 'sum'}
        Of what progression asks 5 mm beside the 20 %: one lesion, or the sum.
    compartments : frozenset of Compartment
        Which lesions count.
    non_measurable : frozenset of Kind
        Kinds that never are targets.
    least_perpendicular_tenths_mm, least_slices : int
        Asked of a measurable lesion; 0 for nothing.
    small_lesions : bool
        Whether `Protocol.small_lesions_measurable` applies.
    patient_terms : bool
        Whether steroids and clinical status take part.
    immunotherapy : bool
        Whether progression-like imaging under immunotherapy needs confirmation.
    targets_per_organ : callable
        The limit, of the protocol.
    """

    name: str
    version: str
    title: str
    growth_of: Literal["lesion", "sum"]
    compartments: frozenset[Compartment]
    non_measurable: frozenset[Kind]
    least_perpendicular_tenths_mm: int
    least_slices: int
    small_lesions: bool
    patient_terms: bool
    immunotherapy: bool
    targets_per_organ: Callable[[Protocol], int]


RESPONSE = (7, 10)
"""A sum of at most 7/10 of baseline is response (30 % less)."""
PROGRESSION = (6, 5)
"""A sum of at least 6/5 of nadir may be progression (20 % more)."""
LEAST_GROWTH_TENTHS_MM = 50
MEASURABLE_TENTHS_MM = 100
SMALL_TENTHS_MM = 50
FINE_SLICES_TENTHS_MM = 15
THICK_SLICES_TENTHS_MM = 50
VOLUME_RESPONSE = (35, 100)
"""Oft 2021: a sum of volumes of at most 35 % of baseline."""
SPHERE_GROWTH = (216, 125)
"""(6/5) cubed: what +20 % of diameter means for the volume of a sphere."""


def within(value: int, part: tuple[int, int], whole: int) -> bool:
    """Whether value <= part x whole, in integers."""
    return value * part[1] <= part[0] * whole


def reaches(value: int, part: tuple[int, int], whole: int) -> bool:
    """Whether value >= part x whole, in integers."""
    return value * part[1] >= part[0] * whole


def rule_sets() -> dict[str, RuleSet]:
    """Give all rule sets by name, the default first."""
    from segmentation.followup.rano_bm import RANO_BM
    from segmentation.followup.recist import RECIST_1_1

    return {rules.name: rules for rules in (RANO_BM, RECIST_1_1)}
