"""Cases to train on, made of DICOM files or of results that readers have judged.

A case is an image and the outline that a person drew on it. ``write_case`` gives it the
layout that ``metia train`` reads (``PATIENT__VISIT/image.nii.gz``, ``mask.nii.gz``),
under names that say nothing of the patient: a keyed hash of the id, so that visits of
one patient stay together and nobody can try ids out. What readers judged later takes
the place of what they judged before. Axes (slice, row, column).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from db.engine import Engine, reading
from db.patients import find_patients
from db.visits import load_visits
from errors import MetiaError
from orthanc.archive import Archive
from segmentation.cli.dicom_files import LocalFiles
from segmentation.cli.known_contour import load_drawn
from segmentation.dicom.imports import is_importable
from segmentation.exports.dicom_objects import load_material
from segmentation.exports.nifti import read_labels

KEY_NAME = ".patient-key"
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Case:
    """An image with its outline.

    Attributes
    ----------
    patient, visit : str
        What identifies them; only a keyed hash of either is written.
    inside : ndarray of bool
        On the grid of `image`, (slice, row, column).
    latest : bool
        Whether it takes the place of an earlier case of the same visit.
    """

    patient: str
    visit: str
    image: hd.Volume
    inside: NDArray[np.bool_]
    latest: bool = False


def drawings(folder: Path) -> Iterator[pydicom.Dataset]:
    """Give every SEG and RTSTRUCT below a folder, in order of their paths."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        try:
            header = pydicom.dcmread(path, specific_tags=["SOPClassUID"])
            drawn = pydicom.dcmread(path) if is_importable(header) else None
        except (InvalidDicomError, OSError, ValueError, EOFError):
            continue  # no DICOM object
        if drawn is not None:
            yield drawn


def drawn_case(files: LocalFiles, drawn: pydicom.Dataset) -> Case:
    """Make a case of an object and the images it was drawn on.

    Raises
    ------
    MetiaError
        ``series-not-found``, ``import-invalid``, ``volume-*``.
    """
    source, inside = load_drawn(files, drawn)
    first = source.source_images[0]
    return Case(
        patient=str(first.get("PatientID", "")) or str(first.StudyInstanceUID),
        # Two readers of one series are two cases of one patient.
        visit=f"{first.StudyInstanceUID} {drawn.SOPInstanceUID}",
        image=source.volume,
        inside=inside,
    )


def judged_cases(
    engine: Engine, archive: Archive, states: Sequence[str]
) -> Iterator[Case | MetiaError]:
    """Make a case of the current result of every visit that is in one of the states.

    Lesions that the reader rejected are no part of the outline. What cannot be read
    from the archive comes as its error, and the rest goes on.
    """
    for patient_key, study_uid, result_id in list(_judged(engine, states)):
        try:
            material = load_material(engine, archive, result_id)
            wanted = [one.segment_number for one in material.lesions]
            volume = material.source.volume
            labels = read_labels(material.segmentation, volume, wanted)
        except MetiaError as error:
            yield error
        else:
            # Every edit is a new result, but a study has one current result.
            yield Case(patient_key, study_uid, volume, labels > 0, latest=True)


def _judged(engine: Engine, states: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Give patient, study and result."""
    with reading(engine) as session:
        cursor = None
        while True:
            page, cursor = find_patients(session, limit=200, cursor=cursor)
            for patient in page:
                for visit in load_visits(session, patient.id):
                    if visit.result is not None and visit.result.state in states:
                        yield patient.id, visit.study_uid, visit.result.id
            if cursor is None:
                return


def write_case(out: Path, case: Case) -> str:
    """Write one case, whole or not at all.

    Returns
    -------
    str
        Its name.

    Raises
    ------
    MetiaError
        ``output-exists`` where it was written before; ``configuration-invalid`` where
        it took the place of another and ``split.json`` cannot be read.
    """
    key = _key(out)
    name = f"{_pseudonym(key, case.patient)}__{_pseudonym(key, case.visit)}"
    place, unfinished = out / name, out / f".{name}"
    if place.exists() and not case.latest:
        raise MetiaError("output-exists", "This case is there already.")
    _write_files(unfinished, case)
    if not place.exists():
        unfinished.rename(place)
        return name
    if _same_files(place, unfinished):
        shutil.rmtree(unfinished)
        raise MetiaError("output-exists", "This case is there already, as it is now.")
    with tempfile.TemporaryDirectory(dir=out, prefix=".") as outdated:
        place.rename(Path(outdated) / name)
        unfinished.rename(place)
    # Needs torch, like all of training.
    from unetr.training.cases import lock_again

    lock_again(out, name)
    return name


def _write_files(folder: Path, case: Case) -> None:
    folder.mkdir(exist_ok=True)
    affine = _RAS_FROM_LPS @ case.image.affine
    for kind, array in (
        ("image", np.asarray(case.image.array, np.float32)),
        ("mask", case.inside.astype(np.uint8)),
    ):
        image = nib.Nifti1Image(array, affine)  # type: ignore[no-untyped-call]
        nib.save(image, folder / f"{kind}.nii.gz")


def _same_files(one: Path, other: Path) -> bool:
    return all(
        path.read_bytes() == (one / path.name).read_bytes() for path in other.iterdir()
    )


def _pseudonym(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:12]


def _key(out: Path) -> bytes:
    """Give the folder's own secret: without it no name can be tied to an id."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / KEY_NAME
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32), "ascii")
    return bytes.fromhex(path.read_text("ascii"))
