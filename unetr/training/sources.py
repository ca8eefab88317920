"""Heads to cut patches from: synthetic ones, cases, or both in turn.

Not safe to share between threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import torch

from errors import MetiaError
from unetr.configuration import IntensityNormalisation, PreprocessingProfile
from unetr.training.configuration import TrainingConfiguration
from unetr.training.fields import Draw
from unetr.training.heads import HeadStore, Part
from unetr.training.parameters import PatchParameters
from unetr.training.patches import Patch, cut_patches
from unetr.training.synthetic import CLIP, HeadGenerator, SyntheticHead

if TYPE_CHECKING:
    from unetr.training.cases import CaseFiles

VALIDATION_STREAM = 1 << 40
"""Seeds from here on are for validation; training never reaches them."""
CASES_KEPT = 64
ORIGIN = "cases"
"""Name, in the metadata of stored patches, for what decided which cases they are of."""

PROFILE = PreprocessingProfile(
    profile="head-mr",
    spacing_mm=(1.0, 1.0, 1.0),
    intensity=IntensityNormalisation(rule="brain-median", clip=CLIP),
)
"""How inference has to prepare an image to look like the generator's."""


def refuse_other_origins(files: Sequence[str], origin: str) -> None:
    """Refuse stored patches of cases that were divided otherwise than now.

    Files that say nothing of cases, being of synthetic heads alone, are accepted.

    Raises
    ------
    MetiaError
        ``configuration-invalid``.
    """
    for path in map(Path, files):
        try:
            with safetensors.safe_open(path, "pt") as file:
                stored = (file.metadata() or {}).get(ORIGIN)
        except (OSError, safetensors.SafetensorError) as error:
            raise MetiaError(
                "configuration-invalid",
                f"{path.name} holds no patches: make them with `synthetic patches`.",
            ) from error
        if stored not in (None, origin):
            raise MetiaError(
                "configuration-invalid",
                f"{path.name} holds patches of cases of another split or fold, which "
                "may be those to validate with: make it anew with this configuration.",
            )


class HeadSource:
    """Heads for one part: synthetic ones, cases, or both in turn.

    Cases to train on are drawn; those to validate with come in order.

    Parameters
    ----------
    part : str
        ``train`` or ``validation``.

    Attributes
    ----------
    origin : str or None
        What decides which cases these are; None without cases.

    Raises
    ------
    MetiaError
        ``configuration-invalid`` where cases are given and a part has none of them, or,
        for validation, where stored patches may hold what would be validated with.
    """

    def __init__(
        self, configuration: TrainingConfiguration, part: Part, device: torch.device
    ) -> None:
        data = configuration.data
        self._window = configuration.network.img_size
        self._share = data.cases_share
        self._generator: HeadGenerator | None = None
        self._cases: list[CaseFiles] = []
        self._in_order: Iterator[CaseFiles] | None = None
        self.origin: str | None = None
        self._loaded: dict[str, SyntheticHead] = {}
        self._device = device
        if data.heads is not None:
            store = HeadStore(Path(data.heads), (part,), names=data.head_names)
            self._generator = HeadGenerator(
                store, configuration.synthetic, seed=configuration.seed, device=device
            )
        if data.cases is not None:
            # Needs libraries that a machine for synthetic training may lack.
            from unetr.training.cases import (
                cases_for,
                find_cases,
                keep_split,
                origin_of,
                plan_split,
            )

            folder = Path(data.cases)
            cases, _ = find_cases(folder)
            split = plan_split(folder, cases)
            folding = {"folds": data.folds, "fold": data.fold}
            self._cases = cases_for(cases, split, part, **folding)
            keep_split(folder, split)
            self.origin = origin_of(split, **folding)
            if part == "validation":
                # Of few that are drawn once, some would never come.
                self._in_order = itertools.cycle(self._cases)
                refuse_other_origins(data.patches, self.origin)

    def make(self, draw: Draw, index: int) -> SyntheticHead:
        """Make head number `index`."""
        if self._generator is None or (self._cases and draw.chance(self._share)):
            return self._case(self._choose(draw))
        return self._generator.make(index)

    def _choose(self, draw: Draw) -> CaseFiles:
        if self._in_order is not None:
            return next(self._in_order)
        return self._cases[draw.whole(0, len(self._cases) - 1)]

    def training_patches(self, draw: Draw, parameters: PatchParameters) -> list[Patch]:
        """Cut the patches of one head, of a number that validation never reaches."""
        head = self.make(draw, int(draw.numbers.integers(VALIDATION_STREAM)))
        return cut_patches(draw, head, self._window, parameters)

    def _case(self, case: CaseFiles) -> SyntheticHead:
        if case.name not in self._loaded:
            from unetr.training.cases import load_case

            if len(self._loaded) >= CASES_KEPT:
                self._loaded.pop(next(iter(self._loaded)))
            made = load_case(case, PROFILE, self._window)
            self._loaded[case.name] = replace(
                made,
                image=made.image.to(self._device),
                target=made.target.to(self._device),
                inside=made.inside.to(self._device),
            )
        return self._loaded[case.name]
