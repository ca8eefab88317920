"""Whether a request was started by our own pages, and where a login may lead.

Browsers say where a request comes from (``Sec-Fetch-Site``, ``Origin``); scripts say
nothing. Pure, safe between threads.
"""

from __future__ import annotations

from enum import Enum
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Source(Enum):
    """Where a request comes from, as far as its headers tell."""

    OURS = "ours"
    FOREIGN = "foreign"
    UNSTATED = "unstated"


def source_of_request(
    origin: str | None, fetch_site: str | None, host: str, *, secure: bool
) -> Source:
    """Judge a request by its ``Origin`` and ``Sec-Fetch-Site`` headers.

    Parameters
    ----------
    origin, fetch_site : str or None
        The two headers; None where absent.
    host : str
        The host (and port) the request was sent to.
    secure : bool
        Our pages are served over HTTPS only.

    Returns
    -------
    Source
        ``FOREIGN`` as soon as one of the headers says so.
    """
    if origin is None and fetch_site is None:
        return Source.UNSTATED
    if fetch_site not in (None, "same-origin"):
        return Source.FOREIGN
    if origin is not None and not _is_our_origin(origin, host, secure):
        return Source.FOREIGN
    return Source.OURS


def _is_our_origin(origin: str, host: str, secure: bool) -> bool:
    try:
        parts = urlsplit(origin)
        scheme = parts.scheme
        if scheme not in _DEFAULT_PORTS or (secure and scheme != "https"):
            return False
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            return False
        ours = urlsplit(f"{scheme}://{host}")
        default = _DEFAULT_PORTS[scheme]
        return (
            parts.hostname is not None
            and parts.hostname == ours.hostname
            and (parts.port or default) == (ours.port or default)
        )
    except ValueError:
        return False


def safe_next(target: str | None) -> str:
    """Give where to go after login: a path of this origin, else the start page.

    Parameters
    ----------
    target : str or None
        What the address asked for.

    Returns
    -------
    str
        Starts with exactly one ``/``; holds no backslash, no control character.
    """
    if (
        not target
        or len(target) > 2000
        or not target.startswith("/")
        or target.startswith("//")
        or "\\" in target
        or not target.isascii()
        or any(ord(character) <= 32 or ord(character) == 127 for character in target)
        or target.split("?", 1)[0].rstrip("/") == "/login"
    ):
        return "/"
    return target
