"""The data set behind `cian demo`: drawn animals with tags and exact masks, made from a seed.

Five kinds of animals that only their heads tell apart. Bodies, poses and coats are shared between the kinds, backgrounds
go with the kinds but not reliably. So a classifier learns to look at heads, class activation maps cover little else, and
there is something for the affinity between images to complete.

Everything is drawn with signed distances (Quílez, *2D distance functions*): a shape is a union of ellipses and tapered
capsules, a pixel's coverage is its distance to the outline clipped to ± half a pixel, which gives smooth edges without
supersampling, and the mask is where coverage exceeds one half.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cian.data.table import BACKGROUND
from cian.demo import Record, is_complete, write_data_set

CLASSES = ("bear", "cow", "deer", "fox", "rabbit")  # class id = position + 1
MIN_PIXELS = 250  # a picture shows at least this much of each kind that it is tagged with


def generate(folder: Path, *, train: int = 200, val: int = 60, seed: int = 0) -> None:
    """Writes the data set into `folder`; a complete one that was made with the same parameters is kept as it is.

    `folder` then holds `images/NNN.jpg`, `masks/NNN.png` (0 = background, then the kinds in alphabetical order),
    `tags.csv` with the columns image, tags, split, and `classes.txt`. Picture `i` depends on `(seed, i)` only; the first
    `train` ones are the training split.

    Raises:
        CianError: `folder` cannot be written, or holds other files.
    """
    folder = Path(folder)
    parameters = {"name": "animals", "version": 1, "train": train, "val": val, "seed": seed}
    if is_complete(folder, parameters):
        return
    records = (_record(seed, index, "train" if index < train else "val") for index in range(train + val))
    write_data_set(folder, parameters, (BACKGROUND, *CLASSES), records)


def _record(seed: int, index: int, split: str) -> Record:
    image, mask = draw(seed, index)
    tags = [CLASSES[i - 1] for i in np.unique(mask) if i]
    return Record(f"{index:03d}", image, mask, tags, split)


def draw(seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture `index`: the image, (H, W, 3) uint8, and its mask of class ids, (H, W) uint8."""
    rng = np.random.default_rng([seed, index])
    while True:
        canvas, kinds = _picture(rng, index % len(CLASSES))
        counts = np.bincount(canvas.ids.ravel(), minlength=len(CLASSES) + 1)
        share = 1 - counts[0] / canvas.ids.size
        if all(counts[kind] >= MIN_PIXELS for kind in kinds) and 0.12 <= share <= 0.4:
            return canvas.finish(rng), canvas.ids


# ------------------------------------------------------------------------------------------------------------ drawing

Rgb = tuple[float, float, float] | np.ndarray
WHITE = (0.97, 0.95, 0.92)
INK = (0.13, 0.10, 0.10)
PINK = (0.93, 0.66, 0.64)
LIGHT = np.array([-0.45, -0.70, 0.55], np.float32)  # towards the sun: up, and a little from the left


@dataclass(frozen=True)
class Capsule:
    """A rounded segment from (ax, ay) with radius ar to (bx, by) with radius br; in pixels."""

    ax: float
    ay: float
    ar: float
    bx: float
    by: float
    br: float

    def bounds(self) -> tuple[float, float, float, float]:
        return (
            min(self.ax - self.ar, self.bx - self.br),
            min(self.ay - self.ar, self.by - self.br),
            max(self.ax + self.ar, self.bx + self.br),
            max(self.ay + self.ar, self.by + self.br),
        )

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        dx, dy = self.bx - self.ax, self.by - self.ay
        px, py = x - self.ax, y - self.ay
        along = np.clip((px * dx + py * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
        return np.hypot(px - along * dx, py - along * dy) - (self.ar + along * (self.br - self.ar))


@dataclass(frozen=True)
class Ellipse:
    """An ellipse around (x, y) with half axes a and b, turned by `angle`; in pixels. The distance is approximate."""

    x: float
    y: float
    a: float
    b: float
    angle: float = 0.0

    def bounds(self) -> tuple[float, float, float, float]:
        reach = max(self.a, self.b)
        return self.x - reach, self.y - reach, self.x + reach, self.y + reach

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        px, py = x - self.x, y - self.y
        u, v = (px * cos + py * sin) / self.a, (py * cos - px * sin) / self.b
        norm = np.hypot(u, v)
        return norm * (norm - 1) / np.maximum(np.hypot(u / self.a, v / self.b), 1e-6)


Shape = Capsule | Ellipse


@dataclass(frozen=True)
class Frame:
    """Local coordinates: origin at (x, y), one unit is `scale` pixels, turned by `angle`, x to the left if `mirror`."""

    x: float
    y: float
    scale: float
    angle: float = 0.0
    mirror: bool = False

    def point(self, u: float, v: float) -> tuple[float, float]:
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        dx, dy = u * cos - v * sin, u * sin + v * cos
        return self.x + self.scale * (-dx if self.mirror else dx), self.y + self.scale * dy

    def child(self, u: float, v: float, scale: float, angle: float = 0.0) -> Frame:
        return Frame(*self.point(u, v), self.scale * scale, self.angle + angle, self.mirror)

    def capsule(self, au: float, av: float, ar: float, bu: float, bv: float, br: float) -> Capsule:
        return Capsule(*self.point(au, av), ar * self.scale, *self.point(bu, bv), br * self.scale)

    def chain(self, *points: tuple[float, float, float]) -> list[Shape]:
        """Capsules through points (u, v, radius)."""
        return [self.capsule(*a, *b) for a, b in zip(points, points[1:], strict=False)]

    def ellipse(self, u: float, v: float, a: float, b: float, angle: float = 0.0) -> Ellipse:
        turn = self.angle + angle
        return Ellipse(*self.point(u, v), a * self.scale, b * self.scale, -turn if self.mirror else turn)


def distance(shapes: Sequence[Shape], x: np.ndarray, y: np.ndarray, blend: float = 0.0) -> np.ndarray:
    """Signed distance in pixels to a union of shapes, negative inside; `blend` pixels round off their joints."""
    result = shapes[0].distance(x, y)
    for shape in shapes[1:]:
        other = shape.distance(x, y)
        if blend > 0:
            near = np.maximum(blend - np.abs(result - other), 0)
            result = np.minimum(result, other) - near * near / (4 * blend)
        else:
            result = np.minimum(result, other)
    return result


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float], octaves: int = 1) -> np.ndarray:
    """Smooth noise, (H, W) float32, mostly within ± 1; `cell` is the height and width of its grains in pixels."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        rows = max(2, math.ceil(shape[0] / cell[0] * 2**octave) + 1)
        cols = max(2, math.ceil(shape[1] / cell[1] * 2**octave) + 1)
        grid = Image.fromarray(rng.standard_normal((rows, cols), np.float32))
        total += np.asarray(grid.resize(shape[::-1], Image.Resampling.BICUBIC)) * 0.5**octave
    return total / 1.6


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(a: Rgb, b: Rgb, t: np.ndarray | float) -> np.ndarray:
    """From colour a (t = 0) to b (t = 1); t (H, W) gives (H, W, 3)."""
    first, second = np.asarray(a, np.float32), np.asarray(b, np.float32)
    weight = np.asarray(t, np.float32)[..., None]
    return first + (second - first) * weight


class Canvas:
    """An image with the class id of every pixel.

    Attributes:
        rgb: (H, W, 3) float32 in 0 … 1.
        ids: (H, W) uint8.
    """

    def __init__(self, height: int, width: int):
        self.rgb = np.zeros((height, width, 3), np.float32)
        self.ids = np.zeros((height, width), np.uint8)
        self.x = np.arange(width, dtype=np.float32)[None, :]
        self.y = np.arange(height, dtype=np.float32)[:, None]

    @property
    def shape(self) -> tuple[int, int]:
        return self.ids.shape[0], self.ids.shape[1]

    def window(self, shapes: Sequence[Shape], margin: float = 2.0) -> tuple[slice, slice]:
        """The part of the canvas that holds the shapes; may be empty."""
        boxes = np.array([shape.bounds() for shape in shapes])
        (left, top), (right, bottom) = boxes[:, :2].min(0) - margin, boxes[:, 2:].max(0) + margin
        height, width = self.shape
        rows = slice(max(0, math.floor(top)), max(0, min(height, math.ceil(bottom) + 1)))
        cols = slice(max(0, math.floor(left)), max(0, min(width, math.ceil(right) + 1)))
        return rows, cols

    def paint(
        self,
        shapes: Sequence[Shape],
        colour: Rgb,
        class_id: int | None = None,
        *,
        blend: float = 0.0,
        volume: float = 0.0,
        outline: float = 0.0,
        rough: np.ndarray | None = None,
        opacity: float = 1.0,
        soft: float = 1.0,
    ) -> None:
        """Paints a union of shapes.

        Args:
            shapes: what to paint.
            colour: one colour, or (H, W, 3) for the whole canvas.
            class_id: the class of the covered pixels; None leaves their class as it is (a mark on something).
            blend: pixels by which joints are rounded off.
            volume: pixels from the outline to where the surface is flat; 0 = no shading.
            outline: width in pixels of a darker line inside the outline.
            rough: (H, W) displacement of the outline in pixels.
            opacity: 1 covers fully.
            soft: pixels over which the edge fades.
        """
        rows, cols = self.window(shapes)
        if rows.start >= rows.stop or cols.start >= cols.stop:
            return
        d = distance(shapes, self.x[:, cols], self.y[rows], blend)
        if rough is not None:
            d = d + rough[rows, cols]
        coverage = np.clip(0.5 - d / soft, 0, 1)
        colour = np.asarray(colour, np.float32)
        if colour.ndim == 3:
            colour = colour[rows, cols]
        if volume > 0 and min(d.shape) > 1:
            height = volume * np.sqrt(1 - (1 - np.clip(-d / volume, 0, 1)) ** 2 + 0.02)
            slope_y, slope_x = np.gradient(height)
            lit = (LIGHT[2] - LIGHT[0] * slope_x - LIGHT[1] * slope_y) / np.sqrt(1 + slope_x**2 + slope_y**2)
            colour = colour * (0.74 + 0.42 * np.clip(lit, -0.55, 1.0))[..., None]
        if outline > 0:
            colour = colour * (1 - 0.5 * np.clip(1 + d / outline, 0, 1))[..., None]
        target = self.rgb[rows, cols]
        target += (colour - target) * (coverage * opacity)[..., None]
        if class_id is not None:
            self.ids[rows, cols][coverage > 0.5] = class_id

    def finish(self, rng: np.random.Generator) -> np.ndarray:
        """The image as (H, W, 3) uint8, in this day's light."""
        height, width = self.shape
        warmth = rng.normal(0, 0.03)
        light = rng.uniform(0.92, 1.06) * np.array([1 + warmth, 1.0, 1 - warmth], np.float32)
        vignette = ((self.x / width - 0.5) ** 2 + (self.y / height - 0.5) ** 2) * rng.uniform(0.1, 0.3)
        grain = rng.standard_normal(self.shape, np.float32) * 0.010
        rgb = self.rgb * (light * (1 - vignette[..., None])) + grain[..., None]
        return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)


# ------------------------------------------------------------------------------------------------------------- scenes


@dataclass(frozen=True)
class Scene:
    """A kind of landscape: colours, and what stands around in it."""

    sky: tuple[Rgb, Rgb]  # top, horizon
    hills: Rgb
    ground: tuple[Rgb, Rgb]  # far, near
    speckle: Rgb  # of leaves, pebbles, …
    speckles: float  # how many, 0 … 1
    blades: float  # height of grass, 0 … 1
    props: tuple[str, ...]
    leaf: Rgb = (0.25, 0.42, 0.18)
    water: bool = False
    trunks: bool = False


SCENES = {
    "autumn": Scene(
        ((0.72, 0.80, 0.86), (0.95, 0.90, 0.80)),
        (0.62, 0.42, 0.28),
        ((0.66, 0.52, 0.28), (0.55, 0.38, 0.18)),
        (0.82, 0.42, 0.12),
        0.7,
        0.4,
        ("tree", "bush", "stump", "mushroom", "rock"),
        leaf=(0.78, 0.42, 0.13),
    ),
    "desert": Scene(
        ((0.45, 0.68, 0.86), (0.95, 0.86, 0.70)),
        (0.78, 0.52, 0.36),
        ((0.90, 0.76, 0.54), (0.83, 0.63, 0.40)),
        (0.62, 0.44, 0.28),
        0.25,
        0.05,
        ("cactus", "rock", "rock", "bush"),
        leaf=(0.50, 0.52, 0.26),
    ),
    "forest": Scene(
        ((0.36, 0.52, 0.38), (0.62, 0.74, 0.52)),
        (0.22, 0.36, 0.22),
        ((0.33, 0.42, 0.20), (0.30, 0.27, 0.15)),
        (0.48, 0.34, 0.18),
        0.6,
        0.3,
        ("bush", "stump", "mushroom", "tree", "fern"),
        trunks=True,
    ),
    "meadow": Scene(
        ((0.42, 0.66, 0.90), (0.84, 0.92, 0.96)),
        (0.40, 0.60, 0.38),
        ((0.60, 0.74, 0.36), (0.32, 0.54, 0.18)),
        (0.93, 0.88, 0.55),
        0.15,
        1.0,
        ("flower", "flower", "bush", "tree", "rock"),
    ),
    "shore": Scene(
        ((0.50, 0.74, 0.92), (0.90, 0.95, 0.96)),
        (0.50, 0.62, 0.66),
        ((0.90, 0.84, 0.68), (0.82, 0.72, 0.53)),
        (0.96, 0.92, 0.84),
        0.3,
        0.15,
        ("rock", "rock", "bush", "stump"),
        leaf=(0.48, 0.58, 0.34),
        water=True,
    ),
    "snow": Scene(
        ((0.66, 0.76, 0.88), (0.92, 0.93, 0.96)),
        (0.60, 0.68, 0.78),
        ((0.92, 0.94, 0.98), (0.82, 0.87, 0.95)),
        (0.70, 0.77, 0.88),
        0.2,
        0.06,
        ("pine", "pine", "rock", "stump", "bush"),
        leaf=(0.34, 0.40, 0.36),
    ),
}


def _landscape(canvas: Canvas, rng: np.random.Generator, scene: Scene) -> float:
    """Paints sky and ground; returns the row of the horizon, which may lie above the picture."""
    height, width = canvas.shape
    horizon = rng.uniform(-0.35, -0.05) * height if rng.random() < 0.3 else rng.uniform(0.16, 0.42) * height
    shade = rng.normal(1, 0.05) * (1 + rng.normal(0, 0.035, 3)).astype(np.float32)
    y = canvas.y

    if horizon > 0:
        sky = mix(scene.sky[0], scene.sky[1], np.broadcast_to(np.clip(y / horizon, 0, 1), canvas.shape))
        clouds = smoothstep(0.1, 1.0, noise(rng, canvas.shape, (22, 60), 3)) * rng.uniform(0.2, 0.9)
        canvas.rgb[:] = mix(sky, (1, 1, 1), 0 * clouds if scene.trunks else clouds)
        for layer, fade in enumerate((0.65, 0.3)):
            ridge = horizon - height * (0.10 - 0.05 * layer) * (0.6 + 0.8 * noise(rng, (2, width), (2, 55), 3)[:1])
            colour = mix(scene.hills, scene.sky[1], fade) * shade
            texture = 1 + 0.10 * noise(rng, canvas.shape, (4, 6), 2)[..., None]
            canvas.rgb += (colour * texture - canvas.rgb) * np.clip(y - ridge, 0, 1)[..., None]
        if scene.trunks:
            for x in rng.uniform(0, width, rng.integers(6, 14)):
                far = rng.uniform(0.3, 0.8)
                bark = mix((0.22, 0.17, 0.12), scene.sky[1], far * 0.7)
                radius = (1.15 - far) * 0.03 * height
                canvas.paint(
                    [Capsule(x, -20, radius * 0.9, x + rng.normal(0, 4), horizon + 3, radius)], bark, volume=radius
                )

    # Seen from the height of an animal: rows of the ground crowd together towards the horizon.
    depth = np.clip((y - horizon) / (height - horizon), 0, 1)
    tile = noise(rng, (240, width), (9, 26), 3)
    fine = noise(rng, (240, width), (2.2, 1.4 if scene.blades > 0.2 else 3.0), 1)
    rows = np.minimum((240 * 0.999 * np.sqrt(depth[:, 0])).astype(int), 239)
    tone = 1 + (0.09 * tile + 0.075 * fine)[rows] * (0.35 + 0.65 * depth)
    ground = mix(*scene.ground, np.broadcast_to(depth, canvas.shape)) * shade * tone[..., None]
    grains = smoothstep(1.35 - 0.6 * scene.speckles, 1.5 - 0.6 * scene.speckles, noise(rng, (240, width), (3.5, 5)))
    ground = mix(ground, np.asarray(scene.speckle, np.float32) * tone[..., None], grains[rows] * 0.75)
    if scene.water:
        sea = horizon + (height - horizon) * (rng.uniform(0.12, 0.4) + 0.05 * noise(rng, (2, width), (2, 70), 2)[:1])
        glint = smoothstep(0.3, 1.2, noise(rng, (240, width), (2.5, 22), 2))[rows]
        water = mix(mix((0.30, 0.58, 0.72), (0.42, 0.72, 0.78), depth * np.ones_like(tone)), (1, 1, 1), glint * 0.5)
        ground = mix(ground, ground * 0.8, np.clip(1 - (y - sea) / (0.05 * height), 0, 1))
        ground = mix(ground, (0.97, 0.98, 0.98), np.clip(1 - (y - sea) / 2.5, 0, 1))
        ground = mix(ground, water, np.clip(sea - y, 0, 1))
    canvas.rgb += (ground - canvas.rgb) * np.clip(y - horizon, 0, 1)[..., None]
    return horizon


def _prop(canvas: Canvas, rng: np.random.Generator, scene: Scene, name: str, x: float, y: float, size: float) -> None:
    """Paints one thing that stands at (x, y) and is about `size` pixels high; its pixels are background."""
    f = Frame(x, y, size, rng.normal(0, 0.05), bool(rng.random() < 0.5))
    leaf = np.asarray(scene.leaf, np.float32) * rng.uniform(0.85, 1.15) * (1 + rng.normal(0, 0.05, 3))
    bark = np.array([0.40, 0.29, 0.20]) * rng.uniform(0.8, 1.2)
    if name not in ("flower", "fern", "grass"):
        _shadow(canvas, x, y, 0.5 * size)
    if name == "rock":
        grey = np.array([0.54, 0.53, 0.52]) * rng.uniform(0.75, 1.2) * (1 + rng.normal(0, 0.04, 3))
        shapes = [
            f.ellipse(u, -0.2, rng.uniform(0.25, 0.4), rng.uniform(0.2, 0.42), rng.normal(0, 0.4)) for u in (-0.25, 0.2)
        ]
        window = 1 + 0.10 * noise(rng, canvas.shape, (5, 7), 2)
        canvas.paint(shapes, grey * window[..., None], 0, blend=0.1 * size, volume=0.3 * size, outline=1.2)
    elif name == "bush":
        shapes = [
            f.ellipse(rng.uniform(-0.5, 0.5), rng.uniform(-0.55, -0.2), rng.uniform(0.22, 0.34), rng.uniform(0.2, 0.3))
            for _ in range(6)
        ]
        leaves = noise(rng, canvas.shape, (3.5, 3.5), 1)
        colour = leaf * (1 + 0.2 * leaves)[..., None]
        canvas.paint(shapes, colour, 0, blend=0.05 * size, volume=0.3 * size, rough=1.3 * leaves)
    elif name in ("tree", "pine"):
        canvas.paint(f.chain((0, 0, 0.07), (0, -0.9, 0.05)), bark, 0, volume=0.06 * size, outline=1)
        leaves = noise(rng, canvas.shape, (4, 4), 1)
        colour = leaf * (1 + 0.18 * leaves)[..., None]
        if name == "pine":
            for level, width in ((-0.45, 0.42), (-0.8, 0.34), (-1.15, 0.26)):
                shapes: list[Shape] = [f.capsule(-width, level + 0.1, 0.03, width, level + 0.1, 0.03)]
                shapes += [f.capsule(s * width * 0.5, level + 0.02, 0.08, 0, level - 0.4, 0.02) for s in (-1, 0, 1)]
                canvas.paint(shapes, colour, 0, blend=0.1 * size, volume=0.15 * size, rough=1.2 * leaves)
                canvas.paint(
                    f.chain((-width * 0.4, level - 0.1, 0.03), (0, level - 0.36, 0.03)), WHITE, opacity=0.7, soft=3
                )
        else:
            shapes = [
                f.ellipse(
                    rng.uniform(-0.35, 0.35), rng.uniform(-1.4, -0.8), rng.uniform(0.25, 0.35), rng.uniform(0.22, 0.3)
                )
                for _ in range(7)
            ]
            canvas.paint(shapes, colour, 0, blend=0.05 * size, volume=0.3 * size, rough=1.4 * leaves)
    elif name == "stump":
        canvas.paint(f.chain((0, -0.02, 0.3), (0, -0.4, 0.27)), bark, 0, volume=0.25 * size, outline=1.2)
        canvas.paint([f.ellipse(0, -0.48, 0.27, 0.13)], (0.80, 0.66, 0.46), 0, outline=1.2)
        canvas.paint([f.ellipse(0.02, -0.48, 0.15, 0.07)], (0.70, 0.54, 0.36), 0, outline=1.0)
    elif name == "cactus":
        green = np.array([0.36, 0.52, 0.30]) * rng.uniform(0.85, 1.15)
        shapes = f.chain((0, 0, 0.11), (0, -1.0, 0.1))
        shapes += f.chain((0, -0.4, 0.06), (0.28, -0.42, 0.07), (0.3, -0.75, 0.06))
        shapes += f.chain((0, -0.55, 0.06), (-0.26, -0.56, 0.06), (-0.27, -0.85, 0.05))
        canvas.paint(shapes, green, 0, blend=0.05 * size, volume=0.1 * size, outline=1.2)
    elif name == "mushroom":
        canvas.paint(f.chain((0, 0, 0.08), (0, -0.3, 0.07)), WHITE, 0, volume=0.08 * size, outline=1)
        canvas.paint([f.ellipse(0, -0.38, 0.26, 0.17)], (0.78, 0.25, 0.18), 0, volume=0.2 * size, outline=1)
        for u, v in ((-0.12, -0.4), (0.05, -0.46), (0.14, -0.36)):
            canvas.paint([f.ellipse(u, v, 0.035, 0.03)], WHITE)
    elif name == "flower":
        petals = [(0.95, 0.95, 0.92), (0.96, 0.80, 0.25), (0.85, 0.42, 0.55), (0.62, 0.50, 0.82)][rng.integers(4)]
        for u, v in rng.normal(0, 1, (int(rng.integers(4, 10)), 2)):
            g = f.child(u * 0.9, v * 0.25, 0.08)
            canvas.paint(g.chain((0, 0, 0.15), (0.1, -2.2, 0.15)), (0.30, 0.48, 0.18), 0)
            canvas.paint(
                [g.ellipse(math.cos(t) * 0.6, -2.4 + math.sin(t) * 0.5, 0.5, 0.45) for t in (0, 1.6, 3.1, 4.7)],
                petals,
                0,
            )
            canvas.paint([g.ellipse(0, -2.4, 0.35, 0.3)], (0.95, 0.75, 0.2), 0)
    elif name == "fern":
        for lean in rng.uniform(-0.6, 0.6, 6):
            canvas.paint(f.chain((0, 0, 0.02), (lean * 0.6, -0.4, 0.05), (lean * 1.3, -0.5, 0.01)), leaf, 0, volume=3)
    elif name == "grass":
        blade = mix(scene.ground[0], scene.ground[1], rng.uniform(0.2, 0.9))
        for u in rng.uniform(-1, 1, int(rng.integers(14, 24))):
            lean, tall = rng.normal(0, 0.12), rng.uniform(0.25, 0.6)
            shapes = f.chain((u, 0.05, 0.035), (u + lean * 0.4, -tall * 0.6, 0.028), (u + lean, -tall, 0.006))
            canvas.paint(shapes, blade * rng.uniform(0.8, 1.2), 0)
    elif name == "fence":
        wood = np.array([0.56, 0.44, 0.32]) * rng.uniform(0.75, 1.25)
        for v in (-0.75, -0.35):
            canvas.paint([f.capsule(-4, v, 0.045, 4, v, 0.045)], wood, 0, volume=0.04 * size, outline=1)
        for u in (-3, -1.5, 0, 1.5, 3):
            canvas.paint([f.capsule(u, 0, 0.07, u, -1, 0.06)], wood * 0.9, 0, volume=0.06 * size, outline=1)
    elif name == "trunk":
        bark = bark * (1 + 0.2 * noise(rng, canvas.shape, (14, 2.5), 2))[..., None]
        canvas.paint(
            [Capsule(x, y, 0.13 * size, x + rng.normal(0, 6), -30, 0.10 * size)],
            bark,
            0,
            volume=0.12 * size,
            outline=1.2,
        )


def _shadow(canvas: Canvas, x: float, y: float, reach: float) -> None:
    canvas.paint(
        [Ellipse(x + 0.15 * reach, y, reach, 0.22 * reach)], (0.08, 0.09, 0.12), opacity=0.38, soft=0.3 * reach + 2
    )


# ------------------------------------------------------------------------------------------------------------ animals


@dataclass(frozen=True)
class Coat:
    """Fur: main colour, second colour (patches, spots or belly), and what the second colour does."""

    main: Rgb
    second: Rgb
    pattern: str = "belly"


COATS = {
    "brown": Coat((0.52, 0.35, 0.22), (0.66, 0.50, 0.35)),
    "charcoal": Coat((0.28, 0.27, 0.30), (0.46, 0.45, 0.47)),
    "chocolate": Coat((0.34, 0.22, 0.16), (0.48, 0.34, 0.25)),
    "cream": Coat((0.90, 0.81, 0.65), (0.97, 0.93, 0.85)),
    "fawn": Coat((0.72, 0.50, 0.30), (0.95, 0.88, 0.75), "spots"),
    "grey": Coat((0.58, 0.58, 0.60), (0.82, 0.81, 0.80)),
    "pied black": Coat((0.95, 0.93, 0.90), (0.16, 0.15, 0.17), "patches"),
    "pied brown": Coat((0.95, 0.91, 0.84), (0.56, 0.36, 0.22), "patches"),
    "russet": Coat((0.82, 0.43, 0.18), (0.96, 0.89, 0.78)),
}


@dataclass(frozen=True)
class Kind:
    """What is typical of a kind. Only `face` tells it for sure."""

    coats: dict[str, float]
    scenes: dict[str, float]
    tails: tuple[str, ...]
    legs: float  # usual length
    face: Callable[[Animal, Frame], None]


@dataclass
class Animal:
    """One animal while it is drawn: where to paint, in which class and colours."""

    canvas: Canvas
    rng: np.random.Generator
    class_id: int
    coat: Coat
    fur: np.ndarray  # (H, W, 3), the coat at every pixel of the canvas
    rough: np.ndarray  # (H, W), how hairs displace the outline, pixels
    unit: float  # pixels

    def paint(
        self,
        shapes: Sequence[Shape],
        colour: Rgb | None = None,
        *,
        volume: float = 0.2,
        blend: float = 0.1,
        shade: float = 1.0,
    ) -> None:
        """Paints a part of the body: furry, rounded and outlined."""
        self.canvas.paint(
            shapes,
            (self.fur if colour is None else np.asarray(colour, np.float32)) * shade,
            self.class_id,
            volume=volume * self.unit,
            blend=blend * self.unit,
            outline=max(1.1, 0.022 * self.unit),
            rough=self.rough,
        )

    def mark(self, shapes: Sequence[Shape], colour: Rgb, *, soft: float = 1.0, volume: float = 0.0) -> None:
        """Paints a mark on a part; it may stick out."""
        self.canvas.paint(shapes, colour, self.class_id, soft=max(1.0, soft), volume=volume * self.unit)

    def eyes(self, f: Frame, u: float, v: float, size: float, turn: float) -> None:
        for side in (-1, 1):
            at = side * u + turn
            self.mark([f.ellipse(at, v, size, size * 1.15)], INK)
            glint = f.child(at, v, size)
            x, y = glint.point(0, 0)
            self.mark(
                [Ellipse(x - 0.3 * glint.scale, y - 0.4 * glint.scale, 0.36 * glint.scale, 0.36 * glint.scale)], WHITE
            )

    def nose(self, f: Frame, u: float, v: float, a: float, b: float, colour: Rgb = INK) -> None:
        self.mark([f.ellipse(u, v, a, b)], colour)
        mouth = max(0.02, 0.5 / f.scale)
        self.mark(f.chain((u, v + b, mouth), (u, v + b + 0.1, mouth), (u - 0.14, v + b + 0.18, mouth)), INK)
        self.mark(f.chain((u, v + b + 0.1, mouth), (u + 0.14, v + b + 0.18, mouth)), INK)


def _pair(make: Callable[[float], list[Shape]]) -> list[list[Shape]]:
    return [make(-1.0), make(1.0)]


def _bear(a: Animal, f: Frame) -> None:
    turn = 0.12
    for ear in _pair(lambda s: [f.ellipse(s * 0.68, -0.66, 0.33, 0.33)]):
        a.paint(ear, volume=0.08)
    for ear in _pair(lambda s: [f.ellipse(s * 0.68, -0.62, 0.17, 0.17)]):
        a.mark(ear, np.asarray(a.coat.second) * 0.85, soft=2)
    a.paint([f.ellipse(0, 0, 0.98, 0.88), f.ellipse(0, 0.25, 0.9, 0.62)], volume=0.22)
    a.mark([f.ellipse(turn, 0.36, 0.46, 0.36)], mix(a.coat.second, (0.85, 0.72, 0.55), 0.5), soft=1.5, volume=0.06)
    a.nose(f, turn * 1.2, 0.2, 0.2, 0.13)
    a.eyes(f, 0.38, -0.12, 0.1, turn)


def _cow(a: Animal, f: Frame) -> None:
    turn = 0.08
    horn = (0.93, 0.87, 0.72)
    for side in _pair(lambda s: f.chain((s * 0.4, -0.62, 0.17), (s * 0.85, -0.85, 0.13), (s * 0.92, -1.25, 0.03))):
        a.paint(side, horn, volume=0.05)
    for side in _pair(lambda s: f.chain((s * 0.7, -0.3, 0.2), (s * 1.1, -0.22, 0.22), (s * 1.35, -0.1, 0.08))):
        a.paint(side, volume=0.06, shade=0.92)
    a.paint([f.ellipse(0, -0.15, 0.8, 0.78), f.ellipse(0, 0.35, 0.62, 0.6)], volume=0.2)
    a.mark(f.chain((turn * 0.5, -0.7, 0.12), (turn, 0.2, 0.22)), WHITE, soft=2)
    a.paint([f.ellipse(turn, 0.62, 0.72, 0.42)], PINK, volume=0.1)
    for side in (-1, 1):
        a.mark([f.ellipse(turn + side * 0.3, 0.55, 0.1, 0.13)], (0.52, 0.28, 0.28))
    a.mark(f.chain((turn - 0.3, 0.82, 0.03), (turn, 0.87, 0.03), (turn + 0.3, 0.82, 0.03)), (0.52, 0.28, 0.28))
    a.eyes(f, 0.46, -0.12, 0.11, turn * 0.5)


def _deer(a: Animal, f: Frame) -> None:
    turn = 0.08
    antler = (0.56, 0.42, 0.28)
    for s in (-1, 1):
        beam = f.chain((s * 0.22, -0.6, 0.1), (s * 0.5, -1.1, 0.09), (s * 0.95, -1.45, 0.08), (s * 0.9, -1.95, 0.03))
        beam += f.chain((s * 0.5, -1.1, 0.08), (s * 0.32, -1.6, 0.03))
        beam += f.chain((s * 0.8, -1.35, 0.08), (s * 1.3, -1.6, 0.03))
        a.paint(beam, antler, volume=0.03, blend=0.01)
    for side in _pair(lambda s: f.chain((s * 0.5, -0.4, 0.16), (s * 0.95, -0.62, 0.22), (s * 1.3, -0.72, 0.04))):
        a.paint(side, volume=0.06)
    for side in _pair(lambda s: f.chain((s * 0.75, -0.5, 0.08), (s * 1.1, -0.65, 0.06))):
        a.mark(side, a.coat.second, soft=1.5)
    a.paint([f.ellipse(0, -0.2, 0.68, 0.64), f.ellipse(0, 0.42, 0.4, 0.52)], volume=0.2)
    a.mark([f.ellipse(turn, 0.62, 0.3, 0.28)], a.coat.second, soft=2)
    a.nose(f, turn, 0.56, 0.19, 0.13)
    a.eyes(f, 0.42, -0.12, 0.12, turn * 0.5)


def _fox(a: Animal, f: Frame) -> None:
    turn = 0.1
    for side in _pair(lambda s: [f.capsule(s * 0.52, -0.42, 0.36, s * 0.78, -1.3, 0.03)]):
        a.paint(side, volume=0.08)
    for side in _pair(lambda s: [f.capsule(s * 0.56, -0.5, 0.2, s * 0.74, -1.1, 0.02)]):
        a.mark(side, INK, soft=1.5)
    head: list[Shape] = [f.ellipse(0, -0.1, 0.78, 0.68), f.capsule(0, 0.2, 0.5, turn, 0.88, 0.14)]
    head += [f.capsule(s * 0.4, 0.1, 0.42, s * 1.08, 0.36, 0.05) for s in (-1, 1)]
    a.paint(head, volume=0.2, blend=0.05)
    for side in _pair(lambda s: [f.capsule(s * 0.46 + turn * 0.5, 0.3, 0.27, s * 0.98, 0.36, 0.05)]):
        a.mark(side, WHITE, soft=2)
    a.mark([f.capsule(turn * 0.7, 0.5, 0.2, turn, 0.84, 0.1)], WHITE, soft=2)
    a.mark([f.ellipse(turn, 0.84, 0.15, 0.12)], INK)
    a.eyes(f, 0.37, -0.02, 0.11, turn * 0.5)


def _rabbit(a: Animal, f: Frame) -> None:
    turn = 0.08
    flop = a.rng.random() < 0.3
    for s in (-1.0, 1.0):
        tip = (s * 0.5, -1.9, 0.16) if not (flop and s > 0) else (s * 1.15, -1.15, 0.17)
        a.paint(f.chain((s * 0.3, -0.5, 0.2), (s * 0.42, -1.25, 0.26), tip), volume=0.07)
        inner = (tip[0] * 0.97, tip[1] * 0.95, 0.07)
        a.mark(f.chain((s * 0.33, -0.7, 0.08), (s * 0.42, -1.25, 0.13), inner), PINK, soft=1.5)
    a.paint([f.ellipse(0, -0.05, 0.76, 0.72), f.ellipse(0, 0.28, 0.86, 0.52)], volume=0.2)
    for s in (-1, 1):
        a.mark([f.ellipse(turn + s * 0.2, 0.4, 0.27, 0.22)], WHITE, soft=1.5)
    a.mark([f.ellipse(turn, 0.66, 0.1, 0.14)], WHITE, soft=1)
    a.nose(f, turn, 0.22, 0.12, 0.08, (0.85, 0.45, 0.48))
    a.eyes(f, 0.42, -0.08, 0.13, turn * 0.5)


KINDS = (
    Kind(
        {"chocolate": 0.4, "brown": 0.3, "cream": 0.15, "charcoal": 0.15},
        {"forest": 0.45, "snow": 0.3, "autumn": 0.15, "meadow": 0.1},
        ("short", "short", "puff"),
        0.26,
        _bear,
    ),
    Kind(
        {"pied black": 0.45, "pied brown": 0.25, "brown": 0.15, "cream": 0.15},
        {"meadow": 0.55, "desert": 0.15, "shore": 0.15, "autumn": 0.15},
        ("thin", "thin", "short"),
        0.32,
        _cow,
    ),
    Kind(
        {"fawn": 0.45, "brown": 0.25, "russet": 0.15, "grey": 0.15},
        {"autumn": 0.4, "forest": 0.3, "snow": 0.15, "meadow": 0.15},
        ("short", "puff", "thin"),
        0.40,
        _deer,
    ),
    Kind(
        {"russet": 0.5, "grey": 0.2, "charcoal": 0.15, "cream": 0.15},
        {"snow": 0.4, "desert": 0.25, "forest": 0.2, "autumn": 0.15},
        ("bushy", "bushy", "thin"),
        0.30,
        _fox,
    ),
    Kind(
        {"grey": 0.4, "cream": 0.25, "pied brown": 0.2, "fawn": 0.15},
        {"meadow": 0.3, "shore": 0.35, "desert": 0.25, "snow": 0.1},
        ("puff", "puff", "short"),
        0.24,
        _rabbit,
    ),
)

POSES = {"stand": 0.3, "walk": 0.2, "graze": 0.12, "sit": 0.16, "lie": 0.12, "turn": 0.10}


@dataclass(frozen=True)
class Placed:
    """An animal's place in a picture."""

    kind: int
    pose: str
    frame: Frame  # origin on the ground below the middle of the body; 1 = about the length of a torso
    length: float
    legs: float
    girth: float
    head: tuple[float, float]
    head_size: float

    def head_circle(self) -> tuple[float, float, float]:
        """Centre and radius in pixels of a circle around the head with ears."""
        x, y = self.frame.point(self.head[0], self.head[1] - 0.35 * self.head_size)
        return x, y, 1.35 * self.head_size * self.frame.scale


def _place(rng: np.random.Generator, kind: int, x: float, y: float, scale: float) -> Placed:
    pose = str(rng.choice(list(POSES), p=list(POSES.values())))
    length = rng.uniform(0.62, 0.86)
    legs = float(np.clip(rng.normal(KINDS[kind].legs, 0.05), 0.18, 0.46))
    girth = rng.uniform(0.24, 0.31)
    back = -(legs + girth)  # of the torso's axis
    jitter = rng.normal(0, 0.03, 2)
    head = {
        "stand": (length / 2 + 0.22, back - 0.34),
        "walk": (length / 2 + 0.25, back - 0.28),
        "graze": (length / 2 + 0.36, -0.34),
        "sit": (0.24, -0.62 - girth - 0.12),
        "lie": (length / 2 + 0.15, -girth - 0.34),
        "turn": (length / 2 - 0.16, back - 0.34),
    }[pose]
    frame = Frame(x, y, scale, rng.normal(0, 0.05), bool(rng.random() < 0.5))
    return Placed(
        kind, pose, frame, length, legs, girth, (head[0] + jitter[0], head[1] + jitter[1]), rng.uniform(0.28, 0.34)
    )


def _coat(canvas: Canvas, rng: np.random.Generator, coat: Coat, p: Placed) -> tuple[Coat, np.ndarray, np.ndarray]:
    """This animal's coat: with its own tint; its colour at every pixel, (H, W, 3); its hairs, (H, W)."""
    tint = rng.uniform(0.9, 1.1) * (1 + rng.normal(0, 0.03, 3))
    coat = Coat(
        np.clip(np.asarray(coat.main) * tint, 0, 1), np.clip(np.asarray(coat.second) * tint, 0, 1), coat.pattern
    )
    unit = p.frame.scale
    hairs = noise(rng, canvas.shape, (max(1.6, 0.02 * unit), max(2.6, 0.05 * unit)))
    if coat.pattern == "patches":
        second = smoothstep(0.12, 0.2, noise(rng, canvas.shape, (0.34 * unit, 0.38 * unit), 2))
    elif coat.pattern == "spots":
        second = smoothstep(0.55, 0.75, noise(rng, canvas.shape, (0.085 * unit, 0.10 * unit)))
    else:
        middle = -(p.legs if p.pose not in ("lie", "sit") else 0.0) - 0.6 * p.girth
        second = 0.8 * smoothstep(-0.02, 0.12, (canvas.y - p.frame.y) / unit - middle) * np.ones_like(hairs)
    fur = mix(coat.main, coat.second, second) * (1 + 0.09 * hairs[..., None])
    return coat, fur, hairs * 0.35


def _draw_animal(canvas: Canvas, rng: np.random.Generator, p: Placed) -> None:
    kind, f = KINDS[p.kind], p.frame
    name = str(rng.choice(list(kind.coats), p=list(kind.coats.values())))
    coat, fur, rough = _coat(canvas, rng, COATS[name], p)
    a = Animal(canvas, rng, p.kind + 1, coat, fur, rough, f.scale)
    half, back = p.length / 2, -(p.legs + p.girth)
    _shadow(canvas, f.x, f.y, 0.75 * f.scale)

    feet = np.asarray(coat.main) * 0.45
    paw = 0.085

    def leg(hip: tuple[float, float], foot: tuple[float, float]) -> list[Shape]:
        knee = ((hip[0] + foot[0]) / 2 + 0.02, (hip[1] + foot[1]) / 2)
        return f.chain((*hip, 0.12), (*knee, 0.085), (foot[0], foot[1] - 0.05, 0.07))

    def foot(u: float, shade: float = 1.0) -> None:
        a.paint([f.ellipse(u + 0.02, -0.045, paw, 0.055)], feet, volume=0.04, shade=shade)

    tail = str(rng.choice(kind.tails))
    if p.pose == "sit":
        rear = (-0.36, -0.14)
    elif p.pose == "lie":
        rear = (-half - 0.8 * p.girth, -p.girth)
    else:
        rear = (-half - 0.8 * p.girth, back - 0.08)
    _tail(a, f, tail, rear)

    if p.pose == "sit":
        torso = [f.capsule(-0.14, -p.girth, p.girth, 0.1, -0.58, 0.8 * p.girth)]
        a.paint(leg((0.2, -0.5), (0.32, 0)), volume=0.08, shade=0.8)
        foot(0.32, 0.8)
        a.paint(
            [*torso, f.capsule(0.1, -0.6, 0.2, p.head[0], p.head[1], 0.17), *leg((0.1, -0.46), (0.18, 0))], volume=0.24
        )
        foot(0.18)
        a.paint([f.ellipse(-0.16, -0.19, 0.21, 0.18)], volume=0.16)
        foot(0.02)
    elif p.pose == "lie":
        torso = [f.capsule(-half, -p.girth, p.girth, half, -p.girth - 0.02, 0.92 * p.girth)]
        a.paint([*torso, f.capsule(half, -p.girth - 0.06, 0.2, p.head[0], p.head[1], 0.17)], volume=0.26)
        a.paint([f.ellipse(-half + 0.02, -0.2, 0.23, 0.19)], volume=0.16)
        for u in (-half + 0.22, half + 0.16):
            a.paint([f.capsule(u - 0.2, -0.1, 0.09, u, -0.07, 0.07)], volume=0.08)
            foot(u)
    else:
        stride = rng.uniform(0.1, 0.2) if p.pose == "walk" else rng.uniform(0, 0.04)
        hips = (-half + 0.02, half - 0.02)
        far = [(hips[0] + 0.13, hips[0] + 0.13 + stride), (hips[1] + 0.13, hips[1] + 0.13 - stride)]
        near = [(hips[0], hips[0] - stride), (hips[1], hips[1] + stride)]
        for hip, at in far:
            a.paint(leg((hip, back + 0.1), (at, -0.03)), volume=0.08, shade=0.74)
            foot(at, 0.74)
        torso = [f.capsule(-half, back, p.girth, half, back - 0.02, 0.92 * p.girth)]
        neck = f.capsule(half - 0.02, back - 0.06, 0.22, p.head[0], p.head[1], 0.16)
        legs = [shape for hip, at in near for shape in leg((hip, back + 0.12), (at, 0))]
        a.paint([*torso, neck, *legs], volume=0.26)
        for _, at in near:
            foot(at)
    kind.face(a, f.child(*p.head, p.head_size, rng.normal(0, 0.14) + (0.25 if p.pose == "graze" else 0)))


def _tail(a: Animal, f: Frame, tail: str, rear: tuple[float, float]) -> None:
    u, v = rear
    if tail == "bushy":
        shapes = f.chain(
            (u + 0.1, v + 0.05, 0.06),
            (u - 0.15, v + 0.02, 0.12),
            (u - 0.36, v - 0.14, 0.13),
            (u - 0.48, v - 0.36, 0.03),
        )
        a.paint(shapes, volume=0.12)
        a.mark(f.chain((u - 0.42, v - 0.24, 0.07), (u - 0.475, v - 0.35, 0.03)), WHITE, soft=3)
    elif tail == "thin":
        a.paint(f.chain((u + 0.08, v, 0.035), (u - 0.08, v + 0.08, 0.03), (u - 0.12, v + 0.3, 0.03)), volume=0.03)
        a.paint([f.ellipse(u - 0.12, v + 0.34, 0.05, 0.08)], np.asarray(a.coat.main) * 0.5, volume=0.04)
    elif tail == "puff":
        a.paint([f.ellipse(u, v, 0.12, 0.11)], WHITE, volume=0.1)
    else:
        a.paint(f.chain((u + 0.1, v, 0.08), (u - 0.06, v + 0.06, 0.05)), volume=0.06)


# ----------------------------------------------------------------------------------------------------------- pictures

SIZES = ((192, 256), (208, 272), (216, 288), (240, 288), (224, 256), (256, 192), (288, 216), (288, 240))
ANIMAL_AREA = 0.95  # of an average animal, in squared units


def _picture(rng: np.random.Generator, kind: int) -> tuple[Canvas, set[int]]:
    """One picture that shows `kind`, and perhaps another one."""
    height, width = SIZES[rng.integers(len(SIZES))]
    canvas = Canvas(height, width)
    count = int(rng.choice([1, 2, 3], p=[0.5, 0.34, 0.16]))
    kinds = [kind] * count
    if count > 1 and rng.random() < 0.46:
        kinds[-1] = int((kind + rng.integers(1, len(KINDS))) % len(KINDS))
    odds = KINDS[int(rng.choice(kinds))].scenes
    name = str(rng.choice(list(odds), p=list(odds.values()))) if rng.random() < 0.8 else str(rng.choice(list(SCENES)))
    scene = SCENES[name]
    horizon = _landscape(canvas, rng, scene)

    things: list[tuple[float, Callable[[], None]]] = []  # (row of the ground, paint it)
    animals = _arrange(rng, kinds, height, width, horizon)
    heads = [p.head_circle() for p in animals]
    for p in animals:
        things.append((p.frame.y, lambda p=p: _draw_animal(canvas, rng, p)))

    top = max(horizon, 0.0)

    def add(prop: str, x: float, y: float, size: float) -> None:
        things.append((y, lambda: _prop(canvas, rng, scene, prop, x, y, size)))

    for _ in range(rng.integers(3, 8)):
        y = rng.uniform(top + 2, height * 1.02)
        near = 0.35 + 0.65 * (y - horizon) / (height - horizon)
        prop = str(rng.choice(scene.props))
        size = near * height * rng.uniform(0.14, 0.26) * (2.0 if prop in ("tree", "pine") else 1.0)
        x = rng.uniform(0, width)
        if _free(x, y, size * (1.5 if prop in ("tree", "pine") else 0.8), heads):
            add(prop, x, y, size)
    for p in animals:
        f = p.frame
        if rng.random() < 0.25 + 0.6 * scene.blades:
            for _ in range(rng.integers(1, 4)):
                add(
                    "grass",
                    f.x + rng.normal(0, 0.5) * f.scale,
                    f.y + rng.uniform(0.01, 0.1) * f.scale,
                    f.scale * rng.uniform(0.3, 0.55),
                )
        if rng.random() < 0.12:
            x = f.point(-rng.uniform(0.0, 0.3), 0)[0]
            if all(abs(x - hx) > r + 0.12 * f.scale for hx, _, r in heads):
                add("trunk", x, f.y + 0.12 * f.scale, f.scale * rng.uniform(0.7, 1.0))
    if animals and rng.random() < 0.12:
        front = max(animals, key=lambda p: p.frame.y)
        size = 0.5 * front.frame.scale
        if _free(front.frame.x, front.frame.y + 6, size, heads, above=True):
            add("fence", front.frame.x + rng.uniform(-1, 1) * size, front.frame.y + 6, size)
    for _, paint in sorted(things, key=lambda thing: thing[0]):
        paint()
    return canvas, {p.kind + 1 for p in animals}


def _free(x: float, y: float, reach: float, heads: Sequence[tuple[float, float, float]], above: bool = False) -> bool:
    """Whether a thing at (x, y) that reaches up and sideways by `reach` leaves all heads visible."""
    return all((not above and abs(x - hx) > reach + r) or y - reach > hy + r or y < hy for hx, hy, r in heads)


def _arrange(rng: np.random.Generator, kinds: Sequence[int], height: int, width: int, horizon: float) -> list[Placed]:
    """Places animals on the ground so that every head is in the picture and none hides another one's head."""
    wanted = rng.uniform(0.17, 0.36) * height * width / (len(kinds) * ANIMAL_AREA)
    for attempt in range(200):
        scale = math.sqrt(wanted) * 0.985**attempt
        animals = []
        for kind in kinds:
            size = scale * (rng.uniform(0.75, 1.25) if len(kinds) > 1 else 1.0)
            low = max(horizon + 0.12 * size, 0.85 * size)
            y = rng.uniform(min(low, 0.95 * height), max(1.02 * height, low))
            animals.append(_place(rng, kind, rng.uniform(0.1, 0.9) * width, y, size))
        animals.sort(key=lambda p: p.frame.y)
        if _visible(animals, height, width):
            return animals
    return animals


def _visible(animals: Sequence[Placed], height: int, width: int) -> bool:
    for i, p in enumerate(animals):
        x, y, r = p.head_circle()
        if not (0.7 * r < x < width - 0.7 * r and 0.9 * r < y < height - 0.6 * r):
            return False
        for q in animals[i + 1 :]:
            qx, qy, qr = q.head_circle()
            if math.hypot(x - qx, y - qy) < r + qr:
                return False
            body = q.frame.scale * 0.75
            if abs(x - q.frame.x) < body + 0.6 * r and q.frame.y - body * 1.2 < y + 0.6 * r and y < q.frame.y:
                return False
    return True
