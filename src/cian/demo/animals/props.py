"""Things in a landscape: plants, rocks, fences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cian.demo.animals.drawing import WHITE, Canvas, Capsule, Frame, Rgb, Shape, channels, noise
from cian.demo.animals.landscape import Scene


@dataclass
class Spot:
    """A thing while it is painted: its place (`f`: origin on the ground, one unit is about its height) and its
    colours. Its pixels become background."""

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
    """The trunk of a tree that is higher than the image."""
    bark = channels(s.bark) * (1 + 0.2 * noise(s.rng, s.canvas.shape, (14, 2.5), 2))
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


def draw_prop(
    canvas: Canvas, rng: np.random.Generator, scene: Scene, name: str, x: float, y: float, size: float
) -> None:
    """Paints one thing that stands at (x, y) and is about `size` pixels high."""
    frame = Frame(x, y, size, rng.normal(0, 0.015 if name == "fence" else 0.05), bool(rng.random() < 0.5))
    leaf = np.asarray(scene.leaf) * rng.uniform(0.85, 1.15) * (1 + rng.normal(0, 0.05, 3))
    bark = np.array([0.40, 0.29, 0.20]) * rng.uniform(0.8, 1.2)
    if name in SHADOWS:
        canvas.shadow(x, y, SHADOWS[name] * size)
    PROPS[name](Spot(canvas, rng, frame, leaf, bark))
