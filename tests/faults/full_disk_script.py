"""Runs in a mount namespace of its own: fills a small disk under a database.

``python full_disk_script.py FOLDER`` mounts a file system of 4 MB there, prints what
happened as JSON. A job that cannot record its result for want of space must stay one
job without half its rows, and end once there is space again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from db import schema
from db.engine import make_engine, reading
from db.results import list_results, record_result
from errors import MetiaError
from segmentation.jobs import Fence, Job, JobQueue
from settings import Settings
from tests.contract.sample_rows import add_study, make_record


def main() -> None:
    folder = Path(sys.argv[1])
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True
    )
    told: dict[str, object] = {}
    url = f"sqlite:///{folder / 'metia.sqlite'}"
    engine = make_engine(url)
    schema.upgrade(engine)
    add_study(engine)
    queue = JobQueue(engine, Settings(data_dir=folder))
    queue.submit("1.2.3")
    job = queue.claim("worker")
    assert isinstance(job, Job)
    fence = Fence(job.id, job.attempt, "worker")
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
    except OSError:
        told["disk full"] = True
    told["record"] = attempt(queue, fence, job)
    with reading(engine) as session:
        told["results while full"] = len(list_results(session, "1.2.3"))
    told["state while full"] = queue.get(job.id).state
    told["another process while full"] = open_again(url)
    ballast.unlink()
    told["record later"] = attempt(queue, fence, job)
    with reading(engine) as session:
        told["results"] = len(list_results(session, "1.2.3"))
    told["state"] = queue.get(job.id).state
    engine.dispose()
    make_engine(url)  # checks the file
    print(json.dumps(told))


def attempt(queue: JobQueue, fence: Fence, job: Job) -> str:
    big = {"notes": "x" * 200_000}
    try:
        queue.complete(
            fence, lambda s: record_result(s, make_record(job.id, parameters=big))
        )
    except MetiaError as error:
        return error.code
    return "done"


def open_again(url: str) -> str:
    try:
        JobQueue(make_engine(url), Settings()).submit(
            "1.2.4", parameters={"a": "x" * 9000}
        )
    except MetiaError as error:
        return error.code
    return "done"


if __name__ == "__main__":
    main()
