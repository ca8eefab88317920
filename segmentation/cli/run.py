"""The work behind ``metia segment``: input to analysis to files.

Called by the command alone. What it prints and raises holds no text from an image
header: series are named by number and UID, faults by counts. Progress goes to standard
error, results to standard output.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click
import nibabel as nib
from tqdm import tqdm

from errors import MetiaError
from orthanc.series import SeriesRanking, rank_series
from orthanc.volume import LoadedSeries, load_series
from segmentation.cli.chosen_model import chosen_model
from segmentation.cli.contact_sheet import contact_sheet
from segmentation.cli.dicom_files import (
    LocalFiles,
    LocalSeries,
    dicom_folder,
    find_series,
    load_images,
)
from segmentation.cli.nifti import NiftiSource, is_nifti, load_nifti, mask_image
from segmentation.cli.output_folder import (
    RESULT,
    OutputFolder,
    check_free,
    output_folder,
)
from segmentation.cli.result_document import (
    InputFacts,
    check_document,
    result_document,
)
from segmentation.models.predictor import Predictor
from segmentation.models.registry import load_as_set
from segmentation.pipeline import Analysis, analyse
from settings import RESEARCH_NOTICE, get_settings


@dataclass(frozen=True)
class Request:
    """What the command line asks for; see ``segment``."""

    path: Path
    out: Path
    series_uid: str | None
    force_series: bool
    model: str
    device: str | None
    overwrite: bool
    quiet: bool
    as_json: bool


@dataclass(frozen=True)
class _Loaded:
    """An image ready for the model, and where it came from."""

    source: LoadedSeries
    facts: InputFacts
    nifti: NiftiSource | None


def segment_files(request: Request) -> None:
    """Run one segmentation on files.

    Raises
    ------
    MetiaError
        Any code of input, series choice, volume, model and output.
    """
    _quieten_libraries()
    check_free(request.out, overwrite=request.overwrite)
    began = time.perf_counter()
    timings_s: dict[str, float] = {}
    with (
        _terminated_as_interrupt(),
        _Progress(shown=not (request.quiet or request.as_json)) as progress,
    ):
        # The model first: a fault in it is cheaper to meet before reading a study.
        with _timed(timings_s, "model"):
            predictor = _predictor(request)
        progress.report("read", 0.02)
        with _timed(timings_s, "read"):
            loaded = _load(request)
        key = loaded.facts.series_uid or f"nifti:{loaded.facts.file_sha256}"
        analysis = analyse(
            loaded.source,
            key,
            predictor,
            progress,
            write_segmentation=loaded.nifti is None,
        )
        timings_s |= analysis.timings_s
        progress.report("write", 0.97)
        document = _write(request, loaded, analysis, predictor, timings_s, began)
        progress.report("done", 1.0)
    _show(request, document)


def show_series(path: Path, *, as_json: bool) -> None:
    """Print the series at `path` and how they are judged."""
    _quieten_libraries()
    if is_nifti(path):
        raise MetiaError("input-unreadable", "A NIfTI file holds no series.")
    with dicom_folder(path) as folder:
        files = find_series(folder)
    ranking = _rank(files)
    studies = {one.header.series_uid: one.study_uid for one in files.series}
    if as_json:
        rows = [
            {
                "series_uid": one.series_uid,
                "study_uid": studies[one.series_uid],
                "series_number": one.series_number,
                "modality": one.modality,
                "instance_count": one.instance_count,
                "score": one.score,
                "suitable": one.suitable,
                "reasons": [reason.code for reason in one.reasons],
            }
            for one in ranking.candidates
        ]
        click.echo(json.dumps({"series": rows}, indent=2))
        return
    for one in ranking.candidates:
        mark = "suitable" if one.suitable else "unsuitable"
        number = "-" if one.series_number is None else one.series_number
        click.echo(
            f"{mark}: series {number}, {one.modality}, {one.instance_count} objects, "
            f"score {one.score:g}\n  --series {one.series_uid}\n  "
            + ", ".join(reason.text for reason in one.reasons)
        )


def _predictor(request: Request) -> Predictor:
    folder = chosen_model(request.model)
    return load_as_set(folder, get_settings(), device=request.device)


def _load(request: Request) -> _Loaded:
    if is_nifti(request.path) and request.path.is_file():
        if request.series_uid:
            raise MetiaError("input-unreadable", "A NIfTI file holds no series.")
        nifti = load_nifti(request.path)
        return _Loaded(nifti.series, InputFacts("nifti", nifti.sha256), nifti)
    with dicom_folder(request.path) as folder:
        files = find_series(folder)
        series, reasons = choose_series(
            files, request.series_uid, force=request.force_series
        )
        source = load_series(
            load_images(series), require_head_t1=not request.force_series
        )
    facts = InputFacts(
        "dicom",
        study_uid=series.study_uid,
        series_uid=series.header.series_uid,
        choice=reasons,
        warnings=files.warnings,
    )
    return _Loaded(source, facts, None)


def choose_series(
    files: LocalFiles, series_uid: str | None, *, force: bool
) -> tuple[LocalSeries, tuple[str, ...]]:
    """Take the named series, or the best of the one study there is.

    Raises
    ------
    MetiaError
        ``series-not-found``, ``input-ambiguous`` (several studies; or no series is
        suitable and `force` leaves a choice), ``no-suitable-series``.
    """
    by_uid = {one.header.series_uid: one for one in files.series}
    if series_uid is not None:
        if series_uid not in by_uid:
            raise MetiaError(
                "series-not-found", "The files hold no series of this UID."
            )
        return by_uid[series_uid], ("chosen by the user",)
    studies = {one.study_uid for one in files.series}
    if len(studies) > 1:
        raise MetiaError(
            "input-ambiguous", f"The files belong to {len(studies)} studies."
        )
    ranking = _rank(files)
    chosen = ranking.chosen
    if chosen is not None:
        reasons = tuple(reason.text for reason in chosen.reasons)
        return by_uid[chosen.series_uid], reasons
    if not force:
        raise MetiaError("no-suitable-series", ranking.refusal_detail())
    if len(files.series) > 1:
        raise MetiaError(
            "input-ambiguous",
            f"None of the {len(files.series)} series is suitable by itself.",
        )
    return files.series[0], ("forced by the user",)


def _rank(files: LocalFiles) -> SeriesRanking:
    return rank_series([one.header for one in files.series])


def _write(
    request: Request,
    loaded: _Loaded,
    analysis: Analysis,
    predictor: Predictor,
    timings_s: dict[str, float],
    began: float,
) -> dict[str, object]:
    with output_folder(request.out) as folder:
        with _timed(timings_s, "write"):
            _write_images(folder, loaded, analysis, predictor)
        timings_s["total"] = time.perf_counter() - began
        document = result_document(analysis, loaded.facts, folder.hashes, timings_s)
        check_document(document)
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        folder.add(RESULT, lambda path: path.write_text(text, "utf-8"))
        # Half of a result must not be left behind by a key pressed now.
        signals = {signal.SIGINT, signal.SIGTERM}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            folder.commit()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return document


def _write_images(
    folder: OutputFolder, loaded: _Loaded, analysis: Analysis, predictor: Predictor
) -> None:
    mask = mask_image(analysis.lesion_map.labels, loaded.nifti)
    folder.add("mask.nii.gz", lambda path: nib.save(mask, path))
    segmentation = analysis.segmentation
    if segmentation is not None:
        folder.add("SEG.dcm", segmentation.save_as)
    if analysis.lesion_map.lesions:
        sheet = contact_sheet(analysis, predictor.threshold)
        folder.add("lesions.png", lambda path: sheet.save(path))


def _show(request: Request, document: Mapping[str, Any]) -> None:
    if request.as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    if request.quiet:
        return
    for text in document["warnings"]:
        click.echo(f"metia: warning: {text}", err=True)
    count = document["lesion_count"]
    click.echo(f"{count or 'No'} {'lesion' if count == 1 else 'lesions'} found.")
    for lesion in document["lesions"]:
        click.echo(
            f"  {lesion['segment_number']:>3}  "
            f"{lesion['longest_diameter_mm']:5.1f} x "
            f"{lesion['perpendicular_diameter_mm']:4.1f} mm  "
            f"{lesion['volume_ml']:8.3f} ml  probability {lesion['probability']:.2f}"
        )
    click.echo(f"Results are in {request.out}. {RESEARCH_NOTICE}")


class _Progress:
    """A bar on standard error; see ``segmentation.pipeline.Reporter``."""

    _WORDS = {  # noqa: RUF012 - never changed
        "read": "Reading images",
        "predict": "Looking for lesions",
        "lesions": "Measuring",
        "segmentation": "Writing the segmentation",
        "write": "Writing results",
        "done": "Done",
    }

    def __init__(self, *, shown: bool) -> None:
        self._bar = tqdm(
            total=100,
            disable=None if shown else True,  # None: only on a terminal
            bar_format="{desc:<26} {percentage:3.0f}% |{bar:30}| {elapsed}",
            file=sys.stderr,
        )

    def report(self, step: str, progress: float) -> None:
        """Move the bar."""
        self._bar.set_description_str(self._WORDS.get(step, step), refresh=False)
        self._bar.update(round(100 * progress) - self._bar.n)

    def cancelled(self) -> bool:
        """Tell whether to stop; Ctrl-C does that by itself here."""
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()


@contextmanager
def _timed(timings_s: dict[str, float], step: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timings_s[step] = time.perf_counter() - began


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the run like Ctrl-C: temporary files are removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _quieten_libraries() -> None:
    """Keep third-party warnings off the screen: they quote values from headers."""
    if os.environ.get("METIA_DEBUG"):
        return
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
