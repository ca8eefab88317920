"""The synthetic studies the browser tests look at; every one is a study of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian

from segmentation.dicom.uids import derive_uid
from segmentation.phantoms import (
    Grid,
    LesionSpec,
    Pose,
    Visit,
    dicom_series,
    localizer_series,
    make_head,
    random_lesions,
)

_FIELD_MM = 240.0
_SLICE_MM = 3.0


@dataclass(frozen=True)
class Study:
    """One study and the series in it that is to be segmented."""

    key: str
    make: Callable[[Study], list[Dataset]]
    date: str = "20250110"
    patient: str = ""
    """Several studies of one patient name it; otherwise each has one of its own."""

    @property
    def visit(self) -> Visit:
        patient = (self.patient or self.key).upper()
        return Visit(
            key=f"browser-{self.key}",
            date=self.date,
            description=f"BRAIN {self.key.upper()}",
            patient_id=f"METIA-{patient}",
            patient_name=f"Phantom^{patient.title()}",
        )

    @property
    def uid(self) -> str:
        return self.visit.study_uid

    @cached_property
    def images(self) -> list[Dataset]:
        """Every image of the study."""
        return self.make(self)

    def series(self, number: int) -> list[Dataset]:
        return [image for image in self.images if image.SeriesNumber == number]


def _head(study: Study, rows: int, columns: int, **options: object) -> list[Dataset]:
    slices = int(options.pop("slices", 64))  # type: ignore[call-overload]
    grid = Grid(
        (slices, rows, columns), (_SLICE_MM, _FIELD_MM / rows, _FIELD_MM / columns)
    )
    count = int(options.pop("lesions", 3))  # type: ignore[call-overload]
    number = int(options.pop("series_number", 5))  # type: ignore[call-overload]
    head = make_head(grid, random_lesions(7, count, (7.0, 16.0)), seed=7, **options)  # type: ignore[arg-type]
    return dicom_series(head, visit=study.visit, series_number=number)


def _square(study: Study) -> list[Dataset]:
    plain = _head(study, 128, 128, contrast="T1-pre", series_number=3, slices=48)
    return [*localizer_series(study.visit), *plain, *_head(study, 256, 256)]


def _odd(study: Study) -> list[Dataset]:
    return _head(study, 230, 213)


def _queue(study: Study) -> list[Dataset]:
    return _head(study, 128, 128)


def _nothing(study: Study) -> list[Dataset]:
    return _head(study, 128, 128, lesions=0)


def _gap(study: Study) -> list[Dataset]:
    images = _head(study, 128, 128)
    return images[:30] + images[31:]


def _unsuitable(study: Study) -> list[Dataset]:
    t2 = _head(study, 128, 128, contrast="T2", series_number=4, slices=48)
    return [*localizer_series(study.visit), *t2]


def _enhanced(study: Study) -> list[Dataset]:
    # Frames against the slices' order: the viewer must not rely on either.
    return [enhanced_from(_head(study, 128, 128)[::-1])]


def _ball(centre_mm: tuple[float, float, float], diameter_mm: float) -> LesionSpec:
    return LesionSpec.ball(centre_mm, diameter_mm)


_LEFT, _RIGHT = (30.0, -20.0, 20.0), (-32.0, 10.0, 25.0)
_BACK, _LATE = (25.0, 45.0, 15.0), (-28.0, -35.0, 30.0)
# One lesion shrinks, one grows, one is gone at the second visit, one is new there.
COURSE_LESIONS = (
    (_ball(_LEFT, 18), _ball(_RIGHT, 12), _ball(_BACK, 9)),
    (_ball(_LEFT, 12), _ball(_RIGHT, 15), _ball(_LATE, 11)),
    (_ball(_LEFT, 10), _ball(_RIGHT, 20), _ball(_LATE, 13)),
)
# The head lies otherwise at each visit.
COURSE_POSES = (
    Pose(),
    Pose(rotation_deg=(6.0, -3.0, 8.0), shift_mm=(6.0, -5.0, 4.0)),
    Pose(rotation_deg=(-3.0, 2.0, -5.0), shift_mm=(-4.0, 3.0, -2.0)),
)
COURSE_GRID = Grid((80, 128, 128), (2.4, 1.875, 1.875))


def _course(number: int) -> Callable[[Study], list[Dataset]]:
    def make(study: Study) -> list[Dataset]:
        head = make_head(
            COURSE_GRID, COURSE_LESIONS[number], pose=COURSE_POSES[number], seed=7
        )
        return dicom_series(head, visit=study.visit)

    return make


SQUARE = Study("square", _square)
ODD = Study("odd", _odd)
QUEUE = Study("queue", _queue)
NOTHING = Study("nothing", _nothing)
GAP = Study("gap", _gap)
UNSUITABLE = Study("unsuitable", _unsuitable)
ENHANCED = Study("enhanced", _enhanced)
CORRECTED = Study("corrected", _queue)
SHARED = Study("shared", _queue)
LEFT = Study("left", _queue)
RENAMED = Study("renamed", _odd)
TWO_MODELS = Study("two models", _queue)
COURSE = tuple(
    Study(f"course{number + 1}", _course(number), date, "course")
    for number, date in enumerate(("20250110", "20250321", "20250530"))
)
ALL = (
    SQUARE,
    ODD,
    QUEUE,
    NOTHING,
    GAP,
    UNSUITABLE,
    ENHANCED,
    CORRECTED,
    SHARED,
    LEFT,
    RENAMED,
    TWO_MODELS,
    *COURSE,
)


def enhanced_from(classic: Sequence[Dataset]) -> Dataset:
    """Put classic images into one Enhanced MR object, frame after frame."""
    first = classic[0]
    image = Dataset()
    image.update(
        {e.tag: e for e in first if e.tag.group in {0x8, 0x10, 0x18, 0x20, 0x28}}
    )
    for keyword in (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
        "SliceThickness", "SpacingBetweenSlices", "SliceLocation", "WindowCenter",
        "WindowWidth", "InstanceNumber",
    ):  # fmt: skip
        if keyword in image:
            delattr(image, keyword)
    uid = UID(derive_uid("enhanced", first.SOPInstanceUID))
    image.SOPClassUID, image.SOPInstanceUID = EnhancedMRImageStorage, uid
    image.SeriesInstanceUID = derive_uid("enhanced-series", first.SeriesInstanceUID)
    image.InstanceNumber = 1
    image.NumberOfFrames = len(classic)
    shared, measures, plane, window, values = (Dataset() for _ in range(5))
    measures.PixelSpacing = first.PixelSpacing
    measures.SliceThickness = first.SliceThickness
    measures.SpacingBetweenSlices = first.SpacingBetweenSlices
    plane.ImageOrientationPatient = first.ImageOrientationPatient
    window.WindowCenter, window.WindowWidth = first.WindowCenter, first.WindowWidth
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = "1", "0", "US"
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [plane]
    shared.FrameVOILUTSequence = [window]
    shared.PixelValueTransformationSequence = [values]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [
        _frame(one, number) for number, one in enumerate(classic, 1)
    ]
    pixels = np.stack([one.pixel_array for one in classic])
    image.PixelData = pixels.astype("<u2").tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = uid
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def _frame(classic: Dataset, number: int) -> Dataset:
    frame, position, content = Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = classic.ImagePositionPatient
    content.StackID = "1"
    content.InStackPositionNumber = number
    content.DimensionIndexValues = [1, number]
    frame.PlanePositionSequence = [position]
    frame.FrameContentSequence = [content]
    return frame
