"""Brings together what the writers need, from the database and the archive.

With ``dicom_objects`` the only module of exports that reads either; the writers are
pure. Functions take what they read from, so that routes and the command line share
them. Only ``store_report`` writes, and into the archive. Safe between threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from db.engine import Engine, reading
from db.patients import key_of_study
from db.results import Lesion, Result
from errors import MetiaError
from orthanc.archive import Archive, StoreReceipt
from segmentation.exports.content import CourseContent, Provenance, Track
from segmentation.exports.dicom_objects import (
    Material,
    load_material,
    store_objects,
)
from segmentation.exports.encapsulated import encapsulate
from segmentation.exports.nifti import (
    LabelledLesion,
    nifti_archive,
    read_labels,
    sidecar,
)
from segmentation.exports.pictures import (
    KeyImage,
    SegmentOutlines,
    key_image,
    read_slice,
)
from segmentation.exports.reading import (
    course_document,
    read_course,
    visit_number,
)
from segmentation.exports.report import LANGUAGES, Language, report
from segmentation.followup.course_rows import load_course

MOST_IMAGES = 60
"""Key images of one report; the newest visits have theirs first."""
_MODEL = ("name", "version", "sha256", "demonstration")
_UNREADABLE = frozenset(
    {"not-found", "series-not-found", "study-not-found", "archive-incomplete"}
)
"""Codes of images that are not there (any more): a report goes without them."""


@dataclass(frozen=True)
class PatientCourse:
    """A patient's course as it leaves, and what it was made from.

    Attributes
    ----------
    results : mapping of int to Result
        The current result of each visit, by its number.
    asked : int or None
        Number of the visit that was asked for.
    """

    content: CourseContent
    results: Mapping[int, Result]
    asked: int | None = None

    @property
    def provenance(self) -> dict[int, Provenance]:
        """What made the result of each visit."""
        return {number: _provenance(one) for number, one in self.results.items()}


def load_patient(
    engine: Engine,
    patient_key: str,
    *,
    identifiers: bool,
    rule_set: str | None = None,
    study_uid: str | None = None,
) -> PatientCourse:
    """Read the course of a patient.

    Parameters
    ----------
    identifiers : bool
        Whether what names the patient is in it.
    rule_set : str, optional
        Criteria; those of the patient's plan where left out.
    study_uid : str, optional
        The visit that is asked for.

    Raises
    ------
    MetiaError
        ``not-found`` where there is no such patient, or the study is no visit.
    """
    with reading(engine) as session:
        rows = load_course(session, patient_key)
    document = course_document(rows, rule_set, study_uid)
    asked = visit_number(document, study_uid) if study_uid else None
    if study_uid and asked is None:
        raise MetiaError("not-found", "The study has no result.")
    results = {
        number: visit.result
        for number, visit in enumerate(rows.visits, 1)
        if visit.result is not None
    }
    return PatientCourse(read_course(document, identifiers=identifiers), results, asked)


def load_study(
    engine: Engine, study_uid: str, *, identifiers: bool, rule_set: str | None = None
) -> PatientCourse:
    """Read the course of the patient of a study.

    Raises
    ------
    MetiaError
        ``not-found`` where the study has no result.
    """
    with reading(engine) as session:
        key = key_of_study(session, study_uid)
    return load_patient(
        engine, key, identifiers=identifiers, rule_set=rule_set, study_uid=study_uid
    )


def make_report(
    archive: Archive, course: PatientCourse, language: Language, *, pictures: bool
) -> bytes:
    """Write the PDF report of a course, or of the one visit that was asked for.

    Parameters
    ----------
    pictures : bool
        Whether key images are read from the archive.

    Raises
    ------
    MetiaError
        ``archive-unavailable``, ``archive-denied`` or ``archive-unexpected`` where the
        archive does not answer; images that are not there any more are no failure.
    """
    visits = [course.asked] if course.asked else None
    wanted = visits or [visit.number for visit in course.content.visits]
    images: dict[int, Sequence[KeyImage] | None] = {}
    room = MOST_IMAGES
    for number in reversed(wanted):
        if pictures and number in course.results and room > 0:
            found = images[number] = _key_images(archive, course, number)
            room -= len(found or ())
    return report(
        course.content,
        language=language,
        provenance=course.provenance,
        images=images,
        visits=visits,
    )


def store_report(
    archive: Archive, course: PatientCourse, language: Language
) -> StoreReceipt:
    """Write the report of the visit that was asked for, and store it in the archive.

    Parameters
    ----------
    course : PatientCourse
        With identifiers: in the archive the report names the patient, as images do.

    Raises
    ------
    MetiaError
        ``not-found`` where every result of the visit was rejected; the ``archive-*``
        codes, ``study-not-found`` and ``series-not-found``.
    """
    result = course.results.get(course.asked or 0)
    if result is None:
        raise MetiaError("not-found", "Every result of the visit was rejected.")
    headers = archive.series_headers(result.study_uid)
    found = [one.sample for one in headers if one.series_uid == result.series_uid]
    if not found:
        raise MetiaError("series-not-found", "The study has no series of this UID.")
    content = make_report(archive, course, language, pictures=True)
    made = encapsulate(
        content,
        found[0],
        title=LANGUAGES[language].title,
        verified=course.content.visit(course.asked or 1).signed,
    )
    (receipt,) = store_objects(archive, result.study_uid, [made])
    return receipt


def _key_images(
    archive: Archive, course: PatientCourse, number: int
) -> list[KeyImage] | None:
    """Read the key images of a visit's targets; None where they cannot be read."""
    result = course.results[number]
    targets = _targets(course.content, result, number)
    if not targets:
        return []
    try:
        outlines = _outlines(archive, result)
        instances: dict[str, Dataset] = {}
        made = []
        for track, lesion in targets:
            uid = lesion.sop_instance_uid
            if uid not in instances:
                instances[uid] = archive.fetch_instance(
                    result.study_uid, result.series_uid, uid
                )
            made.append(
                key_image(
                    track.label,
                    track.colour,
                    read_slice(instances[uid], lesion.frame_number),
                    outlines,
                    lesion.segment_number,
                    (lesion.long_axis_mm, lesion.short_axis_mm),
                )
            )
    except MetiaError as error:
        if error.code in _UNREADABLE or error.code.startswith("volume-"):
            return None
        raise
    return made


def _targets(
    content: CourseContent, result: Result, number: int
) -> list[tuple[Track, Lesion]]:
    by_id = {lesion.id: lesion for lesion in result.lesions}
    found = []
    for track in content.tracks:
        one = track.at(number)
        if track.role == "target" and one and one.lesion_id in by_id:
            found.append((track, by_id[one.lesion_id]))
    return found


def _outlines(archive: Archive, result: Result) -> SegmentOutlines | None:
    series_uid, sop_uid = (
        result.segmentation_series_uid,
        result.segmentation_sop_uid,
    )
    if series_uid is None or sop_uid is None:
        return None
    return SegmentOutlines(
        archive.fetch_instance(result.study_uid, series_uid, sop_uid)
    )


def _provenance(result: Result) -> Provenance:
    model = result.model
    return Provenance(
        origin=result.origin,
        code_version=result.code_version,
        model_name=model.name if model else None,
        model_version=model.version if model else None,
        model_sha256=model.sha256 if model else None,
        demonstration=model.demonstration if model else False,
    )


def load_nifti(engine: Engine, archive: Archive, result_id: str) -> bytes:
    """Make the NIfTI export of a result.

    Returns
    -------
    bytes
        A ZIP of the label image and its JSON text.

    Raises
    ------
    MetiaError
        ``not-found``; ``export-impossible`` where segments overlap; the ``archive-*``,
        ``series-not-found`` and ``volume-*`` codes where the images cannot be read.
    """
    material = load_material(engine, archive, result_id)
    grid = material.source.volume
    lesions = [_labelled(material, lesion) for lesion in material.lesions]
    numbers = [lesion.label for lesion in lesions]
    labels = read_labels(material.segmentation, grid, numbers)
    document = sidecar(_facts(material.result), lesions)
    return nifti_archive(result_id, grid.with_array(labels), document)


def _labelled(material: Material, lesion: Lesion) -> LabelledLesion:
    track = material.track_of(lesion)
    return LabelledLesion(
        label=lesion.segment_number,
        lesion_id=lesion.id,
        name=lesion.name,
        tracking_uid=track.tracking_uid if track else lesion.tracking_uid,
        track_id=track.id if track else None,
        track_label=track.label if track else None,
        review=lesion.review,
        longest_diameter_mm=lesion.longest_diameter_mm,
        perpendicular_diameter_mm=lesion.perpendicular_diameter_mm,
        volume_ml=lesion.volume_ml,
    )


def _facts(result: Result) -> dict[str, object]:
    """Say what made the labels, and nothing of the patient."""
    model = result.model
    return {
        "id": result.id,
        "state": result.state,
        "origin": result.origin,
        "version": result.version,
        # What a reader made or imported may have no model.
        "model": {name: getattr(model, name) for name in _MODEL} if model else None,
        "code_version": result.code_version,
        "inputs_sha256": result.inputs_sha256,
    }
