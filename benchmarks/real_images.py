"""What the bundled network marks on real images: tumours found, and what is none.

``python -m benchmarks.real_images --data DIR [--model FOLDER] [--json FILE]`` runs it
over the real heads of ``unetr/training/heads.json`` and a metastasis of BraTS-METS.
Those whose truth is empty have nothing to find. Heads of the part ``train`` were seen
in training and say little. No measures in mm: headers of some are known to be wrong.
Images and pictures of them stay where they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np

from benchmarks.machine import tell
from benchmarks.models import network_folder
from segmentation.cli.evaluation import evaluate_case
from segmentation.cli.evaluation_cases import EvaluationCase
from segmentation.models.registry import ModelFolder, load_predictor
from unetr.training.evaluation import CaseRecord
from unetr.training.heads import read_split, read_volume, source_path

METASTASIS = "met_aurora_00110"
"""Brain only; its mask is another network's answer, where 2 is the metastasis."""


@dataclass(frozen=True)
class RealImage:
    """One image with what enhances in it."""

    part: str
    case: EvaluationCase


def real_images(data: Path) -> Iterator[RealImage]:
    """Read those that are there."""
    for head in read_split().heads:
        if head.kind != "background" or not (path := source_path(data, head)):
            continue
        image, spacing_mm = read_volume(path)
        truth = np.zeros(image.shape, bool)
        if head.lesions:
            truth = read_volume(data / head.lesions)[0] > 0
        yield _case(head.name, head.part, image, truth, head.spacing_mm or spacing_mm)
    for path in sorted(data.glob(f"{METASTASIS}/*t1c.nii.gz")):
        image, spacing_mm = read_volume(path)
        (mask,) = path.parent.glob("*MODEL_OUTPUT.nii.gz")
        truth = read_volume(mask)[0] == 2
        yield _case("brats-mets-00110", "never seen", image, truth, spacing_mm)


def _case(
    name: str,
    part: str,
    image: np.ndarray,
    truth: np.ndarray,
    spacing_mm: tuple[float, float, float],
) -> RealImage:
    affine = np.zeros((4, 4))
    affine[(2, 1, 0, 3), (0, 1, 2, 3)] = (*spacing_mm, 1.0)
    volume = hd.Volume(image, affine, coordinate_system="PATIENT")
    mask = volume.with_array(truth.astype(np.float32))
    return RealImage(part, EvaluationCase(name, volume, mask))


def measure(data: str, model: str) -> dict[str, object]:
    """Give one row an image."""
    if not Path(data).is_dir():
        raise SystemExit("--data names no folder with the images")
    with tempfile.TemporaryDirectory() as work:
        folder = ModelFolder.open(network_folder(model, Path(work)))
        predictor = load_predictor(folder, device="cpu", threads=0)
    rows = []
    for image in real_images(Path(data)):
        record, _ = evaluate_case(
            predictor, image.case, predictor.threshold, predictor.minimum_peak
        )
        rows.append(_row(image.part, record))
    return {"model": str(folder.identity), "images": rows}


def _row(part: str, record: CaseRecord) -> dict[str, object]:
    wrong = record.false_positive_diameters_mm
    largest = max(record.lesions, key=lambda one: one.volume_ml, default=None)
    return {
        "image": record.name,
        "part": part,
        "enhancing parts": len(record.lesions),
        "found": sum(one.found for one in record.lesions),
        "Dice of the largest": "-" if largest is None else round(largest.dice, 3),
        "false positives": len(wrong),
        "largest of them mm": round(max(wrong), 1) if wrong else "-",
        "seconds": round(record.seconds, 2),
    }


if __name__ == "__main__":
    options = {"data": "folder of the real images", "model": "model folder"}
    tell("tumours found, and what is none, on real images", measure, options=options)
