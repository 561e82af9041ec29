"""The five kinds: their heads, and the coats, landscapes and tails that they mostly have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cian.demo.animals.drawing import INK, WHITE, Canvas, Ellipse, Frame, Rgb, Shape, mix

CLASSES = ("bear", "cow", "deer", "fox", "rabbit")  # class id = position + 1
PINK = (0.93, 0.66, 0.64)
HORN = (0.93, 0.87, 0.72)
ANTLER = (0.56, 0.42, 0.28)
SIDES = (-1.0, 1.0)


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
        coats={"chocolate": 0.4, "charcoal": 0.3, "brown": 0.25, "cream": 0.05},
        scenes={"forest": 0.45, "snow": 0.3, "autumn": 0.15, "meadow": 0.1},
        tails=("short", "short", "puff"),
        legs=0.26,
        face=_bear,
    ),
    Kind(
        coats={"pied black": 0.45, "pied brown": 0.3, "chocolate": 0.15, "cream": 0.1},
        scenes={"meadow": 0.55, "desert": 0.15, "shore": 0.15, "autumn": 0.15},
        tails=("thin", "thin", "short"),
        legs=0.32,
        face=_cow,
    ),
    Kind(
        coats={"fawn": 0.55, "brown": 0.3, "grey": 0.15},
        scenes={"autumn": 0.4, "forest": 0.3, "snow": 0.15, "meadow": 0.15},
        tails=("short", "puff", "thin"),
        legs=0.38,
        face=_deer,
    ),
    Kind(
        coats={"russet": 0.65, "grey": 0.15, "charcoal": 0.1, "cream": 0.1},
        scenes={"snow": 0.4, "desert": 0.25, "forest": 0.2, "autumn": 0.15},
        tails=("bushy", "bushy", "thin"),
        legs=0.30,
        face=_fox,
    ),
    Kind(
        coats={"grey": 0.45, "cream": 0.3, "fawn": 0.15, "pied brown": 0.1},
        scenes={"shore": 0.35, "meadow": 0.3, "desert": 0.25, "snow": 0.1},
        tails=("puff", "puff", "short"),
        legs=0.24,
        face=_rabbit,
    ),
)
