"""Which model the service uses: promoted and rolled back as rows, never as files.

Promoting verifies the model's files first and notes who did it. Rolling back returns to
the model that was promoted before, if it is still installed as it was. Each call is one
transaction with its audit entry.
"""

from __future__ import annotations

from db import audit
from db.engine import Engine, transaction
from db.models_registry import (
    ModelRecord,
    former_model,
    promote_model,
    promoted_model,
    register_model,
)
from errors import MetiaError
from segmentation.models.registry import ModelFolder, ModelRegistry


def promote_folder(
    engine: Engine,
    folder: ModelFolder,
    *,
    actor: str | None,
    request_id: str | None = None,
) -> ModelRecord:
    """Make an installed model the one that is used where none is named.

    Raises
    ------
    MetiaError
        ``model-integrity`` where its files are not what its manifest says.
    """
    folder.verify()
    record = _record(folder)
    with transaction(engine) as session:
        before = promoted_model(session, record.task)
        register_model(session, record)
        promoted = promote_model(session, record.sha256, by=actor)
        audit.append(
            session,
            actor=actor,
            action="model-promote",
            subject=f"model:{record.sha256}",
            details={
                "name": record.name,
                "version": record.version,
                "before": before.sha256 if before else None,
            },
            request_id=request_id,
        )
    return promoted


def roll_back(
    engine: Engine,
    registry: ModelRegistry,
    *,
    actor: str | None,
    task: str = "brain-metastases",
    request_id: str | None = None,
) -> ModelRecord:
    """Promote the model that was promoted before the present one.

    Raises
    ------
    MetiaError
        ``conflict`` where there was none, ``model-unknown`` or ``model-integrity``
        where it is not installed any more as it was.
    """
    with transaction(engine) as session:
        former = former_model(session, task)
    if former is None:
        raise MetiaError("conflict", "No other model was promoted before.")
    folder = registry.get(former.name)
    if folder.identity.sha256 != former.sha256:
        raise MetiaError(
            "model-integrity",
            f"{former.name} {former.version} is installed in another version.",
        )
    return promote_folder(engine, folder, actor=actor, request_id=request_id)


def _record(folder: ModelFolder) -> ModelRecord:
    identity = folder.identity
    return ModelRecord(
        name=identity.name,
        version=identity.version,
        sha256=identity.sha256,
        demonstration=identity.demonstration,
        task=folder.manifest.task.id,
    )
