"""Orthanc's configuration: what is fixed lies in ``orthanc.json``, the rest comes here.

The launcher, the container and the tests all take their configuration from
``render_configuration``, so that the service is tested with the configuration it runs
with. It serves Orthanc 1.10 (Debian 12) and 1.13 (Debian 14).

What the fixed part promises: nobody is let in without a password; no Lua and no WebDAV;
Orthanc writes nowhere but into its storage, keeps every byte it was sent, never
replaces an image, never deletes one to make room, and compresses no answer (12 ms an
image in 1.10). Over DICOM only registered modalities may store or query; register one
with ``PUT /modalities/NAME``. Names are kept out of its log.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from errors import MetiaError

TEMPLATE = Path(__file__).with_name("orthanc.json")

DICOMWEB_PLUGINS = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/lib/orthanc/libOrthancDicomWeb.so"),
    Path("/usr/local/share/orthanc/plugins/libOrthancDicomWeb.so"),
)
"""Where distributions put the DICOMweb plugin; Debian's place first."""


def find_plugins() -> list[Path]:
    """Return the DICOMweb plugin of this machine, or the place Debian has it at.

    The latter is for a machine that writes the configuration of another.
    """
    found = [path for path in DICOMWEB_PLUGINS if path.exists()]
    return (found or list(DICOMWEB_PLUGINS))[:1]


def render_configuration(
    *,
    storage_dir: Path,
    http_port: int,
    dicom_port: int | None,
    user: str,
    password: str,
    remote_access: bool = False,
    plugins: Sequence[Path] | None = None,
    stable_age_s: int | None = None,
) -> str:
    """Return the JSON text Orthanc is started with; it holds the password.

    Parameters
    ----------
    storage_dir : Path
        Where images and index lie.
    http_port : int
        Port of REST and DICOMweb.
    dicom_port : int or None
        Port for C-STORE; None: no DICOM port. Orthanc opens it on every address of the
        machine, whatever `remote_access` says.
    user, password : str
        The only account. The password must be at least 16 characters long.
    remote_access : bool
        Whether HTTP from other machines is answered: only on a network of our own
        containers.
    plugins : sequence of Path, optional
        Default: the DICOMweb plugin as distributions install it.
    stable_age_s : int, optional
        Seconds without a new image after which a study counts as complete.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` for an account that is not safe.
    """
    if not user or ":" in user or len(password) < 16:
        raise MetiaError(
            "configuration-invalid",
            "The archive's user must not be empty or contain a colon, and its password "
            "must have at least 16 characters.",
        )
    configuration = json.loads(TEMPLATE.read_text("utf-8"))
    configuration |= {
        "StorageDirectory": str(storage_dir),
        "IndexDirectory": str(storage_dir),
        "HttpPort": http_port,
        "RemoteAccessAllowed": remote_access,
        "DicomServerEnabled": dicom_port is not None,
        "RegisteredUsers": {user: password},
        "Plugins": [str(path) for path in (plugins or find_plugins())],
    }
    if not remote_access:
        # From 1.12 on, not even a connection; 1.10 knows only RemoteAccessAllowed.
        configuration["HttpBindAddresses"] = ["127.0.0.1"]
    if dicom_port is not None:
        configuration["DicomPort"] = dicom_port
    if stable_age_s is not None:
        configuration["StableAge"] = stable_age_s
    text = json.dumps(configuration, indent=2)
    if "${" in text:
        # Orthanc would put the value of an environment variable there.
        raise MetiaError(
            "configuration-invalid",
            "Neither the archive's account nor its folder may contain '${'.",
        )
    return text


def basic_authorization(user: str, password: str) -> str:
    """Return the value of the Authorization header for an account."""
    token = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return f"Basic {token}"
