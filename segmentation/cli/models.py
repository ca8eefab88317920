"""``metia models``: what is installed, what is used, and checkpoints of others.

Listing and showing load no network. ``promote`` and ``rollback`` change what the
service uses where nobody names a model; they and ``import`` are audited where there is
a database.
"""

from __future__ import annotations

import json
import math
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from segmentation.models.registry import ModelFolder, ModelRegistry
    from unetr.engines.tuning import Tuning

_FILE = click.Path(exists=True, path_type=Path)


@click.group()
def models() -> None:
    """Look after the models (folders in METIA_MODEL_DIRS)."""


def _registry() -> ModelRegistry:
    from segmentation.models.registry import ModelRegistry
    from settings import get_settings

    return ModelRegistry(get_settings().model_dirs)


def _default_name() -> str:
    """Give the model that the service would use now; "" where there is none."""
    from errors import MetiaError
    from segmentation.cli.chosen_model import chosen_model

    try:
        return chosen_model().identity.name
    except MetiaError as error:
        click.echo(f"metia: warning: {error.code}: {error.detail}", err=True)
        return ""


@models.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print data.")
def list_models(as_json: bool) -> None:
    """List the models; the one marked * is taken where none is named."""
    registry = _registry()
    folders, default = registry.models(), _default_name()
    if as_json:
        rows = [folder.summary(default) for folder in folders]
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


@models.command()
@click.argument("name")
def show(name: str) -> None:
    """Print everything the manifest of a model states, as JSON."""
    folder = _registry().get(name)
    document = {
        "sha256": folder.identity.sha256,
        "folder": str(folder.path),
        **folder.manifest.model_dump(mode="json", exclude_none=True),
    }
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


@models.command()
@click.argument("name", required=False)
def verify(name: str | None) -> None:
    """Compare the files of one model, or of all, with their hashes."""
    from errors import MetiaError

    registry = _registry()
    wrong = [] if name else [(one.folder_name, one.detail) for one in registry.faults()]
    for folder in [registry.get(name)] if name else registry.models():
        try:
            folder.verify()
        except MetiaError as error:
            wrong.append((folder.identity.name, error.detail))
        else:
            click.echo(f"{folder.identity.name}: as its manifest says")
    for which, detail in wrong:
        click.echo(f"{which}: {detail}")
    if wrong:
        raise MetiaError("model-integrity", f"{len(wrong)} models are not usable.")


@models.command()
@click.argument("name")
def promote(name: str) -> None:
    """Let the service use model NAME where nobody names one."""
    from segmentation.cli.opened import database
    from segmentation.models.promotion import promote_folder

    folder = _registry().get(name)
    with database() as engine:
        promote_folder(engine, folder, actor=None)
    click.echo(f"{name} {folder.identity.version} is used from now on.")


@models.command()
def rollback() -> None:
    """Undo the present promotion, back to the first and to none."""
    from segmentation.cli.opened import database
    from segmentation.models.promotion import roll_back
    from settings import get_settings

    with database() as engine:
        model = roll_back(engine, _registry(), get_settings(), actor=None).identity
    click.echo(f"{model.name} {model.version} is used again.")


@models.command(name="import")
@click.argument("file", type=_FILE)
@click.option("--name", required=True, help="Lower-case letters, digits, '-'.")
@click.option("--version", default="1.0.0", show_default=True)
@click.option(
    "--profile",
    type=click.Choice(["metia-legacy", "head-mr"]),
    default="metia-legacy",
    show_default=True,
    help="How it wants its images: as the replaced system gave them, or as MetIA does.",
)
@click.option(
    "--axis-order",
    metavar="A,B,C",
    help="Of metia-legacy, like -row,column,slice (see self-test).",
)
@click.option(
    "--spacing",
    type=(float, float, float),
    help="Steps of the network's axes: mm of head-mr (default: 1 1 1), voxels of "
    "metia-legacy (default: as the file says, else 1.5 1.5 2).",
)
@click.option(
    "--window",
    type=(float, float),
    metavar="LOW HIGH",
    help="Of metia-legacy, of an image whose brightest is 255: what becomes the values "
    "of --scaled-to (default: as the file says, else -200 300).",
)
@click.option(
    "--scaled-to",
    type=(float, float),
    metavar="LOW HIGH",
    help="Of metia-legacy, what the network sees at the window's ends (default: as the "
    "file says, else 0 1).",
)
@click.option("--heads", type=int, help="Attention heads, where the file is silent.")
@click.option("--overlap", type=float, default=0.5, show_default=True)
@click.option("--threshold", type=float, default=0.5, show_default=True)
@click.option("--minimum-volume-mm3", type=float, default=35.0, show_default=True)
@click.option(
    "--into", type=click.Path(path_type=Path), help="Folder of models to add it to."
)
@click.option("--unaudited", is_flag=True, hidden=True)
def import_model(
    file: Path,
    axis_order: str | None,
    into: Path | None,
    unaudited: bool,
    **facts: Any,
) -> None:
    """Make a model of a checkpoint (.ckpt, .cpkt, .pth, .pt) without running it."""
    from segmentation.cli.opened import database_if_any
    from segmentation.models.importing import (
        ImportRequest,
        describe_stated,
        import_checkpoint,
    )
    from segmentation.models.promotion import note_import
    from segmentation.models.registry import ModelFolder
    from settings import get_settings

    order = None if axis_order is None else axis_order.split(",")
    request = ImportRequest(axis_order=order, **facts)
    folders = get_settings().model_dirs
    # Opened first: a database that can't note the import stops it.
    with nullcontext() if unaudited else database_if_any() as engine:
        report = import_checkpoint(file, into or folders[-1], request, beside=folders)
        if engine is not None:
            note_import(engine, ModelFolder.open(report.folder), actor=None)
    click.echo(
        f"{request.name}: {report.used} tensors used, {len(report.dropped)} dropped, "
        f"{len(report.missing)} absent that nothing reads.\nWrote {report.folder}.\n"
        f"Preprocessing taken from the file: {describe_stated(report.stated)}.\n"
        "Nothing is known of how well it does: try it on cases with known contours "
        "(`metia models self-test`, `metia evaluate`) before `metia models promote`."
    )


@models.command()
@click.argument("name", required=False)
@click.option("--check", is_flag=True, help="Only tell what is known and used.")
@click.option("--json", "as_json", is_flag=True, help="Print data.")
def tune(name: str | None, check: bool, as_json: bool) -> None:
    """Measure what computes model NAME fastest here, and use it from now on.

    Every engine and precision there is must mark what float32 marks on two synthetic
    heads. Workers take it up when they start. Measure while the machine is idle.
    """
    from segmentation.cli.chosen_model import chosen_model
    from segmentation.models import tuning
    from settings import get_settings

    settings, folder = get_settings(), chosen_model(name or "")
    if check:
        found, holds = tuning.kept_tuning(folder, settings)
    else:
        found, holds = tuning.tune(folder, settings, _tell_step), True
    if as_json:
        rows = None if found is None else asdict(found)
        document = {"model": folder.identity.name, "holds": holds, "tuning": rows}
        click.echo(json.dumps(document, indent=2))
    elif found is None:
        click.echo(f"{folder.identity.name}: not measured here; a rule decides.")
    else:
        _tell_tuning(folder.identity.name, found, holds)


def _tell_step(step: str) -> None:
    click.echo(f"... {step}", err=True)


def _tell_tuning(name: str, found: Tuning, holds: bool) -> None:
    for trial in sorted(found.trials, key=lambda one: one.seconds or math.inf):
        time = "      -" if trial.seconds is None else f"{trial.seconds:7.3f}"
        dice = "-" if trial.dice is None else f"{trial.dice:.5f}"
        click.echo(
            f"{time} s a window  {trial.choice!s:14}  Dice {dice}  "
            f"logit +-{trial.difference:.3f}  {trial.refusal}".rstrip()
        )
    click.echo(
        f"{name}: {found.chosen} is used here."
        if holds
        else f"{name}: measured on another machine, with other packages or settings; "
        "a rule decides. Measure again: metia models tune"
    )


@models.command(name="self-test")
@click.argument("name")
@click.argument("image", type=_FILE)
@click.argument("contour", type=_FILE)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default=None)
@click.option("--json", "as_json", is_flag=True, help="Print data.")
def self_test(
    name: str, image: Path, contour: Path, device: str | None, as_json: bool
) -> None:
    """Find the axis order that model NAME was trained with.

    IMAGE is a folder of DICOM files or a NIfTI file; CONTOUR the known answer on it:
    a NIfTI mask, a DICOM SEG or an RT structure set.
    """
    from segmentation.cli.known_contour import load_case
    from segmentation.models.axis_orders import is_clear, try_axis_orders
    from settings import get_settings

    settings = get_settings()
    folder = _registry().get(name)
    volume, truth = load_case(image, contour)
    with click.progressbar(length=16, label="Orders", file=sys.stderr) as bar:
        scores = try_axis_orders(
            folder,
            volume,
            truth,
            device=device or settings.device,
            threads=settings.threads,
            progress=lambda done: bar.update(1 if done else 0),
        )
    clear = is_clear(scores)
    if as_json:
        rows = [{"axis_order": one.order, "dice": one.dice} for one in scores]
        click.echo(json.dumps({"orders": rows, "clear": clear}, indent=2))
        return
    for one in scores:
        click.echo(f"{one.dice:.3f}  {','.join(one.order)}")
    click.echo(_advice(folder, scores[0].order, clear=clear))


def _advice(folder: ModelFolder, order: tuple[str, ...], *, clear: bool) -> str:
    if not clear:
        return (
            "No order stands out. Try another case, or the checkpoint does not fit "
            "this kind of image."
        )
    profile = folder.manifest.preprocessing
    if getattr(profile, "axis_order", None) == order:
        return "That is the order it is installed with."
    return (
        "Import it again, as another model: "
        f"--name OTHER --axis-order={','.join(order)}"
    )
