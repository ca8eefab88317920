"""``metia audit``: who did what and when, as JSON lines.

The audit can be added to and read, never changed. It names users, ids, codes and
counts; no patient. Reads a page at a time, so its length does not matter.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

import click

if TYPE_CHECKING:
    from db.audit import AuditEntry

_PAGE = 1000


@click.group()
def audit() -> None:
    """Tell who did what and when."""


class _Moment(click.ParamType[datetime]):
    """A day or a moment, ISO 8601; UTC where no zone is given."""

    name = "time"

    def convert(
        self,
        value: str | datetime,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> datetime:
        """Read it."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail("write 2026-01-31 or 2026-01-31T12:00:00Z", param, ctx)


@audit.command()
@click.option("--since", type=_Moment(), help="From this day or moment on (UTC).")
@click.option("--until", type=_Moment(), help="Before this day or moment (UTC).")
@click.option("--actor", help="Name of a user, exactly.")
@click.option("--subject", help="Such as result:<id>, exactly.")
@click.option("--action", help="Such as result-review, exactly.")
@click.option(
    "--out",
    type=click.File("w", encoding="utf-8", lazy=True),
    default="-",
    help="A file; standard output where left out.",
)
def export(
    since: datetime | None,
    until: datetime | None,
    actor: str | None,
    subject: str | None,
    action: str | None,
    out: IO[str],
) -> None:
    """Write the entries as JSON lines, oldest first."""
    from db.audit import AuditFilter, export_entries
    from db.engine import reading
    from segmentation.cli.opened import database

    wanted = AuditFilter(since, until, actor, subject, action)
    last = 0
    with database() as engine:
        while True:
            with reading(engine) as session:
                page = export_entries(session, wanted, after_id=last, limit=_PAGE)
            for entry in page:
                out.write(_line(entry) + "\n")
            if len(page) < _PAGE:
                return
            last = page[-1].id


def _line(entry: AuditEntry) -> str:
    return json.dumps(
        {**vars(entry), "at": entry.at.isoformat()}, ensure_ascii=False, sort_keys=True
    )
