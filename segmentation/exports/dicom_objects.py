"""A result as DICOM objects: its SR, its RTSTRUCT, its SEG.

``load_material`` pulls what they are made of once; ``sr_of_result``,
``rtstruct_of_result`` and ``seg_of_result`` are pure after that. Lesions that a reader
rejected are in neither SR nor RTSTRUCT, and a rejected result has neither. The same
state of result and course makes the same objects with the same UIDs, so storing them
twice stores them once. DICOM objects name the patient, as the images do. Safe between
threads.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from pydicom.dataset import Dataset

from db.engine import Engine, reading
from db.patients import key_of_study
from db.results import Lesion, Result, get_result
from errors import MetiaError
from orthanc.archive import Archive, StoreReceipt
from orthanc.dicomweb import encode_part10, parse_part10
from orthanc.volume import LoadedSeries, load_series
from segmentation.dicom.rtstruct import AlgorithmType, Structure, build_rtstruct
from segmentation.dicom.sr import (
    ReportAlgorithm,
    ReportedAssessment,
    ReportedLesion,
    ReportedVisit,
    build_report,
)
from segmentation.dicom.uids import derive_uid
from segmentation.exports.content import CourseContent, Track, Visit
from segmentation.exports.nifti import read_labels
from segmentation.exports.reading import course_document, read_course
from segmentation.followup.course_rows import load_course
from segmentation.followup.rules import rule_sets

Format = Literal["sr", "rtstruct", "seg"]
FORMATS: tuple[Format, ...] = get_args(Format)
_TIME_VRS = ("DA", "TM", "DT")


@dataclass(frozen=True)
class Material:
    """What the objects of one result are made of.

    Attributes
    ----------
    segmentation : pydicom.Dataset or None
        The stored SEG; None where the result has no lesion.
    course : CourseContent or None
        Of the patient; None where it is not to be told.
    """

    result: Result
    source: LoadedSeries
    segmentation: Dataset | None
    course: CourseContent | None

    @property
    def lesions(self) -> list[Lesion]:
        """Those that count."""
        return [one for one in self.result.lesions if one.review != "rejected"]

    @property
    def visit(self) -> Visit | None:
        """The visit at which the result counts."""
        visits = self.course.visits if self.course else ()
        found = (one for one in visits if one.result_id == self.result.id)
        return next(found, None)

    def track_of(self, lesion: Lesion) -> Track | None:
        """Find the track a lesion is linked to; not one that waits for the reader."""
        if self.course is None:
            return None
        for track in self.course.tracks:
            for one in track.observations:
                if one.lesion_id == lesion.id and one.link_state != "pending":
                    return track
        return None

    def names(self) -> dict[str, tuple[str, str]]:
        """Give label and tracking UID of every lesion that counts, by its id.

        Those of its track; a lesion in none goes by its own name and UID. A track keeps
        the UID of its first lesion even after a reader has moved that one elsewhere,
        so the UID of an unlinked lesion may be taken: then it gets one derived from it.
        """
        tracks = {lesion.id: self.track_of(lesion) for lesion in self.lesions}
        taken = {track.tracking_uid for track in tracks.values() if track}
        found = {}
        for lesion in self.lesions:
            track, uid = tracks[lesion.id], lesion.tracking_uid
            if track is not None:
                found[lesion.id] = track.label, track.tracking_uid
            elif uid in taken:
                found[lesion.id] = lesion.name, derive_uid("unlinked", uid)
            else:
                found[lesion.id] = lesion.name, uid
        return found


def load_material(engine: Engine, archive: Archive, result_id: str) -> Material:
    """Read a result and the course it is part of; pull its images and SEG.

    Raises
    ------
    MetiaError
        ``not-found``; the ``archive-*``, ``series-not-found`` and ``volume-*`` codes
        where images or SEG cannot be read.
    """
    with reading(engine) as session:
        result = get_result(session, result_id)
        rows = load_course(session, key_of_study(session, result.study_uid))
    document = course_document(rows, study_uid=result.study_uid)
    # The objects name the patient: whoever may have them may have all of it.
    course = read_course(document, identifiers=True)
    images = archive.fetch_series(result.study_uid, result.series_uid)
    source = load_series(images, require_head_t1=False)
    return Material(result, source, _stored_seg(archive, result), course)


def _stored_seg(archive: Archive, result: Result) -> Dataset | None:
    series_uid, sop_uid = (
        result.segmentation_series_uid,
        result.segmentation_sop_uid,
    )
    if series_uid is None or sop_uid is None:
        return None
    return archive.fetch_instance(result.study_uid, series_uid, sop_uid)


def object_of_result(material: Material, wanted: Format) -> Dataset:
    """Make one of the objects.

    Raises
    ------
    MetiaError
        ``export-impossible`` where the result has nothing that could stand in it.
    """
    makers = {
        "sr": sr_of_result,
        "rtstruct": rtstruct_of_result,
        "seg": seg_of_result,
    }
    return makers[wanted](material)


def seg_of_result(material: Material) -> Dataset:
    """Give the stored SEG."""
    if material.segmentation is None:
        raise MetiaError("export-impossible", "The result has no lesion, so no SEG.")
    return material.segmentation


def rtstruct_of_result(material: Material, *, own_names: bool = False) -> Dataset:
    """Make the RT structure set of a result.

    Parameters
    ----------
    material : Material
    own_names : bool
        Regions are named as the lesions of the result, not as their tracks.

    Raises
    ------
    MetiaError
        ``export-impossible`` for a rejected result, where no lesion counts, or
        segments overlap.
    """
    _require_not_rejected(material.result)
    lesions = material.lesions
    if not lesions:
        raise MetiaError("export-impossible", "The result has no lesion to outline.")
    numbers = [lesion.segment_number for lesion in lesions]
    grid = material.source.volume
    labels = read_labels(material.segmentation, grid, numbers)
    names = material.names()
    if own_names:
        names = {one.id: (one.name, names[one.id][1]) for one in lesions}
    structures = [_structure(lesion, *names[lesion.id]) for lesion in lesions]
    origin = _origin(material.result)
    try:
        return build_rtstruct(material.source, labels, structures, origin=origin)
    except ValueError as error:  # the SEG lacks a lesion's voxels
        raise MetiaError("export-impossible", "Record and SEG differ.") from error


def sr_of_result(material: Material) -> Dataset:
    """Make the measurement report of a result, with what its visit is assessed as.

    Raises
    ------
    MetiaError
        ``export-impossible`` for a rejected result, and where a lesion lies on an image
        that is not there.
    """
    _require_not_rejected(material.result)
    names = material.names()
    lesions = [_reported(material, one, *names[one.id]) for one in material.lesions]
    model = material.result.model
    algorithm = (
        ReportAlgorithm(model.name, model.version, model.sha256) if model else None
    )
    try:
        return build_report(
            material.source,
            material.segmentation if lesions else None,
            lesions,
            _visit(material),
            algorithm,
        )
    except ValueError as error:
        raise MetiaError(
            "export-impossible", "The lesions do not lie on the images of the series."
        ) from error


def _require_not_rejected(result: Result) -> None:
    """Refuse what no reader of the file could tell from a result that counts."""
    if result.state == "rejected":
        raise MetiaError("export-impossible", "A reader rejected this result.")


def _origin(result: Result) -> str:
    """Say what made the outlines."""
    made = f"{result.model.name} {result.model.version}" if result.model else ""
    if result.origin == "model":
        return made
    changed = "imported" if result.origin == "import" else "reader"
    return f"{made}, {changed}" if made else changed


def _structure(lesion: Lesion, label: str, tracking_uid: str) -> Structure:
    return Structure(
        number=lesion.segment_number,
        name=label,
        tracking_uid=tracking_uid,
        colour=lesion.colour,
        algorithm_type=cast(AlgorithmType, lesion.algorithm_type),
    )


def _reported(
    material: Material, lesion: Lesion, label: str, tracking_uid: str
) -> ReportedLesion:
    track = material.track_of(lesion)
    roles: dict[str | None, Literal["target", "non_target"]] = {
        "target": "target",
        "non_target": "non_target",
    }
    return ReportedLesion(
        label=label,
        tracking_uid=tracking_uid,
        segment_number=lesion.segment_number,
        longest_diameter_mm=lesion.longest_diameter_mm,
        perpendicular_diameter_mm=lesion.perpendicular_diameter_mm,
        volume_ml=lesion.volume_ml,
        long_axis_mm=lesion.long_axis_mm,
        short_axis_mm=lesion.short_axis_mm,
        sop_instance_uid=lesion.sop_instance_uid,
        frame_number=lesion.frame_number,
        role=roles.get(track.role) if track else None,
        diameter_3d_mm=lesion.diameter_3d_mm,
        drawn=lesion.algorithm_type == "MANUAL",
    )


def _visit(material: Material) -> ReportedVisit:
    visit = material.visit
    if visit is None or material.course is None:
        return ReportedVisit(author=material.result.author)
    return ReportedVisit(
        number=visit.number,
        is_baseline=visit.is_baseline,
        sum_of_diameters_mm=visit.sum_mm if visit.sum_complete else None,
        change_from_baseline_percent=visit.change_from_baseline_percent,
        change_from_nadir_percent=visit.change_from_nadir_percent,
        assessment=_assessment(visit, material.course),
        author=material.result.author,
    )


def _assessment(visit: Visit, course: CourseContent) -> ReportedAssessment | None:
    """Give what somebody signed, if nothing changed since; else what is proposed."""
    if visit.category is None:
        return None
    signature = visit.signature if visit.signed else None
    return ReportedAssessment(
        criteria=rule_sets()[course.rule_set].title,
        rules_version=course.rules_version,
        category=visit.category,
        signed_by=signature.by if signature else None,
        signed_at=signature.at if signature else None,
        comment=signature.comment if signature else "",
    )


def store_objects(
    archive: Archive, study_uid: str, objects: Sequence[Dataset]
) -> list[StoreReceipt]:
    """Store objects, and check that the archive holds exactly them.

    Raises
    ------
    MetiaError
        ``archive-mismatch`` where an object of the same UID says something else.
    """
    receipts = archive.store(objects)
    for made, receipt in zip(objects, receipts, strict=True):
        if not receipt.already_stored:
            continue  # read back and compared by the archive's gateway
        stored = archive.fetch_instance(
            study_uid, receipt.series_uid, receipt.sop_instance_uid
        )
        sent = parse_part10(io.BytesIO(encode_part10(made)))
        if _content(stored) != _content(sent):
            raise MetiaError(
                "archive-mismatch", "An object of this UID is stored, but another one."
            )
    return receipts


def _content(dataset: Dataset) -> list[tuple[str, str, str]]:
    """List all that an object says but when it was made."""
    return [
        (str(element.tag), str(element.VR), str(element.value))
        for element in dataset.iterall()
        if element.VR not in (*_TIME_VRS, "SQ") and element.tag.group > 0x0002
    ]
