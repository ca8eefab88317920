"""``metia rano``: response criteria on a case file. No server, no network, no images.

``assess`` prints what the rules say of every visit, ``example`` a case to start from,
``schema`` the JSON Schema of a case. An invalid case ends as one line that names the
place, with the exit code of wrong usage (2).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import BinaryIO

import click

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "rano"
_DEFAULT_EXAMPLE = "three-visits"
_LARGEST_CASE = 32 * 1024 * 1024


@click.group()
def rano() -> None:
    """Response of brain metastases by RANO-BM, from a file of readings.

    The answer is a proposal with its reasons; a reader decides. Research use only. Not
    a medical device.
    """


@rano.command()
@click.argument("case_file", metavar="CASE.json", type=click.File("rb"))
@click.option(
    "--rules",
    "rules_name",
    type=click.Choice(["rano-bm", "recist-1.1"]),
    default="rano-bm",
    show_default=True,
    help="The response criteria to apply.",
)
@click.option("--json", "as_json", is_flag=True, help="Print data.")
def assess(case_file: BinaryIO, rules_name: str, as_json: bool) -> None:
    """Assess every visit of a case ("-" reads standard input)."""
    from errors import MetiaError
    from segmentation.followup.assess import assess as run
    from segmentation.followup.case_reading import read_case
    from segmentation.followup.document import assessment_document
    from segmentation.followup.rules import rule_sets
    from segmentation.followup.text import assessment_text

    text = case_file.read(_LARGEST_CASE + 1)
    if len(text) > _LARGEST_CASE:
        raise MetiaError("invalid-input", "The case is larger than 32 MiB.")
    case = read_case(text)
    rules = rule_sets()[rules_name]
    answer = run(case, rules)
    if as_json:
        click.echo(json.dumps(assessment_document(answer, case), indent=2))
    else:
        click.echo(assessment_text(answer, rules.title), nl=False)


@rano.command()
@click.argument("name", default=_DEFAULT_EXAMPLE)
@click.option("--list", "list_names", is_flag=True, help="List the examples.")
def example(name: str, list_names: bool) -> None:
    """Print an example case: a name, or the number of a worked case."""
    from errors import MetiaError

    files = {path.stem: path for path in sorted(EXAMPLES.glob("*.json"))}
    if not files:
        raise MetiaError("not-found", "The examples are not part of this installation.")
    if list_names:
        for stem, path in files.items():
            about = json.loads(path.read_text("utf-8"))["description"]
            click.echo(f"{stem:20} {about}")
        return
    if re.fullmatch(r"\d{1,2}", name):
        name = f"case-{int(name):02d}"
    if name not in files:
        raise MetiaError("not-found", "There is no such example: see --list.")
    click.echo(files[name].read_text("utf-8"), nl=False)


@rano.command()
def schema() -> None:
    """Print the JSON Schema of a case."""
    from segmentation.followup.case_reading import SCHEMA_PATH

    click.echo(SCHEMA_PATH.read_text("utf-8"), nl=False)
