"""The manifest of a model folder: what a model is, as data.

``read_manifest`` turns the bytes of a ``manifest.json`` into a validated, immutable
``Manifest``; ``canonical_sha256`` is the identity of a model: as the manifest lists the
SHA-256 of every file, one hash over it covers the weights too. The JSON Schema is
``docs/model-manifest.schema.json`` (a test holds it to this module). Lengths in
millimetres, volumes in cubic millimetres. Pure functions, no file access, no torch.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from errors import MetiaError
from unetr.configuration import (
    Configuration,
    InferenceParameters,
    NetworkArguments,
    Profile,
)

MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "weights.safetensors"

Kind = Literal["unetr", "phantom-threshold"]
Measurement = Literal["longest-diameter", "perpendicular-diameter", "volume"]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Version = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+([.-][a-z0-9]+)*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.(safetensors|json|md)$")
]
"""A plain name in the model's own folder, never a path, never a pickled format."""
Text = Annotated[str, Field(min_length=1, max_length=4000)]
ShortText = Annotated[str, Field(min_length=1, max_length=64)]


class Code(Configuration):
    """A coded concept (DICOM PS3.3 section 8.8)."""

    value: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,16}$")]
    scheme: Annotated[str, Field(pattern=r"^[A-Z0-9]{1,16}$")] = "SCT"
    meaning: ShortText


class Label(Configuration):
    """One class the model finds."""

    value: Annotated[int, Field(ge=1, le=255)]
    name: ShortText
    category: Code
    type: Code
    anatomic_region: Code


class InputRule(Configuration):
    """Which series the task accepts."""

    modality: Literal["MR", "CT", "CR", "DX"]
    weighting: Literal["T1", "T2", "FLAIR"] | None = None
    contrast: Literal["post", "pre", "any"] = "any"
    body_part: ShortText


class Task(Configuration):
    """What is looked for, in what, and what is measured on it."""

    id: Slug
    title: ShortText
    input: InputRule
    labels: Annotated[tuple[Label, ...], Field(min_length=1)]
    measurements: Annotated[tuple[Measurement, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_labels(self) -> Task:
        if len({label.value for label in self.labels}) != len(self.labels):
            raise ValueError("two labels share one value")
        return self


class TrainingData(Configuration):
    """What the model has learned from."""

    summary: Text
    case_count: Annotated[int, Field(ge=0)]
    synthetic: bool


class Metric(Configuration):
    """One figure of an evaluation, with its 95 % confidence interval where known."""

    name: ShortText
    value: float
    unit: Annotated[str, Field(max_length=16)] = ""
    dataset: Text
    interval: tuple[float, float] | None = None


class Manifest(Configuration):
    """Everything that is stated of one model."""

    format: Literal[1]
    name: Slug
    version: Version
    kind: Kind
    demonstration: bool
    description: Text
    licence: Text
    task: Task
    preprocessing: Profile | None = None
    network: NetworkArguments | None = None
    inference: InferenceParameters
    files: dict[FileName, Sha256]
    training_data: TrainingData
    metrics: tuple[Metric, ...] = ()

    @model_validator(mode="after")
    def _check_kind(self) -> Manifest:
        if MANIFEST_NAME in self.files:
            raise ValueError("files must not list the manifest itself")
        if self.kind == "unetr":
            self._check_unetr()
        elif not self.demonstration:
            raise ValueError("a phantom-threshold model is a demonstration model")
        return self

    def _check_unetr(self) -> None:
        if self.network is None or self.preprocessing is None:
            raise ValueError("a unetr model states its network and preprocessing")
        if self.network.out_channels > 2:
            raise ValueError("a unetr model has one or two output channels")
        if self.inference.window != self.network.img_size:
            raise ValueError("inference.window must equal network.img_size")
        if WEIGHTS_NAME not in self.files:
            raise ValueError(f"a unetr model lists {WEIGHTS_NAME} under files")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        data = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        raise MetiaError(
            "model-invalid", f"The manifest is not JSON: {error}."
        ) from error
    if not isinstance(data, dict):
        raise MetiaError("model-invalid", "The manifest is not a JSON object.")
    return data


def read_manifest(raw: bytes) -> Manifest:
    """Validate the bytes of a ``manifest.json``.

    Raises
    ------
    MetiaError
        ``model-invalid``, naming every bad field.
    """
    _parse(raw)
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'manifest'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise MetiaError(
            "model-invalid", f"The manifest is not valid: {faults}."
        ) from (error)


def canonical_sha256(raw: bytes) -> str:
    """Hash a manifest regardless of its layout (key order, white space).

    Computed over what the file says, not over ``Manifest``, so that a field which later
    gains a default does not change the identity of models already installed.

    Raises
    ------
    MetiaError
        ``model-invalid`` where it is not a JSON object.
    """
    canonical = json.dumps(
        _parse(raw), sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of ``manifest.json``."""
    schema = Manifest.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "MetIA model manifest",
        **{key: value for key, value in schema.items() if key != "title"},
    }
