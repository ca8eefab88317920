"""A phantom as classic MR Image Storage, one dataset a slice.

``dicom_series`` gives the datasets, ``write_dicom_series`` also writes them. They pass
dciodvfy without an error, name a patient who is plainly synthetic, and carry UIDs that
follow from the voxels, so that the same head is always the same series. No network,
no clock. Safe from any thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from segmentation.dicom.uids import derive_uid
from segmentation.phantoms.geometry import Grid, Plane, Pose
from segmentation.phantoms.head import Head, make_head

PATIENT_ID = "METIA-PHANTOM-1"
PATIENT_NAME = "Phantom^Synthetic"


@dataclass(frozen=True)
class Visit:
    """The study that the series of one visit share.

    Attributes
    ----------
    key : str
        The study's UID and frame of reference follow from it.
    date : str
        YYYYMMDD.
    """

    key: str = "phantom"
    date: str = "20250110"
    time: str = "101500"
    description: str = "MR BRAIN WITH AND WITHOUT CONTRAST"
    patient_id: str = PATIENT_ID
    patient_name: str = PATIENT_NAME

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return derive_uid("phantom-study", self.patient_id, self.key)

    @property
    def frame_of_reference_uid(self) -> str:
        """Frame of Reference UID: one a visit, for the patient is moved between."""
        return derive_uid("phantom-frame", self.patient_id, self.key)


@dataclass(frozen=True)
class Protocol:
    """What a scanner writes of one pulse sequence."""

    description: str
    scanning: tuple[str, ...]
    variant: tuple[str, ...]
    acquisition: str
    repetition_ms: float
    echo_ms: float
    inversion_ms: float | None
    flip_deg: float


PROTOCOLS: dict[str, Protocol] = {
    "T1-post": Protocol(
        "T1 MPRAGE AX +C", ("GR", "IR"), ("SP", "MP"), "3D", 1900, 2.5, 900, 9
    ),
    "T1-pre": Protocol("T1 SE AX", ("SE",), ("SK",), "2D", 500, 12, None, 90),
    "T2": Protocol("T2 TSE AX", ("SE",), ("SK",), "2D", 5200, 95, None, 150),
}


def dicom_series(
    head: Head,
    *,
    visit: Visit | None = None,
    series_number: int = 5,
    description: str | None = None,
    contrast_tags: bool | None = None,
    slice_thickness_mm: float | None = None,
) -> list[Dataset]:
    """Turn a head into MR images, in the order of its slices.

    Parameters
    ----------
    description : str, optional
        Series Description (default: that of the head's contrast).
    contrast_tags : bool, optional
        Whether to fill Contrast/Bolus Agent (default: for post-contrast heads). Many
        real series leave it empty.
    slice_thickness_mm : float, optional
        Default: the distance of the slices (no gap).

    Returns
    -------
    list of Dataset
        With file meta, pixel data and 12 bits stored.
    """
    visit = visit or Visit()
    protocol = PROTOCOLS[head.contrast]
    if contrast_tags is None:
        contrast_tags = head.contrast == "T1-post"
    pixels = head.volume.array.astype("<u2")
    affine = head.volume.affine
    digest = hashlib.sha256(pixels.tobytes() + affine.astype("<f8").tobytes())
    series_uid = derive_uid(
        "phantom-series", visit.study_uid, str(series_number), digest.hexdigest()
    )
    images = []
    for index, plane in enumerate(pixels):
        image = _new_image(visit, series_uid, f"{series_uid}/{index}")
        _add_study(image, visit)
        _add_protocol(image, protocol, contrast_tags)
        image.SeriesNumber = series_number
        image.SeriesDescription = description or protocol.description
        image.ProtocolName = description or protocol.description
        image.InstanceNumber = index + 1
        _add_geometry(image, affine, index, slice_thickness_mm)
        _add_pixels(image, plane)
        images.append(image)
    return images


def localizer_series(
    visit: Visit | None = None, *, seed: int = 0, pose: Pose | None = None
) -> list[Dataset]:
    """Make the scout: three thick slices in each of three planes, one series."""
    visit = visit or Visit()
    planes: tuple[Plane, ...] = ("axial", "sagittal", "coronal")
    images: list[Dataset] = []
    for plane in planes:
        grid = Grid((3, 128, 128), (20.0, 2.0, 2.0), plane)
        head = make_head(grid, pose=pose, contrast="T1-pre", seed=seed)
        images += dicom_series(
            head,
            visit=visit,
            series_number=1,
            description="LOCALIZER 3 PLANE",
            slice_thickness_mm=8.0,
        )
    series_uid = derive_uid(
        "phantom-localizer", visit.study_uid, images[0].SeriesInstanceUID
    )
    for number, image in enumerate(images, 1):
        image.SeriesInstanceUID = series_uid
        image.InstanceNumber = number
    return images


def write_dicom_series(
    folder: Path,
    head: Head,
    *,
    visit: Visit | None = None,
    series_number: int = 5,
    description: str | None = None,
    contrast_tags: bool | None = None,
) -> list[Path]:
    """Write a head as one DICOM file a slice; see ``dicom_series``."""
    images = dicom_series(
        head,
        visit=visit,
        series_number=series_number,
        description=description,
        contrast_tags=contrast_tags,
    )
    return write_images(folder, images)


def write_images(folder: Path, images: Iterable[Dataset]) -> list[Path]:
    """Write datasets as ``0001.dcm``, ``0002.dcm`` ... into a folder made for them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, image in enumerate(images, 1):
        path = folder / f"{number:04d}.dcm"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _new_image(visit: Visit, series_uid: str, key: str) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(derive_uid("phantom-image", key))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = Dataset()
    image.file_meta = meta
    image.SpecificCharacterSet = "ISO_IR 192"
    image.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    image.SOPClassUID = MRImageStorage
    image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    image.StudyInstanceUID = visit.study_uid
    image.SeriesInstanceUID = series_uid
    image.FrameOfReferenceUID = visit.frame_of_reference_uid
    return image


def _add_study(image: Dataset, visit: Visit) -> None:
    for group in ("Study", "Series", "Acquisition", "Content"):
        setattr(image, f"{group}Date", visit.date)
        setattr(image, f"{group}Time", visit.time)
    image.AccessionNumber = f"P{visit.date}"
    image.Modality = "MR"
    image.Manufacturer = "MetIA phantom"
    image.ManufacturerModelName = "Analytic head"
    image.SoftwareVersions = "1"
    image.ReferringPhysicianName = ""
    image.StudyDescription = visit.description
    image.PatientName = visit.patient_name
    image.PatientID = visit.patient_id
    image.PatientBirthDate = ""
    image.PatientSex = "O"
    image.PatientComments = "Computed image. Not a person."
    image.StudyID = "1"
    image.BodyPartExamined = "HEAD"
    image.PatientPosition = "HFS"
    image.PositionReferenceIndicator = ""
    image.BurnedInAnnotation = "NO"


def _add_protocol(image: Dataset, protocol: Protocol, contrast_tags: bool) -> None:
    image.ScanningSequence = list(protocol.scanning)
    image.SequenceVariant = list(protocol.variant)
    image.ScanOptions = "FS"
    image.MRAcquisitionType = protocol.acquisition
    image.RepetitionTime = format_number_as_ds(float(protocol.repetition_ms))
    image.EchoTime = format_number_as_ds(float(protocol.echo_ms))
    if protocol.inversion_ms is not None:
        image.InversionTime = format_number_as_ds(float(protocol.inversion_ms))
    image.FlipAngle = format_number_as_ds(float(protocol.flip_deg))
    image.EchoTrainLength = 1
    image.MagneticFieldStrength = "3"
    image.AcquisitionNumber = 1
    if contrast_tags:
        image.ContrastBolusAgent = "Gadolinium"


def _add_geometry(
    image: Dataset, affine: np.ndarray, index: int, thickness_mm: float | None
) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    row, column = affine[:3, 1] / spacing[1], affine[:3, 2] / spacing[2]
    position = affine[:3, 3] + index * affine[:3, 0]
    image.ImagePositionPatient = _decimals(position)
    image.ImageOrientationPatient = _decimals([*column, *row])
    image.PixelSpacing = _decimals(spacing[1:])
    image.SliceThickness = _decimals([thickness_mm or spacing[0]])[0]
    image.SpacingBetweenSlices = _decimals([spacing[0]])[0]
    image.SliceLocation = _decimals([position @ affine[:3, 0] / spacing[0]])[0]


def _decimals(values: Sequence[float] | np.ndarray) -> list[str]:
    # Adding 0 turns -0.0 into 0.0.
    return [format_number_as_ds(round(float(value), 12) + 0.0) for value in values]


def _add_pixels(image: Dataset, plane: np.ndarray) -> None:
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = plane.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    image.WindowCenter, image.WindowWidth = "400", "900"
    image.PixelData = plane.tobytes()
