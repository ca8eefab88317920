"""Which model a command uses: the one that is named, else the one the service would."""

from __future__ import annotations

from segmentation.cli.opened import database_if_any
from segmentation.models.choice import default_model
from segmentation.models.registry import ModelFolder, ModelRegistry
from settings import get_settings


def chosen_model(name: str = "") -> ModelFolder:
    """Give the model called `name`, or the one that is taken where none is named.

    Raises
    ------
    MetiaError
        ``model-unknown``, ``model-invalid`` or ``model-integrity``;
        ``database-unusable`` where a database is there that can't be asked.
    """
    settings = get_settings()
    registry = ModelRegistry(settings.model_dirs)
    if name:
        return registry.get(name)
    with database_if_any() as engine:
        if engine is None:  # so nothing is promoted
            return registry.default(settings.default_model)
        return default_model(settings, engine, registry)
