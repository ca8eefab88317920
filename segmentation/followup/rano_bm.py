"""RANO-BM: response criteria for brain metastases (Lin 2015), as MetIA applies them.

The rule set as data, for the engine in ``assess``. Sources, what they leave open and
what was decided are in ``docs/rano-bm.md``; the full text of the paper was not
available when this was written, so it follows the reprinted response table and
summaries. It proposes; a reader decides. Pure.
"""

from __future__ import annotations

from segmentation.followup.case import Compartment, Kind
from segmentation.followup.rules import RuleSet

RANO_BM = RuleSet(
    name="rano-bm",
    version="1.0",
    title="RANO-BM",
    growth_of="lesion",
    compartments=frozenset({Compartment.CNS}),
    non_measurable=frozenset(
        {
            Kind.CYSTIC_ONLY,
            Kind.DURAL,
            Kind.BONE,
            Kind.LEPTOMENINGEAL,
            Kind.ILL_DEFINED,
        }
    ),
    least_perpendicular_tenths_mm=50,
    least_slices=2,
    small_lesions=True,
    patient_terms=True,
    immunotherapy=True,
    targets_per_organ=lambda protocol: protocol.max_targets,
)
