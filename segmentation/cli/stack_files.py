"""Secrets and configuration files of a running system, for one machine and containers.

`make up` and the ``init`` container call the same functions, so the two ways of running
cannot drift apart. Files that hold a secret are readable by their owner alone; a secret
is made once and never overwritten.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from math import ceil
from pathlib import Path

from errors import MetiaError
from orthanc.configuration import basic_authorization, render_configuration
from settings import ROOT, new_secret

ARCHIVE_USER = "metia"
_LEGACY_MARGIN_S = 120
"""For the proxy to wait beyond the job: the outlines are made and stored after it."""


def ensure_secret(path: Path) -> str:
    """Return the secret that lies in `path`, made now if there is none."""
    with contextlib.suppress(FileExistsError):
        _write_new(path, new_secret())
    return path.read_text("utf-8").strip()


def write_scale_secrets(folder: Path, *, database: str, broker: str) -> None:
    """Make the passwords of PostgreSQL and Redis, and the addresses that hold them.

    Parameters
    ----------
    folder : Path
        Gets ``database_password``, ``database_url``, ``broker_password``,
        ``broker_url``.
    database, broker : str
        Host and port.
    """
    password = ensure_secret(folder / "database_password")
    _replace(
        folder / "database_url",
        f"postgresql+psycopg://metia:{password}@{database}/metia\n",
    )
    password = ensure_secret(folder / "broker_password")
    _replace(folder / "broker_url", f"redis://:{password}@{broker}/0\n")


def write_archive_configuration(
    path: Path,
    *,
    password: str,
    storage_dir: Path,
    http_port: int,
    dicom_port: int | None,
    remote_access: bool,
) -> None:
    """Write Orthanc's configuration."""
    _replace(
        path,
        render_configuration(
            storage_dir=storage_dir,
            http_port=http_port,
            dicom_port=dicom_port,
            user=ARCHIVE_USER,
            password=password,
            remote_access=remote_access,
        ),
    )


def write_proxy_configuration(
    path: Path,
    *,
    listen: str,
    viewer_root: Path,
    api: str,
    archive: str,
    archive_password: str,
    run_dir: Path,
    secure: bool,
    legacy_wait_s: float | None = None,
) -> None:
    """Write nginx's configuration from the template.

    Parameters
    ----------
    path : Path
        Where to.
    listen : str
        ``address:port`` the browser reaches.
    viewer_root : Path
        The built viewer.
    api, archive : str
        ``host:port`` of the two behind it.
    archive_password : str
        Added to requests for images, so that it never reaches the browser.
    run_dir : Path
        Where nginx may write its temporary files.
    secure : bool
        Browsers come over HTTPS, through a TLS proxy in front.
    legacy_wait_s : float, optional
        How long the API waits for a segmentation on behalf of the former front end,
        whose routes are let through then.
    """
    text = fill_template(
        _template("nginx.conf.template"),
        {
            "METIA_LISTEN": listen,
            "METIA_VIEWER_ROOT": str(viewer_root),
            "METIA_API": api,
            "METIA_ARCHIVE": archive,
            "METIA_ARCHIVE_AUTHORIZATION": basic_authorization(
                ARCHIVE_USER, archive_password
            ),
            "METIA_PROXY_RUN": str(run_dir),
            "METIA_SCHEME": "https" if secure else "http",
            "METIA_LEGACY_ROUTES": _legacy_routes(legacy_wait_s),
        },
    )
    if os.geteuid() == 0:
        # As root nginx would serve as an unprivileged user, who may not enter the
        # folder the product lies in.
        text = "user root;\n" + text
    _replace(path, text)


def _legacy_routes(wait_s: float | None) -> str:
    if wait_s is None:
        return "# The routes of the former system are off (METIA_LEGACY_API)."
    patience_s = ceil(wait_s) + _LEGACY_MARGIN_S
    return fill_template(
        _template("nginx-legacy.conf.template"),
        {"METIA_LEGACY_READ_TIMEOUT": str(patience_s)},
    ).rstrip()


def _template(name: str) -> str:
    return (ROOT / "orthanc" / name).read_text("utf-8")


def fill_template(text: str, values: Mapping[str, str]) -> str:
    """Put `values` in the place of ``${METIA_...}``, leaving nginx's variables alone.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` where a ``${METIA_...}`` has no value.
    """

    def value(match: re.Match[str]) -> str:
        try:
            return values[match[1]]
        except KeyError:
            raise MetiaError(
                "configuration-invalid", f"Nothing gives {match[1]} a value."
            ) from None

    return re.sub(r"\$\{(METIA_[A-Z_]+)\}", value, text)


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _replace(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    _write_new(path, text)
