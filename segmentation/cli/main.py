"""The group of commands behind ``./metia``, and what becomes of their errors.

Commands are imported when they are run, so that ``--help`` is quick; a new one is one
line in ``COMMANDS``. Every failure ends as one line with a stable code and a remedy,
and as a documented exit code; tracebacks are for ``METIA_DEBUG=1`` only, since they may
hold what must not be shown. One process, one command.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from errors import MetiaError
from segmentation.cli.exit_codes import Exit, exit_code

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module:attribute, help)
    "segment": (
        "segmentation.cli.segment:segment",
        "Find and measure metastases in images on this machine.",
    ),
    "up": (
        "segmentation.cli.stack_commands:up",
        "Run the whole system: viewer, API, worker and archive.",
    ),
    "worker": (
        "segmentation.cli.worker:worker",
        "One more worker, here or on another host.",
    ),
    "models": ("segmentation.cli.models:models", "The installed models."),
    "rano": ("segmentation.followup.command:rano", "Response by RANO-BM, from a file."),
    "export": (
        "segmentation.cli.export:export",
        "Write a patient's course or a visit to files: CSV, PDF, FHIR, NIfTI ...",
    ),
    "jobs": ("segmentation.cli.jobs:jobs", "The jobs of the service."),
    "user": ("segmentation.cli.users:user", "The people who may log in."),
    "db": ("segmentation.cli.database:database", "The database of the service."),
    "legacy": (
        "segmentation.cli.legacy:legacy",
        "What the former system has left: import its measurements.",
    ),
    "audit": ("segmentation.cli.audit:audit", "Who did what and when."),
    "sample": ("segmentation.cli.sample:sample", "Synthetic studies to try things on."),
    "dataset": (
        "segmentation.cli.dataset:dataset",
        "Cases to train on, from DICOM files or judged results.",
    ),
    "train": (
        "segmentation.cli.training:train",
        "Train or fine-tune a network.",
    ),
    "evaluate": (
        "segmentation.cli.evaluation:evaluate",
        "Measure how well a model finds lesions.",
    ),
    "synthetic": (
        "segmentation.cli.training:synthetic",
        "Synthetic heads with metastases, to train on.",
    ),
    "init": ("segmentation.cli.stack_commands:init", ""),
    "model": ("segmentation.cli.models:models", ""),  # as many will type it
}
"""A command without help is hidden."""

EPILOG = """\b
Examples:
  ./metia up                              run everything, then open the browser
  ./metia sample make /tmp/sample         make a synthetic study
  ./metia segment /tmp/sample/visit-1 --out /tmp/result
  ./metia models list                     which models are installed

\b
Exit codes: 0 done (also: no lesion found), 2 wrong usage, 3 images refused,
4 no suitable series, 5 model problem, 6 machine, settings or fault of the
program, 130 stopped with Ctrl-C.

Settings are read from METIA_* (see docs). Research use only. Not a medical device.
"""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - narrows for mypy
        return command

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the commands without importing them."""
        rows = [(name, text) for name, (_, text) in COMMANDS.items() if text]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from settings import RESEARCH_NOTICE, VERSION

        click.echo(f"metia {VERSION}\n{RESEARCH_NOTICE}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version.",
)
def cli() -> None:
    """MetIA finds, measures and follows brain metastases on post-contrast T1 MRI.

    Each command explains itself: ./metia segment --help
    """


def main(arguments: Sequence[str]) -> int:
    """Run the command line.

    Returns
    -------
    int
        The exit code.
    """
    try:
        result: Any = cli.main(list(arguments), "metia", standalone_mode=False)
    except MetiaError as error:
        _say(error, as_json="--json" in arguments)
        return exit_code(error.code)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("metia: cancelled", err=True)
        return Exit.CANCELLED
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except BrokenPipeError:
        # The reader of a pipe has gone (`| head`); nothing is left to be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except Exception as error:
        if os.environ.get("METIA_DEBUG"):
            raise
        kind = type(error).__name__
        _say(
            MetiaError("internal", f"{kind}."),
            as_json="--json" in arguments,
        )
        return Exit.INTERNAL
    return result if isinstance(result, int) else Exit.OK


_REMEDIES = {
    "conflict": "Look at the present state first.",
    "invalid-input": "Correct it and run the command again.",
    "no-suitable-series": "See --list-series; if you know better, name one with "
    "--series, and add --force-series.",
    "not-found": "List what there is first.",
    "series-not-found": "See --list-series.",
    "volume-not-head-t1": "If you know better, add --force-series.",
    "model-unknown": "See `metia models list`.",
    "internal": "Run again with METIA_DEBUG=1 to see where, and report it.",
    "disk-full": "Free space, then run it again.",
    "volume-undecodable": "Decompress the files first (for example: dcmdjpeg).",
}
"""What to do at a command line, where the answers of the API say something else."""


def _say(error: MetiaError, *, as_json: bool) -> None:
    """Tell a failure in one line; with ``--json`` also as data on standard output."""
    info = error.info
    detail = " ".join(error.detail.split())
    remedy = _REMEDIES.get(error.code, info.remedy)
    click.echo(f"metia: {error.code}: {info.title}. {detail} {remedy}", err=True)
    if as_json:
        fault = {
            "code": error.code,
            "title": info.title,
            "detail": error.detail,
            "remedy": remedy,
            **({"facts": error.facts} if error.facts else {}),
        }
        click.echo(json.dumps({"error": fault}, default=str))
