"""A real worker that kills itself, once, when a job of a kind reaches a named step.

    python -m tests.faults.killed_worker KIND STEP SENTINEL

The sentinel file tells that it has been killed already. Everything else is what the
product runs: settings from the environment, real archive, real model, real database.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from db.engine import Engine
from db.jobs import Job
from segmentation.job_context import JobContext
from segmentation.worker import RunJob, make_runners, run_worker
from settings import Settings, get_settings


def main(kind: str, step: str, sentinel: Path) -> int:
    """Be the worker."""

    def make(settings: Settings, engine: Engine) -> tuple[RunJob, str]:
        runner, device = make_runners(settings, engine)

        def run(job: Job, context: JobContext) -> None:
            report = context.report

            def report_or_die(now: str, progress: float) -> None:
                report(now, progress)
                if (job.kind, now) == (kind, step) and not sentinel.exists():
                    sentinel.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

            context.report = report_or_die  # type: ignore[method-assign]
            runner(job, context)

        return run, device

    return run_worker(get_settings(), make)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
