"""The follow-up page's data over the API, for one of 1,000 patients with long courses.

20 visits of 10 lesions each. The handler from the request to the JSON text, without the
network: login, rows, case, assessment, answer. Both databases, filled in bulk with
200,000 lesions; PostgreSQL
where it is installed (a server of its own). Each run asks for another patient; one
warm-up each.

    python -m benchmarks.followup [--times RUNS] [--json FILE]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from api import create_app
from benchmarks.databases import on_each_database
from benchmarks.machine import spread, tell
from db import users
from db.engine import Engine, make_engine, transaction
from db.schema import upgrade
from segmentation.access.tokens import hash_token, new_api_token
from settings import Settings
from tests.fake_archive import FakeArchive
from tests.many_patients import fill

PATIENTS, VISITS, LESIONS = 1000, 20, 10
TARGET_S = 0.3
SECRET = "a benchmark's own key, long enough to be one"


def measure(runs: int) -> dict[str, object]:
    """Ask `runs` times for each kind of answer, on each database."""
    return {"target_s": TARGET_S} | on_each_database(
        lambda url, folder: _on(url, folder, runs)
    )


def _on(url: str, folder: Path, runs: int) -> dict[str, object]:
    engine = make_engine(url)
    upgrade(engine)
    fill(engine, PATIENTS, VISITS, LESIONS)
    settings = Settings(data_dir=folder, secret_key=SECRET, log_level="ERROR")
    app = create_app(settings, archive=FakeArchive(), engine=engine)
    headers = {"Authorization": f"Bearer {_token(engine)}"}
    client = app.test_client()

    def course(run: int) -> str:
        return f"/api/v1/patients/{run * 7 % PATIENTS:032}/course"

    addresses: dict[str, Callable[[int], str]] = {
        "course of one patient": course,
        "the same by RECIST 1.1": lambda run: f"{course(run)}?rule_set=recist-1.1",
        "first page of 50 patients": lambda run: "/api/v1/patients?limit=50",
        "search by patient id": lambda run: f"/api/v1/patients?search=p{run:06}",
    }
    try:
        _insist_on_whole(client.get(course(0), headers=headers).json or {})
        return {
            name: _repeat(client, headers, address, runs)
            for name, address in addresses.items()
        }
    finally:
        engine.dispose()


def _insist_on_whole(course: dict[str, Any]) -> None:
    """Make sure that it is the whole course that is measured."""
    cells = [cell for track in course["tracks"] for cell in track["observations"]]
    assessed = [visit["assessment"] for visit in course["visits"]]
    if len(cells) != VISITS * LESIONS or len(assessed) != VISITS or None in assessed:
        raise RuntimeError("This is not the whole course.")


def _token(engine: Engine) -> str:
    """Make a user with a token."""
    secret = new_api_token()
    with transaction(engine) as session:
        users.create_user(
            session,
            name="viewer",
            display_name="Viewer",
            role="viewer",
            password_hash=None,
        )
        users.create_token(
            session, user_name="viewer", label="bench", token_hash=hash_token(secret)
        )
    return secret


def _repeat(
    client: FlaskClient,
    headers: dict[str, str],
    address: Callable[[int], str],
    runs: int,
) -> dict[str, float]:
    seconds = []
    for run in range(runs + 1):
        began = time.perf_counter()
        answer = client.get(address(run), headers=headers)
        seconds.append(time.perf_counter() - began)
        if answer.status_code != 200:
            raise RuntimeError(answer.text)
    return spread(seconds[1:])


if __name__ == "__main__":
    tell(
        f"seconds of the API for one of {PATIENTS} patients of {VISITS} visits x "
        f"{LESIONS} lesions, and for the list of patients",
        measure,
        times=20,
    )
