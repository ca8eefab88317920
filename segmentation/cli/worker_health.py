"""Tells a container engine whether the worker of this host is alive (exit code 0)."""

from __future__ import annotations

import socket
import sys

from db.engine import make_engine
from segmentation.jobs import JobQueue
from settings import get_settings


def main() -> int:
    """Return 0 if a worker of this host was heard of within a lease, else 1."""
    settings = get_settings()
    queue = JobQueue(make_engine(settings.database_url), settings)
    host = f"{socket.gethostname()}-"
    return 0 if any(w.owner.startswith(host) for w in queue.workers()) else 1


if __name__ == "__main__":
    sys.exit(main())
