"""Run every benchmark, one after the other, and keep what they print.

    python -m benchmarks.run [FOLDER]

FOLDER (default ``test-artefacts/benchmarks``) gets one file a benchmark. On a machine
that does nothing else, it takes about ten minutes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BENCHMARKS = (
    "overhead",
    "responsiveness",
    "archive_pull",
    "measurement_error",
    "lining_up",
    "patient_rows",
    "followup",
)


def main() -> int:
    """Run them all; gives 1 where one failed."""
    arguments = sys.argv[1:] or [str(ROOT / "test-artefacts" / "benchmarks")]
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"],
            cwd=ROOT,
            check=False,
            stdout=subprocess.PIPE,
            text=True,
        )
        (folder / f"{name}.txt").write_text(done.stdout, "utf-8")
        print(done.stdout)
        failed = failed or done.returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
