"""Synthetic post-contrast heads with metastases: the data of the bundled model.

``HeadGenerator`` holds the heads of one part of a packed folder and makes image number
``index`` of a stream from the seed alone, on CPU or CUDA: labels are warped and painted
(``anatomy``), what enhances anyway is added (``enhancement``), then the metastases
(``lesions``), then the scanner (``acquisition``); a share of the heads are real images
with painted lesions. Images are (slice, row, column) = (head, posterior, left), 1 mm
voxels, divided by the brain's median exactly as ``unetr.preprocessing`` does for the
rule ``brain-median``. One generator a process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from errors import MetiaError
from unetr.head import COARSE_MM, Head, find_head
from unetr.training.acquisition import acquire, acquire_again
from unetr.training.anatomy import Anatomy, draw_anatomy
from unetr.training.enhancement import enhance
from unetr.training.fields import Draw, Place, dilate, erode, interpolate_axis
from unetr.training.heads import HeadStore, PackedHead, StoredHead
from unetr.training.lesions import (
    Canvas,
    PaintedLesion,
    draw_count,
    paint_lesions,
)
from unetr.training.parameters import LesionParameters, SyntheticParameters
from unetr.training.visibility import find_unseen

CLIP = (0.0, 5.0)
"""Of images in units of the brain's median; part of the profile of exported models."""
CPU = torch.device("cpu")
NECK_SHARE = 0.35
"""Lowest part of a real image, in which no lesion is painted: face and neck."""
FRONT_SHARE = 0.6
"""Of the brain's length."""
SKULL_MM = 14.0
"""Scalp and skull of a real image; brightness then parts brain from bone."""


@dataclass(frozen=True)
class SyntheticHead:
    """One image with its truth; tensors are (slice, row, column).

    Attributes
    ----------
    image : Tensor, float32
        In units of the brain's median, clipped to ``CLIP``.
    target : Tensor, float32
        Share of each voxel that is lesion, 0 to 1; 0 where a lesion was painted that
        the finished image does not show.
    inside : Tensor of bool
        The inside of the skull, roughly.
    lesions : tuple of PaintedLesion
        Those that the image shows.
    source : str
        Name of the head it was made from.
    look_alikes : tuple of Place
        Where things enhance that only their surroundings tell from a lesion.
    read : Tensor or None
        The part of `target` that was not painted: what a reader marked in a real image.
    """

    image: Tensor
    target: Tensor
    inside: Tensor
    lesions: tuple[PaintedLesion, ...]
    source: str
    look_alikes: tuple[Place, ...] = ()
    read: Tensor | None = None


@dataclass(frozen=True)
class _Background:
    """A real image on the 1 mm grid, with what does not depend on the draw."""

    image: Tensor
    lesions: Tensor
    inside: Tensor
    reference: float


def head_of(image: Tensor) -> Head:
    """Find the head as inference does, on block means made where the image lies."""
    blocks = functional.avg_pool3d(
        image[None, None], int(COARSE_MM), ceil_mode=True, count_include_pad=False
    )[0, 0]
    return find_head(blocks.cpu().numpy(), (COARSE_MM,) * 3, up=(0, 1))


def normalise(image: Tensor) -> Tensor:
    """Divide by the brain's median and clip."""
    return (image / max(head_of(image).brain_median, 1e-6)).clamp(*CLIP)


class HeadGenerator:
    """Makes the images of one stream.

    Parameters
    ----------
    store : HeadStore
    parameters : SyntheticParameters
    seed : int
    device : torch.device
    """

    def __init__(
        self,
        store: HeadStore,
        parameters: SyntheticParameters,
        *,
        seed: int,
        device: torch.device = CPU,
    ) -> None:
        self.store = store
        self.parameters = parameters
        self.seed = seed
        self.device = device
        self._labels = store.of_kind("labels")
        self._backgrounds = store.of_kind("background")
        self._cache: dict[str, Tensor | _Background] = {}

    def make(self, index: int) -> SyntheticHead:
        """Make image number `index`; the same one each time.

        Raises
        ------
        MetiaError
            ``input-unreadable`` where a packed head is missing or changed.
        """
        draw = Draw((self.seed, index), self.device)
        real = draw.chance(self.parameters.background_share) or not self._labels
        if real and self._backgrounds:
            return self._from_background(draw, _choose(draw, self._backgrounds))
        return self._from_labels(draw, _choose(draw, self._labels))

    def _from_labels(self, draw: Draw, head: PackedHead) -> SyntheticHead:
        labels = self._cache.get(head.name)
        if not isinstance(labels, Tensor):
            values = self.store.load(head).values
            labels = torch.from_numpy(values.astype("int16")).to(self.device)
            self._cache[head.name] = labels
        anatomy = draw_anatomy(draw, labels, self.parameters.anatomy)
        target = torch.zeros_like(anatomy.image)
        lesions: list[PaintedLesion] = []
        places: tuple[Place, ...] = ()
        if draw.chance(self.parameters.enhancement.contrast_share):
            places = enhance(draw, anatomy, self.parameters.enhancement)
            settings = self.parameters.lesions
            canvas = _canvas(anatomy, target, settings)
            lesions = paint_lesions(draw, canvas, settings, draw_count(draw, settings))
        image = acquire(
            draw, anatomy.image, anatomy.intracranial, self.parameters.acquisition
        )
        made = _finish(
            SyntheticHead(
                image, target, anatomy.intracranial, tuple(lesions), head.name, places
            )
        )
        if draw.chance(self.parameters.acquisition.slab_share):
            made = _cut_slab(draw, made)
        return made

    def _from_background(self, draw: Draw, head: PackedHead) -> SyntheticHead:
        known = self._cache.get(head.name)
        if not isinstance(known, _Background):
            known = _prepare_background(self.store.load(head), self.device)
            self._cache[head.name] = known
        image, read, inside = known.image.clone(), known.lesions, known.inside
        if draw.chance(0.5):
            image, read, inside = image.flip(2), read.flip(2), inside.flip(2)
        target = read.clone()
        brain = inside & (target < 0.01)
        brain = brain & (image > 0.7 * known.reference)
        brain = brain & (image < 1.25 * known.reference)
        settings = self.parameters.lesions
        canvas = Canvas(image, target, inside, brain, [(1.0, brain)], known.reference)
        count = draw_count(draw, settings)
        lesions = tuple(paint_lesions(draw, canvas, settings, count))
        image = acquire_again(draw, image, self.parameters.acquisition)
        return _finish(
            SyntheticHead(image, target, inside, lesions, head.name, read=read)
        )


def _choose(draw: Draw, heads: Sequence[PackedHead]) -> PackedHead:
    return heads[draw.whole(0, len(heads) - 1)]


def _canvas(anatomy: Anatomy, target: Tensor, settings: LesionParameters) -> Canvas:
    junction = anatomy.grey & dilate(anatomy.white) & ~anatomy.cerebellum
    rest = 1 - settings.junction_share - settings.cerebellum_share
    front = _front(anatomy.brain)
    return Canvas(
        image=anatomy.image,
        target=target,
        inside=anatomy.intracranial,
        brain=anatomy.brain,
        pools=[
            (settings.cerebellum_share, anatomy.cerebellum),
            *_parted(settings.junction_share, junction, front, settings.front_weight),
            *_parted(max(rest, 0.01), anatomy.brain, front, settings.front_weight),
        ],
        reference=anatomy.reference,
    )


def _front(brain: Tensor) -> Tensor:
    """Mark the front of the brain; rows run from the forehead to the back."""
    rows = torch.nonzero(brain.any(dim=2).any(dim=0))[:, 0]
    border = rows.min() + FRONT_SHARE * (rows.max() - rows.min())
    places = torch.arange(brain.shape[1], device=brain.device)
    return (places < border)[None, :, None]


def _parted(
    share: float, pool: Tensor, front: Tensor, front_weight: float
) -> list[tuple[float, Tensor]]:
    """Part a pool so that the front gets `front_weight` of the density behind."""
    parts = (pool & front, pool & ~front)
    weights = (float(parts[0].sum()) * front_weight, float(parts[1].sum()))
    whole = max(sum(weights), 1.0)
    return [
        (share * weight / whole, part)
        for weight, part in zip(weights, parts, strict=True)
    ]


def _finish(head: SyntheticHead) -> SyntheticHead:
    """Divide by the brain's median, and take back the lesions that do not show."""
    image = normalise(head.image)
    unseen = find_unseen(image, head.target, head.inside, head.read)

    def shows(lesion: PaintedLesion) -> bool:
        voxel = np.clip(np.round(lesion.centre), 0, np.array(unseen.shape) - 1)
        return not unseen[tuple(voxel.astype(int))]

    return replace(
        head,
        image=image,
        target=head.target.masked_fill(unseen, 0),
        lesions=tuple(lesion for lesion in head.lesions if shows(lesion)),
    )


def _cut_slab(draw: Draw, head: SyntheticHead) -> SyntheticHead:
    """Keep a part of the slices, as an incomplete scan has."""
    count = head.image.shape[0]
    kept = round(count * draw.uniform(0.5, 0.9))
    low = draw.whole(0, count - kept)
    part = slice(low, low + kept)

    def moved(place: Place) -> Place:
        return place[0] - low, place[1], place[2]

    return replace(
        head,
        image=head.image[part],
        target=head.target[part],
        inside=head.inside[part],
        lesions=tuple(
            replace(lesion, centre=moved(lesion.centre))
            for lesion in head.lesions
            if low <= lesion.centre[0] < low + kept
        ),
        look_alikes=tuple(
            moved(place) for place in head.look_alikes if low <= place[0] < low + kept
        ),
    )


def _prepare_background(stored: StoredHead, device: torch.device) -> _Background:
    """Bring a real image to 1 mm, and guess the inside of its skull."""
    image = torch.from_numpy(stored.values.astype("float32")).to(device)
    marked = torch.zeros_like(image)
    if stored.lesions is not None:
        marked = torch.from_numpy(stored.lesions).to(device).float()
    for axis, size_mm in enumerate(stored.spacing_mm):
        count = max(1, round(image.shape[axis] * size_mm))
        places = (torch.arange(count, device=device) + 0.5) / size_mm - 0.5
        image = interpolate_axis(image, places, axis)
        marked = interpolate_axis(marked, places, axis)
    inside = inside_skull(image)
    if not bool(inside.any()):
        raise MetiaError(
            "input-unreadable", f"Head {stored.name} shows no inside of a skull."
        )
    return _Background(image, marked, inside, float(image[inside].median()))


def inside_skull(image: Tensor) -> Tensor:
    """Take what lies well below the skin, above the face and the neck.

    Of a slab, whose depth ends at its faces, the inner half counts as that.
    """
    from scipy import ndimage

    head = head_of(image)
    depth = ndimage.distance_transform_edt(head.mask, sampling=COARSE_MM)
    deep = torch.from_numpy(depth > min(SKULL_MM, depth.max() / 2)).to(image.device)
    for axis in range(3):
        deep = deep.repeat_interleave(int(COARSE_MM), dim=axis)
    deep = deep[tuple(slice(size) for size in image.shape)]
    inside = torch.zeros(image.shape, dtype=torch.bool, device=image.device)
    inside[tuple(slice(size) for size in deep.shape)] = deep
    inside[: int(image.shape[0] * NECK_SHARE)] = False
    return erode(dilate(inside))
