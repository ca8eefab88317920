"""Whether a lesion is measurable by its size: one rule for records and for RANO-BM.

``least_longest_tenths_mm`` and ``size_shortfalls`` hold the rule in integer tenths of a
millimetre; the follow-up (``followup.targets``) asks them with the protocol of a study,
``why_not_measurable`` with the defaults of RANO-BM for what was just measured. What no
measurement tells (cystic, dural, bone ...) is the reader's to say and judged in the
follow-up. `REASONS` lists every code. Pure, safe between threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from segmentation.followup.rano_bm import RANO_BM
from segmentation.followup.rules import (
    FINE_SLICES_TENTHS_MM,
    MEASURABLE_TENTHS_MM,
    SMALL_TENTHS_MM,
    THICK_SLICES_TENTHS_MM,
)

LONGEST = "longest-below-10-mm"
LONGEST_THICK = "longest-below-two-slices"
"""On thick slices the least length is twice the distance of the slices."""
PERPENDICULAR = "perpendicular-below-5-mm"
SLICES = "fewer-than-2-slices"
BORDER = "touches-border"
"""The lesion goes on outside the image, so nobody knows how far."""
REASONS = (LONGEST, LONGEST_THICK, PERPENDICULAR, SLICES, BORDER)


@dataclass(frozen=True)
class Limits:
    """What is asked of a measurable lesion.

    Attributes
    ----------
    perpendicular_tenths_mm, slices : int
        0 for nothing.
    """

    longest_tenths_mm: int
    perpendicular_tenths_mm: int
    slices: int


def tenths(length_mm: float) -> int:
    """Round a length to whole tenths of a millimetre, halves up.

    Every comparison with a limit is made on these, here and in the follow-up.
    """
    return math.floor(round(length_mm * 10.0, 6) + 0.5)


def slice_distance_mm(spacing_mm: float, thickness_mm: float | None) -> float:
    """Give thickness and gap together; overlapping slices count with their thickness.

    Parameters
    ----------
    spacing_mm : float
        Between the middles of neighbouring slices.
    thickness_mm : float or None
        Of one slice; None where it is not known.
    """
    return max(spacing_mm, thickness_mm or 0.0)


def least_longest_tenths_mm(
    distance_tenths_mm: int | None,
    *,
    thick_slice_rule: bool = True,
    small_lesions: bool = False,
) -> int:
    """Give the least longest diameter of a measurable lesion.

    Parameters
    ----------
    distance_tenths_mm : int or None
        Slice thickness and gap together; None where not known.
    thick_slice_rule : bool
        Ask for two slices' distance where the slices are thick.
    small_lesions : bool
        Admit 5 mm where the slices are fine.
    """
    if distance_tenths_mm is None:
        return MEASURABLE_TENTHS_MM
    if thick_slice_rule and distance_tenths_mm > THICK_SLICES_TENTHS_MM:
        return max(MEASURABLE_TENTHS_MM, 2 * distance_tenths_mm)
    if small_lesions and distance_tenths_mm <= FINE_SLICES_TENTHS_MM:
        return SMALL_TENTHS_MM
    return MEASURABLE_TENTHS_MM


def size_shortfalls(
    longest_tenths_mm: int,
    perpendicular_tenths_mm: int | None,
    slice_count: int | None,
    limits: Limits,
) -> tuple[str, ...]:
    """Tell which limits a lesion does not reach; what is not known falls short of none.

    Returns
    -------
    tuple of str
        Among `LONGEST`, `LONGEST_THICK`, `PERPENDICULAR` and `SLICES`.
    """
    found = []
    if longest_tenths_mm < limits.longest_tenths_mm:
        enough = longest_tenths_mm >= MEASURABLE_TENTHS_MM
        found.append(LONGEST_THICK if enough else LONGEST)
    across = perpendicular_tenths_mm
    if across is not None and across < limits.perpendicular_tenths_mm:
        found.append(PERPENDICULAR)
    if slice_count is not None and slice_count < limits.slices:
        found.append(SLICES)
    return tuple(found)


def why_not_measurable(
    longest_mm: float,
    perpendicular_mm: float,
    slice_count: int,
    distance_mm: float,
    *,
    touches_border: bool,
) -> tuple[str, ...]:
    """Judge a measured lesion by RANO-BM.

    Parameters
    ----------
    slice_count : int
        Axial slices on which it is seen.
    distance_mm : float
        Slice thickness and gap together (``slice_distance_mm``).

    Returns
    -------
    tuple of str
        Codes of `REASONS`; empty for a measurable lesion.
    """
    limits = Limits(
        least_longest_tenths_mm(tenths(distance_mm)),
        RANO_BM.least_perpendicular_tenths_mm,
        RANO_BM.least_slices,
    )
    found = size_shortfalls(
        tenths(longest_mm), tenths(perpendicular_mm), slice_count, limits
    )
    return (*found, BORDER) if touches_border else found
