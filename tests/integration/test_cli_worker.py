"""``./metia worker``: its options reach the worker, and a signal ends it in order."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from db import schema
from db.engine import make_engine
from segmentation import worker as worker_module
from segmentation.cli.main import cli
from segmentation.jobs import JobQueue
from settings import ROOT, Settings


def test_worker_takes_its_queues_and_leaves_in_order(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    engine = make_engine(settings.database_url)
    schema.upgrade(engine)
    queue = JobQueue(engine, settings)
    process = subprocess.Popen(
        [str(ROOT / "metia"), "worker", "--queue", "cpu", "--queue", "train",
         "--device", "cpu", "--threads", "1"],
        env={**os.environ, "METIA_DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not queue.workers():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (known,) = queue.workers()
        assert known.queues == ("cpu", "train")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert queue.workers() == ()
    engine.dispose()


@pytest.mark.parametrize(
    ("device", "chosen", "visible"),
    [("cuda:1", "cuda", "1"), ("cuda", "cuda", None), ("cpu", "cpu", None)],
)
def test_one_of_several_gpus_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch, device: str, chosen: str, visible: str | None
) -> None:
    # So that both are as before afterwards.
    monkeypatch.setenv("METIA_DEVICE", "auto")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    seen: list[tuple[str | None, str | None]] = []

    def be_worker() -> int:
        environment = os.environ
        seen.append(
            (environment.get("METIA_DEVICE"), environment.get("CUDA_VISIBLE_DEVICES"))
        )
        return 0

    monkeypatch.setattr(worker_module, "main", be_worker)
    done = CliRunner().invoke(cli, ["worker", "--device", device])
    assert done.exit_code == 0, done.output
    assert seen == [(chosen, visible)]


def test_worker_that_cannot_start_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(ROOT / "metia"), "worker"],
        env={**os.environ, "METIA_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "database-unusable" in done.stderr
