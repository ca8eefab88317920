"""``metia sample``: synthetic studies with known lesions, to try things on."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from errors import MetiaError
from settings import Settings, get_settings


@click.group()
def sample() -> None:
    """Synthetic studies with known lesions; no person is behind them."""


@sample.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--visit",
    type=click.Choice(["1", "2", "3", "all"]),
    default="all",
    show_default=True,
    help="The visits are three months apart.",
)
def make(folder: Path, visit: str) -> None:
    """Write the sample patient's studies as DICOM, and the truth beside them.

    Then try: metia segment DIR/visit-1 --out RESULT
    """
    import json
    import tempfile

    from segmentation.phantoms import VISITS, truth_document, write_sample_visit

    wanted = VISITS if visit == "all" else (int(visit),)
    targets = {number: folder / f"visit-{number}" for number in wanted}
    if any(target.exists() for target in targets.values()):
        raise MetiaError("output-exists", "The folder holds a sample already.")
    for number, target in targets.items():
        click.echo(f"Making visit {number} ...", err=True)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".metia-", dir=folder) as unfinished:
            made = Path(unfinished) / target.name
            drawn = write_sample_visit(made, number)
            truth = json.dumps(truth_document(drawn), indent=2) + "\n"
            (folder / f"truth-{number}.json").write_text(truth, "utf-8")
            made.rename(target)
    click.echo(f"The sample is in {folder}.")


@sample.command()
def load() -> None:
    """Store the sample patient's studies in the archive of the service."""
    load_sample(get_settings())


def load_sample(settings: Settings) -> None:
    """Store the synthetic patient's studies, unless they are there."""
    from orthanc.gateway import OrthancArchive
    from segmentation.phantoms import VISITS, sample_study

    with contextlib.closing(OrthancArchive.from_settings(settings)) as archive:
        for visit in VISITS:
            study_uid, make = sample_study(visit)
            try:
                archive.series_headers(study_uid)
            except MetiaError as error:
                if error.code != "study-not-found":
                    raise
                click.echo(f"Making the synthetic sample study, visit {visit} ...")
                archive.store(make())
