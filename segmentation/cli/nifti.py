"""NIfTI in and out: RAS on disk, LPS inside, voxels never resampled.

``load_nifti`` gives the image in the order that DICOM series have (axial slices, rows
to the back, columns to the left) and keeps what is needed to write a mask on exactly
the grid of the file; ``mask_image`` does that, and for DICOM series too.
``load_with_mask`` gives an image with a mask drawn on it. Pure but for the file read.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from errors import MetiaError
from orthanc import geometry
from orthanc.volume import LoadedSeries

SUFFIXES = (".nii", ".nii.gz")
MAXIMUM_VOXELS = 1 << 28
ORIENTATION = "FPL"
"""Axes of the volume made: towards feet, posterior, left, as ``load_series`` does."""
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SHEAR_TOLERANCE = 1e-4
"""That of ``highdicom.Volume``, which would refuse with fewer words."""
_GRID_TOLERANCE = 1e-3


@dataclass(frozen=True)
class NiftiSource:
    """A NIfTI file, loaded.

    Attributes
    ----------
    series : LoadedSeries
        Without source images: there is no DICOM object to refer to.
    grid : highdicom.Volume
        The file's own grid (axes as in the file), on which the mask is written.
    header : Any
        The file's header, for the codes of its affines.
    sha256 : str
        Of the file's bytes.
    """

    series: LoadedSeries
    grid: hd.VolumeGeometry
    header: Any
    sha256: str


def is_nifti(path: Path) -> bool:
    """Tell by the name whether a file is NIfTI."""
    return path.name.lower().endswith(SUFFIXES)


def load_nifti(path: Path, *, constant_allowed: bool = False) -> NiftiSource:
    """Read one NIfTI image.

    Parameters
    ----------
    constant_allowed : bool, optional
        A mask may have the same value everywhere; a head cannot.

    Raises
    ------
    MetiaError
        ``input-unreadable`` for what is no 3-D NIfTI; ``volume-*`` for an image that
        cannot be a head.
    """
    try:
        image = nib.load(path)
        array, affine = _checked(image)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise MetiaError(
            "input-unreadable", f"The NIfTI file cannot be read: {error.strerror}."
        ) from error
    except (ImageFileError, HeaderDataError, ValueError, EOFError, zlib.error) as error:
        raise MetiaError("input-unreadable", "The NIfTI file is damaged.") from error
    if not constant_allowed and array.min() == array.max():
        raise MetiaError("volume-bad-pixels", "Every voxel has the same value.")
    on_file = hd.Volume(array, _LPS_FROM_RAS @ affine, coordinate_system="PATIENT")
    volume = on_file.to_patient_orientation(ORIENTATION)
    header: Any = image.header
    warnings = ["A NIfTI file does not say what it shows; it was taken for a T1."]
    if not header["qform_code"] and not header["sform_code"]:
        warnings.append("The NIfTI file states no orientation; sides are not known.")
    return NiftiSource(
        series=LoadedSeries(
            volume=volume,
            slices=(),
            source_images=(),
            warnings=tuple(warnings),
            facts={
                "shape": list(volume.shape),
                "spacing_mm": list(volume.spacing),
                "pixel_sha256": hashlib.sha256(
                    np.ascontiguousarray(volume.array).data
                ).hexdigest(),
            },
        ),
        grid=on_file.get_geometry(),
        header=header,
        sha256=sha256,
    )


def load_with_mask(image: Path, mask: Path) -> tuple[hd.Volume, NDArray[np.bool_]]:
    """Read an image, and a mask drawn on it.

    Returns
    -------
    highdicom.Volume
        float32, axes (slice, row, column).
    ndarray of bool
        True where the mask is above 0, which may be nowhere.

    Raises
    ------
    MetiaError
        As ``load_nifti``; ``input-unreadable`` for a mask on another grid.
    """
    volume = load_nifti(image).series.volume
    drawn = load_nifti(mask, constant_allowed=True).series.volume
    if drawn.shape != volume.shape or not np.allclose(
        drawn.affine, volume.affine, atol=_GRID_TOLERANCE
    ):
        raise MetiaError("input-unreadable", "The mask lies on another grid.")
    return volume, np.asarray(drawn.array) > 0


def _checked(loaded: Any) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Give the voxels (axes as in the file) and the RAS affine, or refuse."""
    if not isinstance(loaded, nib.Nifti1Image):
        raise MetiaError("input-unreadable", "The file is not NIfTI-1 or NIfTI-2.")
    image: Any = loaded
    shape = tuple(int(count) for count in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or image.header.get_data_dtype().fields is not None:
        raise MetiaError("input-unreadable", "The NIfTI image is not one 3-D volume.")
    if np.prod(shape, dtype=np.float64) > MAXIMUM_VOXELS:
        raise MetiaError("volume-too-large", "The NIfTI image has too many voxels.")
    affine = np.asarray(image.affine, dtype=np.float64)
    _check_affine(affine, shape)
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    if not np.isfinite(array).all():
        raise MetiaError("volume-bad-pixels", "Some values are not finite numbers.")
    return array, affine


def _check_affine(affine: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = geometry.SLICE_DISTANCE_LIMITS_MM
    if not np.isfinite(affine).all() or not all(low <= mm <= high for mm in spacing):
        raise MetiaError(
            "volume-absurd-geometry",
            f"The voxel size is not between {low:g} and {high:g} mm.",
        )
    if min(shape) < geometry.MINIMUM_SLICES:
        raise MetiaError(
            "volume-single-slice",
            f"{min(shape)} slices; at least {geometry.MINIMUM_SLICES} are needed.",
        )
    extent_mm = float(np.max(spacing * shape))
    if extent_mm > geometry.EXTENT_LIMIT_MM:
        raise MetiaError(
            "volume-absurd-geometry",
            f"The image covers {extent_mm:.0f} mm; "
            f"a head MR covers at most {geometry.EXTENT_LIMIT_MM:g} mm.",
        )
    directions = affine[:3, :3] / spacing
    if np.abs(directions.T @ directions - np.eye(3)).max() > _SHEAR_TOLERANCE:
        raise MetiaError("volume-sheared", "The axes are not perpendicular.")


# nibabel has no types; this is where they are given up.
_new_image: Any = nib.Nifti1Image


def mask_image(labels: hd.Volume, source: NiftiSource | None) -> Any:
    """Make the NIfTI image of a label map.

    Parameters
    ----------
    labels : highdicom.Volume
        uint16, on the grid that was predicted on.
    source : NiftiSource or None
        The file whose grid the mask shall have; None for a DICOM series, whose mask
        gets the order (column, row, slice).

    Returns
    -------
    nibabel.Nifti1Image
        uint16, RAS affine; 0 is background, else the number of the lesion.
    """
    if source is None:
        affine = _LPS_FROM_RAS @ labels.affine[:, [2, 1, 0, 3]]
        made: Any = _new_image(np.ascontiguousarray(labels.array.T), affine)
        made.set_qform(affine, code="scanner")
        made.set_sform(affine, code="scanner")
    else:
        array = labels.match_geometry(source.grid, tol=1e-3).array
        affine = _LPS_FROM_RAS @ source.grid.affine
        made = _new_image(np.ascontiguousarray(array), affine)
        made.set_qform(affine, code=int(source.header["qform_code"]))
        made.set_sform(affine, code=int(source.header["sform_code"]))
    made.header.set_data_dtype(np.uint16)
    made.header.set_xyzt_units("mm")
    made.header["descrip"] = b"MetIA lesions. Research use only."
    return made
