"""A contact sheet of synthetic heads: what the network will be shown.

One row a head: the slice through its largest lesion, three more, and a sagittal one,
with the truth outlined in red. Grey runs from 0 to 2.5 times the brain's median.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from unetr.training.synthetic import HeadGenerator, SyntheticHead

CELL = 224
WHITE = 2.5
LEVELS = (0.42, 0.58, 0.74)
"""Heights of the other slices, from the lowest."""

Plane = NDArray[np.float32]


def write_sheet(generator: HeadGenerator, indices: Sequence[int], path: Path) -> None:
    """Write the heads of some indices as one PNG."""
    rows = [_row(generator.make(index)) for index in indices]
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)


def _row(head: SyntheticHead) -> NDArray[np.uint8]:
    image, target = head.image.cpu().numpy(), head.target.cpu().numpy()
    count, _, across = image.shape
    height, side = count // 2, across // 2
    if head.lesions:
        largest = max(head.lesions, key=lambda lesion: lesion.diameter_mm)
        height = min(count - 1, max(0, round(largest.centre[0])))
        side = min(across - 1, max(0, round(largest.centre[2])))
    levels = [height, *(int(level * count) for level in LEVELS)]
    cells = [_cell(image[level], target[level]) for level in levels]
    cells.append(_cell(image[::-1, :, side], target[::-1, :, side]))
    return np.concatenate(cells, axis=1)


def _cell(image: Plane, target: Plane) -> NDArray[np.uint8]:
    # Two pixels at the border, so that no outline is cut.
    grey = np.zeros((CELL, CELL), np.float32)
    marked = np.zeros((CELL, CELL), bool)
    rows, columns = (min(CELL, size) for size in image.shape)
    grey[:rows, :columns] = image[:rows, :columns]
    marked[:rows, :columns] = target[:rows, :columns] > 0.5
    edge = ndimage.binary_dilation(marked) & ~marked
    cell = np.repeat((np.clip(grey / WHITE, 0, 1) * 255)[..., None], 3, axis=2)
    cell[edge] = (255, 40, 40)
    return cell.astype(np.uint8)
