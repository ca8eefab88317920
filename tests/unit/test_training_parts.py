"""Configuration, losses, transfer of weights and the checker of cases."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from errors import MetiaError
from segmentation.models.registry import ModelFolder
from tests.tiny_heads import TINY_PYRAMID, tiny_configuration, tiny_labels
from unetr.configuration import NetworkArguments
from unetr.network import build_network, load_for_inference
from unetr.training.cases import (
    cases_for,
    check_cases,
    find_cases,
    load_case,
    lock_split,
)
from unetr.training.configuration import read_configuration
from unetr.training.export import export_model
from unetr.training.losses import _voxel_loss, lesion_loss
from unetr.training.module import (
    MetastasisModule,
    learning_rate_factor,
    trainable_network,
)
from unetr.training.muon import orthogonalise
from unetr.training.parameters import LossParameters
from unetr.training.sources import PROFILE
from unetr.training.transfer import read_weights, start_from

ARGUMENTS = NetworkArguments(
    architecture="monai-unetr",
    img_size=(32, 32, 32),
    feature_size=4,
    hidden_size=24,
    mlp_dim=48,
    num_heads=2,
)


# -- configuration ---------------------------------------------------------------------


def test_every_bad_field_is_named(tmp_path: Path) -> None:
    path = tiny_configuration(
        tmp_path,
        tmp_path / "pack",
        seed="one",
        optimiser={"steps": 0},
        surprise=1,
    )
    with pytest.raises(MetiaError) as caught:
        read_configuration(path)
    assert caught.value.code == "configuration-invalid"
    for field in ("seed", "optimiser.steps", "surprise"):
        assert field in caught.value.detail


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "!!python/object:os.system {}"])
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "training.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(MetiaError, match="yaml"):
        read_configuration(path)


def test_paths_start_at_the_file(tmp_path: Path) -> None:
    path = tiny_configuration(tmp_path, Path("pack"), output="../out")
    configuration = read_configuration(path)
    assert configuration.data.heads == str(tmp_path / "pack")
    assert Path(configuration.output).resolve() == (tmp_path.parent / "out").resolve()


def test_the_shipped_configurations_are_valid() -> None:
    folder = Path(__file__).parents[2] / "unetr" / "training" / "configs"
    paths = sorted(folder.glob("*.yaml"))
    assert paths
    for path in paths:
        read_configuration(path)


# -- losses ----------------------------------------------------------------------------

TRUTH = torch.zeros(2, 1, 8, 8, 8)
TRUTH[0, 0, 2:5, 2:5, 2:5] = 1


@pytest.mark.parametrize("kind", ["dice-bce", "dice-focal", "tversky"])
def test_loss_falls_from_wrong_to_right(kind: str) -> None:
    settings = LossParameters.model_validate({"kind": kind})
    right, unsure = (TRUTH - 0.5) * 40, torch.zeros_like(TRUTH)
    losses = [
        float(lesion_loss(logits, TRUTH, settings))
        for logits in (right, unsure, -right)
    ]
    assert losses[0] < 0.05 < losses[1] < losses[2]
    logits = torch.zeros_like(TRUTH, requires_grad=True)
    lesion_loss(logits, TRUTH, settings).backward()
    gradient = logits.grad
    assert gradient is not None
    assert float(gradient[TRUTH == 1].max()) < 0 < float(gradient[TRUTH == 0].min())


def test_tversky_minds_misses_more_than_additions() -> None:
    settings = LossParameters(kind="tversky", voxel_weight=0.0, miss_weight=0.9)
    missed, added = (TRUTH - 0.5) * 40, (TRUTH - 0.5) * 40
    missed[0, 0, 2] = -20
    added[0, 0, 1, 2:5, 2:5] = 20
    assert float(lesion_loss(missed, TRUTH, settings)) > 1.5 * float(
        lesion_loss(added, TRUTH, settings)
    )


def test_small_lesions_count_as_much_as_large_ones_where_balanced() -> None:
    truth = torch.zeros(1, 1, 32, 32, 32)
    small, large = (0, 0, *[slice(2, 5)] * 3), (0, 0, *[slice(18, 28)] * 3)
    truth[small], truth[large] = 1, 1

    def cost(wrong: tuple[int | slice, ...], balance: float) -> float:
        settings = LossParameters(balance_voxels=balance, balance_limit=20)
        logits = (truth - 0.5) * 24
        right = _voxel_loss(logits, logits.sigmoid(), truth, settings)
        logits[wrong] *= -1
        return float(_voxel_loss(logits, logits.sigmoid(), truth, settings) - right)

    false = (0, 0, *[slice(2, 5)] * 2, slice(26, 29))
    for place in (small, false):
        assert cost(place, 300) == pytest.approx(300 / 27 * cost(place, 0), rel=0.05)
    assert cost(large, 300) == pytest.approx(cost(large, 0), rel=0.05)


def test_the_learning_rate_warms_up_and_cools_down() -> None:
    rates = [
        learning_rate_factor(step, warmup=10, steps=100, final_share=0.1)
        for step in range(101)
    ]
    assert rates[0] < 0.1
    assert max(rates) == rates[10] == 1
    assert rates[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_gradients_are_clipped_to_a_norm(tmp_path: Path) -> None:
    path = tiny_configuration(tmp_path, tmp_path)
    module = MetastasisModule(read_configuration(path))
    optimiser = module.configure_optimizers()["optimizer"]
    parameters = list(module.parameters())
    for limit, expected in ((None, len(parameters) ** 0.5), (0.5, 0.5)):
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
            parameter.grad[(0,) * parameter.ndim] = 1.0
        module.configure_gradient_clipping(optimiser, limit)
        norm = nn.utils.get_total_norm(
            [parameter.grad for parameter in parameters if parameter.grad is not None]
        )
        assert float(norm) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shape", [(3, 12, 40), (2, 40, 12), (1, 16, 16)])
def test_an_orthogonal_update_keeps_directions(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    turned = orthogonalise(matrices)
    values = torch.linalg.svdvals(turned)
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.35
    assert float((turned - left @ right).abs().max()) < 0.35


def muon_module(tmp_path: Path) -> MetastasisModule:
    settings = {"optimiser": {"kind": "muon", "steps": 40, "warmup_steps": 0}}
    path = tiny_configuration(tmp_path, tmp_path, network=TINY_PYRAMID, **settings)
    return MetastasisModule(read_configuration(path))


def test_muon_steps_convolutions_and_adamw_the_rest(tmp_path: Path) -> None:
    module = muon_module(tmp_path)
    optimiser = module.configure_optimizers()["optimizer"]
    grouped = [one for group in optimiser.param_groups for one in group["params"]]
    assert {id(one) for one in grouped} == {id(one) for one in module.parameters()}
    assert len(grouped) == len(set(map(id, grouped)))
    names = {id(one): name for name, one in module.network.named_parameters()}
    before = {names[id(one)]: one.detach().clone() for one in grouped}
    for one in grouped:
        one.grad = torch.randn_like(one)
    optimiser.step()
    rate = optimiser.param_groups[0]["lr"]
    for group in optimiser.param_groups:
        for one in group["params"]:
            name = names[id(one)]
            convolution = one.ndim == 5 and not name.startswith("out.")
            assert group["muon"] == convolution, name
            assert set(optimiser.state[one]) == (
                {"momentum"} if convolution else {"step", "exp_avg", "exp_avg_sq"}
            )
            change = (one.detach() - before[name]).square().mean().sqrt()
            assert 0.05 * rate < float(change) < 1.5 * rate, name


def test_muon_goes_on_where_it_was(tmp_path: Path) -> None:
    """Its state says all: two that take the same steps end alike."""
    module, again = muon_module(tmp_path), muon_module(tmp_path)
    first = module.configure_optimizers()["optimizer"]
    second = again.configure_optimizers()["optimizer"]

    def step(target: MetastasisModule, optimiser: torch.optim.Optimizer) -> None:
        draw = torch.Generator().manual_seed(5)
        for one in target.parameters():
            one.grad = torch.randn(one.shape, generator=draw)
        optimiser.step()

    step(module, first)
    again.load_state_dict(module.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    step(module, first)
    step(again, second)
    for one, other in zip(module.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


# -- weights ---------------------------------------------------------------------------


def test_a_variance_beyond_fp16_is_exported(tmp_path: Path) -> None:
    path = tiny_configuration(tmp_path, tmp_path, network=TINY_PYRAMID)
    configuration = read_configuration(path)
    state = MetastasisModule(configuration).state_dict()
    variance = next(name for name in state if name.endswith("running_var"))
    state[variance] = torch.full_like(state[variance], 1e6)
    checkpoint = tmp_path / "large.ckpt"
    torch.save({"state_dict": state, "global_step": 1}, checkpoint)
    folder = export_model(configuration, checkpoint, tmp_path / "models")
    kept = safetensors.torch.load_file(folder / "weights.safetensors")
    assert float(kept[variance.removeprefix("network.")].min()) == 1e6
    assert kept["out.conv.conv.weight"].dtype == torch.float16
    state[variance][0] = float("inf")
    torch.save({"state_dict": state, "global_step": 1}, checkpoint)
    with pytest.raises(MetiaError, match="no usable numbers"):
        export_model(configuration, checkpoint, tmp_path / "other")


def test_the_figures_of_an_evaluation_are_exported(tmp_path: Path) -> None:
    path = tiny_configuration(tmp_path, tmp_path, network=TINY_PYRAMID)
    configuration = read_configuration(path)
    checkpoint = tmp_path / "last.ckpt"
    state = MetastasisModule(configuration).state_dict()
    torch.save({"state_dict": state, "global_step": 1}, checkpoint)
    drafted = export_model(configuration, checkpoint, tmp_path / "draft")
    weights = ModelFolder.open(drafted).manifest.files["weights.safetensors"]
    missing = {"value": None, "interval": None, "count": 0}
    document = {
        "facts": {
            "weights hash": weights,
            "data": "2 heads",
            "threshold": "0.5",
            "least peak": "0.9",
        },
        "figures": {
            "sensitivity": {"value": 0.5, "interval": [0.25, 1.0], "count": 4},
            "sensitivity 3-5 mm": missing,
        },
    }
    evaluation = tmp_path / "evaluation.json"
    evaluation.write_text(json.dumps(document), "utf-8")
    made = export_model(
        configuration, checkpoint, tmp_path / "made", evaluation=evaluation
    )
    (metric,) = ModelFolder.open(made).manifest.metrics
    assert (metric.name, metric.value) == ("sensitivity", 0.5)
    assert metric.interval == (0.25, 1.0)
    assert metric.dataset == "2 heads, threshold 0.5, least peak 0.9, n = 4"
    assert "| sensitivity | 0.50 | 0.25 to 1.00 |" in (
        made / "MODEL_CARD.md"
    ).read_text("utf-8")
    card = tmp_path / "card.md"
    card.write_text("# Known limits", "utf-8")
    own = export_model(configuration, checkpoint, tmp_path / "own", card=card)
    assert ModelFolder.open(own).read("MODEL_CARD.md") == b"# Known limits"
    document["facts"]["weights hash"] = "0" * 64
    for content in (json.dumps(document), "[]", "{", "{}"):
        evaluation.write_text(content, "utf-8")
        with pytest.raises(MetiaError) as caught:
            export_model(
                configuration, checkpoint, tmp_path / "no", evaluation=evaluation
            )
        assert caught.value.code == "configuration-invalid"
    assert not (tmp_path / "no").exists()


def test_the_trained_network_is_monais(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = trainable_network(ARGUMENTS).eval()
    plain = build_network(ARGUMENTS)
    missing, unexpected = plain.load_state_dict(network.state_dict(), strict=False)
    assert not unexpected
    assert all("norm_cross_attn" in name for name in missing)
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(network(image), plain(image), atol=1e-4)


def test_another_output_is_replaced_and_the_rest_kept() -> None:
    old = trainable_network(ARGUMENTS.model_copy(update={"out_channels": 14}))
    new = trainable_network(ARGUMENTS)
    fresh = start_from(new, old.state_dict())
    assert fresh == ["out.conv.conv.bias", "out.conv.conv.weight"]
    for name, tensor in new.state_dict().items():
        if name not in fresh:
            assert torch.equal(tensor, old.state_dict()[name])


def test_plain_weights_start_a_pyramid_with_other_norms() -> None:
    old = trainable_network(ARGUMENTS)
    new = trainable_network(
        ARGUMENTS.model_copy(
            update={"architecture": "pyramid-unetr", "norm_name": "batch"}
        )
    )
    fresh = start_from(new, old.state_dict())
    assert fresh
    assert all(n.startswith("pyramid") or ".norm" in n for n in fresh)
    assert not any(name.startswith("vit.") for name in fresh)
    name = "encoder1.layer.conv1.conv.weight"
    assert torch.equal(new.state_dict()[name], old.state_dict()[name])
    whole = new.state_dict()
    assert start_from(new, whole) == []
    del whole["pyramid3.layer.norm2.running_mean"]
    with pytest.raises(MetiaError, match=r"pyramid3\S+running_mean is miss"):
        start_from(new, whole)


def test_a_larger_window_interpolates_positions() -> None:
    old = trainable_network(ARGUMENTS)
    new = trainable_network(ARGUMENTS.model_copy(update={"img_size": (48, 48, 48)}))
    start_from(new, old.state_dict())
    name = "vit.patch_embedding.position_embeddings"
    small = old.state_dict()[name][0].T.reshape(-1, 2, 2, 2)
    large = new.state_dict()[name][0].T.reshape(-1, 3, 3, 3)
    assert torch.allclose(large[:, ::2, ::2, ::2], small, atol=1e-6)
    assert torch.allclose(large[:, 1, 1, 1], small.mean(dim=(1, 2, 3)), atol=1e-5)


def test_weights_of_another_shape_are_named() -> None:
    old = trainable_network(ARGUMENTS.model_copy(update={"feature_size": 8}))
    with pytest.raises(MetiaError, match=r"encoder1\.\S+ is \(8, 1, 3"):
        start_from(trainable_network(ARGUMENTS), old.state_dict())


def test_wrapped_and_bare_files_are_read_and_pickles_are_not(tmp_path: Path) -> None:
    state = trainable_network(ARGUMENTS).state_dict()
    wrapped = {"state_dict": {f"model.{name}": value for name, value in state.items()}}
    torch.save(wrapped, tmp_path / "wrapped.ckpt")
    torch.save(state, tmp_path / "bare.pt")
    safetensors.torch.save_file(
        {name: value.contiguous() for name, value in state.items()},
        tmp_path / "plain.safetensors",
    )
    for name in ("wrapped.ckpt", "bare.pt", "plain.safetensors"):
        read = read_weights(tmp_path / name)
        assert read.keys() == state.keys()
        assert load_for_inference(ARGUMENTS, read, torch.device("cpu"), torch.float32)

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("ran",))

    (tmp_path / "trap.ckpt").write_bytes(pickle.dumps(Trap()))
    torch.save({"state_dict": Trap()}, tmp_path / "trap.pt")
    for name in ("trap.ckpt", "trap.pt"):
        with pytest.raises(MetiaError, match=r"names \w+\.print"):
            read_weights(tmp_path / name)


# -- cases -----------------------------------------------------------------------------


SOFT = np.zeros((64, 64, 64), np.float32)
SOFT[30:34, 30:34, 30:34] = 0.3


def write_case(folder: Path, name: str, number: int = 0, **changes: object) -> None:
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
            nib.save(saved, folder / name / f"{kind}.nii.gz")


def test_good_cases_have_no_faults(tmp_path: Path) -> None:
    write_case(tmp_path, "a__1", 1)
    write_case(tmp_path, "a__2", 2)
    assert check_cases(tmp_path) == []


def test_every_fault_of_every_case_is_named(tmp_path: Path) -> None:
    moved = np.diag([1.0, 1.0, 1.0, 1.0])
    moved[0, 3] = 5
    write_case(tmp_path, "moved", 1, mask_affine=moved)
    write_case(tmp_path, "no-mask", 2, mask=None)
    write_case(tmp_path, "shape", 3, mask=np.zeros((5, 5, 5), np.uint8))
    write_case(tmp_path, "nan", 4, image=np.full((64, 64, 64), np.nan, np.float32))
    write_case(tmp_path, "soft", 5, mask=SOFT)
    write_case(tmp_path, "empty", 6, mask=np.zeros((64, 64, 64), np.uint8))
    write_case(tmp_path, "blank", 7, image=np.zeros((64, 64, 64), np.float32))
    huge = np.diag([40.0, 1.0, 1.0, 1.0])
    write_case(tmp_path, "huge", 8, affine=huge, mask_affine=huge)
    write_case(tmp_path, "twin-1", 9)
    write_case(tmp_path, "twin-2", 9)
    (tmp_path / "torn").mkdir()
    for kind in ("image", "mask"):
        (tmp_path / "torn" / f"{kind}.nii.gz").write_bytes(b"torn")
    faults = check_cases(tmp_path)
    texts = {(fault.case, fault.serious): fault.text for fault in faults}
    for case, word in (
        ("moved", "different places"),
        ("no-mask", "0 files mask"),
        ("shape", "differ in shape"),
        ("nan", "no numbers"),
        ("soft", "whole numbers"),
        ("blank", "no head"),
        ("huge", "cannot be those of a head"),
        ("twin-2", "same file as that of twin-1"),
        ("torn", "cannot be read"),
    ):
        assert word in texts[case, True], case
    assert "mask is empty" in texts["empty", False]


def test_patients_stay_together_and_test_patients_stay_out(tmp_path: Path) -> None:
    for patient in range(12):
        for visit in (1, 2):
            folder = tmp_path / f"p{patient}__{visit}"
            folder.mkdir()
            for kind in ("image", "mask"):
                (folder / f"{kind}.nii").write_bytes(f"{patient} {visit}".encode())
    cases, _ = find_cases(tmp_path)
    split = lock_split(tmp_path, cases)
    parts: dict[str, set[str]] = {}
    for case in split.cases:
        parts.setdefault(case.name.split("__")[0], set()).add(case.part)
    assert all(len(found) == 1 for found in parts.values())
    assert lock_split(tmp_path, cases) == split
    tested = {case.name for case in split.cases if case.part == "test"}
    assert len(tested) == 4
    validated: list[str] = []
    for fold in range(5):
        folded = {
            part: {c.name for c in cases_for(cases, split, part, folds=5, fold=fold)}
            for part in ("train", "validation")
        }
        assert not folded["train"] & folded["validation"]
        assert not (folded["train"] | folded["validation"]) & tested
        validated += folded["validation"]
    assert sorted(validated) == sorted({case.name for case in cases} - tested)
    with pytest.raises(MetiaError, match="evaluate"):
        cases_for(cases, split, "test", folds=1, fold=0)
    (tmp_path / "p0__1" / "image.nii").write_bytes(b"changed")
    with pytest.raises(MetiaError, match="no longer fits: p0__1"):
        lock_split(tmp_path, cases)


def test_a_case_is_prepared_with_its_mask(tmp_path: Path) -> None:
    affine = np.array([[0, -2.0, 0, 7], [1.0, 0, 0, 9], [0, 0, 1.0, 3], [0, 0, 0, 1]])
    labels = tiny_labels()
    image = np.where(labels > 0, 300.0, 2.0).astype(np.float32)[:, ::2]
    mask = np.zeros(image.shape, np.uint8)
    mask[28:36, 14:18, 40:48] = 1
    image[mask > 0] = 900
    write_case(tmp_path, "a", image=image, mask=mask, affine=affine, mask_affine=affine)
    cases, _ = find_cases(tmp_path)
    head = load_case(cases[0], PROFILE, (64, 64, 64))
    assert head.image.shape == head.target.shape
    assert min(head.image.shape) >= 64
    assert float(head.target.sum()) == pytest.approx(512, rel=0.02)
    assert float(head.image[head.target > 0.9].min()) > 2
    assert float(head.image[head.target < 0.01].max()) < 2.2
