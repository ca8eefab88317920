"""The command line besides ``segment``: launcher, help, users, jobs, models, sample."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from errors import MetiaError
from segmentation.cli.main import COMMANDS
from settings import VERSION, get_settings
from tests.command_line import command_line

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def metia(tmp_path, monkeypatch, capsys):
    """Run the command line inside this process, on a database of its own."""
    monkeypatch.setenv("METIA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("METIA_DATABASE_URL", raising=False)
    (tmp_path / "data").mkdir()
    get_settings.cache_clear()

    run = command_line(capsys)
    yield run
    get_settings.cache_clear()


@pytest.fixture
def ready(metia):
    assert metia("db", "upgrade").returncode == 0
    return metia


# -- launcher and help ---------------------------------------------------------


def test_the_launcher_runs_from_any_folder_through_links(tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "metia").symlink_to(ROOT / "metia")
    (tmp_path / "again").symlink_to(Path("a folder") / "metia")
    # A file here must not be taken for one of ours.
    (tmp_path / "errors.py").write_text("raise SystemExit(99)")
    done = subprocess.run(
        [tmp_path / "again", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"metia {VERSION}\n")
    assert "Research use only" in done.stdout


def test_help_teaches_and_is_quick():
    seconds = []
    for _ in range(3):
        before, began = os.times(), time.perf_counter()
        done = subprocess.run(
            [ROOT / "metia", "--help"], capture_output=True, text=True, check=False
        )
        after = os.times()
        # Other programs on the machine do not count.
        used = sum(after[2:4]) - sum(before[2:4])
        seconds.append(min(used, time.perf_counter() - began))
    assert done.returncode == 0
    assert min(seconds) < 0.7
    for word in ("Examples", "Exit codes", "segment", "up", "Research use only"):
        assert word in done.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_can_be_imported_and_explains_itself(metia, name):
    done = metia(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: metia" in done.stdout


def test_neither_help_nor_lists_load_torch():
    script = (
        "import sys\n"
        "from segmentation.cli.main import main\n"
        "for words in (['--help'], ['segment', '--help'], ['models', 'list']):\n"
        "    assert int(main(words)) == 0\n"
        "assert not {'torch', 'monai', 'flask'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_unknown_commands_and_options_are_usage_errors(metia):
    assert metia("nonsense").returncode == 2
    assert metia("jobs", "list", "--limit", "0").returncode == 2
    assert metia("models").returncode == 2


def test_a_fault_of_the_program_is_one_line(metia, monkeypatch):
    def fail(*_):
        raise RuntimeError("with the name of a patient")

    monkeypatch.setattr("segmentation.models.registry.ModelRegistry.models", fail)
    done = metia("models", "list")
    assert done.returncode == 6
    assert done.stderr.startswith("metia: internal: ")
    assert "patient" not in done.stderr
    assert "Traceback" not in done.stderr
    monkeypatch.setenv("METIA_DEBUG", "1")
    with pytest.raises(RuntimeError):
        metia("models", "list")


# -- models --------------------------------------------------------------------


def test_models_are_listed_with_their_faults(metia, tmp_path, monkeypatch):
    shown = metia("models", "list").stdout
    assert "* phantom-threshold" in shown
    assert "demonstration only" in shown
    models = json.loads(metia("models", "list", "--json").stdout)["models"]
    assert [one["name"] for one in models if one["is_default"]] == ["phantom-threshold"]
    (tmp_path / "models" / "broken").mkdir(parents=True)
    monkeypatch.setenv("METIA_MODEL_DIRS", str(tmp_path / "models"))
    get_settings.cache_clear()
    done = metia("models", "list")
    assert done.returncode == 0
    assert "broken: model-" in done.stderr


# -- database, users, jobs -----------------------------------------------------


def test_an_empty_database_is_refused_with_the_remedy(metia):
    done = metia("user", "list")
    assert done.returncode == 6
    assert "metia db upgrade" in done.stderr
    assert metia("db", "upgrade").returncode == 0
    assert "is at schema" in metia("db", "upgrade").stdout
    assert metia("user", "list").returncode == 0


def test_a_missing_database_is_told_and_not_made(metia, tmp_path):
    done = metia("jobs", "list")
    assert done.returncode == 6
    assert f"no database at {tmp_path / 'data' / 'metia.sqlite'}" in done.stderr
    assert "METIA_DATA_DIR" in done.stderr
    assert list((tmp_path / "data").iterdir()) == []


def test_up_uses_the_data_folder_of_the_other_commands(metia, tmp_path, monkeypatch):
    """One setting leads the system and the commands beside it to one database."""
    from segmentation.cli import stack_commands

    asked = []

    class Stack(stack_commands.LocalStack):
        def prepare(self):
            asked.append(self.options.data_dir)
            raise MetiaError("configuration-invalid", "Far enough.")

    monkeypatch.setattr(stack_commands, "LocalStack", Stack)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert metia("up").returncode == 6
    assert asked == [tmp_path / "data"]


@pytest.mark.parametrize("option", ["--port", "--dicom-port"])
def test_a_port_that_cannot_be_is_wrong_usage(metia, option):
    done = metia("up", option, "99999")
    assert done.returncode == 2
    assert option in done.stderr


def test_a_data_folder_that_cannot_be_made_is_told(metia, tmp_path, monkeypatch):
    from segmentation.cli import up

    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(up, "VIEWER_ROOT", tmp_path)
    monkeypatch.setattr(up, "_find_program", lambda name: name)
    (tmp_path / "index.html").touch()
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "data"
    port = str(up.free_port())
    done = metia("up", "--port", port, "--data-dir", str(folder))
    assert done.returncode == 6
    assert f"The data folder {folder} cannot be used" in done.stderr
    assert "--data-dir" in done.stderr


def test_users_are_made_changed_and_audited(ready, monkeypatch):
    from db import audit
    from db.engine import reading
    from db.users import find_user
    from segmentation.access.passwords import verify_password
    from segmentation.cli.opened import database

    made = ready("user", "add", "jane", "--role", "admin", "--generate")
    assert made.returncode == 0, made.stderr
    password = made.stdout.split("Password: ")[1].split()[0]
    assert ready("user", "add", "jane", "--generate").returncode == 2
    assert ready("user", "set-role", "jane", "viewer").returncode == 2  # the last admin
    monkeypatch.setattr("sys.stdin", _Lines("correct horse battery\n"))
    done = ready("user", "add", "joe", "--password-stdin", "--display-name", "Joe B.")
    assert done.returncode == 0
    assert "Password" not in done.stdout
    assert ready("user", "set-role", "joe", "reviewer").returncode == 0
    assert ready("user", "disable", "joe").returncode == 0
    renewed = ready("user", "set-password", "jane", "--generate")
    new_password = renewed.stdout.split("Password: ")[1].split()[0]
    listed = ready("user", "list").stdout.splitlines()
    assert [line.split() for line in listed] == [
        ["jane", "admin", "jane"],
        ["joe", "reviewer", "Joe", "B.", "(disabled)"],
    ]
    with database() as engine, reading(engine) as session:
        jane, joe = find_user(session, "jane"), find_user(session, "joe")
        actions = [one.action for one in audit.entries(session)]
        details = " ".join(str(one.details) for one in audit.entries(session))
    assert not verify_password(jane.password_hash, password)
    assert verify_password(jane.password_hash, new_password)
    assert verify_password(joe.password_hash, "correct horse battery")
    assert sorted(actions) == ["user-change"] * 3 + ["user-make"] * 2
    assert new_password not in details


class _Lines:
    """A standard input that is no terminal."""

    def __init__(self, text):
        self._text = text

    def isatty(self):
        return False

    def readline(self):
        return self._text


def test_bad_names_and_passwords_are_refused(ready, monkeypatch):
    for name in ("Jane", "a b", "x", "jane\n", "-jane"):
        done = ready("user", "add", "--generate", "--", name)
        assert done.returncode == 2, name
    monkeypatch.setattr("sys.stdin", _Lines("short\n"))
    assert ready("user", "add", "jane", "--password-stdin").returncode == 2
    monkeypatch.setattr("sys.stdin", _Lines(""))
    assert ready("user", "add", "jane").returncode == 2  # nobody to ask
    both = ready("user", "add", "jane", "--generate", "--password-stdin")
    assert both.returncode == 2
    assert ready("user", "set-role", "nobody", "viewer").returncode == 2
    assert ready("user", "list").stdout == ""


def test_jobs_are_listed_shown_and_cancelled(ready):
    from db import audit
    from db.engine import reading
    from segmentation.cli.opened import database
    from segmentation.jobs import JobQueue

    assert ready("jobs", "list").stdout == "No jobs.\n"
    with database() as engine:
        job, _ = JobQueue(engine, get_settings()).submit("1.2.3")
    assert job.id in ready("jobs", "list", "--state", "queued").stdout
    assert ready("jobs", "list", "--state", "failed").stdout == "No jobs.\n"
    (listed,) = json.loads(ready("jobs", "list", "--json").stdout)["jobs"]
    assert listed == json.loads(ready("jobs", "show", job.id, "--json").stdout)
    assert listed["study_uid"] == "1.2.3"
    assert "queued" in ready("jobs", "show", job.id).stdout
    assert ready("jobs", "cancel", job.id).stdout == "Cancelled.\n"
    assert json.loads(ready("jobs", "show", job.id, "--json").stdout)["state"] == (
        "cancelled"
    )
    with database() as engine, reading(engine) as session:
        (entry,) = audit.entries(session, subject=f"job:{job.id}")
    assert entry.action == "job-cancel"
    missing = ready("jobs", "cancel", "0" * 32)
    assert missing.returncode == 2
    assert missing.stderr.startswith("metia: not-found: ")


# -- sample --------------------------------------------------------------------


def test_the_sample_is_made_once(metia, tmp_path):
    folder = tmp_path / "sample"
    done = metia("sample", "make", str(folder), "--visit", "2")
    assert done.returncode == 0, done.stderr
    truth = json.loads((folder / "truth-2.json").read_text("utf-8"))
    assert len(truth["lesions"]) == 7
    listed = metia("segment", str(folder / "visit-2"), "--list-series", "--json")
    series = json.loads(listed.stdout)["series"]
    assert [one["suitable"] for one in series] == [True, False, False, False]
    assert series[0]["series_uid"] == truth["series_uid"]
    assert metia("sample", "make", str(folder), "--visit", "2").returncode == 2
