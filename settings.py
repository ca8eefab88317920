"""Every setting of the system, read once at start from METIA_* and checked.

A setting ``X`` is read from the environment variable ``METIA_X``; a secret may instead
lie in the file named by ``METIA_X_FILE`` (one trailing newline is dropped). Unsafe
values (default credentials, short keys) are refused, so that the service does not start
with them.
"""

from __future__ import annotations

import os
import re
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from errors import MetiaError

ROOT = Path(__file__).resolve().parent
VERSION = "0.1.0"
"""Version of the code; a part of every result's provenance."""
_BROKER = re.compile(r"\Z|(rediss?|amqps?)://[^/]")
RESEARCH_NOTICE = "Research use only. Not a medical device."


class Settings(BaseSettings):
    """The settings of one process."""

    model_config = SettingsConfigDict(env_prefix="METIA_", extra="ignore")

    data_dir: Path = ROOT / "var"
    database_url: str = ""
    """Empty: SQLite file ``metia.sqlite`` in ``data_dir``."""

    archive_url: str = "http://127.0.0.1:8042"
    archive_user: str = "metia"
    archive_password: SecretStr = SecretStr("")
    archive_connect_timeout_s: float = Field(3.0, gt=0)
    archive_read_timeout_s: float = Field(30.0, gt=0)
    archive_retries: int = Field(3, ge=0, le=10)
    archive_stable_timeout_s: float = Field(120.0, ge=0)

    secret_key: SecretStr = SecretStr("")
    """Signs CSRF tokens; at least 32 characters."""
    session_hours: float = Field(12.0, gt=0)
    cookie_secure: bool = False
    """Set when the browser reaches the proxy over HTTPS."""
    trusted_proxies: int = Field(1, ge=0, le=3)
    """Reverse proxies in front of the API whose X-Forwarded-* headers are believed."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Host names the API answers to (empty: any); comma separated."""
    max_request_bytes: int = Field(1_000_000, gt=0)

    model_dirs: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders that hold model folders; separated by ``:``. New ones are imported into
    the last. Empty: those that come with MetIA, and ``models`` in ``data_dir``."""
    default_model: str = ""
    """Name of the model used where none is promoted (empty: the registry decides)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(0, ge=0)
    """CPU threads of the network (0: all cores the process may use)."""
    engine: Literal["auto", "torch", "openvino"] = "auto"
    """What computes the network (auto: what was measured here, else a rule)."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile_network: bool = False
    """Let torch compile the network for a GPU at load, which takes minutes."""

    broker_url: SecretStr = SecretStr("")
    """Redis or RabbitMQ, through which Celery delivers jobs (empty: workers poll the
    database)."""
    job_lease_s: float = Field(30.0, gt=0)
    job_heartbeat_s: float = Field(10.0, gt=0)
    job_max_attempts: int = Field(3, ge=1, le=20)
    job_queue_limit: int = Field(1000, ge=1)
    worker_poll_s: float = Field(0.2, gt=0)
    worker_niceness: int = Field(10, ge=0, le=19)
    """How far the worker gives way to other processes of its machine."""
    worker_queues: Annotated[tuple[str, ...], NoDecode] = ("gpu", "cpu")

    zero_click: bool = False
    """Queue a job by itself for each new study that matches the rule below."""
    zero_click_modalities: Annotated[tuple[str, ...], NoDecode] = ("MR",)
    zero_click_descriptions: Annotated[tuple[str, ...], NoDecode] = ()
    """Wildcards, one of which the description of study, series or protocol must match;
    comma separated, as all lists here. Empty: any."""
    zero_click_body_parts: Annotated[tuple[str, ...], NoDecode] = ()
    zero_click_stations: Annotated[tuple[str, ...], NoDecode] = ()
    zero_click_senders: Annotated[tuple[str, ...], NoDecode] = ()
    """AE titles from which the archive got the images."""
    zero_click_max_age_days: int = Field(7, ge=0)
    """Since the study date (0: any age)."""
    zero_click_limit: int = Field(20, ge=1)
    """Automatic jobs that wait at most; further studies wait outside the queue."""
    zero_click_poll_s: float = Field(2.0, gt=0)
    prefetch_on_open: bool = True
    """Pull the series of a study that was opened before anyone presses."""
    prefetch_megabytes: int = Field(256, ge=0)
    """Images a worker keeps at most ahead of their jobs (0: none are pulled ahead)."""

    legacy_api: bool = False
    """Answer the routes of the system that MetIA replaces (for its front end)."""
    legacy_wait_s: float = Field(900.0, gt=0, le=86_400)
    """How long ``POST /segmentation`` waits for its job before it gives up waiting."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: Any) -> Any:
        for name in ("archive_password", "secret_key", "database_url", "broker_url"):
            path = os.environ.get(f"METIA_{name.upper()}_FILE")
            if path and not values.get(name):
                try:
                    values[name] = Path(path).read_text("utf-8").removesuffix("\n")
                except OSError as error:
                    raise ValueError(
                        f"METIA_{name.upper()}_FILE cannot be read: {error.strerror}"
                    ) from error
        return values

    @field_validator(
        "allowed_hosts",
        "worker_queues",
        "zero_click_modalities",
        "zero_click_descriptions",
        "zero_click_body_parts",
        "zero_click_stations",
        "zero_click_senders",
        mode="before",
    )
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("model_dirs", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(part) for part in value.split(":") if part)
        return value

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if not self.database_url:
            self.database_url = f"sqlite:///{self.data_dir / 'metia.sqlite'}"
        if not self.model_dirs:
            self.model_dirs = (ROOT / "unetr" / "weights", self.data_dir / "models")
        if self.job_heartbeat_s * 2 > self.job_lease_s:
            raise ValueError("job_heartbeat_s must be at most half of job_lease_s")
        if not _BROKER.match(self.broker_url.get_secret_value()):
            raise ValueError(
                "broker_url must begin with redis://, rediss://, amqp:// or amqps://"
            )
        if self.archive_password.get_secret_value() in {"orthanc", "changeme"}:
            raise ValueError("archive_password is a well-known default; choose another")
        return self

    def require_secret_key(self) -> str:
        """Give the secret key, or refuse to start without a usable one.

        Raises
        ------
        MetiaError
            ``configuration-invalid`` where it is shorter than 32 characters.
        """
        key = self.secret_key.get_secret_value()
        if len(key) < 32:
            raise MetiaError(
                "configuration-invalid",
                "METIA_SECRET_KEY must have at least 32 characters.",
            )
        return key


def new_secret() -> str:
    """Return a fresh random secret fit for keys and passwords (43 characters)."""
    return secrets.token_urlsafe(32)


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Read the environment once per process.

    Raises
    ------
    MetiaError
        ``configuration-invalid``, naming each bad setting.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(
            f"METIA_{'_'.join(map(str, fault['loc'])).upper() or '*'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise MetiaError("configuration-invalid", faults) from error
