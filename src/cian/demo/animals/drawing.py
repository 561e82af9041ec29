"""Shapes, and the canvas they are painted on, with the class id of every pixel.

Everything is drawn with signed distances (Quílez, *2D distance functions*): a shape is a union of ellipses and tapered
capsules, a pixel's coverage is its distance to the outline clipped to ± half a pixel, which gives smooth edges without
supersampling, and the mask is where coverage exceeds one half.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image

Rgb: TypeAlias = "tuple[float, float, float] | np.ndarray"
WHITE = (0.97, 0.95, 0.92)
INK = (0.13, 0.10, 0.10)
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
        first, second = channels(first), channels(second)
    return first + (second - first) * weight


def channels(colour: np.ndarray) -> np.ndarray:
    """A colour (3,) as (3, 1, 1); one of every pixel, (3, H, W), as it is."""
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
        fill = channels(np.asarray(colour, np.float32))
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

    def shadow(self, x: float, y: float, reach: float) -> None:
        """Paints the shadow of what stands at (x, y)."""
        blot = Ellipse(x + 0.15 * reach, y, reach, 0.22 * reach)
        self.paint([blot], (0.08, 0.09, 0.12), opacity=0.38, soft=0.3 * reach + 2)

    def finish(self, rng: np.random.Generator) -> np.ndarray:
        """The image as (H, W, 3) uint8, in this day's light."""
        height, width = self.shape
        warmth = rng.normal(0, 0.025)
        light = rng.uniform(0.94, 1.06) * np.array([1 + warmth, 1.0, 1 - warmth])
        vignette = ((self.x / width - 0.5) ** 2 + (self.y / height - 0.5) ** 2) * rng.uniform(0.1, 0.3)
        speckle = rng.standard_normal(self.shape, np.float32) * 0.010
        rgb = self.rgb * channels(light.astype(np.float32)) * (1 - vignette) + speckle
        return np.ascontiguousarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))


def pick(rng: np.random.Generator, odds: dict[str, float]) -> str:
    """One of the names, each with its own probability."""
    return str(rng.choice(list(odds), p=list(odds.values())))
