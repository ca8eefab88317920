"""``metia jobs``: look at the service's queue, and stop a job.

Works on the database alone: neither the API nor a worker has to run.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from db.engine import Engine
    from db.jobs import Job

_STATES = ("queued", "running", "succeeded", "failed", "cancelled")


@click.group()
def jobs() -> None:
    """Look at the service's jobs and stop them."""


@jobs.command(name="list")
@click.option("--state", type=click.Choice(_STATES), help="Only these.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print data.")
def list_jobs(state: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    from segmentation.cli.opened import database
    from segmentation.jobs import JobQueue
    from settings import get_settings

    with database() as engine:
        page = JobQueue(engine, get_settings()).list(state=state, limit=limit)
    if as_json:
        click.echo(json.dumps({"jobs": [_document(job) for job in page.jobs]}))
        return
    for job in page.jobs:
        error = f"  {job.error_code}" if job.error_code else ""
        click.echo(
            f"{job.id}  {job.created_at:%Y-%m-%d %H:%M}  {job.state:<9} "
            f"{job.progress:4.0%}  {job.step}{error}"
        )
    if not page.jobs:
        click.echo("No jobs.")


@jobs.command()
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="Print data.")
def show(job_id: str, as_json: bool) -> None:
    """Show everything about one job."""
    from segmentation.cli.opened import database
    from segmentation.jobs import JobQueue
    from settings import get_settings

    with database() as engine:
        document = _document(JobQueue(engine, get_settings()).get(job_id))
    if as_json:
        click.echo(json.dumps(document))
        return
    for name, value in document.items():
        if value not in (None, {}, ""):
            click.echo(f"{name:<17} {value}")


@jobs.command()
@click.argument("job_id")
def cancel(job_id: str) -> None:
    """Stop a job: at once where it waits, within a window where it runs."""
    from segmentation.cli.opened import database
    from segmentation.jobs import JobQueue
    from settings import get_settings

    with database() as engine:
        job = JobQueue(engine, get_settings()).cancel(job_id)
        _note_cancel(engine, job.id)
    done = job.state == "cancelled"
    click.echo("Cancelled." if done else "The worker was asked to stop.")


def _note_cancel(engine: Engine, job_id: str) -> None:
    from db import audit
    from db.engine import transaction

    with transaction(engine) as session:
        audit.append(
            session,
            actor=None,
            action="job-cancel",
            subject=f"job:{job_id}",
            details={"by": "command line"},
        )


def _document(job: Job) -> dict[str, object]:
    """Make a job plain data; the members are those of the table."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(job).items()
    }
