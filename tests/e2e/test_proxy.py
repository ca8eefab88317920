"""The single door: what it lets through, to whom, and what it never says."""

from __future__ import annotations

import json
from io import BytesIO

import httpx
import pytest

from segmentation.dicom.uids import derive_uid
from tests.e2e import studies
from tests.e2e.running_stack import RunningStack

_PATHS = (
    "/dicom-web/studies",
    f"/dicom-web/studies/{studies.ODD.uid}/metadata",
    "/dicom-web/instances",
    "/wado?requestType=WADO",
)


@pytest.fixture
def nobody(stack: RunningStack) -> httpx.Client:
    return httpx.Client(base_url=stack.url, trust_env=False)


@pytest.mark.parametrize("path", _PATHS)
def test_images_need_a_login(nobody: httpx.Client, path: str) -> None:
    spoofed = {"X-Remote-User": "admin", "X-User": "admin", "X-Original-URI": "/login"}
    assert nobody.get(path).status_code == 401
    assert nobody.get(path, headers=spoofed).status_code == 401


@pytest.mark.parametrize("path", ["/", "/brainmets?StudyInstanceUIDs=1&b=2", "/viewer"])
def test_pages_lead_to_the_login(nobody: httpx.Client, path: str) -> None:
    answer = nobody.get(path)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/login?next={path}"


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/api/v1/auth/check",
        "/_auth",
        "/dicom-web/servers",
        "/dicom-web/app/client/index.html",
        "/dicom-web/studies/../servers",
    ],
)
def test_what_nobody_needs_is_not_there(stack: RunningStack, path: str) -> None:
    address = httpx.URL(stack.url).copy_with(raw_path=path.encode())
    assert stack.admin.get(address).status_code == 404


@pytest.mark.parametrize("path", ["/api", "/api/v1", "/api/v2/jobs", "/api/v1/none"])
def test_an_unknown_address_of_the_api_is_a_problem_and_no_page(
    stack: RunningStack, path: str
) -> None:
    answer = stack.admin.get(path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "not-found"


def test_too_large_a_request_is_a_problem(stack: RunningStack) -> None:
    answer = stack.admin.post("/api/v1/jobs", content=b" " * 1_500_000)
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "too-large"


def test_the_log_does_not_quote_what_was_asked(stack: RunningStack) -> None:
    """nginx tells of failed requests with their address, which may hold a name."""
    stack.admin.post("/login?PatientName=SOMEBODY", content=b" " * 1_500_000)
    log = (stack.data_dir / "log" / "nginx.log").read_text()
    assert " POST 413 " in log
    assert "SOMEBODY" not in log


@pytest.mark.parametrize("path", ["/instances", "/system", "/tools/execute-script"])
def test_the_rest_api_of_the_archive_is_not_reached(
    stack: RunningStack, path: str
) -> None:
    """The address is taken for a page of the viewer."""
    answer = stack.admin.get(path)
    assert "<title>OHIF Viewer</title>" in answer.text


def test_the_study_list_names_what_it_lists(stack: RunningStack) -> None:
    """The viewer encodes the commas of includefield, which the archive ignores."""
    fields = "%2C".join(["00081030", "00080060", "0020000D", "00201208"])
    answer = stack.admin.get(f"/dicom-web/studies?limit=101&includefield={fields}")
    described = {study["00081030"]["Value"][0] for study in answer.json()}
    assert "BRAIN ODD" in described


def test_addresses_in_answers_are_those_of_the_door(stack: RunningStack) -> None:
    answer = stack.admin.get(f"/dicom-web/studies?StudyInstanceUID={studies.ODD.uid}")
    assert answer.json()[0]["00081190"]["Value"][0].startswith(
        f"{stack.url}/dicom-web/"
    )


def test_credentials_of_the_archive_stay_behind_the_door(stack: RunningStack) -> None:
    configuration = json.loads((stack.data_dir / "run" / "orthanc.json").read_text())
    (password,) = configuration["RegisteredUsers"].values()
    for path in (*_PATHS, "/app-config.js", "/metia-ext/extension.js", "/"):
        answer = stack.admin.get(path)
        assert password not in answer.text
        assert "authorization" not in answer.headers


def test_storing_needs_the_role_and_this_origin(stack: RunningStack) -> None:
    image = studies.QUEUE.images[0].copy()
    image.SeriesInstanceUID = derive_uid("browser-tests", "stow")
    image.SOPInstanceUID = derive_uid("browser-tests", "stow", "1")
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.StudyInstanceUID = derive_uid("browser-tests", "stow", "study")
    file = BytesIO()
    image.save_as(file, enforce_file_format=True)
    body = (
        b"--x\r\nContent-Type: application/dicom\r\n\r\n"
        + file.getvalue()
        + b"\r\n--x--"
    )
    kind = 'multipart/related; type="application/dicom"; boundary=x'

    def store(user: str, origin: str) -> int:
        headers = {"Content-Type": kind, "Origin": origin}
        headers["Accept"] = "application/dicom+json"
        return (
            stack.users[user]
            .post("/dicom-web/studies", content=body, headers=headers)
            .status_code
        )

    assert store("vic", stack.url) == 403
    assert store("ann", "https://elsewhere.example") == 403
    assert store("ann", stack.url) == 200


def test_the_viewer_is_sent_small_and_guarded(stack: RunningStack) -> None:
    page = stack.admin.get("/")
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Cache-Control"] == "no-store"
    (bundle,) = [
        part
        for part in page.text.split('"')
        if part.startswith("/app.bundle.") and part.endswith(".js")
    ]
    with stack.admin.stream("GET", bundle, headers={"Accept-Encoding": "gzip"}) as sent:
        assert sent.headers["Content-Encoding"] == "gzip"
        assert int(sent.headers["Content-Length"]) < 5_000_000
        assert "immutable" in sent.headers["Cache-Control"]
    for path in ("/metia-ext/extension.js", "/metia-ext/mode.js", "/app-config.js"):
        answer = stack.admin.get(path)
        assert "javascript" in answer.headers["Content-Type"]
        assert answer.headers["Cache-Control"] == "no-cache"
