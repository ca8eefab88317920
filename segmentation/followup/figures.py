"""Numbers for show: rounded once, from the exact ones. Pure."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction


def rounded(value: float, places: int) -> float:
    """Round, halves away from zero, as a person reads the number."""
    step = Decimal(1).scaleb(-places)
    return float(Decimal(repr(value)).quantize(step, rounding=ROUND_HALF_UP))


def percent(change: Fraction | None) -> float | None:
    """Give a fraction as a percentage with one decimal, halves away from zero."""
    if change is None:
        return None
    exact = Decimal(change.numerator * 1000) / Decimal(change.denominator)
    return float(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP) / 10)
