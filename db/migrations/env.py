"""Alembic's entry point; run only by ``db.schema``, which hands over a connection.

The connection is inside a transaction that ``db.schema`` opened, locked and will
commit: either the whole way to the newest schema happens, or nothing.
"""

from alembic import context

from db.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
