"""Which model was promoted when, so that a promotion can be rolled back.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "promotion",
        sa.Column("id", _ID, sa.Identity(always=True), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["sha256"], ["model.sha256"], name=op.f("fk_promotion_sha256")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotion")),
    )
    op.create_index(op.f("ix_promotion_sha256"), "promotion", ["sha256"])
    op.execute(
        """
        INSERT INTO promotion (sha256, actor, at)
        SELECT sha256, NULL, created_at FROM model WHERE promoted
        """
    )


def downgrade() -> None:
    raise NotImplementedError("the order of promotions has no place in schema 0002")
