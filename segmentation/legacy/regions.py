"""Shows a result as an RTSTRUCT, and finds the lesion that a region of one means.

The former front end sees RTSTRUCT and names a lesion by series and number. ``show``
stores the RTSTRUCT of a result and notes what its numbers mean; ``change_region`` finds
the lesion, however many versions the result has had since, and changes it through
``segmentation.versions``: nothing is overwritten, in the archive or the database. Safe
between threads; no PHI in logs or errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydicom.dataset import Dataset

from db import audit
from db.engine import Engine, Session, reading, transaction
from db.outlines import (
    Outline,
    outlines_of_series,
    result_of_segmentation,
    save_outlines,
)
from db.results import Lesion, Result, get_result, list_versions
from db.visits import load_visit
from errors import MetiaError
from orthanc.archive import Archive
from orthanc.volume import SliceReference
from segmentation.exports.dicom_objects import (
    load_material,
    rtstruct_of_result,
    store_objects,
)
from segmentation.followup.course_rows import live_lesions
from segmentation.versions.corrections import Reader
from segmentation.versions.review import LesionChange, change_result
from segmentation.versions.turn import turn

_ATTEMPTS = 3
"""Somebody else may change the result between looking it up and changing it."""


@dataclass(frozen=True)
class Region:
    """What a page says of a lesion."""

    study_uid: str
    series_uid: str
    number: int


def current_result(engine: Engine, study_uid: str) -> Result | None:
    """Give the result that counts at a study; None where there is none."""
    with reading(engine) as session:
        visit = load_visit(session, study_uid)
    return visit.result if visit else None


def show(engine: Engine, archive: Archive, result: Result, reader: Reader) -> bool:
    """Store the RTSTRUCT of a result, unless no lesion of it counts.

    The same result gives the same object, which is stored once.

    Returns
    -------
    bool
        Whether there is one.

    Raises
    ------
    MetiaError
        ``export-impossible``, ``not-ready``, those of images and archive.
    """
    if not live_lesions(result):
        return False
    with turn():
        material = load_material(engine, archive, result.id)
        made = rtstruct_of_result(material, own_names=True)
        store_objects(archive, result.study_uid, [made])
        outlines = _outlines(made, result, material.source.slices)
    with transaction(engine) as session:
        save_outlines(session, outlines)
        audit.append(
            session,
            actor=reader.name,
            action="export",
            subject=f"result:{result.id}",
            details={
                "format": "rtstruct",
                "stored": True,
                "objects": [str(made.SOPInstanceUID)],
            },
            request_id=reader.request_id,
        )
    return True


def _outlines(
    made: Dataset, result: Result, slices: tuple[SliceReference, ...]
) -> list[Outline]:
    """Note which lesion each number is, and on which slices (from 1) it is drawn."""
    findings = {one.segment_number: one.finding_uid for one in result.lesions}
    places = {one: number for number, one in enumerate(slices, 1)}
    found = []
    for region in made.ROIContourSequence:
        drawn = [
            places[
                SliceReference(
                    str(image.ReferencedSOPInstanceUID),
                    image.get("ReferencedFrameNumber"),
                )
            ]
            for contour in region.ContourSequence
            for image in contour.ContourImageSequence
        ]
        number = int(region.ReferencedROINumber)
        found.append(
            Outline(
                series_uid=str(made.SeriesInstanceUID),
                roi_number=number,
                result_id=result.id,
                finding_uid=findings[number],
                first_slice=min(drawn),
                last_slice=max(drawn),
            )
        )
    return found


@dataclass(frozen=True)
class Shown:
    """What a series of outlines shows.

    Attributes
    ----------
    newest : Result
        The newest version of the result it was made of.
    findings : dict
        Finding UIDs of the lesions by their numbers in the series.
    """

    newest: Result
    findings: dict[int, str]


def find_shown(session: Session, series_uid: str) -> Shown | None:
    """Find what a series shows: an RTSTRUCT that `show` stored, or a SEG of a result.

    None where it is neither.
    """
    outlines = outlines_of_series(session, series_uid)
    if outlines:
        findings = {one.roi_number: one.finding_uid for one in outlines}
        return Shown(_newest(session, outlines[0].result_id), findings)
    result_id = result_of_segmentation(session, series_uid)
    if result_id is None:
        return None
    lesions = get_result(session, result_id).lesions
    findings = {one.segment_number: one.finding_uid for one in lesions}
    return Shown(_newest(session, result_id), findings)


def _newest(session: Session, result_id: str) -> Result:
    return list_versions(session, result_id)[-1]


def change_region(
    engine: Engine,
    archive: Archive,
    region: Region,
    change: Callable[[str], LesionChange],
    reader: Reader,
) -> Result:
    """Change the lesion that a region means, as a new version of its result.

    Parameters
    ----------
    change : Callable
        Gives the change of a lesion, by its id.

    Returns
    -------
    Result
        The newest version.

    Raises
    ------
    MetiaError
        ``not-found`` where study, series or region are not known, or the lesion is
        gone; those of ``segmentation.versions``.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        newest, lesion = _find(engine, region)
        try:
            return change_result(
                engine,
                archive,
                newest.id,
                revision=newest.revision,
                state=None,
                lesions=(change(lesion.id),),
                note="",
                reader=reader,
            )
        except MetiaError as error:
            if error.code != "edit-conflict" or attempt == _ATTEMPTS:
                raise
    raise AssertionError("every attempt returns or raises")


def _find(engine: Engine, region: Region) -> tuple[Result, Lesion]:
    """Find the newest version, and in it the lesion that the region means."""
    with reading(engine) as session:
        shown = find_shown(session, region.series_uid)
    if shown is None or shown.newest.study_uid != region.study_uid:
        raise MetiaError("not-found", "The study has no such series of outlines.")
    finding = shown.findings.get(region.number)
    for lesion in shown.newest.lesions:
        if lesion.finding_uid == finding:
            return shown.newest, lesion
    raise MetiaError("not-found", "There is no such region (any more).")
