"""Small MR series made here, as sources of segmentations; no pixels needed."""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage, generate_uid

from segmentation.lesions import LesionMap, find_lesions
from segmentation.models.predictor import ModelIdentity

MODEL = ModelIdentity("unetr-brainmets", "0.1.0", "0123456789abcdef" * 4, False)
PARAMETERS = {"threshold": 0.5, "window": [96, 96, 96], "overlap": 0.5}
AXIAL = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
SAGITTAL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def oblique(degrees: float) -> np.ndarray:
    """Axial slices turned about two axes of the patient."""
    angle = np.radians(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    about_x = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    about_z = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    return about_z @ about_x @ AXIAL


def grid(
    shape: tuple[int, int, int],
    spacing_mm: Sequence[float] = (1.2, 0.9, 0.9),
    axes: np.ndarray = AXIAL,
) -> hd.VolumeGeometry:
    """Return a grid whose values survive a DICOM decimal string."""
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing_mm
    affine[:3, 3] = (-91.5, -103.25, -60.125)
    return hd.VolumeGeometry(
        affine, shape, "PATIENT", frame_of_reference_uid=generate_uid()
    )


def lesions_on(geometry: hd.VolumeGeometry, count: int = 4) -> LesionMap:
    """Draw boxes of falling size, one of them a single voxel at the border."""
    values = np.zeros(geometry.spatial_shape, np.float32)
    slices, rows, columns = geometry.spatial_shape
    random = np.random.default_rng(1)
    for k in range(count - 1):
        corner = (
            1 + 3 * k % (slices - 4),
            4 + 13 * k % (rows - 14),
            4 + 29 * k % (columns - 14),
        )
        box = tuple(
            slice(a, a + n) for a, n in zip(corner, (3, 9 - k % 4, 8), strict=True)
        )
        values[box] = 1.0 - 0.4 * random.random(values[box].shape)
    values[slices - 1, rows - 1, columns - 1] = 0.7
    found = find_lesions(
        geometry.with_array(values), threshold=0.5, minimum_volume_mm3=0.0
    )
    assert len(found.lesions) == count
    return found


def _study(image: Dataset) -> None:
    image.PatientID = "SEG-0001"
    image.PatientName = "Phantom^Segmentation"
    image.PatientBirthDate = "19700101"
    image.PatientSex = "O"
    image.StudyID = "1"
    image.StudyDate = "20250102"
    image.StudyTime = "101112"
    image.AccessionNumber = "A1"
    image.ReferringPhysicianName = "Nobody^Special"
    image.StudyDescription = "Head"
    image.PatientAge = "055Y"
    image.SeriesNumber = 5
    image.Modality = "MR"
    image.SpecificCharacterSet = "ISO_IR 192"


def _decimals(values: Sequence[float] | np.ndarray) -> list[str]:
    return [f"{float(value):.10g}"[:16] for value in values]


def _position(geometry: hd.VolumeGeometry, index: int) -> list[str]:
    corner = np.array([[index, 0, 0]])
    return _decimals(geometry.map_indices_to_reference(corner)[0])


def classic_series(geometry: hd.VolumeGeometry) -> list[Dataset]:
    """Return one MR image a slice, in order of axis 0."""
    study_uid, series_uid = generate_uid(), generate_uid()
    images = []
    for index in range(geometry.spatial_shape[0]):
        image = Dataset()
        _study(image)
        image.SOPClassUID = MRImageStorage
        image.SOPInstanceUID = generate_uid()
        image.StudyInstanceUID = study_uid
        image.SeriesInstanceUID = series_uid
        image.FrameOfReferenceUID = geometry.frame_of_reference_uid
        image.Rows, image.Columns = geometry.spatial_shape[1:]
        image.ImagePositionPatient = _position(geometry, index)
        image.ImageOrientationPatient = _decimals(geometry.direction_cosines)
        image.PixelSpacing = _decimals(geometry.pixel_spacing)
        image.SliceThickness = _decimals([geometry.spacing_between_slices])[0]
        images.append(image)
    return images


def enhanced_image(
    geometry: hd.VolumeGeometry, order: Sequence[int] | None = None
) -> Dataset:
    """Return an Enhanced MR whose frames lie in `order` of the slices.

    As scanners write it: orientation and spacing stand in each frame, not in the shared
    groups.
    """
    image = Dataset()
    _study(image)
    image.SOPClassUID = EnhancedMRImageStorage
    image.SOPInstanceUID = generate_uid()
    image.StudyInstanceUID = generate_uid()
    image.SeriesInstanceUID = generate_uid()
    image.FrameOfReferenceUID = geometry.frame_of_reference_uid
    image.Rows, image.Columns = geometry.spatial_shape[1:]
    frames = []
    for index in order or range(geometry.spatial_shape[0]):
        position, orientation, measures = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = _position(geometry, index)
        orientation.ImageOrientationPatient = _decimals(geometry.direction_cosines)
        measures.PixelSpacing = _decimals(geometry.pixel_spacing)
        measures.SliceThickness = _decimals([geometry.spacing_between_slices])[0]
        frame = Dataset()
        frame.PlanePositionSequence = [position]
        frame.PlaneOrientationSequence = [orientation]
        frame.PixelMeasuresSequence = [measures]
        frames.append(frame)
    image.SharedFunctionalGroupsSequence = [Dataset()]
    image.PerFrameFunctionalGroupsSequence = frames
    image.NumberOfFrames = len(frames)
    return image
