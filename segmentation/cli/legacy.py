"""``metia legacy``: what the system that MetIA replaces has left behind.

Writes rows by table and number, never a name or a date of a patient.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from segmentation.legacy.importing import Report

_PROBLEMS = ("duplicate", "orphan", "bad-value", "other-patient")


@click.group()
def legacy() -> None:
    """Take over what the former system (MetIA by VendenIX) has left behind."""


@legacy.command(name="import-measures")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only tell what would be imported.")
@click.option("--json", "as_json", is_flag=True, help="Tell it as one JSON document.")
def import_measures(file: Path, dry_run: bool, as_json: bool) -> None:
    """Import the measurements of FILE (its mesures.db), read-only.

    They are kept as historical rows beside the results: the file does not say where in
    the head a lesion was, so they are shown but neither linked nor counted. Importing
    again adds nothing. Every row is reported by its number.
    """
    from segmentation.cli.opened import database
    from segmentation.legacy.importing import import_measures as run

    with database() as engine:
        report = run(engine, file, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps(_document(report)))
        return
    for one in report.verdicts:
        detail = f" ({one.detail})" if one.detail else ""
        click.echo(f"{one.table} {one.row_id}: {one.outcome}{detail}")
    counts = report.counts()
    left_out = ", ".join(f"{counts.get(name, 0)} {name}" for name in _PROBLEMS)
    verb = "would be imported" if dry_run else "imported"
    click.echo(
        f"{counts.get('imported', 0)} measurements {verb}, "
        f"{counts.get('already-imported', 0)} were before; left out: {left_out}. "
        f"Patients: {report.patients_matched} known, {report.patients_new} new."
    )
    if dry_run:
        click.echo("Nothing was written.")


def _document(report: Report) -> dict[str, object]:
    return {
        "file_sha256": report.sha256,
        "dry_run": report.dry_run,
        "counts": report.counts(),
        "patients_matched": report.patients_matched,
        "patients_new": report.patients_new,
        "rows": [
            {
                "table": one.table,
                "row": one.row_id,
                "outcome": one.outcome,
                "detail": one.detail,
            }
            for one in report.verdicts
        ],
    }
