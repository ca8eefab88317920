"""The studies that are measured: synthetic heads of a stated size with known lesions.

``head`` draws one (about 3 s for 256 x 256 x 176); ``as_study`` makes DICOM images of
it; ``other_study`` gives the same images as another patient's study, which costs next
to nothing. Axes (slice, row, column), 1 mm unless stated. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset, FileMetaDataset

from segmentation.dicom.uids import derive_uid
from segmentation.phantoms import Grid, Head, make_head
from segmentation.phantoms.dicom import Visit, dicom_series
from segmentation.phantoms.head import random_lesions

HEAD_SHAPE = (176, 256, 256)
"""Slices, rows, columns of what the targets are stated for."""
_SEED = 3
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def head(
    lesions: int = 7, shape: tuple[int, int, int] = HEAD_SHAPE, slice_mm: float = 1.0
) -> Head:
    """Draw a head with so many lesions of 4 to 20 mm (up to 16 where they are many)."""
    largest_mm = 20.0 if lesions <= 20 else 16.0
    grid = Grid(shape, (slice_mm, 256 / shape[1], 256 / shape[2]))
    drawn = random_lesions(_SEED, lesions, (4.0, largest_mm))
    return make_head(grid, drawn, seed=_SEED)


def as_study(drawn: Head, number: int = 0) -> list[Dataset]:
    """Give the images of a head as the study of patient `number`."""
    visit = Visit(key=f"benchmark-{number}", patient_id=f"METIA-BENCHMARK-{number}")
    return dicom_series(drawn, visit=visit)


def other_study(images: Sequence[Dataset], number: int) -> list[Dataset]:
    """Give the same images as the study of another patient (pixels are shared)."""
    copies = []
    for image in images:
        changed = {
            keyword: derive_uid("benchmark", str(number), str(image[keyword].value))
            for keyword in (*_UIDS, "FrameOfReferenceUID")
        }
        changed["PatientID"] = f"METIA-BENCHMARK-{number}"
        copy = Dataset(dict(image.items()))
        for keyword, value in changed.items():
            # A new element: the value of the present one is the original's, too.
            copy.add_new(keyword, image[keyword].VR, value)
        copy.file_meta = FileMetaDataset(dict(image.file_meta.items()))
        copy.file_meta.add_new(
            "MediaStorageSOPInstanceUID", "UI", changed["SOPInstanceUID"]
        )
        copies.append(copy)
    return copies
