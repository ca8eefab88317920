"""What the readers of foreign outlines have in common: regions of voxels, refusals.

Pure; called by ``segmentation.dicom.imports`` and the two readers it is made of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from errors import MetiaError

AlgorithmType = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]
_LONGEST_NAME = 64
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True)
class Region:
    """One structure or segment.

    Attributes
    ----------
    name : str
        Safe to show; never empty.
    voxels : numpy.ndarray
        Flat indices into the grid, each once.
    algorithm_type : str
        How it came about, as the object says.
    """

    name: str
    voxels: NDArray[np.intp]
    algorithm_type: AlgorithmType = "MANUAL"


@dataclass(frozen=True)
class Regions:
    """All regions of an object that may be lesions; warnings are sentences."""

    regions: tuple[Region, ...]
    warnings: tuple[str, ...] = ()


def invalid(detail: str) -> MetiaError:
    """Make the refusal of an object; `detail` holds no text from it."""
    return MetiaError("import-invalid", detail)


def shown_name(text: object, number: int) -> str:
    """Make a name of the object fit to be shown: one line, bounded, not empty."""
    plain = " ".join(_CONTROL.sub(" ", str(text or "")).split())
    return plain[:_LONGEST_NAME].strip() or f"Imported {number}"


def algorithm_type(text: object) -> AlgorithmType:
    """Read how an outline came about; where the object does not say, a person drew."""
    stated = str(text or "").strip().upper()
    for known in get_args(AlgorithmType):
        if stated == known:
            found: AlgorithmType = known
            return found
    return "MANUAL"
