"""RECIST 1.1, through the same engine, because the difference to RANO-BM instructs.

Two targets an organ and the brain is one organ; the 5 mm belong to the sum, not to one
lesion; a new lesion is progression; neither steroids nor the clinical state take part.
Lymph nodes (short axis) and bone with soft tissue are not modelled. Pure.
"""

from __future__ import annotations

from segmentation.followup.case import Compartment, Kind
from segmentation.followup.rules import RuleSet

RECIST_1_1 = RuleSet(
    name="recist-1.1",
    version="1.0",
    title="RECIST 1.1",
    growth_of="sum",
    compartments=frozenset(Compartment),
    non_measurable=frozenset(
        {Kind.CYSTIC_ONLY, Kind.BONE, Kind.LEPTOMENINGEAL, Kind.ILL_DEFINED}
    ),
    least_perpendicular_tenths_mm=0,
    least_slices=0,
    small_lesions=False,
    patient_terms=False,
    immunotherapy=False,
    targets_per_organ=lambda protocol: protocol.recist_max_per_organ,
)
