"""Which model is used where the user names none; the service has one rule for it."""

from __future__ import annotations

from db.engine import Engine, reading
from db.models_registry import promoted_model
from settings import Settings


def default_model_name(settings: Settings, engine: Engine) -> str:
    """Give the promoted model's name, else the setting's ("": the registry decides)."""
    with reading(engine) as session:
        promoted = promoted_model(session)
    return promoted.name if promoted else settings.default_model
