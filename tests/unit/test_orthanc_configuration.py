"""The configuration Orthanc is started with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from errors import MetiaError
from orthanc.configuration import (
    basic_authorization,
    find_plugins,
    render_configuration,
)

GIVEN = {
    "storage_dir": Path('/a "quoted" folder/ü'),
    "http_port": 8043,
    "dicom_port": None,
    "user": "metia",
    "password": 'long "enough" \\ secret',
}


def render(**changes: object) -> dict[str, object]:
    return json.loads(render_configuration(**{**GIVEN, **changes}))


def test_safe_by_default() -> None:
    configuration = render()
    assert configuration["AuthenticationEnabled"] is True
    assert configuration["RegisteredUsers"] == {"metia": GIVEN["password"]}
    assert configuration["RemoteAccessAllowed"] is False
    assert configuration["HttpBindAddresses"] == ["127.0.0.1"]
    assert configuration["DicomServerEnabled"] is False
    assert "DicomPort" not in configuration
    assert configuration["StorageDirectory"] == str(GIVEN["storage_dir"])
    for name in (
        "ExecuteLuaEnabled",
        "RestApiWriteToFileSystemEnabled",
        "WebDavEnabled",
        "HttpCompressionEnabled",
        "OverwriteInstances",
        "StorageCompression",
        "DicomAlwaysAllowStore",
        "DicomAlwaysAllowFind",
        "DicomAlwaysAllowGet",
        "DicomAlwaysAllowMove",
        "OrthancExplorerEnabled",
        "HttpVerbose",
    ):
        assert configuration[name] is False, name
    assert configuration["LuaScripts"] == []
    assert configuration["DeidentifyLogs"] is True
    assert "IngestTranscoding" not in configuration


def test_what_is_asked_for() -> None:
    configuration = render(
        remote_access=True,
        dicom_port=4242,
        stable_age_s=7,
        plugins=[Path("/p/a.so"), Path("/p/b.so")],
    )
    assert configuration["RemoteAccessAllowed"] is True
    assert "HttpBindAddresses" not in configuration
    assert configuration["DicomServerEnabled"] is True
    assert configuration["DicomPort"] == 4242
    assert configuration["StableAge"] == 7
    assert configuration["Plugins"] == ["/p/a.so", "/p/b.so"]


def test_plugin_is_named_even_where_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "exists", lambda _self: False)
    assert find_plugins() == [Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")]


@pytest.mark.parametrize(
    "changes",
    [
        {"password": ""},
        {"password": "short"},
        {"user": ""},
        {"user": "a:b"},
        {"password": "long enough ${HOME}"},
        {"storage_dir": Path("/x/${HOME}")},
    ],
)
def test_unsafe_values_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MetiaError) as caught:
        render(**changes)
    assert caught.value.code == "configuration-invalid"
    assert "long enough" not in str(caught.value)


def test_authorization() -> None:
    # The example of RFC 7617.
    assert (
        basic_authorization("Aladdin", "open sesame")
        == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    )
