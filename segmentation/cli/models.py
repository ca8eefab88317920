"""``metia models``: what is installed. Loads no network and no weights."""

from __future__ import annotations

import json

import click


@click.group()
def models() -> None:
    """Look at the installed models (folders in METIA_MODEL_DIRS)."""


@models.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print data.")
def list_models(as_json: bool) -> None:
    """List the models; the one marked * is taken where none is named."""
    from errors import MetiaError
    from segmentation.models.registry import ModelRegistry
    from settings import get_settings

    settings = get_settings()
    registry = ModelRegistry(settings.model_dirs)
    folders = registry.models()
    try:
        default = registry.default(settings.default_model).identity.name
    except MetiaError as error:
        default = ""
        click.echo(f"metia: warning: {error.code}: {error.detail}", err=True)
    if as_json:
        rows = [
            {
                "name": folder.identity.name,
                "version": folder.identity.version,
                "sha256": folder.identity.sha256,
                "kind": folder.manifest.kind,
                "task": folder.manifest.task.id,
                "description": folder.manifest.description,
                "demonstration": folder.identity.demonstration,
                "is_default": folder.identity.name == default,
            }
            for folder in folders
        ]
        click.echo(json.dumps({"models": rows}, indent=2))
    else:
        for folder in folders:
            identity = folder.identity
            mark = "*" if identity.name == default else " "
            kind = "  (demonstration only)" if identity.demonstration else ""
            click.echo(
                f"{mark} {identity.name} {identity.version}  "
                f"{identity.sha256[:12]}{kind}\n    {folder.manifest.description}"
            )
    for fault in registry.faults():
        click.echo(
            f"metia: warning: {fault.folder_name}: {fault.code}: {fault.detail}",
            err=True,
        )
