"""The description of the API is valid, complete and the one that is committed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema

from tests.security.application import Application

ROOT = Path(__file__).parents[2]


def _description(application: Application) -> dict:
    return application.browser("viewer").get("/api/v1/openapi.json").json


def test_committed_description_is_up_to_date(application: Application) -> None:
    committed = json.loads((ROOT / "ohif-extension" / "openapi.json").read_text())
    assert committed == _description(application), (
        "run `flask --app api openapi write -f json ohif-extension/openapi.json`"
    )


def test_description_is_valid_and_complete(application: Application) -> None:
    description = _description(application)
    assert description["openapi"].startswith("3.1")
    for schema in description["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    described = {
        (method.upper(), path)
        for path, item in description["paths"].items()
        for method in item
        if method != "parameters"
    }
    served = {
        (
            method,
            rule.rule.replace("<uid:", "{")
            .replace("<id:", "{")
            .replace("<", "{")
            .replace(">", "}"),
        )
        for rule in application.app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/")
        and rule.rule not in ("/api/v1/openapi.json", "/api/v1/docs")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == served


def test_web_process_never_loads_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from api import create_app; create_app();"
        "heavy = {'torch', 'monai', 'pytorch_lightning'} & set(sys.modules);"
        "print(heavy); sys.exit(bool(heavy))"
    )
    environment = {
        **os.environ,
        "METIA_DATA_DIR": str(tmp_path),
        "METIA_SECRET_KEY": "k" * 40,
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_application_does_not_start_without_a_secret(tmp_path: Path) -> None:
    environment = {**os.environ, "METIA_DATA_DIR": str(tmp_path)}
    environment.pop("METIA_SECRET_KEY", None)
    done = subprocess.run(
        [sys.executable, "-c", "from api import create_app; create_app()"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "METIA_SECRET_KEY" in done.stderr
