"""The routes of models: look, verify, promote, roll back, import.

An imported checkpoint is streamed to a file and converted by the command line in a
process of its own: this web process never loads torch, and nothing of the file is run
(``unetr.sandbox``). Promotions are rows of the database and audited.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flask
from marshmallow import fields, validate

from errors import CODES, MetiaError
from segmentation.access.routes import allow, principal
from segmentation.http import schemas
from segmentation.http.routes import Blueprint, request_id, services
from segmentation.models.choice import default_model
from segmentation.models.promotion import note_import, promote_folder, roll_back
from segmentation.models.registry import ModelFolder
from settings import ROOT
from unetr.sandbox import require_checkpoint

blueprint = Blueprint("models", __name__, url_prefix="/api/v1", description="Models")

LARGEST_CHECKPOINT = 2 * 2**30
_IMPORT_S = 600
_CHUNK = 1 << 20


def _numbers(count: int) -> fields.List[float]:
    return fields.List(fields.Float(), validate=validate.Length(equal=count))


class NewModel(schemas.Input):
    """What is known of a checkpoint that its file does not say.

    As the options of ``metia models import``; a list is its key given so many times.
    """

    name = schemas.Name(schemas.MODEL_NAME_PATTERN, required=True)
    version = fields.String(
        load_default="1.0.0",
        validate=validate.Regexp(r"^[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}\Z"),
    )
    profile = fields.String(
        load_default="metia-legacy",
        validate=validate.OneOf(["metia-legacy", "head-mr"]),
    )
    axis_order = fields.String(
        validate=validate.Regexp(r"^-?(row|column|slice)(,-?(row|column|slice)){2}\Z")
    )
    spacing = _numbers(3)
    window = _numbers(2)
    scaled_to = _numbers(2)
    heads = fields.Integer(validate=validate.Range(min=1, max=1024))
    overlap = fields.Float(validate=validate.Range(min=0, max=0.9))
    threshold = fields.Float(
        validate=validate.Range(0, 1, min_inclusive=False, max_inclusive=False)
    )
    minimum_volume_mm3 = fields.Float(validate=validate.Range(min=0))


class ModelDetails(schemas.Model):
    """Everything that is stated of one model."""

    licence = fields.String(required=True)
    preprocessing = fields.Dict(required=True, allow_none=True)
    network = fields.Dict(required=True, allow_none=True)
    inference = fields.Dict(required=True)
    training_data = fields.Dict(required=True)
    metrics = fields.List(fields.Dict(), required=True)
    files = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata={"description": "SHA-256 of each file by its name."},
    )


@blueprint.route("/models", methods=["GET"])
@blueprint.response(200, schemas.Models)
def show_models() -> dict[str, Any]:
    """List the models that jobs may ask for."""
    default = _default_name()
    return {
        "models": [folder.summary(default) for folder in services().models.models()]
    }


@blueprint.route("/models/<name>", methods=["GET"])
@blueprint.response(200, ModelDetails)
@blueprint.alt_response(404, "NOT_FOUND")
def show_model(name: str) -> dict[str, Any]:
    """Give everything the manifest of a model states."""
    folder = _folder(name)
    stated = folder.manifest.model_dump(mode="json")
    return {**stated, **folder.summary(_default_name())}


@blueprint.route("/models/<name>/verify", methods=["POST"])
@allow("reviewer")
@blueprint.response(200, schemas.Model)
@blueprint.alt_response(404, "NOT_FOUND")
def verify_model(name: str) -> dict[str, Any]:
    """Compare a model's files with their hashes; a difference is an error."""
    folder = _folder(name)
    folder.verify()
    return folder.summary(_default_name())


@blueprint.route("/models/<name>/promote", methods=["POST"])
@allow("admin")
@blueprint.response(200, schemas.Model)
@blueprint.alt_response(404, "NOT_FOUND")
def promote(name: str) -> dict[str, Any]:
    """Use a model from now on wherever nobody names one."""
    context = services()
    folder = _folder(name)
    promote_folder(
        context.engine, folder, actor=principal().name, request_id=request_id()
    )
    return folder.summary(name)


@blueprint.route("/model-rollback", methods=["POST"])
@allow("admin")
@blueprint.response(200, schemas.Model)
@blueprint.alt_response(409, "CONFLICT")
@blueprint.alt_response(422, "UNPROCESSABLE_ENTITY")
def rollback() -> dict[str, Any]:
    """Undo the present promotion; answers with the model that is used then."""
    context = services()
    folder = roll_back(
        context.engine,
        context.models,
        context.settings,
        actor=principal().name,
        request_id=request_id(),
    )
    return folder.summary(folder.identity.name)


@blueprint.route("/models", methods=["POST"])
@allow("admin")
@blueprint.doc(
    requestBody={
        "required": True,
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"}
            }
        },
    }
)
@blueprint.arguments(NewModel, location="query")
@blueprint.response(201, schemas.Model)
@blueprint.alt_response(409, "CONFLICT")
@blueprint.alt_response(413, "REQUEST_ENTITY_TOO_LARGE")
@blueprint.alt_response(415, "UNSUPPORTED_MEDIA_TYPE")
def import_model(asked: dict[str, Any]) -> dict[str, Any]:
    """Make a model of a checkpoint, sent as the body, without running it."""
    context = services()
    if flask.request.mimetype != "application/octet-stream":
        flask.abort(415)
    flask.request.max_content_length = LARGEST_CHECKPOINT
    with tempfile.NamedTemporaryFile(
        prefix="metia-checkpoint-", dir=context.settings.data_dir
    ) as file:
        while chunk := flask.request.stream.read(_CHUNK):
            file.write(chunk)
        file.flush()
        require_checkpoint(Path(file.name))
        _convert(Path(file.name), asked, context.settings.model_dirs)
    folder = ModelFolder.open(context.settings.model_dirs[-1] / asked["name"])
    note_import(context.engine, folder, actor=principal().name, request_id=request_id())
    return folder.summary(_default_name())


def _folder(name: str) -> ModelFolder:
    try:
        return services().models.get(name)
    except MetiaError as error:
        if error.code != "model-unknown":
            raise
        raise MetiaError("not-found", "There is no model of this name.") from error


def _convert(
    checkpoint: Path, asked: dict[str, Any], model_dirs: Sequence[Path]
) -> None:
    options = []
    for name, value in asked.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, list):
            options += [option, *map(str, value)]
        else:
            options.append(f"{option}={value}")  # it may begin with a minus
    done = subprocess.run(  # noqa: S603 - our own command, checked values
        [
            *(sys.executable, "-m", "segmentation.cli", "models", "import"),
            # Who asked is known here only: the entry of the audit is written here.
            *(str(checkpoint), "--unaudited", *options),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "METIA_MODEL_DIRS": ":".join(str(path.absolute()) for path in model_dirs),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_IMPORT_S,
        check=False,
    )
    if done.returncode:
        raise _failure(done.stderr)


def _failure(shown: str) -> MetiaError:
    """Give the command's one line (``metia: code: detail``) as the error it is."""
    for line in shown.splitlines():
        _, _, rest = line.partition("metia: ")
        code, _, detail = rest.partition(": ")
        if code == "output-exists":
            return MetiaError("conflict", detail)
        if code in CODES:
            return MetiaError(code, detail)
    return MetiaError("internal", "The checkpoint could not be converted.")


def _default_name() -> str:
    """Give the name of the model that is used, "" where that can't be told."""
    context = services()
    try:
        return default_model(
            context.settings, context.engine, context.models
        ).identity.name
    except MetiaError as error:
        # A listing must show what is there; who starts a job is told the fault.
        if not error.code.startswith("model-"):
            raise
        return ""
