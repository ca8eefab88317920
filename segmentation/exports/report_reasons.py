"""The sentences of the engine's reasons in French, by code.

The engine explains itself in English sentences with numbers; the French report gives
the sentence of the code, and its numbers stand in the report's tables. A test holds
this list to ``segmentation.followup.reasons.CODES``. Constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FRENCH_REASONS: Final[Mapping[str, str]] = {
    # -- référence et cibles -------------------------------------------------------
    "baseline": "Cette visite est la référence.",
    "before-baseline": "Visite antérieure à la référence : non évaluée.",
    "baseline-too-old": "La référence précède le traitement de trop longtemps.",
    "baseline-after-treatment-start": "Aucune visite avant le début du traitement.",
    "baseline-reset": "La comparaison repart de cette visite.",
    "no-target": "Pas de lésion cible ; seules les lésions non cibles décident.",
    "target-not-measured": "Une cible choisie par le lecteur n'est pas mesurée à la "
    "référence.",
    "target-not-measurable": "Une cible choisie par le lecteur n'est pas mesurable.",
    "target-over-organ-limit": "Ces critères admettent moins de cibles par organe.",
    "measurability-assumed": "Perpendiculaire ou nombre de coupes non renseignés.",
    # -- lésions cibles ------------------------------------------------------------
    "target-cr": "Toutes les lésions cibles ont disparu.",
    "target-pr": "La somme est d'au plus 70 % de la référence.",
    "target-sd": "Ni réponse ni progression des lésions cibles.",
    "target-pd": "La somme est d'au moins 120 % du nadir et la règle des 5 mm est "
    "remplie.",
    "target-ne": "Des cibles sont sans valeur, et les autres ne prouvent rien.",
    "five-mm-rule": "La somme a augmenté d'au moins 20 %, mais pas des 5 mm demandés.",
    "below-baseline": "Progression bien que la somme soit inférieure à la référence.",
    "not-assessed": "Une lésion est sans valeur à cette visite.",
    "local-therapy": "Une lésion traitée localement : elle n'est plus comparable.",
    "censored": "Un traitement local a mis fin à l'évaluation, selon le protocole.",
    "default-value": "Une lésion trop petite pour être mesurée compte pour la valeur "
    "par défaut.",
    "driven-by-default": "Sans la valeur par défaut, la catégorie serait autre.",
    "merge": "Des lésions ont fusionné ; le tout est comparé à la somme des parties.",
    "merge-with-non-target": "Une cible a fusionné avec une lésion non cible.",
    "split": "Une lésion s'est fragmentée ; ses fragments sont additionnés.",
    "reappeared": "Une lésion disparue est de retour ; en soi pas une progression.",
    "radionecrosis": "Radionécrose suspectée : à trancher.",
    "radionecrosis-decides": "La progression repose sur une radionécrose suspectée.",
    "technique-changed": "La technique a changé ; les tailles peuvent ne pas être "
    "comparables.",
    # -- le reste ------------------------------------------------------------------
    "non-target-pd": "Le lecteur voit une progression certaine des lésions non cibles.",
    "non-target-persists": "Des lésions non cibles sont toujours présentes.",
    "non-target-not-assessed": "Les lésions non cibles n'ont pas été évaluées.",
    "non-target-derived": "L'état des lésions non cibles a été déduit des lésions.",
    "non-target-contradiction": "L'état non cible du lecteur et les lésions se "
    "contredisent.",
    "new-lesion": "Il y a une nouvelle lésion certaine.",
    "new-lesion-equivocal": "Une nouvelle lésion n'est pas encore certaine : refaire "
    "un examen.",
    "new-lesion-certainty-missing": "Personne n'a dit si une nouvelle lésion est "
    "certaine.",
    "new-lesion-one-projection": "Une nouvelle lésion n'est vue que dans un plan.",
    "new-lesion-baseline-unknown": "L'endroit de la lésion n'a pas été évalué à la "
    "référence.",
    "relapse": "La maladie est de retour après une réponse complète confirmée.",
    "relapse-below-threshold": "Une petite anomalie à un site ancien : le lecteur "
    "décide.",
    "clinical-worse": "L'état du patient s'est aggravé du fait de la tumeur.",
    "clinical-not-recorded": "L'état clinique n'est pas renseigné.",
    "steroids": "Les corticoïdes excluent une réponse complète.",
    "steroids-increased": "Corticoïdes augmentés sans progression.",
    "steroids-not-recorded": "Corticoïdes, ou leur changement, non renseignés.",
    # -- réponse globale -------------------------------------------------------------
    "not-complete": "Réponse complète des cibles, mais pas de l'ensemble.",
    "stable-non-target": "Sans cible : la maladie est présente, ni disparue ni pire.",
    "no-disease": "Pas de maladie à la référence, ni maintenant.",
    "reader-input-missing": "Non évaluable : les données du lecteur manquent.",
    "confirmed": "La réponse s'est maintenue le temps requis.",
    "unconfirmed": "La réponse ne s'est pas encore maintenue le temps requis.",
    "immunotherapy-unconfirmed": "Aspect de progression sous immunothérapie : refaire "
    "un examen.",
    "immunotherapy-confirmed": "La progression sous immunothérapie est confirmée.",
    "immunotherapy-resolved": "L'aspect antérieur de progression n'a pas été confirmé.",
    "back-dated": "La progression est datée d'une visite antérieure.",
    "after-progression": "Progression déjà déclarée ; la meilleure réponse est close.",
}
