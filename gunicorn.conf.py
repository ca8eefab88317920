"""How gunicorn runs the API: two processes with a few threads, sized for two cores.

Requests are short (the computing is the worker's), so threads that wait for the
database or the archive are cheap. ``preload_app`` stays off: each process opens its own
database connections. The folder of the shared metrics is emptied at the start. The
address to listen on is given on the command line (``--bind``).
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from prometheus_client import multiprocess

bind = os.environ.get("METIA_BIND", "127.0.0.1:5000")
workers = int(os.environ.get("METIA_WEB_PROCESSES", "2"))
worker_class = "gthread"
threads = 8
preload_app = False

timeout = 60
graceful_timeout = 20
keepalive = 75  # longer than nginx keeps an idle connection to us
backlog = 256
limit_request_line = 8190
limit_request_fields = 64
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
control_socket_disable = True

# The application writes an access log of its own, which names routes, not addresses.
accesslog = None
errorlog = "-"
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "segmentation.http.logs.make_formatter"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "json"},
    },
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True},
        "gunicorn.access": {"level": "ERROR", "handlers": [], "propagate": True},
    },
}

_given = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
_metrics_dir = Path(_given or tempfile.mkdtemp(prefix="metia-metrics-"))
_metrics_dir.mkdir(parents=True, exist_ok=True)
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics_dir)


def on_starting(server: Any) -> None:
    """Forget the counts of an earlier run."""
    for file in _metrics_dir.glob("*.db"):
        file.unlink(missing_ok=True)


def child_exit(server: Any, worker: Any) -> None:
    """Drop the gauges of a process that has ended."""
    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    """Remove the metrics' folder where it was ours alone."""
    if not _given:
        shutil.rmtree(_metrics_dir, ignore_errors=True)
