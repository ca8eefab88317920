"""When a broker was told of a job, and the waiting jobs of one queue beside each other.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_QUEUED = sa.text("state = 'queued'")


def upgrade() -> None:
    op.add_column(
        "job", sa.Column("published_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.drop_index("ix_job_waiting", table_name="job")
    op.create_index(
        "ix_job_waiting",
        "job",
        ["queue", sa.text("priority DESC"), "created_at", "id", "not_before", "state"],
        sqlite_where=_QUEUED,
        postgresql_where=_QUEUED,
    )


def downgrade() -> None:
    raise NotImplementedError("schema 0004 cannot tell of which jobs a broker knows")
