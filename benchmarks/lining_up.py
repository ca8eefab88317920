"""How well visits are registered and lesions matched, on heads and patients we know.

``python -m benchmarks.lining_up [--times N] [--json FILE]`` registers a synthetic head
to itself after known motions (error over points all over the head, quality, seconds),
tries what has to be refused, and matches the lesions of N simulated patients at several
errors of the registration. Figures are in ``docs/follow-up.md``; tests use the same
simulated patients.
"""

from __future__ import annotations

import time

import highdicom as hd
import numpy as np

from benchmarks.machine import tell
from segmentation.followup.matching import CERTAIN_COST_MM, Body, match_visit
from segmentation.followup.registration import register
from segmentation.phantoms import Grid, LesionSpec, Pose, make_head
from segmentation.phantoms.head import random_lesions

GRID = Grid((150, 240, 240), (1.2, 0.94, 0.94), "axial", (-11.0, 2.0, 1.5))
OTHER = Grid((190, 250, 200), (1.0, 1.0, 1.0), "sagittal", (3.0, -4.0, 2.0))
THICK = Grid((36, 200, 200), (5.0, 1.2, 1.2), "axial", (-4.0, -3.0, 0.0))
LIES = Pose((2.0, -2.0, 1.0), (1.0, 2.0, -1.0))
MOVED = Pose((8.0, 2.0, 9.0), (8.0, -6.0, 10.0))
FAR = Pose((20.0, -12.0, 15.0), (17.0, -20.0, 15.0))
ERRORS_MM = (0.1, 1.5, 3.0, 6.0)

Lesions = list[tuple[np.ndarray, float]]
"""Centre (LPS mm) and radius (mm) of each."""


def _lesions(now: bool) -> tuple[LesionSpec, ...]:
    then = random_lesions(3, 7, (5.0, 22.0))
    if not now:
        return then
    factors = (0.6, 1.3, 0.7, 1.2, 0.9, 0.5)
    kept = tuple(one.scaled(f) for one, f in zip(then[:-1], factors, strict=True))
    return (*kept, LesionSpec.ball((20.0, -14.0, 42.0), 7.0))


def _errors_mm(matrix: np.ndarray, pose: Pose) -> np.ndarray:
    """Give by how much points all over the head are missed."""
    points = np.random.default_rng(0).normal(size=(500, 3))
    points *= np.array([75, 95, 75]) / np.linalg.norm(points, axis=1)[:, None]
    inside = np.c_[points, np.ones(len(points))]
    here, there = inside @ pose.affine.T, inside @ LIES.affine.T
    error: np.ndarray = np.linalg.norm((here @ matrix.T - there)[:, :3], axis=1)
    return error


def measure_registration() -> dict[str, object]:
    """Register known motions, and what must not be accepted."""
    fixed = make_head(GRID, _lesions(False), pose=LIES, seed=20).volume
    now = _lesions(True)

    def head(grid: Grid, pose: Pose, **more: float) -> hd.Volume:
        return make_head(grid, now, pose=pose, seed=20, noise_seed=2, **more).volume

    moved = head(OTHER, MOVED)
    same = {
        "6/4/8 degrees, 14 mm": (moved, MOVED),
        "18/10/14 degrees, 30 mm": (head(OTHER, FAR), FAR),
        "three times the noise, receive field 30 %": (
            head(OTHER, MOVED, noise=30, bias=0.3),
            MOVED,
        ),
        "slices of 5 mm": (head(THICK, MOVED), MOVED),
    }
    others = {
        "another person": make_head(OTHER, now, pose=MOVED, seed=77).volume,
        "mirrored": moved.with_array(np.ascontiguousarray(moved.array[::-1])),
        "upside down": hd.Volume(
            moved.array,
            np.diag([1.0, -1.0, -1.0, 1.0]) @ moved.affine,
            coordinate_system="PATIENT",
        ),
    }
    told: dict[str, object] = {}
    for name, (volume, pose) in same.items():
        began = time.perf_counter()
        found = register(fixed, volume)
        errors = _errors_mm(found.matrix, pose)
        told[name] = {
            "mean_mm": round(float(errors.mean()), 3),
            "max_mm": round(float(errors.max()), 3),
            "quality": round(found.quality, 2),
            "accepted": found.accepted,
            "seconds": round(time.perf_counter() - began, 1),
        }
    for name, volume in others.items():
        found = register(fixed, volume)
        told[name] = {"quality": round(found.quality, 2), "accepted": found.accepted}
    return told


def simulated_patient(
    random: np.random.Generator, error_mm: float
) -> tuple[list[Body], list[Body], set[tuple[int, int]]]:
    """Draw 3 to 40 lesions and what became of them.

    Of the lesions 12 % vanish, a fifth as many are new, radii change by a quarter, and
    all positions of the later visit are off by `error_mm` in one direction.

    Returns
    -------
    list of Body, list of Body, set of (int, int)
        Before, now, and which of before is which of now.
    """
    before: Lesions = []
    while len(before) < random.integers(3, 41):
        _add(before, random, np.exp(random.uniform(np.log(1.5), np.log(13))))
    now: Lesions = []
    truth: set[tuple[int, int]] = set()
    for index, (point, radius) in enumerate(before):
        if random.random() > 0.12:
            shifted = point + random.normal(0, 0.15 * np.sqrt(radius), 3)
            truth.add((index, len(now)))
            now.append((shifted, max(1.0, radius * np.exp(random.normal(0, 0.25)))))
    for _ in range(round(0.2 * len(before))):
        _add(now, random, np.exp(random.uniform(np.log(1.5), np.log(6))))
    shift = random.normal(size=3)
    shift *= error_mm / np.linalg.norm(shift)
    return _bodies(before, np.zeros(3)), _bodies(now, shift), truth


def _add(lesions: Lesions, random: np.random.Generator, radius: float) -> None:
    """Add a lesion inside the brain, unless it would touch another."""
    while True:
        point = random.uniform((-62, -80, -60), (62, 80, 60))
        if (point / (66, 84, 64)) @ (point / (66, 84, 64)) < 0.9:
            break
    if all(np.linalg.norm(point - p) > radius + r + 2 for p, r in lesions):
        lesions.append((point, float(radius)))


def _bodies(lesions: Lesions, shift: np.ndarray) -> list[Body]:
    return [
        Body(
            (float(x), float(y), float(z)),
            4 / 3 * np.pi * radius**3,
        )
        for (x, y, z), radius in ((point + shift, radius) for point, radius in lesions)
    ]


def measure_matching(patients: int, error_mm: float) -> dict[str, float]:
    """Match simulated patients: F1 of links, and what was wrong or waits."""
    random = np.random.default_rng(11)
    right = wrong = missed = silent = waiting = 0
    for _ in range(patients):
        before, now, truth = simulated_patient(random, error_mm)
        match = match_visit(before, now)
        found = {(pair.track, pair.finding) for pair in match.pairs}
        right += len(found & truth)
        wrong += len(found - truth)
        missed += len(truth - found)
        for pair in match.pairs:
            waits = pair.cost_mm > CERTAIN_COST_MM or pair.rival
            waiting += waits
            silent += not waits and (pair.track, pair.finding) not in truth
    return {
        "f1": round(2 * right / (2 * right + wrong + missed), 4),
        "wrong_and_not_waiting": silent / (right + wrong),
        "waiting": round(waiting / (right + wrong), 4),
    }


def _measure(patients: int) -> dict[str, object]:
    return {
        "registration": measure_registration(),
        "matching": {
            f"{error} mm": measure_matching(patients, error) for error in ERRORS_MM
        },
    }


if __name__ == "__main__":
    tell("registration of visits and matching of lesions", _measure, 200)
