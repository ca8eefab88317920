"""What a request that nginx asks about needs: the rule behind ``/auth/check``.

nginx sends the original method and address. Decisions by path are made only on plain
paths: an address with percent signs, dot segments, doubled slashes or backslashes could
mean another path to nginx or Orthanc than to us, and is refused. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from segmentation.access.roles import Role

_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_.~@+,:=*$!;&'()-]+)*/?\Z", re.ASCII)
_DOT_SEGMENT = re.compile(r"/\.{1,2}(?:/|\Z)")
_READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_WRITE_METHODS = frozenset({"POST", "PUT", "DELETE", "PATCH"})
_DICOMWEB_RESOURCES = frozenset({"studies", "series", "instances", "patients"})


@dataclass(frozen=True)
class Need:
    """What a proxied request needs.

    Attributes
    ----------
    role : Role
        The least role that may do it.
    writes : bool
        It changes something, so a browser must prove that our own page sent it.
    """

    role: Role
    writes: bool


def need_of(method: str | None, address: str | None) -> Need | None:
    """Tell what a proxied request needs.

    Parameters
    ----------
    method, address : str or None
        ``X-Original-Method`` and ``X-Original-URI`` (path and query, as received).

    Returns
    -------
    Need or None
        None: nobody may do this through the proxy.
    """
    if not method or not address:
        return None
    path = address.split("?", 1)[0].split("#", 1)[0]
    if not _PLAIN_PATH.match(path) or _DOT_SEGMENT.search(path):
        return None
    if method not in _READ_METHODS | _WRITE_METHODS:
        return None
    parts = path.strip("/").split("/")
    if parts[0] == "dicom-web" and parts[1:2] and parts[1] not in _DICOMWEB_RESOURCES:
        # Orthanc's DICOMweb plugin also has addresses that make it call other
        # servers; those are for nobody who comes through the proxy.
        return None
    if parts[:2] == ["api", "v1"]:
        return Need("viewer", writes=False)  # the API itself decides on its routes
    if method in _READ_METHODS:
        return Need("viewer", writes=False)
    return Need("annotator", writes=True)
