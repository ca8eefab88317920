"""A patient whose images and SEG lie in an archive and whose result is recorded.

For tests of what leaves MetIA: ``put_visit`` stores a small MR series with drawn
lesions and the SEG of them, records the result, and makes each lesion a track.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from db.engine import Engine, transaction
from db.patients import key_of_study
from db.results import LesionRecord, record_result
from db.studies import Patient, Series, Study, upsert_study
from db.tracks import Member, TrackRecord, new_track_id, save_tracks
from segmentation.dicom.seg import build_segmentation, identify
from segmentation.lesions import Lesion, LesionMap
from tests import seg_sources
from tests.contract.sample_rows import make_lesion, make_record
from tests.fake_archive import FakeArchive

NAME, PATIENT_ID = "Zzcanary^Patient=例^示子", "ZZCANARY4711"
BIRTH_DATE, STUDY_DATE = "19010203", "20200101"
GRID = seg_sources.grid((12, 64, 72), (1.5, 0.9, 0.9))


@dataclass(frozen=True)
class StoredVisit:
    """A visit in the database and the archive."""

    patient_key: str
    study_uid: str
    series_uid: str
    result_id: str
    lesions: LesionMap
    segmentation: Dataset


def put_visit(engine: Engine, archive: FakeArchive, lesions: int = 3) -> StoredVisit:
    """Store and record a visit of `lesions` lesions."""
    found = seg_sources.lesions_on(GRID, lesions)
    images = [_with_pixels(image, n, found) for n, image in _numbered()]
    archive.put(images)
    series_uid = str(images[0].SeriesInstanceUID)
    study_uid = str(images[0].StudyInstanceUID)
    names = identify(series_uid, seg_sources.MODEL, seg_sources.PARAMETERS, lesions)
    segmentation = build_segmentation(
        images, found, seg_sources.MODEL, names, seg_sources.PARAMETERS
    )
    archive.put([segmentation])
    records = tuple(
        _record(lesion, str(images[lesion.slice_index].SOPInstanceUID))
        for lesion in found.lesions
    )
    with transaction(engine) as session:
        upsert_study(
            session,
            Patient(PATIENT_ID, name=NAME, birth_date=BIRTH_DATE, sex="F"),
            Study(study_uid, study_date=STUDY_DATE, description=f"Head of {NAME}"),
            Series(series_uid, 5, "MR", "T1 +GD", len(images)),
        )
        result_id = record_result(
            session,
            make_record(
                series_uid=series_uid,
                segmentation_series_uid=names.series_uid,
                segmentation_sop_uid=names.sop_instance_uid,
                lesions=records,
                spacing_mm=(1.5, 0.9, 0.9),
                slice_thickness_mm=1.5,
            ),
        )
        key = key_of_study(session, study_uid)
        tracks = [
            TrackRecord(new_track_id(), generate_uid(), f"M{n}")
            for n in range(1, lesions + 1)
        ]
        members = [
            Member(study_uid, record.finding_uid, track.id, "first")
            for track, record in zip(tracks, records, strict=True)
        ]
        save_tracks(session, key, tracks, members)
    return StoredVisit(key, study_uid, series_uid, result_id, found, segmentation)


def _numbered() -> list[tuple[int, Dataset]]:
    return list(enumerate(seg_sources.classic_series(GRID)))


def _with_pixels(image: Dataset, index: int, found: LesionMap) -> Dataset:
    plane = np.where(found.labels.array[index] > 0, 900, 100)
    plane[0, 0] = index
    image.PatientName, image.PatientID = NAME, PATIENT_ID
    image.PatientBirthDate, image.StudyDate = BIRTH_DATE, STUDY_DATE
    image.InstanceNumber = index + 1
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.PixelData = plane.astype("<u2").tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def _record(lesion: Lesion, sop_instance_uid: str) -> LesionRecord:
    tracking_uid = generate_uid()
    return replace(
        make_lesion(lesion.number),
        tracking_uid=tracking_uid,
        finding_uid=tracking_uid,
        volume_ml=lesion.volume_ml,
        voxel_count=lesion.voxel_count,
        longest_diameter_mm=max(lesion.longest_diameter_mm, 0.1),
        perpendicular_diameter_mm=lesion.perpendicular_diameter_mm,
        long_axis_mm=lesion.long_axis_mm,
        short_axis_mm=lesion.short_axis_mm,
        centroid_mm=lesion.centroid_mm,
        slice_index=lesion.slice_index,
        slice_count=lesion.slice_count,
        sop_instance_uid=sop_instance_uid,
        measurable=lesion.longest_diameter_mm >= 5,
        warnings=(),
    )
