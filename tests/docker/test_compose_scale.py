"""The profile `scale` as containers: PostgreSQL, Redis and two workers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.docker.test_compose import Compose, logged_in, until

pytestmark = pytest.mark.docker

ADDED = ("database", "broker")


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    running = Compose(
        "metia-scale-test", "--env-file", "scale.env", "--profile", "scale"
    )
    running("down", "-v", check=False)
    try:
        running("build")
        running("up", "-d", "--scale", "worker=2")
        yield running
    finally:
        running("down", "-v", check=False)


@pytest.fixture(scope="module")
def client(compose: Compose) -> Iterator[httpx.Client]:
    with logged_in(compose) as client:
        yield client


def _checks(client: httpx.Client) -> dict[str, str]:
    checks: dict[str, str] = client.get("/readyz").json().get("checks", {})
    return checks


def _studies(client: httpx.Client) -> list[str]:
    answer = client.get("/dicom-web/studies")
    found = answer.json() if answer.status_code == 200 else []
    return [one["0020000D"]["Value"][0] for one in found]


def _workers(compose: Compose) -> list[str]:
    return compose("ps", "-q", "worker").split()


def _states(client: httpx.Client) -> list[str]:
    jobs = client.get("/api/v1/jobs").json()["jobs"]
    return [job["state"] for job in jobs if job["kind"] == "segmentation"]


def test_jobs_go_through_the_broker_to_either_worker(
    compose: Compose, client: httpx.Client
) -> None:
    until(lambda: len(_studies(client)) == 3, 240)
    until(lambda: client.get("/readyz").status_code == 200, 120)
    assert _checks(client)["broker"] == "ok"
    assert len(_workers(compose)) == 2
    for study_uid in _studies(client):
        client.post("/api/v1/jobs", json={"study_uid": study_uid})
    until(lambda: _states(client) == ["succeeded"] * 3, 300)
    for study_uid in _studies(client):
        results = client.get(f"/api/v1/studies/{study_uid}/results").json()["results"]
        assert len(results) == 1
    logs = compose("logs", "--no-color", "worker")
    assert logs.count("Task metia.job") >= 3


def test_job_outlives_its_worker_and_the_broker(
    compose: Compose, client: httpx.Client
) -> None:
    (broker,) = compose("ps", "-q", "broker").split()
    subprocess.run(["docker", "kill", broker], check=True, capture_output=True)
    study_uid = _studies(client)[0]
    pressed = client.post("/api/v1/jobs", json={"study_uid": study_uid})
    assert pressed.status_code == 202
    subprocess.run(
        ["docker", "kill", _workers(compose)[0]], check=True, capture_output=True
    )
    subprocess.run(["docker", "start", broker], check=True, capture_output=True)
    until(lambda: _states(client) == ["succeeded"] * 4, 240)
    results = client.get(f"/api/v1/studies/{study_uid}/results").json()["results"]
    assert len(results) == 1  # the same object, found stored


@pytest.mark.parametrize("service", ADDED)
def test_servers_are_hardened_and_inside(compose: Compose, service: str) -> None:
    facts = compose.inspect(service)
    host, config = facts["HostConfig"], facts["Config"]
    assert isinstance(host, dict)
    assert isinstance(config, dict)
    assert config["User"] == "10001:10001"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["PortBindings"]
    assert "password" not in str(config["Env"]).lower()


def test_servers_want_their_passwords(compose: Compose) -> None:
    code = (
        "import redis; redis.Redis('broker').ping()",
        "import psycopg; psycopg.connect('host=database user=metia dbname=metia')",
    )
    for attempt in code:
        done = compose.python("api", attempt)
        assert done.returncode != 0
        assert "uthentication" in done.stderr or "password" in done.stderr
