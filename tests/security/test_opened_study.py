"""Opening a study: a hint for the workers, and its automatic job before the others."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from db import ahead
from db.engine import database_time, reading, transaction
from tests.security.application import Application


def opened(application: Application) -> list[str]:
    with reading(application.engine) as session:
        since = database_time(session) - timedelta(minutes=1)
        return [one.study_uid for one in ahead.opened_lately(session, since, 10)]


def test_whoever_sees_a_study_may_say_that_it_was_opened(
    application: Application,
) -> None:
    viewer = application.browser("viewer")
    for study_uid in ("1.2.3", "1.2.4", "1.2.3"):
        answer = viewer.post(f"/api/v1/studies/{study_uid}/opened")
        assert (answer.status_code, answer.data) == (204, b"")
    assert opened(application) == ["1.2.3", "1.2.4"]
    assert viewer.post("/api/v1/studies/not-a-uid/opened").status_code == 422


def test_its_automatic_job_comes_before_the_others_and_behind_a_press(
    application: Application,
) -> None:
    queue = application.app.extensions["metia-services"].queue
    for study_uid in ("1.1", "1.2", "1.3"):
        queue.submit(
            study_uid,
            priority=ahead.AUTOMATIC_PRIORITY,
            requested_by=ahead.AUTOMATIC,
        )
    application.browser("viewer").post("/api/v1/studies/1.3/opened")
    queue.submit("1.9", requested_by="ann")
    order = [queue.claim("worker").study_uid for _ in range(4)]
    assert order == ["1.9", "1.3", "1.1", "1.2"]


def test_hints_may_be_switched_off(tmp_path: Path, empty_database: Path) -> None:
    application = Application(tmp_path, empty_database, prefetch_on_open=False)
    answer = application.browser("viewer").post("/api/v1/studies/1.2.3/opened")
    assert answer.status_code == 204
    assert opened(application) == []


def test_hints_of_long_ago_are_forgotten(application: Application) -> None:
    with transaction(application.engine) as session:
        ahead.note_opened(session, "1.2.9", database_time(session) - timedelta(hours=1))
    application.browser("viewer").post("/api/v1/studies/1.2.3/opened")
    with reading(application.engine) as session:
        long_ago = database_time(session) - timedelta(days=1)
        kept = [one.study_uid for one in ahead.opened_lately(session, long_ago, 10)]
    assert kept == ["1.2.3"]
