"""The web application on a database and an archive of its own, for tests.

``Application`` makes users of any role and clients that act as their browser or script.
Passwords are hashed only where a test logs in with one: hashing is slow on purpose.
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import flask
from flask.testing import FlaskClient
from pydicom.uid import generate_uid
from werkzeug.test import TestResponse

from api import create_app
from db import users as rows
from db.engine import make_engine, transaction
from db.results import ResultRecord, record_result
from db.schema import upgrade
from db.studies import Patient, Series, Study, upsert_study
from segmentation.access.passwords import hash_password
from segmentation.access.routes import COOKIE
from segmentation.access.tokens import (
    csrf_token,
    hash_token,
    new_api_token,
    new_session_token,
)
from settings import Settings
from tests.contract.sample_rows import make_record
from tests.fake_archive import FakeArchive
from tests.small_series import make_series

SECRET = "a test's own key, long enough to be one"
ROLES = ("viewer", "annotator", "reviewer", "admin")
CANARY_NAME = "Zzcanary^Patient"
CANARY_ID = "ZZCANARY4711"


class Browser(FlaskClient):
    """A browser: keeps cookies, and sends the CSRF token where it has a session."""

    csrf: str | None = None

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        headers = dict(kwargs.pop("headers", None) or {})
        if self.csrf:
            headers.setdefault("X-CSRF-Token", self.csrf)
        return super().open(*args, headers=headers, **kwargs)


class Application:
    """One application and what it stands on."""

    def __init__(self, folder: Path, empty_database: Path, **settings: Any) -> None:
        self.settings = Settings(
            data_dir=folder, secret_key=SECRET, trusted_proxies=0, **settings
        )
        shutil.copy(empty_database, folder / "metia.sqlite")
        self.engine = make_engine(self.settings.database_url)
        self.archive = FakeArchive()
        self.app: flask.Flask = create_app(
            self.settings, archive=self.archive, engine=self.engine
        )
        self.app.test_client_class = Browser

    def make_user(self, role: str, name: str = "", password: str = "") -> str:
        """Make a user, unless there is one of this name; gives the name."""
        name = name or role
        with transaction(self.engine) as session:
            if rows.find_user(session, name) is None:
                rows.create_user(
                    session,
                    name=name,
                    display_name=name.title(),
                    role=role,  # type: ignore[arg-type]
                    password_hash=hash_password(password) if password else None,
                )
        return name

    def stranger(self) -> Browser:
        """Give a browser that is not logged in."""
        return self.app.test_client()  # type: ignore[return-value]

    def browser(self, role: str) -> Browser:
        """Give a browser in which a user of this role is logged in."""
        client = self.stranger()
        token = new_session_token()
        name = self.make_user(role)
        with transaction(self.engine) as session:
            rows.open_session(
                session,
                user_name=name,
                token_hash=hash_token(token),
                lifetime=timedelta(hours=1),
            )
        client.set_cookie(COOKIE, token)
        client.csrf = csrf_token(SECRET, token)
        return client

    def script_headers(self, role: str) -> dict[str, str]:
        """Give the headers of a script that acts for a user of this role."""
        secret = new_api_token()
        name = self.make_user(role)
        with transaction(self.engine) as session:
            rows.create_token(
                session, user_name=name, label="test", token_hash=hash_token(secret)
            )
        return {"Authorization": f"Bearer {secret}"}

    def put_study(self, **attributes: object) -> tuple[str, str]:
        """Put a study of one series into the archive; gives both UIDs."""
        attributes = {
            "PatientName": CANARY_NAME,
            "PatientID": CANARY_ID,
            "SeriesDescription": "T1 SE AX +GD",
            **attributes,
        }
        images = make_series(3, **attributes)
        self.archive.put(images)
        return str(images[0].StudyInstanceUID), str(images[0].SeriesInstanceUID)

    def record(self, study_uid: str, series_uid: str, lesions: int = 1) -> str:
        """Record a result with its patient; gives its id."""
        with transaction(self.engine) as session:
            upsert_study(
                session,
                Patient(CANARY_ID, name=CANARY_NAME, birth_date="19010203"),
                Study(study_uid, study_date="20200101"),
                Series(series_uid, 1, "MR", "T1", 3),
            )
            return record_result(session, _result(series_uid, lesions))


def _result(series_uid: str, lesions: int) -> ResultRecord:
    return make_record(
        lesions=lesions,
        series_uid=series_uid,
        segmentation_series_uid=generate_uid() if lesions else None,
        segmentation_sop_uid=generate_uid() if lesions else None,
    )


def make_empty_database(folder: Path) -> Path:
    """Make a database file at the current schema, to be copied."""
    path = folder / "empty.sqlite"
    engine = make_engine(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()  # closing the last connection moves the log into the file
    return path
