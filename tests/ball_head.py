"""A head of balls on any grid: tissue with a gradient, bright balls in known places."""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
import numpy as np

Point = tuple[float, float, float]


def rotation(degrees_xyz: Sequence[float]) -> np.ndarray:
    """Rotation about the patient's x, then y, then z axis."""
    result = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees_xyz)):
        first, second = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


def make_ball_head(
    *,
    spacing_mm: Sequence[float] = (1.5, 1.0, 1.0),
    degrees: Sequence[float] = (0.0, 0.0, 0.0),
    balls: Sequence[tuple[Point, float]] = (((12.0, -8.0, 5.0), 8.0),),
    head_radius_mm: float = 42.0,
    middle: Point = (20.0, -35.0, 110.0),
    subsamples: int = 4,
    noise: float = 0.0,
    brightness: tuple[float, float] = (360, 1100),
) -> hd.Volume:
    """Draw the head; each ball is (centre relative to the middle, radius), in mm.

    Axes (slice, row, column) run to head, posterior, left before the rotation. Voxels
    at an edge hold their share of it. `brightness` is that of tissue and of balls.
    """
    directions = rotation(degrees) @ np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]).T
    shape = [int(np.ceil((2 * head_radius_mm + 12) / size)) for size in spacing_mm]
    matrix = directions * np.asarray(spacing_mm)
    origin = np.asarray(middle) - matrix @ ((np.array(shape) - 1) / 2)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, origin
    points = np.stack(
        np.meshgrid(*(np.arange(count) for count in shape), indexing="ij"), -1
    ).astype(np.float64)
    places = points @ matrix.T + origin - np.asarray(middle)
    edge = float(np.mean(spacing_mm))
    inside = np.clip(
        (head_radius_mm - np.linalg.norm(places, axis=-1)) / edge + 0.5, 0, 1
    )
    tissue, lesion = brightness
    image = inside * tissue * (1 + places @ np.array([0.0011, 0.0014, 0.0008]))
    for centre, radius in balls:
        cover = _coverage(
            points, matrix, places, np.asarray(centre), radius, subsamples
        )
        image += cover * (lesion - image)
    if noise:
        image += np.random.default_rng(0).normal(0, noise, image.shape)
    return hd.Volume(image.astype(np.float32), affine, coordinate_system="PATIENT")


def _coverage(
    points: np.ndarray,
    matrix: np.ndarray,
    places: np.ndarray,
    centre: np.ndarray,
    radius: float,
    subsamples: int,
) -> np.ndarray:
    near = np.linalg.norm(places - centre, axis=-1) < radius + np.linalg.norm(matrix)
    cover = np.zeros(near.shape)
    steps = (np.arange(subsamples) + 0.5) / subsamples - 0.5
    offsets = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3) @ matrix.T
    distance = np.linalg.norm(places[near][:, None] + offsets - centre, axis=-1)
    cover[near] = (distance <= radius).mean(axis=1)
    return cover


def centroid_mm(mask: np.ndarray, volume: hd.Volume) -> np.ndarray:
    """Middle of a mask in patient coordinates."""
    index = np.argwhere(mask).mean(axis=0)
    return volume.affine[:3, :3] @ index + volume.affine[:3, 3]
