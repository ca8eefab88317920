"""OpenVINO: optional, the fastest on Intel and AMD CPUs.

The network is MONAI's, folded as for torch, converted once and kept
(``unetr.engines.converted``); from then on neither torch nor monai is loaded. Nothing
is reported to OpenVINO's maker. ONEDNN_MAX_CPU_ISA limits OpenVINO as it limits torch.
Deterministic on one machine.
"""

from __future__ import annotations

import sys
import warnings
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from errors import MetiaError
from unetr.engines.converted import Converted, converted
from unetr.engines.engine import (
    Choice,
    EngineName,
    FloatArray,
    HostNetwork,
    Loaded,
    Place,
    Precision,
    Source,
)
from unetr.hardware import describe_machine, half_on_cpu

HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}
FOLDER = "openvino"
CONVERSION = 2
"""To be raised with every change to what is converted, ``EXACT`` included."""


class OpenvinoEngine:
    """See ``unetr.engines.engine.Engine``."""

    name: EngineName = "openvino"

    def versions(self) -> dict[str, str]:
        """Name the package; empty where it is absent or cannot be loaded."""
        try:
            _openvino()
            return {"openvino": version("openvino")}
        except (ImportError, OSError, PackageNotFoundError):
            return {}

    def precisions(self, device: str) -> tuple[Precision, ...]:
        """List what it multiplies without emulation on this CPU."""
        if device != "cpu" or not self.versions():
            return ()
        able = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        # What OpenVINO says it is able to does not heed the limit; what it does, does.
        offered = half_on_cpu(describe_machine())
        return tuple(one for one in offered if one != "bf16" or "BF16" in able)

    def load(self, source: Source, precision: Precision, place: Place) -> Loaded:
        """See ``Engine.load``."""
        if precision not in HINTS or place.device != "cpu":
            raise MetiaError(
                "configuration-invalid",
                f"OpenVINO does not compute in {precision} on {place.device} here.",
            )
        release = self.versions()["openvino"]
        key = f"{source.key[:40]}-{release}-{CONVERSION}"
        entry = converted(_folder(place), key, partial(_convert, source))
        return Loaded(
            network=_compile(entry, precision, place),
            choice=Choice(self.name, precision),
            place=place,
            device="cpu",
            versions=self.versions(),
        )


def _folder(place: Place) -> Path | None:
    return None if place.cache is None else place.cache / FOLDER


def _openvino() -> Any:
    """Import the package without the part that reports each import to its maker."""
    # What is None cannot be imported; OpenVINO then takes a stub that does nothing.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def _compile(entry: Converted, precision: Precision, place: Place) -> HostNetwork:
    openvino = _openvino()
    core = openvino.Core()
    constants = openvino.Tensor(np.frombuffer(entry.constants, np.uint8))
    try:
        model = core.read_model(entry.graph, constants)
        compiled = core.compile_model(
            model, "CPU", _properties(precision, place.threads)
        )
    except RuntimeError as error:
        raise MetiaError("model-invalid", "OpenVINO refuses the network.") from error
    request = compiled.create_infer_request()

    def run(windows: FloatArray) -> FloatArray:
        answers: list[FloatArray] = [
            request.infer([window[None]], share_inputs=True)[0] for window in windows
        ]
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    return run


def _properties(precision: Precision, threads: int) -> dict[str, object]:
    """Say how OpenVINO is to compute.

    It would bind its first thread to the first core, its second to the second, in every
    process alike: two workers of one thread each then share one core. Worth a twelfth
    of the time where a process has all cores.
    """
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": threads >= describe_machine().cores,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }


def _convert(source: Source) -> Converted:
    """Trace the network of torch, and write it in OpenVINO's format."""
    import tempfile

    import torch

    openvino = _openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    from unetr.network import load_for_inference, read_safetensors

    network = load_for_inference(
        source.arguments,
        read_safetensors(source.weights),
        torch.device("cpu"),
        torch.float32,
        channel_norms=False,
    )
    example = torch.zeros(1, 1, *source.arguments.img_size)
    with warnings.catch_warnings():
        # Tracing is what OpenVINO does; that torch discourages it is not news to users.
        warnings.simplefilter("ignore")
        decoder = TorchScriptPythonDecoder(
            network, example_input=(example,), trace_kwargs={"check_trace": False}
        )
    front_end = FrontEndManager().load_by_framework("pytorch")
    model = front_end.convert(front_end.load(decoder))
    model.reshape(list(example.shape))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        graph = _keep_exact(path.read_bytes(), source.arguments.norm_name)
        return Converted(graph, path.with_suffix(".bin").read_bytes())


def _keep_exact(graph: bytes, norms: str) -> bytes:
    """Mark the layers that stay float32 whatever precision is asked for."""
    from xml.etree import ElementTree

    from unetr.network import EXACT

    root = ElementTree.fromstring(graph)  # noqa: S314 - written just before
    for layer in root.iterfind("layers/layer"):
        # Named like "__module.encoder1.layer.conv1.conv/aten::_convolution/...".
        place = layer.get("name", "").removeprefix("__module.").partition("/")[0]
        if EXACT[norms].match(f"{place}.") and layer.get("type") != "Const":
            facts = layer.find("rt_info")
            if facts is None:
                facts = ElementTree.SubElement(layer, "rt_info")
            ElementTree.SubElement(facts, "attribute", name="precise", version="0")
    return bytes(ElementTree.tostring(root))
