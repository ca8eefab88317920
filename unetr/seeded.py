"""Make the demonstration model ``unetr-seeded``: a UNETR that has learned nothing.

``python -m unetr.seeded FOLDER`` writes ``weights.safetensors`` and ``manifest.json``.
The weights come from numpy's PCG64 with a fixed seed, so that every machine writes the
same bytes. The bias of the output says "no lesion" almost everywhere: the model is
there to exercise the whole path of a network, not to find anything. No torch needed
beyond the shapes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from unetr.configuration import NetworkArguments

SEED = 20250101
NO_LESION_BIAS = 8.0
OUTPUT_SCALE = 0.5

ARGUMENTS = NetworkArguments(
    architecture="monai-unetr",
    img_size=(48, 48, 48),
    feature_size=4,
    hidden_size=48,
    mlp_dim=96,
    num_heads=4,
)


def seeded_weights() -> dict[str, NDArray[np.float16]]:
    """Draw the weights, in the order of their names."""
    from unetr.network import build_network

    random = np.random.default_rng(SEED)
    tensors: dict[str, NDArray[np.float16]] = {}
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in build_network(ARGUMENTS).state_dict().items()
    }
    for name in sorted(shapes):
        tensors[name] = _draw(name, shapes[name], random).astype(np.float16)
    return tensors


def _draw(
    name: str, shape: tuple[int, ...], random: np.random.Generator
) -> NDArray[np.float64]:
    if name == "out.conv.conv.bias":
        return np.array([NO_LESION_BIAS / 2, -NO_LESION_BIAS / 2])
    if name.endswith(".bias"):
        return np.zeros(shape)
    if ".norm" in name:
        return np.ones(shape)
    fan_in = shape[0] if "transp_conv" in name else int(np.prod(shape[1:]))
    scale = OUTPUT_SCALE if name.startswith("out.") else 1.0
    bound = scale * np.sqrt(3.0 / fan_in)
    return np.asarray(random.uniform(-bound, bound, shape))


def manifest(weights_sha256: str) -> dict[str, object]:
    """Return the manifest as plain data."""
    return {
        "format": 1,
        "name": "unetr-seeded",
        "version": "1.0.0",
        "kind": "unetr",
        "demonstration": True,
        "description": (
            "Demonstration model: a small UNETR with seeded random weights. It has "
            "learned nothing and finds nothing; it exercises the path of a network."
        ),
        "licence": "Part of MetIA, under the same terms.",
        "task": {
            "id": "brain-metastases",
            "title": "Brain metastases",
            "input": {
                "modality": "MR",
                "weighting": "T1",
                "contrast": "post",
                "body_part": "HEAD",
            },
            "labels": [
                {
                    "value": 1,
                    "name": "Metastasis",
                    "category": {
                        "value": "49755003",
                        "scheme": "SCT",
                        "meaning": "Morphologically Abnormal Structure",
                    },
                    "type": {
                        "value": "14799000",
                        "scheme": "SCT",
                        "meaning": "Neoplasm, Secondary",
                    },
                    "anatomic_region": {
                        "value": "12738006",
                        "scheme": "SCT",
                        "meaning": "Brain",
                    },
                }
            ],
            "measurements": ["longest-diameter", "perpendicular-diameter", "volume"],
        },
        "preprocessing": {"profile": "head-mr", "spacing_mm": [2.0, 2.0, 2.0]},
        "network": ARGUMENTS.model_dump(mode="json"),
        "inference": {
            "window": list(ARGUMENTS.img_size),
            "overlap": 0.25,
            "threshold": 0.5,
            "minimum_volume_mm3": 10.0,
            "maximum_head_fraction": 0.25,
        },
        "files": {"weights.safetensors": weights_sha256},
        "training_data": {
            "summary": "None: random weights from a fixed seed.",
            "case_count": 0,
            "synthetic": True,
        },
        "metrics": [],
    }


def write(folder: Path) -> None:
    """Write the model folder; existing files are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    content = safetensors.numpy.save(seeded_weights())
    (folder / "weights.safetensors").write_bytes(content)
    text = json.dumps(manifest(hashlib.sha256(content).hexdigest()), indent=2)
    (folder / "manifest.json").write_text(text + "\n", "utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m unetr.seeded", description=__doc__)
    parser.add_argument("folder", type=Path, help="model folder to write")
    write(parser.parse_args().folder)


if __name__ == "__main__":
    main()
