"""The profile ``scale``: its files agree, and its two servers run as they are started.

The containers' own start scripts run here against the servers of this machine; whole
containers are the business of ``tests/docker``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from db import schema
from db.engine import make_engine
from errors import MetiaError
from segmentation.cli import stack_commands
from segmentation.cli.stack_files import write_scale_secrets
from segmentation.delivery.broker import Broker
from segmentation.jobs import JobQueue
from settings import ROOT, Settings
from tests.broker_servers import free_port, reason_to_skip
from tests.contract.database_fixtures import reason_without_postgresql

_SCRIPTS = ROOT / "segmentation" / "delivery" / "container"


class Server:
    """One start script, run as an ordinary user in a folder of that user's."""

    def __init__(self, script: str, prefix: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="metia-scale-"))
        self.port = free_port()
        self._script = script
        self._environment = {
            f"{prefix}_PASSWORD_FILE": str(
                self.folder / f"{prefix.lower()}_password"
            ),
            f"{prefix}_DIR": str(self.folder),
            f"{prefix}_PORT": str(self.port),
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(_SCRIPTS / self._script)]
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            for file in self.folder.iterdir():
                if file.is_file():
                    shutil.chown(file, "postgres", "postgres")
            command = ["setpriv", "--reuid=postgres", "--regid=postgres",
                       "--clear-groups", *command]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **self._environment},
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)
        self.process.wait(30)

    def wait(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not ready():
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.2)

    def remove(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGINT)
        shutil.rmtree(self.folder)


@pytest.fixture
def database() -> Iterator[Server]:
    if reason := reason_without_postgresql():
        pytest.skip(reason)
    server = Server("start-postgresql", "DATABASE")
    yield server
    server.remove()


@pytest.fixture
def redis() -> Iterator[Server]:
    if reason := reason_to_skip("redis"):
        pytest.skip(reason)
    server = Server("start-redis", "BROKER")
    yield server
    server.remove()


def _secret(server: Server, name: str) -> str:
    address = f"127.0.0.1:{server.port}"
    write_scale_secrets(server.folder, database=address, broker=address)
    return (server.folder / name).read_text().strip()


def _works(call: Callable[[], object]) -> bool:
    try:
        call()
    except MetiaError:
        return False
    return True


def test_postgresql_waits_for_its_password_and_keeps_what_it_has(
    database: Server, tmp_path: Path
) -> None:
    database.start()
    time.sleep(1.5)
    assert not (database.folder / "data").exists()
    url = _secret(database, "database_url")
    if os.geteuid() == 0:
        shutil.chown(database.folder / "database_password", "postgres")
    engine = make_engine(url)
    settings = Settings(data_dir=tmp_path, database_url=url)
    stack_commands._await_database(settings)  # as the service `init` does
    schema.upgrade(engine)
    job, _ = JobQueue(engine, settings).submit("1.2.3")
    engine.dispose()
    wrong = make_engine(url.replace(":" + url.split(":")[2], ":wrong@127.0.0.1"))
    with pytest.raises(MetiaError, match="database-unusable"):
        schema.current(wrong)

    database.end(signal.SIGKILL)
    database.start()
    database.wait(lambda: _works(lambda: schema.require_current(engine)))
    assert JobQueue(engine, settings).get(job.id) == job
    engine.dispose()


def test_redis_is_behind_its_password_and_keeps_its_messages(redis: Server) -> None:
    url = _secret(redis, "broker_url")
    redis.start()
    broker = Broker(url)
    redis.wait(lambda: _works(broker.ping))
    stranger = Broker(f"redis://127.0.0.1:{redis.port}/0")
    assert not _works(stranger.ping)
    assert (redis.folder / "appendonlydir").is_dir()


def test_address_stays_the_same_at_the_next_start(tmp_path: Path) -> None:
    write_scale_secrets(tmp_path, database="database:5432", broker="broker:6379")
    names = ["broker_password", "broker_url", "database_password", "database_url"]
    first = {name: (tmp_path / name).read_text() for name in names}
    write_scale_secrets(tmp_path, database="database:5432", broker="broker:6379")
    assert {name: (tmp_path / name).read_text() for name in names} == first
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    assert all((tmp_path / name).stat().st_mode & 0o077 == 0 for name in names)
    password = first["database_password"]
    assert f"metia:{password}@database:5432/metia" in first["database_url"]
    assert len(password) > 40


# -- docker-compose ------------------------------------------------------------


def _compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def test_profile_adds_servers_and_changes_nothing_else() -> None:
    services = _compose()["services"]
    added = {name for name, one in services.items() if one.get("profiles") == ["scale"]}
    assert added == {"database", "broker"}
    for name in added:
        assert services[name]["networks"] == ["inside"]
        assert "ports" not in services[name]
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        (script,) = services[name]["command"]
        assert os.access(_SCRIPTS / script, os.X_OK)
    for name in set(services) - added:
        depends = services[name].get("depends_on", {})
        assert not added & set(depends), "without the profile it would not start"


def test_settings_of_the_profile_reach_every_process_of_ours() -> None:
    lines = (ROOT / "scale.env").read_text().splitlines()
    chosen = dict(line.split("=", 1) for line in lines if line[:1] not in ("#", ""))
    services = _compose()["services"]
    for name in ("init", "api", "worker", "worker-gpu", "sample"):
        told = services[name]["environment"]
        for variable, value in chosen.items():
            if variable == "METIA_WITH_POSTGRESQL":
                continue
            assert f"${{{variable}:-" in told[variable], (name, variable)
            if value.startswith("/etc/metia/service/"):
                assert any("/etc/metia/service" in v for v in services[name]["volumes"])
    assert services["api"]["build"]["args"] == {
        "WITH_POSTGRESQL": "${METIA_WITH_POSTGRESQL:-}"
    }


@pytest.mark.parametrize(
    "arguments", [[], ["--env-file", "scale.env", "--profile", "scale"]]
)
def test_compose_accepts_the_file(arguments: list[str]) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    done = subprocess.run(
        [program, *arguments, "config", "-q"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
