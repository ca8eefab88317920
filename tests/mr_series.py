"""Small MR series made in memory, for the tests of reading volumes.

Every series is a smooth random pattern on a grid given by its affine, so that each
voxel's place is known. No real data; all identifiers are made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

MR_CLASS = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_CLASS = "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ROOT = "1.2.826.0.1.3680043.8.498.77"


def normal_of(orientation: Sequence[float]) -> np.ndarray:
    return np.cross(orientation[:3], orientation[3:])


def stored_values(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, shape).astype(np.int64)


def mr_series(
    slices: int = 5,
    *,
    rows: int = 8,
    columns: int = 6,
    spacing: tuple[float, float, float] = (2.0, 1.0, 0.5),
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-10.0, 20.0, 30.0),
    values: np.ndarray | None = None,
    signed: bool = False,
    bits_stored: int = 16,
    bits_allocated: int = 16,
    **attributes: Any,
) -> list[Dataset]:
    """Classic single-frame MR images; slice k lies k distances along the normal."""
    if values is None:
        values = stored_values((slices, rows, columns))
    normal = normal_of(orientation)
    dtype = f"<{'i' if signed else 'u'}{bits_allocated // 8}"
    series = []
    for index in range(slices):
        image = _image(f"{ROOT}.3.{index + 1}", MR_CLASS)
        image.InstanceNumber = index + 1
        image.ImageOrientationPatient = [f"{value:.10g}" for value in orientation]
        position = np.asarray(origin) + index * spacing[0] * normal
        image.ImagePositionPatient = [f"{value:.10g}" for value in position]
        image.PixelSpacing = [f"{value:.10g}" for value in spacing[1:]]
        image.SliceThickness = f"{spacing[0]:.10g}"
        _format(image, rows, columns, signed, bits_stored, bits_allocated)
        image.PixelData = values[index].astype(dtype).tobytes()
        for keyword, value in attributes.items():
            setattr(image, keyword, value)
        series.append(image)
    return series


def enhanced_image(classic: Sequence[Dataset], order: Sequence[int]) -> Dataset:
    """The same slices as one Enhanced MR object, in any frame order."""
    first = classic[0]
    image = _image(f"{ROOT}.4.1", ENHANCED_CLASS)
    image.InstanceNumber = 1
    image.SeriesDescription = first.SeriesDescription
    image.NumberOfFrames = len(order)
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
                    "PixelRepresentation", "SamplesPerPixel",
                    "PhotometricInterpretation"):  # fmt: skip
        setattr(image, keyword, first[keyword].value)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = first.PixelSpacing
    measures.SliceThickness = first.SliceThickness
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    image.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for index in order:
        group, position, content, rescale = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = classic[index].ImagePositionPatient
        content.StackID = "1"
        content.TemporalPositionIndex = 1
        rescale.RescaleSlope = classic[index].get("RescaleSlope", 1)
        rescale.RescaleIntercept = classic[index].get("RescaleIntercept", 0)
        group.PlanePositionSequence = [position]
        group.FrameContentSequence = [content]
        group.PixelValueTransformationSequence = [rescale]
        groups.append(group)
    image.PerFrameFunctionalGroupsSequence = groups
    image.PixelData = b"".join(classic[index].PixelData for index in order)
    return image


def _image(sop_instance_uid: str, sop_class_uid: str) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SpecificCharacterSet = "ISO_IR 100"
    image.SOPClassUID = sop_class_uid
    image.SOPInstanceUID = sop_instance_uid
    image.StudyInstanceUID = f"{ROOT}.1"
    image.SeriesInstanceUID = f"{ROOT}.2"
    image.FrameOfReferenceUID = f"{ROOT}.5"
    image.Modality = "MR"
    image.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    image.SeriesDescription = "T1 GADO"
    image.BodyPartExamined = "BRAIN"
    image.PatientName = "Phantom^Test"
    image.PatientID = "PHANTOM"
    image.PatientBirthDate = ""
    image.PatientSex = "O"
    image.StudyDate = "20200101"
    image.StudyTime = "120000"
    image.StudyID = "1"
    image.AccessionNumber = ""
    image.ReferringPhysicianName = ""
    return image


def _format(
    image: Dataset, rows: int, columns: int, signed: bool, stored: int, allocated: int
) -> None:
    image.Rows = rows
    image.Columns = columns
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated = allocated
    image.BitsStored = stored
    image.HighBit = stored - 1
    image.PixelRepresentation = int(signed)
