"""The losses of each trained network, by step."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from cian.pipeline.context import Context
from cian.training.log import read_metrics

_LOSSES = {
    "total": ("total", "#22262b"),
    "self_seed": ("self · labels", "#1b6ca8"),
    "cross_seed": ("cross · labels", "#e07a1f"),
    "self_completion": ("self · completion", "#3f8f5b"),
    "cross_completion": ("cross · completion", "#b5446e"),
}


def loss_curves(context: Context) -> list[dict[str, Any]]:
    """One chart for each trained network: its losses by step."""
    charts = []
    for stage in context.stages:
        log = read_metrics(context.run.folder(stage.name) / "metrics.jsonl") if stage.trains else []
        if not log:
            continue
        every = dict.fromkeys(name for line in log for name in line)  # some losses start later than others
        names = [name for name in every if name not in ("step", "epoch", "lr", "images_per_second")]
        if len(names) == 2:  # the other one is the total
            names = ["total"]
        steps = np.array([line["step"] for line in log], float)
        lines = {name: np.array([line.get(name, np.nan) for line in log], float) for name in names}
        highest = max((float(np.nanmax(values)) for values in lines.values()), default=1.0) or 1.0
        ticks = np.asarray(MaxNLocator(4).tick_values(0, highest)).tolist()
        top, end = ticks[-1], float(steps[-1])
        charts.append(
            {
                "title": stage.title.capitalize(),
                "lines": [
                    {
                        "name": _LOSSES.get(name, (name, ""))[0],
                        "colour": _LOSSES.get(name, ("", "#666666"))[1],
                        "points": _polyline(steps / end, values / top),
                        "last": float(values[-1]),
                    }
                    for name, values in lines.items()
                ],
                "y": [(f"{tick:g}", 100 * (1 - tick / top)) for tick in ticks if tick >= 0],
                "x": [
                    (f"{int(tick)}", 100 * tick / end)
                    for tick in MaxNLocator(4, integer=True).tick_values(0, end)
                    if 0 <= tick <= end
                ],
                "epochs": round(log[-1]["epoch"]),
                "lr": (log[0]["lr"], log[-1]["lr"]),
                "speed": float(np.median([line["images_per_second"] for line in log])),
            }
        )
    return charts


def _polyline(x: np.ndarray, y: np.ndarray, most: int = 300) -> str:
    """The points of an SVG polyline in a box of 1000 × 1000, averaged where there are more than `most`."""
    groups = np.array_split(np.arange(len(x)), min(len(x), most))
    points = [(x[group].mean(), y[group].mean()) for group in groups]
    if len(points) == 1:
        points = [(0.0, points[0][1]), *points]
    return " ".join(f"{1000 * px:.1f},{1000 * (1 - py):.1f}" for px, py in points if np.isfinite(py))
