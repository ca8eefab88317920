"""The installed models: folders with a manifest, verified by hash on every load.

A ``ModelRegistry`` looks at the disk each time it is asked, so a model installed while
the service runs is seen at once; it keeps no state and may be shared between threads.
A folder with a fault is reported by ``faults`` and hides no other model. Files are
opened by plain names listed in the manifest, never through links; nothing pickled is
ever read. Importing this module, or listing models, loads no torch: ``load_predictor``
does, only for the kind ``unetr``.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from errors import MetiaError
from segmentation.models.manifest import (
    MANIFEST_NAME,
    Manifest,
    canonical_sha256,
    read_manifest,
)
from segmentation.models.predictor import ModelIdentity, Predictor
from settings import Settings

MANIFEST_LIMIT_BYTES = 1_000_000
FILE_LIMIT_BYTES = 4_000_000_000
FALLBACK_NAME = "phantom-threshold"


def _read_regular(path: Path, limit_bytes: int) -> bytes:
    """Read one file that is neither a link nor a device, in one go."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise MetiaError("model-invalid", f"{path.name} is no regular file.")
            if status.st_size > limit_bytes:
                raise MetiaError("model-invalid", f"{path.name} is too large.")
            return stream.read(limit_bytes)
    except OSError as error:
        raise MetiaError(
            "model-integrity", f"{path.name} cannot be read: {error.strerror}."
        ) from error


@dataclass(frozen=True)
class ModelFolder:
    """One usable model on disk.

    Attributes
    ----------
    path : Path
    manifest : Manifest
    identity : ModelIdentity
        Its ``sha256`` covers the manifest and, through the hashes in it, every file.
    """

    path: Path
    manifest: Manifest
    identity: ModelIdentity

    @classmethod
    def open(cls, path: Path) -> ModelFolder:
        """Read the manifest of the folder `path` (the weights are not read).

        Raises
        ------
        MetiaError
            ``model-invalid`` or ``model-integrity``.
        """
        if path.is_symlink():
            raise MetiaError("model-invalid", "The model folder is a link.")
        raw = _read_regular(path / MANIFEST_NAME, MANIFEST_LIMIT_BYTES)
        manifest = read_manifest(raw)
        if manifest.name != path.name:
            raise MetiaError(
                "model-invalid", "The folder is not named like the model in it."
            )
        identity = ModelIdentity(
            name=manifest.name,
            version=manifest.version,
            sha256=canonical_sha256(raw),
            demonstration=manifest.demonstration,
        )
        return cls(path=path, manifest=manifest, identity=identity)

    def summary(self, default_name: str) -> dict[str, object]:
        """Say what it is in a line of a list; `default_name` is the one used now."""
        return {
            "name": self.identity.name,
            "version": self.identity.version,
            "sha256": self.identity.sha256,
            "kind": self.manifest.kind,
            "task": self.manifest.task.id,
            "description": self.manifest.description,
            "demonstration": self.identity.demonstration,
            "is_default": self.identity.name == default_name,
        }

    def read(self, name: str) -> bytes:
        """Return the content of a listed file, after comparing it with its hash.

        What is returned is what was hashed: the file cannot change in between.

        Raises
        ------
        MetiaError
            ``model-integrity`` where it is missing, unlisted, a link or changed.
        """
        expected = self.manifest.files.get(name)
        if expected is None:
            raise MetiaError(
                "model-integrity", f"{name} is not listed in the manifest."
            )
        content = _read_regular(self.path / name, FILE_LIMIT_BYTES)
        if hashlib.sha256(content).hexdigest() != expected:
            raise MetiaError(
                "model-integrity",
                f"{name} of model {self.manifest.name} differs from its manifest.",
            )
        return content

    def verify(self) -> None:
        """Compare the manifest and every listed file on disk with the identity.

        Raises
        ------
        MetiaError
            ``model-integrity``.
        """
        raw = _read_regular(self.path / MANIFEST_NAME, MANIFEST_LIMIT_BYTES)
        try:
            present = canonical_sha256(raw)
        except MetiaError:
            present = ""
        if present != self.identity.sha256:
            raise MetiaError(
                "model-integrity",
                f"The manifest of model {self.manifest.name} was changed.",
            )
        for name in sorted(self.manifest.files):
            self.read(name)


@dataclass(frozen=True)
class ModelFault:
    """Why a folder is not offered as a model."""

    folder_name: str
    code: str
    detail: str


class ModelRegistry:
    """The models below some folders; where a name occurs twice, the first folder's.

    Parameters
    ----------
    folders : sequence of Path
        Each holds one folder a model. A missing folder holds none.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    def _scan(self) -> tuple[dict[str, ModelFolder], list[ModelFault]]:
        models: dict[str, ModelFolder] = {}
        faults: list[ModelFault] = []
        for path in self._candidates(faults):
            try:
                if path.name in models:
                    raise MetiaError(
                        "model-invalid", "Another folder holds a model of this name."
                    )
                models[path.name] = ModelFolder.open(path)
            except MetiaError as error:
                faults.append(ModelFault(path.name, error.code, error.detail))
        return models, faults

    def _candidates(self, faults: list[ModelFault]) -> list[Path]:
        found: list[Path] = []
        for folder in self._folders:
            try:
                entries = sorted(folder.iterdir())
            except FileNotFoundError:
                continue
            except OSError as error:
                reason = f"The folder of models cannot be read: {error.strerror}."
                faults.append(ModelFault(folder.name, "model-invalid", reason))
                continue
            found += [
                entry
                for entry in entries
                if entry.is_dir() and not entry.name.startswith((".", "_"))
            ]
        return found

    def models(self) -> list[ModelFolder]:
        """List the usable models, by name."""
        models, _ = self._scan()
        return [models[name] for name in sorted(models)]

    def faults(self) -> list[ModelFault]:
        """List the folders that are not usable, with their reasons."""
        return self._scan()[1]

    def get(self, name: str) -> ModelFolder:
        """Return the model called `name`.

        Raises
        ------
        MetiaError
            ``model-invalid`` where its folder has a fault, ``model-unknown`` where
            there is none.
        """
        models, faults = self._scan()
        if name in models:
            return models[name]
        for fault in faults:
            if fault.folder_name == name:
                raise MetiaError(fault.code, fault.detail)
        raise MetiaError("model-unknown", "No model of this name is installed.")

    def require_free(self, name: str) -> None:
        """Refuse a name that one of the folders holds, be it with a fault.

        Raises
        ------
        MetiaError
            ``output-exists``.
        """
        if any((folder / name).exists() for folder in self._folders):
            raise MetiaError(
                "output-exists",
                f"A model called {name} exists. Choose another name.",
            )

    def default(self, name_hint: str = "") -> ModelFolder:
        """Return the model to use where the user names none.

        `name_hint` (the promoted model or the setting) where given; else the first, by
        name, that is no demonstration; else ``phantom-threshold``; else the first.

        Raises
        ------
        MetiaError
            ``model-unknown`` where there is no model at all.
        """
        if name_hint:
            return self.get(name_hint)
        models = self.models()
        if not models:
            raise MetiaError("model-unknown", "No usable model is installed.")
        return min(
            models,
            key=lambda model: (
                model.manifest.demonstration,
                model.manifest.name != FALLBACK_NAME,
                model.manifest.name,
            ),
        )


def load_predictor(
    folder: ModelFolder,
    *,
    device: str = "auto",
    threads: int = 0,
    engine: Literal["auto", "torch", "openvino"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    compiled: bool = False,
    data_dir: Path | None = None,
) -> Predictor:
    """Verify a model's files and make it ready to predict.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    threads : int
        CPU threads; 0 means all cores this process may use.
    engine, precision : str
        How to compute; ``auto``: what was measured here, else a rule.
    data_dir : Path or None
        Where converted networks and measurements are kept; None: nowhere.

    Raises
    ------
    MetiaError
        ``model-integrity`` where a file differs from the manifest, ``model-invalid``
        where the weights do not fit the network, ``configuration-invalid`` where what
        was asked for is not on this machine.
    """
    folder.verify()
    if folder.manifest.kind == "unetr":
        from segmentation.models.network import load_unetr
        from unetr.engines.selection import Wish

        wish = Wish(device, threads, engine, precision, data_dir, compiled)
        return load_unetr(folder.identity, folder.manifest, folder.read, wish=wish)
    from segmentation.models.threshold import ThresholdPredictor

    return ThresholdPredictor(folder.identity, folder.manifest.inference)


def load_as_set(
    folder: ModelFolder,
    settings: Settings,
    *,
    device: str | None = None,
    threads: int | None = None,
) -> Predictor:
    """Load a model as the settings say; `device` and `threads` win over them."""
    return load_predictor(
        folder,
        device=device or settings.device,
        threads=threads or settings.threads,
        engine=settings.engine,
        precision=settings.precision,
        compiled=settings.compile_network,
        data_dir=settings.data_dir,
    )
