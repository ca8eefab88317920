"""Own cases to train on: the tiny head as NIfTI, with a mask."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from tests.tiny_heads import tiny_labels


def write_case(folder: Path, name: str, number: int = 0, **changes: object) -> None:
    """Write the tiny head, its mask a cube.

    Parameters
    ----------
    number : int
        Another one makes another image.
    changes
        ``image``, ``mask``, ``affine``, ``mask_affine``, or ``code`` of the affines.
    """
    labels = tiny_labels()
    image = np.where(labels > 0, 300.0, 2.0).astype(np.float32)
    image[labels == 516] = 700
    image[0, 0, 0] = number
    mask = np.zeros(labels.shape, np.uint8)
    mask[30:34, 30:34, 40:44] = 1
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    parts = {"image": image, "mask": mask, "mask_affine": affine, "affine": affine}
    parts.update(changes)
    (folder / name).mkdir(parents=True)
    for kind, place in (("image", "affine"), ("mask", "mask_affine")):
        if parts[kind] is not None:
            saved = nib.Nifti1Image(parts[kind], parts[place])
            saved.set_sform(parts[place], code=int(parts.get("code", 1)))
            nib.save(saved, folder / name / f"{kind}.nii.gz")
