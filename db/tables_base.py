"""What all tables share: one ``Base``, types of columns, and the usual checks.

Only the ``db.tables_*`` modules and ``db.models`` import this. Nothing here knows a
table. Lengths are in mm, volumes in ml, points in LPS mm, times in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    Index,
    Integer,
    MetaData,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

from db.encoding import UtcDateTime

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
BigId = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """Names every constraint, so that migrations and error messages can name it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - read once by SQLAlchemy
        datetime: UtcDateTime(),
        dict[str, Any]: Json,
        list[Any]: Json,
        float: Double(),
        str: Text(),
    }


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """Allow these values only (and NULL where the column does)."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def within(column: str, low: str, high: str) -> CheckConstraint:
    """Allow numbers of a range, both ends included."""
    # Two-sided on purpose: PostgreSQL takes NaN for greater than every number.
    return CheckConstraint(f"{column} >= {low} AND {column} <= {high}", name=column)


def length(column: str, low: int, high: int) -> CheckConstraint:
    """Allow texts of so many characters."""
    # SQLite ignores the length of VARCHAR.
    return CheckConstraint(
        f"length({column}) BETWEEN {low} AND {high}", name=f"{column}_length"
    )


def unique_where(name: str, condition: str, *columns: str) -> Index:
    """Make a unique index over the rows that fulfil `condition`."""
    return Index(
        name,
        *columns,
        unique=True,
        sqlite_where=text(condition),
        postgresql_where=text(condition),
    )
