"""How long a series takes from the archive: our pull against asking image by image.

Starts throw-away Orthancs, one with the shipped configuration and one that compresses
its answers as Orthanc 1.10 does by default; stores one series of 160 slices of
256 x 256 in both, and a study of 20 such series in the first. Seconds of each way in
interleaved runs. With METIA_TEST_ORTHANC_URL set, the first is that one.

    .venv/bin/python -m benchmarks.archive_pull [--times 7] [--json FILE]
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from benchmarks.machine import spread, tell
from tests.orthanc_server import OrthancServer, running_orthanc, shared_orthanc
from tests.small_series import make_series

SLICES = 160
SIDE = 256
SERIES = 20
TARGET_S = 0.3


def one_by_one(client: httpx.Client, image: Dataset) -> int:
    """Get and parse each image of a series on its own, over one kept connection."""
    query = {
        "Level": "Series",
        "Query": {"SeriesInstanceUID": image.SeriesInstanceUID},
        "Expand": True,
    }
    (series,) = client.post("/tools/find", json=query).json()
    for item in series["Instances"]:
        content = client.get(f"/instances/{item}/file").content
        pydicom.dcmread(io.BytesIO(content))
    return len(series["Instances"])


def _measure_both(
    server: OrthancServer, compressing: OrthancServer, runs: int
) -> dict[str, object]:
    """Store the images and time every way `runs` times, in turn, after one warm-up."""
    images = make_series(SLICES, side=SIDE)
    many = generate_uid()
    server.upload(images)
    compressing.upload(images)
    for number in range(SERIES):
        server.upload(make_series(SLICES, study_uid=many, SeriesNumber=number))
    archive = server.archive()
    plain, gzipped = server.client(), compressing.client()
    gzipped.headers["Accept-Encoding"] = "gzip"
    uids = images[0].StudyInstanceUID, images[0].SeriesInstanceUID
    ways: dict[str, tuple[int, Callable[[], int]]] = {
        "gateway_fetch_series": (SLICES, lambda: len(archive.fetch_series(*uids))),
        "one_by_one": (SLICES, lambda: one_by_one(plain, images[0])),
        "one_by_one_default_compression": (
            SLICES,
            lambda: one_by_one(gzipped, images[0]),
        ),
        "gateway_headers_of_20_series": (
            SERIES,
            lambda: len(archive.series_headers(many)),
        ),
    }
    return {name: spread(values) for name, values in time_in_turn(ways, runs).items()}


def time_in_turn(
    ways: dict[str, tuple[int, Callable[[], int]]], runs: int
) -> dict[str, Sequence[float]]:
    """Return the seconds of each way; each must give the count stated with it."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name, (expected, way) in ways.items():
            begun = time.perf_counter()
            count = way()
            elapsed_s = time.perf_counter() - begun
            if count != expected:
                raise RuntimeError(f"{name} gave {count} of {expected}")
            if run:
                seconds[name].append(elapsed_s)
    return dict(seconds)


def measure(runs: int) -> dict[str, object]:
    """Start both Orthancs and time every way `runs` times."""
    with (
        tempfile.TemporaryDirectory() as folder,
        shared_orthanc(Path(folder) / "shipped") as server,
        running_orthanc(
            Path(folder) / "compressing",
            change=lambda text: text.replace(
                '"HttpCompressionEnabled": false', '"HttpCompressionEnabled": true'
            ),
        ) as compressing,
        server.client() as client,
    ):
        return {
            "orthanc": client.get("/system").json()["Version"],
            "target of 160 slices s": TARGET_S,
            "seconds": _measure_both(server, compressing, runs),
        }


if __name__ == "__main__":
    tell(
        f"seconds to get {SLICES} slices of {SIDE} x {SIDE} from the archive, loopback",
        measure,
        times=7,
    )
