"""Engines: one answer whichever computes, kept conversions, choice by rule and wish."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from errors import MetiaError
from unetr.engines import openvino_engine
from unetr.engines.converted import KEPT, SUFFIX, Converted, converted, read, write
from unetr.engines.engine import Choice, FloatArray, Loaded, Place, Source
from unetr.engines.openvino_engine import OpenvinoEngine
from unetr.engines.selection import Wish, by_rule, candidates, load, make_engine
from unetr.hardware import Machine, choose_device, describe_machine, has_cuda_driver
from unetr.network import build_network
from unetr.seeded import ARGUMENTS, seeded_weights

ROOT = Path(__file__).resolve().parents[2]
CPU = Place("cpu", threads=2)
ENTRY = Converted(b"graph" * 100, b"constants" * 1000)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(w).float() for name, w in seeded_weights().items()}


@pytest.fixture(scope="module")
def source(weights: dict[str, torch.Tensor]) -> Source:
    return Source(ARGUMENTS, safetensors.torch.save(weights))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def windows() -> FloatArray:
    random = np.random.default_rng(7)
    return random.normal(size=(2, 1, 48, 48, 48)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(weights: dict[str, torch.Tensor], windows: FloatArray) -> FloatArray:
    """What MONAI's own network answers, as the difference of its two channels."""
    plain = build_network(ARGUMENTS)
    plain.load_state_dict(weights)
    with torch.inference_mode():
        both = plain(torch.from_numpy(windows)).numpy()
    return both[:, 1:] - both[:, :1]


def _answer(loaded: Loaded, windows: FloatArray) -> FloatArray:
    with loaded.session():
        return loaded.network(windows)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_in_float32_every_engine_answers_as_monai(
    engine: str,
    source: Source,
    windows: FloatArray,
    expected: FloatArray,
    data_dir: Path,
) -> None:
    loaded = load(
        source, Wish("cpu", 2, engine=engine, precision="fp32", data_dir=data_dir)
    )
    assert loaded.choice == Choice(engine, "fp32")
    assert list(loaded.versions) == [engine]
    answer = _answer(loaded, windows)
    assert answer.dtype == np.float32
    assert float(expected.std()) > 0.05
    np.testing.assert_allclose(answer, expected, atol=3e-3)
    one_by_one = [_answer(loaded, windows[i : i + 1]) for i in range(2)]
    np.testing.assert_allclose(np.concatenate(one_by_one), answer, atol=1e-4)
    np.testing.assert_array_equal(_answer(loaded, windows), answer)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bfloat16_is_close_and_is_really_used(
    engine: str,
    source: Source,
    windows: FloatArray,
    expected: FloatArray,
    data_dir: Path,
) -> None:
    if "bf16" not in make_engine(engine).precisions("cpu"):
        pytest.skip("this processor has no instructions for bfloat16")
    loaded = load(
        source, Wish("cpu", 2, engine=engine, precision="bf16", data_dir=data_dir)
    )
    difference = np.abs(_answer(loaded, windows) - expected)
    assert 1e-4 < float(difference.max()) < 0.5
    assert float(difference.mean()) < 0.05


@pytest.mark.parametrize("norms", ["instance", "batch"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_every_engine_computes_the_pyramid(
    engine: str, norms: str, windows: FloatArray, data_dir: Path
) -> None:
    arguments = ARGUMENTS.model_copy(
        update={"architecture": "pyramid-unetr", "norm_name": norms}
    )
    with torch.random.fork_rng():
        torch.manual_seed(9)
        plain = build_network(arguments)
    with torch.inference_mode():
        both = plain(torch.from_numpy(windows)).numpy()
    state = {n: w for n, w in plain.state_dict().items() if w.is_floating_point()}
    source = Source(arguments, safetensors.torch.save(state))
    for precision in make_engine(engine).precisions("cpu"):
        wish = Wish("cpu", 2, engine=engine, precision=precision, data_dir=data_dir)
        difference = _answer(load(source, wish), windows) - (both[:, 1:] - both[:, :1])
        bound = 0.002 if precision == "fp32" else 0.05
        assert float(np.abs(difference).mean()) < bound * float(both.std())


def test_what_is_exact_stays_exact_in_openvino(
    source: Source, windows: FloatArray, expected: FloatArray, data_dir: Path
) -> None:
    if "bf16" not in OpenvinoEngine().precisions("cpu"):
        pytest.skip("this processor has no instructions for bfloat16")
    entry = openvino_engine._convert(source)
    everything = Converted(entry.graph.replace(b'name="precise"', b'name="other"'), b"")
    assert everything.graph != entry.graph
    errors = [
        np.abs(openvino_engine._compile(one, "bf16", CPU)(windows) - expected).mean()
        for one in (entry, Converted(everything.graph, entry.constants))
    ]
    assert errors[0] < 0.7 * errors[1]


def test_answers_are_not_overwritten_by_the_next_window(
    source: Source, windows: FloatArray, data_dir: Path
) -> None:
    wish = Wish("cpu", 2, engine="openvino", precision="fp32", data_dir=data_dir)
    loaded = load(source, wish)
    first = loaded.network(windows[:1])
    kept = first.copy()
    loaded.network(windows[1:])
    np.testing.assert_array_equal(first, kept)


def test_a_network_is_converted_once(
    source: Source,
    windows: FloatArray,
    expected: FloatArray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wish = Wish("cpu", 2, engine="openvino", precision="fp32", data_dir=tmp_path)
    load(source, wish)
    (entry,) = tmp_path.rglob(f"*{SUFFIX}")
    monkeypatch.setattr(openvino_engine, "_convert", lambda _: pytest.fail("again"))
    np.testing.assert_allclose(
        _answer(load(source, wish), windows), expected, atol=3e-3
    )
    assert [entry] == list(tmp_path.rglob(f"*{SUFFIX}"))


def test_other_weights_are_another_entry(source: Source) -> None:
    changed = Source(source.arguments, source.weights[:-1] + b"\x01")
    heads = source.arguments.model_copy(update={"num_heads": 2})
    keys = {source.key, changed.key, Source(heads, source.weights).key}
    assert len(keys) == 3


def test_a_kept_network_needs_neither_torch_nor_monai(
    source: Source, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_bytes(source.weights)
    script = (
        "import sys; from pathlib import Path\n"
        "from unetr.engines.engine import Source\n"
        "from unetr.engines.selection import Wish, load\n"
        "from unetr.seeded import ARGUMENTS\n"
        "import numpy as np, unetr.inference\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "source = Source(ARGUMENTS, (folder / 'weights').read_bytes())\n"
        "loaded = load(source, Wish('cpu', 1, engine='openvino', data_dir=folder))\n"
        "assert np.isfinite(loaded.network(np.ones((1, 1, 48, 48, 48), 'f4'))).all()\n"
        "print({'torch', 'monai'} & set(sys.modules))\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            check=True,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout
        for _ in range(2)
    ]
    assert "torch" in outputs[0]
    assert outputs[1] == "set()\n"


def test_threads_are_bound_to_cores_only_where_a_process_has_all() -> None:
    # Two workers of one thread each would be bound to the same core.
    cores = describe_machine().cores
    for threads, bound in ((cores, True), (cores + 1, True), (cores - 1, False)):
        asked = openvino_engine._properties("fp32", threads)
        assert asked["ENABLE_CPU_PINNING"] is bound


def test_the_maker_of_openvino_is_told_nothing(source: Source, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(source.weights)
    script = (
        "import socket, sys; from pathlib import Path\n"
        "import openvino_telemetry\n"
        "def refuse(*_, **__): sys.exit('something was to be reported')\n"
        "openvino_telemetry.Telemetry.__init__ = refuse\n"
        "openvino_telemetry.Telemetry.send_event = refuse\n"
        "socket.socket.connect = refuse\n"
        "from unetr.engines.openvino_engine import OpenvinoEngine, _convert\n"
        "from unetr.engines.engine import Source\n"
        "from unetr.seeded import ARGUMENTS\n"
        "assert OpenvinoEngine().precisions('cpu')\n"
        f"weights = Path({str(tmp_path)!r}, 'weights').read_bytes()\n"
        "assert len(_convert(Source(ARGUMENTS, weights)).graph) > 1000\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=120)


def test_openvino_is_imported_in_one_place_only() -> None:
    # Anywhere else it would report the import.
    found = {
        path.relative_to(ROOT).as_posix()
        for name in ("unetr", "segmentation", "benchmarks", "orthanc", "db")
        for path in (ROOT / name).rglob("*.py")
        if re.search(r"^\s*(import|from) openvino\b", path.read_text("utf-8"), re.M)
    }
    assert found == {"unetr/engines/openvino_engine.py"}


def _spoil_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        _spoil_byte,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no header"),
        lambda path: path.write_bytes(b"[]\n"),
        lambda path: path.write_bytes(b'{"graph_bytes": null, "sha256": 1}\n'),
        lambda path: path.unlink(),
    ],
)
def test_a_spoilt_entry_is_made_anew(spoil, tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> Converted:
        made.append(1)
        return ENTRY

    path = tmp_path / f"key{SUFFIX}"
    assert converted(tmp_path, "key", make) == ENTRY
    spoil(path)
    assert read(path) is None
    assert converted(tmp_path, "key", make) == ENTRY
    assert converted(tmp_path, "key", make) == ENTRY
    assert len(made) == 2
    assert [path] == list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_used_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for _ in range(2):
        assert converted(tmp_path / "file", "key", lambda: ENTRY) == ENTRY


def test_many_may_write_and_read_one_entry(tmp_path: Path) -> None:
    path = tmp_path / f"key{SUFFIX}"
    write(path, ENTRY)
    wrong: list[object] = []

    def work() -> None:
        for _ in range(30):
            write(path, ENTRY)
            if read(path) != ENTRY:
                wrong.append(path)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert [path] == list(tmp_path.iterdir())


def test_the_entries_used_last_stay(tmp_path: Path) -> None:
    for number in range(KEPT):
        path = tmp_path / f"{number}{SUFFIX}"
        write(path, ENTRY)
        os.utime(path, (number, number))
    assert read(tmp_path / f"0{SUFFIX}") == ENTRY
    write(tmp_path / f"new{SUFFIX}", ENTRY)
    names = {path.name.removesuffix(SUFFIX) for path in tmp_path.iterdir()}
    assert names == {"0", "new", *(str(n) for n in range(2, KEPT))}


AMX = Machine("a", ("amx", "avx512", "avx2"), 2)
AVX512 = Machine("c", ("avx512", "avx2"), 2)
AVX2 = Machine("b", ("avx2",), 2)
BOTH = ("openvino", "torch")


@pytest.mark.parametrize(
    ("machine", "installed", "wish", "expected"),
    [
        (AMX, BOTH, {}, ("openvino", "bf16")),
        (AMX, ("torch",), {}, ("torch", "bf16")),
        (AVX2, BOTH, {}, ("openvino", "fp32")),
        (AVX2, ("torch",), {}, ("torch", "fp32")),
        (Machine("arm", (), 4), BOTH, {}, ("openvino", "fp32")),
        (AMX, BOTH, {"precision": "fp32"}, ("openvino", "fp32")),
        (AMX, BOTH, {"engine": "torch"}, ("torch", "bf16")),
        (AVX512, BOTH, {}, ("openvino", "fp32")),
        (AVX512, BOTH, {"engine": "torch", "precision": "bf16"}, ("torch", "bf16")),
    ],
)
def test_the_rule_follows_the_processor_and_the_settings(
    machine: Machine, installed, wish, expected: tuple[str, str]
) -> None:
    assert by_rule(CPU, Wish(**wish), machine, installed) == Choice(*expected)


@pytest.mark.parametrize(
    "wish",
    [{"engine": "openvino"}, {"precision": "fp16"}],
)
def test_what_is_not_here_is_refused_by_name(wish: dict[str, str]) -> None:
    with pytest.raises(MetiaError) as caught:
        by_rule(CPU, Wish(**wish), AMX, ("torch",))
    assert caught.value.code == "configuration-invalid"
    assert next(iter(wish.values())) in caught.value.detail


def test_a_measured_choice_counts_unless_the_settings_say_otherwise(
    source: Source, data_dir: Path
) -> None:
    measured = Choice("torch", "fp32")
    wish = Wish("cpu", 1)
    assert load(source, wish, measured).choice == measured
    other = Wish("cpu", 1, engine="openvino", precision="fp32", data_dir=data_dir)
    assert load(source, other, measured).choice == Choice("openvino", "fp32")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (None, ("amx", "avx512", "avx2")),
        ("ALL", ("amx", "avx512", "avx2")),
        ("AVX512_CORE_BF16", ("avx512", "avx2")),
        ("avx512_core", ("avx512", "avx2")),
        ("AVX2", ("avx2",)),
        ("SSE41", ()),
    ],
)
def test_the_limit_on_instructions_is_heeded(
    limit: str | None,
    expected: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"
        "flags\t\t: fma avx2 avx512f avx512bw avx512vl avx512dq amx_tile amx_bf16\n\n"
        "processor\t: 1\nmodel name\t: Other\nflags\t\t: none\n"
    )
    machine = describe_machine(tmp_path / "cpuinfo")
    assert machine.cpu == "Some CPU @ 2 GHz"
    assert machine.instructions == expected
    assert machine.cores >= 1


def test_a_machine_that_says_nothing_has_nothing(tmp_path: Path) -> None:
    assert describe_machine(tmp_path / "none").instructions == ()


def test_engines_heed_the_limit() -> None:
    script = (
        "from unetr.engines.selection import Wish, candidates\n"
        "print(*candidates(Wish('cpu').place(), Wish('cpu')), sep=', ')\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        timeout=60,
    ).stdout
    assert found == "openvino fp32, torch fp32\n"


@pytest.mark.parametrize("absent", ["missing", "broken"])
def test_without_openvino_torch_computes(absent: str, tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text("raise OSError('libtbb.so.12 is missing')\n")
    block = "sys.modules['openvino'] = None\n" if absent == "missing" else ""
    script = (
        f"import sys\n{block}"
        "from pathlib import Path\n"
        "from segmentation.models.registry import ModelRegistry, load_predictor\n"
        "from tests.ball_head import make_ball_head\n"
        "folder = ModelRegistry([Path('unetr/weights')]).get('unetr-seeded')\n"
        "predictor = load_predictor(folder, device='cpu', threads=1)\n"
        "answer = predictor.predict(make_ball_head(), progress=lambda _: None,\n"
        "                           cancelled=lambda: False)\n"
        "print(answer.parameters['execution']['engine'])\n"
    )
    path = [str(ROOT)] if absent == "missing" else [str(tmp_path), str(ROOT)]
    found = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        timeout=120,
    )
    assert found.stdout == "torch\n"


def test_candidates_are_what_is_installed_and_wanted() -> None:
    every = candidates(CPU, Wish())
    assert {choice.engine for choice in every} == {"openvino", "torch"}
    assert candidates(CPU, Wish(engine="torch", precision="fp32")) == [
        Choice("torch", "fp32")
    ]
    assert OpenvinoEngine().precisions("cuda:0") == ()


def test_without_a_driver_no_device_is_asked_for() -> None:
    if has_cuda_driver():
        pytest.skip("this machine has a CUDA driver, so its absence cannot be shown")
    script = (
        "import sys; from unetr.hardware import choose_device\n"
        "print(choose_device('auto'), 'torch' in sys.modules)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        check=True, cwd=ROOT, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert found == "cpu False\n"
    assert choose_device("cpu") == "cpu"
