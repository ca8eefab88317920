"""Takes an RTSTRUCT or foreign SEG of the archive over as a result.

``take_over`` promises: the object's outlines, voxel for voxel, as a SEG of ours in the
archive (read back and compared) and as a recorded result of origin ``import``, measured
like any other, with its audit entry; or nothing recorded and a reason. The object
itself stays as it is. Taking the same object over again gives the result that is there.
One at a time a process (``segmentation.versions.turn``). Safe between threads; no PHI
in logs or errors.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from db import audit
from db.engine import Engine, reading, transaction
from db.results import Result, ResultRecord, get_result, list_results, record_result
from errors import MetiaError
from orthanc.archive import Archive, SeriesHeader
from orthanc.series import rank_series
from orthanc.volume import LoadedSeries, load_series
from segmentation.dicom.codes import colour_of
from segmentation.dicom.imports import (
    Imported,
    is_importable,
    read_import,
    referenced_series,
)
from segmentation.dicom.seg import Segment
from segmentation.dicom.seg_versions import (
    StoredObject,
    Version,
    build_version,
    identify_drawn,
    identify_version,
)
from segmentation.followup.linking import relink
from segmentation.lesions import LesionMap, measure_segments
from segmentation.measurability import slice_distance_mm
from segmentation.pipeline import stated_thickness_mm, store_and_compare
from segmentation.records import lesion_record, spacing_mm
from segmentation.study_record import note_study
from segmentation.versions.corrections import Reader
from segmentation.versions.labels import digest
from segmentation.versions.turn import turn
from settings import VERSION

_MODALITIES = ("RTSTRUCT", "SEG")


@dataclass(frozen=True)
class _Taken:
    """An object, the series it was drawn on, and what it outlines there."""

    sop_instance_uid: str
    study_uid: str
    series_uid: str
    source: LoadedSeries
    found: Imported
    identity: StoredObject
    segments: tuple[Segment, ...]


def take_over(
    engine: Engine,
    archive: Archive,
    study_uid: str,
    sop_instance_uid: str,
    reader: Reader,
) -> Result:
    """Take an object of a study over.

    Returns
    -------
    Result
        The new one, or the one that the same object made before.

    Raises
    ------
    MetiaError
        ``study-not-found``; ``not-found`` where the study has no such object;
        ``import-invalid``, saying what is wrong with it; ``not-ready``; the
        ``volume-*`` codes where its series cannot be read; those of the archive.
    """
    began = time.perf_counter()
    headers = archive.series_headers(study_uid)
    drawn = _find(archive, study_uid, sop_instance_uid, headers)
    _refuse_own(engine, study_uid, sop_instance_uid)
    series_uid = _series_of(drawn, headers)
    with turn():
        instances = archive.fetch_series(study_uid, series_uid)
        source = load_series(instances, require_head_t1=False)
        found = read_import(drawn, source)
        taken = _name(sop_instance_uid, study_uid, series_uid, source, found)
        _store(archive, taken, reader)
        measured = measure_segments(
            found.labels,
            slice_distance_mm=slice_distance_mm(
                source.volume.spacing[0], stated_thickness_mm(source)
            ),
        )
    seconds = round(time.perf_counter() - began, 4)
    return _record(engine, taken, measured, reader, {"import": seconds})


def _find(
    archive: Archive,
    study_uid: str,
    sop_instance_uid: str,
    headers: Sequence[SeriesHeader],
) -> Dataset:
    """Look for the object among the series that may hold it."""
    for header in headers:
        if str(header.sample.get("Modality", "")) not in _MODALITIES:
            continue
        try:
            return archive.fetch_instance(
                study_uid, header.series_uid, sop_instance_uid
            )
        except MetiaError as error:
            if error.code != "not-found":
                raise
    raise MetiaError("not-found", "The study has no such structure set or SEG.")


def _refuse_own(engine: Engine, study_uid: str, sop_instance_uid: str) -> None:
    with reading(engine) as session:
        own = {one.segmentation_sop_uid for one in list_results(session, study_uid)}
    if sop_instance_uid in own:
        raise MetiaError("import-invalid", "The segmentation is a result already.")


def _series_of(drawn: Dataset, headers: Sequence[SeriesHeader]) -> str:
    """Choose the series that the object was drawn on.

    The one it names most, of those that are in the study and MR. Where it names none
    of them (references get lost on the way through some systems), the best series of
    its frame of reference: whether the outlines lie on it is checked after.
    """
    if not is_importable(drawn):
        raise MetiaError(
            "import-invalid", "The object is neither a structure set nor a SEG."
        )
    images = {
        header.series_uid: header
        for header in headers
        if str(header.sample.get("Modality", "")) == "MR"
    }
    for series_uid in referenced_series(drawn):
        if series_uid in images:
            return series_uid
    frames = _frames_of_reference(drawn)
    near = [
        header
        for header in images.values()
        if str(header.sample.get("FrameOfReferenceUID", "")) in frames
    ]
    if not near:
        raise MetiaError(
            "import-invalid", "The outlines are not of an MR series of this study."
        )
    return rank_series(near).candidates[0].series_uid


def _frames_of_reference(drawn: Dataset) -> set[str]:
    stated = {str(drawn.get("FrameOfReferenceUID", ""))}
    for roi in drawn.get("StructureSetROISequence") or []:
        stated.add(str(roi.get("ReferencedFrameOfReferenceUID", "")))
    return stated - {""}


def _name(
    sop_instance_uid: str,
    study_uid: str,
    series_uid: str,
    source: LoadedSeries,
    found: Imported,
) -> _Taken:
    """Derive the identity of the result from the object and what it outlines."""
    labels = digest(found.labels.array)
    identity = identify_version("import", sop_instance_uid, labels, *found.names)
    segments = tuple(
        Segment(
            label=name,
            tracking_id=name,
            tracking_uid=identify_drawn(identity, number),
            colour=colour_of(number),
            algorithm_type=made,
        )
        for number, (name, made) in enumerate(
            zip(found.names, found.algorithm_types, strict=True), 1
        )
    )
    return _Taken(
        sop_instance_uid, study_uid, series_uid, source, found, identity, segments
    )


def _store(archive: Archive, taken: _Taken, reader: Reader) -> None:
    version = Version(
        number=1,
        author=reader.display_name,
        model=None,
        parameters={},
        predecessor=None,
    )
    segmentation = build_version(
        taken.source.source_images,
        taken.found.labels,
        taken.segments,
        taken.identity,
        version,
    )
    store_and_compare(archive, taken.study_uid, segmentation, taken.found.labels)


def _record(
    engine: Engine,
    taken: _Taken,
    measured: LesionMap,
    reader: Reader,
    timings_s: dict[str, float],
) -> Result:
    """Record the result and its audit entry, both or neither."""
    with transaction(engine) as session:
        noted = note_study(session, taken.source, taken.study_uid, taken.series_uid)
        before = {one.id for one in list_results(session, taken.study_uid)}
        record = _result(taken, measured, reader, noted.instance_count, timings_s)
        result = get_result(session, record_result(session, record))
        if result.id in before:
            return result
        audit.append(
            session,
            actor=reader.name,
            action="result-import",
            subject=f"result:{result.id}",
            # The object's UID, which others made, stands in the result: the audit
            # outlives a patient's erasure.
            details={"kind": taken.found.kind, "lesions": len(result.lesions)},
            request_id=reader.request_id,
        )
        for patient_key in noted.patient_keys:
            relink(session, patient_key)
    return result


def _result(
    taken: _Taken,
    measured: LesionMap,
    reader: Reader,
    instance_count: int,
    timings_s: dict[str, float],
) -> ResultRecord:
    source, found = taken.source, taken.found
    lesions = zip(measured.lesions, taken.segments, strict=True)
    return ResultRecord(
        job_id=None,
        series_uid=taken.series_uid,
        segmentation_series_uid=taken.identity.series_uid,
        segmentation_sop_uid=taken.identity.sop_instance_uid,
        model=None,
        inputs_sha256=str(source.facts["pixel_sha256"]),
        instance_count=instance_count,
        code_version=VERSION,
        parameters={
            "import": {"kind": found.kind, "sop_instance_uid": taken.sop_instance_uid}
        },
        device="reader",
        timings_s=timings_s,
        warnings=(*source.warnings, *found.warnings),
        series_choice=("Named by the imported object.",),
        tilt_deg=measured.tilt_deg,
        resampled=measured.resampled,
        dropped_small=0,
        lesions=tuple(
            lesion_record(
                lesion, segment, source.slices[lesion.slice_index], drawn=True
            )
            for lesion, segment in lesions
        ),
        origin="import",
        author=reader.name,
        spacing_mm=spacing_mm(source),
        slice_thickness_mm=stated_thickness_mm(source),
    )
