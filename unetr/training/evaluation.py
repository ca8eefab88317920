"""How well a model finds lesions: records of cases, and what they add up to.

``CaseRecord`` is what one image gave; ``summarise`` turns many into figures with 95 %
bootstrap intervals (cases are drawn, so lesions of one head stay together). Where all
draws agree, a sensitivity has Wilson's interval of its lesions and any other figure
none. Who predicts and measures is the caller: nothing here knows a model. Diameters in
mm, volumes in ml; a lesion's size is its longest axial diameter. Pure, seeded.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

BINS_MM: tuple[tuple[float, float], ...] = (
    (0, 3),
    (3, 5),
    (5, 10),
    (10, 20),
    (20, float("inf")),
)
FROC_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
RESAMPLES = 1000
WHOLE = 1.0 - 1e-9
"""A component of exactly the least volume stays, whatever the last bit of its spacing,
as in ``find_lesions``."""


@dataclass(frozen=True)
class LesionRecord:
    """One true lesion.

    Attributes
    ----------
    found_diameter_mm, found_volume_ml : float or None
        Of what was predicted for it, measured as the truth is; None where it was
        missed.
    dice, hd95_mm : float
        0 and 374 where it was missed.
    reported_diameter_mm : float or None
        The diameter that the service would report for it.
    """

    diameter_mm: float
    volume_ml: float
    found_diameter_mm: float | None
    found_volume_ml: float | None
    dice: float
    hd95_mm: float
    reported_diameter_mm: float | None = None

    @property
    def found(self) -> bool:
        """Whether anything predicted touches it."""
        return self.found_volume_ml is not None


@dataclass(frozen=True)
class FalsePositive:
    """What was predicted where there is no lesion, measured as the truth is."""

    diameter_mm: float
    volume_ml: float


@dataclass(frozen=True)
class CaseRecord:
    """One image.

    Attributes
    ----------
    refused : bool
        The answer was implausible: nothing was found.
    froc : tuple of (int, int)
        Found lesions and false positives at each of ``FROC_THRESHOLDS``.
    """

    name: str
    lesions: tuple[LesionRecord, ...]
    false_positives: tuple[FalsePositive, ...]
    lesionwise_dice: float
    lesionwise_hd95_mm: float
    froc: tuple[tuple[int, int], ...]
    seconds: float = 0.0
    refused: bool = False

    @property
    def false_positive_diameters_mm(self) -> tuple[float, ...]:
        """The sizes alone."""
        return tuple(wrong.diameter_mm for wrong in self.false_positives)


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval; None where there is nothing to count."""

    value: float | None
    interval: tuple[float, float] | None
    count: int


class FrocPoint(TypedDict):
    """What one least peak gives; without lesions there is no sensitivity."""

    threshold: float
    sensitivity: float | None
    false_positives_a_scan: float


@dataclass(frozen=True)
class Summary:
    """What all cases add up to."""

    cases: int
    lesions: int
    figures: dict[str, Figure]
    froc: list[FrocPoint] = field(default_factory=list)
    agreement: dict[str, dict[str, float]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "cases": self.cases,
            "lesions": self.lesions,
            "figures": {
                name: {
                    "value": figure.value,
                    "interval": figure.interval,
                    "count": figure.count,
                }
                for name, figure in self.figures.items()
            },
            "froc": self.froc,
            "agreement": self.agreement,
        }


def froc_counts(
    probability: NDArray[np.float32],
    labels: NDArray[np.int32],
    *,
    counted: Collection[int],
    threshold: float,
    least_voxels: float,
) -> tuple[tuple[int, int], ...]:
    """Count found lesions and false positives at each of ``FROC_THRESHOLDS``.

    A component counts where its peak reaches the value; it ends at `threshold`, or at
    the value where that is lower.

    Parameters
    ----------
    probability, labels : ndarray, (slice, row, column)
        Labels number the true lesions.
    counted : collection of int
        Those to be found; a mark on another is neither a hit nor false.
    least_voxels : float
        Smaller predicted components are left out, as in the product.
    """
    touching = np.ones((3, 3, 3), bool)
    near = ndimage.grey_dilation(
        labels, footprint=ndimage.generate_binary_structure(3, 2)
    )
    is_near = near > 0
    nearest = near[is_near]
    points = []
    labelled_from = None
    for least_peak in FROC_THRESHOLDS:
        if labelled_from != min(least_peak, threshold):
            labelled_from = min(least_peak, threshold)
            components, count = ndimage.label(probability >= labelled_from, touching)
            sizes = np.bincount(components.ravel(), minlength=count + 1)
            large = sizes >= least_voxels * WHOLE
            large[0] = False
            touched = components[is_near]
        certain = np.zeros(count + 1, bool)
        certain[components[probability >= least_peak]] = True
        kept = large & certain
        hits = np.intersect1d(nearest[kept[touched]], list(counted))
        matched = np.unique(touched[kept[touched]])
        points.append((len(hits), int(kept.sum()) - len(matched)))
    return tuple(points)


def bin_name(bounds: tuple[float, float]) -> str:
    """Name a bin of sizes."""
    low, high = bounds
    if low == 0:
        return f"< {high:g} mm"
    return f">= {low:g} mm" if high == float("inf") else f"{low:g}-{high:g} mm"


Computation = Callable[[Sequence[CaseRecord]], tuple[float | None, int]]


@dataclass(frozen=True)
class Statistic:
    """How a figure is computed of cases, with the number of what it is of.

    `is_share`: the value is the share of that many things that have something.
    """

    compute: Computation
    is_share: bool = False


def _sensitivity(bounds: tuple[float, float]) -> Statistic:
    def compute(cases: Sequence[CaseRecord]) -> tuple[float | None, int]:
        hits = [
            lesion.found
            for case in cases
            for lesion in case.lesions
            if bounds[0] <= lesion.diameter_mm < bounds[1]
        ]
        return (float(np.mean(hits)) if hits else None), len(hits)

    return Statistic(compute, is_share=True)


def _median_dice(bounds: tuple[float, float]) -> Statistic:
    def compute(cases: Sequence[CaseRecord]) -> tuple[float | None, int]:
        scores = [
            lesion.dice
            for case in cases
            for lesion in case.lesions
            if lesion.found and bounds[0] <= lesion.diameter_mm < bounds[1]
        ]
        return (float(np.median(scores)) if scores else None), len(scores)

    return Statistic(compute)


def _mean(values: Callable[[CaseRecord], float]) -> Statistic:
    def compute(cases: Sequence[CaseRecord]) -> tuple[float | None, int]:
        numbers = [values(case) for case in cases]
        return (float(np.mean(numbers)) if numbers else None), len(numbers)

    return Statistic(compute)


def _false_positives(bounds: tuple[float, float]) -> Statistic:
    return _mean(
        lambda case: float(
            sum(bounds[0] <= mm < bounds[1] for mm in case.false_positive_diameters_mm)
        )
    )


EVERY = (0.0, float("inf"))


def _statistics() -> dict[str, Statistic]:
    named: dict[str, Statistic] = {
        "sensitivity": _sensitivity(EVERY),
        "sensitivity 10 mm and more": _sensitivity((10, float("inf"))),
    }
    for bounds in BINS_MM:
        named[f"sensitivity {bin_name(bounds)}"] = _sensitivity(bounds)
    named["false positives a scan"] = _false_positives(EVERY)
    for bounds in BINS_MM:
        named[f"false positives a scan {bin_name(bounds)}"] = _false_positives(bounds)
    named["median Dice of found lesions"] = _median_dice(EVERY)
    for bounds in BINS_MM:
        named[f"median Dice {bin_name(bounds)}"] = _median_dice(bounds)
    named["lesion-wise Dice (BraTS-METS)"] = _mean(lambda case: case.lesionwise_dice)
    named["lesion-wise HD95 (BraTS-METS), mm"] = _mean(
        lambda case: case.lesionwise_hd95_mm
    )
    return named


def summarise(cases: Sequence[CaseRecord], *, seed: int = 1) -> Summary:
    """Add up all cases, with intervals."""
    random = np.random.default_rng(seed)
    draws = [random.integers(0, len(cases), len(cases)) for _ in range(RESAMPLES)]
    return Summary(
        cases=len(cases),
        lesions=sum(len(case.lesions) for case in cases),
        figures={
            name: _figure(cases, statistic, draws)
            for name, statistic in _statistics().items()
        },
        froc=_froc(cases),
        agreement={
            "diameter_mm": _agreement(pairs(cases, "diameter_mm")),
            "volume_ml": _agreement(pairs(cases, "volume_ml")),
        },
    )


def _figure(
    cases: Sequence[CaseRecord],
    statistic: Statistic,
    draws: Sequence[NDArray[np.int64]],
) -> Figure:
    value, count = statistic.compute(cases)
    if value is None:
        return Figure(None, None, count)
    drawn = [statistic.compute([cases[place] for place in draw])[0] for draw in draws]
    low, high = np.percentile([one for one in drawn if one is not None], (2.5, 97.5))
    if low < high:
        return Figure(value, (float(low), float(high)), count)
    # All draws agree (one case, or all found): they say nothing about other cases.
    if not statistic.is_share:
        return Figure(value, None, count)
    wilson = stats.binomtest(round(value * count), count).proportion_ci(method="wilson")
    return Figure(value, (float(wilson.low), float(wilson.high)), count)


def _froc(cases: Sequence[CaseRecord]) -> list[FrocPoint]:
    total = sum(len(case.lesions) for case in cases)
    return [
        {
            "threshold": threshold,
            "sensitivity": (
                sum(case.froc[place][0] for case in cases) / total if total else None
            ),
            "false_positives_a_scan": (
                sum(case.froc[place][1] for case in cases) / len(cases)
            ),
        }
        for place, threshold in enumerate(FROC_THRESHOLDS)
    ]


def pairs(cases: Sequence[CaseRecord], what: str) -> list[tuple[float, float]]:
    """Give (true, found) for every lesion that was found."""
    return [
        (getattr(lesion, what), getattr(lesion, f"found_{what}"))
        for case in cases
        for lesion in case.lesions
        if lesion.found
    ]


def _agreement(values: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Bland and Altman: mean difference (found less true) and limits of agreement."""
    if len(values) < 2:
        return {"count": len(values)}
    differences = np.array([found - true for true, found in values])
    bias, spread = float(differences.mean()), float(differences.std(ddof=1))
    return {
        "count": len(values),
        "bias": bias,
        "lower_limit": bias - 1.96 * spread,
        "upper_limit": bias + 1.96 * spread,
        "mean_absolute": float(np.abs(differences).mean()),
    }


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def case_table(cases: Sequence[CaseRecord]) -> str:
    """Give one row a case, as CSV; `refused` is 1 for an implausible answer."""
    header = (
        "case",
        "lesions",
        "found",
        "false_positives",
        "refused",
        "lesionwise_dice",
        "lesionwise_hd95_mm",
        "seconds",
    )
    rows = (
        (
            case.name,
            len(case.lesions),
            sum(lesion.found for lesion in case.lesions),
            len(case.false_positives),
            int(case.refused),
            round(case.lesionwise_dice, 4),
            round(case.lesionwise_hd95_mm, 2),
            round(case.seconds, 2),
        )
        for case in cases
    )
    return _table(header, rows)


def lesion_table(cases: Sequence[CaseRecord]) -> str:
    """Give one row a true lesion, as CSV."""
    names = (
        "diameter_mm",
        "volume_ml",
        "found_diameter_mm",
        "found_volume_ml",
        "reported_diameter_mm",
        "dice",
        "hd95_mm",
    )
    rows = (
        (case.name, *(_rounded(getattr(lesion, name)) for name in names))
        for case in cases
        for lesion in case.lesions
    )
    return _table(("case", *names), rows)


def false_positive_table(cases: Sequence[CaseRecord]) -> str:
    """Give one row a false positive, as CSV."""
    rows = (
        (case.name, _rounded(wrong.diameter_mm), _rounded(wrong.volume_ml))
        for case in cases
        for wrong in case.false_positives
    )
    return _table(("case", "diameter_mm", "volume_ml"), rows)


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 4)
