"""Brings together what the writers need, from the database and the archive.

The only module of exports that reads either; the writers are pure. Functions take what
they read from, so that routes and the command line share them. Safe between threads.
"""

from __future__ import annotations

import hashlib

from db.engine import Engine, reading
from db.results import Result, get_result
from orthanc.archive import Archive
from orthanc.volume import load_series
from segmentation.exports.nifti import (
    LabelledLesion,
    nifti_archive,
    read_labels,
    sidecar,
)

_MODEL = ("name", "version", "sha256", "demonstration")


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
    with reading(engine) as session:
        result = get_result(session, result_id)
    segmentation = None
    if result.segmentation_series_uid and result.segmentation_sop_uid:
        segmentation = archive.fetch_instance(
            result.study_uid,
            result.segmentation_series_uid,
            result.segmentation_sop_uid,
        )
    images = archive.fetch_series(result.study_uid, result.series_uid)
    grid = load_series(images, require_head_t1=False).volume
    lesions = _labelled(result)
    labels = read_labels(segmentation, grid, [lesion.label for lesion in lesions])
    document = sidecar(_facts(result), lesions)
    return nifti_archive(result.id, grid.with_array(labels), document)


def _labelled(result: Result) -> list[LabelledLesion]:
    return [
        LabelledLesion(
            label=lesion.segment_number,
            lesion_id=lesion.id,
            name=lesion.name,
            tracking_uid=lesion.tracking_uid,
            track_id=None,
            track_label=None,
            review=lesion.review,
            longest_diameter_mm=lesion.longest_diameter_mm,
            perpendicular_diameter_mm=lesion.perpendicular_diameter_mm,
            volume_ml=lesion.volume_ml,
        )
        for lesion in result.lesions
        if lesion.review != "rejected"
    ]


def _facts(result: Result) -> dict[str, object]:
    model = result.model
    return {
        "id": result.id,
        "state": result.state,
        # What a reader made or imported has no model.
        "model": {name: getattr(model, name) for name in _MODEL} if model else None,
        "code_version": result.code_version,
        # Names the series to who has it, and tells nothing to who has not.
        "series_sha256": hashlib.sha256(result.series_uid.encode()).hexdigest(),
        "inputs_sha256": result.inputs_sha256,
    }
