"""What ``metia evaluate`` measures on: synthetic heads, or own cases with truth.

``synthetic_heads`` and ``own_cases`` choose and check; each image is made or read when
its turn comes, on one grid with its truth, axes (slice, row, column).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    import highdicom as hd

    from unetr.training.cases import CaseFiles
    from unetr.training.heads import Part
    from unetr.training.synthetic import HeadGenerator

GREY_LEVELS = 500.0
"""Of the brain's median in synthetic images, which scanners write as whole numbers."""


@dataclass(frozen=True)
class EvaluationCase:
    """An image with its truth on the same grid.

    Lesions of the truth that touch what is above 0 in `passed_over` are not asked for.
    """

    name: str
    image: hd.Volume
    truth: hd.Volume
    passed_over: hd.Volume | None = None


@dataclass(frozen=True)
class Source:
    """What to evaluate on: a text for the report, and names and readers of cases."""

    text: str
    cases: Sequence[tuple[str, Callable[[], EvaluationCase]]]


def _parts(part: str) -> tuple[Part, ...]:
    """Give the parts that an answer to ``--part`` means."""
    from unetr.training.heads import Part

    return tuple(name for name in get_args(Part) if part in (name, "all"))


def synthetic_heads(heads: Path, part: str, count: int, seed: int) -> Source:
    """Choose `count` heads of a part, to be made from a seed."""
    from unetr.training.heads import HeadStore
    from unetr.training.parameters import SyntheticParameters
    from unetr.training.synthetic import HeadGenerator

    chosen = HeadStore(heads, _parts(part), evaluation=True)
    generator = HeadGenerator(chosen, SyntheticParameters(), seed=seed)
    return Source(
        f"{count} synthetic heads, part {part}, seed {seed}, painted lesions",
        [
            (f"{index:03d}", partial(_make_head, generator, index))
            for index in range(count)
        ],
    )


def _make_head(generator: HeadGenerator, index: int) -> EvaluationCase:
    import highdicom as hd
    import numpy as np

    # Slices to the head, rows to the back, columns to the left, 1 mm (LPS).
    affine = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
    head = generator.make(index)
    grey = np.round(head.image.numpy() * GREY_LEVELS).astype(np.float32)
    image = hd.Volume(
        array=grey,
        affine=affine,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
    )
    truth = image.with_array((head.target.numpy() >= 0.5).astype(np.float32))
    # A real tumour comes again with every image of its head; it counts once, with
    # the real images (benchmarks.real_images).
    read = None
    if head.read is not None:
        read = image.with_array((head.read.numpy() >= 0.5).astype(np.float32))
    return EvaluationCase(f"{index:03d} {head.source}", image, truth, read)


def own_cases(folder: Path, part: str) -> Source:
    """Choose the cases of a part, once all in the folder are known to be sound.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` for faults of cases, and for cases that are no longer
        those of their ``split.json``.
    """
    from errors import MetiaError
    from unetr.training.cases import SPLIT_NAME, check_cases, find_cases, lock_split

    faults = [
        f"{fault.case}: {fault.text}" for fault in check_cases(folder) if fault.serious
    ]
    if faults:
        raise MetiaError(
            "configuration-invalid", "Cases cannot be used. " + " ".join(faults)
        )
    cases, _ = find_cases(folder)
    choice = f"all (there is no {SPLIT_NAME})"
    if (folder / SPLIT_NAME).exists():
        choice = f"part {part}"
        parts = _parts(part)
        locked = lock_split(folder, cases).cases
        chosen = {case.name for case in locked if case.part in parts}
        cases = [case for case in cases if case.name in chosen]
    return Source(
        f"{len(cases)} cases with truth in {folder.name}, {choice}",
        [(case.name, partial(_read_case, case)) for case in cases],
    )


def _read_case(case: CaseFiles) -> EvaluationCase:
    import numpy as np

    from segmentation.cli.nifti import load_with_mask

    image, inside = load_with_mask(case.image, case.mask)
    truth = image.with_array(inside.astype(np.float32))
    return EvaluationCase(case.name, image, truth)
