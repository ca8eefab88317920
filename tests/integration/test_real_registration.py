"""Real heads: two times of one person are registered, two persons are refused."""

from __future__ import annotations

from functools import cache
from itertools import permutations
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest

from segmentation.followup.registration import QUALITY_LIMIT, register

PATIENTS = ("01", "02", "03", "04", "05")
# The files state 1 mm; the collection was imaged about so.
SPACING_MM = (6.5, 0.86, 0.86)


@cache
def _scan(folder: Path, patient: str, when: str) -> hd.Volume:
    image = nib.load(folder / patient / f"{when}_Scan_T1.nii.gz")
    array = np.asarray(nib.as_closest_canonical(image).dataobj, np.float32).T
    array = array[array.reshape(len(array), -1).std(axis=1) > 0]
    affine = np.zeros((4, 4))
    # Axes (slice, row, column) run up, to the front and to the right: S, A, R.
    affine[2, 0], affine[1, 1], affine[0, 2] = np.multiply(SPACING_MM, (1, -1, -1))
    affine[3, 3] = 1
    return hd.Volume(np.ascontiguousarray(array), affine, coordinate_system="PATIENT")


@pytest.fixture
def folder(shared_data: Path) -> Path:
    return shared_data / "gbm_btp_longitudinal"


@pytest.mark.parametrize("patient", PATIENTS)
def test_one_person_at_two_times(folder: Path, patient: str) -> None:
    found = register(_scan(folder, patient, "Pre"), _scan(folder, patient, "Post"))
    assert found.accepted, found
    assert found.quality > QUALITY_LIMIT + 0.08
    back = register(_scan(folder, patient, "Post"), _scan(folder, patient, "Pre"))
    volume = _scan(folder, patient, "Post")
    middle = volume.affine @ [*(np.array(volume.shape) / 2), 1]
    for offset in ((0, 0, 0, 0), (60, 60, 60, 0)):
        point = middle + offset
        there_and_back = back.matrix @ found.matrix @ point
        assert np.linalg.norm(there_and_back - point) < 2.0  # slices of 6.5 mm


@pytest.mark.parametrize(("one", "other"), list(permutations(PATIENTS, 2))[::3])
def test_two_persons(folder: Path, one: str, other: str) -> None:
    found = register(_scan(folder, one, "Pre"), _scan(folder, other, "Post"))
    assert not found.accepted
    assert found.quality < QUALITY_LIMIT - 0.1
