"""A result as NIfTI: the labels of its lesions on the grid of the source series.

Made from the stored SEG, so that what leaves is what the archive holds. Voxels are
never resampled: array axes (column, row, slice) of the series, RAS affine in mm. A JSON
text beside it tells which number is which lesion and track. No patient data in either.
Pure; safe between threads.
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from errors import MetiaError
from segmentation.dicom.seg import segments_as_labels
from segmentation.exports.file_names import result_file
from settings import RESEARCH_NOTICE, VERSION

SIDECAR_VERSION = "1.0"
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LARGEST_UINT8 = 255
# A fixed time: two exports of one result are the same file.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class LabelledLesion:
    """What one number of the label image stands for.

    Attributes
    ----------
    label : int
        Value in the image; the number of the segment in the SEG.
    track_label : str or None
        Such as ``M1``; None where the lesion belongs to no track yet.
    review : str
        ``unverified`` or ``accepted``.
    """

    label: int
    lesion_id: str
    name: str
    tracking_uid: str
    track_id: str | None
    track_label: str | None
    review: str
    longest_diameter_mm: float
    perpendicular_diameter_mm: float
    volume_ml: float


# nibabel has no types; this is where they are given up.
_new_image: Any = nib.Nifti1Image


def label_image(labels: hd.Volume) -> Any:
    """Make the NIfTI image of a label map.

    Parameters
    ----------
    labels : highdicom.Volume
        Whole numbers, axes (slice, row, column), LPS affine.

    Returns
    -------
    nibabel.Nifti1Image
        Axes (column, row, slice), RAS affine; uint8 where every label fits, else
        uint16; 0 is background.
    """
    largest = int(labels.array.max(initial=0))
    dtype = np.uint8 if largest <= _LARGEST_UINT8 else np.uint16
    affine = _RAS_FROM_LPS @ labels.affine[:, [2, 1, 0, 3]]
    made: Any = _new_image(np.ascontiguousarray(labels.array.T.astype(dtype)), affine)
    made.set_qform(affine, code="scanner")
    made.set_sform(affine, code="scanner")
    made.header.set_data_dtype(dtype)
    made.header.set_xyzt_units("mm")
    made.header["descrip"] = b"MetIA lesions. Research use only."
    return made


def read_labels(
    segmentation: Dataset | None,
    grid: hd.Volume | hd.VolumeGeometry,
    wanted: Sequence[int],
) -> NDArray[np.uint16]:
    """Read the labels of some segments onto the grid of the source series.

    Parameters
    ----------
    segmentation : pydicom.Dataset or None
        The stored SEG; None for a result without lesions.
    wanted : sequence of int
        Numbers of the segments to keep (a rejected lesion leaves with no export).

    Returns
    -------
    numpy.ndarray
        uint16, axes (slice, row, column).

    Raises
    ------
    MetiaError
        ``export-impossible`` where segments overlap or do not lie on the grid.
    """
    if segmentation is None:
        return np.zeros(grid.spatial_shape, np.uint16)
    try:
        labels = segments_as_labels(segmentation, grid)
    except ValueError as error:
        raise MetiaError(
            "export-impossible", f"As one label image: {error}."
        ) from error
    kept = np.zeros(int(labels.max(initial=0)) + 1, np.uint16)
    for number in wanted:
        if number < kept.size:
            kept[number] = number
    return kept[labels]


def sidecar(
    result: Mapping[str, object], lesions: Sequence[LabelledLesion]
) -> dict[str, object]:
    """Tell in plain data which number of the image is which lesion.

    Parameters
    ----------
    result : mapping
        ``id``, ``state``, ``model`` and the like, free of patient data.
    """
    return {
        "sidecar_version": SIDECAR_VERSION,
        "notice": RESEARCH_NOTICE,
        "code_version": VERSION,
        "coordinates": "NIfTI RAS, mm; array axes (column, row, slice) of the series",
        "background": 0,
        "result": dict(result),
        "labels": {
            str(lesion.label): {
                name: value for name, value in vars(lesion).items() if name != "label"
            }
            for lesion in lesions
        },
    }


def nifti_archive(
    result_id: str, labels: hd.Volume, document: Mapping[str, object]
) -> bytes:
    """Put the label image and its JSON text into one ZIP.

    The same labels and document give the same bytes.
    """
    image = gzip.compress(label_image(labels).to_bytes(), compresslevel=6, mtime=0)
    text = json.dumps(document, indent=2, ensure_ascii=False).encode("utf-8")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for suffix, content, method in (
            ("nii.gz", image, zipfile.ZIP_STORED),
            ("json", text, zipfile.ZIP_DEFLATED),
        ):
            name = result_file(result_id, "labels", suffix)
            entry = zipfile.ZipInfo(name, date_time=_ZIP_TIME)
            entry.external_attr = 0o644 << 16
            made.writestr(entry, content, compress_type=method)
    return buffer.getvalue()
