"""The reading by volume, beside the response criteria and never called by their name.

Response from 65 % less volume than at baseline on (Oft 2021). No published cut-off for
progression by volume in brain metastases was found; what is shown for growth is only
what +20 % of diameter would mean for a sphere (+72.8 %). Integers throughout. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from segmentation.followup.results import Volumetric
from segmentation.followup.rules import (
    SPHERE_GROWTH,
    VOLUME_RESPONSE,
    reaches,
    within,
)
from segmentation.followup.sums import Sum


def volumetric_reading(now: Sum, history: Sequence[Sum]) -> Volumetric | None:
    """Compare volumes; None unless all targets have one now and at baseline.

    Parameters
    ----------
    history : sequence of Sum
        Baseline first; empty for the baseline itself.
    """
    volume = _volume(now)
    before = [_volume(entry) for entry in history]
    known = [value for value in before if value is not None]
    if volume is None or (before and before[0] is None):
        return None
    baseline = known[0] if known else volume
    nadir = min(known, default=volume)
    if not history:
        category = "baseline"
    elif volume == 0:
        category = "volumetric complete response"
    elif within(volume, VOLUME_RESPONSE, baseline):
        category = "volumetric partial response"
    else:
        category = "no volumetric response"
    return Volumetric(
        sum_tenths_mm3=volume,
        baseline_tenths_mm3=baseline,
        nadir_tenths_mm3=nadir,
        category=category,
        sphere_equivalent_growth=(
            bool(history) and volume > nadir and reaches(volume, SPHERE_GROWTH, nadir)
        ),
    )


def _volume(entry: Sum) -> int | None:
    if not entry.complete:
        return None
    volumes = [leaf.volume_tenths_mm3 for leaf in entry.leaves.values()]
    known = [volume for volume in volumes if volume is not None]
    return sum(known) if len(known) == len(volumes) else None
