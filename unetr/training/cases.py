"""Own images with masks as training data: found, checked, split by patient, prepared.

A folder of cases holds one folder a case, ``PATIENT`` or ``PATIENT__VISIT``, with
``image.nii.gz`` and ``mask.nii.gz`` (or ``.nii``). ``check_cases`` names every fault
before an hour is lost; ``lock_split`` fixes which patient is for what in ``split.json``
beside them, with hashes of images and masks; test patients are never read by training.
Images are prepared by ``unetr.preprocessing`` as for inference. Axes (slice, row,
column).
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import torch
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import ndimage
from torch.nn import functional

from errors import MetiaError
from unetr.configuration import Configuration, PreprocessingProfile
from unetr.head import find_head
from unetr.preprocessing import Prepared, prepare
from unetr.training.heads import Part
from unetr.training.lesions import PaintedLesion
from unetr.training.synthetic import SyntheticHead, inside_skull

SPLIT_NAME = "split.json"
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.125
SMALLEST_MM, LARGEST_MM = 0.2, 12.0
MINIMUM_SLICES = 3
"""Along any axis, as in ``orthanc.geometry``: the service refuses an image of fewer."""
NEGATIVE_SHARE = 0.05
"""Of the voxels within the head's bounds; ringing puts some below 0, but not more."""
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AFFINE_TOLERANCE_MM = 1e-3
_UNREADABLE = (
    ImageFileError,
    HeaderDataError,
    OSError,
    EOFError,
    ValueError,
    TypeError,  # of voxels that are no numbers, as of colours
    MemoryError,  # of a size that only a damaged header says
    zlib.error,
)


@dataclass(frozen=True)
class CaseFiles:
    """Where one case lies."""

    name: str
    image: Path
    mask: Path

    @property
    def patient(self) -> str:
        """Cases of one patient stay together."""
        return patient_of(self.name)


def patient_of(case: str) -> str:
    """Give the patient's part of a case's name."""
    return case.split("__")[0]


@dataclass(frozen=True)
class CaseFault:
    """What is wrong with one case; `serious` ones stop training."""

    case: str
    serious: bool
    text: str


class LockedCase(Configuration):
    """One case in ``split.json``; older files hold no hashes of masks."""

    name: str
    part: Part
    image_sha256: str
    mask_sha256: str | None = None


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
    seen: dict[str, CaseFiles] = {}
    for case in cases:
        try:
            found, digest = _examine(case)
        except ValueError as error:
            # Of a library, about numbers nobody thought of: at least name the case.
            found, digest = [(True, f"it cannot be examined: {error}.")], None
        faults += [CaseFault(case.name, *fault) for fault in found]
        if digest is None:
            continue
        if twin := seen.get(digest):
            # Two outlines of one image are two cases; of two patients one is a mistake.
            text = f"its image is the same as that of {twin.name}."
            faults.append(CaseFault(case.name, twin.patient != case.patient, text))
        seen[digest] = case
    return faults


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class _Loaded:
    """One file; axes as in the file, RAS affine."""

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    oriented: bool

    def grid(self) -> hd.VolumeGeometry:
        """Give its grid, LPS; ``ValueError`` where its axes are not perpendicular."""
        return hd.VolumeGeometry(
            _LPS_FROM_RAS @ self.affine,
            self.array.shape,
            coordinate_system=hd.CoordinateSystemNames.PATIENT,
        )

    def digest(self) -> str:
        """Hash voxels and place: the same however the file is packed."""
        place = np.round(self.affine, 3) + 0.0  # -0 is 0
        return hashlib.sha256(
            repr(self.array.shape).encode()
            + place.tobytes()
            + np.ascontiguousarray(self.array).tobytes()
        ).hexdigest()


def _load(path: Path) -> _Loaded:
    image: Any = nib.load(path)
    array = np.asarray(image.dataobj, dtype=np.float32)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    return _Loaded(
        array=array,
        affine=np.asarray(image.affine, dtype=np.float64),
        oriented=bool(image.header["sform_code"] or image.header["qform_code"]),
    )


def _examine(case: CaseFiles) -> tuple[list[tuple[bool, str]], str | None]:
    """Give what is wrong with a case, and a digest of its image if it can be read."""
    loaded = {}
    faults = []
    for kind, path in (("image", case.image), ("mask", case.mask)):
        try:
            loaded[kind] = _load(path)
        except _UNREADABLE:
            faults.append((True, f"its {kind} cannot be read."))
    digest = loaded["image"].digest() if "image" in loaded else None
    if len(loaded) == 2:
        faults += _faults_of(loaded["image"], loaded["mask"])
    return faults, digest


def _faults_of(image: _Loaded, mask: _Loaded) -> list[tuple[bool, str]]:
    faults = []
    shapes = image.array.shape, mask.array.shape
    if {len(shape) for shape in shapes} != {3}:
        return [(True, "image and mask must have three axes.")]
    if shapes[0] != shapes[1]:
        return [(True, f"image {shapes[0]} and mask {shapes[1]} differ in shape.")]
    if not np.allclose(image.affine, mask.affine, atol=_AFFINE_TOLERANCE_MM):
        faults.append((True, "image and mask lie in different places."))
    faults += _grid_faults(image)
    if any(serious for serious, _ in faults):
        return faults
    return faults + _value_faults(image.array, mask.array, image.affine)


def _grid_faults(image: _Loaded) -> list[tuple[bool, str]]:
    axes = image.affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(axes)) < 1e-9:
        return [(True, "its affine is not usable.")]
    if (spacing < SMALLEST_MM).any() or (spacing > LARGEST_MM).any():
        sizes = " x ".join(f"{size:.3g}" for size in spacing)
        return [(True, f"its voxels of {sizes} mm cannot be those of a head MR.")]
    if (count := min(image.array.shape)) < MINIMUM_SLICES:
        return [(True, f"it has {count} slices: it takes {MINIMUM_SLICES} at least.")]
    try:
        image.grid()
    except ValueError:
        return [(True, "its axes are not perpendicular: resample it.")]
    if not image.oriented:
        return [(False, "it states no orientation: left and right may be swapped.")]
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
    negative = float((image[head.box] < 0).mean())
    if negative > NEGATIVE_SHARE:
        text = (
            f"{100 * negative:.0f} % of its head is below 0: it seems standardised; "
            "give intensities as scanned."
        )
        faults.append((True, text))
    marked = float((mask > 0).sum() * np.prod(spacing))
    if marked == 0:
        faults.append((False, "its mask is empty: it teaches what is no lesion."))
    elif marked > 0.3 * head.volume_mm3:
        faults.append((True, "its mask covers over 30 % of the head."))
    elif not (mask[head.box] > 0).any():
        faults.append((True, "its mask lies outside the head."))
    return faults


def plan_split(folder: Path, cases: Sequence[CaseFiles]) -> CaseSplit:
    """Read ``split.json``, or make what it would hold.

    Patients go to a part by a hash of their name: the same on every machine.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` where it does not fit the cases any more.
    """
    path = folder / SPLIT_NAME
    if not path.exists():
        parts = _assign([case.patient for case in cases])
        return CaseSplit(cases=tuple(_lock(one, parts[one.patient]) for one in cases))
    split = _read_split(path)
    locked = {case.name: case for case in split.cases}
    present = {case.name: case for case in cases}
    if wrong := sorted(
        name
        for name in locked.keys() | present.keys()
        if name not in locked
        or name not in present
        or not _fits(present[name], locked[name])
    ):
        raise MetiaError(
            "configuration-invalid",
            f"{SPLIT_NAME} no longer fits: {', '.join(wrong[:5])} changed, came or "
            "went. Make a new one only with a new test part.",
        )
    return split


def lock_split(folder: Path, cases: Sequence[CaseFiles]) -> CaseSplit:
    """Do as ``plan_split``, and write ``split.json`` where there is none."""
    split = plan_split(folder, cases)
    keep_split(folder, split)
    return split


def keep_split(folder: Path, split: CaseSplit) -> None:
    """Write ``split.json`` where there is none."""
    if not (folder / SPLIT_NAME).exists():
        _write_split(folder, split)


def lock_again(folder: Path, name: str) -> None:
    """Let ``split.json`` follow a case that was replaced; it stays in its part."""
    path = folder / SPLIT_NAME
    if not path.exists():
        return
    split = _read_split(path)
    found = {case.name: case for case in find_cases(folder)[0]}
    cases = tuple(
        _lock(found[name], locked.part) if locked.name == name else locked
        for locked in split.cases
    )
    _write_split(folder, split.model_copy(update={"cases": cases}))


def _lock(case: CaseFiles, part: Part) -> LockedCase:
    return LockedCase(
        name=case.name,
        part=part,
        image_sha256=_sha256(case.image),
        mask_sha256=_sha256(case.mask),
    )


def _fits(case: CaseFiles, locked: LockedCase) -> bool:
    return locked.image_sha256 == _sha256(case.image) and (
        locked.mask_sha256 is None or locked.mask_sha256 == _sha256(case.mask)
    )


def _read_split(path: Path) -> CaseSplit:
    try:
        split = CaseSplit.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise MetiaError(
            "configuration-invalid", f"{SPLIT_NAME} cannot be read."
        ) from error
    names = Counter(case.name for case in split.cases)
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise MetiaError(
            "configuration-invalid",
            f"{SPLIT_NAME} names cases twice: {', '.join(twice[:5])}. Leave one of "
            "each.",
        )
    parts: dict[str, set[Part]] = {}
    for case in split.cases:
        parts.setdefault(patient_of(case.name), set()).add(case.part)
    if torn := sorted(patient for patient, found in parts.items() if len(found) > 1):
        raise MetiaError(
            "configuration-invalid",
            f"{SPLIT_NAME} puts cases of one patient into two parts: "
            f"{', '.join(torn[:5])}. Put all cases of a patient into one.",
        )
    return split


def _write_split(folder: Path, split: CaseSplit) -> None:
    # Several processes of a run may come here at once, with the same content.
    unfinished = folder / f".{SPLIT_NAME}.{os.getpid()}"
    unfinished.write_text(split.model_dump_json(indent=1) + "\n", "utf-8")
    unfinished.replace(folder / SPLIT_NAME)


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
        ``configuration-invalid`` for the test part, and where nothing is left to train
        or to validate with.
    """
    if part == "test":
        raise MetiaError(
            "configuration-invalid", "Test cases are for `metia evaluate` alone."
        )
    parts: dict[str, Part] = {case.name: case.part for case in split.cases}
    usable = [case for case in cases if parts[case.name] != "test"]
    patients = sorted({case.patient for case in usable}, key=_order)
    held_out = set(patients[fold::folds])
    chosen: dict[Part, list[CaseFiles]] = {"train": [], "validation": []}
    for case in usable:
        folded: Part = "validation" if case.patient in held_out else "train"
        chosen[folded if folds > 1 else parts[case.name]].append(case)
    if empty := [name for name, those in chosen.items() if not those]:
        tested = len({case.patient for case in cases}) - len(patients)
        raise MetiaError(
            "configuration-invalid",
            f"There is no case for {' or '.join(empty)}. Patients for testing: "
            f"{tested}, others: {len(patients)}, folds: {folds}, fold: {fold}. "
            "It takes 2 others at least, and no more folds than those.",
        )
    return chosen[part]


def division_of(split: CaseSplit) -> str:
    """Hash which case is for what, whatever became of its files since."""
    told = sorted((case.name, case.part) for case in split.cases)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def origin_of(split: CaseSplit, *, folds: int, fold: int) -> str:
    """Tell what decides which cases are trained on, for files made from them."""
    content = hashlib.sha256(split.model_dump_json().encode()).hexdigest()
    return f"fold {fold} of {folds} of the split {content}"


def load_case(
    case: CaseFiles, profile: PreprocessingProfile, minimum_shape: Sequence[int]
) -> SyntheticHead:
    """Prepare one case as inference would, its mask along with it.

    Every connected body of the mask is a lesion, of the kind ``drawn``.
    """
    image, mask = _load(case.image), _load(case.mask)
    volume = image.grid().with_array(image.array)
    prepared = prepare(volume, profile, minimum_shape)
    truth = volume.with_array((mask.array > 0).astype(np.float32))
    target = _mask_on(prepared, truth.to_patient_orientation(profile.orientation))
    prepared_image = torch.from_numpy(prepared.volume)
    return SyntheticHead(
        image=prepared_image,
        target=target,
        inside=inside_skull(prepared_image),
        lesions=_lesions_in(target),
        source=case.name,
    )


def _lesions_in(target: torch.Tensor) -> tuple[PaintedLesion, ...]:
    share = target.numpy()
    bodies, count = ndimage.label(share > 0, np.ones((3, 3, 3)))
    numbers = range(1, count + 1)
    centres = ndimage.center_of_mass(share, bodies, numbers)
    volumes_mm3 = ndimage.sum_labels(share, bodies, numbers)
    return tuple(
        PaintedLesion(centre, float(np.cbrt(6 / np.pi * volume_mm3)), "drawn")
        for centre, volume_mm3 in zip(centres, volumes_mm3, strict=True)
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
