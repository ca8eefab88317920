"""What is odd about a volume, but no reason to refuse it.

Missing end slices cannot be told from the positions of the others; that the head is cut
off at the end of the stack can be seen, and is said. Sentences are English and free of
patient data. Pure; arrays have axes (slice, row, column), lengths are mm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from orthanc.classification import WHOLE_HEAD_MM
from orthanc.geometry import Grid
from orthanc.headers import SequenceFacts, read_facts

RANO_BM_SLICE_MM = 5.0
"""Largest distance between slices in RANO-BM (clinical standard, without gap)."""
_FOREGROUND_FRACTION = 0.15
"""Of the 99th percentile; background of MR magnitude images lies well below."""
_CUT_FRACTION = 0.5
"""An end slice with this share of the largest slice's area cuts through the head."""


def cautions(array: NDArray[np.float32], grid: Grid, header: Dataset) -> list[str]:
    """List what the reader of a result should know about its input.

    Parameters
    ----------
    array : ndarray of shape (slice, row, column)
        Rescaled values.
    grid : Grid
        Where they lie.
    header : pydicom.Dataset
        Of one of the images.

    Returns
    -------
    list of str
        Sentences; empty where nothing is odd.
    """
    facts = read_facts(header)
    return [
        *_distance_cautions(grid, facts),
        *_extent_cautions(array, grid),
        *(["The images were compressed with loss."] if _lossy(header) else []),
    ]


def _distance_cautions(grid: Grid, facts: SequenceFacts) -> list[str]:
    found = []
    distance = grid.spacing_mm[0]
    if distance > RANO_BM_SLICE_MM:
        found.append(
            f"The slices are {distance:.1f} mm apart; more than "
            f"{RANO_BM_SLICE_MM:g} mm is too coarse for small lesions."
        )
    thickness = facts.slice_thickness_mm or 0.0
    if thickness > 0 and distance - thickness > max(0.1, 0.1 * thickness):
        found.append(
            f"There are gaps of {distance - thickness:.1f} mm between the slices."
        )
    stated = abs(facts.slice_distance_mm or 0.0)
    if stated > 0 and distance > 1.8 * stated:
        found.append(
            f"The header says that slices are {stated:.1f} mm apart, they lie "
            f"{distance:.1f} mm apart: some may be missing throughout."
        )
    return found


def _extent_cautions(array: NDArray[np.float32], grid: Grid) -> list[str]:
    found = []
    extent = array.shape[0] * grid.spacing_mm[0]
    if extent < WHOLE_HEAD_MM:
        found.append(f"The slices cover only {extent:.0f} mm of the head.")
    coarse = array[:, ::4, ::4]
    filled = np.flatnonzero(np.ptp(coarse, axis=(1, 2)))
    blank = array.shape[0] - len(filled)
    inside = int(filled[-1] - filled[0]) + 1 - len(filled) if len(filled) else 0
    if inside or blank > 0.1 * array.shape[0]:
        found.append(f"{blank} of {array.shape[0]} slices are blank.")
    threshold = _FOREGROUND_FRACTION * float(np.percentile(coarse[:, ::2, ::2], 99))
    areas = (coarse > threshold).mean(axis=(1, 2))
    limit = _CUT_FRACTION * float(areas.max())
    if any(areas[end] > limit for end in _free_ends(grid)):
        found.append("The head seems to be cut off at an end of the slices.")
    return found


def _free_ends(grid: Grid) -> tuple[int, ...]:
    """Return the ends of axis 0 where a whole head ends in air: never the neck's."""
    normal = grid.direction[:, 0]
    if np.argmax(np.abs(normal)) != 2:
        return (0, -1)
    return (-1,) if normal[2] > 0 else (0,)


def _lossy(header: Dataset) -> bool:
    return str(header.get("LossyImageCompression", "")) == "01"
