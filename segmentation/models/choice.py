"""Which model is used where the user names none; the service has one rule for it."""

from __future__ import annotations

from db.engine import Engine, reading
from db.models_registry import promoted_model
from errors import MetiaError
from segmentation.models.registry import ModelFolder, ModelRegistry
from settings import Settings


def default_model(
    settings: Settings, engine: Engine, registry: ModelRegistry
) -> ModelFolder:
    """Give the promoted model, else the one that settings and registry choose.

    Raises
    ------
    MetiaError
        ``model-integrity`` where what is installed under the promoted model's name is
        not what was promoted; ``model-unknown`` where there is no model.
    """
    with reading(engine) as session:
        promoted = promoted_model(session)
    if promoted is None:
        return registry.default(settings.default_model)
    folder = registry.get(promoted.name)
    if folder.identity.sha256 != promoted.sha256:
        raise MetiaError(
            "model-integrity",
            f"The installed {promoted.name} is not the one that was promoted. "
            "Promote it, or install the former again.",
        )
    return folder
