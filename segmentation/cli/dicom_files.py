"""DICOM files on this machine: read their headers, tell series apart, load one.

A folder is walked without following links; whatever is not DICOM is counted and passed
over. A ZIP is unpacked into a private temporary folder under names of our own, so that
no member can choose where it lands, within caps on count, size and ratio that hold for
what is really read, not for what the archive claims. Errors carry counts, never names
of files, which may hold those of patients.
"""

from __future__ import annotations

import filecmp
import os
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from errors import MetiaError
from orthanc.archive import SeriesHeader

MAXIMUM_FILES = 50_000
MAXIMUM_MEMBER_BYTES = 1 << 30
MAXIMUM_TOTAL_BYTES = 8 << 30
MAXIMUM_RATIO = 100
"""Unpacked over packed size, of the whole archive; images reach about 10."""
_RATIO_APPLIES_FROM_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
_PARSING_FAULTS = (
    AttributeError, EOFError, KeyError, NotImplementedError, TypeError, ValueError,
)  # fmt: skip
"""What pydicom raises on bytes that are no DICOM object."""
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


@dataclass(frozen=True)
class LocalSeries:
    """One series found in a folder.

    Attributes
    ----------
    header : SeriesHeader
        As the archive would give it.
    paths : tuple of Path
        Its files, one per SOP Instance UID, in order of instance number.
    conflicts : int
        Files left out because another, different one claims to be the same image.
    """

    study_uid: str
    header: SeriesHeader
    paths: tuple[Path, ...]
    conflicts: int


@dataclass(frozen=True)
class LocalFiles:
    """What a folder holds.

    Attributes
    ----------
    passed_over : int
        Files that are no DICOM images.
    """

    series: tuple[LocalSeries, ...]
    passed_over: int
    warnings: tuple[str, ...] = ()


@contextmanager
def dicom_folder(path: Path) -> Iterator[Path]:
    """Give `path` if it is a folder or a DICOM file, or a ZIP, unpacked meanwhile.

    Raises
    ------
    MetiaError
        ``input-unreadable``.
    """
    if path.is_dir() or (path.is_file() and _is_dicom(path)):
        yield path
        return
    if not path.is_file() or not _is_zip(path):
        raise _refused("This is no DICOM folder, no ZIP and no NIfTI (.nii, .nii.gz).")
    with tempfile.TemporaryDirectory(prefix="metia-") as folder:
        _unpack(path, Path(folder))
        yield Path(folder)


def _is_zip(path: Path) -> bool:
    """Tell by the first bytes (an empty archive begins otherwise)."""
    with path.open("rb") as stream:
        return stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            if len(members) > MAXIMUM_FILES:
                raise _refused(f"The ZIP holds more than {MAXIMUM_FILES} files.")
            if any(one.flag_bits & 1 for one in members):
                raise _refused("The ZIP is encrypted.")
            packed = path.stat().st_size
            total = 0
            for number, member in enumerate(members):
                target = folder / f"{number:06d}"
                total = _unpack_member(archive, member, target, total, packed)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _refused("The ZIP is damaged.") from error
    except NotImplementedError as error:
        raise _refused("The ZIP uses a compression that is not supported.") from error


def _unpack_member(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    target: Path,
    total: int,
    packed: int,
) -> int:
    """Write one member; returns the bytes unpacked so far."""
    size = 0
    with archive.open(member) as source, target.open("xb") as sink:
        while chunk := source.read(_CHUNK_BYTES):
            size += len(chunk)
            total += len(chunk)
            if size > MAXIMUM_MEMBER_BYTES or total > MAXIMUM_TOTAL_BYTES:
                raise _refused("The ZIP unpacks to more than a study can hold.")
            if total > _RATIO_APPLIES_FROM_BYTES and total > MAXIMUM_RATIO * packed:
                raise _refused(
                    f"The ZIP unpacks to more than {MAXIMUM_RATIO} times its size."
                )
            sink.write(chunk)
    return total


def find_series(folder: Path) -> LocalFiles:
    """Read the headers of all DICOM images below `folder`.

    Raises
    ------
    MetiaError
        ``input-unreadable`` where there is none.
    """
    groups: dict[str, dict[str, tuple[Dataset, Path]]] = {}
    conflicts: Counter[str] = Counter()
    passed_over = damaged = copies = 0
    for path in _files(folder):
        if path.name.upper() == "DICOMDIR" or not _is_dicom(path):
            passed_over += 1
            continue
        header = _read(path, headers_only=True)
        if header is None:
            damaged += 1
            continue
        series_uid, uid = str(header.SeriesInstanceUID), str(header.SOPInstanceUID)
        series = groups.setdefault(series_uid, {})
        if uid not in series:
            series[uid] = (header, path)
        elif filecmp.cmp(series[uid][1], path, shallow=False):
            copies += 1
        else:
            conflicts[series_uid] += 1
    if not groups:
        raise _refused(
            f"None of the {passed_over + damaged} files is a readable DICOM object."
        )
    warnings = []
    if copies:
        warnings.append(f"{copies} files were there twice, identical; one was used.")
    if damaged:
        warnings.append(f"{damaged} DICOM files are damaged and were left out.")
    return LocalFiles(
        tuple(
            _series(list(group.values()), conflicts[uid])
            for uid, group in groups.items()
        ),
        passed_over,
        tuple(warnings),
    )


def load_images(series: LocalSeries) -> list[Dataset]:
    """Read the images of a series, with pixels.

    Raises
    ------
    MetiaError
        ``input-unreadable`` where a file is damaged, or where it is not clear which
        of two is the image.
    """
    if series.conflicts:
        raise _refused(
            f"{series.conflicts} files of the series claim to be the same image as "
            "another, different one."
        )
    images = []
    for path in series.paths:
        image = _read(path, headers_only=False)
        if image is None:
            raise _refused("A DICOM file is damaged.")
        images.append(image)
    return images


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():  # one Enhanced object may be a whole series
        yield folder
        return
    count = 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_symlink() or not path.is_file():
                continue
            count += 1
            if count > MAXIMUM_FILES:
                raise _refused(f"The folder holds more than {MAXIMUM_FILES} files.")
            yield path


def _is_dicom(path: Path) -> bool:
    """Tell by the first bytes; without a preamble, group 2 or 8 comes first."""
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError as error:
        raise _refused(f"A file cannot be read: {error.strerror}.") from error
    return start[128:] == b"DICM" or start[:2] in (b"\x02\x00", b"\x08\x00")


def _read(path: Path, *, headers_only: bool) -> Dataset | None:
    """Read an object, or give None where it is damaged."""
    try:
        image: Dataset = pydicom.dcmread(
            path, stop_before_pixels=headers_only, force=True
        )
        if not all(image.get(keyword) for keyword in _NEEDED):
            return None
    except OSError as error:
        raise _refused(f"A file cannot be read: {error.strerror}.") from error
    except _PARSING_FAULTS:
        return None
    return image


def _series(found: Sequence[tuple[Dataset, Path]], conflicts: int) -> LocalSeries:
    ordered = sorted(found, key=lambda one: (_number(one[0]), str(one[1])))
    middle = ordered[len(ordered) // 2][0]
    return LocalSeries(
        study_uid=str(middle.StudyInstanceUID),
        header=SeriesHeader(str(middle.SeriesInstanceUID), len(ordered), middle),
        paths=tuple(path for _, path in ordered),
        conflicts=conflicts,
    )


def _number(header: Dataset) -> int:
    try:
        return int(header.get("InstanceNumber") or 0)
    except (TypeError, ValueError):
        return 0


def _refused(detail: str) -> MetiaError:
    return MetiaError("input-unreadable", detail)
