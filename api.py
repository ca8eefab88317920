"""The web application: ``create_app()`` puts settings, parts and routes together.

Run by gunicorn (``gunicorn "api:create_app()"``) or ``flask --app api``. Computes
nothing itself and never loads torch: jobs go to the worker through the database. Every
request passes the guard of ``segmentation.access.routes``; every error leaves as a
problem document.
"""

from __future__ import annotations

from typing import TextIO

import click
import flask
from werkzeug.middleware.proxy_fix import ProxyFix

from db.engine import Engine, database_time, make_engine, reading
from db.jobs import count_jobs, oldest_queued
from orthanc.archive import Archive
from orthanc.gateway import OrthancArchive
from orthanc.routes import ARCHIVE_EXTENSION
from orthanc.routes import blueprint as studies
from segmentation import routes as work
from segmentation.access.identity import LocalUsers
from segmentation.access.login.routes import blueprint as login
from segmentation.access.people.routes import blueprint as people
from segmentation.access.routes import blueprint as session
from segmentation.access.routes import install_guard
from segmentation.ahead.routes import blueprint as ahead
from segmentation.delivery.notice import make_notice
from segmentation.exports.dicom.routes import blueprint as dicom_exports
from segmentation.exports.routes import blueprint as exports
from segmentation.followup.routes import blueprint as followup
from segmentation.governance.routes import blueprint as governance
from segmentation.http.logs import configure_logs
from segmentation.http.metrics import Metrics, QueueFigures
from segmentation.http.problems import error_reference
from segmentation.http.routes import SERVICES, Api, describe_converters, install
from segmentation.http.service.routes import blueprint as service
from segmentation.http.services import Health, Services
from segmentation.imports.routes import blueprint as imports
from segmentation.jobs import JobQueue
from segmentation.legacy.routes import blueprint as legacy
from segmentation.legacy.routes import history
from segmentation.models.registry import ModelRegistry
from segmentation.models.routes import blueprint as models
from segmentation.versions.routes import blueprint as versions
from settings import RESEARCH_NOTICE, VERSION, Settings, get_settings


def create_app(
    settings: Settings | None = None,
    *,
    archive: Archive | None = None,
    engine: Engine | None = None,
) -> flask.Flask:
    """Make the web application.

    Parameters
    ----------
    settings : Settings, optional
        Those of the environment where left out.
    archive : Archive, optional
        Orthanc as the settings name it where left out.
    engine : Engine, optional
        The database as the settings name it where left out.

    Returns
    -------
    flask.Flask

    Raises
    ------
    MetiaError
        ``configuration-invalid``, ``database-unusable``.
    """
    settings = settings or get_settings()
    settings.require_secret_key()
    configure_logs(settings.log_level)
    services = _make_services(settings, archive, engine)
    app = flask.Flask("metia", static_folder=None)
    _configure(app, settings)
    app.extensions[SERVICES] = services
    app.extensions[ARCHIVE_EXTENSION] = services.archive
    install(app, services.metrics)
    api = Api(app)
    describe_converters(api)
    _describe_access(api)
    for blueprint in (
        session,
        studies,
        work.jobs,
        work.results,
        ahead,
        versions,
        models,
        people,
        exports,
        dicom_exports,
        imports,
        followup,
        governance,
        history,
        *([legacy] if settings.legacy_api else []),
    ):
        api.register_blueprint(blueprint)
    app.register_blueprint(login)
    app.register_blueprint(service)
    app.cli.add_command(_write_error_reference)
    install_guard(app)
    return app


def _make_services(
    settings: Settings, archive: Archive | None, engine: Engine | None
) -> Services:
    database = engine or make_engine(settings.database_url)
    archive = archive or OrthancArchive.from_settings(
        settings,
        # A person waits for the answer: one more try, not the worker's patience.
        retries=min(settings.archive_retries, 1),
    )
    announce, ping_broker = make_notice(settings)
    queue = JobQueue(database, settings, announce=announce)

    return Services(
        settings=settings,
        engine=database,
        archive=archive,
        queue=queue,
        models=ModelRegistry(settings.model_dirs),
        identity=LocalUsers(database),
        metrics=Metrics(lambda: _read_queue(database)),
        archive_health=Health(archive.ping),
        broker_health=Health(ping_broker) if ping_broker else None,
    )


def _read_queue(engine: Engine) -> QueueFigures:
    with reading(engine) as session:
        counts = count_jobs(session)
        oldest = oldest_queued(session)
        now = database_time(session)
    oldest_s = (now - oldest).total_seconds() if oldest else 0.0
    return QueueFigures(counts, max(oldest_s, 0.0))


def _configure(app: flask.Flask, settings: Settings) -> None:
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_request_bytes,
        MAX_FORM_MEMORY_SIZE=16_384,
        MAX_FORM_PARTS=16,
        TRUSTED_HOSTS=list(settings.allowed_hosts) or None,
        API_TITLE="MetIA",
        API_VERSION=VERSION,
        OPENAPI_VERSION="3.1.0",
        API_SPEC_OPTIONS={
            "info": {"description": RESEARCH_NOTICE},
            "security": [{"session": []}, {"token": []}],
        },
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    hops = settings.trusted_proxies
    if hops:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops
        )


def _describe_access(api: Api) -> None:
    components = api.spec.components
    components.security_scheme(
        "session", {"type": "apiKey", "in": "cookie", "name": "metia_session"}
    )
    components.security_scheme("token", {"type": "http", "scheme": "bearer"})


@click.command("errors-reference")
@click.argument("file", type=click.File("w", encoding="utf-8"), default="-")
def _write_error_reference(file: TextIO) -> None:
    """Write docs/errors.md from the table of error codes."""
    file.write(error_reference())
