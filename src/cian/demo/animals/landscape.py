"""Where the animals live: sky, hills and ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cian.demo.animals.drawing import Canvas, Capsule, Rgb, channels, mix, noise, smoothstep


@dataclass(frozen=True)
class Scene:
    """A kind of landscape: its colours, and the things in it."""

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


def draw_landscape(canvas: Canvas, rng: np.random.Generator, scene: Scene) -> tuple[float, float]:
    """Paints sky and ground. Returns the rows of the horizon (it may be above the image) and of where land begins."""
    height, width = canvas.shape
    horizon = rng.uniform(-0.35, -0.05) * height if rng.random() < 0.3 else rng.uniform(0.16, 0.42) * height
    shade = channels((rng.normal(1, 0.05) * (1 + rng.normal(0, 0.02, 3))).astype(np.float32))
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
        hills = channels(mix(scene.hills, scene.sky[1], fade)) * shade * (1 + 0.08 * canvas.grain)
        canvas.rgb += (hills - canvas.rgb) * np.clip(canvas.y - ridge, 0, 1)
    for _ in range(rng.integers(6, 14) if scene.trunks else 0):
        far, x = rng.uniform(0.3, 0.8), rng.uniform(0, width)
        radius = (1.15 - far) * 0.03 * height
        trunk = Capsule(x, -20, 0.9 * radius, x + rng.normal(0, 4), horizon + 3, radius)
        canvas.paint([trunk], mix((0.22, 0.17, 0.12), scene.sky[1], far * 0.7), volume=radius)
