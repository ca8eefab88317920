"""What is done before anyone asks: arrivals in the archive, studies opened.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "arrival_feed",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("caught_up_at", _TIME, nullable=True),
        _check("arrival_feed", "sequence", "sequence >= 0"),
        _check("arrival_feed", "owner", "(owner IS NULL) = (lease_until IS NULL)"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_arrival_feed")),
    )
    op.create_table(
        "arrival",
        sa.Column("archive_id", sa.String(64), nullable=False),
        sa.Column("pending", sa.Boolean(), nullable=False),
        sa.Column("noticed_at", _TIME, nullable=False),
        sa.Column("not_before", _TIME, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("decided", sa.String(64), nullable=True),
        _check("arrival", "archive_id_length", "length(archive_id) BETWEEN 1 AND 64"),
        _check("arrival", "decided_length", "length(decided) BETWEEN 64 AND 64"),
        _check("arrival", "tries", "tries >= 0"),
        sa.PrimaryKeyConstraint("archive_id", name=op.f("pk_arrival")),
    )
    op.create_index(
        "ix_arrival_pending",
        "arrival",
        ["not_before", "archive_id"],
        sqlite_where=sa.text("pending"),
        postgresql_where=sa.text("pending"),
    )
    op.create_index("ix_arrival_noticed", "arrival", ["noticed_at"])
    op.create_table(
        "opened_study",
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("opened_at", _TIME, nullable=False),
        _check(
            "opened_study", "study_uid_length", "length(study_uid) BETWEEN 1 AND 64"
        ),
        sa.PrimaryKeyConstraint("study_uid", name=op.f("pk_opened_study")),
    )
    op.create_index(op.f("ix_opened_study_opened_at"), "opened_study", ["opened_at"])


def _check(table: str, name: str, rule: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(rule, name=op.f(f"ck_{table}_{name}"))


def downgrade() -> None:
    for table in ("opened_study", "arrival", "arrival_feed"):
        op.drop_table(table)
