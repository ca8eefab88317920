"""RT Structure Sets of the lesions: one GTV a lesion, outlined on the source slices.

``build_rtstruct`` promises: outlines half-way between voxel centres on exactly the
planes of the source images; filling them gives the same voxels again; holes joined by a
channel without width (CLOSED_PLANAR knows no other holes); status UNAPPROVED; patient
and study of the source in UTF-8; valid by dciodvfy; every UID derived from the content.
Written by pydicom alone. Pure and safe between threads; called by
``segmentation.exports`` and tests. Volumes have axes (slice, row, column), LPS affines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage
from scipy import ndimage

from orthanc.volume import LoadedSeries, SliceReference
from segmentation.dicom import codes
from segmentation.dicom.contours import Points, outline
from segmentation.dicom.source_planes import patient_and_study
from segmentation.dicom.uids import derive_uid
from settings import RESEARCH_NOTICE, VERSION

AlgorithmType = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]

_SERIES_NUMBERS_FROM = 9200
_SHORT, _LONG, _SHORT_TEXT = 16, 64, 1024
_PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "OtherPatientIDs",
    "EthnicGroup",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


@dataclass(frozen=True)
class Structure:
    """One lesion, as it is to be outlined.

    Attributes
    ----------
    number : int
        Its value in the labels, from 1; also the ROI number.
    name : str
        Shown as the name of the ROI; cut to 64 characters.
    tracking_uid : str
        The same for one lesion over all visits; written into the ROI's description.
    colour : tuple of int
        RGB, 0 to 255.
    algorithm_type : str
        How the outline came about.
    """

    number: int
    name: str
    tracking_uid: str
    colour: tuple[int, int, int]
    algorithm_type: AlgorithmType


def build_rtstruct(
    source: LoadedSeries,
    labels: NDArray[np.uint16],
    structures: Sequence[Structure],
    *,
    origin: str,
) -> Dataset:
    """Build the structure set of one result.

    Parameters
    ----------
    source : LoadedSeries
        The series the lesions lie on; pixels are not needed.
    labels : numpy.ndarray
        uint16, axes (slice, row, column) of ``source.volume``: number of the structure,
        or 0. Other numbers are left out.
    structures : Sequence of Structure
        At least one; each has a voxel.
    origin : str
        What made the outlines, for people ("unetr-brainmets 0.1.0", "reader"); free of
        patient data.

    Returns
    -------
    pydicom.dataset.Dataset
        With file meta information. Implicit VR: the coordinates of a long outline do
        not fit the 64 kB of an explicit DS.

    Raises
    ------
    ValueError
        If there is no structure, one has no voxel, or the labels are of another shape.
    """
    if not structures:
        raise ValueError("no lesion, so there is nothing to outline")
    if labels.shape != tuple(source.volume.spatial_shape):
        raise ValueError("the labels are not on the grid of the source")
    boxes = ndimage.find_objects(labels)
    wanted = [one.number for one in structures]
    if len(set(wanted)) != len(wanted) or not all(
        0 < number <= len(boxes) and boxes[number - 1] for number in wanted
    ):
        raise ValueError("each structure must have a number and voxels of its own")
    digest = _digest(source, labels, structures, origin)
    dataset = _header(source, digest)
    _add_structure_set(dataset, source, structures, origin)
    dataset.ROIContourSequence = []
    for roi, one in zip(dataset.StructureSetROISequence, structures, strict=True):
        box = boxes[one.number - 1]
        mask = labels[box] == one.number
        millilitres = np.count_nonzero(mask) * source.volume.voxel_volume / 1000.0
        roi.ROIVolume = f"{millilitres:.6g}"
        corner = [int(side.start) for side in box]
        dataset.ROIContourSequence.append(_contours_of(one, mask, corner, source))
    dataset.RTROIObservationsSequence = [_observation(one) for one in structures]
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _digest(
    source: LoadedSeries,
    labels: NDArray[np.uint16],
    structures: Sequence[Structure],
    origin: str,
) -> str:
    """Return a text that changes with everything that is written."""
    content = hashlib.sha256(np.ascontiguousarray(labels, "<u2").tobytes())
    described = [asdict(one) for one in structures]
    slices = [one.sop_instance_uid for one in source.slices]
    affine = np.round(source.volume.affine, 4).tolist()
    parts = [described, slices, affine, origin, VERSION]
    content.update(json.dumps(parts, sort_keys=True).encode())
    return content.hexdigest()


def _header(source: LoadedSeries, digest: str) -> Dataset:
    """Write patient, study, series, equipment, frame of reference and SOP common."""
    first = source.source_images[0]
    known = patient_and_study(first)
    dataset = Dataset()
    for keyword in _PATIENT_AND_STUDY:
        if keyword in known:
            dataset.add(known[keyword])
    for keyword in _TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    now = datetime.now().astimezone()
    series_uid = str(first.SeriesInstanceUID)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = derive_uid("rtstruct-instance", series_uid, digest)
    dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID = derive_uid("rtstruct-series", series_uid, digest)
    source_number = int(first.get("SeriesNumber") or 0)
    dataset.SeriesNumber = _SERIES_NUMBERS_FROM + max(min(source_number, 1_000_000), 0)
    dataset.InstanceNumber = 1
    dataset.SeriesDescription = "MetIA outlines, research use only"
    dataset.OperatorsName = ""
    dataset.Manufacturer = "MetIA"
    dataset.ManufacturerModelName = "MetIA"
    dataset.SoftwareVersions = VERSION
    dataset.FrameOfReferenceUID = source.volume.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.StructureSetDate = now.strftime("%Y%m%d")
    dataset.StructureSetTime = now.strftime("%H%M%S")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def _add_structure_set(
    dataset: Dataset,
    source: LoadedSeries,
    structures: Sequence[Structure],
    origin: str,
) -> None:
    dataset.StructureSetLabel = "METASTASES"
    dataset.StructureSetName = "Brain metastases"
    dataset.StructureSetDescription = (
        f"{RESEARCH_NOTICE} Not approved. Holes are joined to their outline by a "
        "channel without width (keyhole)."
    )
    series, study, frame = Dataset(), Dataset(), Dataset()
    first = source.source_images[0]
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_reference(one) for one in source.source_images]
    # Retired as a class, but Type 1 here and what every reader expects.
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = source.volume.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence = [
        _roi(one, dataset.FrameOfReferenceUID, origin) for one in structures
    ]


def _reference(image: Dataset, frame_number: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = image.SOPClassUID
    item.ReferencedSOPInstanceUID = image.SOPInstanceUID
    if frame_number is not None:
        item.ReferencedFrameNumber = frame_number
    return item


def _roi(structure: Structure, frame_of_reference_uid: str, origin: str) -> Dataset:
    item = Dataset()
    item.ROINumber = structure.number
    item.ReferencedFrameOfReferenceUID = frame_of_reference_uid
    item.ROIName = _text(structure.name, _LONG) or f"Lesion {structure.number}"
    item.ROIDescription = _text(
        f"Tracking UID {structure.tracking_uid}. {RESEARCH_NOTICE}", _SHORT_TEXT
    )
    item.ROIGenerationAlgorithm = structure.algorithm_type
    item.ROIGenerationDescription = _text(origin, _LONG)
    return item


def _text(text: str, longest: int) -> str:
    """Make `text` one line without backslashes, and not too long."""
    return " ".join(text.replace("\\", "/").split())[:longest].rstrip()


def _contours_of(
    structure: Structure,
    mask: NDArray[np.bool_],
    corner: Sequence[int],
    source: LoadedSeries,
) -> Dataset:
    """Outline a mask whose first voxel lies at the index `corner` of the grid."""
    first, *within = corner
    contours: list[Dataset] = []
    for index, plane in enumerate(mask, first):
        image = source.source_images[index if len(source.source_images) > 1 else 0]
        for polygon in outline(plane):
            points_mm = _to_mm(polygon + within, index, source.volume)
            contours.append(_contour(points_mm, image, source.slices[index]))
    for number, contour in enumerate(contours, 1):
        contour.ContourNumber = number
    item = Dataset()
    item.ROIDisplayColor = list(structure.colour)
    item.ContourSequence = contours
    item.ReferencedROINumber = structure.number
    return item


def _to_mm(
    polygon: Points, index: int, grid: hd.Volume | hd.VolumeGeometry
) -> NDArray[np.float64]:
    indices = np.insert(polygon, 0, index, axis=1)
    points_mm: NDArray[np.float64] = grid.map_indices_to_reference(indices)
    return points_mm


def _contour(
    points_mm: NDArray[np.float64], image: Dataset, slice_: SliceReference
) -> Dataset:
    item = Dataset()
    item.ContourImageSequence = [_reference(image, slice_.frame_number)]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(points_mm)
    # A tenth of a micrometre; adding zero makes "-0.0000" positive.
    rounded = points_mm.ravel().round(4) + 0.0
    item.ContourData = [f"{value:.4f}" for value in rounded.tolist()]
    return item


def _observation(structure: Structure) -> Dataset:
    item = Dataset()
    item.ObservationNumber = structure.number
    item.ReferencedROINumber = structure.number
    item.ROIObservationLabel = _text(structure.name, _SHORT)
    item.RTROIIdentificationCodeSequence = [_code(codes.METASTASIS)]
    item.RTROIInterpretedType = "GTV"
    item.ROIInterpreter = ""
    return item


def _code(concept: Code) -> Dataset:
    item = Dataset()
    item.CodeValue = concept.value
    item.CodingSchemeDesignator = concept.scheme_designator
    item.CodeMeaning = concept.meaning
    return item
