"""The web while its broker is away: it answers in time, keeps the job, and says so."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.broker_servers import free_port
from tests.security.application import Application

_CANARY = "canary-secret"


@contextmanager
def _deaf_port() -> Iterator[int]:
    """Give a port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


@contextmanager
def _port(kind: str) -> Iterator[int]:
    if kind == "deaf":
        with _deaf_port() as port:
            yield port
    else:
        yield free_port()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@pytest.mark.parametrize("kind", ["closed", "deaf"])
def test_press_is_answered_and_the_job_kept(
    tmp_path: Path,
    empty_database: Path,
    capsys: pytest.CaptureFixture[str],
    scheme: str,
    kind: str,
) -> None:
    (tmp_path / "app").mkdir()
    with _port(kind) as port:
        url = f"{scheme}://metia:{_CANARY}@127.0.0.1:{port}/0"
        application = Application(tmp_path / "app", empty_database, broker_url=url)
        browser = application.browser("annotator")
        studies = [application.put_study()[0] for _ in range(6)]
        began = time.monotonic()
        answers = [
            browser.post("/api/v1/jobs", json={"study_uid": uid}) for uid in studies
        ]
        spent_s = time.monotonic() - began
        told = application.browser("admin").get("/readyz")
    assert [answer.status_code for answer in answers] == [202] * 6
    assert {answer.json["state"] for answer in answers} == {"queued"}
    assert spent_s < 6  # one wait of two seconds, and the slowness of a busy machine
    assert (told.status_code, told.json["checks"]["broker"]) == (
        503,
        "broker-unavailable",
    )
    log = capsys.readouterr().err
    assert _CANARY not in log
    assert log.count("left to the sweepers") == 1


def test_no_broker_no_check(application: Application) -> None:
    assert "broker" not in application.browser("admin").get("/readyz").json["checks"]
