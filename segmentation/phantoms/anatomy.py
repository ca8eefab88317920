"""A head drawn from formulas: scalp, skull, folded cortex, ventricles, vessels.

Everything is a soft-edged shape in the head's coordinates (mm, x left, y posterior,
z superior, origin in the middle of the brain), painted back to front on a block of
voxels, so that any grid shows the same head. ``Canvas`` is one such block;
``draw_head`` paints it. Deterministic by the seed of ``Folds``. Not safe to share a
canvas between threads; ``Folds`` may be shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segmentation.phantoms.geometry import FloatArray, Vector, coordinates, index_box

Array = NDArray[np.float32]
Box = tuple[slice, slice, slice]
WHOLE: Box = (slice(None), slice(None), slice(None))

# Signal of each tissue. Post-gadolinium: vessels and dura take up contrast, fat is
# suppressed. All of the brain lies far below half of an enhancing lesion.
CONTRASTS: dict[str, dict[str, float]] = {
    "T1-post": {
        "air": 0, "scalp": 330, "muscle": 260, "bone": 90, "marrow": 170, "csf": 120,
        "dura": 430, "grey": 385, "deep": 400, "white": 430, "vessel": 680,
        "choroid": 560, "eye": 115, "lens": 300, "oedema": 330,
        "lesion": 1180, "core": 250,
    },
    "T1-pre": {
        "air": 0, "scalp": 330, "muscle": 240, "bone": 90, "marrow": 170, "csf": 120,
        "dura": 250, "grey": 325, "deep": 360, "white": 430, "vessel": 230,
        "choroid": 280, "eye": 115, "lens": 280, "oedema": 320,
        "lesion": 320, "core": 230,
    },
    "T2": {
        "air": 0, "scalp": 380, "muscle": 200, "bone": 60, "marrow": 170, "csf": 1000,
        "dura": 180, "grey": 430, "deep": 380, "white": 310, "vessel": 70,
        "choroid": 700, "eye": 1000, "lens": 150, "oedema": 720,
        "lesion": 520, "core": 900,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Folds:
    """Smooth random fields in the head's coordinates, on a lattice.

    Attributes
    ----------
    sulci : ndarray, float32
        Signed distance in mm (roughly) to the nearest fold's middle sheet.
    texture : ndarray, float32
        Zero mean, standard deviation 1.
    """

    sulci: Array
    texture: Array
    lattice_mm: float = 2.0
    reach_mm: float = 100.0

    @classmethod
    def from_seed(cls, seed: int) -> Folds:
        """Draw the fields of one head."""
        random = np.random.default_rng([seed, 1])
        count = int(2 * cls.reach_mm / cls.lattice_mm) + 1
        noise = random.standard_normal((count,) * 3, dtype=np.float32)
        fine = ndimage.gaussian_filter(noise, 4.0 / cls.lattice_mm, truncate=3)
        coarse = ndimage.gaussian_filter(fine, 3.0, truncate=2)
        field = fine / fine.std() - 0.8 * coarse / coarse.std()
        slope = np.sqrt(sum(np.mean(np.diff(field, axis=a) ** 2) for a in range(3)))
        texture = ndimage.gaussian_filter(noise[::-1], 1.2, truncate=2)
        return cls(
            (field / slope * cls.lattice_mm).astype(np.float32),
            (texture / texture.std()).astype(np.float32),
        )

    def at(self, field: Array, x: Array, y: Array, z: Array) -> Array:
        """Interpolate `field` at points in head mm."""
        scale = np.float32(1 / self.lattice_mm)
        shift = np.float32(self.reach_mm)
        points = np.stack([(axis + shift) * scale for axis in (x, y, z)])
        values: Array = ndimage.map_coordinates(field, points, order=1, mode="reflect")
        return values


class Canvas:
    """A block of voxels to paint on.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        (slice, row, column) index of the block to head mm.
    edge_mm : float
        Width of the soft edge of every shape (about one voxel).
    """

    def __init__(
        self, affine: FloatArray, shape: tuple[int, int, int], edge_mm: float
    ) -> None:
        self.shape = shape
        self.edge_mm = float(edge_mm)
        self.to_index = np.linalg.inv(affine)
        first, second, third = (slice(0, count) for count in shape)
        self.x, self.y, self.z = coordinates(affine, (first, second, third))
        self.image = np.zeros(shape, np.float32)

    def soft(self, distance: Array) -> Array:
        """Turn a signed distance in mm (positive inside) into coverage 0 to 1."""
        coverage: Array = np.clip(distance / self.edge_mm + np.float32(0.5), 0, 1)
        return coverage

    def paint(self, coverage: Array, value: float | Array, box: Box = WHOLE) -> None:
        """Blend `value` over the image."""
        part = self.image[box]
        part += coverage * (value - part)

    def box(self, centre: Vector | FloatArray, reach_mm: float) -> Box | None:
        """Give the part of the block that a ball in head mm can touch."""
        return index_box(self.to_index, centre, reach_mm + self.edge_mm, self.shape)

    def ellipsoid(self, centre: Vector, radii: Vector, value: float) -> None:
        """Paint an ellipsoid along the head's axes."""
        box = self.box(centre, max(radii))
        if box is not None:
            x, y, z = self.x[box], self.y[box], self.z[box]
            distance = ellipsoid_distance(x, y, z, centre, radii)
            self.paint(self.soft(distance), value, box)

    def tube(self, start: Vector, end: Vector, radius: float, value: float) -> None:
        """Paint a rod with round ends."""
        a, b = np.asarray(start, float), np.asarray(end, float)
        reach = float(np.linalg.norm(b - a)) / 2 + radius
        box = self.box((a + b) / 2, reach)
        if box is None:
            return
        distance = radius - _segment_distance(
            self.x[box], self.y[box], self.z[box], a, b
        )
        # A tube thinner than the soft edge must not grow: it fades instead.
        cover = self.soft(distance) * np.float32(min(1.0, 2 * radius / self.edge_mm))
        self.paint(cover, value, box)


def ellipsoid_distance(
    x: Array, y: Array, z: Array, centre: Vector, radii: Vector
) -> Array:
    """Give the approximate signed distance in mm to an ellipsoid, positive inside."""
    parts = [
        (axis - np.float32(c)) * np.float32(1 / r)
        for axis, c, r in zip((x, y, z), centre, radii, strict=True)
    ]
    first: Array = np.sqrt(sum(part * part for part in parts))
    second: Array = np.sqrt(
        sum((p * np.float32(1 / r)) ** 2 for p, r in zip(parts, radii, strict=True))
    )
    small = np.float32(1e-3)
    ratio = (first + small * min(radii)) / (second + small)
    distance: Array = (1 - first) * ratio
    return distance


def _segment_distance(
    x: Array, y: Array, z: Array, a: FloatArray, b: FloatArray
) -> Array:
    along = (b - a).astype(np.float32)
    px, py, pz = x - np.float32(a[0]), y - np.float32(a[1]), z - np.float32(a[2])
    length2 = max(float(along @ along), 1e-6)
    t = np.clip((px * along[0] + py * along[1] + pz * along[2]) / length2, 0, 1)
    px, py, pz = px - t * along[0], py - t * along[1], pz - t * along[2]
    distance: Array = np.sqrt(px * px + py * py + pz * pz)
    return distance


def cerebrum_distance(x: Array, y: Array, z: Array) -> Array:
    """Give the signed distance in mm to the smooth hull of the cerebrum."""
    # Flat below, domed above, as if two half ellipsoids were joined at z = 0.
    stretched = np.where(z < 0, z * np.float32(64 / 40), z)
    return ellipsoid_distance(x, y, stretched, (0, 0, 0), (66, 84, 64))


def cerebellum_distance(x: Array, y: Array, z: Array) -> Array:
    """Give the signed distance in mm to the hull of the cerebellum."""
    return ellipsoid_distance(x, y, z, (0, 42, -46), (50, 30, 25))


def _smooth_union(a: Array, b: Array, width: float) -> Array:
    mix = np.clip(1 - np.abs(a - b) / np.float32(width), 0, None)
    union: Array = np.maximum(a, b) + mix * mix * np.float32(width / 4)
    return union


def draw_head(canvas: Canvas, folds: Folds, contrast: str) -> None:
    """Paint a whole head without lesions."""
    tissue = CONTRASTS[contrast]
    x, y, z = canvas.x, canvas.y, canvas.z
    cerebrum = cerebrum_distance(x, y, z)
    cerebellum = cerebellum_distance(x, y, z)
    skull = _smooth_union(cerebrum, cerebellum, 18)
    _draw_shell(canvas, folds, tissue, skull)
    _draw_face(canvas, tissue)
    _draw_stem(canvas, tissue)
    _draw_cerebellum(canvas, folds, tissue, cerebellum)
    _draw_cerebrum(canvas, folds, tissue, cerebrum)
    _draw_deep(canvas, tissue)
    _draw_sinuses(canvas, tissue, skull)
    _draw_vessels(canvas, tissue)


def _draw_shell(
    canvas: Canvas, folds: Folds, tissue: Mapping[str, float], skull: Array
) -> None:
    neck = _neck_distance(canvas)
    face = ellipsoid_distance(canvas.x, canvas.y, canvas.z, (0, -46, -64), (62, 50, 66))
    outside = _smooth_union(_smooth_union(skull + 16, face, 20), neck, 24)
    inside = outside > -canvas.edge_mm
    flesh = np.zeros(canvas.shape, np.float32)
    grain = folds.at(
        folds.texture, canvas.x[inside], canvas.y[inside], canvas.z[inside]
    )
    depth = np.clip((outside[inside] - 4) / 3, 0, 1)
    base = tissue["scalp"] + depth * (tissue["muscle"] - tissue["scalp"])
    flesh[inside] = base * (1 + 0.13 * np.clip(grain, -2, 2))
    canvas.paint(canvas.soft(outside), flesh)
    canvas.paint(canvas.soft(skull + 9), tissue["bone"])
    diploe = canvas.soft(skull + 7.2) * canvas.soft(-4.2 - skull)
    canvas.paint(diploe * (canvas.z > -30), tissue["marrow"])
    canvas.paint(canvas.soft(skull + 2.6), tissue["dura"])
    canvas.paint(canvas.soft(skull + 1.8), tissue["csf"])


def _neck_distance(canvas: Canvas) -> Array:
    radius = np.sqrt((canvas.x / 1.1) ** 2 + (canvas.y - 26) ** 2)
    column: Array = np.minimum(56 - radius, -40 - canvas.z)
    return column


def _draw_face(canvas: Canvas, tissue: Mapping[str, float]) -> None:
    for side in (-1.0, 1.0):
        canvas.ellipsoid((side * 24, -66, -64), (13, 17, 15), tissue["air"])
        canvas.ellipsoid((side * 8, -72, -62), (3, 20, 20), tissue["air"])
        canvas.ellipsoid((side * 32, -62, -38), (17, 24, 16), tissue["muscle"] * 0.7)
        canvas.ellipsoid((side * 32, -72, -38), (12.6, 12.6, 12.6), tissue["muscle"])
        canvas.ellipsoid((side * 32, -72, -38), (11.4, 11.4, 11.4), tissue["eye"])
        canvas.ellipsoid((side * 32, -81.5, -38), (4.5, 2, 4.5), tissue["lens"])
        start, end = (side * 32, -60.0, -38.0), (side * 10, -34.0, -32.0)
        canvas.tube(start, end, 2.0, tissue["grey"])
        for turn in (-1.0, 1.0):
            muscle = (side * 32 + turn * 13, -58.0, -38.0)
            canvas.tube(muscle, (side * 14, -36.0, -34.0), 1.8, tissue["muscle"] * 1.4)
    canvas.ellipsoid((0, -50, -44), (11, 12, 8), tissue["air"])
    canvas.ellipsoid((0, -84, -18), (16, 5, 8), tissue["air"])
    canvas.ellipsoid((0, -30, -92), (12, 10, 26), tissue["air"])


def _draw_stem(canvas: Canvas, tissue: Mapping[str, float]) -> None:
    canvas.tube((0, 12, -40), (0, 26, -140), 19, tissue["bone"])
    canvas.tube((0, 10, -30), (0, 26, -140), 12, tissue["csf"])
    canvas.tube((0, 14, -66), (0, 26, -140), 6.5, tissue["white"])


def _draw_cerebellum(
    canvas: Canvas, folds: Folds, tissue: Mapping[str, float], hull: Array
) -> None:
    where = hull > -canvas.edge_mm
    x, y, z = canvas.x[where], canvas.y[where], canvas.z[where]
    centre = np.sqrt((x * 0.55) ** 2 + (y - 18) ** 2 + (z + 44) ** 2)
    wave = np.sin(2 * np.pi * centre / 5.2 + folds.at(folds.sulci, x, y, z) * 0.5)
    depth = hull[where]
    value = tissue["grey"] + np.clip((depth - 9) / 5, 0, 1) * (
        tissue["white"] - tissue["grey"]
    )
    fissure = np.clip(wave - 0.45, 0, 1) * np.clip((14 - depth) / 10, 0, 1)
    value = value + fissure * 0.9 * (tissue["csf"] - value)
    painted = np.zeros(canvas.shape, np.float32)
    painted[where] = value
    canvas.paint(canvas.soft(hull), painted)


def _draw_cerebrum(
    canvas: Canvas, folds: Folds, tissue: Mapping[str, float], hull: Array
) -> None:
    where = hull > -canvas.edge_mm
    x, y, z = canvas.x[where], canvas.y[where], canvas.z[where]
    depth = hull[where]
    fold = np.abs(folds.at(folds.sulci, x, y, z))
    # Sulci are open near the hull, close with depth and end about 22 mm below it.
    opening = np.clip(1.2 - depth * 0.05, 0.15, 1.2)
    sulcus = fold - opening + np.clip(depth - 20, 0, None) * 0.8
    callosum = ellipsoid_distance(x, y, z, (0, 0, 2), (30, 42, 26))
    sway = 0.9 + 0.8 * np.clip(folds.at(folds.texture, x, y * 0.5, z * 0.5), -1, 1)
    midline = np.abs(x) - 0.8 - sway + np.clip(callosum, 0, None) * 2
    pial = np.minimum(np.minimum(sulcus, midline), depth + 0.3)
    white = canvas.soft(pial - 2.7)
    value = tissue["grey"] + white * (tissue["white"] - tissue["grey"])
    value = tissue["csf"] + canvas.soft(pial) * (value - tissue["csf"])
    painted = np.zeros(canvas.shape, np.float32)
    painted[where] = value
    # The brain stem and the cerebellum stay where the cerebrum does not reach.
    canvas.paint(canvas.soft(hull), painted)
    falx = np.where((callosum < -2) & (z > -18), 0.55 - np.abs(x), -9).astype(
        np.float32
    )
    sheet = np.zeros(canvas.shape, np.float32)
    sheet[where] = canvas.soft(falx) * min(1.0, 1.1 / canvas.edge_mm)
    canvas.paint(sheet, tissue["dura"])


def _draw_deep(canvas: Canvas, tissue: Mapping[str, float]) -> None:
    for side in (-1.0, 1.0):
        canvas.ellipsoid((side * 25, -4, 1), (6, 19, 10), tissue["deep"])
        canvas.ellipsoid((side * 14, -18, 10), (6, 13, 10), tissue["deep"])
        canvas.ellipsoid((side * 10, 8, 2), (8.5, 14, 9), tissue["deep"])
        canvas.ellipsoid((side * 24, 0, -22), (7, 16, 6), tissue["grey"])
    canvas.ellipsoid((0, 4, -20), (17, 13, 12), tissue["white"])
    canvas.ellipsoid((0, 8, -40), (15, 13, 17), tissue["white"] * 0.95)
    canvas.ellipsoid((0, 17, -60), (8, 8, 14), tissue["white"] * 0.95)
    canvas.ellipsoid((0, -6, -24), (9, 7, 5), tissue["csf"])
    for side in (-1.0, 1.0):
        canvas.ellipsoid((side * 9, -20, 13), (5, 15, 7), tissue["csf"])
        canvas.ellipsoid((side * 11, 8, 18), (5, 24, 6), tissue["csf"])
        canvas.ellipsoid((side * 20, 34, 7), (5, 15, 7), tissue["csf"])
        canvas.ellipsoid((side * 31, 8, -19), (2.2, 15, 2.5), tissue["csf"])
        canvas.tube((side * 16, 22, 14), (side * 21, 33, 6), 1.6, tissue["choroid"])
    canvas.ellipsoid((0, 0, 0), (1.8, 12, 8), tissue["csf"])
    canvas.ellipsoid((0, 24, -44), (6, 4, 9), tissue["csf"])
    canvas.ellipsoid((0, 24, -2), (9, 5, 4), tissue["csf"])


def _draw_sinuses(canvas: Canvas, tissue: Mapping[str, float], skull: Array) -> None:
    x, y, z = canvas.x, canvas.y, canvas.z
    under_bone = canvas.soft(skull + 2.2)
    # Sagittal sinus: triangular, wide at the bone, growing from front to back.
    width = np.clip(2.6 + y * 0.02, 1.4, 4.4) - np.clip(skull + 1.5, 0, None) * 0.6
    sagittal = np.minimum(width - np.abs(x), 5.0 - skull)
    sagittal = np.where(z > np.where(y > 0, -18, 8), sagittal, -9)
    canvas.paint(canvas.soft(sagittal) * under_bone, tissue["vessel"])
    level = -19 - np.clip(np.abs(x) - 30, 0, None) * 0.25
    ring = np.sqrt((z - level) ** 2 + (np.clip(skull - 1.2, 0, None) * 1.3) ** 2)
    transverse = np.where((y > 8) & (skull < 8), 3.4 - ring, -9)
    canvas.paint(canvas.soft(transverse) * under_bone, tissue["vessel"])
    for side in (-1.0, 1.0):
        canvas.tube((side * 50, 16, -28), (side * 42, 18, -46), 3, tissue["vessel"])
        canvas.tube((side * 42, 18, -46), (side * 32, 8, -66), 3, tissue["vessel"])
        canvas.tube((side * 32, 8, -66), (side * 36, 4, -140), 4, tissue["vessel"])
    canvas.tube((0, 30, 4), (0, 76, -17), 2.0, tissue["vessel"])


def _draw_vessels(canvas: Canvas, tissue: Mapping[str, float]) -> None:
    value = tissue["vessel"]
    canvas.tube((0, -3, -58), (0, -8, -28), 1.6, value)
    canvas.tube((0, 22, -3), (0, 30, 4), 1.4, value)
    for side in (-1.0, 1.0):
        carotid = [(30, -4, -140), (26, -6, -66), (15, -8, -46), (12, -16, -28)]
        middle = [(12, -16, -28), (26, -14, -24), (42, -10, -18), (48, 8, -4)]
        anterior = [(12, -16, -28), (3, -26, -20), (2.5, -44, 2), (2.5, -34, 30)]
        posterior = [(0, -8, -28), (14, 6, -26), (18, 26, -16), (10, 52, -6)]
        internal = [(4, -14, 8), (2.5, 6, 10), (1.5, 22, -2)]
        for path, radius in (
            (carotid, 2.3), (middle, 1.5), (anterior, 1.1),
            (posterior, 1.1), (internal, 0.8),
        ):  # fmt: skip
            for (ax, ay, az), (bx, by, bz) in pairwise(path):
                canvas.tube((side * ax, ay, az), (side * bx, by, bz), radius, value)
        # Veins that run over the convexity into the sagittal sinus.
        for angle, lean in ((-50, -0.2), (-20, 0.1), (12, 0.15), (40, -0.1)):
            _draw_convexity_vein(canvas, side, angle, lean, value)


def _draw_convexity_vein(
    canvas: Canvas, side: float, angle_deg: float, lean: float, value: float
) -> None:
    points: list[Vector] = []
    for step in np.linspace(0.06, 0.95, 9):
        polar, bend = step * np.pi / 2, np.deg2rad(angle_deg) + lean * step
        # A direction from the brain's middle, brought to just under its hull.
        direction = np.array(
            [
                side * np.sin(polar),
                np.cos(polar) * np.sin(bend),
                np.cos(polar) * np.cos(bend),
            ]
        )
        direction *= 0.995 / np.linalg.norm(direction / (66, 84, 64))
        points.append((float(direction[0]), float(direction[1]), float(direction[2])))
    for a, b in pairwise(points):
        canvas.tube(a, b, 1.1, value)
