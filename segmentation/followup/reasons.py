"""The stable codes with which an assessment explains itself.

Programs go by the code, people by the sentence. ``CODES`` is the whole list, against
which ``docs/rano-bm.md`` is checked; a reason with another code cannot be made.
Sentences name lesions and visits by the ids of the case and nothing else of the
patient. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

CODES: dict[str, str] = {
    # -- baseline and targets ----------------------------------------------------
    "baseline": "This visit is the reference.",
    "before-baseline": "The visit lies before the baseline and is not assessed.",
    "baseline-too-old": "The baseline is longer before treatment than allowed.",
    "baseline-after-treatment-start": "No visit lies before the start of treatment.",
    "baseline-reset": "The comparison starts anew here.",
    "no-target": "There is no target lesion; non-target disease decides alone.",
    "target-not-measured": "A target set by the reader is not measured at baseline.",
    "target-not-measurable": "A target set by the reader is not measurable.",
    "target-over-organ-limit": "The rule set takes fewer targets of one organ.",
    "measurability-assumed": "Perpendicular diameter or slice count not recorded.",
    # -- target lesions ------------------------------------------------------------
    "target-cr": "All target lesions are gone.",
    "target-pr": "The sum is at most 70 % of baseline.",
    "target-sd": "Neither response nor progression of the target lesions.",
    "target-pd": "The sum is at least 120 % of nadir and the 5 mm rule is met.",
    "target-ne": "Target lesions without a value, and the others prove nothing.",
    "five-mm-rule": "The sum grew by 20 % or more, but not by the 5 mm asked for.",
    "below-baseline": "Progression although the sum is below baseline.",
    "not-assessed": "A lesion has no value at this visit.",
    "local-therapy": "A lesion was treated locally; it is not comparable any more.",
    "censored": "Local treatment ended the assessment, as the protocol says.",
    "default-value": "A lesion too small to measure counts with the default value.",
    "driven-by-default": "Another category would result without the default value.",
    "merge": "Lesions have fused; the whole is compared with its parts together.",
    "merge-with-non-target": "A target has fused with a lesion that is no target.",
    "split": "A lesion has fallen apart; its fragments are added.",
    "reappeared": "A lesion that was gone is back; by itself no progression.",
    "radionecrosis": "Radiation necrosis is suspected; to be adjudicated.",
    "radionecrosis-decides": "Progression rests on suspected radiation necrosis.",
    "technique-changed": "The scan technique changed; sizes may not compare.",
    # -- the rest --------------------------------------------------------------------
    "non-target-pd": "The reader sees unequivocal progression of non-target disease.",
    "non-target-persists": "Non-target disease is still there.",
    "non-target-not-assessed": "Non-target disease was not assessed.",
    "non-target-derived": "The non-target state was derived from the lesions.",
    "non-target-contradiction": "The reader's non-target state and lesions disagree.",
    "new-lesion": "There is an unequivocal new lesion.",
    "new-lesion-equivocal": "A new lesion is not certain yet: scan again.",
    "new-lesion-certainty-missing": "Nobody has said how certain a new lesion is.",
    "new-lesion-one-projection": "A new lesion is seen in one projection only.",
    "new-lesion-baseline-unknown": "The lesion's place was not assessed at baseline.",
    "relapse": "Disease is back after a confirmed complete response.",
    "relapse-below-threshold": "Something small at an old site: the reader decides.",
    "clinical-worse": "The patient is worse, due to tumour.",
    "clinical-not-recorded": "The clinical status is not recorded.",
    "steroids": "Steroids stand against a complete response.",
    "steroids-increased": "Steroids were increased without progression.",
    "steroids-not-recorded": "Use or change of steroids is not recorded.",
    # -- overall -----------------------------------------------------------------------
    "not-complete": "Complete response of the targets, but not of everything.",
    "stable-non-target": "Without targets: disease is there, neither gone nor worse.",
    "no-disease": "No disease at baseline and none now.",
    "reader-input-missing": "Not evaluable, since the reader's inputs are missing.",
    "confirmed": "The response has held for the time required.",
    "unconfirmed": "The response has not held for the time required yet.",
    "immunotherapy-unconfirmed": "Progression-like under immunotherapy: scan again.",
    "immunotherapy-confirmed": "Progression under immunotherapy is confirmed.",
    "immunotherapy-resolved": "Earlier progression-like imaging was not confirmed.",
    "back-dated": "Progression is dated to an earlier visit.",
    "after-progression": "Progression was declared before; best response is closed.",
}


@dataclass(frozen=True)
class Reason:
    """One step of the explanation."""

    code: str
    text: str

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise KeyError(f"{self.code!r} is not a documented reason")


def millimetres(tenths: int) -> str:
    """Write tenths of a millimetre as millimetres: 141 is ``14.1 mm``."""
    sign = "-" if tenths < 0 else ""
    return f"{sign}{abs(tenths) // 10}.{abs(tenths) % 10} mm"
