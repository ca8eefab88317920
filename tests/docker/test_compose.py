"""The containers, built and run as `docker-compose up` does: `make test-docker`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.broker_servers import free_port

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
PROJECT = "metia-test"
SERVICES = ("orthanc", "api", "worker", "viewer")


class Compose:
    """The project under a name of its own, on a free port, with more options."""

    def __init__(self, name: str = PROJECT, *options: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._options = ("-p", name, *options)
        self._environment = {**os.environ, "METIA_PUBLISH": f"127.0.0.1:{port}"}

    def __call__(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [*_compose_command(), *self._options, *arguments],
            cwd=ROOT,
            env=self._environment,
            check=False,
            capture_output=True,
            text=True,
        )
        if check and done.returncode:
            pytest.fail(f"{arguments}: {done.stderr[-3000:]}")
        return done.stdout

    def container(self, service: str) -> str:
        """Id of the service's container."""
        return self("ps", "-q", service).strip()

    def inspect(self, service: str) -> dict[str, object]:
        """What the engine says of the service's container."""
        text = subprocess.check_output(
            ["docker", "inspect", self.container(service)], text=True
        )
        (facts,) = json.loads(text)
        return facts

    def python(self, service: str, code: str) -> subprocess.CompletedProcess[str]:
        """Run Python inside a container."""
        return subprocess.run(
            ["docker", "exec", self.container(service), "python", "-c", code],
            check=False,
            capture_output=True,
            text=True,
        )


def _compose_command() -> list[str]:
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    return ["docker", "compose"]


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    running = Compose()
    running("down", "-v", check=False)
    try:
        running("build")
        running("up", "-d")
        yield running
    finally:
        running("down", "-v", check=False)


@pytest.fixture(scope="module")
def client(compose: Compose) -> Iterator[httpx.Client]:
    with logged_in(compose) as client:
        yield client


@contextmanager
def logged_in(compose: Compose) -> Iterator[httpx.Client]:
    """Give a client of the administrator, once the system answers."""
    password = re.search(r"password: (\S+)", compose("logs", "--no-color", "init"))
    assert password, "init does not tell the first password"
    with httpx.Client(
        base_url=compose.url, headers={"Origin": compose.url}, timeout=30
    ) as client:
        until(lambda: client.get("/healthz").status_code == 200, 120)
        answer = client.post(
            "/api/v1/session", json={"username": "admin", "password": password[1]}
        )
        assert answer.status_code == 200
        client.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
        yield client


def until(done: Callable[[], bool], timeout_s: float) -> None:
    """Wait until it is true."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            if done():
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    pytest.fail(f"not within {timeout_s} s")


def segment(
    client: httpx.Client, study_uid: str, model: str | None = None
) -> dict[str, Any]:
    """Press the button, wait for the end, and give the result of that model."""
    wish = {"study_uid": study_uid} | ({"model": model} if model else {})
    job = client.post("/api/v1/jobs", json=wish).json()

    def state() -> str:
        return str(client.get(f"/api/v1/jobs/{job['id']}").json()["state"])

    until(lambda: state() not in {"queued", "running"}, 300)
    assert state() == "succeeded"
    results = client.get(f"/api/v1/studies/{study_uid}/results").json()["results"]
    (result,) = (one for one in results if model in (None, one["model"]["name"]))
    return dict(result)


def _health(compose: Compose, service: str) -> str:
    state = compose.inspect(service)["State"]
    assert isinstance(state, dict)
    return str(state["Health"]["Status"])


def test_every_service_becomes_healthy(compose: Compose, client: httpx.Client) -> None:
    for service in SERVICES:
        until(lambda: _health(compose, service) == "healthy", 240)  # noqa: B023


def test_button_to_segmentation_on_the_sample(client: httpx.Client) -> None:
    def studies() -> list[dict[str, dict[str, list[str]]]]:
        answer = client.get("/dicom-web/studies")
        return answer.json() if answer.status_code == 200 else []

    until(lambda: len(studies()) == 3, 240)
    study_uid = studies()[0]["0020000D"]["Value"][0]
    until(lambda: client.get("/readyz").status_code == 200, 120)
    result = segment(client, study_uid)
    assert result["lesion_count"] in (7, 8)  # of whichever visit comes first
    series = result["segmentation"]["series_uid"]
    stored = client.get(f"/dicom-web/studies/{study_uid}/series/{series}/instances")
    assert len(stored.json()) == 1


def test_three_visits_line_up_to_response_and_progression(
    client: httpx.Client,
) -> None:
    studies = [
        (one["00080020"]["Value"][0], one["0020000D"]["Value"][0])
        for one in client.get("/dicom-web/studies").json()
    ]
    last = max(studies)[1]
    for _, study_uid in studies:
        client.post("/api/v1/jobs", json={"study_uid": study_uid})

    def categories() -> list[str | None]:
        answer = client.get(f"/api/v1/studies/{last}/course")
        visits = answer.json()["visits"] if answer.status_code == 200 else []
        return [one["assessment"] and one["assessment"]["category"] for one in visits]

    until(lambda: categories()[-2:] == ["PR", "PD"], 240)
    course = client.get(f"/api/v1/studies/{last}/course").json()
    assert all(
        one["registration"]["accepted"]
        for one in course["visits"]
        if not one["is_baseline"]
    )
    assert course["visits"][0]["assessment"]["category"] == "BASELINE"


def test_the_trained_model_runs_in_its_container(client: httpx.Client) -> None:
    study_uid = client.get("/dicom-web/studies").json()[0]["0020000D"]["Value"][0]
    result = segment(client, study_uid, "unetr-brain-metastases")
    assert result["lesion_count"] >= 7


def test_nobody_gets_in_without_logging_in(compose: Compose) -> None:
    for path in ("/dicom-web/studies", "/wado", "/api/v1/jobs"):
        assert httpx.get(compose.url + path).status_code == 401
    assert httpx.get(compose.url + "/").status_code == 302


@pytest.mark.parametrize("service", SERVICES)
def test_containers_are_hardened(compose: Compose, service: str) -> None:
    facts = compose.inspect(service)
    host = facts["HostConfig"]
    config = facts["Config"]
    assert isinstance(host, dict)
    assert isinstance(config, dict)
    assert config["User"] == "10001:10001"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert not [bind for bind in host["Binds"] or [] if "docker.sock" in bind]


def test_only_the_viewer_is_published(compose: Compose) -> None:
    for service in ("orthanc", "api", "worker"):
        host = compose.inspect(service)["HostConfig"]
        assert isinstance(host, dict)
        assert not host["PortBindings"]


def test_the_inside_has_no_way_out(compose: Compose) -> None:
    # 192.0.2.0/24 is reserved for documentation: without a route the answer is
    # immediate, so nothing ever leaves.
    code = (
        "import socket; s = socket.socket(); s.settimeout(2);"
        "raise SystemExit(s.connect_ex(('192.0.2.1', 9)))"
    )
    assert compose.python("worker", code).returncode != 0


def test_secrets_are_no_environment_variables(compose: Compose) -> None:
    for service in SERVICES:
        config = compose.inspect(service)["Config"]
        assert isinstance(config, dict)
        names = {entry.partition("=")[0] for entry in config["Env"]}
        assert not names & {"METIA_ARCHIVE_PASSWORD", "METIA_SECRET_KEY"}


def test_data_and_password_survive_a_restart(
    compose: Compose, client: httpx.Client
) -> None:
    before = client.get("/api/v1/jobs").json()["jobs"]
    compose("down")
    compose("up", "-d")
    until(lambda: client.get("/healthz").status_code == 200, 120)
    assert "password:" not in compose("logs", "--no-color", "init")
    after = client.get("/api/v1/jobs").json()["jobs"]
    assert [job["id"] for job in after] == [job["id"] for job in before]
    assert before
