"""``metia train`` and ``metia synthetic``: from heads to a model folder.

Nothing here is used by the service. All the work is under ``unetr.training``, which is
imported when a command runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from unetr.training.configuration import DataConfiguration, TrainingConfiguration

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument(
    "configuration",
    metavar="CONFIG",
    type=_FILE,
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after this long, to be resumed.",
)
@click.option("--check", is_flag=True, help="Only check the configuration and cases.")
@click.option(
    "--export",
    "export_folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the model of the last (or named) checkpoint below DIR; do not train.",
)
@click.option(
    "--checkpoint",
    type=_FILE,
    help="With --export: this checkpoint instead of last.ckpt.",
)
@click.option(
    "--evaluation",
    type=_FILE,
    metavar="JSON",
    help="With --export: the evaluation.json of these weights, for the manifest.",
)
@click.option(
    "--card",
    type=_FILE,
    metavar="MD",
    help="With --export: the model card, instead of a draft.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def train(
    configuration: Path,
    resume: bool,
    minutes: float | None,
    check: bool,
    export_folder: Path | None,
    checkpoint: Path | None,
    evaluation: Path | None,
    card: Path | None,
    quiet: bool,
) -> None:
    """Train or fine-tune a network as CONFIG (YAML) says; see docs/training.md."""
    from unetr.training.configuration import read_configuration

    wanted = read_configuration(configuration)
    if check:
        _check(wanted)
        return
    if export_folder is not None:
        from unetr.training.export import export_model

        chosen = checkpoint or Path(wanted.output) / "last.ckpt"
        made = export_model(
            wanted, chosen, export_folder, evaluation=evaluation, card=card
        )
        click.echo(f"Wrote {made}.")
        return
    from unetr.training.run import train as run

    last = run(wanted, resume=resume, minutes=minutes, progress=not quiet)
    # Lightning starts this command once more for each further device.
    if os.environ.get("LOCAL_RANK", "0") == "0":
        click.echo(f"The last checkpoint is {last}.")


def _check(wanted: TrainingConfiguration) -> None:
    from errors import MetiaError
    from unetr.training.run import check

    click.echo("The configuration is valid.")
    faults = check(wanted)
    for text in faults:
        click.echo(f"fault: {text}")
    serious = len(faults) + _count_bad_cases(wanted.data)
    if serious:
        raise MetiaError("configuration-invalid", f"There are {serious} faults.")
    if wanted.data.cases is not None:
        _divide_cases(Path(wanted.data.cases), wanted.data)


def _count_bad_cases(data: DataConfiguration) -> int:
    from unetr.training.cases import check_cases

    faults = [] if data.cases is None else check_cases(Path(data.cases))
    for fault in faults:
        kind = "fault" if fault.serious else "note"
        click.echo(f"{kind}: {fault.case}: {fault.text}")
    return sum(fault.serious for fault in faults)


def _divide_cases(folder: Path, data: DataConfiguration) -> None:
    """Do as training will, but lock nothing."""
    from unetr.training.cases import cases_for, find_cases, origin_of, plan_split
    from unetr.training.sources import refuse_other_origins

    cases, _ = find_cases(folder)
    split = plan_split(folder, cases)
    folding = {"folds": data.folds, "fold": data.fold}
    trained = cases_for(cases, split, "train", **folding)
    validated = cases_for(cases, split, "validation", **folding)
    refuse_other_origins(data.patches, origin_of(split, **folding))
    click.echo(
        f"The cases are usable: {len(trained)} to train on, {len(validated)} to "
        "validate with."
    )


@click.group()
def synthetic() -> None:
    """Synthetic heads with metastases, to train on."""


@synthetic.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that the split's paths start from.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder to make."
)
@click.option(
    "--parts",
    default="train,validation",
    show_default=True,
    help="Parts of the split, by commas; test is for evaluation.",
)
@click.option(
    "--split",
    type=_FILE,
    help="Another split than MetIA's own.",
)
def pack(data: Path, out: Path, parts: str, split: Path | None) -> None:
    """Pack label maps and real heads into a small folder that can travel."""
    from errors import MetiaError
    from unetr.training.heads import SPLIT_FILE, Part, pack_heads, read_split

    names: dict[str, Part] = {
        "train": "train",
        "validation": "validation",
        "test": "test",
    }
    wanted = [part.strip() for part in parts.split(",")]
    if unknown := sorted(set(wanted) - names.keys()):
        raise MetiaError("invalid-input", f"There is no part {', '.join(unknown)}.")
    index = pack_heads(
        data,
        out,
        parts=[names[part] for part in wanted],
        split=read_split(split or SPLIT_FILE),
    )
    size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    click.echo(f"Packed {len(index.heads)} heads, {size:.0f} MB, into {out}.")


@synthetic.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Packed folder of heads.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--count", type=click.IntRange(1, 30), default=4, show_default=True)
@click.option(
    "--config",
    type=_FILE,
    help="Training configuration whose synthetic part to use.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="PNG to write."
)
def sheet(data: Path, seed: int, count: int, config: Path | None, out: Path) -> None:
    """Draw a contact sheet of heads as the network would meet them."""
    from unetr.training.configuration import read_configuration
    from unetr.training.heads import HeadStore
    from unetr.training.parameters import SyntheticParameters
    from unetr.training.sheet import write_sheet
    from unetr.training.synthetic import HeadGenerator

    parameters = read_configuration(config).synthetic if config else None
    generator = HeadGenerator(
        HeadStore(data, ("train",)),
        parameters or SyntheticParameters(),
        seed=seed,
    )
    write_sheet(generator, range(count), out)
    click.echo(f"Wrote {out}.")


@synthetic.command()
@click.argument("config", type=_FILE)
@click.option("--heads", type=click.IntRange(min=1), default=100, show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Another one for each file.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write (safetensors), to be named under data.patches.",
)
def patches(config: Path, heads: int, seed: int, out: Path) -> None:
    """Make patches beforehand, as CONFIG cuts them, to train on many times."""
    from unetr.training.configuration import read_configuration
    from unetr.training.stored import store_patches

    count = store_patches(read_configuration(config), out, heads=heads, seed=seed)
    click.echo(f"Wrote {count} patches of {heads} heads to {out}.")
