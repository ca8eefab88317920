"""``metia dataset``: cases to train on, from DICOM files or from judged results.

What cannot be used is told with its reason, by number, and the rest goes on. Nothing
leaves the machine; see ``case_files`` for what is written.
"""

from __future__ import annotations

from pathlib import Path

import click

_OUT = click.Path(file_okay=False, path_type=Path)
_JUDGED = ("accepted", "edited", "signed")


@click.group()
def dataset() -> None:
    """Collect cases to train on."""


@dataset.command(name="from-dicom")
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=_OUT, required=True, help="Folder of cases to add to.")
def from_dicom(folder: Path, out: Path) -> None:
    """Make cases of all SEG and RTSTRUCT objects in FOLDER (or a ZIP).

    The images that they were drawn on must be there too.
    """
    from errors import MetiaError
    from segmentation.cli.case_files import drawings, drawn_case, write_case
    from segmentation.cli.dicom_files import dicom_folder, find_series

    tally = _Tally(out)
    with dicom_folder(folder) as place:
        files = find_series(place)
        for drawn in drawings(place):
            try:
                tally.written(write_case(out, drawn_case(files, drawn)))
            except MetiaError as error:
                tally.refused(error)
    tally.end()


@dataset.command(name="from-results")
@click.option("--out", type=_OUT, required=True, help="Folder of cases to add to.")
@click.option(
    "--state",
    "states",
    type=click.Choice(_JUDGED),
    multiple=True,
    default=_JUDGED,
    show_default=True,
    help="Results in these states; what no reader has judged is no truth.",
)
def from_results(out: Path, states: tuple[str, ...]) -> None:
    """Make cases of the results that readers of the service have judged."""
    from errors import MetiaError
    from orthanc.gateway import OrthancArchive
    from segmentation.cli.case_files import judged_cases, write_case
    from segmentation.cli.opened import database
    from settings import get_settings

    tally = _Tally(out)
    archive = OrthancArchive.from_settings(get_settings())
    with database() as engine:
        for case in judged_cases(engine, archive, states):
            try:
                if isinstance(case, MetiaError):
                    raise case
                tally.written(write_case(out, case))
            except MetiaError as error:
                tally.refused(error)
    tally.end()


class _Tally:
    """Counts and tells what became of each object."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._written = self._refused = 0

    def written(self, name: str) -> None:
        self._written += 1
        click.echo(name)

    def refused(self, error: Exception) -> None:
        self._refused += 1
        number = self._written + self._refused
        click.echo(f"number {number} is not used: {error}", err=True)

    def end(self) -> None:
        from errors import MetiaError

        click.echo(f"{self._written} cases added to {self._out}.")
        if not self._written:
            raise MetiaError("input-unreadable", "No case could be made.")
