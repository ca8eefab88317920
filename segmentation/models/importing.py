"""From a foreign checkpoint to a model folder that the service can load.

``import_checkpoint`` reads the file in a throw-away process (``unetr.sandbox``), audits
every tensor (``unetr.checkpoint``) and writes ``weights.safetensors``,
``manifest.json`` and a card that states what is not known. What the file states of its
preprocessing is used where no option says otherwise. The folder appears whole or not at
all. Loads torch; called by the command line only.
"""

from __future__ import annotations

import errno
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from errors import MetiaError
from segmentation.models.manifest import MANIFEST_NAME, WEIGHTS_NAME, read_manifest
from segmentation.models.registry import ModelRegistry
from unetr.configuration import LegacyProfile
from unetr.seeded import manifest as example_manifest

if TYPE_CHECKING:
    from unetr.checkpoint import Audit

CARD_NAME = "MODEL_CARD.md"
LEGACY = "metia-legacy"
HEAD_MR = "head-mr"
LEGACY_MINIMUM_MM3 = 35.0
"""140 voxels of 0.5 x 0.5 x 1 mm: what the replaced system left out in the hospital."""
_HEAD_MR_SPACING_MM = (1.0, 1.0, 1.0)
_STATED = (
    ("spacing_voxels", ("voxel_space",), "three positive numbers", "--spacing"),
    ("window_intensity", ("a_min", "a_max"), "two rising numbers", "--window"),
    ("scaled_to", ("b_min", "b_max"), "two rising numbers", "--scaled-to"),
)
"""Of `LegacyProfile`: what a Lightning file calls it, what it must be, its option."""


@dataclass(frozen=True)
class ImportRequest:
    """What the person who imports knows and the file does not say.

    Attributes
    ----------
    profile : str
        ``metia-legacy`` or ``head-mr``.
    axis_order : sequence of str or None
        Of ``metia-legacy``; None: that of the replaced web service.
    spacing : tuple of float or None
        Of ``head-mr`` in mm (None: 1 each); of ``metia-legacy`` in voxels (None: what
        the file states, else that of the replaced web service).
    window, scaled_to : tuple of float or None
        ``window_intensity`` and ``scaled_to`` of ``metia-legacy``; None as for
        `spacing`.
    threshold, minimum_volume_mm3 : float
        What counts as a lesion.
    """

    name: str
    version: str
    profile: str
    axis_order: Sequence[str] | None = None
    spacing: tuple[float, float, float] | None = None
    window: tuple[float, float] | None = None
    scaled_to: tuple[float, float] | None = None
    overlap: float = 0.5
    threshold: float = 0.5
    minimum_volume_mm3: float = LEGACY_MINIMUM_MM3
    heads: int | None = None


@dataclass(frozen=True)
class ImportReport:
    """What became of a checkpoint.

    Attributes
    ----------
    stated : dict
        Of the preprocessing, what was taken from the file.
    """

    folder: Path
    used: int
    dropped: tuple[str, ...]
    missing: tuple[str, ...]
    facts: dict[str, object]
    stated: dict[str, list[float]]


def import_checkpoint(
    source: Path, models: Path, request: ImportRequest, *, beside: Sequence[Path] = ()
) -> ImportReport:
    """Convert the checkpoint `source` into a model folder below `models`.

    Parameters
    ----------
    beside : sequence of Path
        Other folders of models: a name that one of them holds is not given twice.

    Raises
    ------
    MetiaError
        ``checkpoint-refused``, ``model-invalid``, ``output-exists``.
    """
    import safetensors.torch

    from unetr.checkpoint import audit
    from unetr.sandbox import read_foreign

    ModelRegistry([models, *beside]).require_free(request.name)
    target = models / request.name
    foreign = read_foreign(source)
    stated = _stated(request, foreign.facts)
    facts: dict[str, Any] = dict(foreign.facts)
    if request.heads is not None:
        said = {"num_heads": request.heads}
        facts["hyper_parameters"] = facts.get("hyper_parameters", {}) | said
    found = audit(
        safetensors.torch.load(foreign.weights),
        facts,
        legacy=request.profile == LEGACY,
    )
    weights = safetensors.torch.save(found.tensors)
    origin_sha256 = _file_sha256(source)
    card = _card(request, found, foreign.facts, stated, origin_sha256).encode()
    contents = {WEIGHTS_NAME: weights, CARD_NAME: card}
    preprocessing = _preprocessing(request, stated)
    manifest = _manifest(request, found, preprocessing, contents, origin_sha256)
    # In full: a default that changes later must not change a model under its hash.
    valid = read_manifest(json.dumps(manifest).encode())
    text = (valid.model_dump_json(indent=2) + "\n").encode()
    _write(target, {**contents, MANIFEST_NAME: text})
    return ImportReport(
        target, len(found.tensors), found.dropped, found.missing, foreign.facts, stated
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
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            # Another import of this name was quicker.
            ModelRegistry([target.parent]).require_free(target.name)
        raise MetiaError(
            "model-invalid", f"The model folder can't be written: {error.strerror}."
        ) from error


def _stated(request: ImportRequest, facts: Mapping[str, Any]) -> dict[str, list[float]]:
    """Take the preprocessing that a file states, as far as no option says it.

    Raises
    ------
    MetiaError
        ``checkpoint-refused`` where it can't be meant.
    """
    if request.profile != LEGACY:
        return {}
    values = {
        **facts.get("hyper_parameters", {}),
        **facts.get("datamodule_hyper_parameters", {}),
    }
    mentioned = {*values, *facts.get("unread", ())}
    given = _given(request)
    stated = {}
    for field, names, meant, option in _STATED:
        if field in given or mentioned.isdisjoint(names):
            continue
        found = [values.get(name) for name in names]
        value = found if len(names) > 1 else found[0]
        text = json.dumps({"profile": LEGACY, field: value})
        try:
            profile = LegacyProfile.model_validate_json(text)
        except ValidationError as error:
            raise MetiaError(
                "checkpoint-refused",
                f"What the file states as {' and '.join(names)} is not {meant}. "
                f"Say it with {option}.",
            ) from error
        stated[field] = list(getattr(profile, field))
    return stated


def _given(request: ImportRequest) -> dict[str, object]:
    """Give what the options say of the profile ``metia-legacy``."""
    options = {
        "axis_order": request.axis_order,
        "spacing_voxels": request.spacing,
        "window_intensity": request.window,
        "scaled_to": request.scaled_to,
    }
    return {name: value for name, value in options.items() if value is not None}


def _preprocessing(
    request: ImportRequest, stated: Mapping[str, object]
) -> dict[str, object]:
    if request.profile == LEGACY:
        return {"profile": LEGACY, **stated, **_given(request)}
    if _given(replace(request, spacing=None)):
        raise MetiaError(
            "invalid-input",
            f"An axis order, a window and what it is scaled to are of {LEGACY} only.",
        )
    return {"profile": HEAD_MR, "spacing_mm": request.spacing or _HEAD_MR_SPACING_MM}


def _manifest(
    request: ImportRequest,
    found: Audit,
    preprocessing: dict[str, object],
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
        "preprocessing": preprocessing,
        "network": arguments.model_dump(mode="json"),
        "inference": {
            "window": list(arguments.img_size),
            "overlap": request.overlap,
            # The replaced system blended as MONAI does by default.
            "blending": "constant" if request.profile == LEGACY else "gaussian",
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
    request: ImportRequest,
    found: Audit,
    facts: dict[str, object],
    stated: dict[str, list[float]],
    origin_sha256: str,
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
- Preprocessing profile: `{request.profile}`. Taken from the file: \
{describe_stated(stated)}.
  Check it on a case with a known contour (`metia models self-test`) before any result
  is believed.

What it was trained on, how well it does and where it fails is not known here.
"""


def describe_stated(stated: Mapping[str, Sequence[float]]) -> str:
    """Say in a line what was taken from the file."""
    shown = (
        f"{name} {', '.join(f'{number:g}' for number in numbers)}"
        for name, numbers in stated.items()
    )
    return "; ".join(shown) or "nothing"
