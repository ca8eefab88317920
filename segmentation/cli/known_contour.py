"""One case with its known answer, from files: an image, and a contour drawn on it.

``load_case`` takes DICOM (a folder, with an RT structure set or SEG beside) or NIfTI
(with a mask on the same grid) and gives both on one grid, axes (slice, row, column).
"""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from errors import MetiaError
from orthanc.volume import LoadedSeries, load_series
from segmentation.cli.dicom_files import (
    LocalFiles,
    LocalSeries,
    dicom_folder,
    find_series,
    load_images,
)
from segmentation.cli.nifti import is_nifti, load_with_mask
from segmentation.dicom.imports import read_import, referenced_series


def load_case(image: Path, contour: Path) -> tuple[hd.Volume, NDArray[np.bool_]]:
    """Load an image and the known answer on it.

    Returns
    -------
    highdicom.Volume
        float32.
    ndarray of bool
        True inside the contour, on the same grid.

    Raises
    ------
    MetiaError
        ``input-unreadable``, ``import-invalid``, ``series-not-found``, ``volume-*``.
    """
    if is_nifti(image):
        return _from_nifti(image, contour)
    drawn = _read_object(contour)
    with dicom_folder(image) as folder:
        source, inside = load_drawn(find_series(folder), drawn)
    return source.volume, inside


def load_drawn(
    files: LocalFiles, drawn: pydicom.Dataset
) -> tuple[LoadedSeries, NDArray[np.bool_]]:
    """Load the series among `files` that an object was drawn on, and the drawing."""
    images = load_images(_series_of(files, referenced_series(drawn)))
    source = load_series(images, require_head_t1=False)
    inside: NDArray[np.bool_] = np.asarray(read_import(drawn, source).labels.array) > 0
    return source, inside


def _from_nifti(image: Path, contour: Path) -> tuple[hd.Volume, NDArray[np.bool_]]:
    volume, inside = load_with_mask(image, contour)
    if not inside.any():
        raise MetiaError("input-unreadable", "The mask marks nothing.")
    return volume, inside


def _read_object(path: Path) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(path)
    except (InvalidDicomError, OSError) as error:
        raise MetiaError(
            "input-unreadable", "The contour is neither NIfTI nor a DICOM object."
        ) from error


def _series_of(files: LocalFiles, wanted: tuple[str, ...]) -> LocalSeries:
    for series_uid in wanted:
        for series in files.series:
            if series.header.series_uid == series_uid:
                return series
    raise MetiaError(
        "series-not-found", "The folder lacks the series that the contour was drawn on."
    )
