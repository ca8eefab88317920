"""The heads that synthetic images are made from, and the wall around the test heads.

``heads.json`` beside this module fixes, by the SHA-256 of each source file, which heads
are for training, validation and test. ``pack_heads`` turns source files (label maps and
real images, NIfTI or NRRD) into one small folder that can travel; ``HeadStore`` reads
such a folder, checks every hash, and gives the test part to evaluation only. Volumes
are turned to (slice, row, column) = (head, posterior, left); label maps have 1 mm
voxels. Reading is safe from several processes; nothing is changed after packing.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from errors import MetiaError
from unetr.configuration import Configuration

SPLIT_FILE = Path(__file__).with_name("heads.json")
INDEX_NAME = "index.json"
MARGIN_VOXELS = 6
GRID_TOLERANCE = 0.01
"""Of size, spacing, origin (mm) and directions of an image and its mask."""
LABEL_SPACING_TOLERANCE = 0.05
"""Of 1 mm, which label maps are taken to have."""

Part = Literal["train", "validation", "test"]
Kind = Literal["labels", "background"]


class HeadEntry(Configuration):
    """One head of the split.

    Attributes
    ----------
    source, sha256 : str
        Pattern of the file below the data folder, and the hash of its bytes: of the
        files that match, the one with this hash is meant.
    lesions, lesions_sha256 : str or None
        A mask of enhancing tumour in a background, and the hash of its bytes; without
        one, the mask may be any.
    spacing_mm : tuple of float or None
        (slice, row, column) where the file's own is known to be wrong.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    kind: Kind
    part: Part
    source: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    lesions: str | None = None
    lesions_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    spacing_mm: tuple[float, float, float] | None = None


class Split(Configuration):
    """Which head is for what; the same file for everyone."""

    format: Literal[1]
    heads: tuple[HeadEntry, ...]


class PackedHead(Configuration):
    """One file of a packed folder."""

    name: str
    kind: Kind
    part: Part
    source_sha256: str
    file: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}\.npz$")
    sha256: str
    spacing_mm: tuple[float, float, float]


class PackIndex(Configuration):
    """``index.json`` of a packed folder."""

    format: Literal[1]
    heads: tuple[PackedHead, ...]


@dataclass(frozen=True)
class StoredHead:
    """A head as packed.

    Attributes
    ----------
    values : ndarray, (slice, row, column)
        uint16: labels, or intensities of a background.
    lesions : ndarray of bool or None
        Enhancing tumour in a background.
    spacing_mm : tuple of float
    """

    name: str
    kind: Kind
    values: NDArray[np.uint16]
    lesions: NDArray[np.bool_] | None
    spacing_mm: tuple[float, float, float]


def read_split(path: Path = SPLIT_FILE) -> Split:
    """Read the split of the heads.

    Raises
    ------
    MetiaError
        ``configuration-invalid``.
    """
    try:
        split = Split.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise MetiaError(
            "configuration-invalid", f"{path.name} cannot be used: {error}"
        ) from error
    parts: dict[str, str] = {}
    for head in split.heads:
        if parts.setdefault(head.sha256, head.part) != head.part:
            raise MetiaError(
                "configuration-invalid", f"Head {head.name} stands in two parts."
            )
    return split


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_volume(path: Path) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Read a NIfTI or NRRD file, turned to (head, posterior, left).

    Returns
    -------
    ndarray, (slice, row, column)
    tuple of float
        Spacing in mm.

    Raises
    ------
    MetiaError
        ``input-unreadable``.
    """
    import SimpleITK as sitk

    try:
        image: Any = sitk.ReadImage(str(path))
        if len(image.GetSize()) == 4:
            image = image[:, :, :, 0]
        # ITK names an axis by where it leads to: columns left, rows back, slices up.
        image = sitk.DICOMOrient(image, "LPS")  # type: ignore[no-untyped-call]
        array = np.ascontiguousarray(sitk.GetArrayFromImage(image), dtype=np.float32)
    except (RuntimeError, OSError, TypeError) as error:
        raise MetiaError(
            "input-unreadable", f"{path.name} cannot be read as an image."
        ) from error
    column, row, across = image.GetSpacing()
    return array, (float(across), float(row), float(column))


def pack_heads(
    data: Path, out: Path, *, parts: Iterable[Part], split: Split
) -> PackIndex:
    """Write the heads of some parts as one folder.

    Parameters
    ----------
    data : Path
        Folder that the split's paths start from.
    out : Path
        Must not exist.

    Raises
    ------
    MetiaError
        ``input-unreadable`` where files are missing, differ from the split's hashes or
        lie on grids that do not fit (all are named), ``output-exists``.
    """
    if out.exists():
        raise MetiaError("output-exists", "The folder for the pack exists already.")
    wanted = [head for head in split.heads if head.part in set(parts)]
    faults = [fault for head in wanted if (fault := _source_fault(data, head))]
    if faults:
        raise MetiaError("input-unreadable", " ".join(faults), {"faults": faults})
    out.mkdir(parents=True)
    packed = tuple(_pack_head(data, out, head) for head in wanted)
    index = PackIndex(format=1, heads=packed)
    (out / INDEX_NAME).write_text(index.model_dump_json(indent=1) + "\n", "utf-8")
    return index


def _source_fault(data: Path, head: HeadEntry) -> str:
    found = [path for path in data.glob(head.source) if path.is_file()]
    if not found:
        return f"{head.source} is missing."
    source = source_path(data, head)
    if source is None:
        return f"{head.source} is another file than the split names."
    spacing_mm = head.spacing_mm or _read_grid(source)[3:6]
    if head.kind == "labels" and np.ptp([*spacing_mm, 1]) > LABEL_SPACING_TOLERANCE:
        return f"{head.source} is no label map of 1 mm: resample it to that."
    return _lesions_fault(data, source, head) if head.lesions else ""


def _lesions_fault(data: Path, source: Path, head: HeadEntry) -> str:
    path = data / str(head.lesions)
    if not path.is_file():
        return f"{head.lesions} is missing."
    if head.lesions_sha256 not in (None, _sha256(path.read_bytes())):
        return f"{head.lesions} is another file than the split names."
    image, mask = _read_grid(source), _read_grid(path)
    if image.shape != mask.shape or not np.allclose(image, mask, atol=GRID_TOLERANCE):
        return f"{head.lesions} lies on another grid than its image."
    return ""


def _read_grid(path: Path) -> NDArray[np.float64]:
    """Give size, spacing, origin and directions, of the header alone."""
    import SimpleITK as sitk

    header: Any = sitk.ImageFileReader()  # type: ignore[no-untyped-call]
    header.SetFileName(str(path))
    try:
        header.ReadImageInformation()
    except RuntimeError as error:
        raise MetiaError(
            "input-unreadable", f"{path.name} cannot be read as an image."
        ) from error
    axes = header.GetDimension()
    directions = np.reshape(header.GetDirection(), (axes, axes))[:3, :3]
    places = (header.GetSize(), header.GetSpacing(), header.GetOrigin())
    return np.concatenate([*(part[:3] for part in places), directions.ravel()])


def source_path(data: Path, head: HeadEntry) -> Path | None:
    """Find the very file that the split means; None where it is not there."""
    for path in sorted(data.glob(head.source)):
        if path.is_file() and _sha256(path.read_bytes()) == head.sha256:
            return path
    return None


def _pack_head(data: Path, out: Path, head: HeadEntry) -> PackedHead:
    source = source_path(data, head)
    if source is None:
        raise MetiaError("input-unreadable", f"{head.source} has gone.")
    values, spacing_mm = read_volume(source)
    arrays: dict[str, NDArray[Any]] = {}
    lesions = read_volume(data / head.lesions)[0] > 0 if head.lesions else None
    box = _content_box(values, head.kind)
    values = np.clip(values[box], 0, None)
    if head.kind == "labels":
        table, indices = np.unique(values.astype(np.uint16), return_inverse=True)
        arrays["table"] = table
        arrays["values"] = indices.reshape(values.shape).astype(np.uint8)
    else:
        # 2000 grey levels are finer than any scanner's noise.
        arrays["values"] = np.round(values * (2000 / values.max())).astype(np.uint16)
        if lesions is not None:
            arrays["lesions"] = np.packbits(lesions[box])
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    content = stream.getvalue()
    name = f"{head.name}.npz"
    (out / name).write_bytes(content)
    return PackedHead(
        name=head.name,
        kind=head.kind,
        part=head.part,
        source_sha256=head.sha256,
        file=name,
        sha256=_sha256(content),
        spacing_mm=head.spacing_mm or spacing_mm,
    )


def _content_box(values: NDArray[np.float32], kind: Kind) -> tuple[slice, ...]:
    """Bound what is there: labels with a margin, images without blank slices."""
    floor = 0.0 if kind == "labels" else 0.02 * float(values.max())
    margin = MARGIN_VOXELS if kind == "labels" else 0
    parts = []
    for axis in range(3):
        others = tuple(index for index in range(3) if index != axis)
        found = np.flatnonzero(values.max(axis=others) > floor)
        low, high = int(found[0]) - margin, int(found[-1]) + margin + 1
        parts.append(slice(max(0, low), min(values.shape[axis], high)))
    return tuple(parts)


class HeadStore:
    """A packed folder, opened for one purpose.

    Parameters
    ----------
    folder : Path
    parts : sequence of str
        Parts to read. Training passes ``train`` and ``validation``; opening the test
        part needs `evaluation`.
    split : Split
        Heads whose source it calls test are test heads, whatever the folder says.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` where the folder is no pack, holds none of the parts,
        or where training would read test heads.
    """

    def __init__(
        self,
        folder: Path,
        parts: Sequence[Part],
        *,
        names: Sequence[str] | None = None,
        evaluation: bool = False,
        split: Split | None = None,
    ) -> None:
        self.folder = folder
        index = _read_index(folder)
        locked = {
            head.sha256 for head in (split or read_split()).heads if head.part == "test"
        }
        known = {head.name for head in index.heads}
        if names is not None and (missing := sorted(set(names) - known)):
            raise MetiaError(
                "configuration-invalid", f"There is no head {', '.join(missing)}."
            )
        chosen = [head for head in index.heads if names is None or head.name in names]
        self.heads = tuple(head for head in chosen if head.part in parts)
        if not evaluation:
            _refuse_test_heads(chosen if names is not None else self.heads, locked)
        if not self.heads:
            raise MetiaError(
                "configuration-invalid",
                f"The folder of heads holds none for {', '.join(parts)}.",
            )

    def of_kind(self, kind: Kind) -> tuple[PackedHead, ...]:
        """List the heads of one kind."""
        return tuple(head for head in self.heads if head.kind == kind)

    def load(self, head: PackedHead) -> StoredHead:
        """Read one head, after comparing it with its hash.

        Raises
        ------
        MetiaError
            ``input-unreadable`` where it is missing or changed.
        """
        try:
            content = (self.folder / head.file).read_bytes()
        except OSError as error:
            raise MetiaError("input-unreadable", f"{head.file} is missing.") from error
        if _sha256(content) != head.sha256:
            raise MetiaError("input-unreadable", f"{head.file} was changed.")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            values = arrays["values"]
            if head.kind == "labels":
                values = arrays["table"][values]
            lesions = None
            if "lesions" in arrays:
                flat = np.unpackbits(arrays["lesions"], count=values.size)
                lesions = flat.reshape(values.shape).astype(bool)
        return StoredHead(
            name=head.name,
            kind=head.kind,
            values=np.ascontiguousarray(values, dtype=np.uint16),
            lesions=lesions,
            spacing_mm=head.spacing_mm,
        )


def _read_index(folder: Path) -> PackIndex:
    try:
        return PackIndex.model_validate_json((folder / INDEX_NAME).read_bytes())
    except (OSError, ValidationError, json.JSONDecodeError) as error:
        raise MetiaError(
            "configuration-invalid",
            "The folder of heads is none: make one with `metia synthetic pack`.",
        ) from error


def _refuse_test_heads(heads: Sequence[PackedHead], locked: set[str]) -> None:
    for head in heads:
        if head.part == "test" or head.source_sha256 in locked:
            raise MetiaError(
                "configuration-invalid",
                f"Head {head.name} is locked for testing; training never reads it.",
            )
