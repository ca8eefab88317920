"""Own images with masks as training data: found, checked, split by patient, prepared.

A folder of cases holds one folder a case, ``PATIENT`` or ``PATIENT__VISIT``, with
``image.nii.gz`` and ``mask.nii.gz`` (or ``.nii``). ``check_cases`` names every fault
before an hour is lost; ``lock_split`` fixes which patient is for what in ``split.json``
beside them, with hashes; test patients are never read by training. Images are prepared
by ``unetr.preprocessing`` as for inference. Axes (slice, row, column).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import torch
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from pydantic import ValidationError
from torch.nn import functional

from errors import MetiaError
from unetr.configuration import Configuration, PreprocessingProfile
from unetr.head import find_head
from unetr.preprocessing import Prepared, prepare
from unetr.training.heads import Part
from unetr.training.synthetic import SyntheticHead

SPLIT_NAME = "split.json"
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.125
SMALLEST_MM, LARGEST_MM = 0.2, 12.0
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AFFINE_TOLERANCE_MM = 0.01


@dataclass(frozen=True)
class CaseFiles:
    """Where one case lies."""

    name: str
    image: Path
    mask: Path

    @property
    def patient(self) -> str:
        """Cases of one patient stay together."""
        return self.name.split("__")[0]


@dataclass(frozen=True)
class CaseFault:
    """What is wrong with one case; `serious` ones stop training."""

    case: str
    serious: bool
    text: str


class LockedCase(Configuration):
    """One case in ``split.json``."""

    name: str
    part: Part
    image_sha256: str


class CaseSplit(Configuration):
    """``split.json``."""

    format: int = 1
    cases: tuple[LockedCase, ...]


def find_cases(folder: Path) -> tuple[list[CaseFiles], list[CaseFault]]:
    """List the cases of a folder, by name."""
    cases, faults = [], []
    if not folder.is_dir():
        raise MetiaError("configuration-invalid", "The folder of cases is missing.")
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        files = {}
        for kind in ("image", "mask"):
            found = [
                path / f"{kind}{suffix}"
                for suffix in (".nii.gz", ".nii")
                if (path / f"{kind}{suffix}").is_file()
            ]
            if len(found) != 1:
                text = f"it has {len(found)} files {kind}.nii.gz or {kind}.nii."
                faults.append(CaseFault(path.name, True, text))
            else:
                files[kind] = found[0]
        if len(files) == 2:
            cases.append(CaseFiles(path.name, files["image"], files["mask"]))
    return cases, faults


def check_cases(folder: Path) -> list[CaseFault]:
    """Look at every file of every case, and name all that is wrong."""
    cases, faults = find_cases(folder)
    if not cases and not faults:
        faults.append(CaseFault(folder.name, True, "there is no case in it."))
    seen: dict[str, str] = {}
    for case in cases:
        faults += [CaseFault(case.name, *fault) for fault in _faults_of(case)]
        digest = hashlib.sha256(case.image.read_bytes()).hexdigest()
        if digest in seen:
            text = f"its image is the same file as that of {seen[digest]}."
            faults.append(CaseFault(case.name, True, text))
        seen[digest] = case.name
    return faults


def _load(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    image: Any = nib.load(path)
    array = np.asarray(image.dataobj, dtype=np.float32)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    return array, np.asarray(image.affine, dtype=np.float64)


def _faults_of(case: CaseFiles) -> list[tuple[bool, str]]:
    arrays = {}
    faults = []
    for kind, path in (("image", case.image), ("mask", case.mask)):
        try:
            arrays[kind] = _load(path)
        except (ImageFileError, OSError, EOFError, ValueError):
            faults.append((True, f"its {kind} cannot be read."))
    if len(arrays) < 2:
        return faults
    (image, affine), (mask, mask_affine) = arrays["image"], arrays["mask"]
    if image.ndim != 3 or mask.ndim != 3:
        return [(True, "image and mask must have three axes.")]
    if image.shape != mask.shape:
        return [(True, f"image {image.shape} and mask {mask.shape} differ in shape.")]
    if not np.allclose(affine, mask_affine, atol=_AFFINE_TOLERANCE_MM):
        faults.append((True, "image and mask lie in different places."))
    faults += _spacing_faults(affine)
    if faults:
        return faults
    return _value_faults(image, mask, affine)


def _spacing_faults(affine: NDArray[np.float64]) -> list[tuple[bool, str]]:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        return [(True, "its affine is not usable.")]
    if (spacing < SMALLEST_MM).any() or (spacing > LARGEST_MM).any():
        sizes = " x ".join(f"{size:.3g}" for size in spacing)
        return [(True, f"its voxels of {sizes} mm cannot be those of a head MR.")]
    return []


def _value_faults(
    image: NDArray[np.float32], mask: NDArray[np.float32], affine: NDArray[np.float64]
) -> list[tuple[bool, str]]:
    faults = []
    if not np.isfinite(image).all() or not np.isfinite(mask).all():
        return [(True, "it holds values that are no numbers.")]
    if not np.array_equal(mask, np.round(mask)) or mask.min() < 0:
        faults.append((True, "its mask holds other than whole numbers from 0."))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    try:
        head = find_head(image, spacing.tolist())
    except MetiaError as error:
        return [*faults, (True, f"no head is found in it: {error.detail}")]
    marked = float((mask > 0).sum() * np.prod(spacing))
    if marked == 0:
        faults.append((False, "its mask is empty: it teaches what is no lesion."))
    elif marked > 0.3 * head.volume_mm3:
        faults.append((True, "its mask covers over 30 % of the head."))
    elif not (mask[head.box] > 0).any():
        faults.append((True, "its mask lies outside the head."))
    return faults


def lock_split(folder: Path, cases: Sequence[CaseFiles]) -> CaseSplit:
    """Read ``split.json``, or write it where there is none.

    Patients go to a part by a hash of their name: the same on every machine.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` where it does not fit the cases any more.
    """
    path = folder / SPLIT_NAME
    present = {
        case.name: hashlib.sha256(case.image.read_bytes()).hexdigest() for case in cases
    }
    if not path.exists():
        parts = _assign([case.patient for case in cases])
        split = CaseSplit(
            cases=tuple(
                LockedCase(
                    name=case.name,
                    part=parts[case.patient],
                    image_sha256=present[case.name],
                )
                for case in cases
            )
        )
        path.write_text(split.model_dump_json(indent=1) + "\n", "utf-8")
        return split
    try:
        split = CaseSplit.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise MetiaError(
            "configuration-invalid", f"{SPLIT_NAME} cannot be read."
        ) from error
    locked = {case.name: case.image_sha256 for case in split.cases}
    if wrong := sorted(
        name
        for name in locked.keys() | present.keys()
        if locked.get(name) != present.get(name)
    ):
        raise MetiaError(
            "configuration-invalid",
            f"{SPLIT_NAME} no longer fits: {', '.join(wrong[:5])} changed, came or "
            "went. Make a new one only with a new test part.",
        )
    return split


def _order(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _assign(patients: Sequence[str]) -> dict[str, Part]:
    ordered = sorted(set(patients), key=_order)
    tested = round(TEST_SHARE * len(ordered))
    validated = max(1, round(VALIDATION_SHARE * len(ordered)))
    parts: dict[str, Part] = {}
    for number, patient in enumerate(ordered):
        parts[patient] = (
            "test"
            if number < tested
            else "validation"
            if number < tested + validated
            else "train"
        )
    return parts


def cases_for(
    cases: Sequence[CaseFiles], split: CaseSplit, part: Part, *, folds: int, fold: int
) -> list[CaseFiles]:
    """Choose the cases of a part; with folds, of one fold. Never for testing.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` for the test part.
    """
    if part == "test":
        raise MetiaError(
            "configuration-invalid", "Test cases are for `metia evaluate` alone."
        )
    parts: dict[str, Part] = {case.name: case.part for case in split.cases}
    usable = [case for case in cases if parts[case.name] != "test"]
    if folds > 1:
        patients = sorted({case.patient for case in usable}, key=_order)
        validated = set(patients[fold::folds])
        return [
            case
            for case in usable
            if (case.patient in validated) == (part == "validation")
        ]
    return [case for case in usable if parts[case.name] == part]


def load_case(
    case: CaseFiles, profile: PreprocessingProfile, minimum_shape: Sequence[int]
) -> SyntheticHead:
    """Prepare one case as inference would, its mask along with it."""
    image, affine = _load(case.image)
    mask, _ = _load(case.mask)
    volume = hd.Volume(
        array=image,
        affine=_LPS_FROM_RAS @ affine,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
    )
    prepared = prepare(volume, profile, minimum_shape)
    truth = volume.with_array((mask > 0).astype(np.float32))
    target = _mask_on(prepared, truth.to_patient_orientation(profile.orientation))
    prepared_image = torch.from_numpy(prepared.volume)
    return SyntheticHead(
        image=prepared_image,
        target=target,
        inside=prepared_image > 0.3,
        lesions=(),
        source=case.name,
    )


def _mask_on(prepared: Prepared, truth: hd.Volume) -> torch.Tensor:
    part = torch.from_numpy(np.ascontiguousarray(truth.array[prepared.box]))
    for axis, matrix in enumerate(prepared.axes):
        if not matrix.is_same:
            weights = torch.from_numpy(matrix.to_network())
            part = torch.tensordot(weights, part, dims=([1], [axis]))
            part = part.movedim(0, axis)
    flat = [count for pair in reversed(prepared.padding) for count in pair]
    return functional.pad(part, flat).contiguous()
