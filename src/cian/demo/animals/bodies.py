"""Animals from the neck down, which all kinds share: poses, legs, tails and fur."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cian.demo.animals.drawing import WHITE, Canvas, Frame, Shape, mix, noise, pick, smoothstep
from cian.demo.animals.kinds import COATS, KINDS, Animal, Coat

POSES = {"stand": 0.3, "walk": 0.2, "graze": 0.12, "sit": 0.16, "lie": 0.12, "turn": 0.10}


@dataclass(frozen=True)
class Placed:
    """The place of an animal in an image."""

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


def place(rng: np.random.Generator, kind: int, x: float, y: float, scale: float) -> Placed:
    """An animal of a kind, in some pose, that stands at (x, y)."""
    pose = pick(rng, POSES)
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


def draw_animal(canvas: Canvas, rng: np.random.Generator, p: Placed) -> None:
    kind, f = KINDS[p.kind], p.frame
    coat, fur, rough = _coat(canvas, rng, COATS[pick(rng, kind.coats)], p)
    a = Animal(canvas, rng, p.kind + 1, coat, fur, rough, f.scale)
    half, back = p.length / 2, -(p.legs + p.girth)
    canvas.shadow(f.x, f.y, 0.75 * f.scale)

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
