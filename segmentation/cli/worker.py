"""``metia worker``: be one worker process, here or on another host.

Settings come from METIA_* as everywhere; the options are for those that differ between
the workers of one machine. They have to be put into the environment before anything
reads it (settings once a process, CUDA when it is first used). One process, one worker.
"""

from __future__ import annotations

import os
import re

import click

from errors import MetiaError

_DEVICE = re.compile(r"auto|cpu|cuda|cuda:(?P<number>[0-9]+)")


@click.command()
@click.option(
    "--queue",
    "queues",
    multiple=True,
    type=click.Choice(["gpu", "cpu", "train"]),
    help="Take jobs of this queue (may be given again).",
)
@click.option("--device", default="", help="auto, cpu, cuda, or one of several: cuda:1")
@click.option("--threads", type=click.IntRange(0, 1024), help="CPU threads (0: all).")
@click.pass_context
def worker(
    context: click.Context, queues: tuple[str, ...], device: str, threads: int | None
) -> None:
    """Take jobs and work on them, until a signal stops it.

    With METIA_BROKER_URL jobs come through Celery, else from the database. On another
    host than the API set METIA_DATABASE_URL (PostgreSQL), METIA_ARCHIVE_URL and
    METIA_ARCHIVE_PASSWORD.
    """
    if queues:
        os.environ["METIA_WORKER_QUEUES"] = ",".join(queues)
    if device:
        _choose(device)
    if threads is not None:
        os.environ["METIA_THREADS"] = str(threads)
    from segmentation.worker import main

    context.exit(main())


def _choose(device: str) -> None:
    found = _DEVICE.fullmatch(device)
    if found is None:
        raise MetiaError(
            "configuration-invalid", "A device is auto, cpu, cuda or cuda:NUMBER."
        )
    if found["number"] is not None:
        # The process sees this GPU alone; it is the first there.
        os.environ["CUDA_VISIBLE_DEVICES"] = found["number"]
    os.environ["METIA_DEVICE"] = device.partition(":")[0]
