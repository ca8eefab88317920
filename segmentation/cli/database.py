"""``metia db``: the schema of the service's database."""

from __future__ import annotations

import click


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
