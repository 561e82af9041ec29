"""The data set behind `cian demo`: drawn animals with tags and exact masks, made from a seed.

Five kinds of animals that only their heads tell apart. Bodies, poses and coats are shared between the kinds, and
backgrounds go with the kinds but not reliably. So a classifier learns to look at heads, class activation maps cover
little else, and there is something for the affinity between images to complete.

Everything is drawn with signed distances (Quílez, *2D distance functions*): a shape is a union of ellipses and tapered
capsules, a pixel's coverage is its distance to the outline clipped to ± half a pixel, which gives smooth edges without
supersampling, and the mask is where coverage exceeds one half.
"""

from __future__ import annotations

import functools
import itertools
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from cian.data.table import BACKGROUND
from cian.demo import Record, is_complete, write_data_set

CLASSES = ("bear", "cow", "deer", "fox", "rabbit")  # class id = position + 1
MIN_PIXELS = 250  # a picture shows at least this much of each kind that it is tagged with
COVERAGE = (0.12, 0.42)  # least and most of a picture that animals cover
PARALLEL_FROM = 50  # pictures; for fewer it is not worth while
_VERSION = 4  # of the drawing; a set drawn by another version is made anew


def generate(folder: Path, *, train: int = 200, val: int = 60, seed: int = 0) -> None:
    """Writes the data set into `folder`; a complete one that was made with the same parameters is kept as it is.

    `folder` then holds `images/NNN.jpg`, `masks/NNN.png` (0 = background, then the kinds in alphabetical order),
    `tags.csv` with the columns image, tags, split, and `classes.txt`. Picture `i` depends on `(seed, i)` only; the
    first `train` ones are the training split.

    Raises:
        CianError: `folder` cannot be written, or holds other files.
    """
    folder = Path(folder)
    parameters = {"name": "animals", "version": _VERSION, "train": train, "val": val, "seed": seed}
    if not is_complete(folder, parameters):
        write_data_set(folder, parameters, (BACKGROUND, *CLASSES), _records(train, val, seed))


def _records(train: int, val: int, seed: int) -> Iterator[Record]:
    for index, (image, mask) in enumerate(_draw_all(train + val, seed)):
        tags = [CLASSES[class_id - 1] for class_id in np.unique(mask) if class_id]
        yield Record(f"{index:03d}", image, mask, tags, "train" if index < train else "val")


def _draw_all(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first `count` pictures, in order; many of them on several cores where processes start at once (Linux)."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    if cores == 1 or count < PARALLEL_FROM:
        yield from map(functools.partial(draw, seed), range(count))
        return
    ignore_interrupt = functools.partial(signal.signal, signal.SIGINT, signal.SIG_IGN)  # it is ours to handle
    with multiprocessing.get_context("fork").Pool(min(cores, 8), ignore_interrupt) as pool:
        yield from pool.imap(functools.partial(draw, seed), range(count), chunksize=4)


def draw(seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture `index`: the image, (H, W, 3) uint8, and its mask of class ids, (H, W) uint8."""
    rng = np.random.default_rng([seed, index])
    while True:  # now and then animals hide each other or leave the picture; then it is drawn anew
        canvas, class_ids = _picture(rng, index % len(CLASSES))
        counts = np.bincount(canvas.ids.ravel(), minlength=len(CLASSES) + 1)
        coverage = 1 - counts[0] / canvas.ids.size
        if min(counts[list(class_ids)]) >= MIN_PIXELS and COVERAGE[0] <= coverage <= COVERAGE[1]:
            return canvas.finish(rng), canvas.ids


# ------------------------------------------------------------------------------------------------------------ drawing

Rgb: TypeAlias = "tuple[float, float, float] | np.ndarray"
WHITE = (0.97, 0.95, 0.92)
INK = (0.13, 0.10, 0.10)
PINK = (0.93, 0.66, 0.64)
HORN = (0.93, 0.87, 0.72)
ANTLER = (0.56, 0.42, 0.28)
SIDES = (-1.0, 1.0)
FAR = 1e3  # pixels
LIGHT = (-0.45, -0.70, 0.55)  # towards the sun: up, and a little from the left


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


Shape: TypeAlias = "Capsule | Ellipse"


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
        return [self.capsule(*a, *b) for a, b in itertools.pairwise(points)]

    def ellipse(self, u: float, v: float, a: float, b: float, angle: float = 0.0) -> Ellipse:
        turn = self.angle + angle
        return Ellipse(*self.point(u, v), a * self.scale, b * self.scale, -turn if self.mirror else turn)


def distance(shapes: Sequence[Shape], x: np.ndarray, y: np.ndarray, blend: float = 0.0) -> np.ndarray:
    """Signed distance to a union of shapes, negative inside, in pixels; `blend` pixels round off their joints.

    Exact where it matters, at the outline and inside; further out than a few pixels it is only large.

    Shape:
        x (1, w) and y (h, 1): consecutive columns and rows; returns (h, w).
    """
    result = np.full((y.shape[0], x.shape[1]), FAR, np.float32)
    for shape in shapes:
        left, top, right, bottom = shape.bounds()
        margin = 4 + blend
        rows = _span(top - margin - y[0, 0], bottom + margin - y[0, 0], y.shape[0])
        cols = _span(left - margin - x[0, 0], right + margin - x[0, 0], x.shape[1])
        old, new = result[rows, cols], shape.distance(x[:, cols], y[rows])
        union = np.minimum(old, new)
        if blend > 0:
            near = np.maximum(blend - np.abs(old - new), 0)
            union -= near * near / (4 * blend)
        result[rows, cols] = union
    return result


def _span(low: float, high: float, length: int) -> slice:
    """The part of 0 … length that covers low … high; may be empty."""
    return slice(min(max(0, math.floor(low)), length), max(0, min(length, math.ceil(high) + 1)))


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
    """From colour a (t = 0) to b (t = 1). Colours are (3,) or (3, H, W), t a number or (H, W)."""
    first, second, weight = (np.asarray(value, np.float32) for value in (a, b, t))
    if weight.ndim:
        first, second = _spread(first), _spread(second)
    return first + (second - first) * weight


def _spread(colour: np.ndarray) -> np.ndarray:
    """(3,) as (3, 1, 1)."""
    return colour if colour.ndim == 3 else colour[:, None, None]


class Canvas:
    """An image with the class id of every pixel.

    Attributes:
        rgb: (3, H, W) float32 in 0 … 1.
        ids: (H, W) uint8.
        grain: (H, W) fine noise that things on it share, as their texture.
    """

    def __init__(self, height: int, width: int, rng: np.random.Generator):
        self.rgb = np.zeros((3, height, width), np.float32)
        self.grain = noise(rng, (height, width), (3.6, 3.6))
        self.ids = np.zeros((height, width), np.uint8)
        self.x = np.arange(width, dtype=np.float32)[None, :]
        self.y = np.arange(height, dtype=np.float32)[:, None]

    @property
    def shape(self) -> tuple[int, int]:
        return self.ids.shape[0], self.ids.shape[1]

    def window(self, shapes: Sequence[Shape], margin: float) -> tuple[slice, slice]:
        """The part of the canvas that holds the shapes; may be empty."""
        lefts, tops, rights, bottoms = zip(*(shape.bounds() for shape in shapes), strict=True)
        height, width = self.shape
        return (
            _span(min(tops) - margin, max(bottoms) + margin, height),
            _span(min(lefts) - margin, max(rights) + margin, width),
        )

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
        texture: float = 0.0,
        shade: float = 1.0,
        opacity: float = 1.0,
        soft: float = 1.0,
    ) -> None:
        """Paints a union of shapes.

        Args:
            shapes: what to paint.
            colour: one colour, or (3, H, W) for the whole canvas.
            class_id: the class of the covered pixels; None leaves their class as it is (a mark on something).
            blend: pixels by which joints are rounded off.
            volume: pixels from the outline to where the surface is flat; 0 = no shading.
            outline: width in pixels of a darker line inside the outline.
            rough: (H, W) displacement of the outline in pixels.
            texture: how strongly the grain shows.
            shade: factor on the colour.
            opacity: 1 covers fully.
            soft: pixels over which the edge fades.
        """
        rows, cols = self.window(shapes, margin=2 + soft / 2)
        if rows.start >= rows.stop or cols.start >= cols.stop:
            return
        d = distance(shapes, self.x[:, cols], self.y[rows], blend)
        if rough is not None:
            d = d + rough[rows, cols]
        coverage = np.clip(0.5 - d / soft, 0, 1)
        fill = _spread(np.asarray(colour, np.float32))
        if fill.shape[1] > 1:
            fill = fill[:, rows, cols]
        light = np.full_like(d, shade)
        if texture > 0:
            light += (shade * texture) * self.grain[rows, cols]
        if volume > 0 and min(d.shape) > 1:
            height = volume * np.sqrt(1.02 - (1 - np.clip(-d / volume, 0, 1)) ** 2)
            slope_y, slope_x = np.gradient(height)
            lit = (LIGHT[2] - LIGHT[0] * slope_x - LIGHT[1] * slope_y) / np.sqrt(1 + slope_x**2 + slope_y**2)
            light *= 0.74 + 0.42 * np.clip(lit, -0.55, 1.0)
        if outline > 0:
            light *= 1 - 0.5 * np.clip(1 + d / outline, 0, 1)
        target = self.rgb[:, rows, cols]
        target += (fill * light - target) * (coverage * opacity)
        if class_id is not None:
            self.ids[rows, cols][coverage > 0.5] = class_id

    def finish(self, rng: np.random.Generator) -> np.ndarray:
        """The image as (H, W, 3) uint8, in this day's light."""
        height, width = self.shape
        warmth = rng.normal(0, 0.025)
        light = rng.uniform(0.94, 1.06) * np.array([1 + warmth, 1.0, 1 - warmth])
        vignette = ((self.x / width - 0.5) ** 2 + (self.y / height - 0.5) ** 2) * rng.uniform(0.1, 0.3)
        speckle = rng.standard_normal(self.shape, np.float32) * 0.010
        rgb = self.rgb * _spread(light.astype(np.float32)) * (1 - vignette) + speckle
        return np.ascontiguousarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))


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
        ((0.40, 0.56, 0.42), (0.68, 0.80, 0.58)),
        (0.22, 0.36, 0.22),
        ((0.38, 0.48, 0.24), (0.36, 0.34, 0.19)),
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


def _landscape(canvas: Canvas, rng: np.random.Generator, scene: Scene) -> tuple[float, float]:
    """Paints sky and ground; returns the rows of the horizon, maybe above the picture, and of where land begins."""
    height, width = canvas.shape
    horizon = rng.uniform(-0.35, -0.05) * height if rng.random() < 0.3 else rng.uniform(0.16, 0.42) * height
    shade = _spread((rng.normal(1, 0.05) * (1 + rng.normal(0, 0.02, 3))).astype(np.float32))
    if horizon > 0:
        _sky(canvas, rng, scene, horizon, shade)

    # Seen from the height of an animal: rows of the ground crowd together towards the horizon.
    y, tall = canvas.y, 240
    depth = np.clip((y - horizon) / (height - horizon), 0, 1)
    position = (tall - 2) * np.sqrt(depth)
    row, between = position[:, 0].astype(int), position % 1

    def lie(field: np.ndarray) -> np.ndarray:
        """Lays a field, (tall, W), on the ground."""
        return field[row] + (field[row + 1] - field[row]) * between

    coarse = noise(rng, (tall, width), (9, 26), 3)
    fine = noise(rng, (tall, width), (2.2, 1.4 if scene.blades > 0.2 else 3.0))
    tone = 1 + lie(0.09 * coarse + 0.085 * fine) * (0.35 + 0.65 * depth)
    level = 1.35 - 0.6 * scene.speckles
    specks = smoothstep(level, level + 0.2, lie(noise(rng, (tall, width), (3.5, 5))))
    ground = mix(mix(*scene.ground, depth) * shade, scene.speckle, 0.75 * specks) * tone
    land = horizon
    if scene.water:
        land += (height - horizon) * rng.uniform(0.14, 0.4)
        sea = land + 0.05 * (height - horizon) * noise(rng, (2, width), (2, 70), 2)[:1]
        glint = smoothstep(0.3, 1.2, lie(noise(rng, (tall, width), (2.5, 22), 2)))
        water = mix(mix((0.30, 0.58, 0.72), (0.42, 0.72, 0.78), depth), (1, 1, 1), 0.5 * glint)
        ground *= 1 - 0.2 * np.clip(1 - (y - sea) / (0.05 * height), 0, 1)  # wet sand
        ground = mix(ground, (0.97, 0.98, 0.98), np.clip(1 - (y - sea) / 2.5, 0, 1))  # foam
        ground = mix(ground, water, np.clip(sea - y, 0, 1))
    canvas.rgb += (ground - canvas.rgb) * np.clip(y - horizon, 0, 1)
    return horizon, land


def _sky(canvas: Canvas, rng: np.random.Generator, scene: Scene, horizon: float, shade: np.ndarray) -> None:
    """Paints sky, clouds and hills, or the depth of a wood, down to the horizon."""
    height, width = canvas.shape
    canvas.rgb[:] = mix(*scene.sky, np.clip(canvas.y / horizon, 0, 1))
    if not scene.trunks:
        clouds = smoothstep(0.1, 1.0, noise(rng, canvas.shape, (22, 60), 3)) * rng.uniform(0.2, 0.9)
        canvas.rgb += (1 - canvas.rgb) * clouds
    for rise, fade in ((0.10, 0.65), (0.05, 0.3)):
        ridge = horizon - rise * height * (0.6 + 0.8 * noise(rng, (2, width), (2, 55), 3)[:1])
        hills = _spread(mix(scene.hills, scene.sky[1], fade)) * shade * (1 + 0.08 * canvas.grain)
        canvas.rgb += (hills - canvas.rgb) * np.clip(canvas.y - ridge, 0, 1)
    for _ in range(rng.integers(6, 14) if scene.trunks else 0):
        far, x = rng.uniform(0.3, 0.8), rng.uniform(0, width)
        radius = (1.15 - far) * 0.03 * height
        trunk = Capsule(x, -20, 0.9 * radius, x + rng.normal(0, 4), horizon + 3, radius)
        canvas.paint([trunk], mix((0.22, 0.17, 0.12), scene.sky[1], far * 0.7), volume=radius)


@dataclass
class Spot:
    """A thing while it is painted: where (`f`: origin on the ground, one unit is about its height), and in which
    colours. All its pixels become background."""

    canvas: Canvas
    rng: np.random.Generator
    f: Frame
    leaf: np.ndarray
    bark: np.ndarray

    def paint(
        self,
        shapes: Sequence[Shape],
        colour: Rgb,
        *,
        volume: float = 0.0,
        blend: float = 0.0,
        texture: float = 0.0,
        outline: float = 1.2,
    ) -> None:
        size = self.f.scale
        self.canvas.paint(shapes, colour, 0, volume=volume * size, blend=blend * size, texture=texture, outline=outline)

    def paint_leaves(self, shapes: Sequence[Shape], volume: float = 0.3) -> None:
        size, rough = self.f.scale, 1.4 * self.canvas.grain
        self.canvas.paint(shapes, self.leaf, 0, volume=volume * size, blend=0.05 * size, rough=rough, texture=0.2)

    def ellipses(self, count: int, u: float, v: tuple[float, float], size: tuple[float, float]) -> list[Shape]:
        """Ellipses around places with |x| < u and y within v, with half axes within `size`."""
        draw = self.rng.uniform
        return [self.f.ellipse(draw(-u, u), draw(*v), draw(*size), 0.9 * draw(*size)) for _ in range(count)]


def _rock(s: Spot) -> None:
    grey = np.array([0.54, 0.53, 0.52]) * s.rng.uniform(0.75, 1.2) * (1 + s.rng.normal(0, 0.04, 3))
    shapes = [*s.ellipses(1, 0.1, (-0.3, -0.2), (0.34, 0.42)), *s.ellipses(2, 0.35, (-0.2, -0.1), (0.2, 0.3))]
    s.paint(shapes, grey, blend=0.1, volume=0.3, texture=0.12)


def _bush(s: Spot) -> None:
    s.paint_leaves(s.ellipses(6, 0.5, (-0.55, -0.2), (0.22, 0.34)))


def _tree(s: Spot) -> None:
    s.paint(s.f.chain((0, 0, 0.05), (0, -0.5, 0.035)), s.bark, volume=0.05)
    s.paint_leaves(s.ellipses(7, 0.2, (-0.85, -0.5), (0.13, 0.2)), volume=0.18)


def _pine(s: Spot) -> None:
    s.paint(s.f.chain((0, 0, 0.05), (0, -0.5, 0.03)), s.bark, volume=0.05)
    for v, width in ((-0.25, 0.26), (-0.45, 0.21), (-0.66, 0.15)):
        cone = [s.f.capsule(side * width * 0.6, v, 0.05, 0, v - 0.28, 0.01) for side in (-1.0, 0.0, 1.0)]
        s.paint_leaves([s.f.capsule(-width, v + 0.05, 0.015, width, v + 0.05, 0.015), *cone], volume=0.12)
        snow = s.f.chain((-0.45 * width, v - 0.08, 0.015), (-0.05 * width, v - 0.25, 0.02))
        s.canvas.paint(snow, WHITE, 0, opacity=0.8, soft=2)


def _stump(s: Spot) -> None:
    s.paint(s.f.chain((0, -0.02, 0.3), (0, -0.4, 0.27)), s.bark, volume=0.25)
    s.paint([s.f.ellipse(0, -0.48, 0.27, 0.13)], (0.80, 0.66, 0.46))
    s.paint([s.f.ellipse(0.02, -0.48, 0.15, 0.07)], (0.70, 0.54, 0.36))


def _cactus(s: Spot) -> None:
    shapes = s.f.chain((0, 0, 0.11), (0, -0.9, 0.1))
    shapes += s.f.chain((0, -0.3, 0.06), (0.28, -0.32, 0.07), (0.3, -0.65, 0.06))
    shapes += s.f.chain((0, -0.45, 0.06), (-0.26, -0.46, 0.06), (-0.27, -0.75, 0.05))
    green = np.array([0.36, 0.52, 0.30]) * s.rng.uniform(0.85, 1.15)
    s.paint(shapes, green, blend=0.05, volume=0.1, texture=0.08)


def _mushroom(s: Spot) -> None:
    s.paint(s.f.chain((0, 0, 0.1), (0, -0.35, 0.09)), WHITE, volume=0.1)
    s.paint([s.f.ellipse(0, -0.45, 0.32, 0.21)], (0.78, 0.25, 0.18), volume=0.2)
    for u, v in ((-0.15, -0.46), (0.06, -0.55), (0.18, -0.42)):
        s.paint([s.f.ellipse(u, v, 0.045, 0.04)], WHITE, outline=0)


def _flower(s: Spot) -> None:
    petals = ((0.95, 0.95, 0.92), (0.96, 0.80, 0.25), (0.85, 0.42, 0.55), (0.62, 0.50, 0.82))[s.rng.integers(4)]
    for _ in range(s.rng.integers(4, 10)):
        f = s.f.child(0.9 * s.rng.normal(), 0.25 * s.rng.normal(), 0.08)
        s.paint(f.chain((0, 0, 0.15), (0.1, -2.2, 0.15)), (0.30, 0.48, 0.18), outline=0)
        ring = [f.ellipse(0.6 * math.cos(t), 0.5 * math.sin(t) - 2.4, 0.5, 0.45) for t in (0.0, 1.6, 3.1, 4.7)]
        s.paint(ring, petals, outline=0)
        s.paint([f.ellipse(0, -2.4, 0.35, 0.3)], (0.95, 0.75, 0.2), outline=0)


def _fern(s: Spot) -> None:
    for lean in s.rng.uniform(-0.6, 0.6, 7).tolist():
        s.paint(s.f.chain((0, 0, 0.03), (0.6 * lean, -0.4, 0.06), (1.3 * lean, -0.55, 0.01)), s.leaf, volume=0.05)


def _grass(s: Spot) -> None:
    for u in s.rng.uniform(-1, 1, s.rng.integers(14, 24)).tolist():
        lean, tall = s.rng.normal(0, 0.12), s.rng.uniform(0.25, 0.6)
        blade = s.f.chain((u, 0.05, 0.035), (u + 0.4 * lean, -0.6 * tall, 0.028), (u + lean, -tall, 0.006))
        s.paint(blade, s.leaf * s.rng.uniform(0.85, 1.3), outline=0)


def _fence(s: Spot) -> None:
    wood = np.array([0.60, 0.47, 0.34]) * s.rng.uniform(0.75, 1.25)
    for v in (-0.75, -0.35):
        s.paint([s.f.capsule(-12, v, 0.045, 12, v, 0.045)], wood, volume=0.04)
    for u in range(-12, 13, 2):
        s.paint([s.f.capsule(u, 0, 0.07, u, -1, 0.06)], wood * 0.9, volume=0.06)


def _trunk(s: Spot) -> None:
    """A tree's trunk that goes up out of the picture."""
    bark = _spread(s.bark) * (1 + 0.2 * noise(s.rng, s.canvas.shape, (14, 2.5), 2))
    s.paint(
        [Capsule(s.f.x, s.f.y, 0.13 * s.f.scale, s.f.x + s.rng.normal(0, 6), -30, 0.1 * s.f.scale)], bark, volume=0.12
    )


PROPS: dict[str, Callable[[Spot], None]] = {
    "bush": _bush,
    "cactus": _cactus,
    "fence": _fence,
    "fern": _fern,
    "flower": _flower,
    "grass": _grass,
    "mushroom": _mushroom,
    "pine": _pine,
    "rock": _rock,
    "stump": _stump,
    "tree": _tree,
    "trunk": _trunk,
}
SIZES = {"flower": 0.8, "mushroom": 0.5, "pine": 2.6, "stump": 0.8, "tree": 2.6}  # relative to a bush
SHADOWS = {"bush": 0.55, "cactus": 0.3, "mushroom": 0.3, "pine": 0.25, "rock": 0.55, "stump": 0.4, "tree": 0.25}


def _prop(canvas: Canvas, rng: np.random.Generator, scene: Scene, name: str, x: float, y: float, size: float) -> None:
    """Paints one thing that stands at (x, y) and is about `size` pixels high."""
    frame = Frame(x, y, size, rng.normal(0, 0.015 if name == "fence" else 0.05), bool(rng.random() < 0.5))
    leaf = np.asarray(scene.leaf) * rng.uniform(0.85, 1.15) * (1 + rng.normal(0, 0.05, 3))
    bark = np.array([0.40, 0.29, 0.20]) * rng.uniform(0.8, 1.2)
    if name in SHADOWS:
        _shadow(canvas, x, y, SHADOWS[name] * size)
    PROPS[name](Spot(canvas, rng, frame, leaf, bark))


def _shadow(canvas: Canvas, x: float, y: float, reach: float) -> None:
    blot = Ellipse(x + 0.15 * reach, y, reach, 0.22 * reach)
    canvas.paint([blot], (0.08, 0.09, 0.12), opacity=0.38, soft=0.3 * reach + 2)


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
    face: Callable[[Animal, Frame, float], None]  # where, and how far it looks to the side


@dataclass
class Animal:
    """One animal while it is drawn: where to paint, in which class and colours."""

    canvas: Canvas
    rng: np.random.Generator
    class_id: int
    coat: Coat
    fur: np.ndarray  # (3, H, W), the coat at every pixel of the canvas
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
            self.fur if colour is None else colour,
            self.class_id,
            shade=shade,
            volume=volume * self.unit,
            blend=blend * self.unit,
            outline=max(1.1, 0.022 * self.unit),
            rough=self.rough,
        )

    def mark(self, shapes: Sequence[Shape], colour: Rgb, *, soft: float = 1.0, volume: float = 0.0) -> None:
        """Paints a mark on a part; it may stick out."""
        self.canvas.paint(shapes, colour, self.class_id, soft=max(1.0, soft), volume=volume * self.unit)

    def eyes(self, f: Frame, u: float, v: float, size: float, turn: float) -> None:
        r = size * f.scale
        for side in SIDES:
            self.mark([f.ellipse(side * u + turn, v, size, 1.15 * size)], INK)
            x, y = f.point(side * u + turn, v)
            self.mark([Ellipse(x - 0.3 * r, y - 0.4 * r, 0.36 * r, 0.36 * r)], WHITE)  # the light's reflection

    def nose(self, f: Frame, u: float, v: float, a: float, b: float, colour: Rgb = INK) -> None:
        self.mark([f.ellipse(u, v, a, b)], colour)
        mouth = max(0.02, 0.5 / f.scale)
        self.mark(f.chain((u, v + b, mouth), (u, v + b + 0.1, mouth), (u - 0.14, v + b + 0.18, mouth)), INK)
        self.mark(f.chain((u, v + b + 0.1, mouth), (u + 0.14, v + b + 0.18, mouth)), INK)


def _bear(a: Animal, f: Frame, turn: float) -> None:
    for s in SIDES:
        a.paint([f.ellipse(s * 0.68, -0.66, 0.33, 0.33)], volume=0.08)
        a.mark([f.ellipse(s * 0.68, -0.62, 0.17, 0.17)], np.asarray(a.coat.second) * 0.85, soft=2)
    a.paint([f.ellipse(0, 0, 0.98, 0.88), f.ellipse(0, 0.25, 0.9, 0.62)], volume=0.22)
    a.mark([f.ellipse(turn, 0.36, 0.46, 0.36)], mix(a.coat.second, (0.85, 0.72, 0.55), 0.5), soft=1.5, volume=0.06)
    a.nose(f, 1.2 * turn, 0.2, 0.2, 0.13)
    a.eyes(f, 0.38, -0.12, 0.1, turn)


def _cow(a: Animal, f: Frame, turn: float) -> None:
    nostril = (0.52, 0.28, 0.28)
    for s in SIDES:
        a.paint(f.chain((s * 0.4, -0.62, 0.17), (s * 0.85, -0.85, 0.13), (s * 0.92, -1.25, 0.03)), HORN, volume=0.05)
        a.paint(f.chain((s * 0.7, -0.3, 0.2), (s * 1.1, -0.22, 0.22), (s * 1.35, -0.1, 0.08)), volume=0.06, shade=0.92)
    a.paint([f.ellipse(0, -0.15, 0.8, 0.78), f.ellipse(0, 0.35, 0.62, 0.6)], volume=0.2)
    a.mark(f.chain((0.5 * turn, -0.7, 0.12), (turn, 0.2, 0.22)), WHITE, soft=2)
    a.paint([f.ellipse(turn, 0.62, 0.72, 0.42)], PINK, volume=0.1)
    for s in SIDES:
        a.mark([f.ellipse(turn + s * 0.3, 0.55, 0.1, 0.13)], nostril)
    a.mark(f.chain((turn - 0.3, 0.82, 0.03), (turn, 0.87, 0.03), (turn + 0.3, 0.82, 0.03)), nostril)
    a.eyes(f, 0.46, -0.12, 0.11, 0.5 * turn)


def _deer(a: Animal, f: Frame, turn: float) -> None:
    for s in SIDES:
        beam = f.chain((s * 0.22, -0.6, 0.1), (s * 0.5, -1.1, 0.09), (s * 0.95, -1.45, 0.08), (s * 0.9, -1.95, 0.03))
        beam += f.chain((s * 0.5, -1.1, 0.08), (s * 0.32, -1.6, 0.03))
        beam += f.chain((s * 0.8, -1.35, 0.08), (s * 1.3, -1.6, 0.03))
        a.paint(beam, ANTLER, volume=0.03, blend=0.01)
        a.paint(f.chain((s * 0.5, -0.4, 0.16), (s * 0.95, -0.62, 0.22), (s * 1.3, -0.72, 0.04)), volume=0.06)
        a.mark(f.chain((s * 0.75, -0.5, 0.08), (s * 1.1, -0.65, 0.06)), a.coat.second, soft=1.5)
    a.paint([f.ellipse(0, -0.2, 0.68, 0.64), f.ellipse(0.5 * turn, 0.42, 0.4, 0.52)], volume=0.2)
    a.mark([f.ellipse(turn, 0.62, 0.3, 0.28)], a.coat.second, soft=2)
    a.nose(f, turn, 0.56, 0.19, 0.13)
    a.eyes(f, 0.42, -0.12, 0.12, 0.5 * turn)


def _fox(a: Animal, f: Frame, turn: float) -> None:
    for s in SIDES:
        a.paint([f.capsule(s * 0.52, -0.42, 0.36, s * 0.78, -1.3, 0.03)], volume=0.08)
        a.mark([f.capsule(s * 0.56, -0.5, 0.2, s * 0.74, -1.1, 0.02)], INK, soft=1.5)
    cheeks = [f.capsule(s * 0.4, 0.1, 0.42, s * 1.08, 0.36, 0.05) for s in SIDES]
    a.paint([f.ellipse(0, -0.1, 0.78, 0.68), f.capsule(0, 0.2, 0.5, turn, 0.88, 0.14), *cheeks], volume=0.2, blend=0.05)
    for s in SIDES:
        a.mark([f.capsule(s * 0.46 + 0.5 * turn, 0.3, 0.27, s * 0.98, 0.36, 0.05)], WHITE, soft=2)
    a.mark([f.capsule(0.7 * turn, 0.5, 0.2, turn, 0.84, 0.1)], WHITE, soft=2)
    a.mark([f.ellipse(turn, 0.84, 0.15, 0.12)], INK)
    a.eyes(f, 0.37, -0.02, 0.11, 0.5 * turn)


def _rabbit(a: Animal, f: Frame, turn: float) -> None:
    flops = a.rng.random() < 0.3
    for s in SIDES:
        tip = (1.15, -1.15, 0.17) if flops and s > 0 else (s * 0.5, -1.9, 0.16)
        a.paint(f.chain((s * 0.3, -0.5, 0.2), (s * 0.42, -1.25, 0.26), tip), volume=0.07)
        inner = f.chain((s * 0.33, -0.7, 0.08), (s * 0.42, -1.25, 0.13), (0.97 * tip[0], 0.95 * tip[1], 0.07))
        a.mark(inner, PINK, soft=1.5)
    a.paint([f.ellipse(0, -0.05, 0.76, 0.72), f.ellipse(0, 0.28, 0.86, 0.52)], volume=0.2)
    for s in SIDES:
        a.mark([f.ellipse(turn + s * 0.2, 0.4, 0.27, 0.22)], WHITE, soft=1.5)
    a.mark([f.ellipse(turn, 0.66, 0.1, 0.14)], WHITE)
    a.nose(f, turn, 0.22, 0.12, 0.08, (0.85, 0.45, 0.48))
    a.eyes(f, 0.42, -0.08, 0.13, 0.5 * turn)


KINDS = (  # in the order of CLASSES
    Kind(
        coats={"chocolate": 0.35, "brown": 0.3, "charcoal": 0.2, "cream": 0.15},
        scenes={"forest": 0.45, "snow": 0.3, "autumn": 0.15, "meadow": 0.1},
        tails=("short", "short", "puff"),
        legs=0.26,
        face=_bear,
    ),
    Kind(
        coats={"pied black": 0.4, "pied brown": 0.2, "chocolate": 0.2, "cream": 0.2},
        scenes={"meadow": 0.55, "desert": 0.15, "shore": 0.15, "autumn": 0.15},
        tails=("thin", "thin", "short"),
        legs=0.32,
        face=_cow,
    ),
    Kind(
        coats={"fawn": 0.4, "brown": 0.25, "russet": 0.2, "grey": 0.15},
        scenes={"autumn": 0.4, "forest": 0.3, "snow": 0.15, "meadow": 0.15},
        tails=("short", "puff", "thin"),
        legs=0.38,
        face=_deer,
    ),
    Kind(
        coats={"russet": 0.4, "grey": 0.2, "charcoal": 0.2, "cream": 0.2},
        scenes={"snow": 0.4, "desert": 0.25, "forest": 0.2, "autumn": 0.15},
        tails=("bushy", "bushy", "thin"),
        legs=0.30,
        face=_fox,
    ),
    Kind(
        coats={"grey": 0.3, "pied brown": 0.2, "cream": 0.2, "pied black": 0.15, "fawn": 0.15},
        scenes={"shore": 0.35, "meadow": 0.3, "desert": 0.25, "snow": 0.1},
        tails=("puff", "puff", "short"),
        legs=0.24,
        face=_rabbit,
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
    pose = _draw(rng, POSES)
    length = rng.uniform(0.62, 0.86)
    legs = float(np.clip(rng.normal(KINDS[kind].legs, 0.05), 0.18, 0.46))
    girth = rng.uniform(0.24, 0.31)
    back = -(legs + girth)  # of the torso's axis
    dx, dy = rng.normal(0, 0.03), rng.normal(0, 0.03)
    head = {
        "stand": (length / 2 + 0.22, back - 0.34),
        "walk": (length / 2 + 0.25, back - 0.28),
        "graze": (length / 2 + 0.36, -0.34),
        "sit": (0.24, -0.62 - girth - 0.12),
        "lie": (length / 2 + 0.15, -girth - 0.34),
        "turn": (length / 2 - 0.16, back - 0.34),
    }[pose]
    frame = Frame(x, y, scale, rng.normal(0, 0.05), bool(rng.random() < 0.5))
    return Placed(kind, pose, frame, length, legs, girth, (head[0] + dx, head[1] + dy), rng.uniform(0.24, 0.30))


def _coat(canvas: Canvas, rng: np.random.Generator, coat: Coat, p: Placed) -> tuple[Coat, np.ndarray, np.ndarray]:
    """This animal's coat: with its own tint; its colour at every pixel, (3, H, W); its hairs, (H, W)."""
    tint = rng.uniform(0.9, 1.1) * (1 + rng.normal(0, 0.03, 3))
    main, second = (np.clip(np.asarray(colour) * tint, 0, 1) for colour in (coat.main, coat.second))
    coat = Coat(main, second, coat.pattern)
    unit = p.frame.scale
    hairs = noise(rng, canvas.shape, (max(1.6, 0.02 * unit), max(2.6, 0.05 * unit)))
    if coat.pattern == "patches":
        spread = smoothstep(0.12, 0.2, noise(rng, canvas.shape, (0.34 * unit, 0.38 * unit), 2))
    elif coat.pattern == "spots":
        spread = smoothstep(0.55, 0.75, noise(rng, canvas.shape, (0.085 * unit, 0.10 * unit)))
    else:
        middle = -(p.legs if p.pose not in ("lie", "sit") else 0.0) - 0.6 * p.girth
        spread = 0.8 * smoothstep(-0.02, 0.12, (canvas.y - p.frame.y) / unit - middle) * np.ones_like(hairs)
    fur = mix(coat.main, coat.second, spread) * (1 + 0.09 * hairs)
    return coat, fur, hairs * 0.35


def _draw_animal(canvas: Canvas, rng: np.random.Generator, p: Placed) -> None:
    kind, f = KINDS[p.kind], p.frame
    coat, fur, rough = _coat(canvas, rng, COATS[_draw(rng, kind.coats)], p)
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
    tilt = rng.normal(0, 0.14) + (0.25 if p.pose == "graze" else 0.0)
    kind.face(a, f.child(*p.head, p.head_size, tilt), rng.uniform(0.02, 0.16))


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

FORMATS = ((192, 256), (208, 272), (216, 288), (240, 288), (224, 256), (256, 192), (288, 216), (288, 240))
ANIMAL_AREA = 1.0  # of an average animal, in squared units


def _picture(rng: np.random.Generator, kind: int) -> tuple[Canvas, set[int]]:
    """One picture that shows `kind`, and perhaps another one; the class ids that it should show."""
    height, width = FORMATS[rng.integers(len(FORMATS))]
    canvas = Canvas(height, width, rng)
    kinds = [kind] * int(rng.choice([1, 2, 3], p=[0.5, 0.34, 0.16]))
    if len(kinds) > 1 and rng.random() < 0.46:
        kinds[-1] = int((kind + rng.integers(1, len(KINDS))) % len(KINDS))
    usual = KINDS[int(rng.choice(kinds))].scenes
    scene = SCENES[_draw(rng, usual) if rng.random() < 0.8 else str(rng.choice(list(SCENES)))]
    horizon, land = _landscape(canvas, rng, scene)

    things: list[tuple[float, Callable[[], None]]] = []  # (row on which it stands, paint it)
    animals = _arrange(rng, kinds, height, width, land)
    for animal in animals:
        things.append((animal.frame.y, functools.partial(_draw_animal, canvas, rng, animal)))
    for name, x, y, size in [
        *_surroundings(rng, scene, animals, height, width, horizon, land),
        *_obstacles(rng, scene, animals),
    ]:
        things.append((y, functools.partial(_prop, canvas, rng, scene, name, x, y, size)))
    for _, paint in sorted(things, key=lambda thing: thing[0]):  # from far to near
        paint()
    return canvas, {animal.kind + 1 for animal in animals}


Thing: TypeAlias = "tuple[str, float, float, float]"  # what, x and y of its foot, size in pixels


def _surroundings(
    rng: np.random.Generator,
    scene: Scene,
    animals: Sequence[Placed],
    height: int,
    width: int,
    horizon: float,
    land: float,
) -> list[Thing]:
    """Things around the animals, none in front of a head."""
    things: list[Thing] = []
    plants = [name for name in scene.props if name in ("tree", "pine", "cactus")]
    if plants and land == horizon > 0 and rng.random() < 0.6:  # far away
        for _ in range(rng.integers(3, 9)):
            y = horizon + rng.uniform(0, 0.03) * height
            things.append((str(rng.choice(plants)), rng.uniform(0, width), y, rng.uniform(0.08, 0.16) * height))
    for _ in range(rng.integers(3, 9)):
        name = str(rng.choice(scene.props))
        x, y = rng.uniform(0, width), rng.uniform(max(land, 0) + 0.03 * height, 1.02 * height)
        near = 0.35 + 0.65 * (y - horizon) / (height - horizon)
        size = near * height * rng.uniform(0.14, 0.26) * SIZES.get(name, 1.0)
        heads = [animal.head_circle() for animal in animals if animal.frame.y < y]
        if all(abs(x - hx) > 0.6 * size + r or y - size > hy + r for hx, hy, r in heads):
            things.append((name, x, y, size))
    return things


def _obstacles(rng: np.random.Generator, scene: Scene, animals: Sequence[Placed]) -> list[Thing]:
    """Things that hide a part of an animal's body: grass, a tree's trunk, a fence."""
    things: list[Thing] = []
    heads = [animal.head_circle() for animal in animals]
    for animal in animals:
        f = animal.frame
        if rng.random() < 0.2 + 0.6 * scene.blades:
            for _ in range(rng.integers(1, 4)):
                x, y = f.x + rng.normal(0, 0.5) * f.scale, f.y + rng.uniform(0.01, 0.1) * f.scale
                things.append(("grass", x, y, f.scale * rng.uniform(0.3, 0.55)))
        if rng.random() < 0.15:
            x = f.point(-rng.uniform(0.0, 0.3), 0)[0]
            if all(abs(x - hx) > r + 0.12 * f.scale for hx, _, r in heads):
                things.append(("trunk", x, f.y + 0.12 * f.scale, f.scale * rng.uniform(0.7, 1.0)))
    front = max(animals, key=lambda animal: animal.frame.y)
    y, size = front.frame.y + 0.08 * front.frame.scale, 0.5 * front.frame.scale
    if rng.random() < 0.15 and all(hy + 0.8 * r < y - size for _, hy, r in heads):
        things.append(("fence", front.frame.x + rng.uniform(-1, 1) * size, y, size))
    return things


def _arrange(rng: np.random.Generator, kinds: Sequence[int], height: int, width: int, land: float) -> list[Placed]:
    """Places animals on the ground so that every head is in the picture and none hides another one's head."""
    area = rng.uniform(0.19, 0.40) * height * width / (len(kinds) * ANIMAL_AREA)
    for attempt in itertools.count():
        scale = math.sqrt(area) * 0.985**attempt  # smaller each time, until they fit
        animals = []
        for kind in kinds:
            size = scale * (rng.uniform(0.75, 1.25) if len(kinds) > 1 else 1.0)
            low = max(land + 0.12 * size, 0.85 * size)
            y = rng.uniform(min(low, 0.95 * height), max(1.02 * height, low))
            animals.append(_place(rng, kind, rng.uniform(0.1, 0.9) * width, y, size))
        animals.sort(key=lambda animal: animal.frame.y)
        if _heads_visible(animals, height, width):
            return animals
    raise AssertionError("unreachable")


def _heads_visible(animals: Sequence[Placed], height: int, width: int) -> bool:
    """Whether no head is cut off or hidden; `animals` from far to near."""
    for i, animal in enumerate(animals):
        x, y, r = animal.head_circle()
        if not (0.7 * r < x < width - 0.7 * r and 0.9 * r < y < height - 0.6 * r):
            return False
        for other in animals[i + 1 :]:
            f, (hx, hy, hr) = other.frame, other.head_circle()
            if math.hypot(x - hx, y - hy) < r + hr:
                return False
            if abs(x - f.x) < 0.75 * f.scale + 0.6 * r and f.y - 0.9 * f.scale < y + 0.6 * r and y < f.y:
                return False
    return True


def _draw(rng: np.random.Generator, odds: dict[str, float]) -> str:
    return str(rng.choice(list(odds), p=list(odds.values())))
