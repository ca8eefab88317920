"""Run the benchmarks, one after the other, and keep their figures and a picture.

    python -m benchmarks.run [NAME ...] [--folder FOLDER] [--model MODEL_FOLDER]

Each runs in a process of its own. FOLDER (default ``test-artefacts/benchmarks``) gets
``results.json`` (machine, versions, date and figures of each benchmark; those that were
not run again stay as they were) and the pictures drawn from it. ``docs/performance``
holds the figures that ``docs/performance.md`` states. All of them take about half an
hour on a machine that does nothing else. Gives 1 where one failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.pictures import draw_all

ROOT = Path(__file__).parents[1]
BENCHMARKS = (
    "end_to_end",
    "overhead",
    "archive_pull",
    "engines",
    "sliding_window",
    "growth",
    "throughput",
    "responsiveness",
    "queue",
    "prefetch",
    "soak",
    "patient_rows",
    "followup",
    "lining_up",
    "measurement_error",
)

OF_A_NETWORK = ("end_to_end", "engines", "sliding_window", "throughput")
"""Those that ``--model`` is for."""


def main() -> int:
    """Run those that were asked for."""
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "test-artefacts" / "benchmarks"
    )
    parser.add_argument("--model", default="", help="default: the bundled network")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    options.folder.mkdir(parents=True, exist_ok=True)
    file = options.folder / "results.json"
    results: dict[str, Any] = (
        json.loads(file.read_text("utf-8")) if file.exists() else {}
    )
    failed = []
    for name in options.names or BENCHMARKS:
        print(f"== {name}", flush=True)
        figures = run(name, options.model)
        if figures is None:
            failed.append(name)
            continue
        results[name] = figures
        kept = {one: results[one] for one in BENCHMARKS if one in results}
        file.write_text(json.dumps(kept, indent=2) + "\n", "utf-8")
    draw_all(results, options.folder)
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return int(bool(failed))


def run(name: str, model: str = "") -> dict[str, Any] | None:
    """Run one in a process of its own; None where it failed."""
    of_model = ["--model", model] if model and name in OF_A_NETWORK else []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                f"benchmarks.{name}",
                "--json",
                str(file),
                *of_model,
            ],
            cwd=ROOT,
            check=False,
        )
        if done.returncode != 0 or not file.exists():
            return None
        figures: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return figures


if __name__ == "__main__":
    sys.exit(main())
