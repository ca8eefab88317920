"""``metia evaluate``: a model against synthetic test heads or own cases with truth.

Predicts and measures exactly as the service does (``load_as_set``,
``find_lesions``), then leaves the figures to ``unetr.training.evaluation``. Writes
``evaluation.json``, two tables as CSV and a self-contained ``report.html``. One case at
a time; nothing leaves the machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import highdicom as hd
    import numpy as np
    from numpy.typing import NDArray

    from segmentation.lesions import LesionMap
    from segmentation.models.predictor import Predictor
    from segmentation.models.registry import ModelFolder
    from unetr.training.evaluation import CaseRecord, LesionRecord
    from unetr.training.lesionwise import LesionwiseResult

GREY_LEVELS = 500.0
"""Of the brain's median in synthetic images, which scanners write as whole numbers."""
WORST_CASES = 8


@dataclass(frozen=True)
class EvaluationCase:
    """An image with its truth on the same grid.

    Lesions of the truth that touch what is above 0 in `passed_over` are not asked for.
    """

    name: str
    image: hd.Volume
    truth: hd.Volume
    passed_over: hd.Volume | None = None


@click.command()
@click.option("--model", metavar="NAME", default="", help="See: metia models list.")
@click.option(
    "--model-folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A model folder that is not installed.",
)
@click.option(
    "--heads",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Packed heads: evaluate on synthetic images of them.",
)
@click.option(
    "--part",
    type=click.Choice(["validation", "test"]),
    default="test",
    show_default=True,
    help="Of the heads; choose thresholds on validation, report on test.",
)
@click.option("--count", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=20_000, show_default=True)
@click.option(
    "--cases",
    "cases_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of cases with image and mask (docs/training.md).",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Where lesions end, instead of the model's.",
)
@click.option(
    "--peak",
    type=click.FloatRange(0, 1, max_open=True),
    help="Least probability of a lesion's most certain voxel, instead of the model's.",
)
@click.option(
    "--mirrored",
    is_flag=True,
    help="Also predict the mirror image and take the mean: twice the time. The service "
    "does not do this.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--threads", type=click.IntRange(min=0), default=0)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder to make."
)
def evaluate(
    model: str,
    model_folder: Path | None,
    heads: Path | None,
    part: str,
    count: int,
    seed: int,
    cases_folder: Path | None,
    threshold: float | None,
    peak: float | None,
    mirrored: bool,
    device: str,
    threads: int,
    out: Path,
) -> None:
    """Measure how well a model finds lesions, with confidence intervals."""
    from errors import MetiaError
    from segmentation.models.manifest import WEIGHTS_NAME
    from segmentation.models.registry import load_as_set
    from settings import get_settings

    if (heads is None) == (cases_folder is None):
        raise click.UsageError("Give either --heads or --cases.")
    if out.exists():
        raise MetiaError("output-exists", "The folder for the report exists already.")
    folder = _model(model, model_folder)
    predictor = load_as_set(folder, get_settings(), device=device, threads=threads)
    level = threshold or predictor.threshold
    least_peak = predictor.minimum_peak if peak is None else peak
    if heads is not None:
        source = f"{count} synthetic heads, part {part}, seed {seed}, painted lesions"
        cases = _synthetic(heads, part, count, seed)
    else:
        assert cases_folder is not None  # noqa: S101 - checked above
        source = f"cases with truth in {cases_folder.name}"
        cases = _own(cases_folder)
    records, pictures = [], []
    for case in cases:
        record, worst = evaluate_case(
            predictor, case, level, least_peak, mirrored=mirrored
        )
        records.append(record)
        pictures.append((record.lesionwise_dice, *worst))
        click.echo(
            f"{case.name}: {len(record.lesions)} lesions, "
            f"{sum(lesion.found for lesion in record.lesions)} found, "
            f"{len(record.false_positive_diameters_mm)} false positives",
            err=True,
        )
    if not records:
        raise MetiaError("invalid-input", "There is no case to evaluate on.")
    pictures.sort(key=lambda row: row[0])
    facts = {
        "model": f"{folder.identity.name} {folder.identity.version}",
        "model hash": folder.identity.sha256,
        "weights hash": folder.manifest.files.get(WEIGHTS_NAME, "none"),
        "data": source,
        "threshold": f"{level:g}",
        "mirrored too": str(mirrored),
        "smallest lesion": f"{predictor.minimum_volume_mm3:g} mm3",
        "least peak": f"{least_peak:g}",
        "refused answers": str(sum(record.refused for record in records)),
    }
    _write(out, facts, records, [row[1:] for row in pictures[:WORST_CASES]])


def _model(name: str, path: Path | None) -> ModelFolder:
    from segmentation.models.registry import ModelFolder, ModelRegistry
    from settings import get_settings

    if path is not None:
        return ModelFolder.open(path.resolve())
    settings = get_settings()
    registry = ModelRegistry(settings.model_dirs)
    return registry.default(name or settings.default_model)


def _synthetic(
    heads: Path, part: str, count: int, seed: int
) -> Iterator[EvaluationCase]:
    import highdicom as hd
    import numpy as np

    from unetr.training.heads import HeadStore
    from unetr.training.parameters import SyntheticParameters
    from unetr.training.synthetic import HeadGenerator

    chosen = HeadStore(
        heads, ("test",) if part == "test" else ("validation",), evaluation=True
    )
    generator = HeadGenerator(chosen, SyntheticParameters(), seed=seed)
    # Slices to the head, rows to the back, columns to the left, 1 mm (LPS).
    affine = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
    for index in range(count):
        head = generator.make(index)
        grey = np.round(head.image.numpy() * GREY_LEVELS).astype(np.float32)
        image = hd.Volume(
            array=grey,
            affine=affine,
            coordinate_system=hd.CoordinateSystemNames.PATIENT,
        )
        truth = image.with_array((head.target.numpy() >= 0.5).astype(np.float32))
        # A real tumour comes again with every image of its head; it counts once, with
        # the real images (benchmarks.real_images).
        read = None
        if head.read is not None:
            read = image.with_array((head.read.numpy() >= 0.5).astype(np.float32))
        yield EvaluationCase(f"{index:03d} {head.source}", image, truth, read)


def _own(folder: Path) -> Iterator[EvaluationCase]:
    import numpy as np

    from segmentation.cli.nifti import load_nifti
    from unetr.training.cases import find_cases

    for case in find_cases(folder)[0]:
        image = load_nifti(case.image).series.volume
        truth = load_nifti(case.mask).series.volume
        mask = (np.asarray(truth.array) > 0).astype(np.float32)
        yield EvaluationCase(case.name, image, image.with_array(mask))


def evaluate_case(
    predictor: Predictor,
    case: EvaluationCase,
    threshold: float,
    minimum_peak: float,
    *,
    mirrored: bool = False,
) -> tuple[CaseRecord, tuple[str, bytes]]:
    """Predict one case, compare it with its truth, and draw its worst slice.

    What is one true lesion, and which are not counted, is as in ``lesionwise``.
    """
    import numpy as np

    from segmentation.lesions import find_lesions, measure_segments
    from unetr.training.evaluation import CaseRecord, froc_counts
    from unetr.training.lesionwise import lesionwise

    began = time.perf_counter()
    probability, refused = _predict(predictor, case.image)
    if mirrored:
        other, refused_too = _predict(predictor, _mirror(case.image))
        mean = (probability.array + _mirror(other).array) / 2
        probability, refused = probability.with_array(mean), refused or refused_too
    found = find_lesions(
        probability,
        threshold=threshold,
        minimum_volume_mm3=predictor.minimum_volume_mm3,
        minimum_peak=minimum_peak,
    )
    seconds = time.perf_counter() - began
    predicted, truth = found.labels.array > 0, case.truth.array > 0
    unasked = None if case.passed_over is None else case.passed_over.array > 0
    result = lesionwise(predicted, truth, case.image.spacing, unasked)
    counted = [lesion.number for lesion in result.lesions if lesion.counted]
    true = measure_segments(
        case.truth.with_array(result.labels.astype(np.uint16)), numbers=counted
    )
    matched = _match(true, found, result)
    touched = set(_numbers_near(truth, np.asarray(found.labels.array)))
    wrong = [
        lesion.longest_diameter_mm
        for lesion in found.lesions
        if lesion.number not in touched
    ]
    record = CaseRecord(
        name=case.name,
        lesions=tuple(matched),
        false_positive_diameters_mm=tuple(wrong),
        lesionwise_dice=result.dice,
        lesionwise_hd95_mm=result.hd95_mm,
        froc=froc_counts(
            np.asarray(probability.array, np.float32),
            result.labels,
            counted=counted,
            threshold=threshold,
            least_voxels=predictor.minimum_volume_mm3 / case.image.voxel_volume,
        ),
        seconds=seconds,
        refused=refused,
    )
    return record, _worst_slice(case, predicted, truth)


def _predict(predictor: Predictor, image: hd.Volume) -> tuple[hd.Volume, bool]:
    """Predict; an answer that is refused as implausible counts as finding nothing."""
    import numpy as np

    from errors import MetiaError

    try:
        answer = predictor.predict(
            image, progress=lambda _: None, cancelled=lambda: False
        )
    except MetiaError as error:
        if error.code != "prediction-implausible":
            raise
        return image.with_array(np.zeros(image.spatial_shape, np.float32)), True
    return answer.probability, False


def _mirror(image: hd.Volume) -> hd.Volume:
    """Turn left and right of the content, not of the axes."""
    import numpy as np

    (axis,) = (
        place
        for place, names in enumerate(image.get_closest_patient_orientation())
        if names.value in "LR"
    )
    return image.with_array(np.flip(image.array, axis))


def _match(
    true: LesionMap, found: LesionMap, result: LesionwiseResult
) -> list[LesionRecord]:
    """Compare every true lesion with the predicted ones that touch it."""
    import numpy as np

    from unetr.training.evaluation import LesionRecord

    labels = np.asarray(found.labels.array)
    by_number = {lesion.number: lesion for lesion in found.lesions}
    judged = {lesion.number: lesion for lesion in result.lesions}
    records = []
    for lesion in true.lesions:
        own = np.asarray(true.labels.array) == lesion.number
        parts = [by_number[number] for number in _numbers_near(own, labels)]
        records.append(
            LesionRecord(
                diameter_mm=lesion.longest_diameter_mm,
                volume_ml=lesion.volume_ml,
                found_diameter_mm=(
                    max(part.longest_diameter_mm for part in parts) if parts else None
                ),
                found_volume_ml=sum(p.volume_ml for p in parts) if parts else None,
                dice=judged[lesion.number].dice,
                hd95_mm=judged[lesion.number].hd95_mm,
            )
        )
    return records


def _numbers_near(own: NDArray[np.bool_], labels: NDArray[np.uint16]) -> list[int]:
    import numpy as np
    from scipy import ndimage

    near = ndimage.binary_dilation(own, ndimage.generate_binary_structure(3, 2))
    return [int(number) for number in np.unique(labels[near]) if number]


def _worst_slice(
    case: EvaluationCase, predicted: NDArray[np.bool_], truth: NDArray[np.bool_]
) -> tuple[str, bytes]:
    """Draw the slice in which most voxels are wrong."""
    import numpy as np

    from unetr.training.report import picture

    wrong = (predicted ^ truth).sum(axis=(1, 2))
    place = int(wrong.argmax()) if wrong.any() else len(wrong) // 2
    plane = np.asarray(case.image.array[place], np.float32)
    white = float(np.percentile(plane, 99.7))
    content = picture(plane, truth[place], predicted[place], white=white)
    return f"{case.name}, slice {place}", content


def _write(
    out: Path,
    facts: dict[str, str],
    records: list[CaseRecord],
    pictures: list[tuple[str, bytes]],
) -> None:
    from unetr.training.evaluation import case_table, lesion_table, summarise
    from unetr.training.report import write_report

    summary = summarise(records)
    out.mkdir(parents=True)
    document = {"facts": facts, **summary.document()}
    (out / "evaluation.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    (out / "cases.csv").write_text(case_table(records), "utf-8")
    (out / "lesions.csv").write_text(lesion_table(records), "utf-8")
    title = f"Evaluation of {facts['model']}"
    page = write_report(title, facts, summary, records, pictures)
    (out / "report.html").write_text(page, "utf-8")
    for name, figure in summary.figures.items():
        if figure.value is not None and figure.interval is not None:
            low, high = figure.interval
            click.echo(f"{name:38} {figure.value:.3f}  [{low:.3f}, {high:.3f}]")
    click.echo(f"The report is {out / 'report.html'}.")
