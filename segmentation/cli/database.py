"""``metia db``: the service's database: its schema, retention, erasure of a patient.

Retention and erasure remove for good what MetIA knows of a patient and what it wrote
into the archive; both are audited. Nothing printed here tells who a patient is: they
are named by the key of their row, as addresses of the API name them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from segmentation.governance.erasure import Report

_KEEP_ARCHIVE = click.option(
    "--keep-archive", is_flag=True, help="Leave what MetIA wrote into the archive."
)
_YES = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group(name="db")
def database() -> None:
    """Look after the service's database (METIA_DATABASE_URL, else SQLite in var/)."""


@database.command()
def upgrade() -> None:
    """Bring the database to the schema of this program.

    Safe to repeat and to run while others do. A SQLite file with data is copied beside
    itself first.
    """
    from db import schema
    from db.engine import make_engine
    from settings import get_settings

    engine = make_engine(get_settings().database_url)
    try:
        done = schema.upgrade(engine)
    finally:
        engine.dispose()
    word = "was brought to" if done else "is at"
    click.echo(f"The database {word} schema {schema.head()}.")


@database.command()
@click.argument("patient_key")
@_KEEP_ARCHIVE
@_YES
def erase(patient_key: str, keep_archive: bool, yes: bool) -> None:
    """Erase everything about a patient but the audit; cannot be undone.

    PATIENT_KEY is the `id` of GET /api/v1/patients (32 characters). What MetIA wrote
    into the archive is deleted too; the scanner's images are not touched.
    """
    if not yes:
        click.confirm("Erase this patient for good?", abort=True)
    _erase_all([patient_key], keep_archive=keep_archive)


@database.command()
@click.option(
    "--older-than",
    "days",
    type=click.IntRange(min=0, max=36500),
    required=True,
    metavar="DAYS",
    help="Patients about whom nothing was written for so many days.",
)
@click.option("--dry-run", is_flag=True, help="Only list them.")
@_KEEP_ARCHIVE
@_YES
def retention(days: int, dry_run: bool, keep_archive: bool, yes: bool) -> None:
    """Erase the patients about whom nothing was written for long.

    A new result, a review, an edit, an entry or a signature counts as written; looking
    at a patient does not.
    """
    from segmentation.cli.opened import database as opened
    from segmentation.governance.erasure import untouched

    with opened() as engine:
        found = untouched(engine, days)
    for one in found:
        click.echo(
            f"{one.id}  last written {one.touched_at:%Y-%m-%d}, "
            f"{one.visit_count} visits"
        )
    if dry_run or not found:
        click.echo(f"{len(found)} patients would be erased.")
        return
    if not yes:
        click.confirm(f"Erase these {len(found)} patients for good?", abort=True)
    _erase_all([one.id for one in found], keep_archive=keep_archive, days=days)


def _erase_all(
    patient_keys: list[str], *, keep_archive: bool, days: int | None = None
) -> None:
    from errors import MetiaError
    from orthanc.gateway import OrthancArchive
    from segmentation.cli.opened import database as opened
    from segmentation.governance.erasure import erase as erase_one
    from settings import get_settings

    archive = None if keep_archive else OrthancArchive.from_settings(get_settings())
    left: list[str] = []
    try:
        with opened() as engine:
            for patient_key in patient_keys:
                try:
                    report = erase_one(
                        engine, archive, patient_key, untouched_days=days
                    )
                except MetiaError as error:
                    if days is None:
                        raise
                    # Written about, or erased by another, since the list was made.
                    click.echo(f"Left {patient_key}: {error.detail}")
                    continue
                _tell(patient_key, report)
                left += [one.code for one in report.remaining if one.code != "kept"]
    finally:
        if archive is not None:
            archive.close()
    if left:
        raise MetiaError(left[0], "Not all that MetIA wrote could be deleted there.")


def _tell(patient_key: str, report: Report) -> None:
    rows = sum(count for table, count in report.rows.items() if table != "job")
    click.echo(
        f"Erased {patient_key}: {rows} rows, {report.rows['job']} jobs emptied, "
        f"{len(report.deleted_series)} series deleted from the archive."
    )
    for study_uid in report.study_uids:
        click.echo(f"  The archive may still hold the images of study {study_uid}.")
    for one in report.remaining:
        series = f"series {one.series_uid}" if one.series_uid else "what MetIA wrote"
        click.echo(f"  Still in the archive ({one.code}): {series} of {one.study_uid}.")
