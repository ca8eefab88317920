"""Which model the service uses: promoted and rolled back as rows, never as files.

Promoting verifies the model's files first and notes who did it. Rolling back undoes the
last promotion that stands: it returns to the model that was promoted before, if that is
still installed as it was, and from the first promotion to the model that is used where
none is promoted. Each change is one transaction with its audit entry; so is the note
that a model was imported.
"""

from __future__ import annotations

from db import audit
from db.engine import Engine, reading, transaction
from db.models_registry import (
    ModelRecord,
    former_model,
    promote_model,
    promoted_model,
    register_model,
    withdraw_promotion,
)
from errors import MetiaError
from segmentation.models.registry import ModelFolder, ModelRegistry
from settings import Settings


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
    settings: Settings,
    *,
    actor: str | None,
    task: str = "brain-metastases",
    request_id: str | None = None,
) -> ModelFolder:
    """Undo the present promotion; give the model that is used from now on.

    Raises
    ------
    MetiaError
        ``conflict`` where none is promoted, ``model-unknown`` or ``model-integrity``
        where the former is not installed any more as it was.
    """
    with reading(engine) as session:
        present, former = promoted_model(session, task), former_model(session, task)
    if present is None:
        raise MetiaError("conflict", "No model is promoted.")
    folder = (
        registry.default(settings.default_model)
        if former is None
        else _installed(registry, former)
    )
    folder.verify()
    with transaction(engine) as session:
        if (promoted_model(session, task), former_model(session, task)) != (
            present,
            former,
        ):
            raise MetiaError("edit-conflict", "Another model was promoted meanwhile.")
        withdraw_promotion(session, task)
        audit.append(
            session,
            actor=actor,
            action="model-rollback",
            subject=f"model:{present.sha256}",
            details={
                "name": present.name,
                "version": present.version,
                "after": former.sha256 if former else None,
            },
            request_id=request_id,
        )
    return folder


def note_import(
    engine: Engine,
    folder: ModelFolder,
    *,
    actor: str | None,
    request_id: str | None = None,
) -> None:
    """Put into the audit that a model was imported."""
    identity = folder.identity
    with transaction(engine) as session:
        audit.append(
            session,
            actor=actor,
            action="model-import",
            subject=f"model:{identity.sha256}",
            details={"name": identity.name, "version": identity.version},
            request_id=request_id,
        )


def _installed(registry: ModelRegistry, former: ModelRecord) -> ModelFolder:
    folder = registry.get(former.name)
    if folder.identity.sha256 != former.sha256:
        raise MetiaError(
            "model-integrity",
            f"{former.name} {former.version}, which was promoted before, is installed "
            "in another version. Install the former again, or promote another.",
        )
    return folder


def _record(folder: ModelFolder) -> ModelRecord:
    identity = folder.identity
    return ModelRecord(
        name=identity.name,
        version=identity.version,
        sha256=identity.sha256,
        demonstration=identity.demonstration,
        task=folder.manifest.task.id,
    )
