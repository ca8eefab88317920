"""The commands that run the system: ``up`` on this machine, ``init`` for containers.

Both prepare the same things with the same functions: secrets, configuration, schema,
the first administrator, and the synthetic sample study.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import click

from errors import MetiaError
from segmentation.cli import stack_files
from segmentation.cli.sample import load_sample
from segmentation.cli.up import LocalStack, StackOptions
from settings import RESEARCH_NOTICE, ROOT, Settings, get_settings

_DATABASE_START_S = 90.0


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8080,
    show_default=True,
    help="Port of the viewer.",
)
@click.option(
    "--listen", default="127.0.0.1", show_default=True, help="Address of the viewer."
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Worker processes.",
)
@click.option(
    "--dicom-port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Take images by C-STORE on this port (0: do not).",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / "var",
    envvar="METIA_DATA_DIR",
    show_envvar=True,
    show_default="var/",
    help="Where images, database, secrets and logs lie.",
)
@click.option("--sample/--no-sample", default=True, help="Load the sample study.")
def up(
    port: int, listen: str, workers: int, dicom_port: int, data_dir: Path, sample: bool
) -> None:
    """Run the whole system here: viewer, API, worker and archive.

    Stop it with Ctrl-C; data stay in the data folder.
    """
    options = StackOptions(data_dir.absolute(), port, listen, workers, dicom_port)
    stack = LocalStack(options, click.echo)
    # A second signal during the stop must not leave children behind.
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        stack.prepare()
        os.environ.update(stack.environment)
        _tell_password(prepare_database(get_settings()))
        click.echo("Starting the archive, the API, the worker and the viewer ...")
        stack.start(stopped)
        if sample and not stopped.is_set():
            load_sample(get_settings())
        click.echo(f"Ready: {stack.url}   (Ctrl-C stops it.)   {RESEARCH_NOTICE}")
        stack.supervise(stopped)
    finally:
        stack.stop()


@click.command(hidden=True)
def init() -> None:
    """Prepare the volumes of the containers (run by docker-compose)."""
    password = stack_files.ensure_secret(Path("/etc/metia/service/archive_password"))
    stack_files.ensure_secret(Path("/etc/metia/service/secret_key"))
    stack_files.write_scale_secrets(
        Path("/etc/metia/service"), database="database:5432", broker="broker:6379"
    )
    settings = get_settings()  # which read the secrets: not before there are any
    stack_files.write_archive_configuration(
        Path("/etc/metia/archive/orthanc.json"),
        password=password,
        storage_dir=Path("/var/lib/metia-archive"),
        http_port=8042,
        dicom_port=None,
        remote_access=True,
    )
    stack_files.write_proxy_configuration(
        Path("/etc/metia/proxy/nginx.conf"),
        listen="0.0.0.0:8080",
        viewer_root=Path("/usr/share/metia/viewer"),
        api="api:5000",
        archive="orthanc:8042",
        archive_password=password,
        run_dir=Path("/tmp"),  # noqa: S108 - a tmpfs of the container's own
        secure=settings.cookie_secure,
        legacy_wait_s=settings.legacy_wait_s if settings.legacy_api else None,
    )
    _await_database(settings)
    _tell_password(prepare_database(settings))


def _await_database(settings: Settings) -> None:
    """Wait for a PostgreSQL that starts beside us; its password was made just now."""
    from db.engine import make_engine
    from db.schema import current

    engine = make_engine(settings.database_url)
    deadline = time.monotonic() + _DATABASE_START_S
    while True:
        try:
            current(engine)
            break
        except MetiaError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
    engine.dispose()


def prepare_database(settings: Settings) -> str | None:
    """Bring the schema up to date and make the first administrator.

    Returns
    -------
    str or None
        The administrator's password, where there was no user yet.
    """
    from db.engine import make_engine
    from db.schema import upgrade
    from segmentation.access.users import ensure_first_admin

    engine = make_engine(settings.database_url)
    upgrade(engine)
    password = ensure_first_admin(engine)
    engine.dispose()
    return password


def _tell_password(password: str | None) -> None:
    if password is not None:
        click.echo(f"First user: admin   password: {password}   (shown only now)")
