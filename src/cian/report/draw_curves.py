"""Draws losses for the page: the lines of an SVG in a box of 1000 × 1000, and its axes in percent of the box."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from cian.report.curves import LossCurves

_LINES = {
    "total": ("total", "#22262b"),
    "self_seed": ("self branch · labels", "#1b6ca8"),
    "cross_seed": ("cross branch · labels", "#e07a1f"),
    "self_completion": ("self branch · completion", "#3f8f5b"),
    "cross_completion": ("cross branch · completion", "#b5446e"),
}


def draw_curves(curves: LossCurves) -> dict[str, Any]:
    """One chart."""
    highest = max((float(np.nanmax(values)) for values in curves.losses.values()), default=1.0) or 1.0
    ticks = np.asarray(MaxNLocator(4).tick_values(0, highest)).tolist()
    top, end = ticks[-1], float(curves.steps[-1])
    return {
        "title": curves.title.capitalize(),
        "lines": [
            {
                "name": _LINES.get(name, (name, ""))[0],
                "colour": _LINES.get(name, ("", "#666666"))[1],
                "points": _polyline(curves.steps / end, values / top),
                "last": float(values[-1]),
            }
            for name, values in curves.losses.items()
        ],
        "y": [(f"{tick:g}", 100 * (1 - tick / top)) for tick in ticks if tick >= 0],
        "x": [
            (f"{int(tick)}", 100 * tick / end)
            for tick in MaxNLocator(4, integer=True).tick_values(0, end)
            if 0 <= tick <= end
        ],
        "epochs": curves.epochs,
        "lr": curves.learning_rates,
        "speed": curves.images_per_second,
    }


def _polyline(x: np.ndarray, y: np.ndarray, most: int = 300) -> str:
    """The points of an SVG polyline in a box of 1000 × 1000, averaged where there are more than `most`."""
    groups = np.array_split(np.arange(len(x)), min(len(x), most))
    points = [(x[group].mean(), y[group].mean()) for group in groups]
    if len(points) == 1:
        points = [(0.0, points[0][1]), *points]
    return " ".join(f"{1000 * px:.1f},{1000 * (1 - py):.1f}" for px, py in points if np.isfinite(py))
