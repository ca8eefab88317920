"""Tiny label maps and real-like heads, packed as training wants them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np

from unetr.training.heads import HeadEntry, Split, pack_heads

EDGE = 64
TINY_NETWORK = {
    "architecture": "monai-unetr",
    "img_size": [32, 32, 32],
    "feature_size": 4,
    "hidden_size": 24,
    "mlp_dim": 48,
    "num_heads": 2,
}
TINY_PYRAMID = TINY_NETWORK | {"architecture": "pyramid-unetr", "norm_name": "batch"}


def tiny_labels(edge: int = EDGE) -> np.ndarray:
    """A head of nested balls: scalp, skull, fluid, grey, white, ventricle, chiasm."""
    points = np.indices((edge,) * 3) - (edge - 1) / 2
    radius = np.sqrt((points**2).sum(axis=0))
    labels = np.zeros((edge,) * 3, np.int16)
    for limit, label in ((30, 516), (26, 515), (24, 24), (22, 3), (18, 2), (5, 4)):
        labels[radius < limit] = label
    low = (points[2] < -8) & (radius < 22)
    labels[low & (labels == 3)] = 8
    labels[low & (labels == 2)] = 7
    labels[29:32, 29:32, 20:23] = 85
    return labels


def make_data(folder: Path) -> Split:
    """Write sources for all three parts and give their split."""
    folder.mkdir(parents=True)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    entries = []
    random = np.random.default_rng(3)
    parts = ("train", "train", "validation", "test")
    for number, part in enumerate(parts):
        labels = tiny_labels()
        labels[number, 0, 0] = 515  # four different files
        _save(folder / f"labels-{number}.nii.gz", labels, affine)
        entries.append(_entry(folder, f"labels-{number}", "labels", part))
    image = np.where(tiny_labels() > 0, 300, 5) + random.normal(0, 5, (EDGE,) * 3)
    image[tiny_labels() == 516] = 900
    mask = np.zeros((EDGE,) * 3, np.uint8)
    mask[40:44, 30:34, 40:44] = 1
    _save(folder / "real.nii.gz", image.clip(0).astype(np.float32), affine)
    _save(folder / "real-mask.nii.gz", mask, affine)
    entries.append(
        _entry(folder, "real", "background", "train", lesions="real-mask.nii.gz")
    )
    return Split(format=1, heads=tuple(entries))


def make_pack(folder: Path, parts: tuple[str, ...] = ("train", "validation")) -> Path:
    """Pack the tiny heads below a folder."""
    split = make_data(folder / "data")
    pack_heads(folder / "data", folder / "pack", parts=parts, split=split)
    return folder / "pack"


def damage(path: Path) -> None:
    """Turn one byte of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(array, affine), path)


def _entry(
    folder: Path, name: str, kind: str, part: str, lesions: str | None = None
) -> HeadEntry:
    content = (folder / f"{name}.nii.gz").read_bytes()
    document = {
        "name": name,
        "kind": kind,
        "part": part,
        "source": f"{name}.nii.gz",
        "sha256": hashlib.sha256(content).hexdigest(),
        "lesions": lesions,
    }
    return HeadEntry.model_validate_json(json.dumps(document))


def tiny_configuration(folder: Path, pack: Path, **changes: object) -> Path:
    """Write a configuration that trains in seconds."""
    document: dict[str, object] = {
        "output": str(folder / "run"),
        "data": {"heads": str(pack)},
        "network": TINY_NETWORK,
        "optimiser": {"steps": 8, "batch": 2, "warmup_steps": 2},
        "synthetic": {"lesions": {"none_share": 0.0, "median_diameter_mm": 9.0}},
        "patches": {"per_head": 8, "reuse": 2, "pool": 32},
        "hardware": {
            "accelerator": "cpu",
            "precision": "fp32",
            "workers": 0,
            "threads": 1,
        },
        "validation": {"every_steps": 8, "heads": 2, "patches_per_head": 4},
        "checkpoint_every_steps": 2,
        "log_every_steps": 1,
        "logger": "csv",
        "export": {
            "name": "tiny",
            "description": "A test.",
            "training_summary": "Tiny synthetic heads.",
            "demonstration": True,
        },
    }
    document.update(changes)
    path = folder / "training.yaml"
    path.write_text(json.dumps(document), "utf-8")
    return path
