"""How the work beyond the network grows with slices and with lesions.

Processor time of one thread, least of several runs, of the pure steps on known answers
(reading the images, measuring, building and encoding the SEG), so that figures of busy
machines can be compared. Heads of 256 x 256; lesions as on the head of
``benchmarks.overhead``. How answers grow with the number of studies is in
``benchmarks.patient_rows``, how claims grow with waiting jobs in ``benchmarks.queue``.

    python -m benchmarks.growth [--times RUNS] [--json FILE]
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pydicom.dataset import Dataset

from benchmarks.heads import HEAD_SHAPE, as_study, head
from benchmarks.machine import tell
from orthanc.dicomweb import encode_part10
from orthanc.volume import load_series
from segmentation.dicom.seg import build_segmentation, identify
from segmentation.lesions import find_lesions
from segmentation.models.predictor import ModelIdentity
from segmentation.phantoms import Head

SLICES = (44, 88, 176, 352)
LESIONS = (1, 5, 10, 20, 40)
_LESIONS_WHILE_SLICES_GROW = 10
_MODEL = ModelIdentity("known-answer", "1", "0" * 64, True)


def measure(runs: int) -> dict[str, object]:
    """Time `runs` runs of each size."""
    _, rows, columns = HEAD_SHAPE
    slices: dict[str, object] = {}
    for count in SLICES:
        shape = (count, rows, columns)
        drawn = head(_LESIONS_WHILE_SLICES_GROW, shape, HEAD_SHAPE[0] / count)
        slices[str(count)] = time_steps(drawn, as_study(drawn), runs)
    lesions: dict[str, object] = {}
    for count in LESIONS:
        drawn = head(count)
        lesions[str(count)] = time_steps(drawn, as_study(drawn), runs)
    return {"slices": slices, "lesions": lesions}


def time_steps(drawn: Head, images: list[Dataset], runs: int) -> dict[str, float]:
    """Give the processor seconds of each step beyond archive and network."""
    probability = drawn.volume.with_array(drawn.occupancy)

    def find() -> object:
        return find_lesions(probability, threshold=0.5, minimum_volume_mm3=10.0)

    found = find_lesions(probability, threshold=0.5, minimum_volume_mm3=10.0)
    identity = identify(images[0].SeriesInstanceUID, _MODEL, {}, len(found.lesions))

    def build() -> object:
        return build_segmentation(images, found, _MODEL, identity, {})

    segmentation = build_segmentation(images, found, _MODEL, identity, {})
    steps: dict[str, Callable[[], object]] = {
        "volume": lambda: load_series(images),
        "lesions": find,
        "segmentation": build,
        "encoding": lambda: encode_part10(segmentation),
    }
    seconds = {name: round(_least_s(step, runs), 4) for name, step in steps.items()}
    return seconds | {"total": round(sum(seconds.values()), 4)}


def _least_s(step: Callable[[], object], runs: int) -> float:
    taken = []
    for _ in range(runs):
        began = time.process_time()
        step()
        taken.append(time.process_time() - began)
    return min(taken)


if __name__ == "__main__":
    tell("processor seconds beyond archive and network", measure, times=3)
