"""Tiny DICOM series made on the spot, for tests that need bytes and not anatomy.

Every call makes fresh UIDs, so tests can share an archive. Axes (slice, row, column).
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid


def make_image(
    study_uid: str,
    series_uid: str,
    number: int,
    *,
    side: int = 16,
    **attributes: object,
) -> Dataset:
    """Return one MR image of `side` x `side` random pixels; keywords set attributes."""
    image = Dataset()
    image.SOPClassUID = MRImageStorage
    image.SOPInstanceUID = generate_uid()
    image.StudyInstanceUID = study_uid
    image.SeriesInstanceUID = series_uid
    image.PatientID = "TEST"
    image.PatientName = "Test^Person"
    image.StudyDate = "20200101"
    image.Modality = "MR"
    image.SeriesNumber = 1
    image.InstanceNumber = number
    image.ImagePositionPatient = [0.0, 0.0, float(number)]
    image.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    image.PixelSpacing = [1.0, 1.0]
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows = image.Columns = side
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit = 15
    image.PixelRepresentation = 0
    pixels = np.random.default_rng(number).integers(0, 4096, (side, side))
    image.PixelData = pixels.astype("<u2").tobytes()
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def make_series(
    count: int, *, study_uid: str | None = None, side: int = 16, **attributes: object
) -> list[Dataset]:
    """Return `count` images of one series, numbered from 1."""
    study_uid = study_uid or generate_uid()
    series_uid = generate_uid()
    return [
        make_image(study_uid, series_uid, number, side=side, **attributes)
        for number in range(1, count + 1)
    ]
