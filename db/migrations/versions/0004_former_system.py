"""Measurements of the former system, and which lesion an outline in the archive means.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    op.create_table(
        "historical_measurement",
        sa.Column("id", _ID, sa.Identity(always=True), nullable=False),
        sa.Column("identity_sha256", sa.String(64), nullable=False),
        sa.Column("patient_key", sa.String(32), nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("study_date", sa.Text(), nullable=True),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("roi_number", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("volume_ml", sa.Double(), nullable=True),
        sa.Column("diameter_mm", sa.Double(), nullable=True),
        sa.Column("first_slice", sa.BigInteger(), nullable=True),
        sa.Column("last_slice", sa.BigInteger(), nullable=True),
        sa.Column("colour", _JSON, nullable=True),
        sa.Column("source_sha256", sa.String(64), nullable=False),
        sa.Column("imported_by", sa.Text(), nullable=True),
        sa.Column("imported_at", _TIME, nullable=False),
        _check("historical_measurement", "study_uid_length", _length("study_uid")),
        _check("historical_measurement", "series_uid_length", _length("series_uid")),
        _check(
            "historical_measurement",
            "volume_ml",
            "volume_ml >= 0 AND volume_ml <= 10000",
        ),
        _check(
            "historical_measurement",
            "diameter_mm",
            "diameter_mm >= 0 AND diameter_mm <= 1000",
        ),
        _check(
            "historical_measurement",
            "source_sha256_length",
            "length(source_sha256) = 64",
        ),
        sa.ForeignKeyConstraint(
            ["patient_key"],
            ["patient.id"],
            name=op.f("fk_historical_measurement_patient_key"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_historical_measurement")),
        sa.UniqueConstraint(
            "identity_sha256", name=op.f("uq_historical_measurement_identity_sha256")
        ),
    )
    for column in ("patient_key", "study_uid", "series_uid"):
        op.create_index(
            op.f(f"ix_historical_measurement_{column}"),
            "historical_measurement",
            [column],
        )
    op.create_table(
        "outline",
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("roi_number", sa.Integer(), nullable=False),
        sa.Column("result_id", sa.String(32), nullable=False),
        sa.Column("finding_uid", sa.String(64), nullable=False),
        sa.Column("first_slice", sa.Integer(), nullable=False),
        sa.Column("last_slice", sa.Integer(), nullable=False),
        sa.Column("stored_at", _TIME, nullable=False),
        _check("outline", "series_uid_length", _length("series_uid")),
        _check("outline", "finding_uid_length", _length("finding_uid")),
        _check("outline", "roi_number", "roi_number >= 1"),
        _check("outline", "first_slice", "first_slice >= 1"),
        _check("outline", "last_slice", "last_slice >= first_slice"),
        sa.ForeignKeyConstraint(
            ["result_id"], ["result.id"], name=op.f("fk_outline_result_id")
        ),
        sa.PrimaryKeyConstraint("series_uid", "roi_number", name=op.f("pk_outline")),
    )
    op.create_index(op.f("ix_outline_result_id"), "outline", ["result_id"])


def _length(column: str) -> str:
    return f"length({column}) BETWEEN 1 AND 64"


def _check(table: str, name: str, rule: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(rule, name=op.f(f"ck_{table}_{name}"))


def downgrade() -> None:
    raise NotImplementedError("what was imported has no place in schema 0003")
