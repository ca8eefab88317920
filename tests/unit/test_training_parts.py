"""Configuration, losses and transfer of weights."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import pickle
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
import safetensors.torch
import torch
from torch import nn

from errors import MetiaError
from segmentation.models.registry import ModelFolder
from tests.tiny_heads import (
    TINY_NETWORK,
    TINY_PYRAMID,
    damage,
    make_pack,
    tiny_configuration,
)
from unetr.configuration import NetworkArguments
from unetr.network import build_network, load_for_inference
from unetr.training.checkpoints import WholeFiles, read_checkpoint
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
from unetr.training.run import check, set_up_torch
from unetr.training.stopping import Stopping, interrupts_to
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


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ('"steps": 8', '"steps": 8, "warmup_steps": 2', "warmup_steps is given twice"),
        ('"warmup_steps": 2', '"warmup_steps": 8', "optimiser: .* must be fewer"),
        ('"steps": 8, "batch": 2, "warmup_steps": 2', '"steps": 100', "must be fewer"),
        ('"seed": 1', '"start": {"unfreeze_steps": [3]}', "start: .* without weights"),
        (
            '"seed": 1',
            '"start": {"unfreeze_steps": [2, 9], "weights": "a"}',
            "start.unfreeze_steps are beyond",
        ),
        (
            '"seed": 1',
            '"start": {"unfreeze_steps": [4, 2], "weights": "a"}',
            "start: .* decoders come first",
        ),
        (
            '"seed": 1',
            '"start": {"unfreeze_steps": [1, 2, 3, 4], "weights": "a"}',
            "start.unfreeze_steps: .* at most 3",
        ),
        (
            '"synthetic": {',
            '"synthetic": {"acquisition": {"thickness_mm": [0, 0]}, ',
            "thickness_mm.0: .* greater than or equal to 0.1",
        ),
        (
            '"synthetic": {',
            '"synthetic": {"anatomy": {"scale": [0, 0]}, ',
            "scale.0: .* greater than or equal to 0.1",
        ),
        (
            '"synthetic": {',
            '"synthetic": {"acquisition": {"noise": [-0.1, 0]}, ',
            "noise.0: .* greater than or equal to 0",
        ),
        ('"patches": {', '"patches": {"gain": [2, 1], ', "its lower end"),
    ],
)
def test_what_cannot_train_is_refused(
    tmp_path: Path, before: str, after: str, word: str
) -> None:
    path = tiny_configuration(tmp_path, tmp_path / "pack", seed=1)
    read_configuration(path)
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), "utf-8")
    with pytest.raises(MetiaError, match=word):
        read_configuration(path)


def test_an_output_alone_may_be_trained(tmp_path: Path) -> None:
    start = {"unfreeze_steps": [8], "weights": "a.safetensors"}
    read_configuration(tiny_configuration(tmp_path, tmp_path, start=start))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize(
    ("unfreeze_steps", "learns_from"),
    [([], (0, 0, 0, 0)), ([2], (0, 2, 2, 2)), ([1, 4], (0, 1, 4, 4))],
)
def test_each_stage_learns_from_its_step_on(
    tmp_path: Path, kind: str, unfreeze_steps: list[int], learns_from: tuple[int, ...]
) -> None:
    path = tiny_configuration(
        tmp_path,
        tmp_path,
        optimiser={"kind": kind, "steps": 8, "warmup_steps": 0, "learning_rate": 0.5},
        start={"weights": "a", "unfreeze_steps": unfreeze_steps, "body_factor": 0.5},
    )
    module = MetastasisModule(read_configuration(path))
    chosen = module.configure_optimizers()
    optimiser, schedule = chosen["optimizer"], chosen["lr_scheduler"]["scheduler"]
    parts = [("out.", "decoder2."), ("decoder5.",), ("encoder1.",), ("vit.",)]
    wanted = [
        {id(p) for n, p in module.network.named_parameters() if n.startswith(begins)}
        for begins in parts
    ]
    for step in range(6):
        rates = [
            {
                group["lr"]
                for group in optimiser.param_groups
                for parameter in group["params"]
                if id(parameter) in part
            }
            for part in wanted
        ]
        (full,) = rates[0]
        assert full > 0
        assert rates[1:] == [
            {full / 2 if step >= since else 0.0} for since in learns_from[1:]
        ]
        optimiser.step()
        schedule.step()


@pytest.mark.parametrize(
    "text", ["5e-4", "5E-4", "0.5e-3", ".5e-3", "+5.e-4", "0.0005"]
)
def test_numbers_are_read_as_elsewhere(tmp_path: Path, text: str) -> None:
    path = tiny_configuration(
        tmp_path,
        tmp_path,
        optimiser={"steps": 8, "warmup_steps": 2, "learning_rate": 0.25},
    )
    whole = path.read_text("utf-8")
    path.write_text(whole.replace("0.25", text), "utf-8")
    assert read_configuration(path).optimiser.learning_rate == 0.0005


def test_all_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "wandb" else find(name),
    )
    path = tiny_configuration(
        tmp_path,
        tmp_path / "no-heads",
        data={"heads": "no-heads", "patches": ["no-patches.safetensors"]},
        start={"weights": "no-weights.safetensors"},
        logger="wandb",
        hardware={"accelerator": "cuda", "devices": 4},
    )
    configuration = read_configuration(path)
    for here in (0, 1):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda found=here: found)
        with pytest.raises(MetiaError, match=f"this machine has {here}") as caught:
            set_up_torch(configuration)
        assert caught.value.code == "configuration-invalid"
    faults = check(configuration)
    assert len(faults) == 5
    for word in ("is 4", "wandb", "no-weights", "synthetic pack", "no-patches"):
        assert sum(word in fault for fault in faults) == 1, word


def test_a_changed_head_is_found_before_training(tmp_path: Path) -> None:
    pack = make_pack(tmp_path)
    configuration = read_configuration(tiny_configuration(tmp_path, pack))
    assert check(configuration) == []
    damage(pack / "labels-1.npz")
    assert check(configuration) == ["labels-1.npz was changed."]


def test_the_shipped_configurations_are_valid() -> None:
    folder = Path(__file__).parents[2] / "unetr" / "training" / "configs"
    paths = sorted(folder.glob("*.yaml"))
    assert paths
    for path in paths:
        read_configuration(path)


# -- stopping --------------------------------------------------------------------------


def _press_ctrl_c() -> None:
    """Call what is set for the signal, which a real run gets in another test.

    Sent to a process with so many libraries in it, one ended it once.
    """
    handler: Any = signal.getsignal(signal.SIGINT)
    handler(signal.SIGINT, None)


def test_ctrl_c_waits_for_a_whole_step_once(tmp_path: Path) -> None:
    saved: list[Path] = []
    trainer: Any = SimpleNamespace(
        should_stop=False,
        accumulate_grad_batches=2,
        strategy=SimpleNamespace(reduce_boolean_decision=lambda over, all: over),
        save_checkpoint=saved.append,
    )
    module: Any = None
    before = signal.getsignal(signal.SIGINT)
    stopping = Stopping(tmp_path / "last.ckpt", None)

    def run() -> None:
        with interrupts_to(stopping):
            for batch in range(3):
                stopping.on_train_batch_end(trainer, module, None, None, batch)
            _press_ctrl_c()
            assert not trainer.should_stop
            stopping.on_train_batch_end(trainer, module, None, None, 3)
            assert trainer.should_stop
            with pytest.raises(KeyboardInterrupt):
                _press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        run()
    assert saved == [tmp_path / "last.ckpt"]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_without_a_step_to_keep_ends_at_once(tmp_path: Path) -> None:
    stopping = Stopping(tmp_path / "last.ckpt", None)
    with interrupts_to(stopping), pytest.raises(KeyboardInterrupt):
        _press_ctrl_c()
    # What Lightning makes of it.
    with pytest.raises(KeyboardInterrupt), interrupts_to(stopping):
        sys.exit(1)


def test_a_checkpoint_is_there_whole_whatever_ends_its_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = tmp_path / "run" / "last.ckpt"
    written = {"state_dict": {}, "global_step": 1}
    WholeFiles().save_checkpoint(written, last)

    def tear(_: object, stream: IO[bytes]) -> None:
        stream.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", tear)
        with pytest.raises(KeyboardInterrupt):
            WholeFiles().save_checkpoint(written | {"global_step": 2}, last)
    assert read_checkpoint(last) == written
    WholeFiles().save_checkpoint(written | {"global_step": 3}, last)
    assert read_checkpoint(last)["global_step"] == 3
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]


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


def test_what_is_frozen_takes_no_share_of_the_norm(tmp_path: Path) -> None:
    start = {"weights": "a", "unfreeze_steps": [8]}
    path = tiny_configuration(tmp_path, tmp_path, start=start)
    module = MetastasisModule(read_configuration(path))
    optimiser = module.configure_optimizers()["optimizer"]
    for name, parameter in module.network.named_parameters():
        learns = name.startswith(("out.", "decoder2."))
        parameter.grad = torch.full_like(parameter, 1.0 if learns else 1000.0)
    module.configure_gradient_clipping(optimiser, 0.5)
    for learns in (True, False):
        gradients = [
            parameter.grad
            for name, parameter in module.network.named_parameters()
            if name.startswith(("out.", "decoder2.")) == learns
        ]
        norm = nn.utils.get_total_norm([one for one in gradients if one is not None])
        assert float(norm) == pytest.approx(0.5, rel=1e-4)


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


def test_a_checkpoint_of_something_else_is_not_exported(tmp_path: Path) -> None:
    configuration = read_configuration(tiny_configuration(tmp_path, tmp_path))
    other = tiny_configuration(
        tmp_path, tmp_path, network=TINY_NETWORK | {"feature_size": 8}
    )
    state = MetastasisModule(configuration).state_dict()
    checkpoint = tmp_path / "last.ckpt"
    torch.save({"state_dict": state, "global_step": 1}, checkpoint)
    with pytest.raises(MetiaError, match="do not fit") as caught:
        export_model(read_configuration(other), checkpoint, tmp_path / "models")
    assert caught.value.code == "model-invalid"
    whole = {"state_dict": state, "global_step": 1}
    for key in whole:
        torch.save({name: whole[name] for name in whole if name != key}, checkpoint)
        with pytest.raises(MetiaError, match="no checkpoint") as caught:
            export_model(configuration, checkpoint, tmp_path / "models")
        assert caught.value.code == "model-invalid"
    torch.save(state["network.out.conv.conv.weight"], checkpoint)
    with pytest.raises(MetiaError, match="no checkpoint"):
        export_model(configuration, checkpoint, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_the_cases_that_were_trained_on_are_counted(tmp_path: Path) -> None:
    for patient in range(10):
        for visit in (1, 2):
            folder = tmp_path / "cases" / f"p{patient}__{visit}"
            folder.mkdir(parents=True)
            for kind in ("image", "mask"):
                (folder / f"{kind}.nii").write_bytes(f"{patient} {visit}".encode())
    checkpoint = tmp_path / "last.ckpt"
    for folds, expected in ((1, 14), (4, 12)):
        path = tiny_configuration(
            tmp_path, tmp_path, data={"cases": "cases", "folds": folds}
        )
        configuration = read_configuration(path)
        state = MetastasisModule(configuration).state_dict()
        torch.save({"state_dict": state, "global_step": 1}, checkpoint)
        made = export_model(configuration, checkpoint, tmp_path / f"models-{folds}")
        told = ModelFolder.open(made).manifest.training_data
        assert (told.case_count, told.synthetic) == (expected, False)


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
            "false positives a scan": {"value": 0.0, "interval": None, "count": 2},
        },
    }
    evaluation = tmp_path / "evaluation.json"
    evaluation.write_text(json.dumps(document), "utf-8")
    made = export_model(
        configuration, checkpoint, tmp_path / "made", evaluation=evaluation
    )
    metric, sure = ModelFolder.open(made).manifest.metrics
    assert (sure.name, sure.value, sure.interval) == (
        "false positives a scan",
        0.0,
        None,
    )
    assert (metric.name, metric.value) == ("sensitivity", 0.5)
    assert metric.interval == (0.25, 1.0)
    assert metric.dataset == "2 heads, threshold 0.5, least peak 0.9, n = 4"
    page = (made / "MODEL_CARD.md").read_text("utf-8")
    assert "| sensitivity | 0.50 | 0.25 to 1.00 |" in page
    assert "| false positives a scan | 0.00 | none |" in page
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
