"""One image: a landscape, animals in it, and things around them and in front of them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from cian.demo.animals.bodies import Placed, draw_animal, place
from cian.demo.animals.drawing import Canvas, pick
from cian.demo.animals.kinds import KINDS
from cian.demo.animals.landscape import SCENES, Scene, draw_landscape
from cian.demo.animals.props import SIZES, draw_prop

FORMATS = ((192, 256), (208, 272), (216, 288), (240, 288), (224, 256), (256, 192), (288, 216), (288, 240))


def compose(rng: np.random.Generator, kind: int) -> tuple[Canvas, set[int]]:
    """An image that shows `kind` and perhaps another kind, and the class ids that it should show."""
    height, width = FORMATS[rng.integers(len(FORMATS))]
    canvas = Canvas(height, width, rng)
    kinds = [kind] * int(rng.choice([1, 2, 3], p=[0.5, 0.34, 0.16]))
    if len(kinds) > 1 and rng.random() < 0.46:
        kinds[-1] = int((kind + rng.integers(1, len(KINDS))) % len(KINDS))
    usual = KINDS[int(rng.choice(kinds))].scenes
    scene = SCENES[pick(rng, usual) if rng.random() < 0.8 else str(rng.choice(list(SCENES)))]
    horizon, land = draw_landscape(canvas, rng, scene)

    things: list[tuple[float, Callable[[], None]]] = []  # (row on which it stands, paint it)
    animals = _arrange(rng, kinds, height, width, land)
    for animal in animals:
        things.append((animal.frame.y, functools.partial(draw_animal, canvas, rng, animal)))
    for name, x, y, size in [
        *_surroundings(rng, scene, animals, height, width, horizon, land),
        *_obstacles(rng, scene, animals),
    ]:
        things.append((y, functools.partial(draw_prop, canvas, rng, scene, name, x, y, size)))
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
    """Places animals on the ground so that every head is in the image and none hides the head of another."""
    area = rng.uniform(0.19, 0.40) * height * width / len(kinds)
    for attempt in itertools.count():
        scale = math.sqrt(area) * 0.985**attempt  # smaller each time, until they fit
        animals = []
        for kind in kinds:
            size = scale * (rng.uniform(0.75, 1.25) if len(kinds) > 1 else 1.0)
            low = max(land + 0.12 * size, 0.85 * size)
            y = rng.uniform(min(low, 0.95 * height), max(1.02 * height, low))
            animals.append(place(rng, kind, rng.uniform(0.1, 0.9) * width, y, size))
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
