"""From a foreign checkpoint to a model folder that the service can load.

``import_checkpoint`` reads the file in a throw-away process (``unetr.sandbox``), audits
every tensor (``unetr.checkpoint``) and writes ``weights.safetensors``,
``manifest.json`` and a card that states what is not known. The folder appears whole or
not at all. Loads torch; called by the command line only.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import MetiaError
from segmentation.models.manifest import MANIFEST_NAME, WEIGHTS_NAME, read_manifest
from unetr.seeded import manifest as example_manifest

if TYPE_CHECKING:
    from unetr.checkpoint import Audit

CARD_NAME = "MODEL_CARD.md"
LEGACY = "metia-legacy"
HEAD_MR = "head-mr"
LEGACY_MINIMUM_MM3 = 35.0
"""140 voxels of 0.5 x 0.5 x 1 mm: what the replaced system left out in the hospital."""


@dataclass(frozen=True)
class ImportRequest:
    """What the person who imports knows and the file does not say.

    Attributes
    ----------
    profile : str
        ``metia-legacy`` or ``head-mr``.
    axis_order : sequence of str or None
        Of ``metia-legacy``; None: that of the replaced web service.
    spacing_mm : tuple of float
        Of ``head-mr``.
    threshold, minimum_volume_mm3 : float
        What counts as a lesion.
    """

    name: str
    version: str
    profile: str
    axis_order: Sequence[str] | None = None
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    overlap: float = 0.5
    threshold: float = 0.5
    minimum_volume_mm3: float = LEGACY_MINIMUM_MM3
    heads: int | None = None


@dataclass(frozen=True)
class ImportReport:
    """What became of a checkpoint."""

    folder: Path
    used: int
    dropped: tuple[str, ...]
    missing: tuple[str, ...]
    facts: dict[str, object]


def import_checkpoint(
    source: Path, models: Path, request: ImportRequest
) -> ImportReport:
    """Convert the checkpoint `source` into a model folder below `models`.

    Raises
    ------
    MetiaError
        ``checkpoint-refused``, ``model-invalid``, ``output-exists``.
    """
    import safetensors.torch

    from unetr.checkpoint import audit
    from unetr.sandbox import read_foreign

    target = models / request.name
    if target.exists():
        raise MetiaError("output-exists", f"A model called {request.name} exists.")
    foreign = read_foreign(source)
    facts = dict(foreign.facts)
    if request.heads is not None:
        facts["hyper_parameters"] = {"num_heads": request.heads}
    found = audit(
        safetensors.torch.load(foreign.weights),
        facts,
        legacy=request.profile == LEGACY,
    )
    weights = safetensors.torch.save(found.tensors)
    origin_sha256 = _file_sha256(source)
    card = _card(request, found, foreign.facts, origin_sha256).encode()
    contents = {WEIGHTS_NAME: weights, CARD_NAME: card}
    manifest = _manifest(request, found, contents, origin_sha256)
    text = (json.dumps(manifest, indent=2) + "\n").encode()
    read_manifest(text)
    _write(target, {**contents, MANIFEST_NAME: text})
    return ImportReport(
        target, len(found.tensors), found.dropped, found.missing, foreign.facts
    )


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(target: Path, contents: dict[str, bytes]) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".import-", dir=target.parent
        ) as unfinished:
            made = Path(unfinished) / target.name
            made.mkdir()
            for name, content in contents.items():
                (made / name).write_bytes(content)
            made.rename(target)
    except OSError as error:
        raise MetiaError(
            "model-invalid", f"The model folder can't be written: {error.strerror}."
        ) from error


def _preprocessing(request: ImportRequest) -> dict[str, Any]:
    if request.profile == HEAD_MR:
        return {"profile": HEAD_MR, "spacing_mm": list(request.spacing_mm)}
    chosen = {} if request.axis_order is None else {"axis_order": request.axis_order}
    return {"profile": LEGACY, **chosen}


def _manifest(
    request: ImportRequest,
    found: Audit,
    contents: dict[str, bytes],
    origin_sha256: str,
) -> dict[str, Any]:
    arguments = found.arguments
    return {
        "format": 1,
        "name": request.name,
        "version": request.version,
        "kind": "unetr",
        "demonstration": False,
        "description": (
            "Imported checkpoint of a UNETR. What it was trained on, and how well it "
            "does, was not in the file. Research use only."
        ),
        "licence": "That of the checkpoint, which its owner knows.",
        "task": example_manifest("")["task"],
        "preprocessing": _preprocessing(request),
        "network": arguments.model_dump(mode="json"),
        "inference": {
            "window": list(arguments.img_size),
            "overlap": request.overlap,
            "threshold": request.threshold,
            "minimum_volume_mm3": request.minimum_volume_mm3,
            "maximum_head_fraction": 0.25,
        },
        "files": {
            name: hashlib.sha256(content).hexdigest()
            for name, content in contents.items()
        },
        "training_data": {
            "summary": f"Not known. Imported from a file of SHA-256 {origin_sha256}.",
            "case_count": 0,
            "synthetic": False,
        },
        "metrics": [],
    }


def _card(
    request: ImportRequest, found: Audit, facts: dict[str, object], origin_sha256: str
) -> str:
    training = ", ".join(
        f"{name} {facts[name]}" for name in ("epoch", "global_step") if name in facts
    )
    return f"""# {request.name} {request.version}

Research use only. Not a medical device. Imported, not trained here.

- From a file of SHA-256 `{origin_sha256}`.
- {len(found.tensors)} tensors used; {len(found.dropped)} dropped and \
{len(found.missing)} absent, which no forward pass reads.
- Training, as the file says: {training or "nothing"}.
- Preprocessing profile: `{request.profile}`. Check it on a case with a known contour
  (`metia models self-test`) before any result is believed.

What it was trained on, how well it does and where it fails is not known here.
"""
