"""The words of the login page, in English and French.

``language_of`` picks the language: what ``?lang=`` says, else the first language of
``Accept-Language`` that is spoken here, else English. Pure, safe between threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

TEXTS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "title": "Log in",
        "tagline": "Brain metastases on MRI: find, measure, follow",
        "username": "User name",
        "password": "Password",
        "submit": "Log in",
        "notice": "Research use only. Not a medical device.",
        "other_language": "Français",
        "other_code": "fr",
        "wrong": "User name or password is not right.",
        "throttled": "Too many attempts. Wait {minutes} min, then try again.",
        "expired": "This page had expired. Please log in again.",
        "unavailable": "The service cannot check logins right now. Try again shortly.",
        "continue": "Continue to MetIA",
    },
    "fr": {
        "title": "Connexion",
        "tagline": "Métastases cérébrales en IRM : détecter, mesurer, suivre",
        "username": "Nom d’utilisateur",
        "password": "Mot de passe",
        "submit": "Se connecter",
        "notice": "Réservé à la recherche. N’est pas un dispositif médical.",
        "other_language": "English",
        "other_code": "en",
        "wrong": "Le nom d’utilisateur ou le mot de passe est incorrect.",
        "throttled": "Trop d’essais. Attendez {minutes} min, puis réessayez.",
        "expired": "Cette page avait expiré. Veuillez vous reconnecter.",
        "unavailable": "La vérification est impossible pour l’instant. "
        "Réessayez dans un moment.",
        "continue": "Continuer vers MetIA",
    },
}


def language_of(asked: str | None, accepted: Sequence[str]) -> str:
    """Pick the language of the page.

    Parameters
    ----------
    asked : str or None
        Value of ``?lang=``.
    accepted : sequence of str
        Languages of ``Accept-Language``, the best first.

    Returns
    -------
    str
        A key of ``TEXTS``.
    """
    for wish in (asked or "", *accepted):
        code = wish.lower().split("-")[0]
        if code in TEXTS:
            return code
    return "en"
