"""``metia export``: what is known of a patient or a visit, as files on this machine.

The same writers as the API's, from the service's database and archive; the API need not
run. Names of files hold no patient data; contents neither, unless ``--identifiers`` is
given (DICOM objects always name the patient, as the images do). Every export is noted
in the audit. One run writes all of its files or none.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from db.engine import Engine
    from orthanc.archive import Archive
    from segmentation.exports.report import Language
    from segmentation.exports.sources import PatientCourse

_COURSE = ("csv", "xlsx", "fhir", "pdf")
_OF_RESULTS = ("nifti", "sr", "rtstruct")
File = tuple[str, bytes]


@dataclass(frozen=True)
class _Wish:
    """What was asked for, beside whom it is about."""

    identifiers: bool
    rule_set: str | None
    language: str
    images: bool


@click.command()
@click.argument("whom", metavar="PATIENT_KEY|STUDY_UID")
@click.option(
    "--format",
    "formats",
    type=click.Choice([*_COURSE, *_OF_RESULTS]),
    multiple=True,
    required=True,
    help="May be given several times.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for the files; made if need be.",
)
@click.option("--identifiers", is_flag=True, help="Name the patient; give dates.")
@click.option(
    "--rules",
    "rule_set",
    type=click.Choice(["rano-bm", "recist-1.1"]),
    help="Response criteria; else those of the patient's plan.",
)
@click.option(
    "--language", type=click.Choice(["en", "fr"]), default="en", show_default=True
)
@click.option("--no-images", is_flag=True, help="A report without key images.")
@click.option("--overwrite", is_flag=True, help="Replace files of the same names.")
@click.option("--json", "as_json", is_flag=True, help="Print data.")
def export(
    whom: str,
    formats: tuple[str, ...],
    out: Path,
    identifiers: bool,
    rule_set: str | None,
    language: str,
    no_images: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write what is known of a patient, or of the visit that is a study, to files.

    csv, xlsx and fhir always tell the whole course; pdf, nifti, sr and rtstruct of a
    study are about that visit alone. Research use only. Not a medical device.
    """
    from orthanc.gateway import OrthancArchive
    from segmentation.cli.opened import database
    from settings import get_settings

    wish = _Wish(identifiers, rule_set, language, not no_images)
    wanted = list(dict.fromkeys(formats))
    with database() as engine:
        course = _load(engine, whom, wish)
        archive = OrthancArchive.from_settings(get_settings())
        files = [
            file
            for name in wanted
            for file in _write(engine, archive, course, name, wish)
        ]
        paths = _save(files, out, overwrite=overwrite)
        _note(engine, course, wanted, wish)
    if as_json:
        click.echo(json.dumps({"files": [str(path) for path in paths]}))
        return
    for path in paths:
        click.echo(path)


def _load(engine: Engine, whom: str, wish: _Wish) -> PatientCourse:
    from errors import MetiaError
    from segmentation.exports.sources import load_patient, load_study
    from segmentation.http.identifiers import is_id, is_uid

    if is_id(whom):
        return load_patient(
            engine, whom, identifiers=wish.identifiers, rule_set=wish.rule_set
        )
    if is_uid(whom):
        return load_study(
            engine, whom, identifiers=wish.identifiers, rule_set=wish.rule_set
        )
    raise MetiaError(
        "invalid-input", "This is neither a key of a patient nor a Study Instance UID."
    )


def _write(
    engine: Engine, archive: Archive, course: PatientCourse, form: str, wish: _Wish
) -> Iterator[File]:
    if form in _OF_RESULTS:
        yield from _of_results(engine, archive, course, form)
        return
    yield _of_course(archive, course, form, wish)


def _of_course(archive: Archive, course: PatientCourse, form: str, wish: _Wish) -> File:
    from segmentation.exports.csv_files import csv_archive
    from segmentation.exports.fhir import bundle
    from segmentation.exports.file_names import patient_file, visit_file
    from segmentation.exports.sources import make_report
    from segmentation.exports.xlsx import workbook

    content, key = course.content, course.content.subject.key
    if form == "csv":
        return patient_file(key, "tables", "zip"), csv_archive(content)
    if form == "xlsx":
        return patient_file(key, "tables", "xlsx"), workbook(content)
    if form == "fhir":
        made = json.dumps(
            bundle(content, course.provenance), ensure_ascii=False, allow_nan=False
        )
        return patient_file(key, "fhir", "json"), made.encode("utf-8")
    language: Language = "fr" if wish.language == "fr" else "en"
    report = make_report(archive, course, language, pictures=wish.images)
    if course.asked:
        return visit_file(key, course.asked, "report", "pdf"), report
    return patient_file(key, "report", "pdf"), report


def _of_results(
    engine: Engine, archive: Archive, course: PatientCourse, form: str
) -> Iterator[File]:
    """Give the files of the current result of each visit, or of the one asked for.

    A visit of many that cannot be written so (no lesion to outline) is left out, and
    said on standard error.
    """
    from errors import MetiaError
    from segmentation.exports.file_names import visit_file

    key = course.content.subject.key
    what, suffix = ("labels", "zip") if form == "nifti" else (form, "dcm")
    numbers = [course.asked] if course.asked else sorted(course.results)
    for number in numbers:
        result = course.results.get(number)
        if result is None:
            raise MetiaError("not-found", "Every result of the visit was rejected.")
        try:
            content = _of_result(engine, archive, result.id, form)
        except MetiaError as error:
            if error.code != "export-impossible" or course.asked:
                raise
            click.echo(f"Visit {number} left out: {error.detail}", err=True)
            continue
        yield visit_file(key, number, what, suffix), content


def _of_result(engine: Engine, archive: Archive, result_id: str, form: str) -> bytes:
    from segmentation.exports.dicom_objects import load_material, object_of_result
    from segmentation.exports.sources import load_nifti

    if form == "nifti":
        return load_nifti(engine, archive, result_id)
    material = load_material(engine, archive, result_id)
    made = object_of_result(material, "sr" if form == "sr" else "rtstruct")
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _save(files: Sequence[File], out: Path, *, overwrite: bool) -> list[Path]:
    """Write the files, all or none."""
    from errors import MetiaError

    paths = [out / name for name, _ in files]
    present = [path.name for path in paths if os.path.lexists(path)]
    if present and not overwrite:
        raise MetiaError("output-exists", f"There is {', '.join(present)} already.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".metia-", dir=out) as made:
            for name, content in files:
                (Path(made) / name).write_bytes(content)
            for path in paths:
                os.replace(Path(made) / path.name, path)
    except OSError as error:
        code = "disk-full" if error.errno == errno.ENOSPC else "output-unwritable"
        raise MetiaError(code, f"{error.strerror}.") from error
    return paths


def _note(
    engine: Engine, course: PatientCourse, formats: Sequence[str], wish: _Wish
) -> None:
    from db import audit
    from db.engine import transaction

    with transaction(engine) as session:
        for form in formats:
            audit.append(
                session,
                actor=None,
                action="export",
                subject=f"patient:{course.content.subject.key}",
                details={
                    "format": form,
                    "by": "command line",
                    "identifiers": wish.identifiers,
                    "visits": 1 if course.asked else len(course.content.visits),
                },
            )
