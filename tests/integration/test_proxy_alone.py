"""What the single door says while nothing, or something slow to anger, is behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from segmentation.cli.stack_files import write_proxy_configuration
from segmentation.cli.up import free_port
from tests.nginx_server import require_nginx, running_nginx


@pytest.fixture
def door(tmp_path: Path) -> Iterator[str]:
    require_nginx()
    listen = f"127.0.0.1:{free_port()}"
    configuration = tmp_path / "nginx.conf"
    (tmp_path / "viewer").mkdir()
    (tmp_path / "viewer" / "index.html").write_text("viewer", "utf-8")
    (tmp_path / "run").mkdir()
    write_proxy_configuration(
        configuration,
        listen=listen,
        viewer_root=tmp_path / "viewer",
        api=f"127.0.0.1:{free_port()}",
        archive=f"127.0.0.1:{free_port()}",
        archive_password="a-password-for-tests",
        run_dir=tmp_path / "run",
        secure=True,
    )
    with running_nginx(configuration, listen) as address:
        yield address


def test_the_api_that_is_down_is_a_problem_to_try_again(door: str) -> None:
    answer = httpx.get(f"{door}/api/v1/jobs", trust_env=False)
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "5"
    assert answer.json()["code"] == "not-ready"


def test_a_page_says_that_it_starts_and_comes_back(door: str) -> None:
    answer = httpx.get(f"{door}/brainmets", trust_env=False)
    assert answer.status_code == 503
    assert "MetIA is starting" in answer.text
    assert "viewer" not in answer.text


def test_images_stay_closed_while_nobody_can_say_who_asks(door: str) -> None:
    answer = httpx.get(f"{door}/dicom-web/studies", trust_env=False)
    assert answer.status_code == 500


def test_a_flood_is_told_to_wait(door: str) -> None:
    with httpx.Client(base_url=door, trust_env=False) as client:
        answers = [client.get("/api/v1/jobs") for _ in range(500)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert refused[0].json()["code"] == "too-many-requests"
    assert refused[0].headers["Retry-After"] == "1"


def test_the_configuration_is_its_owners_alone(door: str, tmp_path: Path) -> None:
    assert (tmp_path / "nginx.conf").stat().st_mode & 0o077 == 0
    assert "proto=https" in (tmp_path / "nginx.conf").read_text("utf-8")


def test_corrections_and_checkpoints_may_be_larger_than_other_requests(
    door: str,
) -> None:
    correction = f"{door}/api/v1/results/{'0' * 32}/corrections"
    for address, size, status in (
        (f"{door}/api/v1/jobs", 1_500_000, 413),
        (correction, 1_500_000, 503),  # let through to the API, which is down
        (correction, 9_000_000, 413),
        (f"{door}/api/v1/models", 12_000_000, 503),
        (f"{door}/api/v1/models/x", 1_500_000, 413),
    ):
        answer = httpx.post(address, content=bytes(size), trust_env=False)
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/problem+json"
