"""Synthetic heads: the same from one seed, with the truth where the lesion is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from errors import MetiaError
from tests.tiny_heads import make_data, make_pack
from unetr.preprocessing import prepare
from unetr.training.anatomy import Anatomy
from unetr.training.fields import Draw, dilate, erode, gaussian
from unetr.training.heads import HeadStore, pack_heads, read_split
from unetr.training.lesions import Canvas, draw_diameter, paint_lesions
from unetr.training.neck import paint_neck
from unetr.training.parameters import (
    LesionParameters,
    PatchParameters,
    SyntheticParameters,
)
from unetr.training.patches import cut_patches, vary
from unetr.training.sheet import write_sheet
from unetr.training.sources import PROFILE
from unetr.training.synthetic import HeadGenerator, head_of
from unetr.training.vessels import Strokes, paint
from unetr.training.visibility import find_unseen

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("heads"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def generator(pack: Path, seed: int = 1, **parameters: object) -> HeadGenerator:
    settings = SyntheticParameters.model_validate_json(json.dumps(parameters))
    return HeadGenerator(HeadStore(pack, ("train",)), settings, seed=seed)


def test_one_seed_gives_one_head(pack: Path) -> None:
    first, again = generator(pack).make(7), generator(pack).make(7)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.target, again.target)
    assert first.lesions == again.lesions
    for other in (generator(pack).make(8), generator(pack, seed=2).make(7)):
        assert first.image.shape != other.image.shape or not torch.equal(
            first.image, other.image
        )


def test_target_is_where_the_lesions_are(pack: Path) -> None:
    maker = generator(pack, background_share=0.0, acquisition={"slab_share": 0.0})
    heads = [maker.make(index) for index in range(12)]
    assert sum(len(head.lesions) for head in heads) > 5
    for head in heads:
        assert head.image.shape == head.target.shape == head.inside.shape
        assert 0 <= float(head.target.min()) <= float(head.target.max()) <= 1
        assert bool(head.target.any()) == bool(head.lesions)
        assert not bool((head.target > 0)[~head.inside].any())
        for lesion in head.lesions:
            box = tuple(
                slice(max(0, round(c) - 4), round(c) + 5) for c in lesion.centre
            )
            assert float(head.target[box].max()) > 0.3


def test_no_contrast_agent_no_lesion(pack: Path) -> None:
    maker = generator(pack, background_share=0.0, enhancement={"contrast_share": 0.0})
    assert not any(maker.make(index).lesions for index in range(4))


def test_image_is_scaled_as_inference_scales_it(pack: Path) -> None:
    image = generator(pack).make(3).image * 37.0
    volume = hd.Volume(
        array=image.numpy(),
        affine=np.array(
            [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=float
        ),
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
    )
    prepared = prepare(volume, PROFILE)
    middle = head_of(image).brain_median
    expected = (image / middle).clamp(0, 5)[prepared.box]
    np.testing.assert_allclose(prepared.volume, expected, rtol=1e-4, atol=1e-4)


def test_real_heads_keep_their_tumour_as_truth(pack: Path) -> None:
    maker = generator(pack, background_share=1.0, lesions={"none_share": 1.0})
    head = maker.make(0)
    assert head.source == "real"
    assert not head.lesions
    assert float(head.target.sum()) == pytest.approx(64, rel=0.1)
    assert head.read is not None
    assert torch.equal(head.read, head.target)


def test_what_was_painted_is_told_from_what_a_reader_marked(pack: Path) -> None:
    lesions = {"none_share": 0.0, "level": (2.5, 2.6), "faint_share": 0.0}
    head = generator(pack, background_share=1.0, lesions=lesions).make(0)
    assert head.lesions
    assert head.read is not None
    assert float(head.read.sum()) == pytest.approx(64, rel=0.1)
    assert float(head.target.sum()) > float(head.read.sum()) + 8
    assert generator(pack, background_share=0.0).make(0).read is None


@pytest.mark.parametrize(
    ("radius", "level", "core", "seen"),
    [
        (2, 1.9, None, True),
        (2, 1.1, None, False),  # a fifth of this noise, in 33 voxels
        (2, 1.0, None, False),
        (9, 1.15, None, True),  # fainter than the noise, but large
        (9, 1.6, 0.4, True),  # a thin wall around necrosis
        (9, 0.6, None, False),  # blood only
    ],
)
def test_what_the_image_does_not_show_is_no_truth(
    radius: int, level: float, core: float | None, seen: bool
) -> None:
    places = torch.stack(torch.meshgrid(*[torch.arange(40.0) - 20] * 3, indexing="ij"))
    distance = places.square().sum(0).sqrt()
    target = (radius + 0.5 - distance).clamp(0, 1)
    image = 1 + target * (level - 1)
    if core is not None:
        image[distance < radius - 2] = core
    image += 0.2 * torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    inside = places[2] < radius  # and beside the lesion bright fat
    image[~inside] = 4.0
    target = target * inside
    unseen = find_unseen(image, target, inside)
    assert torch.equal(unseen, (target > 0) & (not seen))
    # What a reader has marked stays.
    assert not bool(find_unseen(image, target, inside, target).any())


def test_lesions_that_do_not_show_are_neither_taught_nor_listed(pack: Path) -> None:
    as_white_matter = {"level": [1.0, 1.0], "faint_share": 0.0, "oedema_share": 0.0}
    many = {"none_share": 0.0, "count_decay": 0.05}
    for settings, shown in ((many | as_white_matter, 0), (many, 1)):
        maker = generator(pack, background_share=0.0, lesions=settings)
        heads = [maker.make(index) for index in range(4)]
        assert (sum(len(head.lesions) for head in heads) > 5) == bool(shown)
        assert all(bool(head.target.any()) == bool(head.lesions) for head in heads)


def test_sizes_are_skewed_to_small() -> None:
    draw, settings = Draw((1,), CPU), LesionParameters()
    sizes = np.array([draw_diameter(draw, settings) for _ in range(3000)])
    assert sizes.min() >= 2
    assert sizes.max() <= 40
    assert np.median(sizes) == pytest.approx(6.5, rel=0.06)
    assert sizes.mean() > np.median(sizes)


def test_a_painted_lesion_has_its_volume_and_brightness() -> None:
    settings = LesionParameters(
        median_diameter_mm=12.0,
        diameter_spread=0.0,
        ring_share=0.0,
        patchy_share=0.0,
        haemorrhagic_share=0.0,
        oedema_share=0.0,
        faint_share=0.0,
        level=(2.0, 2.0),
    )
    ratios, levels = [], []
    for seed in range(12):
        image = torch.full((48, 48, 48), 100.0)
        target = torch.zeros_like(image)
        inside = torch.ones_like(image, dtype=torch.bool)
        place = torch.zeros_like(inside)
        place[24, 24, 24] = True
        canvas = Canvas(image, target, inside, inside, [(1.0, place)], 100.0)
        painted = paint_lesions(Draw((seed,), CPU), canvas, settings, 3)
        assert len(painted) == 1  # the others would fall onto it
        ratios.append(float(target.sum()) / (np.pi / 6 * 12**3))
        levels.append(float(image[target == 1].mean()))
        assert bool((image[target == 0] == 100).all())
    assert np.median(levels) == pytest.approx(200, rel=0.05)
    assert 0.8 < np.median(ratios) < 1.3


def test_a_lesion_is_one_body_even_where_it_is_cut() -> None:
    settings = LesionParameters(median_diameter_mm=18.0, diameter_spread=0.0)
    # A skull with two narrow spaces beside each other.
    inside = torch.zeros((64, 64, 64), dtype=torch.bool)
    inside[:, :, :31] = True
    inside[:, :, 34:] = True
    place = torch.zeros_like(inside)
    place[32, 32, 29] = True
    for seed in range(40):
        image = torch.full((64, 64, 64), 100.0)
        target = torch.zeros_like(image)
        canvas = Canvas(image, target, inside, inside, [(1.0, place)], 100.0)
        assert len(paint_lesions(Draw((seed,), CPU), canvas, settings, 1)) == 1
        assert ndimage.label((target >= 0.5).numpy(), np.ones((3, 3, 3)))[1] == 1
        assert not bool((target[:, :, 34:] > 0).any())


def test_oedema_ends_softly() -> None:
    settings = LesionParameters(
        median_diameter_mm=7.0, diameter_spread=0.0, oedema_share=1.0
    )
    inside = torch.ones((64, 64, 64), dtype=torch.bool)
    place = torch.zeros_like(inside)
    place[32, 32, 32] = True
    for seed in range(30):
        image = torch.full((64, 64, 64), 100.0)
        target = torch.zeros_like(image)
        canvas = Canvas(image, target, inside, inside, [(1.0, place)], 100.0)
        paint_lesions(Draw((seed,), CPU), canvas, settings, 1)
        far = ~ndimage.binary_dilation((target > 0).numpy(), iterations=3)
        assert float(image[torch.from_numpy(far)].min()) < 99.5
        for axis in range(3):
            steps = np.abs(np.diff(image.numpy(), axis=axis))
            both = np.delete(far, 0, axis) & np.delete(far, -1, axis)
            assert steps[both].max() < 10


@pytest.mark.parametrize("kind", ["ring", "patchy", "haemorrhagic", "solid"])
def test_every_kind_of_lesion_looks_like_itself(kind: str) -> None:
    shares = ("ring", "patchy", "haemorrhagic")
    settings = LesionParameters(
        median_diameter_mm=16.0,
        diameter_spread=0.0,
        oedema_share=0.0,
        faint_share=0.0,
        level=(1.4, 1.4),
    ).model_copy(update={f"{name}_share": float(name == kind) for name in shares})
    inside = torch.ones((40, 40, 40), dtype=torch.bool)
    place = torch.zeros_like(inside)
    place[20, 20, 20] = True
    spans = []
    for seed in range(8):
        image = torch.full((40, 40, 40), 100.0)
        target = torch.zeros_like(image)
        canvas = Canvas(image, target, inside, inside, [(1.0, place)], 100.0)
        (lesion,) = paint_lesions(Draw((seed,), CPU), canvas, settings, 1)
        assert lesion.kind == kind
        within = image[target == 1]
        spans.append((float(within.quantile(0.05)), float(within.quantile(0.95))))
    darkest, brightest = np.median(spans, axis=0)
    assert (darkest < 110) == (kind != "solid")
    assert (brightest > 165) == (kind == "haemorrhagic")


def test_lesions_prefer_the_back_of_the_brain(pack: Path) -> None:
    def share_in_front(weight: float) -> float:
        made = generator(
            pack,
            lesions={
                "front_weight": weight,
                "cerebellum_share": 0,
                "none_share": 0,
                "median_diameter_mm": 3,
                "level": (2.5, 2.6),
                "faint_share": 0,
                "diameter_spread": 0,
                "count_decay": 0.05,
            },
            background_share=0,
            acquisition={"slab_share": 0},
        )
        rows = [
            lesion.centre[1] / head.image.shape[1]
            for head in map(made.make, range(12))
            for lesion in head.lesions
        ]
        assert len(rows) > 40
        return float(np.mean(np.array(rows) < 0.5))

    assert share_in_front(0.0) < 0.1 < share_in_front(1.0)


def test_a_vessel_is_as_thick_as_it_should_be() -> None:
    image = torch.zeros(40, 20, 20)
    points = np.stack([np.arange(5, 35), np.full(30, 10), np.full(30, 10)], axis=1)
    strokes = Strokes(points.astype(float), np.full(30, 2.0), np.full(30, 50.0))
    paint(image, strokes)
    across = image[20] / 50
    assert float(across.sum()) == pytest.approx(np.pi * 4, rel=0.1)
    assert float(image.max()) == 50


def test_fields_do_what_their_names_say() -> None:
    draw = Draw((5,), CPU)
    noise = draw.smooth((40, 40, 40), 6.0)
    assert float(noise.std()) == pytest.approx(1, abs=0.35)
    near = float((noise[1:] * noise[:-1]).mean() / (noise**2).mean())
    far = float((noise[25:] * noise[:-25]).mean() / (noise**2).mean())
    assert near > 0.9
    assert abs(far) < 0.4
    point = torch.zeros(21, 21, 21)
    point[10, 10, 10] = 1
    blurred = gaussian(point, (2.0, 0.0, 1.0))
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-3)
    line = blurred[:, 10, 10] / blurred[:, 10, 10].sum()
    variance = float((line * (torch.arange(21) - 10) ** 2).sum())
    assert variance == pytest.approx(4, rel=0.05)
    grown = dilate(point > 0, 2)
    assert int(grown.sum()) == 125
    assert int(erode(grown, 2).sum()) == 1


def test_patches_centre_on_lesions_and_keep_pairs_together(pack: Path) -> None:
    maker = generator(pack, background_share=0.0, lesions={"none_share": 0.0})
    head = next(
        head for head in (maker.make(index) for index in range(20)) if head.lesions
    )
    settings = PatchParameters(per_head=12, lesion_share=1.0, jitter=0.1)
    patches = cut_patches(Draw((1,), CPU), head, (32, 32, 32), settings)
    assert len(patches) == 12
    for image, target in patches:
        assert image.shape == target.shape == (32, 32, 32)
        assert float(target.max()) > 0.2
    image, target = vary(Draw((2,), CPU), patches[0], PatchParameters(gain=(1.0, 1.0)))
    mirrored = torch.equal(target, patches[0][1].flip(2).float())
    assert mirrored or torch.equal(target, patches[0][1].float())
    assert 0 <= float(image.min()) <= float(image.max()) <= 5


def test_what_only_its_surroundings_tell_apart_is_met_on_purpose(pack: Path) -> None:
    shares = {"plexus_share": 1.0, "pituitary_share": 1.0, "contrast_share": 1.0}
    maker = generator(
        pack,
        background_share=0.0,
        enhancement=shares,
        lesions={"none_share": 1.0},
        acquisition={"slab_share": 1.0},
    )
    met = 0
    for index in range(6):
        head = maker.make(index)
        for place in head.look_alikes:
            assert all(
                -1 < at < size for at, size in zip(place, head.image.shape, strict=True)
            )
        # Nothing else to choose: each patch's centre is a look-alike.
        head = replace(head, image=torch.zeros_like(head.image))
        for number, place in enumerate(head.look_alikes):
            at = tuple(round(value) for value in place)
            head.image[at] = 1 + number / 10
        settings = PatchParameters(
            per_head=20, lesion_share=0.0, bright_share=1.0, jitter=0.0
        )
        patches = cut_patches(Draw((index,), CPU), head, (8, 8, 8), settings)
        met += sum(float(image.max()) >= 1 for image, _ in patches)
        if head.look_alikes:
            assert any(float(image.max()) >= 1 for image, _ in patches)
    assert met > 30


def neck_below(flesh_slices: int) -> Anatomy:
    """Make a block of flesh with a cerebellum and its stem on top."""
    image = torch.full((flesh_slices + 40, 100, 110), 0.6)
    cerebellum, stem = torch.zeros((2, *image.shape), dtype=torch.bool)
    cerebellum[flesh_slices:, 60:80, 30:80] = True
    stem[flesh_slices:, 44:56, 49:61] = True
    none = torch.zeros_like(stem)
    return Anatomy(
        image=image,
        brain=cerebellum | stem,
        white=none,
        grey=cerebellum,
        cerebellum=cerebellum,
        ventricles=none,
        fluid=none,
        intracranial=cerebellum | stem,
        chiasm=none,
        reference=1.0,
    )


def test_the_neck_has_vessels_and_a_cord_but_no_brain() -> None:
    for seed in range(5):
        anatomy = neck_below(50)
        (place,) = paint_neck(Draw((seed,), CPU), anatomy, 2.0)
        changed = (anatomy.image - 0.6).abs() > 1e-3
        assert not bool((changed & anatomy.intracranial).any())
        assert not bool(changed[50 + 20 :].any())
        below = anatomy.image[:50]
        assert bool((below > 1.1).any(dim=2).any(dim=1).all()), "vessels go all the way"
        assert bool((below < 0.55).any(dim=2).any(dim=1).all()), "so does the fluid"
        assert float(anatomy.image[tuple(round(at) for at in place)]) > 0.8
    shallow = neck_below(5)
    assert paint_neck(Draw((1,), CPU), shallow, 2.0) == []
    assert bool((shallow.image == 0.6).all())


def test_a_neck_leaves_the_brain_above_as_it_was(pack: Path) -> None:
    branched, plain = (
        generator(pack, background_share=0.0, enhancement={"neck_share": share})
        for share in (1.0, 0.0)
    )
    for index in range(3):
        with_neck, without = branched.make(index), plain.make(index)
        assert with_neck.lesions == without.lesions
        assert torch.equal(with_neck.target, without.target)
    draw, same = Draw((3,), CPU), Draw((3,), CPU)
    assert draw.branch(1).uniform(0, 1) != draw.branch(2).uniform(0, 1)
    assert draw.uniform(0, 1) == same.uniform(0, 1)


def test_bright_scalp_is_not_looked_for(pack: Path) -> None:
    head = generator(pack, background_share=0.0).make(3)
    image = torch.where(head.inside, 2.0, 3.0)
    head = replace(head, image=image, look_alikes=())
    settings = PatchParameters(
        per_head=10, lesion_share=0.0, bright_share=1.0, jitter=0.0
    )
    for patch, _ in cut_patches(Draw((1,), CPU), head, (4, 4, 4), settings):
        assert float(patch[2, 2, 2]) == 2


def test_small_heads_are_padded(pack: Path) -> None:
    head = generator(pack).make(1)
    size = (96, 96, 96)
    patches = cut_patches(Draw((1,), CPU), head, size, PatchParameters(per_head=2))
    assert patches[0][0].shape == size


def test_the_sheet_is_a_picture(pack: Path, tmp_path: Path) -> None:
    from PIL import Image

    write_sheet(generator(pack), range(2), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (5 * 224, 2 * 224)
        assert len(np.unique(np.asarray(picture))) > 20


def test_training_never_opens_test_heads(tmp_path: Path) -> None:
    split = make_data(tmp_path / "data")
    pack_heads(
        tmp_path / "data", tmp_path / "pack", parts=("train", "test"), split=split
    )
    everything = HeadStore(tmp_path / "pack", ("train",), split=split)
    assert {head.part for head in everything.heads} == {"train"}
    for attempt in (
        {"parts": ("test",)},
        {"parts": ("train",), "names": ("labels-0", "labels-3")},
    ):
        with pytest.raises(MetiaError, match="locked for testing"):
            HeadStore(tmp_path / "pack", split=split, **attempt)
    # Calling it a training head in the folder does not help: the source's hash counts.
    index = tmp_path / "pack" / "index.json"
    index.write_text(index.read_text("utf-8").replace('"test"', '"train"'), "utf-8")
    with pytest.raises(MetiaError, match="labels-3 is locked"):
        HeadStore(tmp_path / "pack", ("train",), split=split)
    opened = HeadStore(tmp_path / "pack", ("train",), split=split, evaluation=True)
    assert "labels-3" in {head.name for head in opened.heads}


def test_a_changed_pack_is_refused(tmp_path: Path) -> None:
    pack = make_pack(tmp_path)
    store = HeadStore(pack, ("train",))
    file = pack / store.heads[0].file
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(MetiaError, match="was changed"):
        store.load(store.heads[0])


def test_packing_names_every_wrong_source(tmp_path: Path) -> None:
    split = make_data(tmp_path / "data")
    (tmp_path / "data" / "labels-0.nii.gz").unlink()
    (tmp_path / "data" / "labels-1.nii.gz").write_bytes(b"other")
    with pytest.raises(MetiaError) as caught:
        pack_heads(tmp_path / "data", tmp_path / "pack", parts=("train",), split=split)
    assert "labels-0.nii.gz is missing" in caught.value.detail
    assert "labels-1.nii.gz is another file" in caught.value.detail
    assert not (tmp_path / "pack").exists()


def test_packing_refuses_other_masks_and_grids(tmp_path: Path) -> None:
    data = tmp_path / "data"
    split = make_data(data)
    mask = data / "real-mask.nii.gz"
    digest = hashlib.sha256(mask.read_bytes()).hexdigest()
    locked = [
        head.model_copy(update={"lesions_sha256": digest}) if head.lesions else head
        for head in split.heads
    ]
    split = split.model_copy(update={"heads": tuple(locked)})

    def refused() -> str:
        with pytest.raises(MetiaError) as caught:
            pack_heads(data, tmp_path / "pack", parts=("train",), split=split)
        assert not (tmp_path / "pack").exists()
        return caught.value.detail

    painted = np.asarray(nib.load(mask).dataobj).copy()
    painted[20:30, 20:30, 20:30] = 1
    nib.save(nib.Nifti1Image(painted, np.eye(4)), mask)
    assert "real-mask.nii.gz is another file than the split names" in refused()
    split = make_data(tmp_path / "data-2")
    data = tmp_path / "data-2"
    for array, affine in ((painted[:60], np.eye(4)), (painted, np.diag([2, 1, 1, 1]))):
        nib.save(nib.Nifti1Image(array, affine), data / "real-mask.nii.gz")
        assert refused() == "real-mask.nii.gz lies on another grid than its image."
    half = nib.load(data / "labels-0.nii.gz")
    path = data / "labels-0.nii.gz"
    nib.save(nib.Nifti1Image(half.get_fdata(), np.diag([0.5, 0.5, 0.5, 1])), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    finer = split.heads[0].model_copy(update={"sha256": digest})
    split = split.model_copy(update={"heads": (finer, *split.heads[1:4])})
    assert "labels-0.nii.gz is no label map of 1 mm" in refused()


def test_the_committed_split_locks_every_mask() -> None:
    masks = [head for head in read_split().heads if head.lesions]
    assert len(masks) == 11
    assert len({head.lesions_sha256 for head in masks} - {None}) == 11


def test_packing_keeps_labels_and_masks(tmp_path: Path) -> None:
    pack = make_pack(tmp_path)
    store = HeadStore(pack, ("train",))
    labels = store.load(store.of_kind("labels")[0])
    assert set(np.unique(labels.values)) == {0, 2, 3, 4, 7, 8, 24, 85, 515, 516}
    real = store.load(store.of_kind("background")[0])
    assert real.lesions is not None
    assert int(real.lesions.sum()) == 64
    assert real.lesions.shape == real.values.shape


def test_the_committed_split_parts_heads_by_content() -> None:
    split = read_split()
    by_part: dict[str, set[str]] = {}
    for head in split.heads:
        by_part.setdefault(head.part, set()).add(head.sha256)
    assert {part: len(hashes) for part, hashes in by_part.items()} == {
        "train": 24,
        "validation": 1,
        "test": 8,
    }
    assert not by_part["train"] & by_part["test"]
    assert not by_part["train"] & by_part["validation"]
