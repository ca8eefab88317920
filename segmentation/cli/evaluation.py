"""``metia evaluate``: a model against synthetic test heads or own cases with truth.

Predicts and measures exactly as the service does (``load_as_set``,
``find_lesions``), then leaves the figures to ``unetr.training.evaluation``. Writes
``evaluation.json``, three tables as CSV and a self-contained ``report.html``. One case
at a time; one that fails is named, and the others are reported. Nothing leaves the
machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segmentation.cli.evaluation_cases import EvaluationCase, own_cases, synthetic_heads

if TYPE_CHECKING:
    import highdicom as hd
    import numpy as np
    from numpy.typing import NDArray

    from errors import MetiaError
    from segmentation.lesions import LesionMap
    from segmentation.models.predictor import Predictor
    from segmentation.models.registry import ModelFolder
    from unetr.training.evaluation import CaseRecord, LesionRecord
    from unetr.training.lesionwise import LesionwiseResult

WORST_CASES = 8


@dataclass
class _Outcome:
    """What became of the cases; `pictures` are (lesion-wise Dice, caption, PNG)."""

    records: list[CaseRecord] = field(default_factory=list)
    pictures: list[tuple[float, str, bytes]] = field(default_factory=list)
    failed: dict[str, MetiaError] = field(default_factory=dict)

    def failures(self) -> str:
        """Name the cases that failed, and why."""
        return " ".join(
            f"{name}: {error.detail}" for name, error in self.failed.items()
        )


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
    type=click.Choice(["train", "validation", "test", "all"]),
    default="test",
    show_default=True,
    help="Of the heads, or of the cases where they have a split.json; choose "
    "thresholds on validation, report on test.",
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
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="Instead of METIA_DEVICE.",
)
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
    device: str | None,
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
        source = synthetic_heads(heads, part, count, seed)
    else:
        assert cases_folder is not None  # noqa: S101 - checked above
        source = own_cases(cases_folder, part)
    if not source.cases:
        raise MetiaError("invalid-input", f"There is none to evaluate: {source.text}.")
    measure = partial(
        evaluate_case,
        predictor,
        threshold=level,
        minimum_peak=least_peak,
        mirrored=mirrored,
    )
    outcome = _evaluate_all(source.cases, measure)
    facts = {
        "model": f"{folder.identity.name} {folder.identity.version}",
        "model hash": folder.identity.sha256,
        "weights hash": folder.manifest.files.get(WEIGHTS_NAME, "none"),
        "data": source.text,
        "threshold": f"{level:g}",
        "mirrored too": str(mirrored),
        "smallest lesion": f"{predictor.minimum_volume_mm3:g} mm3",
        "least peak": f"{least_peak:g}",
        "refused answers": str(sum(record.refused for record in outcome.records)),
        "not evaluated": outcome.failures() or "none",
    }
    if outcome.records:
        _write(out, facts, outcome)
    if outcome.failed:
        first = next(iter(outcome.failed.values()))
        raise MetiaError(first.code, f"Not evaluated: {outcome.failures()}")


def _evaluate_all(
    cases: Iterable[tuple[str, Callable[[], EvaluationCase]]],
    measure: Callable[[EvaluationCase], tuple[CaseRecord, tuple[str, bytes]]],
) -> _Outcome:
    """Take one case after the other; a failure is kept, for the end."""
    from errors import MetiaError

    outcome = _Outcome()
    for name, read in cases:
        try:
            record, worst = measure(read())
        except MetiaError as error:
            outcome.failed[name] = error
            click.echo(f"{name}: not evaluated. {error.detail}", err=True)
            continue
        outcome.records.append(record)
        outcome.pictures.append((record.lesionwise_dice, *worst))
        click.echo(
            f"{record.name}: {len(record.lesions)} lesions, "
            f"{sum(lesion.found for lesion in record.lesions)} found, "
            f"{len(record.false_positives)} false positives",
            err=True,
        )
    return outcome


def _model(name: str, path: Path | None) -> ModelFolder:
    from segmentation.cli.chosen_model import chosen_model
    from segmentation.models.registry import ModelFolder

    return chosen_model(name) if path is None else ModelFolder.open(path.resolve())


def evaluate_case(
    predictor: Predictor,
    case: EvaluationCase,
    threshold: float,
    minimum_peak: float,
    *,
    mirrored: bool = False,
) -> tuple[CaseRecord, tuple[str, bytes]]:
    """Predict one case, compare it with its truth, and draw its worst slice.

    What is one true lesion, and which are not counted, is as in ``lesionwise``. Sizes
    of the truth and of what was found are both those of their voxels.
    """
    import numpy as np

    from segmentation.lesions import measure_segments
    from unetr.training.evaluation import CaseRecord, FalsePositive, froc_counts
    from unetr.training.lesionwise import lesionwise

    began = time.perf_counter()
    probability, found, refused = _answer(
        predictor, case.image, threshold, minimum_peak, mirrored=mirrored
    )
    seconds = time.perf_counter() - began
    predicted, truth = found.labels.array > 0, case.truth.array > 0
    unasked = None if case.passed_over is None else case.passed_over.array > 0
    result = lesionwise(predicted, truth, case.image.spacing, unasked)
    counted = [lesion.number for lesion in result.lesions if lesion.counted]
    true = measure_segments(
        case.truth.with_array(result.labels.astype(np.uint16)), numbers=counted
    )
    # The contour of a mask is longer than that of a probability, which the service
    # measures: to compare, both are measured as masks.
    drawn = measure_segments(found.labels)
    touched = set(_numbers_near(truth, np.asarray(found.labels.array)))
    wrong = [
        FalsePositive(lesion.longest_diameter_mm, lesion.volume_ml)
        for lesion in drawn.lesions
        if lesion.number not in touched
    ]
    record = CaseRecord(
        name=case.name,
        lesions=tuple(_match(true, found, drawn, result)),
        false_positives=tuple(wrong),
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


def _answer(
    predictor: Predictor,
    image: hd.Volume,
    threshold: float,
    minimum_peak: float,
    *,
    mirrored: bool,
) -> tuple[hd.Volume, LesionMap, bool]:
    """Predict and find lesions; True: refused as implausible, and nothing is found."""
    import numpy as np

    from errors import MetiaError
    from segmentation.lesions import find_lesions

    find = partial(
        find_lesions,
        threshold=threshold,
        minimum_volume_mm3=predictor.minimum_volume_mm3,
        minimum_peak=minimum_peak,
    )
    try:
        probability = _predict(predictor, image)
        if mirrored:
            other = _mirror(_predict(predictor, _mirror(image)))
            mean = (probability.array + other.array) / 2
            probability = probability.with_array(mean)
        return probability, find(probability), False
    except MetiaError as error:
        if error.code != "prediction-implausible":
            raise
    nothing = image.with_array(np.zeros(image.spatial_shape, np.float32))
    return nothing, find(nothing), True


def _predict(predictor: Predictor, image: hd.Volume) -> hd.Volume:
    answer = predictor.predict(image, progress=lambda _: None, cancelled=lambda: False)
    return answer.probability


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
    true: LesionMap, found: LesionMap, drawn: LesionMap, result: LesionwiseResult
) -> list[LesionRecord]:
    """Compare every true lesion with the predicted ones that touch it.

    `found` has the measures of the service, `drawn` those of its voxels.
    """
    import numpy as np

    from unetr.training.evaluation import LesionRecord

    labels = np.asarray(found.labels.array)
    by_number = {lesion.number: lesion for lesion in drawn.lesions}
    reported_mm = {one.number: one.longest_diameter_mm for one in found.lesions}
    judged = {lesion.number: lesion for lesion in result.lesions}
    records = []
    for lesion in true.lesions:
        own = np.asarray(true.labels.array) == lesion.number
        numbers = _numbers_near(own, labels)
        parts = [by_number[number] for number in numbers]
        records.append(
            LesionRecord(
                diameter_mm=lesion.longest_diameter_mm,
                volume_ml=lesion.volume_ml,
                found_diameter_mm=max(
                    (part.longest_diameter_mm for part in parts), default=None
                ),
                found_volume_ml=sum(p.volume_ml for p in parts) if parts else None,
                dice=judged[lesion.number].dice,
                hd95_mm=judged[lesion.number].hd95_mm,
                reported_diameter_mm=max(
                    (reported_mm[number] for number in numbers), default=None
                ),
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


def _write(out: Path, facts: dict[str, str], outcome: _Outcome) -> None:
    from unetr.training.evaluation import (
        case_table,
        false_positive_table,
        lesion_table,
        summarise,
    )
    from unetr.training.report import write_report

    records = outcome.records
    summary = summarise(records)
    out.mkdir(parents=True)
    document = {"facts": facts, **summary.document()}
    (out / "evaluation.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    (out / "cases.csv").write_text(case_table(records), "utf-8")
    (out / "lesions.csv").write_text(lesion_table(records), "utf-8")
    (out / "false_positives.csv").write_text(false_positive_table(records), "utf-8")
    worst = sorted(outcome.pictures, key=lambda row: row[0])[:WORST_CASES]
    title = f"Evaluation of {facts['model']}"
    page = write_report(title, facts, summary, records, [row[1:] for row in worst])
    (out / "report.html").write_text(page, "utf-8")
    for name, figure in summary.figures.items():
        if figure.value is None:
            continue
        interval = ""
        if figure.interval is not None:
            interval = f"  [{figure.interval[0]:.3f}, {figure.interval[1]:.3f}]"
        click.echo(f"{name:38} {figure.value:.3f}{interval}")
    click.echo(f"The report is {out / 'report.html'}.")
