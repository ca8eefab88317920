"""Which models made results, and which one is promoted for a task.

A model is known by the hash of its manifest and weights; its folder is the business of
``segmentation.models``. At most one model a task is promoted; the database sees to it.
The rows of promotions are those that stand, a stack: a rollback takes the last ones
away, and who did what stays in the audit. Functions take a ``Session``.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from db.engine import database_time, is_postgresql
from db.models import ModelRow, PromotionRow
from errors import MetiaError


@dataclass(frozen=True)
class ModelRecord:
    """One model as results refer to it.

    Attributes
    ----------
    sha256 : str
        Over manifest and weights, hexadecimal.
    demonstration : bool
        Not meant to find anything in patients.
    """

    name: str
    version: str
    sha256: str
    demonstration: bool
    task: str = "brain-metastases"
    promoted: bool = False


def register_model(session: Session, model: ModelRecord) -> None:
    """Note a model unless its hash is known; never changes what is promoted."""
    insert = postgresql_insert if is_postgresql(session) else sqlite_insert
    session.execute(
        insert(ModelRow)
        .values(
            sha256=model.sha256,
            name=model.name,
            version=model.version,
            task=model.task,
            demonstration=model.demonstration,
            promoted=False,
            created_at=database_time(session),
        )
        .on_conflict_do_nothing()
    )


def promote_model(
    session: Session, sha256: str, *, by: str | None = None
) -> ModelRecord:
    """Make a model the one its task uses.

    Raises
    ------
    MetiaError
        ``model-unknown`` where the hash is not registered.
    """
    row = session.get(ModelRow, sha256)
    if row is None:
        raise MetiaError("model-unknown", "No model of this hash is registered.")
    session.execute(
        update(ModelRow)
        .where(ModelRow.task == row.task, ModelRow.promoted)
        .values(promoted=False)
    )
    session.flush()  # at no moment are two of a task promoted
    row.promoted = True
    session.add(PromotionRow(sha256=sha256, actor=by, at=database_time(session)))
    session.flush()
    return to_model(row)


def promoted_model(
    session: Session, task: str = "brain-metastases"
) -> ModelRecord | None:
    """Give the promoted model of a task, None where none is."""
    row = session.scalar(
        select(ModelRow).where(ModelRow.task == task, ModelRow.promoted)
    )
    return None if row is None else to_model(row)


def former_model(
    session: Session, task: str = "brain-metastases"
) -> ModelRecord | None:
    """Give what a rollback returns to: None where nothing else was promoted before."""
    found = _former(session, task)
    return None if found is None else to_model(found[0])


def withdraw_promotion(session: Session, task: str = "brain-metastases") -> None:
    """Return to the former model, or to none, and forget the present promotion.

    Raises
    ------
    MetiaError
        ``conflict`` where none is promoted.
    """
    present = session.scalar(
        select(ModelRow).where(ModelRow.task == task, ModelRow.promoted)
    )
    if present is None:
        raise MetiaError("conflict", "No model is promoted.")
    found = _former(session, task)
    session.execute(
        delete(PromotionRow).where(
            PromotionRow.sha256 == present.sha256,
            PromotionRow.id > (0 if found is None else found[1]),
        )
    )
    present.promoted = False
    session.flush()  # at no moment are two of a task promoted
    if found is not None:
        found[0].promoted = True
        session.flush()


def _former(session: Session, task: str) -> tuple[ModelRow, int] | None:
    """Give the last one promoted but the present one, and the id of its promotion."""
    found = session.execute(
        select(ModelRow, PromotionRow.id)
        .join(PromotionRow, PromotionRow.sha256 == ModelRow.sha256)
        .where(ModelRow.task == task, ModelRow.promoted.is_(False))
        .order_by(PromotionRow.id.desc())
        .limit(1)
    ).first()
    return None if found is None else (found[0], found[1])


def list_models(session: Session) -> tuple[ModelRecord, ...]:
    """List the known models, by name and then newest first."""
    query = select(ModelRow).order_by(ModelRow.name, ModelRow.created_at.desc())
    return tuple(to_model(row) for row in session.scalars(query))


def to_model(row: ModelRow) -> ModelRecord:
    """Copy a row into what leaves this package."""
    return ModelRecord(
        row.name, row.version, row.sha256, row.demonstration, row.task, row.promoted
    )
